#!/usr/bin/env python3
"""What `transformers` makes of the tiny models of tools/tiny_families.py: the goldens of tests/golden/families.

Needs torch and transformers, which the tests do not: a golden is made once and committed. Every weight of the Hugging Face
model comes from the GGUF form's arrays, so this file is also the statement of how the two forms differ: names, the
interleaved q and k of llama's converter, 1 added to Gemma's norms, GPT-2's transposed matrices, the experts' fused ones.

  hf_oracle.py [FAMILY ...]             writes tests/golden/families/FAMILY.json
  hf_oracle.py --formats [FAMILY ...]   holds tools/fp32_reference.py to transformers with the weights of every format

A golden: `ids` [64]; `logits` [64, vocab] little-endian float32 in base64; `prompts`: 50 of {ids, next, gaps}, the greedy
continuation and, for each of its tokens, how far the best logit lies above the second.
"""

import argparse
import base64
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from block_formats import FORMATS
from fp32_reference import GgufModel, hidden_states, logits_of
from tiny_families import FAMILIES, HEAD_DIM, LONG, N_EXPERTS, N_USED, SHORT, VOCAB, blocks, head_dim, weights, wide, write_gguf

GOLDENS = Path(__file__).resolve().parents[1] / "tests" / "golden" / "families"
N_TOKENS, N_PROMPTS, N_NEXT = 64, 50, 8
# Sequences in which two experts are nearer to each other than this are drawn again: another rounding would choose the other one.
ROUTER_GAP = 0.01

NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
}  # fmt: skip
PHI3 = NAMES | {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
GEMMA2 = NAMES | {
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip
MOE = NAMES | {"ffn_gate_inp": "mlp.gate", "ffn_gate_up_exps": "mlp.experts.gate_up_proj", "ffn_down_exps": "mlp.experts.down_proj"}
GPT_OSS = MOE | {"post_attention_norm": "post_attention_layernorm", "ffn_gate_inp": "mlp.router", "attn_sinks": "self_attn.sinks"}
STARCODER2 = NAMES | {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
GPT2 = {"attn_norm": "ln_1", "ffn_norm": "ln_2", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
BLOCKS = {"phi3": PHI3, "gemma2": GEMMA2, "gemma3": GEMMA2, "starcoder2": STARCODER2, "gpt2": GPT2, "gpt-oss": GPT_OSS}
ROOTS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
GPT2_ROOTS = {"token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f", "output": "lm_head"}


def common(family):
    return dict(
        vocab_size=VOCAB, hidden_size=family.dim, intermediate_size=family.ffn, num_hidden_layers=family.layers, num_attention_heads=family.heads,
        num_key_value_heads=family.kv_heads, max_position_embeddings=family.context, tie_word_embeddings=family.tied, use_cache=False,
        pad_token_id=None, bos_token_id=None, eos_token_id=None, attn_implementation="eager",
    )  # fmt: skip


def rope(**more):
    return {"rope_type": "default", "rope_theta": 10000.0} | more


def build(name, family):
    """The Hugging Face model of a family with its own weights uninitialised."""
    rms = common(family) | {"rms_norm_eps": 1e-5, "rope_parameters": rope()}
    longrope = rope(rope_type="longrope", original_max_position_embeddings=32, long_factor=LONG.tolist(), short_factor=SHORT.tolist())
    llama3 = rope(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=48)
    partial = longrope | {"partial_rotary_factor": 0.75, "long_factor": LONG[:6].tolist(), "short_factor": SHORT[:6].tolist()}
    gemma3 = rms | {"rope_parameters": {"full_attention": rope(rope_theta=1e6), "sliding_attention": rope()}}
    yarn = rope(rope_type="yarn", factor=4.0, truncate=False, original_max_position_embeddings=32, beta_fast=32.0, beta_slow=1.0)
    experts = {"num_experts_per_tok": N_USED, "num_local_experts": N_EXPERTS}
    phi3 = rms | {"original_max_position_embeddings": family.context}
    makers = {
        "tinyllama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**rms)),
        "llama3": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**rms | {"rope_parameters": llama3})),
        "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**rms, head_dim=HEAD_DIM, sliding_window=16)),
        "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**rms)),
        "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**rms, head_dim=24)),
        "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**phi3, sliding_window=20)),
        "phi3-longrope": lambda: hf.Phi3ForCausalLM(
            hf.Phi3Config(**phi3 | {"rope_parameters": longrope, "original_max_position_embeddings": 32})
        ),
        "phi4-mini": lambda: hf.Phi3ForCausalLM(
            hf.Phi3Config(**phi3 | {"rope_parameters": partial, "original_max_position_embeddings": 32})
        ),
        "gemma": lambda: hf.GemmaForCausalLM(hf.GemmaConfig(**rms, head_dim=24)),
        "gemma2": lambda: hf.Gemma2ForCausalLM(
            hf.Gemma2Config(**rms, head_dim=HEAD_DIM, query_pre_attn_scalar=HEAD_DIM, sliding_window=12, attn_logit_softcapping=1.5,
                            final_logit_softcapping=2.0)
        ),
        "gemma3": lambda: hf.Gemma3ForCausalLM(
            hf.Gemma3TextConfig(**gemma3, head_dim=HEAD_DIM, query_pre_attn_scalar=HEAD_DIM, sliding_window=12)
        ),
        "granite": lambda: hf.GraniteForCausalLM(
            hf.GraniteConfig(**rms, embedding_multiplier=6.0, residual_multiplier=0.25, attention_multiplier=0.125, logits_scaling=4.0)
        ),
        "smollm3": lambda: hf.SmolLM3ForCausalLM(hf.SmolLM3Config(**rms, no_rope_layer_interval=4)),
        "gpt2": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(vocab_size=VOCAB, n_positions=family.context, n_embd=family.dim, n_inner=family.ffn, n_layer=family.layers, n_head=family.heads,
                          layer_norm_epsilon=1e-5, bos_token_id=None, eos_token_id=None, attn_implementation="eager")
        ),
        "starcoder2": lambda: hf.Starcoder2ForCausalLM(
            hf.Starcoder2Config(**common(family), rope_parameters=rope(), norm_epsilon=1e-5, sliding_window=24)
        ),
        "mixtral": lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**rms | experts, sliding_window=None)),
        "qwen3moe": lambda: hf.Qwen3MoeForCausalLM(
            hf.Qwen3MoeConfig(**rms | experts, head_dim=HEAD_DIM, moe_intermediate_size=family.ffn, norm_topk_prob=True)
        ),
        "gpt-oss": lambda: hf.GptOssForCausalLM(
            hf.GptOssConfig(**rms | experts | {"rope_parameters": yarn}, head_dim=HEAD_DIM, sliding_window=16)
        ),
    }  # fmt: skip
    return makers[name]().float().eval()


