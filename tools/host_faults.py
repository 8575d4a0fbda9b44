#!/usr/bin/env python3
"""Lets host calls of the real worker fail one by one: allocations, file reads, thread starts, socket writes.

  host_faults.py [--stride N] [--binary FILE] [--preload FILE] [load|serve|request ...]

Every call of a kind is counted, while loading and while answering, and then failed: once, and from then on for ever.
Loading must go on, or end with exit code 1 and one error line. A request must give the text that it always gives, or one
error, or a closed connection; nothing may crash, hang or leak, and the next request must have the same bits. `--stride N`
takes every N-th index. Prints 'N indices × 2 modes, 0 failures' for each part.
"""

import argparse
import ctypes
import errno
import json
import mmap
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests" / "integration"))
sys.path.insert(0, str(REPO / "tools"))

from raw_http import request_bytes  # noqa: E402
from release_build import need_built  # noqa: E402
from sse import parse_sse  # noqa: E402
from worker_process import TIME_SCALE, Worker, WorkerFailed  # noqa: E402

ERROR_LINE = re.compile(r"^[A-Z_]+: .")
LIMIT_SECONDS = 10 * TIME_SCALE
PROMPT = {"prompt": "a b", "max_tokens": 4, "temperature": 0.8, "seed": 3, "stop": ["zzz"]}


class Orders(ctypes.Structure):
    """As in tests/support/fault_preload.cpp."""

    _fields_ = [("armed", ctypes.c_uint32), ("always", ctypes.c_uint32), ("how", ctypes.c_uint32), ("code", ctypes.c_int32),
                ("n", ctypes.c_uint64), ("count", ctypes.c_uint64), ("strikes", ctypes.c_uint64)]


@dataclass(frozen=True)
class Fault:
    name: str
    kind: int
    how: int = 0  # 0 error, 1 short, 2 end of file
    code: int = 0


NEW, READ, THREAD, WRITE = range(4)
LOAD_FAULTS = [
    Fault("allocation", NEW),
    Fault("read: EIO", READ, 0, errno.EIO),
    Fault("read: truncated", READ, 2),
    Fault("read: one byte", READ, 1),
    Fault("thread start", THREAD),
]
REQUEST_FAULTS = [
    Fault("allocation", NEW),
    Fault("write: EPIPE", WRITE, 0, errno.EPIPE),
    Fault("write: ECONNRESET", WRITE, 0, errno.ECONNRESET),
    Fault("write: EAGAIN", WRITE, 0, errno.EAGAIN),
    Fault("write: one byte", WRITE, 1),
]


