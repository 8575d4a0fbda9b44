"""One logits digest per model, whatever the instruction set, threads, prompt chunks and batch (promise 3)."""

import json
import os
import subprocess
from pathlib import Path

import pytest

GOLDEN = json.loads((Path(__file__).resolve().parents[1] / "golden" / "logits.json").read_text())
# Three windows of 32 tokens, so that a batch has several sequences.
BYTES, WINDOW = 420, 32


def _available_isas(binary: Path) -> list[str]:
    isas = []
    for isa in ("scalar", "avx2", "avx512"):
        done = subprocess.run([binary, "devices", "--json"], env={**os.environ, "ORCD_ISA": isa}, capture_output=True)
        if done.returncode == 0:
            isas.append(isa)
    return isas


def _perplexity(binary: Path, model: Path, text: Path, isa: str, *flags: str) -> dict:
    command = [binary, "perplexity", "--model", model, "--device", "cpu", "--file", text, "--ctx", str(WINDOW), "--json", *flags]
    done = subprocess.run(command, env={**os.environ, "ORCD_ISA": isa}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def english(tmp_path_factory) -> Path:
    """Plain English of our own: the golden digests depend on it."""
    sentence = GOLDEN["text"]
    path = tmp_path_factory.mktemp("text") / "english.txt"
    path.write_text((sentence * (BYTES // len(sentence) + 1))[:BYTES])
    return path


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_every_isa_thread_count_chunk_and_batch_gives_the_golden_digest(binary, request, english, name):
    model = request.getfixturevalue(name)
    isas = _available_isas(binary)
    assert isas[0] == "scalar"
    runs = [("scalar", "--threads", "2")]
    for isa in isas[1:]:
        runs += [(isa, "--threads", "1"), (isa, "--threads", "2"), (isa, "--threads", "2", "--chunk", "7"),
                 (isa, "--threads", "2", "--chunk", "64"), (isa, "--threads", "2", "--batch", "4", "--chunk", "16")]
    runs.append((isas[-1], "--threads", "2", "--chunk", "1"))
    for isa, *flags in runs:
        got = _perplexity(binary, model, english, isa, *flags)
        assert got["logits_digest"] == GOLDEN[name]["logits_digest"], (isa, flags)
        assert got["nll"] == GOLDEN[name]["nll"], (isa, flags)
