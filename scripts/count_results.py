#!/usr/bin/env python3
"""Adds up the test reports of one build: count_results.py REPORTS_DIR [PROBLEMS].

Reads gtest/*.xml (cases), ctest.xml (programs; one that left no gtest report counts as one test) and pytest.xml.
PROBLEMS is the number of steps that failed: where no report explains them, they count as failures themselves.
Prints 'N passed, N failed' alone on the last line; exits 1 unless something passed and nothing failed.
"""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except ElementTree.ParseError:  # written by a process that died
        return ElementTree.Element("broken")


def suite_counts(root: ElementTree.Element) -> tuple[int, int]:
    """(passed, failed) over all testcase elements; skipped ones count as neither."""
    passed = failed = 0
    for case in root.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is None and case.get("status") not in ("notrun", "disabled"):
            passed += 1
    return passed, failed


def count(reports: Path) -> tuple[int, int]:
    programs = {path.stem: suite_counts(parse(path)) for path in sorted(reports.glob("gtest/*.xml"))}
    passed = sum(counts[0] for counts in programs.values())
    failed = sum(counts[1] for counts in programs.values())
    ctest = reports / "ctest.xml"
    for case in parse(ctest).iter("testcase") if ctest.is_file() else ():
        ok = case.get("status") == "run"
        cases = programs.get(case.get("name", ""))
        if cases is None:
            passed, failed = passed + ok, failed + (not ok)
        elif not ok and cases[1] == 0:  # every case passed, then the process died or a sanitizer reported
            failed += 1
    if (reports / "pytest.xml").is_file():
        more = suite_counts(parse(reports / "pytest.xml"))
        passed, failed = passed + more[0], failed + more[1]
    return passed, failed


def main() -> int:
    reports, problems = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    passed, failed = count(reports)
    if problems and not failed:
        failed = problems
    (reports / "total").write_text(f"{passed} {failed}\n")
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
