#!/usr/bin/env python3
"""Evaluates a GGUF model in fp32 with numpy: the meaning that the worker's arithmetic is held against.

Weights are dequantised by the `gguf` package, everything after that is plain float32 matrix algebra with an fp32 KV
cache (here simply the K and V of the window). All families that the worker knows; tests/integration/test_families.py holds
this evaluation to the goldens that `transformers` made. Nothing is shared with the C++ code.

--contract adds the two roundings of docs/NUMERICS.md that lose something: activations of quantised matrices become int8 in
groups of 32 (N3), K and V binary16 (N4). Its distance from the fp32 evaluation is what a format and a model cost.

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
from pathlib import Path

import numpy as np
from reference_spec import GgufModel

LOGIT_ROWS = 64  # tokens whose logits are held at once: 64 * 262,144 * 4 bytes = 64 MiB
GROUP = 32  # activations that share a scale (N3)


def rms_norm(x, w, eps):
    """x * rsqrt(mean(x^2) + eps) * w over the last axis (Zhang & Sennrich 2019)."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(eps)) * w


def layer_norm(x, w, b, eps):
    """(x - mean) * rsqrt(variance + eps) * w + b over the last axis (Ba et al. 2016)."""
    x = x - np.mean(x, axis=-1, keepdims=True)
    return rms_norm(x, w, eps) + b


def norm(model, name, x):
    w = model.weight(f"{name}.weight")
    if model.spec.layer_norm:
        return layer_norm(x, w, model.weight(f"{name}.bias"), model.spec.eps)
    return rms_norm(x, w, model.spec.eps)


def silu(x):
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right 0
        return x / (1 + np.exp(-x))


def gelu_tanh(x):
    """The tanh form of GELU (Hendrycks & Gimpel 2016)."""
    return np.float32(0.5) * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)))


def int8_groups(x):
    """x with each group of 32 along the last axis rounded to 255 levels up to its largest magnitude (N3)."""
    groups = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % GROUP)]).reshape(*x.shape[:-1], -1, GROUP)
    largest = np.abs(groups).max(axis=-1, keepdims=True)
    scale = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
    rounded = np.clip(np.rint(groups * scale), -127, 127) * (largest / np.float32(127))
    return rounded.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]


def matmul(model, name, x, expert=None):
    """x times the transposed matrix `name`, plus its bias where there is one; of one expert where the tensor holds several."""
    w = model.weight(f"{name}.weight")
    if model.contract and model.is_quantised(f"{name}.weight"):
        x = int8_groups(x)
    y = x @ (w if expert is None else w[expert]).T
    if model.has(f"{name}.bias"):
        bias = model.weight(f"{name}.bias")
        y = y + (bias if expert is None else bias[expert])
    return y


def project_qkv(model, prefix, x):
    """q, k, v of x as [n_tokens, heads, head_dim], from three matrices or from one that holds their rows."""
    spec = model.spec
    if model.has(f"{prefix}.attn_qkv.weight"):
        ends = np.cumsum([spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim])
        parts = np.split(matmul(model, f"{prefix}.attn_qkv", x), ends, axis=-1)
    else:
        parts = [matmul(model, f"{prefix}.attn_{name}", x) for name in "qkv"]
    return [part.reshape(len(x), -1, spec.head_dim) for part in parts]


