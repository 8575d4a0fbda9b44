"""POST /execute and /cancel: streams, validation, cancelling, disconnecting, seeds; on the real model."""

import threading
import time
import uuid

import pytest

from raw_http import RawClient, metric, request_bytes, status_of
from worker_process import TIME_SCALE, Worker, check_stream, terminal_of, text_of

CHAT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
ENDLESS = {"prompt": "1 2 3 4 5 6 7 8 9", "max_tokens": 2048, "temperature": 0, "repetition_penalty": 1}


def settled(worker: Worker, limit: float = 10) -> dict:
    """The health report once nothing runs or waits."""
    deadline = time.monotonic() + limit * TIME_SCALE
    while True:
        health = worker.get("/health").json()
        if health["running"] == 0 and health["waiting"] == 0:
            return health
        assert time.monotonic() < deadline, health


def generated(worker: Worker) -> int:
    return int(metric(worker.get("/metrics").text, "worker_tokens_generated_total"))


def pages_used(worker: Worker) -> float:
    return metric(worker.get("/metrics").text, "worker_orcd_kv_pages_used")


@pytest.mark.core
def test_a_chat_prompt_is_answered_with_every_event_of_the_contract(smollm2_worker):
    events = smollm2_worker.execute(job_id="j-1", prompt=CHAT, max_tokens=16, temperature=0, seed=7)
    assert [e.name for e in events][0] == "started" and [e.name for e in events][-2:] == ["metrics", "end"]
    started, end = events[0].json, events[-1].json
    assert (started["job_id"], started["seed"], started["model"]) == ("j-1", 7, "smollm2-135m-instruct-q4_1")
    assert started["started_at"].endswith("Z")
    tokens = [e.json for e in events if e.name == "token"]
    assert "Paris" in text_of(events)
    assert [t["i"] for t in tokens] == list(range(end["tokens_out"]))
    assert end["stop_reason"] == "eos" and end["seed"] == 7 and end["decode_time_ms"] > 0
    assert len(end["receipt"]["logits_digest"]) == 32 and len(end["receipt"]["model_digest"]) == 32


def test_text_held_back_at_the_end_goes_out_with_the_last_token(smollm2_worker):
    """It had an event of its own, one more than there are tokens."""
    prompt = "The capital of France is"
    events = smollm2_worker.execute(prompt=prompt, max_tokens=1, temperature=0, stop=["isQQ"])
    assert [e.json for e in events if e.name == "token"] == [{"t": " Paris", "i": 0}]
    plain = text_of(smollm2_worker.execute(prompt=prompt, max_tokens=24, temperature=0))
    for n in range(2, 25):  # whatever the last token is, a stop string that may have begun with its end
        for stop in (plain[:n][-3:] + "QQ", plain[:n][-1:] + "QQ"):
            events = smollm2_worker.execute(prompt=prompt, max_tokens=n, temperature=0, stop=[stop])
            tokens = [e.json for e in events if e.name == "token"]
            assert [t["i"] for t in tokens] == list(range(terminal_of(events).json["tokens_out"])), (n, stop)
            assert plain.startswith(text_of(events))


def test_a_generated_seed_is_echoed_and_gives_the_same_text_again(smollm2_worker):
    first = smollm2_worker.execute(prompt="Once upon a time", max_tokens=12, temperature=1.5)
    seed = first[0].json["seed"]
    assert terminal_of(first).json["seed"] == seed
    again = smollm2_worker.execute(prompt="Once upon a time", max_tokens=12, temperature=1.5, seed=seed)
    assert text_of(again) == text_of(first)
    assert terminal_of(again).json["receipt"] == terminal_of(first).json["receipt"]
    other = smollm2_worker.execute(prompt="Once upon a time", max_tokens=12, temperature=1.5, seed=seed + 1)
    assert text_of(other) != text_of(first)


