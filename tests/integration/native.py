"""Building and running programs against the liborcd.so beside the worker under test, also one with sanitizers."""

import os
import subprocess
from pathlib import Path
from typing import Any

from worker_process import SANITIZER_REPORT, TIME_SCALE

REPO = Path(__file__).resolve().parents[2]
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]


def run(command: list[Any], env: dict[str, str], expect: int = 0, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            encoding="utf-8", errors="replace", env=env, timeout=timeout * TIME_SCALE)
    assert not SANITIZER_REPORT.search(result.stderr), result.stderr
    assert result.returncode == expect, f"{command}: exit {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result


def _symbols(library: Path) -> str:
    return subprocess.run(["nm", "-D", str(library)], capture_output=True, text=True, check=True).stdout


class Native:
    """A folder with compilers that add what the library was built with, and an environment in which programs find it."""

    def __init__(self, folder: Path, library_folder: Path) -> None:
        self.folder, self.library_folder = folder, library_folder
        self.library = library_folder / "liborcd.so.0"
        symbols = _symbols(self.library)
        self.sanitizer = next((name for name in ("asan", "tsan") if f"__{name}_init" in symbols), None)
        flags = {"asan": "-fsanitize=address,undefined", "tsan": "-fsanitize=thread", None: ""}[self.sanitizer]
        tools = folder / "bin"
        tools.mkdir(parents=True)
        for name, compiler in (("cc", "gcc"), ("c++", "g++")):
            (tools / name).write_text(f'#!/bin/sh\nexec {compiler} {flags} "$@"\n', encoding="utf-8")
            (tools / name).chmod(0o755)
        self.env = {**os.environ, "PATH": f"{tools}:/usr/bin:{os.environ['PATH']}", "LD_LIBRARY_PATH": str(library_folder)}

    def compile(self, source: Path) -> Path:
        """A C99 or C++17 program of one file."""
        compiler = ["cc", "-std=c99"] if source.suffix == ".c" else ["c++", "-std=c++17"]
        program = self.folder / f"{source.stem}-{source.suffix[1:]}"
        run([*compiler, *STRICT, "-I", REPO / "include", source, "-L", self.library_folder, "-Wl,--as-needed", "-lorcd",
             "-lpthread", "-ldl", "-o", program], self.env)
        return program

    def preloaded_env(self) -> dict[str, str]:
        """For programs that are linked without sanitizers: their library comes first, and what throws behind it."""
        env = dict(self.env)
        if self.sanitizer:
            names = (f"lib{self.sanitizer}.so", "libstdc++.so")
            env["LD_PRELOAD"] = " ".join(
                subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
                for name in names)
        return env

    def python_env(self) -> dict[str, str]:
        env = {**self.preloaded_env(), "ORCD_LIBRARY": str(self.library), "PYTHONPATH": str(REPO / "examples" / "python")}
        env["ASAN_OPTIONS"] = f"{env.get('ASAN_OPTIONS', '')}:detect_leaks=0"  # of the interpreter's own
        return env

    def cargo(self) -> Path:
        """Builds the Rust crate; the folder with its program and library."""
        target = self.folder / "rust"
        env = {**self.env, "ORCD_LIB_DIR": str(self.library_folder), "CARGO_TARGET_DIR": str(target), "RUSTFLAGS": "-D warnings"}
        run(["cargo", "build", "--offline", "--locked", "--manifest-path", REPO / "examples" / "rust" / "Cargo.toml"], env)
        return target / "debug"
