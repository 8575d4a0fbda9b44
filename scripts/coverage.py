#!/usr/bin/env python3
"""How much of src the tests reach, by clang's source-based coverage; fails under the floors.

  scripts/coverage.py BUILD_FOLDER PROFILE... [--missing]     after a run of scripts/test coverage

Two figures: lines of all of src, and branches of the parsers, the files that read bytes from outside. A branch is one
outcome of one condition as the source has it, each operand of && and || by itself, so that nothing needs to be excluded:
exceptions, destructors and inlining make none. --missing lists the branches of the parsers that no test takes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
MIN_LINES, MIN_PARSER_BRANCHES = 90.0, 95.0

# Each of them reads bytes that somebody else made: model files, tokenizer.json, templates, HTTP.
PARSERS = [
    "src/gguf/*.cpp", "src/gguf/*.h",
    "src/tokenizer/hf_*.cpp", "src/tokenizer/hf_*.h", "src/tokenizer/vocabulary.cpp", "src/tokenizer/gguf_bpe.cpp",
    "src/tokenizer/gguf_spm.cpp", "src/tokenizer/pattern.cpp", "src/tokenizer/special_matcher.cpp",
    "src/jinja/lexer.cpp", "src/jinja/lexer.h", "src/jinja/parser.cpp", "src/jinja/parser.h",
    "src/jinja/expression_parser.cpp", "src/jinja/token_stream.h", "src/jinja/json.cpp",
    "src/server/request_parser.cpp", "src/server/http.cpp", "src/server/router.cpp", "src/server/json_input.cpp",
    "src/server/json_fields.h", "src/server/execute_request.cpp", "src/server/text_requests.cpp",
    "src/server/chat_messages.cpp", "src/server/chat_request.cpp", "src/server/text_completion_request.cpp",
    "src/server/openai_fields.cpp", "src/server/sampling_fields.cpp", "src/server/callback.cpp", "src/server/receipt.cpp",
    "src/engine/harmony.cpp", "src/engine/request_limits.cpp",
]


def percent(covered: int, count: int) -> float:
    return 100.0 * covered / count if count else 100.0


def is_parser(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in PARSERS)


def export(build: Path, profiles: list[Path]) -> dict:
    """llvm-cov's JSON over every program and library of the build."""
    programs = [path for path in sorted((build / "bin").iterdir()) if os.access(path, os.X_OK)]
    objects = [argument for path in [*programs[1:], build / "lib" / "liborcd.so"] for argument in ("-object", path)]
    with tempfile.NamedTemporaryFile(suffix=".profdata") as merged:
        subprocess.run(["llvm-profdata-14", "merge", "-sparse", *profiles, "-o", merged.name], check=True)
        out = subprocess.run(["llvm-cov-14", "export", programs[0], *objects, f"-instr-profile={merged.name}",
                              "-skip-functions", str(REPO / "src")], check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def branches_of(file: dict) -> dict[tuple[int, int, int, int], list[int]]:
    """{place of a condition: [times true, times false]}, instances of a template together."""
    places: dict[tuple[int, int, int, int], list[int]] = {}
    for line, column, end_line, end_column, true, false, *_ in file["branches"]:
        counts = places.setdefault((line, column, end_line, end_column), [0, 0])
        counts[0] += true
        counts[1] += false
    return places


def missing_branches(name: str, places: dict) -> list[str]:
    text = (REPO / name).read_text(encoding="utf-8").splitlines()
    out = []
    for (line, column, end_line, end_column), counts in sorted(places.items()):
        condition = text[line - 1][column - 1:end_column - 1] if line == end_line else text[line - 1][column - 1:] + " ..."
        out += [f"{name}:{line}: never {word}: {condition}" for word, n in zip(("true", "false"), counts) if n == 0]
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("profiles", type=Path, nargs="+")
    parser.add_argument("--missing", action="store_true")
    options = parser.parse_args()
    lines = [0, 0]
    taken = [0, 0]
    missing = []
    print(f"{'':45} {'lines':>14} {'':>7} {'branches':>11}")
    files = {str(Path(file["filename"]).resolve().relative_to(REPO)): file
             for file in export(options.build, options.profiles)["data"][0]["files"]}
    for name, file in sorted(files.items()):
        if not name.startswith("src/"):
            continue
        summary, places = file["summary"]["lines"], branches_of(file)
        n_taken = sum(count > 0 for counts in places.values() for count in counts)
        lines = [lines[0] + summary["covered"], lines[1] + summary["count"]]
        mark = ""
        if is_parser(name):
            mark = "parser"
            taken = [taken[0] + n_taken, taken[1] + 2 * len(places)]
            missing += missing_branches(name, places)
        print(f"{name:45} {summary['covered']:6} of {summary['count']:5} {percent(summary['covered'], summary['count']):6.1f} % "
              f"{n_taken:4} of {2 * len(places):4} {mark}")
    if options.missing:
        print("\n".join(missing))
    line_share, branch_share = percent(*lines), percent(*taken)
    print(f"lines of src: {line_share:.2f} % ({lines[0]} of {lines[1]}), at least {MIN_LINES:g} %")
    print(f"branches of the parsers: {branch_share:.2f} % ({taken[0]} of {taken[1]}), at least {MIN_PARSER_BRANCHES:g} %")
    return 0 if line_share >= MIN_LINES and branch_share >= MIN_PARSER_BRANCHES and taken[1] else 1


if __name__ == "__main__":
    sys.exit(main())
