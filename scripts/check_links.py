#!/usr/bin/env python3
"""Every relative link and anchor in the Markdown files must lead somewhere: check_links.py [ROOT].

Paths in `backticks` that name a folder of this project must exist too, so that the documents follow the tree.
Prints `file:line: message` per problem and exits 1 if there is any.
"""

import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
NAMED_PATH = re.compile(r"`((?:src|docs|scripts|tests|tools|bench|include|examples|deploy|cmake)/[\w./-]*)`")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")


def tracked(root: Path) -> list[str]:
    listing = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True, check=True)
    return [name for name in listing.stdout.decode().split("\0") if name]


def lines_outside_code(text: str) -> list[tuple[int, str]]:
    result, fenced = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            result.append((number, line))
    return result


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to headings."""
    seen: dict[str, int] = {}
    for _, line in lines_outside_code(text):
        if match := HEADING.match(line):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match.group(1)).lower()
            slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
            seen[slug] = seen.get(slug, -1) + 1
            if seen[slug]:
                seen[f"{slug}-{seen[slug]}"] = 0
    return set(seen)


def check_link(root: Path, file: Path, target: str) -> str | None:
    if re.match(r"[a-z][a-z0-9+.-]*:", target):  # another site; not asked, the check works without a network
        return None
    path_part, _, anchor = target.partition("#")
    destination = (root / path_part.lstrip("/") if path_part.startswith("/") else file.parent / path_part) if path_part else file
    if not destination.resolve().is_relative_to(root.resolve()):
        return f"{target} leads out of the project"
    if not destination.exists():
        return f"{target} does not exist"
    if anchor and destination.suffix == ".md" and anchor not in anchors(destination.read_text(encoding="utf-8")):
        return f"{target}: no heading #{anchor}"
    return None


def check_file(root: Path, file: Path, names: list[str]) -> list[str]:
    problems = []
    for number, line in lines_outside_code(file.read_text(encoding="utf-8")):
        found = [check_link(root, file, target) for target in LINK.findall(line)]
        for path in NAMED_PATH.findall(line):
            if not any(name == path or name.startswith(path.rstrip("/") + "/") for name in names):
                found.append(f"`{path}` is not in the tree")
        problems += [f"{file.relative_to(root)}:{number}: {problem}" for problem in found if problem]
    return problems


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    names = tracked(root)
    pages = [root / name for name in names if name.endswith(".md") and (root / name).is_file()]
    problems = [problem for page in pages for problem in check_file(root, page, names)]
    print("\n".join(problems) or f"{len(pages)} documents: every link leads somewhere")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
