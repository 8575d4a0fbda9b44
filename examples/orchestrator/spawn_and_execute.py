#!/usr/bin/env python3
"""What an orchestrator does with a worker, with Python's standard library alone: start it on a port that the system picks,
wait for its callback, POST /execute, read the events, cancel a job, stop it.

  python3 examples/orchestrator/spawn_and_execute.py build/release/bin/worker-orcd MODEL.gguf "The sky is" 16

Prints the text as it comes, then the ids' number and the digest of the logits they were drawn from.
"""

import http.client
import http.server
import json
import queue
import signal
import subprocess
import sys
import threading
import urllib.parse
import uuid
from typing import Iterator


class Callbacks:
    """An HTTP server for the {worker_id, model, vram_bytes, uri} that a worker posts once it is ready."""

    def __init__(self) -> None:
        self.ready: "queue.Queue[dict]" = queue.Queue()
        callbacks = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204)
                self.end_headers()
                callbacks.ready.put(json.loads(body))

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/ready"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Worker:
    """One process, one model, one device. Leaving the `with` block stops it; it must exit 0."""

    def __init__(self, binary: str, model: str, device: str = "cpu", ready_within_s: float = 120) -> None:
        callbacks = Callbacks()
        self.worker_id = str(uuid.uuid4())
        self._process = subprocess.Popen(
            [binary, "--worker-id", self.worker_id, "--model", model, "--device", device, "--port", "0",
             "--callback-url", callbacks.url, "--log-format", "json"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._log: "list[bytes]" = []
        self._reader = threading.Thread(target=self._log.extend, args=(self._process.stderr,), daemon=True)
        self._reader.start()
        try:
            notice = self._wait_for(callbacks.ready, ready_within_s)
        finally:
            callbacks.close()
        self.vram_bytes = notice["vram_bytes"]
        self._address = urllib.parse.urlsplit(notice["uri"]).netloc

    def _wait_for(self, ready: "queue.Queue[dict]", within_s: float) -> dict:
        """The worker's notice. A worker that cannot start exits with a line that says why."""
        for _ in range(int(within_s * 10)):
            try:
                return ready.get(timeout=0.1)
            except queue.Empty:
                if self._process.poll() is not None:
                    break
        self._process.kill()
        self._reader.join()
        raise RuntimeError("the worker did not start:\n" + b"".join(self._log[-3:]).decode("utf-8", "replace"))

    def _post(self, path: str, body: dict) -> "tuple[http.client.HTTPConnection, http.client.HTTPResponse]":
        connection = http.client.HTTPConnection(self._address, timeout=300)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection, connection.getresponse()

    def execute(self, prompt: str, job_id: "str | None" = None, **options: object) -> "Iterator[tuple[str, dict]]":
        """Yields (event, data): started, token ..., and one of end and error. Closing the iterator cancels the job."""
        connection, response = self._post("/execute", {"job_id": job_id or str(uuid.uuid4()), "prompt": prompt, **options})
        try:
            if response.status != 200:
                raise RuntimeError(f"refused with {response.status}: {response.read().decode()}")
            event = ""
            for line in response:
                name, _, value = line.decode("utf-8").rstrip("\r\n").partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    yield event, json.loads(value)
        finally:
            connection.close()

    def cancel(self, job_id: str) -> None:
        connection, response = self._post("/cancel", {"job_id": job_id})
        response.read()
        connection.close()
        assert response.status == 202, response.status

    def stop(self) -> int:
        """Lets active work finish; gives the exit code."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=60)
        self._reader.join()
        return code

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        code = self.stop()
        if code != 0:
            raise RuntimeError(f"the worker exited with {code}")


def main() -> int:
    if len(sys.argv) != 5:
        print(f"usage: {sys.argv[0]} WORKER MODEL.gguf PROMPT MAX_TOKENS", file=sys.stderr)
        return 2
    _, binary, model, prompt, max_tokens = sys.argv
    with Worker(binary, model) as worker:
        print(f"{worker.worker_id} holds {worker.vram_bytes} bytes", file=sys.stderr)
        for event, data in worker.execute(prompt, max_tokens=int(max_tokens), temperature=0):
            if event == "token":
                print(data["t"], end="", flush=True)
            elif event == "end":
                print(f"\ntokens_out: {data['tokens_out']}\nlogits: {data['receipt']['logits_digest']}")
            elif event == "error":
                print(f"\n{data['code']}: {data['message']}; {data['hint']}", file=sys.stderr)
                return 1

        # A job that is cancelled ends in one error event.
        ends = []
        for event, data in worker.execute(prompt, job_id="to-cancel", max_tokens=2048, temperature=0):
            if event == "token" and data["i"] == 0:
                worker.cancel("to-cancel")
            elif event in ("end", "error"):
                ends.append(data.get("code", event))
        print("cancelled:", *ends)
    return 0


if __name__ == "__main__":
    sys.exit(main())
