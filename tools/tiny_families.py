#!/usr/bin/env python3
"""Tiny models of each family, F32, whose every weight follows from a seed: one form for the worker (GGUF) and, in
tools/hf_oracle.py, one for `transformers`. Few layers and short windows, so that 64 tokens cross every one of them.

  tiny_families.py phi3 phi3.gguf

Tensor and metadata names are those of gguf-py's constants (MODEL_TENSORS, Keys). A `Family` is data: its counts, its
metadata beside them, and which tensors a block has. `wide` gives it rows of 256, which are whole blocks of every format;
its matrices are then drawn in quantised form.
"""

import argparse
import zlib
from dataclasses import dataclass, field, replace

import numpy as np
from block_formats import FORMATS
from gguf import GGUFWriter
from random_blocks import BlockSource

VOCAB, DIM, FFN, HEADS, HEAD_DIM = 96, 64, 96, 4, 16
PLAIN = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
FUSED = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
MLP = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down")
GPT2 = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
EXPERTS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
N_EXPERTS, N_USED = 6, 2


@dataclass(frozen=True)
class Family:
    arch: str  # general.architecture
    metadata: dict  # beside the counts; keys after "<arch>."
    matrices: tuple = PLAIN  # of a block
    biases: tuple = ()  # matrices that have one
    norms: tuple = ("attn_norm", "ffn_norm")
    head_norms: tuple = ()  # over one head
    layer_norm: bool = False  # LayerNorm with bias instead of RMS
    layers: int = 2
    dim: int = DIM
    ffn: int = FFN  # of one expert, where there are some
    heads: int = HEADS
    kv_heads: int = 2
    context: int = 128
    tied: bool = False
    positions: bool = False  # learned position embeddings
    sinks: bool = False  # a logit for each head that joins its softmax
    gate_up: bool = False  # ffn_up holds the gate's rows before its own
    factors: dict = field(default_factory=dict)  # rope factor tensors
    gains: dict = field(default_factory=dict)  # of matrices whose values are to be larger
    # One detail made wrong, for tests that must see it: metadata, or tensors left out.
    broken: dict = field(default_factory=dict)
    broken_without: tuple = ()


RMS = {"attention.layer_norm_rms_epsilon": 1e-5}
LAYER_NORM = {"attention.layer_norm_epsilon": 1e-5}
ROPE = {"rope.freq_base": 10000.0, "rope.dimension_count": HEAD_DIM}