def attention(model, layer, x):
    spec, n_tokens, prefix = model.spec, len(x), f"blk.{layer}"
    q, k, v = project_qkv(model, prefix, x)
    if model.has(f"{prefix}.attn_q_norm.weight"):
        q = rms_norm(q, model.weight(f"{prefix}.attn_q_norm.weight"), spec.eps)
        k = rms_norm(k, model.weight(f"{prefix}.attn_k_norm.weight"), spec.eps)
    if spec.ropes[layer]:
        q, k = spec.ropes[layer].apply(q), spec.ropes[layer].apply(k)
    q = q * np.float32(spec.query_scale)
    if model.contract:
        k, v = k.astype(np.float16).astype(np.float32), v.astype(np.float16).astype(np.float32)

    distance = np.arange(n_tokens)[:, None] - np.arange(n_tokens)[None, :]  # query - key
    hidden = distance < 0
    if spec.windows[layer]:
        hidden |= distance >= spec.windows[layer]
    group, cap = spec.n_heads // spec.n_kv_heads, np.float32(spec.score_cap)
    out = np.empty_like(q)
    for head in range(spec.n_heads):
        scores = q[:, head] @ k[:, head // group].T
        if cap:
            scores = cap * np.tanh(scores / cap)
        scores[hidden] = -np.inf
        top, sink = scores.max(axis=-1, keepdims=True), None
        if model.has(f"{prefix}.attn_sinks.weight"):  # a logit of the head that has no value
            sink = model.weight(f"{prefix}.attn_sinks.weight")[head]
            top = np.maximum(top, sink)
        scores = np.exp(scores - top)
        total = scores.sum(axis=-1, keepdims=True) + (0 if sink is None else np.exp(sink - top))
        out[:, head] = (scores / total) @ v[:, head // group]
    return matmul(model, f"{prefix}.attn_output", out.reshape(n_tokens, -1))


def clamped_swiglu(gate, up):
    """SwiGLU as gpt-oss has it (OpenAI 2025): clamped, a steeper sigmoid, 1 added to the linear half."""
    gate, up = np.minimum(gate, np.float32(7)), np.clip(up, np.float32(-7), np.float32(7))
    return gate / (1 + np.exp(np.float32(-1.702) * gate)) * (up + 1)


def experts(model, layer, x, router_gaps):
    """The n_experts_used experts that the router likes best, weighted by the softmax of its logits for them. router_gaps
    [n_tokens] is lowered to how far the last chosen expert's logit lies above the first not chosen one's."""
    spec, prefix = model.spec, f"blk.{layer}"
    logits = matmul(model, f"{prefix}.ffn_gate_inp", x)
    ranked = np.argsort(-logits, axis=-1, kind="stable")
    chosen = ranked[:, : spec.n_experts_used]
    if spec.n_experts_used < spec.n_experts:
        edge = np.take_along_axis(logits, ranked[:, spec.n_experts_used - 1 : spec.n_experts_used + 1], axis=-1)
        np.minimum(router_gaps, edge[:, 0] - edge[:, 1], out=router_gaps)
    weights = np.take_along_axis(logits, chosen, axis=-1)
    weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    out = np.zeros_like(x)
    for expert in np.unique(chosen):
        tokens, ranks = np.nonzero(chosen == expert)
        gate, up = (matmul(model, f"{prefix}.ffn_{name}_exps", x[tokens], expert) for name in ("gate", "up"))
        h = clamped_swiglu(gate, up) if spec.family == "gpt-oss" else silu(gate) * up
        out[tokens] += weights[tokens, ranks, None] * matmul(model, f"{prefix}.ffn_down_exps", h, expert)
    return out


def feed_forward(model, layer, x, router_gaps):
    spec, prefix = model.spec, f"blk.{layer}"
    if spec.n_experts:
        return experts(model, layer, x, router_gaps)
    act = gelu_tanh if spec.gelu else silu
    up = matmul(model, f"{prefix}.ffn_up", x)
    if model.has(f"{prefix}.ffn_gate.weight"):
        h = act(matmul(model, f"{prefix}.ffn_gate", x)) * up
    elif spec.family == "phi3":  # the gate's rows stand before up's
        gate, up = np.split(up, 2, axis=-1)
        h = act(gate) * up
    else:
        h = act(up)
    return matmul(model, f"{prefix}.ffn_down", h)


def hidden_states(model, ids, router_gaps=None):
    """ids at positions 0.. from an empty cache -> the normed states before the head, [n_tokens, dim]. router_gaps, where it
    is given: [n_tokens], filled with the least gap of each token's routers (see experts), infinite without any."""
    spec = model.spec
    embedding = model.weight("token_embd.weight")
    if min(ids) < 0 or max(ids) >= len(embedding):
        raise SystemExit(f"error: a token id is outside the vocabulary of {len(embedding)}")
    x = embedding[np.asarray(ids)] * np.float32(spec.embedding_scale)
    if model.has("position_embd.weight"):
        x = x + model.weight("position_embd.weight")[: len(ids)]
    router_gaps = np.empty(len(ids)) if router_gaps is None else router_gaps
    router_gaps[:] = np.inf

    for layer in range(spec.n_layers):
        prefix = f"blk.{layer}"
        y = attention(model, layer, norm(model, f"{prefix}.attn_norm", x))
        if spec.ffn_norm != "post_attention_norm" and model.has(f"{prefix}.post_attention_norm.weight"):
            y = norm(model, f"{prefix}.post_attention_norm", y)
        x = x + y * np.float32(spec.residual_scale)
        y = feed_forward(model, layer, norm(model, f"{prefix}.{spec.ffn_norm}", x), router_gaps)
        if model.has(f"{prefix}.post_ffw_norm.weight"):
            y = norm(model, f"{prefix}.post_ffw_norm", y)
        x = x + y * np.float32(spec.residual_scale)
    return norm(model, "output_norm", x)


def logits_of(model, states):
    head = "output" if model.has("output.weight") else "token_embd"
    logits = matmul(model, head, states) * np.float32(model.spec.logit_scale)
    cap = np.float32(model.spec.logit_cap)
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
    parser.add_argument("model", help="GGUF file of a family that the worker knows")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--ids", metavar="FILE", help="token ids: a JSON list, or separated by blanks")
    source.add_argument("--file", metavar="FILE", help="text, tokenised by tools/tokenizer_oracle.py")
    parser.add_argument("--bytes", type=int, metavar="N", help="only the first N bytes of --file")
    parser.add_argument("--ctx", type=int, default=512, metavar="N", help="tokens in a window (default 512)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N tokens")
    parser.add_argument("--logits", metavar="OUT.npy", help="write the first window's logits instead of a perplexity")
    parser.add_argument("--contract", action="store_true", help="int8 activations and binary16 K and V, as the worker has them")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    args = parser.parse_args(argv)
    if args.ctx < 2:
        parser.error("--ctx must be at least 2")
    return args


def main(argv=None):
    args = parse_args(argv)
    model = GgufModel(args.model, args.contract)
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
