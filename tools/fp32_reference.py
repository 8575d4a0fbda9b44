#!/usr/bin/env python3
"""Evaluates a GGUF model in fp32 with numpy: the meaning that the worker's arithmetic is held against.

Weights are dequantised by the `gguf` package, everything after that is plain float32 matrix algebra with an fp32 KV
cache (here simply the K and V of the window). Families: llama, qwen2, gemma3, gpt-oss, qwen3moe. Nothing is shared with
the C++ code.

Perplexity protocol (the same as `worker-orcd perplexity`): the token ids of the file, BOS first if the vocabulary says so,
are cut into windows of --ctx tokens that do not overlap; a last window of fewer than 2 tokens is dropped. Each window is
evaluated from an empty cache starting at position 0. The negative log-likelihoods of tokens 1..n-1 of every window are
summed, and ppl = exp(nll / predicted).

  fp32_reference.py MODEL --ids ids.json                  ids: a JSON list, or blank-separated as `tokenize` prints them
  fp32_reference.py MODEL --file text.txt                 ids from tools/tokenizer_oracle.py
  fp32_reference.py MODEL --ids ids.json --logits out.npy logits of the first window, [n_tokens, vocab] float32
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

LOGIT_ROWS = 64  # tokens whose logits are held at once: 64 * 262,144 * 4 bytes = 64 MiB


@dataclass(frozen=True)
class Rope:
    """How one kind of layer turns positions into angles."""

    dim: int
    interleaved: bool  # rotates (2i, 2i+1); otherwise (i, i + dim/2)
    frequencies: np.ndarray  # [dim/2] radians per position, float64
    magnitude: float  # of the rotated pair; 1 but for YaRN

    def apply(self, x):
        """Rotary positions (Su et al. 2021) on x [n_tokens, heads, head_dim]; token t stands at position t."""
        angle = np.outer(np.arange(len(x)), self.frequencies)[:, None, :]
        cos = (np.cos(angle) * self.magnitude).astype(np.float32)
        sin = (np.sin(angle) * self.magnitude).astype(np.float32)
        half = self.dim // 2
        first, second = (slice(0, half), slice(half, self.dim))
        if self.interleaved:
            first, second = (slice(0, self.dim, 2), slice(1, self.dim, 2))
        out = x.copy()
        out[..., first] = x[..., first] * cos - x[..., second] * sin
        out[..., second] = x[..., first] * sin + x[..., second] * cos
        return out


@dataclass(frozen=True)
class Spec:
    """The hyperparameters of a model and the few facts in which the families differ."""

    family: str
    n_layers: int
    dim: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    eps: float
    rope: Rope
    local_rope: Rope  # of sliding-window layers
    window: int  # a query of a local layer sees its own and the window-1 positions before it
    local: tuple  # a bool for each layer
    query_scale: float
    embedding_scale: float
    gelu: bool  # GELU (tanh form) instead of SiLU on the gate
    softcap: float  # of the logits; 0 = none
    ffn_norm: str  # the norm before the feed-forward network
    n_experts: int  # 0: one network for every token
    n_experts_used: int


class GgufModel:
    """Metadata and dequantised tensors of one GGUF file. Tensors are dequantised when first used, and kept."""

    def __init__(self, path):
        self.reader = GGUFReader(str(path))
        self.tensors = {t.name: t for t in self.reader.tensors}
        self.cache = {}
        self.spec = read_spec(self)

    def get(self, key, default=None):
        field = self.reader.fields.get(key)
        if field is not None:
            return field.contents()
        if default is None:
            raise SystemExit(f"error: the file has no {key}")
        return default

    def has(self, name):
        return name in self.tensors

    def weight(self, name):
        """[rows, K] (or [n]) float32."""
        if name not in self.cache:
            if name not in self.tensors:
                raise SystemExit(f"error: the file has no tensor {name}")
            tensor = self.tensors[name]
            shape = [int(n) for n in reversed(tensor.shape)]
            values = dequantize(tensor.data, tensor.tensor_type)
            self.cache[name] = np.ascontiguousarray(values, dtype=np.float32).reshape(shape)
        return self.cache[name]


def read_spec(model):
    family = model.get("general.architecture")
    known = ("llama", "qwen2", "gemma3", "gpt-oss", "qwen3moe")
    if family not in known:
        raise SystemExit(f"error: no fp32 reference for the family '{family}' ({', '.join(known)})")

    def key(name, default=None):
        return model.get(f"{family}.{name}", default)

    n_layers, dim, n_heads = key("block_count"), key("embedding_length"), key("attention.head_count")
    head_dim = key("attention.key_length", dim // n_heads)
    if key("attention.value_length", head_dim) != head_dim:
        raise SystemExit("error: key_length and value_length differ")
    gemma = family == "gemma3"
    # Gemma 3 27B scales queries by its nominal head size, all others by the real one (Gemma 3 report, 2025).
    scaled_dim = dim // n_heads if gemma and n_layers == 62 else head_dim
    rope = read_rope(model, key, head_dim, interleaved=family == "llama")
    local_rope = rope
    if gemma:  # local layers have their own base, and are not scaled
        base = key("rope.freq_base_swa", key("rope.local.freq_base", 10000.0))
        local_rope = Rope(rope.dim, False, plain_frequencies(base, rope.dim), 1.0)
    window = key("attention.sliding_window", 0) if family != "qwen2" else 0
    pattern = key("attention.sliding_window_pattern", 6) if gemma else 2 if family == "gpt-oss" else 0
    if not isinstance(pattern, list):  # every pattern-th layer is global; 0: none
        pattern = [pattern == 0 or (layer + 1) % pattern != 0 for layer in range(n_layers)]
    return Spec(
        family=family,
        n_layers=n_layers,
        dim=dim,
        n_heads=n_heads,
        n_kv_heads=key("attention.head_count_kv", n_heads),
        head_dim=head_dim,
        eps=key("attention.layer_norm_rms_epsilon"),
        rope=rope,
        local_rope=local_rope,
        window=window,
        local=tuple(window > 0 and bool(is_local) for is_local in pattern),
        query_scale=1.0 / math.sqrt(scaled_dim),
        embedding_scale=math.sqrt(dim) if gemma else 1.0,
        gelu=gemma,
        softcap=key("final_logit_softcapping", 0.0) if gemma else 0.0,
        ffn_norm="post_attention_norm" if family == "gpt-oss" else "ffn_norm",
        n_experts=key("expert_count", 0),
        n_experts_used=key("expert_used_count", 0),
    )


def plain_frequencies(base, dim):
    return base ** (-2.0 * np.arange(dim // 2, dtype=np.float64) / dim)


def read_rope(model, key, head_dim, interleaved):
    dim, base = key("rope.dimension_count", head_dim), key("rope.freq_base", 10000.0)
    scaling, factor = key("rope.scaling.type", "none"), key("rope.scaling.factor", 1.0)
    frequencies, magnitude = plain_frequencies(base, dim), 1.0
    if model.has("rope_freqs.weight"):
        frequencies = frequencies / model.weight("rope_freqs.weight")
    if scaling == "linear":
        frequencies = frequencies / factor
    elif scaling == "yarn":  # Peng et al. 2023, eq. 17-18 and 22, with the bounds rounded as its authors' code does
        original = key("rope.scaling.original_context_length", key("context_length"))
        fast, slow = key("rope.scaling.yarn_beta_fast", 32.0), key("rope.scaling.yarn_beta_slow", 1.0)

        def pair_with(turns):
            return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

        low, high = pair_with(fast), pair_with(slow)
        if model.get("general.architecture") != "gpt-oss":  # OpenAI's code leaves the bounds as they are
            low, high = math.floor(low), math.ceil(high)
        low, high = max(0, low), min(dim - 1, high)
        ramp = np.clip((np.arange(dim // 2) - low) / max(0.001, high - low), 0, 1)
        frequencies = frequencies * (1 - ramp) + frequencies / factor * ramp
        magnitude = 1 + 0.1 * math.log(factor)
    elif scaling != "none":
        raise SystemExit(f"error: no fp32 reference for the rope scaling '{scaling}'")
    return Rope(dim, interleaved, frequencies, magnitude)


def rms_norm(x, w, eps):
    """x * rsqrt(mean(x^2) + eps) * w over the last axis (Zhang & Sennrich 2019)."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(eps)) * w


