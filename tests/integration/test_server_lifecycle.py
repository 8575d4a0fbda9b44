"""Starting, loading, draining, failing to start: what a supervisor of the worker sees."""

import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import time

import httpx
import pytest

from worker_process import TIME_SCALE, Worker, check_stream, terminal_of, text_of

ENDLESS = {"prompt": "1 2 3 4 5 6 7 8 9", "max_tokens": 2048, "temperature": 0}


def port_of(process: Worker) -> int:
    process.port = int(process.wait_for_event("startup")["port"])
    return process.port


def test_the_port_is_open_while_loading_and_says_so(worker, gemma3):
    process = worker(gemma3, wait=False)
    port_of(process)
    health = process.get("/health")
    if health.json()["status"] == "loading":
        assert health.status_code == 503 and process.get("/readyz").status_code == 503
        assert process.get("/livez").status_code == 200
        reply = process.post("/execute", {"job_id": "j", "prompt": "x"})
        assert reply.status_code == 503 and reply.json()["error"]["retriable"] is True
        assert process.get("/v1/models").status_code == 503
    process.wait_ready()
    assert process.get("/health").status_code == process.get("/readyz").status_code == 200
    percents = [e["percent"] for e in process.log_events("model_load_progress")]
    assert percents[0] == 0 and percents[-1] == 100 and percents == sorted(percents)


@pytest.mark.core
def test_sigterm_lets_active_work_finish_and_refuses_new(worker, smollm2):
    process = worker(smollm2, "--drain-sec", 600)
    with process.stream(prompt="1 2 3 4 5 6 7 8 9", max_tokens=200, temperature=0) as events:
        seen = [next(events), next(events)]
        process.terminate()
        process.wait_for_event("shutdown")
        refused = process.post("/execute", {"job_id": "late", "prompt": "x"})
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "SHUTTING_DOWN"
        assert process.get("/readyz").status_code == 503
        seen += list(events)
    check_stream(seen)
    assert terminal_of(seen).name == "end"
    assert process.wait_exit() == 0


def test_work_that_outlasts_the_drain_time_is_cancelled(worker, smollm2):
    process = worker(smollm2, "--drain-sec", 1)
    with process.stream(**ENDLESS) as events:
        seen = [next(events), next(events)]
        process.terminate()
        begin = time.monotonic()
        seen += list(events)
    check_stream(seen)
    if terminal_of(seen).name == "error":
        assert terminal_of(seen).json["code"] == "CANCELLED" and time.monotonic() - begin < 4 * TIME_SCALE
    assert process.wait_exit() == 0


def test_a_second_signal_ends_the_drain_at_once(worker, smollm2):
    process = worker(smollm2, "--drain-sec", 600)
    with process.stream(**ENDLESS) as events:
        next(events)
        process.terminate()
        process.wait_for_event("shutdown")
        process.process.send_signal(signal.SIGINT)
        assert terminal_of(list(events)).name in ("error", "end")
    assert process.wait_exit(20) == 0


@pytest.mark.core
def test_post_shutdown_finishes_active_work_then_exits_0(worker, smollm2):
    process = worker(smollm2)
    with process.stream(prompt="1 2 3 4 5 6 7 8 9", max_tokens=100, temperature=0) as events:
        seen = [next(events)]
        assert process.post("/shutdown").status_code == 202
        assert process.post("/execute", {"job_id": "late", "prompt": "x"}).status_code == 503
        seen += list(events)
    assert terminal_of(seen).name == "end"
    assert process.wait_exit() == 0


def test_sigterm_while_loading_exits_0(worker, gemma3):
    process = worker(gemma3, wait=False)
    process.wait_for_event("startup")
    process.terminate()
    assert process.wait_exit() == 0


def test_a_budget_that_does_not_hold_the_model_is_refused_with_the_numbers(worker, smollm2):
    process = worker(smollm2, "--vram-budget-mb", 50, wait=False)
    process.expected_exit = 1
    assert process.wait_exit() == 1
    error = process.wait_for_event("error")
    assert error["code"] == "INSUFFICIENT_VRAM" and error["required"] > error["available"] == 50 * 2**20
    assert process.stderr_lines[-1].startswith("INSUFFICIENT_VRAM: ")
    assert not process.log_events("ready")


def test_a_budget_is_kept_to_the_byte(worker, smollm2):
    process = worker(smollm2, "--vram-budget-mb", 200, "--slots", 2)
    ready = process.wait_for_event("ready")
    assert ready["vram_bytes"] == ready["planned_bytes"] <= 200 * 2**20
    assert text_of(process.execute(prompt="The capital of France is", max_tokens=4, temperature=0))


