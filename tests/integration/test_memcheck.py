"""The worker and liborcd.so's programs under valgrind: no wrong access, no byte lost.

Builds with a sanitizer look at the same runs by themselves; valgrind and they exclude each other.
"""

import re
import sys

import pytest

from native import REPO, run
from worker_process import Worker, execute_body, terminal_of, text_of

LOST = ["--leak-check=full", "--show-leak-kinds=definite,indirect,possible", "--errors-for-leak-kinds=definite,indirect,possible",
        "--error-exitcode=9"]


def in_valgrind(binary, folder):
    """A program that runs the binary in valgrind, and the file that gets the report."""
    wrapper, log = folder / "valgrind", folder / "valgrind.log"
    wrapper.write_text(f"#!/bin/sh\nexec valgrind {' '.join(LOST)} --log-file={log} {binary} \"$@\"\n", encoding="utf-8")
    wrapper.chmod(0o755)
    return wrapper, log


@pytest.fixture
def under_valgrind(binary, tmp_path):
    """under_valgrind(model, *options): a ready worker in valgrind, whose report `report()` gives after its end."""
    started = []

    def start(model, *options):
        wrapper, log = in_valgrind(binary, tmp_path)
        process = Worker(wrapper, ["--model", str(model), "--device", "cpu", "--port", "0", "--log-format", "json",
                                   *map(str, options)])
        started.append(process)
        process.report = log.read_text
        return process.wait_ready()

    yield start
    for process in started:
        process.stop()


@pytest.mark.plain
def test_a_served_model_loses_no_byte(under_valgrind, tiny):
    """The small run from end to end: load, answers, a cancel, a reader that leaves, refusals, residency, shutdown."""
    process = under_valgrind(tiny, "--threads", 2, "--ctx", 512, "--slots", 2)
    whole = process.execute(prompt="a b", max_tokens=8, temperature=0.8, seed=3, stop=["zzz"])
    assert terminal_of(whole).name == "end"
    with process.stream(job_id="cancelled", prompt="1 2 3", max_tokens=400, temperature=0) as events:
        assert next(events).name == "started"
        assert process.post("/cancel", {"job_id": "cancelled"}).status_code == 202
        assert list(events)[-1].json["code"] == "CANCELLED"
    with process.stream(prompt="left", max_tokens=400) as events:
        next(events)
    assert process.post("/execute", execute_body({"prompt": "", "top_p": 2})).status_code == 400
    assert process.post("/tokenize", {"content": "a b"}).status_code == 200
    for path in ("/health", "/metrics", "/v1/residency", "/v1/models"):
        assert process.get(path).status_code == 200
    assert text_of(process.execute(prompt="a b", max_tokens=8, temperature=0.8, seed=3)) == text_of(whole)
    assert process.post("/shutdown").status_code == 202
    assert process.wait_exit() == 0
    check_report(process.report())


def check_report(report):
    assert "ERROR SUMMARY: 0 errors" in report, report
    for kind in ("definitely", "indirectly", "possibly"):
        lost = re.search(rf"{kind} lost: ([\d,]+) bytes", report)
        assert not lost or lost[1] == "0", report


@pytest.mark.plain
@pytest.mark.parametrize("source", ["c/generate.c", "cpp/generate.cpp"])
def test_valgrind_finds_no_error_and_no_byte_left(native, tiny, source):
    program = native.compile(REPO / "examples" / source)
    result = run(["valgrind", "--leak-check=full", "--show-leak-kinds=all", "--errors-for-leak-kinds=all", "--error-exitcode=9",
                  program, tiny, "a b", 6], native.env)
    assert "in use at exit: 0 bytes in 0 blocks" in result.stderr
    assert "ERROR SUMMARY: 0 errors" in result.stderr


@pytest.mark.plain
def test_the_rust_example_loses_no_byte(native, tiny):
    result = run(["valgrind", *LOST, native.cargo() / "generate", tiny, "a b", 6], native.env)
    check_report(result.stderr)


@pytest.mark.plain
def test_the_python_example_has_no_error_in_the_library_and_loses_none_of_its_bytes(native, tiny):
    """The interpreter has errors and lost bytes of its own: what counts are those with a frame of the library."""
    example = REPO / "examples" / "python" / "generate.py"
    env = {**native.python_env(), "PYTHONMALLOC": "malloc"}
    result = run(["valgrind", *LOST[:-1], "--num-callers=40", sys.executable, example, tiny, "a b", 6], env)
    assert "ERROR SUMMARY: " in result.stderr
    records = re.split(r"^==\d+== $", result.stderr, flags=re.MULTILINE)
    assert len(records) > 3
    assert [record for record in records if "liborcd" in record] == []


@pytest.mark.plain
def test_the_orchestrators_worker_loses_no_byte(native, binary, tiny, tmp_path):
    wrapper, log = in_valgrind(binary, tmp_path)
    example = REPO / "examples" / "orchestrator" / "spawn_and_execute.py"
    assert "cancelled: CANCELLED" in run([sys.executable, example, wrapper, tiny, "1 2 3", 6], native.env).stdout
    check_report(log.read_text(encoding="utf-8"))