def silu(x):
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right 0
        return x / (1 + np.exp(-x))


def gelu_tanh(x):
    """The tanh form of GELU (Hendrycks & Gimpel 2016)."""
    return np.float32(0.5) * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)))


def project(model, name, x):
    y = x @ model.weight(f"{name}.weight").T
    return y + model.weight(f"{name}.bias") if model.has(f"{name}.bias") else y


def attention(model, layer, x):
    spec, n_tokens, prefix = model.spec, len(x), f"blk.{layer}"
    q = project(model, f"{prefix}.attn_q", x).reshape(n_tokens, spec.n_heads, spec.head_dim)
    k = project(model, f"{prefix}.attn_k", x).reshape(n_tokens, spec.n_kv_heads, spec.head_dim)
    v = project(model, f"{prefix}.attn_v", x).reshape(n_tokens, spec.n_kv_heads, spec.head_dim)
    if model.has(f"{prefix}.attn_q_norm.weight"):
        q = rms_norm(q, model.weight(f"{prefix}.attn_q_norm.weight"), spec.eps)
        k = rms_norm(k, model.weight(f"{prefix}.attn_k_norm.weight"), spec.eps)
    local = spec.local[layer]
    rope = spec.local_rope if local else spec.rope
    q = rope.apply(q) * np.float32(spec.query_scale)
    k = rope.apply(k)

    distance = np.arange(n_tokens)[:, None] - np.arange(n_tokens)[None, :]  # query - key
    hidden = distance < 0
    if local:
        hidden |= distance >= spec.window
    group = spec.n_heads // spec.n_kv_heads
    out = np.empty_like(q)
    for head in range(spec.n_heads):
        scores = q[:, head] @ k[:, head // group].T
        scores[hidden] = -np.inf
        top, sink = scores.max(axis=-1, keepdims=True), None
        if model.has(f"{prefix}.attn_sinks.weight"):  # a logit of the head that has no value
            sink = model.weight(f"{prefix}.attn_sinks.weight")[head]
            top = np.maximum(top, sink)
        scores = np.exp(scores - top)
        total = scores.sum(axis=-1, keepdims=True) + (0 if sink is None else np.exp(sink - top))
        out[:, head] = (scores / total) @ v[:, head // group]
    return project(model, f"{prefix}.attn_output", out.reshape(n_tokens, -1))


def clamped_swiglu(gate, up):
    """SwiGLU as gpt-oss has it (OpenAI 2025): clamped, a steeper sigmoid, 1 added to the linear half."""
    gate, up = np.minimum(gate, np.float32(7)), np.clip(up, np.float32(-7), np.float32(7))
    return gate / (1 + np.exp(np.float32(-1.702) * gate)) * (up + 1)


def experts(model, layer, x):
    """The n_experts_used experts that the router likes best, weighted by the softmax of its logits for them."""
    spec, prefix = model.spec, f"blk.{layer}"

    def one(name, expert, y):
        y = y @ model.weight(f"{prefix}.{name}.weight")[expert].T
        return y + model.weight(f"{prefix}.{name}.bias")[expert] if model.has(f"{prefix}.{name}.bias") else y

    logits = project(model, f"{prefix}.ffn_gate_inp", x)
    chosen = np.argsort(-logits, axis=-1, kind="stable")[:, : spec.n_experts_used]
    weights = np.take_along_axis(logits, chosen, axis=-1)
    weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    out = np.zeros_like(x)
    for expert in np.unique(chosen):
        tokens, ranks = np.nonzero(chosen == expert)
        gate, up = one("ffn_gate_exps", expert, x[tokens]), one("ffn_up_exps", expert, x[tokens])
        h = clamped_swiglu(gate, up) if spec.family == "gpt-oss" else silu(gate) * up
        out[tokens] += weights[tokens, ranks, None] * one("ffn_down_exps", expert, h)
    return out


def feed_forward(model, layer, x):
    if model.spec.n_experts:
        return experts(model, layer, x)
    prefix = f"blk.{layer}"
    gate = project(model, f"{prefix}.ffn_gate", x)
    gate = gelu_tanh(gate) if model.spec.gelu else silu(gate)
    return project(model, f"{prefix}.ffn_down", gate * project(model, f"{prefix}.ffn_up", x))


def hidden_states(model, ids):
    """ids at positions 0.. from an empty cache -> the normed states before the head, [n_tokens, dim]."""
    spec = model.spec
    embedding = model.weight("token_embd.weight")
    if min(ids) < 0 or max(ids) >= len(embedding):
        raise SystemExit(f"error: a token id is outside the vocabulary of {len(embedding)}")
    x = embedding[np.asarray(ids)] * np.float32(spec.embedding_scale)

    def norm(name, y):
        return rms_norm(y, model.weight(f"{name}.weight"), spec.eps)

    for layer in range(spec.n_layers):
        prefix = f"blk.{layer}"
        y = attention(model, layer, norm(f"{prefix}.attn_norm", x))
        if spec.ffn_norm != "post_attention_norm" and model.has(f"{prefix}.post_attention_norm.weight"):
            y = norm(f"{prefix}.post_attention_norm", y)
        x = x + y
        y = feed_forward(model, layer, norm(f"{prefix}.{spec.ffn_norm}", x))
        if model.has(f"{prefix}.post_ffw_norm.weight"):
            y = norm(f"{prefix}.post_ffw_norm", y)
        x = x + y
    return norm("output_norm", x)


def logits_of(model, states):
    head = "output.weight" if model.has("output.weight") else "token_embd.weight"
    logits = states @ model.weight(head).T
    cap = np.float32(model.spec.softcap)
    return cap * np.tanh(logits / cap) if cap else logits


def window_nll(model, ids):
    """Sum of -log p(ids[t] | ids[:t]) for t = 1 .. n-1."""
    states = hidden_states(model, ids)
    nll = 0.0
    for start in range(0, len(ids) - 1, LOGIT_ROWS):
        stop = min(start + LOGIT_ROWS, len(ids) - 1)
        logits = logits_of(model, states[start:stop])
        top = logits.max(axis=-1, keepdims=True)
        log_sum = np.log(np.exp(logits - top).sum(axis=-1, dtype=np.float64)) + top[:, 0].astype(np.float64)
        chosen = logits[np.arange(stop - start), ids[start + 1 : stop + 1]].astype(np.float64)
        nll += float((log_sum - chosen).sum())
    return nll


def perplexity(model, ids, window, progress=None):
    predicted, nll = 0, 0.0
    for start in range(0, len(ids), window):
        part = ids[start : start + window]
        if len(part) < 2:
            break
        nll += window_nll(model, part)
        predicted += len(part) - 1
        if progress:
            progress(start + len(part), math.exp(nll / predicted))
    if predicted == 0:
        raise SystemExit("error: a perplexity needs at least 2 tokens")
    return {"tokens": len(ids), "predicted": predicted, "nll": nll, "ppl": math.exp(nll / predicted)}


def read_ids(path):
    text = Path(path).read_text()
    ids = json.loads(text) if text.lstrip().startswith("[") else [int(word) for word in text.split()]
    if not isinstance(ids, list) or not ids or not all(type(i) is int for i in ids):
        raise SystemExit(f"error: {path} is not a list of token ids")
    return ids


def encode_file(model, model_path, text_path, n_bytes):
    """Ids of a text by the tokenizer oracle; BOS first if the vocabulary says so."""
    from tokenizer_oracle import load_oracle

    text = Path(text_path).read_bytes()[:n_bytes].decode("utf-8")
    tokenizer, _, _ = load_oracle(str(model_path), None, False)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    adds_bos = model.get("tokenizer.ggml.add_bos_token", model.get("tokenizer.ggml.model") == "llama")
    return [model.get("tokenizer.ggml.bos_token_id"), *ids] if adds_bos else ids


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Prints JSON: tokens, predicted, nll, ppl.")
    parser.add_argument("model", help="GGUF file of a family named above")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--ids", metavar="FILE", help="token ids: a JSON list, or separated by blanks")
    source.add_argument("--file", metavar="FILE", help="text, tokenised by tools/tokenizer_oracle.py")
    parser.add_argument("--bytes", type=int, metavar="N", help="only the first N bytes of --file")
    parser.add_argument("--ctx", type=int, default=512, metavar="N", help="tokens in a window (default 512)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N tokens")
    parser.add_argument("--logits", metavar="OUT.npy", help="write the first window's logits instead of a perplexity")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    args = parser.parse_args(argv)
    if args.ctx < 2:
        parser.error("--ctx must be at least 2")
    return args


def main(argv=None):
    args = parse_args(argv)
    model = GgufModel(args.model)
    ids = read_ids(args.ids) if args.ids else encode_file(model, args.model, args.file, args.bytes)
    ids = ids[: args.limit]
    if args.logits:
        logits = logits_of(model, hidden_states(model, ids[: args.ctx]))
        np.save(args.logits, logits)
        print(json.dumps({"tokens": len(logits), "vocab": logits.shape[1], "argmax": logits.argmax(axis=-1).tolist()}))
        return

    def progress(done, ppl):
        print(f"{done}/{len(ids)} tokens, ppl {ppl:.4f}", file=sys.stderr)

    print(json.dumps(perplexity(model, ids, args.ctx, None if args.quiet else progress)))


if __name__ == "__main__":
    main()
