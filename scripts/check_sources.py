#!/usr/bin/env python3
"""Rules of CONTRIBUTING.md that a compiler does not know: check_sources.py [ROOT].

No marker of unfinished work; no path of somebody's machine; headers open with their purpose; #pragma once; tests that
neither skip nor assert nothing; text files end in one newline. Files past 500 lines are listed, not refused.
Prints `file:line: message` per problem and exits 1 if there is any.
"""

import re
import subprocess
import sys
from pathlib import Path

MAX_LINES = 500
CODE = {".h", ".hpp", ".cuh", ".cpp", ".cu", ".c", ".py", ".rs", ".cmake"}
TEXT = CODE | {".md", ".txt", ".json", ".yml", ".yaml", ".sh", ".ini"}
# Written in halves so that this file passes its own rules.
MARKERS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(work|tmp/w|home/\w+|root)/")
EMPTY_TESTS = re.compile("GTEST_" + r"SKIP|DIS" + r"ABLED_\w|EXPECT_TRUE\(true\)|SUC" + r"CEED\(\)")
MARKERS_ALLOWED_IN = {"docs/FUTURE_WORK.md"}


def tracked_files(root: Path) -> list[Path]:
    listing = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True, check=True)
    return [root / name for name in listing.stdout.decode().split("\0") if name and (root / name).is_file()]


def is_text(path: Path) -> bool:
    return path.suffix in TEXT or (path.suffix == "" and path.parent.name in ("scripts", ".ci"))


def line_problems(name: str, lines: list[str]) -> list[str]:
    problems = []
    for number, line in enumerate(lines, 1):
        if name not in MARKERS_ALLOWED_IN and (match := MARKERS.search(line)):
            problems.append(f"{name}:{number}: leftover marker {match.group()}")
        if match := MACHINE_PATHS.search(line):
            problems.append(f"{name}:{number}: path of one machine: {match.group()}")
        if name.startswith("tests/") and (match := EMPTY_TESTS.search(line)):
            problems.append(f"{name}:{number}: a test that cannot fail: {match.group()}")
    return problems


def check_file(root: Path, path: Path) -> list[str]:
    name = path.relative_to(root).as_posix()
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    problems = line_problems(name, lines)
    if text and (not text.endswith("\n") or text.endswith("\n\n")):
        problems.append(f"{name}:{len(lines)}: the file must end in exactly one newline")
    if path.suffix in (".h", ".hpp", ".cuh"):
        if not lines or not lines[0].startswith(("//", "/*")):
            problems.append(f"{name}:1: a header opens with one to three lines of purpose")
        if name.startswith("src/") and "#pragma once" not in lines:
            problems.append(f"{name}:1: no #pragma once")
    return problems


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    files = [path for path in tracked_files(root) if is_text(path)]
    problems = [problem for path in files for problem in check_file(root, path)]
    for path in files:
        n_lines = len(path.read_text(encoding="utf-8").splitlines())
        if path.suffix in CODE and n_lines > MAX_LINES:
            print(f"note: {path.relative_to(root)} has {n_lines} lines: it probably has two subjects")
    print("\n".join(problems) or f"{len(files)} text files keep the rules")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