def llama3_factors(base=10000.0, factor=8.0, low=1.0, high=4.0, original=48):
    """Divisors of the frequencies by Llama 3.1's rule (Llama team 2024, as in transformers' rope_type llama3)."""
    wavelength = 2 * np.pi * base ** (np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    smooth = np.clip((original / wavelength - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


LONG = (1.0 + 1.5 * np.arange(HEAD_DIM // 2)).astype(np.float32)
SHORT = (1.0 + 0.125 * np.arange(HEAD_DIM // 2)).astype(np.float32)
LONGROPE = {"rope.scaling.original_context_length": 32, "rope.scaling.attn_factor": float(np.sqrt(1 + np.log(4) / np.log(32)))}
SCALES = {"embedding_scale": 6.0, "residual_scale": 0.25, "attention.scale": 0.125, "logit_scale": 4.0}
MOE = {"expert_count": N_EXPERTS, "expert_used_count": N_USED}
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32}
NORMS4 = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
CAPS = {"attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.0, "attention.sliding_window": 12}

FAMILIES = {
    "tinyllama": Family("llama", RMS | ROPE, broken={"rope.freq_base": 500000.0}),
    "llama3": Family("llama", RMS | ROPE, factors={"rope_freqs": llama3_factors()}, broken_without=("rope_freqs.weight",)),
    "mistral": Family("llama", RMS | ROPE | {"attention.sliding_window": 16}, broken={"attention.sliding_window": 0}),
    "qwen2": Family("qwen2", RMS | ROPE, biases=("attn_q", "attn_k", "attn_v"), tied=True, broken={"rope.freq_base": 1e6}),
    "qwen3": Family("qwen3", RMS | ROPE | {"attention.key_length": 24, "attention.value_length": 24, "rope.dimension_count": 24},
                    head_norms=("attn_q_norm", "attn_k_norm"), broken={"attention.scale": 0.25}),
    "phi3": Family("phi3", RMS | ROPE | {"attention.sliding_window": 20}, FUSED, gate_up=True, broken={"attention.sliding_window": 21}),
    "phi3-longrope": Family("phi3", RMS | ROPE | LONGROPE, FUSED, gate_up=True, factors={"rope_factors_long": LONG, "rope_factors_short": SHORT},
                            broken={"rope.scaling.original_context_length": 128}),
    # Phi-4-mini: three quarters of a head are rotated, each by its own factor.
    "phi4-mini": Family("phi3", RMS | ROPE | LONGROPE | {"rope.scaling.type": "longrope", "rope.dimension_count": 12}, FUSED,
                        factors={"rope_factors_long": LONG[:6], "rope_factors_short": SHORT[:6]}, gate_up=True, tied=True,
                        broken={"rope.scaling.attn_factor": 1.0}),
    "gemma": Family("gemma", RMS | ROPE | {"attention.key_length": 24, "attention.value_length": 24, "rope.dimension_count": 24}, kv_heads=1, tied=True,
                    broken={"rope.freq_base": 500000.0}),
    "gemma2": Family("gemma2", RMS | ROPE | CAPS, norms=NORMS4, layers=4, tied=True, broken={"attn_logit_softcapping": 50.0}),
    # Six layers, because the sixth is the first that sees beyond the window and has the other RoPE base.
    "gemma3": Family("gemma3", RMS | ROPE | {"rope.freq_base": 1e6, "attention.sliding_window": 12}, norms=NORMS4, layers=6,
                     head_norms=("attn_q_norm", "attn_k_norm"), tied=True, broken={"rope.freq_base": 10000.0}),
    "granite": Family("granite", RMS | ROPE | SCALES, tied=True, broken={"residual_scale": 0.5}),
    "smollm3": Family("smollm3", RMS | ROPE, layers=5, tied=True, broken={"rope.dimension_count": 8}),
    "gpt2": Family("gpt2", LAYER_NORM, GPT2, biases=GPT2, layer_norm=True, kv_heads=HEADS, tied=True, positions=True,
                   broken={"attention.scale": 0.5}),
    "starcoder2": Family("starcoder2", LAYER_NORM | ROPE | {"attention.sliding_window": 24}, MLP, biases=MLP, layer_norm=True, tied=True,
                         broken={"attention.sliding_window": 0}),
    "mixtral": Family("llama", RMS | ROPE | MOE, EXPERTS, broken={"expert_used_count": 1}),
    "qwen3moe": Family("qwen3moe", RMS | ROPE | MOE, EXPERTS,
                       head_norms=("attn_q_norm", "attn_k_norm"), broken={"expert_used_count": 3}),
    # A local and a global layer, biases and sinks everywhere, YaRN.
    "gpt-oss": Family("gpt-oss", RMS | ROPE | MOE | YARN | {"attention.sliding_window": 16}, EXPERTS,
                      biases=EXPERTS, norms=("attn_norm", "post_attention_norm"), sinks=True, broken={"rope.scaling.factor": 2.0},
                      gains={"ffn_gate_exps": 3, "ffn_up_exps": 3}),  # so large that the clamp at 7 shows
}  # fmt: skip


def head_dim(family):
    return family.metadata.get("attention.key_length", HEAD_DIM)


def wide(family):
    """The family with rows of 256 (qwen3, whose heads are larger: 768), the head size and all that depends on it as they are."""
    heads = 32 if head_dim(family) == 24 else 16
    return replace(family, dim=256, ffn=256, heads=heads, kv_heads=heads if family.kv_heads == family.heads else family.kv_heads)


def tensors(family):
    """(name, shape, centre, spread) of each tensor that is drawn; matrices as [rows, columns], [experts, rows, columns]."""
    dim, ffn, q, kv = family.dim, family.ffn, family.heads * head_dim(family), family.kv_heads * head_dim(family)
    shapes = {
        "attn_q": (q, dim), "attn_k": (kv, dim), "attn_v": (kv, dim), "attn_qkv": (q + 2 * kv, dim), "attn_output": (dim, q),
        "ffn_gate": (ffn, dim), "ffn_up": (ffn * (2 if family.gate_up else 1), dim), "ffn_down": (dim, ffn),
        "ffn_gate_inp": (N_EXPERTS, dim), "ffn_gate_exps": (N_EXPERTS, ffn, dim), "ffn_up_exps": (N_EXPERTS, ffn, dim),
        "ffn_down_exps": (N_EXPERTS, dim, ffn),
    }  # fmt: skip

    def matrix(stem, *shape, gain=1.0):
        yield f"{stem}.weight", shape, 0.0, gain * 1.5 / np.sqrt(shape[-1])

    def norm(stem, n, bias):
        yield f"{stem}.weight", (n,), 1.0, 0.2
        if bias:
            yield f"{stem}.bias", (n,), 0.0, 0.2

    yield from matrix("token_embd", VOCAB, dim)
    if family.positions:
        yield from matrix("position_embd", family.context, dim)
    for layer in range(family.layers):
        for name in family.norms:
            yield from norm(f"blk.{layer}.{name}", dim, family.layer_norm)
        for name in family.head_norms:
            yield from norm(f"blk.{layer}.{name}", head_dim(family), False)
        for name in family.matrices:
            yield from matrix(f"blk.{layer}.{name}", *shapes[name], gain=family.gains.get(name, 1.0))
            if name in family.biases:
                yield f"blk.{layer}.{name}.bias", shapes[name][:-1], 0.0, 0.3
        if family.sinks:
            yield f"blk.{layer}.attn_sinks.weight", (family.heads,), 0.0, 2.0
    yield from norm("output_norm", dim, family.layer_norm)
    if not family.tied:
        yield from matrix("output", VOCAB, dim)


def _array(name, shape, centre, spread):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return (centre + spread * rng.standard_normal(shape)).astype(np.float32)


def weights(family, without=()):
    """All tensors by their GGUF names, float32, but those in `without`. The same arrays on every call."""
    factors = {f"{name}.weight": values for name, values in family.factors.items() if f"{name}.weight" not in without}
    return factors | {name: _array(name, *rest) for name, *rest in tensors(family) if name not in without}


def blocks(family, format_name):
    """Every matrix of a wide family as random blocks of the format, uint8 [.., rows, bytes of a row]; routers and learned positions
    are not among them, because converters and quantisers leave those alone."""
    source = BlockSource(0)
    out = {}
    for name, shape, _, spread in tensors(family):
        if name.endswith(".weight") and len(shape) > 1 and not name.endswith(("ffn_gate_inp.weight", "position_embd.weight")):
            rows = source.rows(name, format_name, int(np.prod(shape[:-1])), shape[-1], float(spread))
            out[name] = rows.reshape(*shape[:-1], -1)
    return out


def write_gguf(path, family, changed=None, without=(), arrays=None, format_name="F32"):
    """Writes the model. `changed`: metadata that replaces the family's own; `without`: tensors that are left out; `arrays`: tensors
    with other values, uint8 ones being blocks of the format `format_name`."""
    writer = GGUFWriter(str(path), family.arch)
    writer.add_string("general.name", f"tiny {family.arch}")
    metadata = {
        "block_count": family.layers, "context_length": family.context, "embedding_length": family.dim, "feed_forward_length": family.ffn,
        "attention.head_count": family.heads, "attention.head_count_kv": family.kv_heads,
    }  # fmt: skip
    if "ffn_gate_inp" in family.matrices and family.arch != "llama":
        metadata["expert_feed_forward_length"] = family.ffn
    for name, value in (metadata | family.metadata | (changed or {})).items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(f"{family.arch}.{name}", value)
    for name, array in (weights(family, arrays or ()) | (arrays or {})).items():
        if name not in without:
            writer.add_tensor(name, array, raw_dtype=FORMATS[format_name].type if array.dtype == np.uint8 else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("out", help="the GGUF file to write")
    args = parser.parse_args()
    write_gguf(args.out, FAMILIES[args.family])


if __name__ == "__main__":
    main()
