#!/usr/bin/env python3
"""Writes a whole GGUF model of any shape with random weights: seeded, in quantised form, as fast as the disk.

Weights have mean 0 and standard deviation 1/sqrt(columns), norms stand around 1, so activations stay finite. The text it
writes is noise; its bytes, shapes, formats and metadata are those of a real file. The same arguments give the same bytes.

  make_model.py tiny.gguf --preset tiny-llama
  make_model.py big.gguf --preset llama-3-8b --types Q4_K_M
  make_model.py odd.gguf --family llama --layers 3 --dim 80 --ffn 56 --heads 5 --kv-heads 1 --types F16,BF16,token_embd=F32

--types is one of: a format (Q8_0); a mix as llama.cpp's quantiser makes it (Q4_K_M, Q4_K_S, Q5_K_M, Q5_K_S); a list of
formats that the matrices take in turn (Q4_0,Q6_K). NAME=FORMAT adds an exception for tensors whose last name is NAME
(attn_v=Q6_K). Where a row is not whole blocks the format falls back as in llama.cpp: Q4_K to Q5_0, Q5_K to Q5_1, Q6_K to
Q8_0, Q2_K, Q3_K and IQ4_XS to IQ4_NL, others to F16.
"""

import argparse
import dataclasses
import math
import zlib
from dataclasses import dataclass

import numpy as np
from block_formats import FORMATS
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.constants import LlamaFileType
from random_blocks import BlockSource
from synthetic_vocab import bpe_vocab, spm_vocab

FAMILIES = ("llama", "qwen2", "gemma3", "gpt-oss", "qwen3moe", "qwen3", "phi3", "gemma", "gemma2", "granite", "smollm3", "gpt2", "starcoder2")
FUSED_QKV = ("phi3", "gpt2")
PLAIN_MLP = ("gpt2", "starcoder2")  # LayerNorm and biases everywhere, no gate
HEAD_NORMS = ("gemma3", "qwen3", "qwen3moe")
POST_NORMS = ("gemma2", "gemma3")
SPM = {"gemma": "gemma", "gemma2": "gemma", "gemma3": "gemma", "phi3": "phi3"}  # vocabularies of SentencePiece
SCALARS = {  # beside counts, RoPE and epsilon
    "gemma2": {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    "granite": {"embedding_scale": 12.0, "residual_scale": 0.22, "attention.scale": 0.015625, "logit_scale": 8.0},  # 3.1 2B
}
MIXES = ("Q4_K_M", "Q4_K_S", "Q5_K_M", "Q5_K_S")
FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "IQ4_XS": "IQ4_NL"}


@dataclass(frozen=True)
class Shape:
    """All that decides a synthetic model. 0 means: derived, or absent."""

    family: str = "llama"
    layers: int = 2
    dim: int = 256
    ffn: int = 512  # of one expert, where there are some
    experts: int = 0
    experts_used: int = 0
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 0
    vocab: int = 512
    ctx: int = 2048
    types: str = "Q4_0"
    tied: bool = True
    rope_base: float = 10000.0
    rope_factors: float = 0.0  # Llama 3.1's frequency factors for a context this many times 8,192
    yarn: float = 0.0  # YaRN: the context is this many times the one trained on
    window: int = 0
    eps: float = 1e-5
    pre: str = "gpt-2"

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise SystemExit(f"error: unknown family '{self.family}' ({', '.join(FAMILIES)})")
        for name in ("layers", "dim", "ffn", "heads", "kv_heads", "vocab", "ctx"):
            if getattr(self, name) < 1:
                raise SystemExit(f"error: {name} must be at least 1")
        if self.heads % self.kv_heads or (not self.head_dim and self.dim % self.heads):
            raise SystemExit("error: kv_heads must divide heads, and heads must divide dim where head_dim is not given")
        if self.experts_used > self.experts or (self.experts > 0) != (self.experts_used > 0):
            raise SystemExit("error: experts_used must be from 1 to experts, and both 0 without experts")
        if self.family in ("gpt-oss", "qwen3moe") and not self.experts:
            raise SystemExit(f"error: a {self.family} model has experts")
        if self.key_length % 2:
            raise SystemExit(f"error: a head dimension of {self.key_length} is odd")

    @property
    def key_length(self):
        return self.head_dim or self.dim // self.heads


