#!/usr/bin/env python3
"""Thousands of requests to one worker, some cancelled, some abandoned, some wrong; what the process holds must stay flat.

  soak.py [--requests 10000] [--model FILE] [--seed N] [--binary FILE] [--json FILE]

After every round of requests nothing is in flight, and resident memory, file descriptors, threads and device bytes are
read. The first 500 requests may fill caches; from then on descriptors, threads and device bytes must not change at all,
and resident memory may grow by 4 MiB: what malloc keeps in the arenas of its threads varies by about 1 MiB.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests" / "integration"))

import httpx  # noqa: E402
from release_build import need_built  # noqa: E402
from sse import iter_sse  # noqa: E402
from worker_process import TIME_SCALE, Worker, execute_body  # noqa: E402

WARM_UP = 500
RSS_TOLERANCE = 4 << 20
N_CLIENTS = 6


@dataclass(frozen=True)
class Sample:
    requests: int
    rss_bytes: int
    fds: int
    threads: int
    device_bytes: int


def sample(process: Worker, requests: int, health: dict[str, Any]) -> Sample:
    proc = Path("/proc") / str(process.process.pid)
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    return Sample(requests, int(status["VmRSS"].split()[0]) * 1024, len(list((proc / "fd").iterdir())), int(status["Threads"]),
                  health["vram_bytes_used"])


def settled(process: Worker, requests: int, fds: int) -> Sample:
    """A sample with nothing in flight. The server sees a connection's end a moment after the client made it: up to 10 s are
    given for the descriptors to be those of an idle server again."""
    deadline = time.monotonic() + 10 * TIME_SCALE
    while True:
        health = process.get("/health").json()
        taken = sample(process, requests, health)
        if (health["running"] == health["waiting"] == 0 and taken.fds <= fds) or time.monotonic() > deadline:
            assert health["running"] == health["waiting"] == 0, health
            return taken


class Client:
    """One caller with a connection of its own, so that leaving breaks only what it asked for."""

    def __init__(self, process: Worker, seed: int) -> None:
        self.process, self.random = process, random.Random(seed)
        self.http = httpx.Client(timeout=60 * TIME_SCALE, trust_env=False)

    def ask(self) -> str:
        kind = self.random.choices(("whole", "cancel", "leave", "wrong", "refused", "tokenize"), (60, 12, 12, 6, 4, 6))[0]
        words = " ".join(self.random.choice(("sea", "sky", "é", "🙂", "12")) for _ in range(self.random.randint(1, 60)))
        body = execute_body({"prompt": words, "max_tokens": self.random.randint(1, 24), "temperature": self.random.choice((0, 0.8))})
        url = self.process.base_url
        if kind == "wrong":
            assert self.http.post(url + "/execute", content=json.dumps(body)[:-2]).status_code == 400
        elif kind == "refused":
            assert self.http.post(url + "/execute", json={**body, "top_k": -1, "extra": [words]}).status_code == 400
        elif kind == "tokenize":
            assert self.http.post(url + "/tokenize", json={"content": words}).status_code == 200
        else:
            self.generate(kind, body)
        return kind

    def generate(self, kind: str, body: dict[str, Any]) -> None:
        if kind != "whole":
            body["max_tokens"] = 2000
        with self.http.stream("POST", self.process.base_url + "/execute", json=body) as response:
            assert response.status_code == 200, response.read()
            events = iter_sse(response.iter_raw())
            assert next(events).name == "started"
            if kind == "leave":
                return
            if kind == "cancel":
                self.http.post(self.process.base_url + "/cancel", json={"job_id": body["job_id"]})
            last = [event for event in events][-1]
        expected = ("end", "error") if kind == "cancel" else ("end",)
        assert last.name in expected, last


def wait_ended(process: Worker) -> None:
    """Until the jobs of clients that left have been ended, which the log tells."""
    started = {event["job_id"] for event in process.log_events("execute_start")}
    for job_id in started - {event["job_id"] for event in process.log_events("execute_end")}:
        process.wait_for_event("execute_end", job_id=job_id)
    process.events.clear()
    process.stderr_lines.clear()


def soak(process: Worker, n_requests: int, round_size: int, seed: int) -> tuple[list[Sample], dict[str, int]]:
    """Samples after each round, and how many requests there were of each kind."""
    samples, kinds = [], {}
    idle_fds = len(list((Path("/proc") / str(process.process.pid) / "fd").iterdir()))  # nobody has asked for anything yet
    process.client.headers["Connection"] = "close"  # what is counted are the connections of the clients alone
    process.execute(prompt="x", max_tokens=1)
    with ThreadPoolExecutor(N_CLIENTS) as pool:
        for done in range(round_size, n_requests + 1, round_size):
            clients = [Client(process, seed + done + i) for i in range(N_CLIENTS)]
            shares = [len(range(i, round_size, N_CLIENTS)) for i in range(N_CLIENTS)]
            for asked in pool.map(lambda pair: [pair[0].ask() for _ in range(pair[1])], zip(clients, shares)):
                for kind in asked:
                    kinds[kind] = kinds.get(kind, 0) + 1
            for client in clients:
                client.http.close()
            wait_ended(process)
            samples.append(settled(process, done, idle_fds))
    return samples, kinds


def problems(samples: list[Sample], warm_up: int) -> list[str]:
    """What is not flat after the first `warm_up` requests."""
    steady = [s for s in samples if s.requests >= warm_up]
    first, found = steady[0], []
    for s in steady[1:]:
        for name in ("fds", "threads", "device_bytes"):
            if getattr(s, name) != getattr(first, name):
                found.append(f"{name} {getattr(first, name)} at {first.requests} requests, {getattr(s, name)} at {s.requests}")
        if s.rss_bytes > first.rss_bytes + RSS_TOLERANCE:
            found.append(f"resident memory grew by {s.rss_bytes - first.rss_bytes} bytes from request {first.requests} to {s.requests}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--model", type=Path, help="default: a tiny model with random weights")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--binary", type=Path, default=REPO / "build" / "release" / "bin" / "worker-orcd")
    parser.add_argument("--json", type=Path, help="write the samples here")
    options = parser.parse_args()
    need_built(options.binary)
    with tempfile.TemporaryDirectory() as folder:
        model = options.model
        if model is None:
            import make_model

            model = Path(folder) / "tiny.gguf"
            make_model.make_model(model, make_model.PRESETS["tiny-llama"], seed=1)
        process = Worker(options.binary, ["--model", str(model), "--device", "cpu", "--port", "0", "--log-format", "json", "--slots", "4",
                                           "--threads", "1"])
        try:
            samples, kinds = soak(process.wait_ready(), options.requests, WARM_UP, options.seed)
        finally:
            process.stop()
    print(f"{'requests':>9} {'resident MiB':>13} {'descriptors':>12} {'threads':>8} {'device MiB':>11}")
    for s in samples:
        print(f"{s.requests:9} {s.rss_bytes / 2**20:13.2f} {s.fds:12} {s.threads:8} {s.device_bytes / 2**20:11.2f}")
    print(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    if options.json:
        options.json.write_text(json.dumps([asdict(s) for s in samples]))
    found = problems(samples, WARM_UP)
    print("\n".join(found) or f"flat after the first {WARM_UP} requests")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
