"""One logits digest per model and request, whatever the instruction set, threads, prompt chunks, batch, pages and cached prefixes."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from raw_http import metric
from worker_process import terminal_of, text_of

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


def _answer(worker, prompt: str, max_tokens: int) -> tuple[str, str]:
    events = worker.execute(prompt=prompt, max_tokens=max_tokens, temperature=0)
    return text_of(events), terminal_of(events).json["receipt"]["logits_digest"]


def test_preemption_and_prefix_hits_change_no_bit(worker, smollm2):
    """Four prompts at once that grow to two pages each where there are three; then prompts whose beginning is still there."""
    growing = [f"{word} stood at the window and" for word in ("Nobody", "Somebody", "Everybody", "Anybody")]
    story = "The ferry leaves at nine and comes back before noon. " * 14  # between two and three pages
    told = [story + end for end in ("Then it rains.", "On Sundays it stays.")]
    roomy = worker(smollm2, "--slots", 1, "--ctx", 192)
    alone = {prompt: _answer(roomy, prompt, 70) for prompt in growing} | {prompt: _answer(roomy, prompt, 8) for prompt in told}
    assert len({digest for _, digest in alone.values()}) == 6

    tight = worker(smollm2, "--slots", 4, "--ctx", 192, "--kv-cache-size-mb", 5)

    def count(name: str) -> float:
        return metric(tight.get("/metrics").text, name)

    assert count("worker_orcd_kv_pages_total") == 3
    answer = tight.post("/v1/completions", {"prompt": growing, "max_tokens": 70, "temperature": 0}).json()
    assert [(c["text"], c["receipt"]["logits_digest"]) for c in answer["choices"]] == [alone[prompt] for prompt in growing]
    # One that was preempted looks its tokens up again.
    assert count("worker_orcd_num_preemptions_total") > 0
    assert count("worker_orcd_prefix_cache_queries_total") > answer["usage"]["prompt_tokens"]

    for prompt, n_hits in ((told[0], 0), (told[1], 128), (told[0], 128)):
        before = count("worker_orcd_prefix_cache_hits_total")
        assert _answer(tight, prompt, 8) == alone[prompt]
        assert count("worker_orcd_prefix_cache_hits_total") - before == n_hits