PRESETS = {
    # For tests: under 300 KB, every format of the first eleven, a head size that dim does not give.
    "tiny-llama": Shape(
        layers=2, dim=256, ffn=64, heads=6, kv_heads=2, head_dim=16, vocab=272, ctx=512, tied=False,
        types="Q4_K,F32,Q5_K,Q4_0,Q6_K,Q5_K,Q5_1,Q4_1,F16,BF16,Q5_0,Q8_0,Q4_K,Q5_1,token_embd=Q4_0,output=Q4_K",
    ),
    # Rows that are not whole blocks of 32 anywhere, five heads on one.
    "tiny-odd": Shape(layers=3, dim=80, ffn=56, heads=5, kv_heads=1, vocab=300, ctx=300, types="F16,BF16,F32"),
    "tiny-qwen2": Shape(
        family="qwen2", layers=2, dim=128, ffn=224, heads=4, kv_heads=2, vocab=384, ctx=512, rope_base=1e6, eps=1e-6,
        pre="qwen2", types="Q8_0,Q5_0,Q4_1,Q4_0,Q5_1",
    ),
    # Six layers, because the sixth is the first that sees beyond the window.
    "tiny-gemma3": Shape(
        family="gemma3", layers=6, dim=64, ffn=96, heads=4, kv_heads=1, head_dim=32, vocab=448, ctx=512, rope_base=1e6,
        window=32, eps=1e-6, types="Q4_0,Q5_0,Q8_0,Q4_1,Q5_1,F16,BF16",
    ),
    # A local and a global layer; biases, sinks and YaRN everywhere.
    "tiny-gpt-oss": Shape(
        family="gpt-oss", layers=2, dim=64, ffn=96, heads=4, kv_heads=2, head_dim=32, vocab=300, ctx=512, tied=False,
        experts=8, experts_used=3, yarn=4, rope_base=150000.0, window=32, pre="llama-bpe",
        types="Q8_0,ffn_gate_exps=MXFP4,ffn_up_exps=MXFP4,ffn_down_exps=MXFP4",
    ),
    "tiny-qwen3moe": Shape(
        family="qwen3moe", layers=2, dim=64, ffn=64, heads=4, kv_heads=2, head_dim=32, vocab=320, ctx=512, rope_base=1e6,
        experts=12, experts_used=4, eps=1e-6, pre="qwen2", types="Q8_0,Q5_1,Q4_1,IQ4_NL,Q5_0",
    ),
    "qwen2.5-0.5b": Shape(
        family="qwen2", layers=24, dim=896, ffn=4864, heads=14, kv_heads=2, vocab=151936, ctx=32768, rope_base=1e6,
        eps=1e-6, pre="qwen2", types="Q4_K_M",
    ),
    "qwen3-0.6b": Shape(
        family="qwen3", layers=28, dim=1024, ffn=3072, heads=16, kv_heads=8, head_dim=128, vocab=151936, ctx=40960,
        rope_base=1e6, eps=1e-6, pre="qwen2", types="Q4_K_M",
    ),
    "phi-3-mini-4k": Shape(
        family="phi3", layers=32, dim=3072, ffn=8192, heads=32, kv_heads=32, vocab=32064, ctx=4096, window=2047, tied=False,
        types="Q4_K_M",
    ),
    "gemma-2b": Shape(
        family="gemma", layers=18, dim=2048, ffn=16384, heads=8, kv_heads=1, head_dim=256, vocab=256000, ctx=8192, eps=1e-6,
        types="Q4_K_M",
    ),
    "gemma-2-2b": Shape(
        family="gemma2", layers=26, dim=2304, ffn=9216, heads=8, kv_heads=4, head_dim=256, vocab=256000, ctx=8192,
        window=4096, eps=1e-6, types="Q4_K_M",
    ),
    "granite-3.1-2b": Shape(
        family="granite", layers=40, dim=2048, ffn=8192, heads=32, kv_heads=8, vocab=49155, ctx=131072, rope_base=5e6,
        types="Q4_K_M",
    ),
    "smollm3-3b": Shape(
        family="smollm3", layers=36, dim=2048, ffn=11008, heads=16, kv_heads=4, vocab=128256, ctx=65536, rope_base=5e6,
        eps=1e-6, pre="smollm", types="Q4_K_M",
    ),
    "gpt2": Shape(family="gpt2", layers=12, dim=768, ffn=3072, heads=12, kv_heads=12, vocab=50257, ctx=1024, types="Q8_0"),
    "starcoder2-3b": Shape(
        family="starcoder2", layers=30, dim=3072, ffn=12288, heads=24, kv_heads=2, vocab=49152, ctx=16384,
        rope_base=999999.4420358813, window=4096, types="Q4_K_M",
    ),
    "llama-1b": Shape(
        layers=16, dim=2048, ffn=8192, heads=32, kv_heads=8, vocab=128256, ctx=131072, rope_base=5e5, rope_factors=32,
        pre="llama-bpe", types="Q4_K_M",
    ),
    "llama-3-8b": Shape(
        layers=32, dim=4096, ffn=14336, heads=32, kv_heads=8, vocab=128256, ctx=8192, rope_base=5e5, tied=False,
        pre="llama-bpe", types="Q4_K_M",
    ),
    "gpt-oss-20b": Shape(
        family="gpt-oss", layers=24, dim=2880, ffn=2880, heads=64, kv_heads=8, head_dim=64, vocab=201088, ctx=131072,
        tied=False, experts=32, experts_used=4, yarn=32, rope_base=150000.0, window=128, pre="llama-bpe",
        types="Q8_0,ffn_gate_exps=MXFP4,ffn_up_exps=MXFP4,ffn_down_exps=MXFP4",
    ),
    "qwen3-30b-a3b": Shape(
        family="qwen3moe", layers=48, dim=2048, ffn=768, heads=32, kv_heads=4, head_dim=128, vocab=151936, ctx=40960,
        tied=False, experts=128, experts_used=8, rope_base=1e6, eps=1e-6, pre="qwen2", types="Q4_K_M",
    ),
}


