"""The HTTP side of the worker: who may ask, limits, odd clients, health and metrics while generating."""

import time

import pytest

from raw_http import RawClient, metric, request_bytes, status_of
from worker_process import TIME_SCALE

BUSY = {"prompt": "1 2 3 4 5 6 7 8 9", "max_tokens": 600, "temperature": 0}


def test_only_loopback_hosts_are_answered(smollm2_worker):
    for host in ("localhost", f"127.0.0.1:{smollm2_worker.port}", "[::1]:1"):
        assert smollm2_worker.get("/livez", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example"):
        reply = smollm2_worker.get("/livez", headers={"Host": host})
        assert reply.status_code == 403 and reply.json()["error"]["code"] == "UNAUTHORIZED"


def test_a_page_of_another_site_cannot_stop_the_worker(smollm2_worker):
    assert smollm2_worker.post("/shutdown", headers={"Origin": "https://evil.example"}).status_code == 403
    assert smollm2_worker.get("/readyz").status_code == 200


def test_an_api_key_is_asked_for_everywhere_but_at_the_probes(worker, smollm2, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("first-key\n\nsecond-key\n")
    served = worker(smollm2, "--api-key-file", keys)
    for path in ("/health", "/livez", "/readyz"):
        assert served.get(path).status_code == 200
    for path in ("/metrics", "/v1/residency", "/nothing"):
        assert served.get(path).status_code == 401
    body = {"job_id": "j", "prompt": "x", "max_tokens": 1}
    refused = served.post("/execute", body, headers={"Authorization": "Bearer third-key"})
    assert refused.status_code == 401 and refused.json()["error"]["code"] == "UNAUTHORIZED"
    for key in ("first-key", "second-key"):
        assert served.post("/execute", body, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert "first-key" not in served.stderr


def test_unknown_paths_and_methods_are_told_in_json(smollm2_worker):
    missing = smollm2_worker.get("/nothing")
    assert missing.status_code == 404 and missing.json()["error"]["code"] == "NOT_FOUND"
    wrong = smollm2_worker.get("/execute")
    assert wrong.status_code == 405 and wrong.json()["error"]["code"] == "METHOD_NOT_ALLOWED"
    assert wrong.headers["allow"] == "POST, OPTIONS"
    assert smollm2_worker.client.head(smollm2_worker.base_url + "/health").status_code == 200
    options = smollm2_worker.client.options(smollm2_worker.base_url + "/execute")
    assert options.status_code == 204 and "access-control-allow-origin" not in options.headers


def test_cors_headers_where_asked_for(worker, smollm2):
    served = worker(smollm2, "--cors-origin", "https://app.example")
    reply = served.client.options(served.base_url + "/execute", headers={"Origin": "https://app.example", "Access-Control-Request-Method": "POST"})
    assert reply.status_code == 204 and reply.headers["access-control-allow-origin"] == "https://app.example"
    assert "authorization" in reply.headers["access-control-allow-headers"]
    # OpenAI's client in a page sends headers of its own, and asks for them by name.
    asked = "authorization,content-type,x-stainless-lang,x-stainless-retry-count"
    headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked}
    assert served.client.options(served.base_url + "/v1/chat/completions", headers=headers).headers["access-control-allow-headers"] == asked
    # A page must see that its body was too large.
    headers = {"Origin": "https://app.example", "x-request-id": "large"}
    reply = served.client.post(served.base_url + "/execute", content=b"x" * (5 << 20), headers=headers)
    assert (reply.status_code, reply.headers["x-request-id"]) == (413, "large")
    assert reply.headers["access-control-allow-origin"] == "https://app.example"


def test_the_request_id_is_echoed(smollm2_worker):
    assert smollm2_worker.get("/livez", headers={"x-request-id": "id-17"}).headers["x-request-id"] == "id-17"
    assert len(smollm2_worker.get("/livez").headers["x-request-id"]) == 32


def test_a_request_written_byte_by_byte_is_served(smollm2_worker):
    request = request_bytes("POST", "/execute", {"job_id": "drip", "prompt": "x", "max_tokens": 1}, Connection="close")
    with RawClient(smollm2_worker.port) as client:
        for i in range(len(request)):
            client.send(request[i : i + 1])
        reply = client.read_to_end()
    assert status_of(reply) == 200 and b"event: end" in reply and reply.endswith(b"0\r\n\r\n")


def test_oversized_bodies_and_headers_are_refused(smollm2_worker):
    reply = smollm2_worker.client.post(smollm2_worker.base_url + "/execute", content=b"x" * (5 << 20))
    assert reply.status_code == 413 and reply.json()["error"]["code"] == "PAYLOAD_TOO_LARGE"
    with RawClient(smollm2_worker.port) as client:
        client.send(request_bytes("GET", "/health", X_Long="x" * 20_000))
        assert status_of(client.read_to_end()) == 431


@pytest.mark.parametrize("garbage", [b"hello\r\n\r\n", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
def test_what_is_not_http_gets_a_400_and_the_worker_goes_on(smollm2_worker, garbage):
    with RawClient(smollm2_worker.port) as client:
        client.send(garbage)
        assert status_of(client.read_to_end()) == 400
    assert smollm2_worker.get("/livez").status_code == 200


@pytest.mark.core
def test_health_has_every_field_and_tells_the_truth(smollm2_worker):
    health = smollm2_worker.get("/health").json()
    ready = smollm2_worker.wait_for_event("ready")
    expected = {"status": "healthy", "model": "smollm2-135m-instruct-q4_1", "resident": True, "quant_kind": "Q4_1",
                "tokenizer_kind": "gguf-bpe", "vocab_size": 49152, "context_length": 8192, "sm": None, "cuda_runtime_version": None,
                "worker_id": smollm2_worker.worker_id, "device": "cpu", "numerics_version": 1}
    assert {key: health[key] for key in expected} == expected
    assert health["tokenizer"] == {"kind": "gguf-bpe", "pre": "smollm", "conformance": {"passed": 10, "total": 10}}
    assert health["vram_bytes_used"] == ready["vram_bytes"] == ready["planned_bytes"] > 90_000_000
    assert health["uptime_seconds"] > 0


def test_residency_is_proved_by_digests(smollm2_worker):
    report = smollm2_worker.get("/v1/residency").json()
    assert report["resident"] is True and report["time_ms"] > 0
    (weights,) = [arena for arena in report["arenas"] if arena["arena"] == "weights"]
    assert weights["digest"] == weights["expected_digest"] and weights["pointer_type"] == "host" and weights["bytes"] > 90_000_000


@pytest.mark.core
def test_metrics_name_what_happened(smollm2_worker):
    before = smollm2_worker.get("/metrics").text
    smollm2_worker.execute(prompt="one", max_tokens=3, temperature=0)
    after = smollm2_worker.get("/metrics").text

    def grown(name: str, **labels: str) -> float:
        return metric(after, name, **labels) - metric(before, name, **labels)

    assert grown("worker_requests_total", outcome="ok") == grown("worker_orcd_requests_total", outcome="ok") == 1
    tokens = grown("worker_tokens_generated_total")
    assert 1 <= tokens <= 3 and grown("worker_orcd_inter_token_latency_seconds_count") == tokens - 1
    for name in ("worker_orcd_time_to_first_token_seconds", "worker_orcd_e2e_request_latency_seconds",
                 "worker_orcd_request_queue_time_seconds", "worker_inference_duration_ms"):
        assert grown(name + "_count") == 1
    categories = ("weights", "kv", "activations", "sampling", "staging", "graphs")
    assert sum(metric(after, "worker_orcd_vram_bytes", category=c) for c in categories) == metric(after, "worker_vram_bytes")
    assert metric(after, "worker_uptime_seconds") > 0
    assert 'worker_orcd_time_to_first_token_seconds_bucket{le="0.001"}' in after


def test_health_answers_under_10_ms_while_generating(smollm2_worker):
    with smollm2_worker.stream(**BUSY) as events:
        next(events), next(events)
        times = []
        for _ in range(40):
            begin = time.perf_counter()
            health = smollm2_worker.get("/health").json()
            times.append(time.perf_counter() - begin)
            assert health["running"] == 1, "the generation ended before the measurement"
    assert sorted(times)[len(times) // 2] < 0.010 * TIME_SCALE, times


def test_a_second_request_on_the_connection_waits_for_the_stream(smollm2_worker):
    with RawClient(smollm2_worker.port) as client:
        client.send(request_bytes("POST", "/execute", {"job_id": "first", "prompt": "x", "max_tokens": 2})
                    + request_bytes("GET", "/livez", Connection="close"))
        reply = client.read_to_end()
    assert reply.index(b"0\r\n\r\n") < reply.index(b'{"status":"ok"}')


def test_http_1_0_clients_get_the_stream_until_the_connection_closes(smollm2_worker):
    request = request_bytes("POST", "/execute", {"job_id": "old", "prompt": "x", "max_tokens": 2}).replace(b"HTTP/1.1", b"HTTP/1.0")
    with RawClient(smollm2_worker.port) as client:
        client.send(request)
        head, _, body = client.read_to_end().partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head and body.startswith(b"event: started") and b"event: end" in body
