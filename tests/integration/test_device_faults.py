"""What a failing device does to the streams, to /health and to the exit code of the real worker."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from sse import iter_sse
from worker_process import TIME_SCALE, Worker, execute_body, terminal_of, text_of


@pytest.fixture
def faulty(binary, smollm2):
    """faulty("collect:9:lost", "--slots", 4): a ready worker whose CPU device fails as the name says."""
    started = []

    def start(fault, *options):
        process = Worker(binary, ["--model", str(smollm2), "--device", f"fault:{fault}:cpu", "--port", "0",
                                  "--log-format", "json", "--ctx", "512", *map(str, options)])
        started.append(process)
        return process.wait_ready()

    yield start
    for process in started:
        process.stop()


def terminal_or_refusal(process, **request):
    """The terminal events of one stream, or the code of the reply that refused it. Reads to the end of the connection."""
    with httpx.Client(timeout=60 * TIME_SCALE, trust_env=False) as client:
        try:
            response = client.send(client.build_request("POST", process.base_url + "/execute", json=execute_body(request)), stream=True)
        except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):  # it came when the process was about to end
            return ["gone"]
        if response.status_code != 200:
            return [response.read() and response.json()["error"]["code"]]
        events = list(iter_sse(response.iter_raw()))
    return [e.json["code"] if e.name == "error" else e.name for e in events if e.name in ("end", "error")]


@pytest.mark.core
@pytest.mark.parametrize("fault", ["collect:12:lost", "submit:7:lost", "begin:3:lost"])
def test_a_lost_device_ends_each_stream_once_and_the_process_within_5_seconds(faulty, fault):
    process = faulty(fault, "--slots", 4)
    process.expected_exit = 1
    healthy, codes = [], set()
    stop, watching = threading.Event(), threading.Event()

    def watch():
        """Every answer of /health until the port is closed: (time, status)."""
        with httpx.Client(timeout=10, trust_env=False) as client:
            while not stop.is_set():
                try:
                    status = client.get(process.base_url + "/health").status_code
                except httpx.TransportError:
                    return
                codes.add(status)
                if status == 200:
                    healthy.append(time.monotonic())
                watching.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert watching.wait(10 * TIME_SCALE)  # before anything can go wrong
    with ThreadPoolExecutor(6) as pool:
        ends = list(pool.map(lambda i: terminal_or_refusal(process, prompt=f"Tell {i}", max_tokens=64, temperature=0),
                             range(6)))
    ended = time.monotonic()
    code = process.wait_exit(5)
    stop.set()
    watcher.join()
    # A short answer may have ended before the device went.
    assert all(end in (["CUDA_ERROR"], ["gone"], ["SHUTTING_DOWN"], ["end"]) for end in ends), ends
    # How many streams were open when the device went is up to the scheduler; one had the failing step.
    assert ends.count(["CUDA_ERROR"]) >= 1
    assert code == 1
    assert healthy[-1] < ended + 1 * TIME_SCALE, "healthy was said after the last stream had ended"
    assert codes <= {200, 503}
    assert "a failure made on purpose" in process.log_events("error")[0]["message"]


@pytest.mark.parametrize("fault", ["begin:2:once", "submit:5:once", "collect:5:once"])
def test_a_failed_step_ends_its_requests_and_the_next_are_as_ever(faulty, smollm2_worker, fault):
    process = faulty(fault, "--slots", 2)
    request = {"prompt": "The sea is", "max_tokens": 12, "temperature": 0.8, "seed": 5}
    ends = [terminal_or_refusal(process, **request) for _ in range(2)]
    assert sorted(ends) == [["CUDA_ERROR"], ["end"]]
    after = [process.execute(**request) for _ in range(2)]
    assert process.get("/health").status_code == 200
    well = smollm2_worker.execute(**request)
    for events in after:
        assert text_of(events) == text_of(well)
        assert terminal_of(events).json["receipt"] == terminal_of(well).json["receipt"]
    assert process.process.poll() is None


def test_a_device_that_fails_every_step_is_unhealthy_and_the_process_lives(faulty):
    process = faulty("submit:1:always")
    for _ in range(3):
        assert process.get("/health").status_code == 200
        assert terminal_or_refusal(process, prompt="x", max_tokens=4) == ["CUDA_ERROR"]
    health = process.get("/health")
    assert health.status_code == 503 and health.json()["status"] == "unhealthy"
    assert "steps failed" in health.json()["reason"]
    assert process.get("/readyz").status_code == 503 and process.get("/livez").status_code == 200


@pytest.mark.core
def test_a_flipped_weight_makes_the_worker_unhealthy_and_is_named(faulty):
    process = faulty("residency:2:flipped", "--residency-check-sec", 1)
    error = process.wait_for_event("error", message="the weights on the device differ from those loaded")
    assert error["tensor"] == "token_embd.weight"
    health = process.get("/health")
    assert health.status_code == 503
    assert health.json()["status"] == "unhealthy" and health.json()["resident"] is False
    assert "token_embd.weight" in health.json()["reason"]
    assert process.get("/readyz").status_code == 503
    report = process.get("/v1/residency")
    assert report.status_code == 503
    assert [a["first_mismatch"] for a in report.json()["arenas"]] == ["token_embd.weight"]
    refused = process.post("/execute", execute_body({"prompt": "x"}))
    assert refused.status_code == 500
    assert "token_embd.weight" in str(refused.json())


def test_a_load_that_fails_exits_with_one_error(cli, smollm2):
    result = cli("serve", "--model", smollm2, "--device", "fault:load:1:once:cpu", "--port", 0, "--ctx", 256, expect=1)
    assert [line for line in result.stderr.splitlines() if line.startswith("CUDA_ERROR")] == \
        result.stderr.splitlines()[-1:]