def test_a_worker_with_a_seed_gives_it_to_requests_that_name_none(serve_tiny):
    served = serve_tiny("--seed", 2**64 - 1)
    assert terminal_of(served.execute(prompt="a", max_tokens=2)).json["seed"] == 2**64 - 1
    assert terminal_of(served.execute(prompt="a", max_tokens=2, seed=5)).json["seed"] == 5
    body = {"model": "tiny", "prompt": "a", "max_tokens": 2}
    seeds = [served.post("/v1/completions", {**body, **more}).json()["choices"][0]["receipt"]["seed"] for more in ({}, {"seed": 5}, {"seed": -1})]
    assert seeds[:2] == [2**64 - 1, 5] and seeds[2] < 2**53


def test_the_largest_seed_survives(smollm2_worker):
    events = smollm2_worker.execute(prompt="a", max_tokens=1, seed=2**64 - 1)
    assert events[0].json["seed"] == events[-1].json["seed"] == 2**64 - 1


def test_max_tokens_ends_the_stream_after_exactly_so_many(smollm2_worker):
    events = smollm2_worker.execute(**{**ENDLESS, "max_tokens": 5})
    assert terminal_of(events).json["stop_reason"] == "max_tokens"
    assert terminal_of(events).json["tokens_out"] == 5 == sum(e.name == "token" for e in events)


def test_a_stop_string_ends_the_text_before_it(smollm2_worker):
    whole = text_of(smollm2_worker.execute(prompt=CHAT, max_tokens=16, temperature=0))
    events = smollm2_worker.execute(prompt=CHAT, max_tokens=16, temperature=0, stop=["zzz", "France is"])
    assert terminal_of(events).json["stop_reason"] == "stop"
    assert text_of(events) == whole[: whole.index("France is")]


def test_every_token_is_whole_utf8_also_for_emoji(smollm2_worker):
    events = smollm2_worker.execute(prompt="🎉🌍👩‍👩‍👧 🎉🌍👩‍👩‍👧 🎉🌍👩‍👩‍👧 🎉", max_tokens=24, temperature=0)
    text_of(events).encode("utf-8")  # the parser is strict already: no piece was cut inside a character


VALID = {"prompt": "x", "max_tokens": 1}
INVALID = [
    ({"prompt": ""}, "prompt"), ({"prompt": "x" * 32769}, "prompt"), ({"prompt": 5}, "prompt"), ({"prompt": None}, "prompt"),
    ({"job_id": ""}, "job_id"), ({"job_id": 1}, "job_id"), ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": 2049}, "max_tokens"),
    ({"max_tokens": 1.0}, "max_tokens"), ({"max_tokens": "1"}, "max_tokens"), ({"max_tokens": True}, "max_tokens"),
    ({"temperature": -0.01}, "temperature"), ({"temperature": 2.01}, "temperature"), ({"temperature": "0"}, "temperature"),
    ({"top_p": 1.01}, "top_p"), ({"top_p": -1}, "top_p"), ({"top_k": -1}, "top_k"), ({"top_k": 49153}, "top_k"),
    ({"min_p": 1.5}, "min_p"), ({"repetition_penalty": 2.5}, "repetition_penalty"), ({"stop": "x"}, "stop"),
    ({"stop": ["a"] * 5}, "stop"), ({"stop": [""]}, "stop[0]"), ({"stop": [1]}, "stop[0]"),
    ({"stop": [" one two three four" * 20]}, "stop[0]"), ({"seed": -1}, "seed"), ({"seed": 2**64}, "seed"), ({"seed": 0.5}, "seed"),
    ({"promt": "x"}, "promt"),
]


@pytest.mark.parametrize("change, param", INVALID, ids=[f"{i}-{p}" for i, (_, p) in enumerate(INVALID)])
def test_an_invalid_field_is_refused_before_any_stream(smollm2_worker, change, param):
    reply = smollm2_worker.post("/execute", {"job_id": "j", **VALID, **change})
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert (error["code"], error["param"], error["retriable"]) == ("INVALID_REQUEST", param, False)
    assert [p["param"] for p in error["problems"]] == [param] and error["message"]


def test_a_seed_of_more_than_64_bits_is_told_as_such(smollm2_worker):
    """It was told to have a fraction or an exponent (a bug)."""
    reply = smollm2_worker.post("/execute", {"job_id": "j", "prompt": "x", "seed": 2**64})
    assert reply.status_code == 400 and "more than 64 bits" in reply.json()["error"]["message"]