def unpermute(array):
    """Rows of interleaved pairs (2i, 2i+1) of each head back to halves (i, i + n/2), as Hugging Face rotates them."""
    return array.reshape(-1, HEAD_DIM // 2, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def join_experts(arrays, gpt_oss):
    """The experts' gate and up as one tensor: the gate's rows before up's, or in turn; gpt-oss has its matrices transposed."""
    for name, array in arrays.items():
        if "ffn_gate_exps" in name:
            parts = (array, arrays[name.replace("gate", "up")])
            joined = np.stack(parts, 2).reshape(N_EXPERTS, 2 * array.shape[1], *array.shape[2:]) if gpt_oss else np.concatenate(parts, 1)
            name, array = name.replace("gate", "gate_up"), joined
        if "ffn_up_exps" not in name:
            yield name, array.swapaxes(1, 2) if gpt_oss and array.ndim == 3 else array


def hf_weights(family, arrays):
    """The arrays of the GGUF form under Hugging Face's names and in its layout."""
    names = BLOCKS.get(family.arch, MOE)
    gpt2 = family.arch == "gpt2"
    for name, array in join_experts(arrays, family.arch == "gpt-oss"):
        *path, role, kind = name.split(".")
        if role in family.factors:
            continue
        if role in ("attn_q", "attn_k") and family.arch in ("llama", "granite", "smollm3"):
            array = unpermute(array)
        if role.endswith("norm") and family.arch in ("gemma", "gemma2", "gemma3"):
            array = array - 1
        if gpt2 and kind == "weight" and path and array.ndim == 2:
            array = array.T
        stem = f"{'transformer.h' if gpt2 else 'model.layers'}.{path[1]}.{names[role]}" if path else (GPT2_ROOTS if gpt2 else ROOTS)[role]
        # Parameters without a module of their own.
        if role == "attn_sinks" or role.endswith("_exps"):
            key = stem if kind == "weight" else f"{stem}_bias"
        else:
            key = f"{stem}.{kind}"
        yield key, torch.from_numpy(np.array(array))


def load(name, family, arrays):
    model = build(name, family)
    missing, unexpected = model.load_state_dict(dict(hf_weights(family, arrays)), strict=False)
    missing = [key for key in missing if not (family.tied and key == "lm_head.weight")]
    assert not missing and not unexpected, (missing, unexpected)
    model.tie_weights()
    return model


def watch_routers(model):
    """A list whose one number is the least distance, since it was last set, of a chosen expert from the first not chosen."""
    nearest = [np.inf]

    def watch(_module, _inputs, outputs):
        ranked = outputs[0].topk(N_USED + 1).values
        nearest[0] = min(nearest[0], float((ranked[:, -2] - ranked[:, -1]).min()))

    for module in model.modules():
        if type(module).__name__.endswith("TopKRouter"):
            module.register_forward_hook(watch)
    return nearest


def evaluate(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy().astype("<f4")


def golden(name, family):
    model = load(name, family, weights(family))
    nearest = watch_routers(model)
    rng = np.random.default_rng(len(name))

    nearest[0] = 0.0
    while nearest[0] < ROUTER_GAP:
        ids, nearest[0] = rng.integers(0, VOCAB, N_TOKENS).tolist(), np.inf
        whole = evaluate(model, ids)
    # transformers takes LongRoPE's short factors for a short sequence, the worker for a short context: only long ones agree.
    shortest = 33 if family.factors.keys() & {"rope_factors_long"} else 1
    prompts = []
    while len(prompts) < N_PROMPTS:
        nearest[0] = np.inf
        prompt = rng.integers(0, VOCAB, rng.integers(shortest, 49)).tolist()
        sequence, gaps = list(prompt), []
        for _ in range(N_NEXT):
            row = evaluate(model, sequence)[-1]
            second, best = np.partition(row, -2)[-2:]
            gaps.append(round(float(best - second), 5))
            sequence.append(int(row.argmax()))
        if nearest[0] >= ROUTER_GAP:
            prompts.append({"ids": prompt, "next": sequence[len(prompt) :], "gaps": gaps})
    return {
        "family": name, "transformers": hf.__version__, "ids": ids,
        "logits": base64.b64encode(whole.tobytes()).decode(), "prompts": prompts,
    }  # fmt: skip


def format_errors(name, family):
    """The relative error of tools/fp32_reference.py for the wide family in each format: both evaluate what `gguf` dequantises."""
    ids = np.random.default_rng(len(name)).integers(0, VOCAB, N_TOKENS).tolist()
    with tempfile.TemporaryDirectory() as folder:
        for format_name in FORMATS:
            path = Path(folder) / "wide.gguf"
            write_gguf(path, family, arrays=blocks(family, format_name), format_name=format_name)
            reference = GgufModel(path)
            want = evaluate(load(name, family, {tensor: reference.weight(tensor) for tensor in reference.tensors}), ids)
            got = logits_of(reference, hidden_states(reference, ids))
            yield format_name, float(np.linalg.norm(got - want) / np.linalg.norm(want))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"default all: {' '.join(FAMILIES)}")
    parser.add_argument("--formats", action="store_true", help="write nothing; exit 1 if an error is above 1e-5")
    args = parser.parse_args()
    unknown = set(args.families) - set(FAMILIES)
    if unknown:
        parser.error(f"unknown family {' '.join(sorted(unknown))}")
    assert all(head_dim(family) == HEAD_DIM for family in FAMILIES.values() if family.arch in ("llama", "granite", "smollm3"))
    worst = 0.0
    for name in args.families or FAMILIES:
        if args.formats:
            errors = dict(format_errors(name, wide(FAMILIES[name])))
            furthest = max(errors, key=errors.get)
            worst = max(worst, errors[furthest])
            print(f"{name}: {len(errors)} formats, the furthest {furthest}: error {errors[furthest]:.1e}", flush=True)
            continue
        GOLDENS.mkdir(parents=True, exist_ok=True)
        made = golden(name, FAMILIES[name])
        (GOLDENS / f"{name}.json").write_text(json.dumps(made, separators=(",", ":")).replace('{"ids"', '\n{"ids"') + "\n")
        print(name, (GOLDENS / f"{name}.json").stat().st_size, "bytes", file=sys.stderr)
    if worst > 1e-5:
        sys.exit("error: tools/fp32_reference.py does not evaluate what transformers does")


if __name__ == "__main__":
    main()