class Faults:
    """The orders of one worker, shared with it."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(ctypes.sizeof(Orders)))
        self.file = open(path, "r+b")
        self.orders = Orders.from_buffer(mmap.mmap(self.file.fileno(), ctypes.sizeof(Orders)))
        self.path = path

    def arm(self, fault: Fault, n: int, always: bool) -> None:
        o = self.orders
        o.armed, o.always, o.how, o.code, o.n, o.count, o.strikes = 0, int(always), fault.how, fault.code, n, 0, 0
        o.armed = fault.kind + 1

    def disarm(self) -> tuple[int, int]:
        """How many calls there were, and how many of them failed."""
        self.orders.armed = 0
        return self.orders.count, self.orders.strikes


@dataclass(frozen=True)
class Setup:
    binary: Path
    preload: Path
    model: Path
    folder: Path

    def environment(self, faults: Faults) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.preload), "ORCD_FAULT_FILE": str(faults.path)}

    def arguments(self) -> list[str]:
        return ["--model", str(self.model), "--device", "cpu", "--threads", "2", "--ctx", "64", "--slots", "2"]


def load_once(setup: Setup, faults: Faults) -> str:
    """What is wrong with one `run` under the armed fault; "" if nothing is."""
    command = [str(setup.binary), "run", *setup.arguments(), "--prompt", "a b", "--max-tokens", "2", "--temperature", "0", "--json"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={**os.environ, **setup.environment(faults)}) as process:
        try:
            out, err = process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return "hangs"
    if process.returncode == 0:
        return "" if json.loads(out)["token_ids"] else "no tokens"
    if process.returncode != 1:
        name = signal.Signals(-process.returncode).name if process.returncode < 0 else process.returncode
        return f"exit {name}: {err.decode(errors='replace')[-300:]}"
    errors = [line for line in err.decode(errors="replace").splitlines() if ERROR_LINE.match(line)]
    return "" if len(errors) == 1 else f"exit 1 with {len(errors)} error lines: {err.decode(errors='replace')[-300:]}"


def indices(n: int, stride: int) -> Iterator[int]:
    """1, then every stride-th, and the last."""
    yield from sorted({*range(1, n + 1, stride), n} - {0})


def sweep_load(setup: Setup, stride: int) -> tuple[int, list[str]]:
    n_indices, failures = 0, []
    faults = Faults(setup.folder / "load-orders")
    for fault in LOAD_FAULTS:
        faults.arm(fault, 0, False)
        wrong = load_once(setup, faults)
        count, _ = faults.disarm()
        if wrong or count == 0:
            failures.append(f"load without a fault: {wrong or 'no call counted'}")
        for n in indices(count, stride if fault.kind == NEW else max(1, stride // 50)):
            n_indices += 1
            for always in (False, True):
                faults.arm(fault, n, always)
                if wrong := load_once(setup, faults):
                    failures.append(f"load, {fault.name} {n} of {count}, {'always' if always else 'once'}: {wrong}")
    return n_indices, failures


def serve_once(setup: Setup, faults: Faults) -> str:
    """The same for `serve`, which is asked to stop once it is ready."""
    process = Worker(setup.binary, [*setup.arguments(), "--port", "0", "--log-format", "json"], setup.environment(faults))
    process.expected_exit = None
    try:
        process.wait_ready(LIMIT_SECONDS)
        process.terminate()
    except WorkerFailed:
        pass  # it may have given up: the exit tells
    try:
        code = process.wait_exit(LIMIT_SECONDS)
    except WorkerFailed:
        process.process.kill()
        return "hangs"
    process.stop()
    errors = [line for line in process.stderr_lines if ERROR_LINE.match(line)]
    return "" if code == 0 or (code == 1 and len(errors) == 1) else f"exit {code} with {len(errors)} error lines: {process.stderr[-300:]}"


def sweep_serve(setup: Setup, stride: int) -> tuple[int, list[str]]:
    n_indices, failures = 0, []
    faults = Faults(setup.folder / "serve-orders")
    for fault in (Fault("thread start", THREAD), Fault("allocation", NEW)):
        faults.arm(fault, 0, False)
        failures += filter(None, [serve_once(setup, faults)])
        count, _ = faults.disarm()
        for n in indices(count, 1 if fault.kind == THREAD else 4 * stride):
            n_indices += 1
            for always in (False, True):
                faults.arm(fault, n, always)
                if wrong := serve_once(setup, faults):
                    failures.append(f"serve, {fault.name} {n} of {count}, {'always' if always else 'once'}: {wrong}")
    return n_indices, failures


class Ask:
    """Asks one worker for the same text again and again, each time over a new connection."""

    def __init__(self, process: Worker) -> None:
        self.process, self.n = process, 0

    def reply(self) -> bytes | None:
        """All that comes back; None when nothing ends the connection."""
        self.n += 1
        body = {"job_id": f"j{self.n}", **PROMPT}
        with socket.create_connection(("127.0.0.1", self.process.port), timeout=LIMIT_SECONDS) as client:
            data = b""
            try:
                client.sendall(request_bytes("POST", "/execute", body, Connection="close"))
                while chunk := client.recv(65536):
                    data += chunk
            except TimeoutError:
                return None
            except OSError:
                pass
            return data

    def bits(self) -> str:
        """Text and digest of a whole answer."""
        reply = self.reply()
        assert reply is not None, "a request without a fault hangs"
        events = parse_sse(dechunked(reply))
        assert events and events[-1].name == "end", reply
        return "".join(e.json["t"] for e in events if e.name == "token") + events[-1].json["receipt"]["logits_digest"]


def dechunked(reply: bytes) -> bytes:
    body, rest = b"", reply.partition(b"\r\n\r\n")[2]
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


def wrong_with(reply: bytes | None, expected: str) -> str:
    """What is wrong with an answer under a fault: it may be whole, one error, or cut off."""
    if reply is None:
        return "hangs"
    head, _, body = reply.partition(b"\r\n\r\n")
    if not body.endswith(b"0\r\n\r\n") and b"chunked" in head or not head.startswith(b"HTTP/1.1 "):
        return ""  # cut off
    if b"chunked" not in head:
        if not body:
            return ""
        error = json.loads(body)["error"]
        return "" if error["code"] and error["message"] and error["hint"] else f"an error that does not help: {error}"
    events = parse_sse(dechunked(reply))
    terminals = [e for e in events if e.name in ("end", "error")]
    if len(terminals) != 1 or events[-1] is not terminals[0]:
        return f"{len(terminals)} terminal events"
    if terminals[0].name == "error":
        error = terminals[0].json
        return "" if error["code"] and error["message"] and error["hint"] else f"an error that does not help: {error}"
    got = "".join(e.json["t"] for e in events if e.name == "token") + terminals[0].json["receipt"]["logits_digest"]
    return "" if got == expected else "another text"


def quiet(process: Worker) -> tuple[int, int, int]:
    """Descriptors, threads and resident bytes once nothing is in flight."""
    proc, deadline = Path("/proc") / str(process.process.pid), time.monotonic() + LIMIT_SECONDS
    while True:
        health = process.get("/health").json()
        if health["running"] == health["waiting"] == 0 or time.monotonic() > deadline:
            break
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    return len(list((proc / "fd").iterdir())), int(status["Threads"]), int(status["VmRSS"].split()[0]) * 1024


def sweep_request(setup: Setup, stride: int) -> tuple[int, list[str]]:
    n_indices, failures = 0, []
    faults = Faults(setup.folder / "request-orders")
    process = Worker(setup.binary, [*setup.arguments(), "--port", "0", "--log-format", "json"], setup.environment(faults))
    try:
        process.wait_ready()
        ask = Ask(process)
        expected = ask.bits()
        before = None
        for fault in REQUEST_FAULTS:
            faults.arm(fault, 0, False)
            ask.bits()
            count, _ = faults.disarm()
            for n in indices(count, stride if fault.kind == NEW else 1):
                n_indices += 1
                for always in (False, True):
                    place = f"request, {fault.name} {n} of {count}, {'always' if always else 'once'}"
                    # No kernel says for ever that a socket is full, or takes one byte, and yet reports it writable.
                    faults.arm(fault, n, always and fault.name not in ("write: EAGAIN", "write: one byte"))
                    wrong = wrong_with(ask.reply(), expected)
                    faults.disarm()
                    if process.process.poll() is not None:
                        return n_indices, [*failures, f"{place}: the worker ended: {process.stderr[-500:]}"]
                    if wrong:
                        failures.append(f"{place}: {wrong}")
                    try:
                        if ask.bits() != expected:
                            failures.append(f"{place}: the next request has other bits")
                    except AssertionError as failure:
                        return n_indices, [*failures, f"{place}: afterwards {failure}"]
            before = before or quiet(process)
        after = quiet(process)
        if after[0] > before[0] + 1 or after[1] != before[1] or after[2] > before[2] + (2 << 20):
            failures.append(f"descriptors, threads, resident bytes grew from {before} to {after}")
    finally:
        process.stop()
    return n_indices, failures


SWEEPS = {"load": sweep_load, "serve": sweep_serve, "request": sweep_request}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*SWEEPS, []], default=[])
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--binary", type=Path, default=REPO / "build" / "release" / "bin" / "worker-orcd")
    parser.add_argument("--preload", type=Path, default=REPO / "build" / "release" / "lib" / "libfault_preload.so")
    options = parser.parse_args()
    need_built(options.binary, options.preload)
    import make_model

    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny.gguf"
        make_model.make_model(model, make_model.PRESETS["tiny-llama"], seed=1)
        setup = Setup(options.binary, options.preload, model, Path(folder))
        for part in options.parts or SWEEPS:
            n_indices, failures = SWEEPS[part](setup, options.stride)
            print("\n".join(failures))
            print(f"{part}: {n_indices} indices × 2 modes, {len(failures)} failures", flush=True)
            failed += len(failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
