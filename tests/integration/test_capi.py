"""liborcd.so as others get it: its symbols, its header, its ABI, and what many loads leave behind."""

import re
import subprocess
import sys

import pytest

from native import REPO, STRICT, run

sys.path.insert(0, str(REPO / "tools"))

import make_model  # noqa: E402

HEADER = REPO / "include" / "orcd" / "orcd.h"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    make_model.make_model(path, make_model.PRESETS["tiny-llama"], seed=1)
    return path


def declared_functions() -> set[str]:
    return set(re.findall(r"^ORCD_API orcd_status (orcd_\w+)\(", HEADER.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.core
def test_the_library_shows_the_functions_of_the_header_and_nothing_else(native):
    lines = run(["nm", "-D", "--defined-only", native.library], native.env).stdout.splitlines()
    names = {line.split()[-1] for line in lines}
    assert len(declared_functions()) >= 25
    assert names == {f"{name}@@orcd_0.1" for name in declared_functions()} | {"orcd_0.1"}
    dynamic = run(["readelf", "-d", native.library], native.env).stdout
    assert "Library soname: [liborcd.so.0]" in dynamic


@pytest.mark.parametrize("language", ["c99", "c11", "c++98", "c++11", "c++20"])
def test_the_header_stands_alone_in_every_language(language, tmp_path):
    plus = language.startswith("c++")
    source = tmp_path / ("only.cpp" if plus else "only.c")
    source.write_text('#include "orcd/orcd.h"\nint main(void) { return ORCD_STATUS_OK; }\n', encoding="utf-8")
    extra = ["-Wno-long-long", "-Wno-variadic-macros"] if language == "c++98" else []
    subprocess.run(["g++" if plus else "gcc", f"-std={language}", *STRICT, *extra, "-I", str(REPO / "include"), "-c", str(source),
                    "-o", str(tmp_path / "only.o")], check=True)


def test_the_abi_is_the_one_committed(native, tmp_path):
    run([REPO / "scripts" / "abi", native.library], native.env)
    # A struct with a field more is another ABI: the comparison must see it.
    dump = (REPO / "tests" / "capi" / "orcd.abi").read_text(encoding="utf-8")
    changed = tmp_path / "changed.abi"
    changed.write_text(dump.replace("name='orcd_token' size-in-bits='128'", "name='orcd_token' size-in-bits='192'"), encoding="utf-8")
    assert changed.read_text(encoding="utf-8") != dump
    differs = subprocess.run(["abidiff", str(REPO / "tests" / "capi" / "orcd.abi"), str(changed)], capture_output=True, text=True)
    assert differs.returncode != 0 and "orcd_token" in differs.stdout


def figures(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


@pytest.mark.core
def test_a_thousand_loads_and_unloads_leave_nothing_behind(native, tiny):
    cycles = native.compile(REPO / "tests" / "capi" / "cycles.c")
    # Sanitizers keep freed memory aside for a while: there the allocators' own count must do.
    warm_up, n = (100, 1000) if native.sanitizer is None else (5, 50)
    left = figures(run([cycles, tiny, warm_up, n], native.env).stdout)
    assert left["device_bytes"] == 0
    assert left["pinned_host_bytes"] == 0
    if native.sanitizer is None:
        assert left["rss_growth"] <= 1 << 20


def test_a_process_may_end_with_everything_in_use(native, tiny):
    leave = native.compile(REPO / "tests" / "capi" / "leave.c")
    run([leave, tiny, "exit", native.library], native.env)
    before, after, is_loaded = map(int, run([leave, tiny, "unload", native.library], native.env).stdout.split())
    assert before == 2
    # A thread that had tokenized kept the library, with all that was in use (a bug).
    assert (after, is_loaded) == (0, 0) or native.sanitizer  # which keeps libraries for its reports
