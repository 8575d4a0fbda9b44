#!/usr/bin/env python3
"""Compares the speeds of the worker's parts with a committed baseline; fails where one became much slower.

  bench_smoke.py [--binary FILE] [--model FILE] [--baseline FILE] [--renew]

Nothing is compared with seconds: bench/ratios.cpp gives each part as a ratio to a fixed loop of the same process, for
every instruction set that this machine runs. A ratio under 0.6 of its baseline fails, after it was measured three times:
half the speed is found, what another processor of the same kind or a busy machine changes is not. --renew writes the
medians of five runs of this machine into the baseline; do it when a part has become faster, or is slower for a reason that
the commit tells. A part or an instruction set that the baseline lacks is a failure too: it would be guarded by nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from release_build import need_built

REPO = Path(__file__).resolve().parents[1]
LEAST = 0.6
ATTEMPTS = 3
ISAS = ("scalar", "avx2", "avx512")

Ratios = dict[str, float]


def measure(binary: Path, model: Path, isa: str) -> Ratios | None:
    """The ratios under this instruction set; None where the machine does not have it."""
    run = subprocess.run([binary, model], env={**os.environ, "ORCD_ISA": isa}, capture_output=True, text=True)
    if run.returncode == 1 and "ORCD_ISA" in run.stderr:
        return None
    if run.returncode != 0:
        raise RuntimeError(f"{binary}: exit {run.returncode}: {run.stderr}")
    result = json.loads(run.stdout)
    if result["isa"] != isa:
        raise RuntimeError(f"asked for {isa}, {binary} measured {result['isa']}")
    return result["ratios"]


def problems(isa: str, measured: Ratios, baseline: dict[str, Ratios]) -> list[str]:
    """What the comparison finds, a line each."""
    known = baseline.get(isa)
    if known is None:
        return [f"{isa}: not in the baseline"]
    out = [f"{isa} {name}: not in the baseline" for name in measured if name not in known]
    out += [f"{isa} {name}: in the baseline, and not measured" for name in known if name not in measured]
    out += [f"{isa} {name}: {measured[name] / known[name]:.2f} of its baseline" for name in known
            if name in measured and not measured[name] >= LEAST * known[name]]
    return out


def best_of(runs: list[Ratios]) -> Ratios:
    return {name: max(run[name] for run in runs if name in run) for name in runs[0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, default=REPO / "build" / "release" / "bin" / "bench_ratios")
    parser.add_argument("--model", type=Path, default=Path(os.environ.get("ORCD_MODELS_DIR") or REPO / "models") /
                        "smollm2-135m-instruct-q4_1.gguf")
    parser.add_argument("--baseline", type=Path, default=REPO / "bench" / "baseline.json")
    parser.add_argument("--renew", action="store_true")
    options = parser.parse_args()
    need_built(options.binary)
    if options.renew:
        renewed: dict[str, Ratios] = {}
        for isa in ISAS:
            if (first := measure(options.binary, options.model, isa)) is not None:
                runs = [first] + [measure(options.binary, options.model, isa) or {} for _ in range(4)]
                renewed[isa] = {name: float(f"{statistics.median(run[name] for run in runs):.4g}") for name in first}
        options.baseline.write_text(json.dumps(renewed, indent=1) + "\n", encoding="utf-8")
        return 0
    baseline = json.loads(options.baseline.read_text(encoding="utf-8"))
    found: list[str] = []
    for isa in ISAS:
        runs: list[Ratios] = []
        wrong: list[str] = []
        for _ in range(ATTEMPTS):
            ratios = measure(options.binary, options.model, isa)
            if ratios is None:
                break
            runs.append(ratios)
            if not (wrong := problems(isa, best_of(runs), baseline)):
                break
        if runs and isa in baseline:
            slowest = min(best_of(runs).items(), key=lambda item: item[1] / baseline[isa].get(item[0], item[1]))
            print(f"{isa}: {len(runs[0])} ratios in {len(runs)} run(s); the lowest: {slowest[0]}, "
                  f"{slowest[1] / baseline[isa].get(slowest[0], slowest[1]):.2f} of its baseline")
        elif not runs:
            print(f"{isa}: not on this machine")
        found += wrong
    print("\n".join(found) if found else f"no ratio is under {LEAST} of its baseline")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