def test_a_port_in_use_is_an_error_that_names_it(smollm2_worker, cli, smollm2):
    result = cli("serve", "--model", smollm2, "--device", "cpu", "--port", smollm2_worker.port, expect=1)
    assert f"port={smollm2_worker.port}" in result.stderr.splitlines()[-1]


def test_the_callback_is_told_once_ready(worker, smollm2):
    bodies: list[dict] = []
    told = threading.Event()

    class Orchestrator(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()
            told.set()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Orchestrator) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        process = worker(smollm2, "--callback-url", f"http://127.0.0.1:{server.server_port}/ready")
        assert told.wait(20 * TIME_SCALE)
        server.shutdown()
    vram = process.get("/health").json()["vram_bytes_used"]
    assert bodies == [{"worker_id": process.worker_id, "model": "smollm2-135m-instruct-q4_1", "vram_bytes": vram, "uri": process.base_url}]


def test_a_callback_that_fails_is_a_warning_and_the_worker_serves(worker, smollm2):
    process = worker(smollm2, "--callback-url", "http://127.0.0.1:1/ready")
    warning = process.wait_for_event("error", level="warn")
    assert warning["callback_url"] == "http://127.0.0.1:1/ready" and "refused" in warning["reason"].lower()
    assert process.get("/health").status_code == 200


def test_options_come_from_the_environment_too(worker, smollm2):
    process = worker(smollm2, env={"ORCD_CTX": "128", "ORCD_SLOTS": "2", "ORCD_MAX_TOKENS_OUT": "5"})
    assert process.get("/health").json()["context_length"] == 128
    assert httpx.post(process.base_url + "/execute", json={"job_id": "j", "prompt": "x", "max_tokens": 6}, trust_env=False).status_code == 400


def port_in_log(read: int) -> int:
    """Reads the log from a pipe up to `ready`, and no byte more."""
    line = b""
    while True:
        line += os.read(read, 1)
        if line.endswith(b"\n"):
            event = json.loads(line)
            if event["event"] == "ready":
                return event["port"]
            line = b""


def what_waits(read: int) -> bytes:
    """All that lies in a pipe whose reading end does not block."""
    taken = b""
    try:
        while piece := os.read(read, 65536):
            taken += piece
    except BlockingIOError:
        pass
    return taken


@pytest.mark.core
def test_a_reader_of_the_log_that_stops_reading_stops_nothing(binary, tiny):
    """With its pipe full the worker stood still for good, deaf to SIGTERM too (a bug)."""
    read, write = os.pipe()
    process = subprocess.Popen([str(binary), "--model", str(tiny), "--device", "cpu", "--port", "0", "--log-format", "json"], stderr=write)
    os.close(write)
    try:
        url = f"http://127.0.0.1:{port_in_log(read)}/execute"
        n_requests = 200  # of about 8 KiB of log each, into a pipe of 64 KiB
        with httpx.Client(timeout=20 * TIME_SCALE, trust_env=False) as client:
            def ask(job: str) -> None:
                assert client.post(url, json={"job_id": job, "prompt": "x", "max_tokens": 1}).status_code == 200

            for i in range(n_requests):
                ask(f"{i}-" + "\x01" * 1000)  # lines longer than a pipe takes at once
            os.set_blocking(read, False)
            drained = what_waits(read)
            ask("afterwards")
        process.terminate()
        assert process.wait(20 * TIME_SCALE) == 0
        drained += what_waits(read)
    finally:
        process.kill()
        process.wait()
        os.close(read)
    whole = [json.loads(line) for line in drained.splitlines() if line.startswith(b"{") and line.endswith(b"}")]
    lost = [event for event in whole if event.get("message", "").startswith("log lines were lost")]
    assert len(lost) == 1 and lost[0]["level"] == "warn"
    started = {event["job_id"] for event in whole if event["event"] == "execute_start"}
    assert "afterwards" in started and whole[-1]["event"] == "shutdown"
    assert lost[0]["lines"] >= n_requests - len(started)


@pytest.mark.core
def test_closed_standard_streams_are_not_the_numbers_of_connections(binary, tiny):
    """A worker started without stderr wrote its log into whatever was opened third (a bug)."""
    with socket.create_server(("127.0.0.1", 0)) as told:
        told.settimeout(30 * TIME_SCALE)
        process = subprocess.Popen(["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', str(binary), "--model", str(tiny), "--device", "cpu", "--port", "0",
                                    "--callback-url", f"http://127.0.0.1:{told.getsockname()[1]}/"])
        try:
            with told.accept()[0]:  # it is ready
                fds = {int(fd): os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in ("0", "1", "2")}
        finally:
            process.terminate()
            assert process.wait(30 * TIME_SCALE) == 0
    assert fds == dict.fromkeys((0, 1, 2), "/dev/null")