def test_all_problems_are_told_at_once(smollm2_worker):
    error = smollm2_worker.post("/execute", {"prompt": "", "top_p": 9, "seed": -1, "nope": 1}).json()["error"]
    assert [p["param"] for p in error["problems"]] == ["job_id", "prompt", "top_p", "seed", "nope"]
    assert error["param"] == "job_id"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"job_id":"j","prompt":"\xff"}', b'{"job_id":"j","prompt":"\\ud800"}',
                                  b"[" * 100_000, b'{"job_id":"j","prompt":"p","temperature":NaN}'])
def test_a_body_that_is_not_a_json_object_is_refused(smollm2_worker, body):
    reply = smollm2_worker.client.post(smollm2_worker.base_url + "/execute", content=body)
    assert reply.status_code == 400 and reply.json()["error"]["code"] == "INVALID_REQUEST"


def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers(worker, smollm2):
    small = worker(smollm2, "--ctx", 64)
    reply = small.post("/execute", {"job_id": "j", "prompt": "word " * 200})
    error = reply.json()["error"]
    assert reply.status_code == 400 and error["code"] == "INVALID_REQUEST"
    assert error["n_prompt_tokens"] > error["n_ctx"] == 64


def test_a_job_id_in_use_is_refused_and_free_again_afterwards(smollm2_worker):
    with smollm2_worker.stream(job_id="twice", **ENDLESS) as events:
        next(events)
        reply = smollm2_worker.post("/execute", {"job_id": "twice", **VALID})
        assert reply.status_code == 400 and reply.json()["error"]["param"] == "job_id"
    settled(smollm2_worker)
    smollm2_worker.execute(job_id="twice", **VALID)


@pytest.mark.core
def test_cancel_ends_the_stream_with_one_error_within_100_ms(smollm2_worker):
    with smollm2_worker.stream(job_id="to-cancel", **ENDLESS) as events:
        seen = [next(events), next(events), next(events)]
        begin = time.monotonic()
        reply = smollm2_worker.post("/cancel", {"job_id": "to-cancel"})
        assert reply.status_code == 202
        seen += list(events)
        elapsed = time.monotonic() - begin
    check_stream(seen)
    error = terminal_of(seen)
    assert error.name == "error" and error.json["code"] == "CANCELLED" and error.json["retriable"] is False
    assert elapsed < 0.1 * TIME_SCALE
    for job_id in ("to-cancel", "never-seen"):
        assert smollm2_worker.post("/cancel", {"job_id": job_id}).status_code == 202
    assert smollm2_worker.post("/cancel", {}).status_code == 400


def test_a_request_over_the_time_limit_ends_in_inference_timeout(worker, smollm2):
    hasty = worker(smollm2, "--inference-timeout-sec", 1)
    events = hasty.execute(prompt="count: 1 2 3 4 5 6 7 8", temperature=2, top_k=0, repetition_penalty=1.3)
    if terminal_of(events).name == "end":  # a fast machine ends 2,048 tokens in less than a second
        return
    assert terminal_of(events).json["code"] == "INFERENCE_TIMEOUT" and terminal_of(events).json["retriable"] is True


@pytest.mark.core
def test_hanging_up_stops_the_generation_within_100_ms(smollm2_worker):
    times = []
    for attempt in ("leaver-1", "leaver-2", "leaver-3"):
        with RawClient(smollm2_worker.port) as client:
            client.send(request_bytes("POST", "/execute", {"job_id": attempt, **ENDLESS}))
            client.read_until(b'"i":2}')
        begin = time.monotonic()
        while smollm2_worker.get("/health").json()["running"]:
            assert time.monotonic() - begin < 10 * TIME_SCALE
        times.append(time.monotonic() - begin)
        tokens = generated(smollm2_worker)
        assert smollm2_worker.wait_for_event("execute_end", job_id=attempt)["outcome"] == "cancelled"
        assert generated(smollm2_worker) == tokens
    assert sorted(times)[1] < 0.1 * TIME_SCALE, times


