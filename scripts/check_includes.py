#!/usr/bin/env python3
"""Holds the sources to the arrows of docs/ARCHITECTURE.md: check_includes.py [ROOT].

Prints one line per forbidden #include, `file:line: message`, and exits 1 if there is any.
"""

import re
import sys
from pathlib import Path

# Folder of src/ -> folders whose headers it may include, besides its own. Arrows point down only.
BELOW_MODEL = {"base", "numerics", "gguf", "memory"}
BELOW_DEVICE = BELOW_MODEL | {"model", "kv", "sampling"}
BELOW_ENGINE = BELOW_DEVICE | {"device", "tokenizer", "jinja"}
ARROWS = {
    "base": set(),
    "numerics": {"base"},
    "gguf": {"base", "numerics"},
    "tokenizer": {"base", "gguf"},
    "jinja": {"base"},
    "memory": {"base"},
    "kv": {"base"},
    "sampling": {"base", "numerics"},
    "model": BELOW_MODEL,
    "device": BELOW_DEVICE,
    "device/cpu": BELOW_DEVICE | {"device"},
    "device/cuda": BELOW_DEVICE | {"device"},
    "device/no_cuda": BELOW_DEVICE | {"device"},
    "device/fault": BELOW_DEVICE | {"device"},
    "engine": BELOW_ENGINE,
    # The leaves do not know each other.
    "server": BELOW_ENGINE | {"engine"},
    "capi": BELOW_ENGINE | {"engine", "include"},
    "cli": BELOW_ENGINE | {"engine"},
    "include": set(),  # the C ABI stands alone
}

# Program files, not headers, of these folders see more than the table says, with the reason.
EXCEPTIONS = {
    ("device", "device/cpu"): "device.cpp opens the device that was named",
    ("device", "device/cuda"): "as above",
    ("device", "device/no_cuda"): "as above",
    ("device", "device/fault"): "as above",
    ("cli", "server"): "`serve` starts the server, which knows nothing of the command line",
}

# Prefix of an angle include -> (folders that may use it, folders whose headers may show it to others).
ANYWHERE = set(ARROWS) - {"base", "include"}
LIBRARIES = {
    "boost/": ({"server"}, {"server"}),
    "nlohmann/json_fwd.hpp": (ANYWHERE - {"numerics"}, ANYWHERE - {"numerics"}),  # names only: nobody pays
    "nlohmann/": (ANYWHERE - {"numerics"}, {"server", "cli"}),
    "spdlog/": ({"server", "cli"}, {"server", "cli"}),
    "fmt/": ({"server", "cli"}, {"server", "cli"}),
    "CLI/": ({"cli"}, {"cli"}),
    "prometheus/": ({"server"}, {"server"}),
    "pcre2.h": ({"tokenizer"}, set()),
    "utf8proc.h": ({"jinja", "tokenizer"}, set()),
    "cuda": ({"device/cuda"}, {"device/cuda"}),
    "cublas": ({"device/cuda"}, {"device/cuda"}),
    "cub/": ({"device/cuda"}, {"device/cuda"}),
    "nvml.h": ({"device/cuda"}, {"device/cuda"}),
    "mma.h": ({"device/cuda"}, {"device/cuda"}),
    "immintrin.h": ({"device/cpu", "sampling"}, {"device/cpu"}),
}

HEADERS = {".h", ".cuh", ".hpp"}
SOURCES = HEADERS | {".cpp", ".cu", ".c", ".inc"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def folder_of(path: str) -> str | None:
    """The key of ARROWS that the file (relative to src/, or include/...) belongs to; the longest match."""
    parts = Path(path).parts[:-1]
    for length in range(len(parts), 0, -1):
        key = "/".join(parts[:length])
        if key in ARROWS:
            return key
    return None


def check_quoted(root: Path, file: Path, folder: str, target: str) -> str | None:
    if target.startswith("orcd/"):
        other = "include"
        exists = (root / "include" / target).is_file()
    else:
        other = folder_of(target)
        exists = (root / "src" / target).is_file()
    if other is None or not exists:
        return f'"{target}" is not a path below src/ (or orcd/ below include/)'
    if other == folder or other in ARROWS[folder]:
        return None
    if (folder, other) in EXCEPTIONS and file.suffix not in HEADERS:
        return None
    return f'{folder} must not include {other}: "{target}"'


def check_angled(file: Path, folder: str, target: str) -> str | None:
    for prefix, (users, shown_by) in LIBRARIES.items():
        if not target.startswith(prefix):
            continue
        if folder not in users:
            return f"{folder} must not include <{target}>"
        if file.suffix in HEADERS and folder not in shown_by:
            return f"<{target}> must stay out of headers of {folder}: it makes every user of the header pay"
        return None
    return None


def check_file(root: Path, file: Path) -> list[str]:
    relative = file.relative_to(root)
    folder = folder_of(relative.relative_to("src").as_posix()) if relative.parts[0] == "src" else "include"
    if folder is None:
        return [f"{relative}: folder is not in the table of scripts/check_includes.py"]
    problems = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not (match := INCLUDE.match(line)):
            continue
        kind, target = match.groups()
        problem = check_quoted(root, file, folder, target) if kind == '"' else check_angled(file, folder, target)
        if problem:
            problems.append(f"{relative}:{number}: {problem}")
    return problems


def check_tree(root: Path) -> tuple[int, list[str]]:
    files = [path for top in ("src", "include") for path in sorted((root / top).rglob("*")) if path.suffix in SOURCES]
    return len(files), [problem for file in files for problem in check_file(root, file)]


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    n_files, problems = check_tree(root)
    if not n_files:
        problems.append(f"{root}: no sources found")
    print("\n".join(problems) or f"{n_files} files include only what their folder may")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