@dataclass(frozen=True)
class Tensor:
    name: str
    rows: int  # 0: a vector
    columns: int
    kind: str  # "matrix", "norm", "bias", "factors", "sinks"
    layer: int = -1
    experts: int = 0  # matrices or vectors in the tensor; 0: one, without a dimension for them

    @property
    def role(self):
        return self.name.split(".")[-2]  # "attn_v" of blk.3.attn_v.weight


def has_bias(s, role):
    return s.family == "gpt-oss" or s.family in PLAIN_MLP or (s.family == "qwen2" and role in ("attn_q", "attn_k", "attn_v"))


def list_norm(s, name, layer=-1):
    yield Tensor(f"{name}.weight", 0, s.dim, "norm", layer)
    if s.family in PLAIN_MLP:
        yield Tensor(f"{name}.bias", 0, s.dim, "bias", layer)


def list_tensors(s):
    yield Tensor("token_embd.weight", s.vocab, s.dim, "matrix")
    if s.family == "gpt2":
        yield Tensor("position_embd.weight", s.ctx, s.dim, "matrix")
    if s.rope_factors:
        yield Tensor("rope_freqs.weight", 0, s.key_length // 2, "factors")
    for layer in range(s.layers):
        yield from list_attention(s, layer)
        yield from list_norm(s, f"blk.{layer}.{'post_attention_norm' if s.family == 'gpt-oss' else 'ffn_norm'}", layer)
        yield from list_feed_forward(s, layer)
        if s.family == "gpt-oss":
            yield Tensor(f"blk.{layer}.attn_sinks.weight", 0, s.heads, "sinks", layer)
        for role, families, columns in (
            ("attn_q_norm", HEAD_NORMS, s.key_length),
            ("attn_k_norm", HEAD_NORMS, s.key_length),
            ("post_attention_norm", POST_NORMS, s.dim),
            ("post_ffw_norm", POST_NORMS, s.dim),
        ):
            if s.family in families:
                yield Tensor(f"blk.{layer}.{role}.weight", 0, columns, "norm", layer)
    yield from list_norm(s, "output_norm")
    if not s.tied:
        yield Tensor("output.weight", s.vocab, s.dim, "matrix")


def list_attention(s, layer):
    """The norm before, then q, k, v (or one matrix of their rows) and the output, each with its bias where there is one."""
    q_dim, kv_dim = s.heads * s.key_length, s.kv_heads * s.key_length
    yield from list_norm(s, f"blk.{layer}.attn_norm", layer)
    fused = [("attn_qkv", q_dim + 2 * kv_dim, s.dim)]
    separate = [("attn_q", q_dim, s.dim), ("attn_k", kv_dim, s.dim), ("attn_v", kv_dim, s.dim)]
    for role, rows, columns in (fused if s.family in FUSED_QKV else separate) + [("attn_output", s.dim, q_dim)]:
        yield Tensor(f"blk.{layer}.{role}.weight", rows, columns, "matrix", layer)
        if has_bias(s, role):
            yield Tensor(f"blk.{layer}.{role}.bias", 0, rows, "bias", layer)


def list_feed_forward(s, layer):
    """gate, up and down; of every expert in one tensor, after the router that chooses them."""
    suffix = "_exps" if s.experts else ""
    rows = [("ffn_gate_inp", s.experts, s.dim, 0)] if s.experts else []
    if s.family not in PLAIN_MLP and s.family != "phi3":
        rows.append((f"ffn_gate{suffix}", s.ffn, s.dim, s.experts))
    rows += [
        (f"ffn_up{suffix}", 2 * s.ffn if s.family == "phi3" else s.ffn, s.dim, s.experts),  # phi3: the gate's rows first
        (f"ffn_down{suffix}", s.dim, s.ffn, s.experts),
    ]
    for role, n_rows, columns, experts in rows:
        yield Tensor(f"blk.{layer}.{role}.weight", n_rows, columns, "matrix", layer, experts)
        if has_bias(s, role):
            yield Tensor(f"blk.{layer}.{role}.bias", 0, n_rows, "bias", layer, experts)


class Types:
    """Chooses a format for each matrix."""

    def __init__(self, spec, n_layers, tied):
        words = [word.strip() for word in spec.split(",") if word.strip()]
        self.exceptions = dict(word.split("=", 1) for word in words if "=" in word)
        self.cycle = [word for word in words if "=" not in word]
        unknown = {*self.cycle, *self.exceptions.values()} - FORMATS.keys() - set(MIXES)
        if unknown or not self.cycle or (len(self.cycle) > 1 and set(self.cycle) & set(MIXES)):
            raise SystemExit(f"error: --types {spec} is not a format, a mix ({', '.join(MIXES)}) or a list of formats")
        self.n_layers, self.tied, self.used = n_layers, tied, 0

    def choose(self, tensor):
        if tensor.role in ("ffn_gate_inp", "position_embd"):  # converters and quantisers leave them alone
            return "F32"
        name = self.exceptions.get(tensor.role) or self._by_rule(tensor)
        while tensor.columns % FORMATS[name].elements:
            name = FALLBACK.get(name, "F16")
        return name

    def _by_rule(self, tensor):
        base = self.cycle[0]
        if len(self.cycle) > 1:
            if tensor.layer < 0:
                return base
            self.used += 1
            return self.cycle[(self.used - 1) % len(self.cycle)]
        if tensor.role == "output" or (tensor.role == "token_embd" and self.tied):
            return "Q6_K" if base in MIXES or base.endswith("_K") else base
        if base not in MIXES:
            return base
        kind, size = base[:4], base[-1]
        if tensor.role == "attn_qkv" and size == "M":
            return {"Q4_K": "Q5_K", "Q5_K": "Q6_K"}[kind]
        if tensor.role in ("attn_v", "ffn_down", "ffn_down_exps"):
            eighth = self.n_layers // 8
            i = tensor.layer
            if size == "M" and (i < eighth or i >= 7 * self.n_layers // 8 or (i - eighth) % 3 == 2):
                return "Q6_K"
            if base == "Q4_K_S" and i < (4 if tensor.role == "attn_v" else eighth):
                return "Q5_K"
        return kind


def llama3_rope_factors(n, head_dim, base, factor):
    """The divisors of n frequencies for Llama 3.1's long context (Llama team 2024; low 1, high 4, first context 8,192)."""
    wavelength = 2 * math.pi * base ** (2 * np.arange(n) / head_dim)
    smooth = np.clip((8192 / wavelength - 1.0) / (4.0 - 1.0), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def vector(tensor, s, seed):
    rng = np.random.default_rng([seed, zlib.crc32(tensor.name.encode())])
    if tensor.kind == "factors":
        return llama3_rope_factors(tensor.columns, s.key_length, s.rope_base, s.rope_factors)
    centre = 1.0 if tensor.kind == "norm" else 0.0
    spread = 1.0 if tensor.kind == "sinks" else 0.1
    shape = (tensor.experts, tensor.columns) if tensor.experts else (tensor.columns,)
    return (centre + spread * rng.standard_normal(shape)).astype(np.float32)


def add_metadata(writer, s, seed, vocab):
    family = s.family
    writer.add_string("general.type", "model")
    writer.add_string("general.name", f"synthetic {family} {s.layers}x{s.dim} seed {seed}")
    counts = {
        "context_length": s.ctx,
        "embedding_length": s.dim,
        "block_count": s.layers,
        "feed_forward_length": s.ffn,
        "attention.head_count": s.heads,
        "attention.head_count_kv": s.kv_heads,
    }
    if s.head_dim:
        counts |= {"attention.key_length": s.head_dim, "attention.value_length": s.head_dim}
    if s.window:
        counts["attention.sliding_window"] = s.window
    if s.experts:
        counts |= {"expert_count": s.experts, "expert_used_count": s.experts_used, "expert_feed_forward_length": s.ffn}
    if family == "llama":
        counts |= {"rope.dimension_count": s.key_length, "vocab_size": s.vocab}
    for key, value in counts.items():
        writer.add_uint32(f"{family}.{key}", value)
    scalars = {} if family == "gpt2" else {"rope.freq_base": s.rope_base}
    scalars[f"attention.layer_norm_{'' if family in PLAIN_MLP else 'rms_'}epsilon"] = s.eps
    scalars |= SCALARS.get(family, {})
    for key, value in scalars.items():
        writer.add_float32(f"{family}.{key}", value)
    if s.yarn:
        writer.add_string(f"{family}.rope.scaling.type", "yarn")
        writer.add_float32(f"{family}.rope.scaling.factor", s.yarn)
        writer.add_uint32(f"{family}.rope.scaling.original_context_length", int(s.ctx / s.yarn))
    first = s.types.split(",")[0]
    file_type = getattr(LlamaFileType, f"MOSTLY_{first}", None) or LlamaFileType[
        {"F32": "ALL_F32", "Q5_K": "MOSTLY_Q5_K_S", "Q4_K": "MOSTLY_Q4_K_S"}.get(first, "GUESSED")
    ]
    writer.add_uint32("general.file_type", file_type)
    writer.add_uint32("general.quantization_version", 2)
    for key, value in vocab.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)


def copied_vocab(path):
    """The tokenizer's metadata of a real file, values as they are."""
    vocab = {}
    for key, field in GGUFReader(path).fields.items():
        if key.startswith("tokenizer."):
            vocab[key] = field.contents()
            if field.types[0] not in (GGUFValueType.ARRAY, GGUFValueType.STRING, GGUFValueType.BOOL, GGUFValueType.UINT32):
                vocab[key] = int(vocab[key])
    if "tokenizer.ggml.tokens" not in vocab:
        raise SystemExit(f"error: {path} holds no vocabulary")
    return vocab


def make_model(path, shape, seed=0, tokenizer=None):
    """Writes the model to `path` and returns its Shape. `tokenizer`: a GGUF file whose vocabulary replaces shape.vocab."""
    if tokenizer:
        vocab = copied_vocab(tokenizer)
        shape = dataclasses.replace(shape, vocab=len(vocab["tokenizer.ggml.tokens"]))
    else:
        vocab = spm_vocab(shape.vocab, seed, SPM[shape.family]) if shape.family in SPM else bpe_vocab(shape.vocab, seed, shape.pre)
    writer = GGUFWriter(str(path), shape.family)
    add_metadata(writer, shape, seed, vocab)

    types, tensors = Types(shape.types, shape.layers, shape.tied), []
    for tensor in list_tensors(shape):
        if tensor.kind == "matrix":
            fmt = FORMATS[types.choose(tensor)]
            row_bytes = tensor.columns // fmt.elements * fmt.bytes
            dims = (*([tensor.experts] if tensor.experts else []), tensor.rows, row_bytes)
            writer.add_tensor_info(tensor.name, dims, np.dtype(np.uint8), math.prod(dims), fmt.type)
        else:
            fmt = FORMATS["F32"]
            dims = (*([tensor.experts] if tensor.experts else []), tensor.columns)
            writer.add_tensor_info(tensor.name, dims, np.dtype(np.float32), math.prod(dims) * 4)
        tensors.append((tensor, fmt))

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    source = BlockSource(seed)
    for tensor, fmt in tensors:
        if tensor.kind == "matrix":
            std = 1 / math.sqrt(tensor.columns)
            rows = tensor.rows * max(1, tensor.experts)
            writer.write_tensor_data(source.rows(tensor.name, fmt.name, rows, tensor.columns, std))
        else:
            writer.write_tensor_data(vector(tensor, shape, seed))
    writer.close()
    return shape


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("out", help="the GGUF file to write")
    parser.add_argument("--preset", choices=PRESETS, help="a shape to start from; the options below change it")
    for field in dataclasses.fields(Shape):
        flag = "--" + field.name.replace("_", "-")
        if field.type in ("bool", bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help="the head is token_embd")
        elif field.name == "family":
            parser.add_argument(flag, choices=FAMILIES)
        else:
            parser.add_argument(flag, type=type(field.default), help=f"default {field.default}", metavar=flag[2:].upper())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokenizer", metavar="FROM.gguf", help="copy the vocabulary of this file")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(Shape) if getattr(args, f.name) is not None}
    if not args.preset:
        qwen, experts = {"pre": "qwen2", "eps": 1e-6}, {"experts": 8, "experts_used": 2}
        defaults = {
            "gemma3": {"window": 512, "eps": 1e-6},
            "qwen2": qwen,
            "qwen3moe": qwen | experts,
            "gpt-oss": {"window": 128, "pre": "llama-bpe"} | experts,
        }
        given = defaults.get(given.get("family"), {}) | given
    shape = make_model(args.out, dataclasses.replace(PRESETS.get(args.preset, Shape()), **given), args.seed, args.tokenizer)
    print(f"{args.out}: {shape.family}, {shape.layers} layers, dim {shape.dim}, vocabulary {shape.vocab}")


if __name__ == "__main__":
    main()