def test_a_client_that_does_not_read_pauses_only_itself(smollm2_worker):
    with RawClient(smollm2_worker.port, receive_buffer=2048) as slow:
        slow.send(request_bytes("POST", "/execute", {"job_id": "slow", **ENDLESS}))
        for _ in range(3):
            assert smollm2_worker.execute(prompt="Hello", max_tokens=4)[-1].name == "end"
        smollm2_worker.post("/cancel", {"job_id": "slow"})
        text = slow.read_until(b"CANCELLED")
        assert text.count(b"event: started") == 1 and text.count(b"event: error") == 1


def test_requests_side_by_side_each_get_their_own_text(smollm2_worker):
    prompts = [CHAT, "The sun is", "def add(a, b):", "Once upon a time"]
    alone = [text_of(smollm2_worker.execute(prompt=p, max_tokens=12, temperature=0.8, seed=i)) for i, p in enumerate(prompts)]
    together: dict[int, str] = {}

    def ask(i: int) -> None:
        together[i] = text_of(smollm2_worker.execute(prompt=prompts[i % 4], max_tokens=12, temperature=0.8, seed=i % 4))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == {i: alone[i % 4] for i in range(8)}


def test_a_hundred_requests_with_one_in_ten_broken_off_leave_nothing_behind(worker, smollm2):
    served = worker(smollm2)
    request = {"prompt": "The three primary colours are", "max_tokens": 8, "temperature": 0.9, "seed": 42}
    expected = text_of(served.execute(**request))
    before = settled(served)
    memory, pages = before["vram_bytes_used"], pages_used(served)
    for i in range(100):
        job_id = f"job-{uuid.uuid4()}"
        if i % 10 == 3:
            with served.stream(job_id=job_id, **{**ENDLESS, "max_tokens": 500}) as events:
                seen = [next(events), next(events)]
                assert served.post("/cancel", {"job_id": job_id}).status_code == 202
                seen += list(events)
            check_stream(seen)
            assert terminal_of(seen).json["code"] == "CANCELLED"
        elif i % 10 == 7:
            with served.stream(job_id=job_id, **{**ENDLESS, "max_tokens": 500}) as events:
                next(events), next(events)
            assert served.wait_for_event("execute_end", job_id=job_id)["outcome"] == "cancelled"
        else:
            assert text_of(served.execute(job_id=job_id, **request)) == expected
    after = settled(served)
    assert after["vram_bytes_used"] == memory == served.wait_for_event("ready")["planned_bytes"]
    assert pages_used(served) <= pages
    metrics = served.get("/metrics").text
    assert metric(metrics, "worker_requests_total", outcome="cancelled") == 20
    assert metric(metrics, "worker_requests_total", outcome="ok") == 81
    assert metric(metrics, "worker_inference_duration_ms_count") == 81


def test_the_log_names_texts_by_length_and_hash_only(worker, smollm2):
    served = worker(smollm2, "--log-format", "json")
    events = served.execute(job_id="quiet", prompt="The secret word is xylophone", max_tokens=8, temperature=0)
    start = served.wait_for_event("execute_start", job_id="quiet")
    end = served.wait_for_event("execute_end", job_id="quiet")
    assert start["prompt_characters"] == 28 and len(start["prompt_sha256"]) == 64
    assert end["output_bytes"] == len(text_of(events).encode()) and len(end["output_sha256"]) == 64
    for event in (start, end):
        assert event["worker_id"] == served.worker_id and event["device"] == "cpu" and event["model_ref"]
    assert "xylophone" not in served.stderr and text_of(events).strip() not in served.stderr


def test_gemma_answers_too(gemma3_worker):
    events = gemma3_worker.execute(prompt="1, 2, 3, 4, 5,", max_tokens=6, temperature=0)
    assert text_of(events).startswith(" 6, 7,")
    health = gemma3_worker.get("/health").json()
    assert (health["tokenizer_kind"], health["quant_kind"], health["vocab_size"]) == ("gguf-spm", "Q4_K_M", 262144)


def test_refused_requests_leave_the_connection_usable(smollm2_worker):
    with RawClient(smollm2_worker.port) as client:
        client.send(request_bytes("POST", "/execute", {"job_id": "j", "prompt": ""}))
        assert status_of(client.read_until(b"]}}")) == 400
        client.send(request_bytes("GET", "/livez"))
        assert status_of(client.read_until(b"}")) == 200
