#!/usr/bin/env python3
"""The real worker on a GPU, driven over HTTP as an orchestrator drives it. Python's standard library alone.

  gpu_e2e.py --bin DIR --model M.gguf [--device cuda:0] [--reference cpu|none] [--requests 1000] [--traps 20]

DIR holds worker-orcd, and trap_worker for the lost context. Each check prints one line, `name<TAB>pass|fail<TAB>figure`;
the exit code is 1 when one fails. Latencies are asserted only on a GPU.
"""

import argparse
import ctypes
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CANCEL_LIMIT_MS = 100
FIRST_TOKEN_LIMIT_MS = 100
EXIT_LIMIT_S = 5
HEALTH_LIMIT_S = 1


class Worker:
    """A worker process, its JSON log and its HTTP side."""

    def __init__(self, binary, model, device, *options):
        where = ["--gpu-device", device[5:]] if device.startswith("cuda:") else ["--device", device]
        self.process = subprocess.Popen(
            [str(binary), "--model", str(model), *where, "--port", "0", "--worker-id", str(uuid.uuid4()),
             "--log-format", "json", *map(str, options)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines, self.events, self.changed = [], [], threading.Condition()
        threading.Thread(target=self._read_log, daemon=True).start()
        self.port = int(self.wait_for("ready", 300)["port"])

    def _read_log(self):
        for raw in self.process.stderr:
            line = raw.decode("utf-8", "replace").rstrip()
            try:
                event = json.loads(line)
            except ValueError:
                event = {}
            with self.changed:
                self.lines.append(line)
                self.events.append(event)
                self.changed.notify_all()
        with self.changed:
            self.events.append({"event": "closed"})
            self.changed.notify_all()

    def wait_for(self, name, timeout):
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                for event in self.events:
                    if event.get("event") == name:
                        return event
                    if event.get("event") == "closed":
                        raise RuntimeError("the worker ended:\n" + "\n".join(self.lines[-20:]))
                if not self.changed.wait(max(deadline - time.monotonic(), 0)) and time.monotonic() > deadline:
                    raise RuntimeError(f"no log event {name}:\n" + "\n".join(self.lines[-20:]))

    def connect(self, timeout=300):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def get(self, path, timeout=60):
        connection = self.connect(timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def post(self, path, body):
        connection = self.connect()
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def stream(self, **request):
        """Yields (event, data) of one POST /execute; leaving the generator drops the connection."""
        request.setdefault("job_id", str(uuid.uuid4()))
        connection = self.connect()
        try:
            connection.request("POST", "/execute", json.dumps(request), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                yield "refused", json.loads(response.read())
                return
            name = None
            while line := response.readline():
                text = line.decode().rstrip("\r\n")
                if text.startswith("event:"):
                    name = text[6:].strip()
                elif text.startswith("data:"):
                    yield name, json.loads(text[5:])
        finally:
            connection.close()

    def answer(self, **request):
        """(text, logits digest, stop reason) of a whole stream."""
        text, end = "", None
        for name, data in self.stream(**request):
            text += data["t"] if name == "token" else ""
            end = (name, data) if name in ("end", "error", "refused") else end
        if end is None or end[0] != "end":
            raise RuntimeError(f"the stream ended in {end}")
        return text, end[1]["receipt"]["logits_digest"], end[1]["stop_reason"]

    def vram(self):
        """Bytes as /health, /metrics and the ledger of every category say."""
        metrics = self.get("/metrics")[1]
        return (json.loads(self.get("/health")[1])["vram_bytes_used"],
                tuple(sorted(re.findall(r"^(worker\w*vram_bytes\S*) (\S+)$", metrics, re.M))))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        stdout = self.process.stdout.read()
        if code != 0 or stdout:
            raise RuntimeError(f"exit {code}, {len(stdout)} bytes on stdout")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Nvml:
    """Bytes in use on the device, by the driver's own library; None where there is none."""

    class Memory(ctypes.Structure):
        _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]

    def __init__(self, device):
        self.handle = None
        try:
            self.library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        if not device.startswith("cuda:"):
            return
        index = int(device[5:])
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if all(entry.isdigit() for entry in visible) and index < len(visible):
            index = int(visible[index])
        handle = ctypes.c_void_p()
        if self.library.nvmlInit_v2() == 0 and \
                self.library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) == 0:
            self.handle = handle

    def used(self):
        if self.handle is None:
            return None
        memory = self.Memory()
        return memory.used if self.library.nvmlDeviceGetMemoryInfo(self.handle, ctypes.byref(memory)) == 0 else None


def words(n, seed):
    rng = random.Random(seed)
    return " ".join(rng.choice(("river", "stone", "light", "seven", "house", "green", "under", "later")) for _ in range(n))


def parity_requests():
    story = "The old lighthouse keeper counted the ships that passed in the night"
    return [{"prompt": story, "max_tokens": 48, "temperature": 0},
            {"prompt": story, "max_tokens": 48, "temperature": 0.9, "top_p": 0.9, "seed": 11},
            {"prompt": "def fibonacci(n):", "max_tokens": 40, "temperature": 1.2, "top_k": 40, "min_p": 0.02, "seed": 12},
            {"prompt": words(300, 1), "max_tokens": 24, "temperature": 0.7, "repetition_penalty": 1.2, "seed": 13},
            {"prompt": words(300, 1) + " and", "max_tokens": 24, "temperature": 0.7, "seed": 14},
            {"prompt": "1", "max_tokens": 16, "temperature": 0.5, "seed": 15, "stop": ["9"]}]


def check_parity(worker, args):
    """The same texts and logits digests alone, eight at once, and on the reference device."""
    requests = parity_requests()
    alone = [worker.answer(**request) for request in requests]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda request: worker.answer(**request), requests * 4))
    assert together == alone * 4, "a neighbour changed an answer"
    if args.reference == "none":
        return f"{len(together)} answers at once equal those alone"
    reference = Worker(args.bin / "worker-orcd", args.model, args.reference, "--ctx", 2048)
    try:
        want = [reference.answer(**request) for request in requests]
    finally:
        reference.kill()
    different = [i for i, (a, b) in enumerate(zip(alone, want)) if a != b]
    assert not different, f"requests {different} differ from {args.reference}"
    return f"{len(want)} texts and digests equal to {args.reference}, also {len(together)} at once"


