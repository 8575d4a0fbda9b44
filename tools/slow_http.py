#!/usr/bin/env python3
"""Slow clients by slowhttptest (slow headers, slow body, slow read) while others ask for /health: how long they wait.

  slow_http.py [--connections 1000] [--seconds 60] [--model FILE] [--binary FILE] [headers|body|read ...]

Each mode opens the connections at 200 a second against one worker. Meanwhile /health is asked for 50 times a second, each
time over a new connection. Fails when 99 of 100 answers took 10 ms or more, when any failed, or when the worker ended.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests" / "integration"))
sys.path.insert(0, str(REPO / "tools"))

from raw_http import RawClient, request_bytes, status_of  # noqa: E402
from release_build import need_built  # noqa: E402
from worker_process import Worker, terminal_of  # noqa: E402

LIMIT_SECONDS = 0.010
INTERVAL_SECONDS = 0.020
MODES = {
    "headers": ["-H", "-i", "5", "-u", "{url}/livez"],
    "body": ["-B", "-i", "5", "-s", "8192", "-t", "POST", "-f", "application/json", "-u", "{url}/execute"],
    # The answers of /metrics are the largest; windows of a few bytes, read 5 bytes a second.
    "read": ["-X", "-k", "5", "-w", "10", "-y", "20", "-n", "1", "-z", "5", "-u", "{url}/metrics"],
}


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def ask_health(port: int) -> float:
    begin = time.perf_counter()
    with RawClient(port) as client:
        client.send(request_bytes("GET", "/health", Connection="close"))
        status = status_of(client.read_to_end())
    assert status == 200, status
    return time.perf_counter() - begin


def run_mode(process: Worker, mode: str, connections: int, seconds: int) -> bool:
    command = ["slowhttptest", "-c", str(connections), "-r", "200", "-l", str(seconds), "-p", "10", "-v", "1",
               *(part.format(url=process.base_url) for part in MODES[mode])]
    times, failures, most_open = [], 0, 0
    fd_folder = Path("/proc") / str(process.process.pid) / "fd"
    with tempfile.TemporaryFile() as output:
        attack = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while attack.poll() is None:
            begin = time.perf_counter()
            try:
                times.append(ask_health(process.port))
            except (OSError, AssertionError, IndexError):
                failures += 1
            if len(times) % 50 == 0:
                most_open = max(most_open, len(list(fd_folder.iterdir())))
            time.sleep(max(0.0, INTERVAL_SECONDS - (time.perf_counter() - begin)))
    alive = process.process.poll() is None and terminal_of(process.execute(prompt="x", max_tokens=2)).name == "end"
    p99 = percentile(times, 0.99)
    print(f"{mode:8} {len(times):6} answers, {failures} failed; ms: median {percentile(times, 0.5) * 1e3:.2f}, p99 {p99 * 1e3:.2f}, "
          f"most {max(times) * 1e3:.2f}; {most_open} descriptors at most; worker {'serves' if alive else 'is gone'}", flush=True)
    return alive and failures == 0 and p99 < LIMIT_SECONDS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modes", nargs="*", choices=[*MODES, []], default=[])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--model", type=Path, help="default: a tiny model with random weights")
    parser.add_argument("--binary", type=Path, default=REPO / "build" / "release" / "bin" / "worker-orcd")
    options = parser.parse_args()
    need_built(options.binary)
    if not shutil.which("slowhttptest"):
        sys.exit("slowhttptest is not here: run scripts/setup")
    with tempfile.TemporaryDirectory() as folder:
        model = options.model
        if model is None:
            import make_model

            model = Path(folder) / "tiny.gguf"
            make_model.make_model(model, make_model.PRESETS["tiny-llama"], seed=1)
        process = Worker(options.binary, ["--model", str(model), "--device", "cpu", "--port", "0", "--log-format", "json"])
        try:
            process.wait_ready()
            good = [run_mode(process, mode, options.connections, options.seconds) for mode in options.modes or MODES]
        finally:
            process.stop()
    print(f"{sum(good)} passed, {len(good) - sum(good)} failed")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
