"""A worker-orcd process under test: started on a port the system picks, watched through its JSON log, ended with SIGTERM."""

import json
import os
import re
import signal
import subprocess
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

import httpx

from sse import SseEvent, iter_sse

# Sanitized and instrumented builds are slower; only limits grow with this, never a wait that succeeds.
TIME_SCALE = float(os.environ.get("ORCD_TEST_TIME_SCALE", "1"))

SANITIZER_REPORT = re.compile(r"(ERROR|WARNING): \w+Sanitizer|runtime error: ")


class WorkerFailed(AssertionError):
    pass


class Worker:
    """Use through the `worker` fixture. Every wait has a limit and reports the log when it runs out."""

    def __init__(self, binary: Path, arguments: list[str], env: dict[str, str] | None = None) -> None:
        self.worker_id = str(uuid.uuid4())
        self.command = [str(binary), "--worker-id", self.worker_id, *arguments]
        self.expected_exit: int | None = 0
        self.port: int | None = None
        self.stderr_lines: list[str] = []
        self.events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._stderr_ended = False
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        self._stdout = b""
        self._readers = [threading.Thread(target=self._read_stderr, daemon=True),
                         threading.Thread(target=self._read_stdout, daemon=True)]
        for reader in self._readers:
            reader.start()
        self.client = httpx.Client(timeout=httpx.Timeout(60 * TIME_SCALE), trust_env=False)

    # --- the log ---------------------------------------------------------------------------------------------

    def _read_stderr(self) -> None:
        for raw in self.process.stderr:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            with self._changed:
                self.stderr_lines.append(line)
                if isinstance(event, dict) and "event" in event:
                    self.events.append(event)
                self._changed.notify_all()
        with self._changed:
            self._stderr_ended = True
            self._changed.notify_all()

    def _read_stdout(self) -> None:
        self._stdout = self.process.stdout.read()

    @property
    def stderr(self) -> str:
        with self._changed:
            return "\n".join(self.stderr_lines)

    @property
    def stdout(self) -> bytes:
        """Whole only after the process has ended."""
        return self._stdout

    def log_events(self, name: str, **fields: Any) -> list[dict[str, Any]]:
        """The events logged so far with this name and these field values."""
        with self._changed:
            return [e for e in self.events if e["event"] == name and all(e.get(k) == v for k, v in fields.items())]

    def wait_for_event(self, name: str, timeout: float = 60, **fields: Any) -> dict[str, Any]:
        """The first event of this name and these fields, past or to come; fails when the process ends without it."""
        deadline = time.monotonic() + timeout * TIME_SCALE
        with self._changed:
            while True:
                for event in self.events:
                    if event["event"] == name and all(event.get(k) == v for k, v in fields.items()):
                        return event
                left = deadline - time.monotonic()
                if self._stderr_ended or left <= 0:
                    why = "the process ended" if self._stderr_ended else f"{timeout} s passed"
                    log = "\n".join(self.stderr_lines)
                    raise WorkerFailed(f"{why} without log event {name} {fields}; {self.command}\n{log}")
                self._changed.wait(left)

    def wait_ready(self, timeout: float = 60) -> "Worker":
        self.port = int(self.wait_for_event("ready", timeout)["port"])
        return self

    def wait_text(self, pattern: str, timeout: float = 60) -> re.Match[str]:
        """The first match in a log line, past or to come; for logs that are not JSON."""
        deadline = time.monotonic() + timeout * TIME_SCALE
        with self._changed:
            while True:
                for line in self.stderr_lines:
                    if match := re.search(pattern, line):
                        return match
                left = deadline - time.monotonic()
                if self._stderr_ended or left <= 0:
                    raise WorkerFailed(f"no log line matches {pattern}; {self.command}\n" + "\n".join(self.stderr_lines))
                self._changed.wait(left)

    # --- HTTP ------------------------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        assert self.port is not None, "the worker is not ready yet"
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(self.base_url + path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.client.post(self.base_url + path, json=body, **options)

    @contextmanager
    def stream(self, **request: Any) -> Iterator[Iterator[SseEvent]]:
        """POST /execute; yields its events as they come. Leaving the block drops the connection."""
        with self.client.stream("POST", self.base_url + "/execute", json=execute_body(request)) as response:
            if response.status_code != 200:
                raise WorkerFailed(f"/execute said {response.status_code}: {response.read().decode()}")
            assert response.headers["content-type"].split(";")[0] == "text/event-stream"
            yield iter_sse(response.iter_raw())

    def execute(self, **request: Any) -> list[SseEvent]:
        """POST /execute to its end; checks the shape of the stream that every request is promised."""
        with self.stream(**request) as events:
            result = list(events)
        check_stream(result)
        return result

    # --- the end ---------------------------------------------------------------------------------------------

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait_exit(self, timeout: float = 60) -> int:
        try:
            code = self.process.wait(timeout * TIME_SCALE)
        except subprocess.TimeoutExpired:
            raise WorkerFailed(f"still running after {timeout} s; {self.command}\n{self.stderr}") from None
        for reader in self._readers:
            reader.join(10)
        return code

    def stop(self) -> None:
        """SIGTERM unless it has ended already; checks the exit code, an empty stdout and the sanitizers' silence."""
        try:
            if self.process.poll() is None:
                self.terminate()
            code = self.wait_exit()
        finally:
            self.client.close()
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        assert not SANITIZER_REPORT.search(self.stderr), self.stderr
        if self.expected_exit is not None:
            assert code == self.expected_exit, f"exit {code}, expected {self.expected_exit}\n{self.stderr}"
        assert self.stdout == b"", f"serve must print nothing on stdout: {self.stdout!r}"


def execute_body(request: dict[str, Any]) -> dict[str, Any]:
    return {"job_id": f"job-{uuid.uuid4()}", **request}


TERMINAL = ("end", "error")


def check_stream(events: list[SseEvent]) -> None:
    """started first, then token and metrics events with ascending i, and exactly one terminal event, last."""
    names = [event.name for event in events]
    assert names and names[0] == "started", names
    assert [name for name in names if name in TERMINAL] == names[-1:], names
    assert set(names[1:-1]) <= {"token", "metrics"}, names
    indices = [event.json["i"] for event in events if event.name == "token"]
    assert indices == sorted(set(indices)), indices


def text_of(events: list[SseEvent]) -> str:
    return "".join(event.json["t"] for event in events if event.name == "token")


def terminal_of(events: list[SseEvent]) -> SseEvent:
    return events[-1]
