#!/usr/bin/env python3
"""Prompt and decode speed of llama.cpp and of worker-orcd on the same file, threads and machine, in one run.

llama.cpp comes through llama-cpp-python (`CMAKE_ARGS=-DGGML_NATIVE=ON pip install llama-cpp-python` builds it for this
machine); its settings are its defaults but for the number of threads and batches of 512. The two take turns, round by
round, so that a machine that slows down slows both; each figure is the median of the rounds.

  prefill  one batch of -p random tokens into an empty cache, logits of the last one
  decode   -n single tokens from an empty cache (or after --depth random ones), greedily: the argmax is inside the time

JSON on stdout, a table on stderr. Exit 0 whatever the ratios are, unless --need-prefill or --need-decode is not reached (1).
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

DEFAULT_WORKER = Path(__file__).resolve().parent.parent / "build" / "release" / "bin" / "worker-orcd"
BATCH = 512


class Peer:
    """llama.cpp with one model and one context, kept loaded over the rounds."""

    def __init__(self, args):
        import llama_cpp
        import numpy

        self.lib, self.np, self.args = llama_cpp, numpy, args
        quiet = llama_cpp.llama_log_callback(lambda level, text, user: None)
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        self.keep = quiet  # the callback must live as long as the library may log
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(args.model).encode(), model_params)
        if not self.model:
            sys.exit(f"error: llama.cpp does not load {args.model}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = max(args.prompt, args.depth + args.gen)
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = args.threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit("error: llama.cpp makes no context")
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.rng = numpy.random.default_rng(args.seed)

    def describe(self):
        info = self.lib.llama_print_system_info().decode()
        return {"name": "llama.cpp", "llama_cpp_python": self.lib.__version__, "system": info}

    def _decode(self, tokens):
        array = (self.lib.llama_token * len(tokens))(*tokens)
        for start in range(0, len(tokens), BATCH):
            n = min(BATCH, len(tokens) - start)
            part = ctypes.cast(ctypes.byref(array, start * ctypes.sizeof(self.lib.llama_token)), self.lib.llama_token_p)
            status = self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(part, n))
            if status:
                sys.exit(f"error: llama_decode returns {status}")
        logits = self.lib.llama_get_logits_ith(self.context, -1)  # waits for the result
        return self.np.ctypeslib.as_array(logits, shape=(self.vocab_size,))

    def _random_tokens(self, n):
        return self.rng.integers(0, self.vocab_size, n).tolist()

    def _empty(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def prefill(self):
        """Tokens per second."""
        tokens = self._random_tokens(self.args.prompt)
        self._empty()
        start = time.perf_counter()
        self._decode(tokens)
        return len(tokens) / (time.perf_counter() - start)

    def decode(self):
        """Tokens per second."""
        self._empty()
        if self.args.depth:
            self._decode(self._random_tokens(self.args.depth))
        token = self._random_tokens(1)[0]
        start = time.perf_counter()
        for _ in range(self.args.gen):
            token = int(self._decode([token]).argmax())
        return self.args.gen / (time.perf_counter() - start)

    def round(self):
        return {"prefill_tokens_per_s": self.prefill(), "decode_tokens_per_s": self.decode()}


def worker_round(args):
    command = [str(args.worker), "bench", "--model", str(args.model), "--device", "cpu", "--threads", str(args.threads)]
    command += ["-p", str(args.prompt), "-n", str(args.gen), "-r", "1", "--json"]
    if args.depth:
        command += ["--depth", str(args.depth)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} exits {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


def summary(rounds):
    """Median, lowest and highest of each speed."""
    out = {}
    for key in ("prefill_tokens_per_s", "decode_tokens_per_s"):
        values = [r[key] for r in rounds]
        out[key] = statistics.median(values)
        out[key.replace("_tokens_per_s", "_range")] = [min(values), max(values)]
    return out


def table(result):
    rows = [("", "prefill tok/s", "decode tok/s")]
    for side in ("peer", "worker"):
        if side in result:
            speeds = result[side]
            rows.append((speeds["name"], f"{speeds['prefill_tokens_per_s']:.1f}", f"{speeds['decode_tokens_per_s']:.1f}"))
    if "ratio" in result:
        rows.append(("ratio", f"{result['ratio']['prefill']:.2f}x", f"{result['ratio']['decode']:.2f}x"))
    head = "{model}, {threads} threads, p{prompt_tokens} n{gen_tokens} d{depth}".format_map(result)
    return "\n".join([head, *(f"{name:<12} {prefill:>14} {decode:>14}" for name, prefill, decode in rows)])


def compare(args):
    peer = Peer(args)
    peer.round()  # warms caches and the page cache; the worker's bench warms up by itself
    peer_rounds, worker_rounds = [], []
    for _ in range(args.rounds):
        peer_rounds.append(peer.round())
        if not args.peer_only:
            worker_rounds.append(worker_round(args))
    result = {
        "model": args.model.name,
        "threads": args.threads,
        "prompt_tokens": args.prompt,
        "gen_tokens": args.gen,
        "depth": args.depth,
        "rounds": args.rounds,
        "peer": peer.describe() | summary(peer_rounds),
    }
    if worker_rounds:
        kept = ("bytes_per_token", "bandwidth_bytes_per_s", "bandwidth_share", "isa")
        last = {key: worker_rounds[-1][key] for key in kept if key in worker_rounds[-1]}
        result["worker"] = {"name": "worker-orcd"} | last | summary(worker_rounds)
        result["ratio"] = {
            kind: result["worker"][f"{kind}_tokens_per_s"] / result["peer"][f"{kind}_tokens_per_s"]
            for kind in ("prefill", "decode")
        }
    return result


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, help="GGUF file")
    parser.add_argument("--threads", type=int, required=True, help="of both")
    parser.add_argument("--worker", type=Path, default=DEFAULT_WORKER, help="binary (default build/release/bin/worker-orcd)")
    parser.add_argument("--peer-only", action="store_true", help="measure llama.cpp alone")
    parser.add_argument("-p", dest="prompt", type=int, default=512, help="prompt tokens (512)")
    parser.add_argument("-n", dest="gen", type=int, default=128, help="decoded tokens (128)")
    parser.add_argument("--depth", type=int, default=0, help="tokens in the cache before decoding (0)")
    parser.add_argument("-r", dest="rounds", type=int, default=5, help="rounds (5)")
    parser.add_argument("--seed", type=int, default=1, help="of the random tokens")
    parser.add_argument("--need-prefill", type=float, metavar="X", help="exit 1 if the ratio is below X")
    parser.add_argument("--need-decode", type=float, metavar="X", help="exit 1 if the ratio is below X")
    args = parser.parse_args(argv)
    if min(args.threads, args.prompt, args.gen, args.rounds) < 1 or args.depth < 0:
        parser.error("counts must be positive")
    if not args.model.is_file():
        parser.error(f"{args.model} is not a file")
    if not args.peer_only and not args.worker.is_file():
        parser.error(f"{args.worker} is not there; build it, or say --worker or --peer-only")
    return args


def main(argv=None):
    args = parse_args(argv)
    result = compare(args)
    print(table(result), file=sys.stderr)
    print(json.dumps(result))
    for kind, need in (("prefill", args.need_prefill), ("decode", args.need_decode)):
        if need and result.get("ratio", {}).get(kind, 0) < need:
            sys.exit(f"error: {kind} is below {need} times llama.cpp")


if __name__ == "__main__":
    main()
