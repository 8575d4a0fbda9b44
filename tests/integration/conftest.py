"""Fixtures of the integration tests: the real binary, real models, real sockets. See tests/README.md."""

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from native import Native
from worker_process import SANITIZER_REPORT, TIME_SCALE, Worker

REPO = Path(__file__).resolve().parents[2]


def _path_from_env(name: str, default: Path) -> Path:
    return Path(os.environ.get(name) or default).absolute()


def _model(name: str) -> Path:
    path = _path_from_env("ORCD_MODELS_DIR", REPO / "models") / name
    assert path.is_file(), f"{path} is missing: run scripts/setup, or set ORCD_MODELS_DIR"
    return path


@pytest.fixture(scope="session")
def binary() -> Path:
    path = _path_from_env("ORCD_BINARY", REPO / "build" / "release" / "bin" / "worker-orcd")
    assert path.is_file(), f"{path} is missing: run scripts/test, or set ORCD_BINARY"
    return path


@pytest.fixture(scope="session")
def native(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Native:
    """Builds and runs programs against the liborcd.so of the same build."""
    return Native(tmp_path_factory.mktemp("native"), binary.parent.parent / "lib")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, Q4_1: llama family, gguf-bpe, has a chat template."""
    return _model("smollm2-135m-instruct-q4_1.gguf")


@pytest.fixture(scope="session")
def gemma3() -> Path:
    """Gemma-3-270M, Q4_K_M: gemma3 family, gguf-spm, a base model without a chat template."""
    return _model("gemma-3-270m-q4_k_m.gguf")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of two small layers with random weights, for tests in which the text does not matter."""
    sys.path.insert(0, str(REPO / "tools"))
    import make_model

    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    make_model.make_model(path, make_model.PRESETS["tiny-llama"], seed=1)
    return path


SHARED_DIR = _path_from_env("ORCD_SHARED_DIR", REPO.parent / "shared")
HAS_SHARED = (SHARED_DIR / "data").is_dir()


@pytest.fixture(scope="session")
def shared_dir() -> Path | None:
    """Vocabularies of other families. They live beside the checkout, if anywhere: see the marker `shared`."""
    return SHARED_DIR if HAS_SHARED else None


def pytest_report_header() -> str:
    return f"vocabularies of other families: {SHARED_DIR if HAS_SHARED else f'not in {SHARED_DIR}; tests marked `shared` are left out'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if HAS_SHARED:
        return
    left_out = [item for item in items if item.get_closest_marker("shared")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _serve_arguments(model: Path, extra: tuple[Any, ...]) -> list[str]:
    return ["--model", str(model), "--device", "cpu", "--port", "0", "--log-format", "json", *map(str, extra)]


@pytest.fixture
def worker(binary: Path) -> Iterator[Callable[..., Worker]]:
    """A factory: worker(model, "--slots", 2, env={...}, wait=True) serves on a port the system picks.

    Each worker is ended with SIGTERM after the test and must exit 0 (worker.expected_exit, None for any) with
    an empty stdout and no sanitizer report.
    """
    started: list[Worker] = []

    def start(model: Path, *extra: Any, env: dict[str, str] | None = None, wait: bool = True) -> Worker:
        process = Worker(binary, _serve_arguments(model, extra), env)
        started.append(process)
        return process.wait_ready() if wait else process

    yield start
    failures = []
    for process in started:
        try:
            process.stop()
        except AssertionError as failure:
            failures.append(str(failure))
    assert not failures, "\n".join(failures)


@pytest.fixture(scope="module")
def smollm2_worker(binary: Path, smollm2: Path) -> Iterator[Worker]:
    """One worker for all tests of a module that leave it as they found it."""
    process = Worker(binary, _serve_arguments(smollm2, ()))
    try:
        yield process.wait_ready()
    finally:
        process.stop()


@pytest.fixture(scope="module")
def serve(binary: Path) -> Iterator[Callable[..., Worker]]:
    """serve(model, "--slots", 2): a worker for all tests of a module."""
    started: list[Worker] = []

    def start(model: Path, *extra: Any, env: dict[str, str] | None = None) -> Worker:
        started.append(Worker(binary, _serve_arguments(model, extra), env))
        return started[-1].wait_ready()

    yield start
    for process in started:
        process.stop()


@pytest.fixture(scope="module")
def serve_tiny(serve: Callable[..., Worker], tiny: Path) -> Callable[..., Worker]:
    """serve_tiny("--slots", 2): the same with the tiny model."""
    return functools.partial(serve, tiny)


@pytest.fixture(scope="module")
def gemma3_worker(binary: Path, gemma3: Path) -> Iterator[Worker]:
    process = Worker(binary, _serve_arguments(gemma3, ()))
    try:
        yield process.wait_ready()
    finally:
        process.stop()


@pytest.fixture
def cli(binary: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs one subcommand to its end: cli("plan", "--model", path, "--device", "cpu", "--json", expect=0)."""

    def run(*arguments: Any, expect: int | None = 0, env: dict[str, str] | None = None, timeout: float = 120,
            stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [str(binary), *map(str, arguments)], input=stdin if stdin is not None else "", capture_output=True,
            text=True, encoding="utf-8", timeout=timeout * TIME_SCALE, env={**os.environ, **(env or {})},
        )
        assert not SANITIZER_REPORT.search(result.stderr), result.stderr
        if expect is not None:
            assert result.returncode == expect, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    return run
