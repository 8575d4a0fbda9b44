"""The Python tools: goldens that can be made again, models as they were asked for, an evaluation by its protocol."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "tools"), str(REPO / "bench")]

import bench_smoke  # noqa: E402
import format_goldens  # noqa: E402
import fp32_reference  # noqa: E402
import hf_parts_goldens  # noqa: E402
import make_model  # noqa: E402
import peer_llama_cpp  # noqa: E402
import template_syntax_goldens  # noqa: E402
from block_formats import FORMATS  # noqa: E402
from random_blocks import BlockSource  # noqa: E402

TINY = [name for name in make_model.PRESETS if name.startswith("tiny-")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """{preset: path} of every tiny model, seed 1."""
    folder = tmp_path_factory.mktemp("tiny")
    paths = {name: folder / f"{name}.gguf" for name in TINY}
    for name, path in paths.items():
        make_model.make_model(path, make_model.PRESETS[name], seed=1)
    return paths


@pytest.mark.parametrize("name", FORMATS)
def test_format_golden_in_the_repository_is_what_the_tool_makes(name):
    assert (format_goldens.DEFAULT_OUT / f"{name}.bin").read_bytes() == format_goldens.golden(name)


@pytest.mark.parametrize("tool", [hf_parts_goldens, template_syntax_goldens])
def test_the_goldens_of_tokenizers_and_templates_are_what_their_tools_make(tool):
    assert tool.DEFAULT_OUT.read_text(encoding="utf-8") == tool.golden()


@pytest.mark.parametrize("columns", [256, 1024])
@pytest.mark.parametrize("name", FORMATS)
def test_random_tensors_have_the_wished_spread_and_no_row_twice(name, columns):
    std = 1 / math.sqrt(columns)
    rows = BlockSource(5).rows("blk.0.attn_q.weight", name, 512, columns, std)
    stored = {"F32": np.float32, "F16": np.float16}.get(name, np.uint8)
    values = dequantize(rows.view(stored), FORMATS[name].type).astype(np.float32)
    assert values.shape == (512, columns)
    assert values.std() == pytest.approx(std, rel=0.05)
    assert abs(values.mean()) < 0.02 * std
    assert len(np.unique(rows, axis=0)) == 512


@pytest.mark.parametrize("name", TINY)
def test_tiny_models_are_small_and_the_same_for_the_same_seed(name, tiny, tmp_path):
    assert tiny[name].stat().st_size < 300_000
    make_model.make_model(tmp_path / "again", make_model.PRESETS[name], seed=1)
    make_model.make_model(tmp_path / "other", make_model.PRESETS[name], seed=2)
    assert (tmp_path / "again").read_bytes() == tiny[name].read_bytes()
    assert (tmp_path / "other").read_bytes() != tiny[name].read_bytes()


def test_tiny_llama_holds_every_first_format(tiny):
    held = {tensor.tensor_type.name for tensor in GGUFReader(tiny["tiny-llama"]).tensors if tensor.data.ndim == 2}
    assert held == {"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"}


def test_mix_chooses_the_formats_of_the_real_llama_3_8b_file():
    shape = make_model.PRESETS["llama-3-8b"]
    types = make_model.Types(shape.types, shape.layers, shape.tied)
    chosen = {t.name: types.choose(t) for t in make_model.list_tensors(shape) if t.kind == "matrix"}
    assert list(chosen.values()).count("Q6_K") == 33 and list(chosen.values()).count("Q4_K") == 193
    assert chosen["output.weight"] == chosen["blk.0.attn_v.weight"] == chosen["blk.31.ffn_down.weight"] == "Q6_K"
    assert chosen["token_embd.weight"] == chosen["blk.4.ffn_down.weight"] == "Q4_K"


# Parameters as the published models count them, a tied head once.
PUBLISHED = {
    "qwen2.5-0.5b": 494_032_768, "qwen3-0.6b": 596_049_920, "phi-3-mini-4k": 3_821_079_552, "gemma-2b": 2_506_172_416, "gemma-2-2b": 2_614_341_888,
    "granite-3.1-2b": 2_533_531_648, "smollm3-3b": 3_075_098_624, "gpt2": 124_439_808, "starcoder2-3b": 3_030_371_328,
    "llama-1b": 1_235_814_400, "llama-3-8b": 8_030_261_248, "gpt-oss-20b": 20_914_757_184, "qwen3-30b-a3b": 30_532_122_624,
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in make_model.PRESETS if name not in TINY])
def test_published_shapes_have_as_many_parameters_as_published(name):
    tensors = make_model.list_tensors(make_model.PRESETS[name])
    assert sum(max(1, t.rows) * t.columns * max(1, t.experts) for t in tensors if t.kind != "factors") == PUBLISHED[name]


def test_fused_and_position_tensors_keep_the_formats_of_real_files():
    types = make_model.Types("Q4_K_M", 32, False)
    choose = lambda name: types.choose(make_model.Tensor(f"{name}.weight", 4, 3072, "matrix", 9))  # noqa: E731
    assert [choose("blk.9.attn_qkv"), choose("blk.9.ffn_up"), choose("position_embd")] == ["Q5_K", "Q4_K", "F32"]


def test_rows_that_are_not_whole_blocks_fall_back():
    types = make_model.Types("Q4_K,output=Q6_K,attn_v=IQ4_XS", 1, False)
    choose = lambda role, columns: types.choose(make_model.Tensor(f"{role}.weight", 4, columns, "matrix"))  # noqa: E731
    assert [choose("attn_q", 256), choose("attn_q", 896), choose("attn_q", 80)] == ["Q4_K", "Q5_0", "F16"]
    assert [choose("output", 896), choose("attn_v", 896)] == ["Q8_0", "IQ4_NL"]


def test_copied_vocabulary_is_the_original(tiny, tmp_path):
    shape = make_model.make_model(tmp_path / "copy", make_model.PRESETS["tiny-odd"], 1, str(tiny["tiny-qwen2"]))
    original, copy = GGUFReader(tiny["tiny-qwen2"]).fields, GGUFReader(tmp_path / "copy").fields
    keys = [key for key in original if key.startswith("tokenizer.")]
    assert shape.vocab == 384 and len(keys) >= 9
    assert {key: copy[key].contents() for key in keys} == {key: original[key].contents() for key in keys}


@pytest.mark.parametrize("name", TINY)
def test_reference_logits_do_not_depend_on_what_follows(name, tiny):
    model = fp32_reference.GgufModel(tiny[name])
    ids = np.random.default_rng(3).integers(0, 270, 80).tolist()
    whole = fp32_reference.logits_of(model, fp32_reference.hidden_states(model, ids))
    part = fp32_reference.logits_of(model, fp32_reference.hidden_states(model, ids[:50]))
    assert np.isfinite(whole).all() and 0.5 < whole.std() < 2
    np.testing.assert_allclose(whole[:50], part, atol=2e-5)


def test_reference_local_layers_see_their_window_and_no_further(tmp_path):
    shape = make_model.PRESETS["tiny-gemma3"]
    one_layer = make_model.dataclasses.replace(shape, layers=1, window=8, types="F32")
    make_model.make_model(tmp_path / "m", one_layer, 1)
    model = fp32_reference.GgufModel(tmp_path / "m")
    ids = list(range(100, 120))
    changed = [7, *ids[1:]]  # position 0 is seen by positions 0 to 7
    states = fp32_reference.hidden_states(model, ids)
    differs = np.abs(states - fp32_reference.hidden_states(model, changed)).max(axis=1) > 1e-5
    assert differs.tolist() == [True] * 8 + [False] * 12


def test_reference_perplexity_starts_every_window_from_an_empty_cache_and_drops_a_last_single_token(tiny):
    model = fp32_reference.GgufModel(tiny["tiny-llama"])
    ids = np.random.default_rng(4).integers(0, 270, 81).tolist()
    nll = 0.0
    for window in (ids[:40], ids[40:80]):
        logits = fp32_reference.logits_of(model, fp32_reference.hidden_states(model, window)).astype(np.float64)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        nll -= log_p[np.arange(39), window[1:]].sum()
    result = fp32_reference.perplexity(model, ids, 40)
    assert (result["tokens"], result["predicted"]) == (81, 78)
    assert result["nll"] == pytest.approx(nll, rel=1e-6)
    assert result["ppl"] == pytest.approx(math.exp(nll / 78), rel=1e-6)


def test_ids_are_read_in_both_forms(tmp_path):
    (tmp_path / "json").write_text("[1, 2, 3]\n")
    (tmp_path / "blanks").write_text("1 2 3\n")
    (tmp_path / "bad").write_text("[1, 2.5]")
    assert fp32_reference.read_ids(tmp_path / "json") == fp32_reference.read_ids(tmp_path / "blanks") == [1, 2, 3]
    with pytest.raises(SystemExit, match="not a list of token ids"):
        fp32_reference.read_ids(tmp_path / "bad")


def test_benchmark_takes_the_median_of_its_rounds():
    rounds = [{"prefill_tokens_per_s": p, "decode_tokens_per_s": d} for p, d in ((10, 1), (30, 5), (20, 2))]
    assert peer_llama_cpp.summary(rounds) == {
        "prefill_tokens_per_s": 20, "prefill_range": [10, 30], "decode_tokens_per_s": 2, "decode_range": [1, 5]
    }  # fmt: skip


def test_a_part_at_half_its_speed_and_one_without_a_baseline_are_found():
    baseline = {"avx2": {"linear": 100.0, "decode": 10.0}}
    assert bench_smoke.problems("avx2", {"linear": 61.0, "decode": 25.0}, baseline) == []
    assert bench_smoke.problems("avx2", {"linear": 50.0, "decode": 10.0}, baseline) == ["avx2 linear: 0.50 of its baseline"]
    assert bench_smoke.problems("avx2", {"linear": math.nan, "decode": 10.0}, baseline) == ["avx2 linear: nan of its baseline"]
    assert bench_smoke.problems("avx2", {"decode": 10.0, "new": 1.0}, baseline) == [
        "avx2 new: not in the baseline", "avx2 linear: in the baseline, and not measured"]
    assert bench_smoke.problems("avx512", {"linear": 100.0}, baseline) == ["avx512: not in the baseline"]
    assert bench_smoke.best_of([{"linear": 50.0, "decode": 9.0}, {"linear": 90.0, "decode": 8.0}]) == {"linear": 90.0, "decode": 9.0}


def test_the_baseline_guards_every_instruction_set_alike():
    baseline = json.loads((REPO / "bench" / "baseline.json").read_text(encoding="utf-8"))
    assert set(baseline) == set(bench_smoke.ISAS)
    assert len({tuple(ratios) for ratios in baseline.values()}) == 1