def check_residency(worker, args):
    status, body = worker.get("/v1/residency")
    report = json.loads(body)
    kind = "device" if args.device.startswith("cuda:") else "host"
    assert status == 200 and report["resident"], body
    assert all(a["pointer_type"] == kind and a["matches"] for a in report["arenas"]), body
    return f"{len(report['arenas'])} arenas of type {kind}, {report['time_ms']:.1f} ms"


def check_cancel(worker, args):
    """From POST /cancel to the stream's CANCELLED, with three neighbours decoding."""
    stop = threading.Event()

    def neighbour(seed):
        while not stop.is_set():
            for _ in worker.stream(prompt=words(20, seed), max_tokens=64, temperature=1.0, seed=seed):
                if stop.is_set():
                    return

    threads = [threading.Thread(target=neighbour, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    times = []
    try:
        for i in range(20):
            job, tokens, sent = f"cancel-{i}", 0, None
            for name, data in worker.stream(job_id=job, prompt=words(30, 100 + i), max_tokens=2000, temperature=1.3, seed=i):
                tokens += name == "token"
                if tokens == 3 and sent is None:
                    sent = time.monotonic()
                    worker.post("/cancel", {"job_id": job})
                if name == "error":
                    assert data["code"] == "CANCELLED", data
                    times.append((time.monotonic() - sent) * 1e3)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(times) >= 15, f"only {len(times)} were still running when they were cancelled"
    assert max(times) < CANCEL_LIMIT_MS or not args.strict, f"{max(times):.1f} ms"
    return f"max {max(times):.1f} ms of {len(times)}"


def check_first_token(worker, args):
    """A new prompt of about 512 tokens each time, so that no prefix is found."""
    times, lengths = [], []
    for i in range(24):
        job = f"first-{i}"
        begin = time.monotonic()
        for name, _ in worker.stream(job_id=job, prompt=f"{i} " + words(500, 1000 + i), max_tokens=2, temperature=0):
            if name == "token":
                times.append((time.monotonic() - begin) * 1e3)
                break
        with worker.changed:
            lengths += [e["prompt_tokens"] for e in worker.events if e.get("event") == "execute_start" and e["job_id"] == job]
    times = sorted(times[4:])
    p95 = times[int(len(times) * 0.95)]
    assert p95 < FIRST_TOKEN_LIMIT_MS or not args.strict, f"p95 {p95:.1f} ms"
    return f"p95 {p95:.1f} ms, median {times[len(times) // 2]:.1f} ms, prompts of {min(lengths)}-{max(lengths)} tokens"


def check_mixed(worker, args):
    """Mixed requests, some cancelled, some left by their reader: memory as /health, /metrics and NVML see it is unchanged."""
    nvml = Nvml(args.device)
    before, used = worker.vram(), nvml.used()
    outcomes, lock = {}, threading.Lock()

    def one(i):
        rng = random.Random(i)
        request = {"job_id": f"mixed-{i}", "prompt": words(rng.randint(1, 250), rng.randint(0, 60)),
                   "max_tokens": rng.randint(1, 48), "temperature": rng.choice((0, 0.7, 1.0, 1.5)),
                   "top_k": rng.choice((0, 1, 40)), "top_p": rng.choice((1.0, 0.9, 0.5)),
                   "min_p": rng.choice((0, 0.05)), "repetition_penalty": rng.choice((1.0, 1.2)), "seed": i}
        leave, cancel = rng.random() < 0.05, rng.random() < 0.15
        terminal = []
        for name, data in worker.stream(**request):
            if name == "token" and leave:
                return count("left")
            if name == "started" and cancel:
                worker.post("/cancel", {"job_id": request["job_id"]})
            if name in ("end", "error", "refused"):
                terminal.append(name if name == "end" else data.get("code", name))
        assert len(terminal) == 1, f"request {i} ended in {terminal}"
        count(terminal[0])

    def count(outcome):
        with lock:
            outcomes[outcome] = outcomes.get(outcome, 0) + 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(one, range(args.requests)))
    assert set(outcomes) <= {"end", "CANCELLED", "left"}, outcomes
    deadline = time.monotonic() + 10
    while json.loads(worker.get("/health")[1])["running"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert worker.vram() == before, f"{before} became {worker.vram()}"
    after = nvml.used()
    assert after == used, f"NVML: {used} became {after}"
    assert worker.get("/health")[0] == 200
    said = f"NVML {used}" if used is not None else "no NVML"
    return f"{args.requests} requests {outcomes}, {before[0]} bytes before and after, {said}"


def lose_context(binary, args, index):
    """One worker whose context is destroyed under four streams. Returns the seconds to its exit."""
    worker = Worker(binary, args.model, args.device, "--ctx", 1024, "--slots", 4)
    ready = threading.Semaphore(0)
    ends = [[] for _ in range(4)]

    def read(i):
        tokens = 0
        try:
            for name, data in worker.stream(prompt=words(10 + i, index), max_tokens=900, temperature=1.4, seed=index * 10 + i):
                tokens += name == "token"
                if tokens == 2 and name == "token":
                    ready.release()
                if name in ("end", "error", "refused"):
                    ends[i].append("end" if name == "end" else data.get("code") or data["error"]["code"])
        except OSError as error:
            ends[i].append(type(error).__name__)
        ready.release()

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            ready.acquire()
        worker.process.send_signal(signal.SIGUSR1)
        begin = time.monotonic()
        last_healthy = begin
        while worker.process.poll() is None and time.monotonic() < begin + EXIT_LIMIT_S:
            try:
                status = worker.get("/health", 2)[0]
            except (OSError, http.client.HTTPException):
                break
            if status == 200:
                last_healthy = time.monotonic()
            time.sleep(0.01)
        code = worker.process.wait(max(begin + EXIT_LIMIT_S - time.monotonic(), 0.01))
        took = time.monotonic() - begin
        for thread in threads:
            thread.join(5)
    finally:
        worker.kill()
    assert code != 0, "exit 0 after the context was lost"
    assert last_healthy - begin < HEALTH_LIMIT_S, f"healthy for {last_healthy - begin:.2f} s"
    assert all(len(end) == 1 for end in ends) and all(end in (["CUDA_ERROR"], ["end"]) for end in ends), ends
    assert ["CUDA_ERROR"] in ends, ends
    return took


def check_traps(args):
    took = [lose_context(args.bin / "trap_worker", args, i) for i in range(args.traps)]
    return f"{len(took)} of {args.traps} ended, each stream once, exit within {max(took):.2f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--reference", default="cpu")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--traps", type=int, default=20)
    args = parser.parse_args()
    args.strict = args.device.startswith("cuda:")
    failed = 0

    def check(name, function, *arguments):
        nonlocal failed
        try:
            print(f"{name}\tpass\t{function(*arguments)}", flush=True)
        except Exception as error:  # every failure becomes a line of the table
            failed += 1
            print(f"{name}\tfail\t{type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)

    worker = None

    def start():
        nonlocal worker
        begin = time.monotonic()
        worker = Worker(args.bin / "worker-orcd", args.model, args.device, "--ctx", 2048, "--slots", 8,
                        "--residency-check-sec", 1)
        health = json.loads(worker.get("/health")[1])
        assert health["status"] == "healthy" and health["device"] == args.device, health
        ready = worker.wait_for("ready", 1)
        assert ready["vram_bytes"] == ready["planned_bytes"] == health["vram_bytes_used"], (ready, health)
        return f"ready in {time.monotonic() - begin:.2f} s, plan == ledger == {ready['vram_bytes']} bytes"

    check("e2e start", start)
    if worker is not None:
        try:
            check("e2e parity", check_parity, worker, args)
            check("e2e residency", check_residency, worker, args)
            check("e2e cancel", check_cancel, worker, args)
            check("e2e first token", check_first_token, worker, args)
            check("e2e mixed", check_mixed, worker, args)
            check("e2e residency after", check_residency, worker, args)
            check("e2e stop", lambda: worker.stop() or "exit 0, stdout empty")
        finally:
            worker.kill()
    if args.traps and args.strict:
        check("e2e lost context", check_traps, args)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
