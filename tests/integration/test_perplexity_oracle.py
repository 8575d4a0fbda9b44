"""Synthetic models, evaluated by the worker and by tools/fp32_reference.py: the meaning of formats and families.

The worker's arithmetic is held against fp32 algebra over the weights that the `gguf` package decodes. Random weights give
logits with a spread of about 1, so that a wrong scale, code or step moves the perplexity by many per cent.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tools"))

import fp32_reference  # noqa: E402
import make_model  # noqa: E402

TEXT = "One model, one file, one device; a number that changes without a reason is a fault, and faults are told. " * 4
WINDOW = 96


def _run(binary: Path, *arguments: object) -> dict:
    done = subprocess.run([str(binary), *map(str, arguments), "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _compare(binary: Path, folder: Path, shape: make_model.Shape) -> float:
    """The worker's perplexity over the reference's, less 1."""
    model, text = folder / "model.gguf", folder / "text.txt"
    make_model.make_model(model, shape, seed=3)
    text.write_text(TEXT)
    ids = _run(binary, "tokenize", "--model", model, "--file", text)["ids"]
    want = fp32_reference.perplexity(fp32_reference.GgufModel(model), ids, WINDOW)
    got = _run(binary, "perplexity", "--model", model, "--device", "cpu", "--file", text, "--ctx", WINDOW)
    assert got["predicted"] == want["predicted"] > 200
    return got["ppl"] / want["ppl"] - 1


@pytest.mark.parametrize("name", ["Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "MXFP4", "Q4_K", "Q8_0"])
def test_a_format_predicts_as_its_fp32_evaluation(name, binary, tmp_path):
    types = f"{name},token_embd={name},output={name}"
    shape = make_model.Shape(layers=3, dim=512, ffn=1024, heads=8, kv_heads=2, vocab=400, tied=False, types=types)
    assert abs(_compare(binary, tmp_path, shape)) < 0.005


@pytest.mark.parametrize("name", ["tiny-gpt-oss", "tiny-qwen3moe"])
def test_a_family_with_experts_predicts_as_its_fp32_evaluation(name, binary, tmp_path):
    # F32 weights: what is left is the rounding of K and V to binary16.
    f32 = make_model.dataclasses.replace(make_model.PRESETS[name], types="F32")
    (tmp_path / "f32").mkdir()
    assert abs(_compare(binary, tmp_path / "f32", f32)) < 0.0005
    assert abs(_compare(binary, tmp_path, make_model.PRESETS[name])) < 0.005


def test_mixtral_predicts_as_its_fp32_evaluation(binary, tmp_path):
    shape = make_model.Shape(layers=2, dim=128, ffn=96, vocab=300, experts=4, experts_used=2, types="F32")
    assert abs(_compare(binary, tmp_path, shape)) < 0.0005
