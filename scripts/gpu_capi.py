#!/usr/bin/env python3
"""The C library on a GPU, through examples/python/orcd.py and ctypes.

  ORCD_LIBRARY=DIR/liborcd.so.0 gpu_capi.py --model SMALL.gguf [--device cuda:0] [--cycles 100]

The same requests give the same tokens and logits digests on the device and on the CPU, and two models may lie on the device at once;
memory is as planned; loading and unloading leaves nothing behind, in the process or on the device. Each check prints one
line, `name<TAB>pass|fail<TAB>figure`; the exit code is 1 when one fails.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples" / "python"))
import orcd  # noqa: E402  (found by the line above)

REQUESTS = ({"max_tokens": 64, "temperature": 0}, {"max_tokens": 64, "temperature": 0.9, "top_p": 0.95, "seed": 7})
PROMPT = "The history of the lighthouse begins with a fire on a hill. "
WARM_CYCLES = 10  # the driver's own first allocations
RSS_LIMIT = 1 << 20


def answers(model) -> list:
    out = []
    for request in REQUESTS:
        with model.start(PROMPT, **request) as generation:
            ids = [token.id for token in generation if token.id is not None]
            out.append((ids, generation.result()["logits_digest"]))
    return out


def free_bytes(context, device: str) -> int:
    return next(info["free_bytes"] for info in context.devices() if info["name"] == device)


def same_bits(context, arguments) -> str:
    limits = {"context_tokens": 512, "n_slots": 2}
    with context.load(arguments.model, "cpu", **limits) as cpu:
        expected = answers(cpu)
    plan = context.plan(arguments.model, arguments.device, **limits)
    with context.load(arguments.model, arguments.device, **limits) as one, \
            context.load(arguments.model, arguments.device, **limits) as other:
        memory = one.memory()
        if memory["total_bytes"] != memory["planned_bytes"] or memory["total_bytes"] != plan["total_bytes"]:
            raise AssertionError(f"plan {plan['total_bytes']}, memory {memory}")
        if not one.check_residency()["resident"]:
            raise AssertionError("not resident")
        for model in (one, other, one):
            if answers(model) != expected:
                raise AssertionError("the device's answers are not the CPU's")
    n_tokens = sum(len(ids) for ids, _ in expected)
    return f"{n_tokens} tokens and their digests equal on cpu and {arguments.device}, plan {plan['total_bytes']} bytes"


def cycles(context, arguments) -> str:
    limits = {"context_tokens": 256, "n_slots": 1}
    for cycle in range(WARM_CYCLES + arguments.cycles):
        if cycle == WARM_CYCLES:
            before, free_before = context.process_memory(), free_bytes(context, arguments.device)
        with context.load(arguments.model, arguments.device, **limits) as model:
            if cycle % 10 == 0:
                with model.start(PROMPT, max_tokens=4, temperature=0) as generation:
                    list(generation)
    after, free_after = context.process_memory(), free_bytes(context, arguments.device)
    grown = after["resident_bytes"] - before["resident_bytes"]
    figure = (f"{arguments.cycles} loads and unloads: resident {grown:+d} bytes, device {after['device_bytes']} bytes held, "
              f"{free_before - free_after} fewer free")
    if grown > RSS_LIMIT or after["device_bytes"] != 0 or after["pinned_host_bytes"] != 0 or free_after < free_before:
        raise AssertionError(figure)
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--cycles", type=int, default=100)
    arguments = parser.parse_args()
    failed = False
    with orcd.Context() as context:
        for name, check in (("C library", same_bits), ("C library, cycles", cycles)):
            try:
                print(f"{name}\tpass\t{check(context, arguments)}", flush=True)
            except (AssertionError, orcd.OrcdError) as error:
                failed = True
                print(f"{name}\tfail\t{error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
