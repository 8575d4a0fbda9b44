#!/usr/bin/env python3
"""Holds docs/TROUBLESHOOTING.md to the errors that the sources raise.

  check_errors.py            fails when the tables of the page are not those of the sources
  check_errors.py --write    writes the tables; what each code means is written by hand, between them

An error is `Error(ErrorCode::kX, MESSAGE, {VALUES}, HINT)`. A part of the message that is put together at run time shows
as an ellipsis. Errors whose message is only known then (of one made for a test, a library or a caller) have no row.
"""

import re
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PAGE = Path("docs") / "TROUBLESHOOTING.md"
SITE = re.compile(r"\bError\(\s*(?:orcd::)?ErrorCode::k(\w+),")
LITERALS = re.compile(r'"((?:[^"\\]|\\.)*)"')
VALUE = re.compile(r'\{\s*"(\w+)"\s*,')
TABLE = "| message | values | hint |\n|---|---|---|\n"


def code_name(constant: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", constant).upper()


def arguments(text: str, begin: int) -> list[str]:
    """The arguments of a call from behind its opening bracket, split at the commas of the first level."""
    parts, depth, start, i = [], 0, begin, begin
    while i < len(text):
        c = text[i]
        if c == '"':
            i = LITERALS.match(text, i).end() - 1
        elif c in "({[":
            depth += 1
        elif c in ")}]":
            if depth == 0:
                return [*parts, text[start:i]]
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
        i += 1
    return parts


def joined(expression: str) -> str:
    """String literals of an expression with an ellipsis where something else stands; "" when it has none."""
    pieces, last = [], 0
    for literal in LITERALS.finditer(expression):
        between = expression[last : literal.start()].strip()
        if "?" in between or between == ":":
            pieces.append(" / " if pieces else "")
        elif re.search(r"[\w)]", re.sub(r"std::(string|move)\b|\bstring\b", "", between)):
            pieces.append("...")
        pieces.append(literal[1])
        last = literal.end()
    if not pieces:
        return ""
    rest = re.sub(r"[\s()]", "", expression[last:])
    return re.sub(r"\s+", " ", "".join(pieces) + ("..." if rest else "")).strip()


def errors_of(text: str) -> list[tuple[str, str, str, str]]:
    """(code, message, values, hint) of each error that a source raises."""
    found = []
    for site in SITE.finditer(text):
        parts = arguments(text, site.end())
        message = joined(parts[0])
        if not message.strip(". /"):
            continue
        values = ", ".join(dict.fromkeys(VALUE.findall(parts[1]))) if len(parts) > 1 else ""
        found.append((code_name(site[1]), message, values, joined(parts[2]) if len(parts) > 2 else ""))
    return found


def tables(repo: Path) -> dict[str, str]:
    rows: dict[str, set[str]] = {}
    for path in sorted((repo / "src").rglob("*")):
        if path.suffix in (".h", ".cpp", ".cu", ".cuh"):
            for code, *cells in errors_of(path.read_text(encoding="utf-8")):
                rows.setdefault(code, set()).add("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return {code: TABLE + "".join(sorted(lines)) for code, lines in rows.items()}


def rewritten(page: str, wanted: dict[str, str]) -> tuple[str, list[str]]:
    """The page with these tables, and what is wrong with the headings."""
    problems = []
    for code, table in wanted.items():
        heading = re.search(rf"^## {code}\b.*$", page, re.MULTILINE)
        if not heading:
            problems.append(f"{PAGE} has no heading '## {code}'")
            continue
        end = page.find("\n## ", heading.end())
        section = page[heading.end() : end if end >= 0 else len(page)]
        kept = re.sub(r"\n\| message \|.*?(?=\n\n|\Z)", "", section.rstrip("\n"), flags=re.DOTALL).rstrip()
        page = page[: heading.end()] + kept + "\n\n" + table.rstrip("\n") + "\n" + (page[end:] if end >= 0 else "")
    return page, problems


def main() -> int:
    page = (REPO / PAGE).read_text(encoding="utf-8")
    wanted = tables(REPO)
    written, problems = rewritten(page, wanted)
    if "--write" in sys.argv[1:]:
        (REPO / PAGE).write_text(written, encoding="utf-8")
    elif written != page:
        problems.append(f"{PAGE} does not tell the errors that the sources raise: run scripts/check_errors.py --write")
    print("\n".join(problems) or f"{sum(t.count(chr(10)) - 2 for t in wanted.values())} errors of {len(wanted)} codes stand in {PAGE}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
