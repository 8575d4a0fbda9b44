#!/usr/bin/env python3
"""What `transformers` makes of the tiny models of tools/tiny_families.py: the goldens of tests/golden/families.

Needs torch and transformers, which the tests do not: a golden is made once and committed. Every weight of the Hugging Face
model comes from the GGUF form's arrays, so this file is also the statement of how the two forms differ: names, the
interleaved q and k of llama's converter, 1 added to Gemma's norms, GPT-2's transposed matrices.

  hf_oracle.py [FAMILY ...]      writes tests/golden/families/FAMILY.json

A golden: `ids` [64]; `logits` [64, vocab] little-endian float32 in base64; `prompts`: 50 of {ids, next, gaps}, the greedy
continuation and, for each of its tokens, how far the best logit lies above the second.
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from tiny_families import DIM, FAMILIES, FFN, HEAD_DIM, HEADS, LONG, SHORT, VOCAB, head_dim, weights

GOLDENS = Path(__file__).resolve().parents[1] / "tests" / "golden" / "families"
N_TOKENS, N_PROMPTS, N_NEXT = 64, 50, 8

NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
}  # fmt: skip
PHI3 = NAMES | {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
GEMMA2 = NAMES | {
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip
STARCODER2 = NAMES | {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
GPT2 = {"attn_norm": "ln_1", "ffn_norm": "ln_2", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
ROOTS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
GPT2_ROOTS = {"token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f", "output": "lm_head"}


def common(family):
    return dict(
        vocab_size=VOCAB, hidden_size=DIM, intermediate_size=FFN, num_hidden_layers=family.layers, num_attention_heads=HEADS,
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
        "gemma2": lambda: hf.Gemma2ForCausalLM(
            hf.Gemma2Config(**rms, head_dim=HEAD_DIM, query_pre_attn_scalar=HEAD_DIM, sliding_window=12, attn_logit_softcapping=1.5,
                            final_logit_softcapping=2.0)
        ),
        "granite": lambda: hf.GraniteForCausalLM(
            hf.GraniteConfig(**rms, embedding_multiplier=6.0, residual_multiplier=0.25, attention_multiplier=0.125, logits_scaling=4.0)
        ),
        "smollm3": lambda: hf.SmolLM3ForCausalLM(hf.SmolLM3Config(**rms, no_rope_layer_interval=4)),
        "gpt2": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(vocab_size=VOCAB, n_positions=family.context, n_embd=DIM, n_inner=FFN, n_layer=family.layers, n_head=HEADS,
                          layer_norm_epsilon=1e-5, bos_token_id=None, eos_token_id=None, attn_implementation="eager")
        ),
        "starcoder2": lambda: hf.Starcoder2ForCausalLM(
            hf.Starcoder2Config(**common(family), rope_parameters=rope(), norm_epsilon=1e-5, sliding_window=24)
        ),
    }  # fmt: skip
    return makers[name]().float().eval()


def unpermute(array):
    """Rows of interleaved pairs (2i, 2i+1) of each head back to halves (i, i + n/2), as Hugging Face rotates them."""
    return array.reshape(-1, HEAD_DIM // 2, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def hf_weights(family):
    """The arrays of the GGUF form under Hugging Face's names and in its layout."""
    blocks = {"phi3": PHI3, "gemma2": GEMMA2, "starcoder2": STARCODER2, "gpt2": GPT2}.get(family.arch, NAMES)
    gpt2 = family.arch == "gpt2"
    for name, array in weights(family).items():
        *path, role, kind = name.split(".")
        if role in family.factors:
            continue
        if role in ("attn_q", "attn_k") and family.arch in ("llama", "granite", "smollm3"):
            array = unpermute(array)
        if role.endswith("norm") and family.arch == "gemma2":
            array = array - 1
        if gpt2 and kind == "weight" and path and array.ndim == 2:
            array = array.T
        stem = f"{'transformer.h' if gpt2 else 'model.layers'}.{path[1]}.{blocks[role]}" if path else (GPT2_ROOTS if gpt2 else ROOTS)[role]
        yield f"{stem}.{kind}", torch.from_numpy(np.ascontiguousarray(array))


def load(name, family):
    model = build(name, family)
    missing, unexpected = model.load_state_dict(dict(hf_weights(family)), strict=False)
    missing = [key for key in missing if not (family.tied and key == "lm_head.weight")]
    assert not missing and not unexpected, (missing, unexpected)
    model.tie_weights()
    return model


def golden(name, family):
    model = load(name, family)
    rng = np.random.default_rng(len(name))
    ids = rng.integers(0, VOCAB, N_TOKENS).tolist()

    def logits(sequence):
        with torch.no_grad():
            return model(torch.tensor([sequence])).logits[0].numpy().astype("<f4")

    # transformers takes LongRoPE's short factors for a short sequence, the worker for a short context: only long ones agree.
    shortest = 33 if family.factors.keys() & {"rope_factors_long"} else 1
    prompts = []
    for _ in range(N_PROMPTS):
        prompt = rng.integers(0, VOCAB, rng.integers(shortest, 49)).tolist()
        sequence, gaps = list(prompt), []
        for _ in range(N_NEXT):
            row = logits(sequence)[-1]
            second, best = np.partition(row, -2)[-2:]
            gaps.append(round(float(best - second), 5))
            sequence.append(int(row.argmax()))
        prompts.append({"ids": prompt, "next": sequence[len(prompt) :], "gaps": gaps})
    return {
        "family": name, "transformers": hf.__version__, "ids": ids,
        "logits": base64.b64encode(logits(ids).tobytes()).decode(), "prompts": prompts,
    }  # fmt: skip


def main():
    assert all(head_dim(family) == HEAD_DIM for family in FAMILIES.values() if family.arch in ("llama", "granite", "smollm3"))
    GOLDENS.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or FAMILIES:
        made = golden(name, FAMILIES[name])
        (GOLDENS / f"{name}.json").write_text(json.dumps(made, separators=(",", ":")).replace('{"ids"', '\n{"ids"') + "\n")
        print(name, (GOLDENS / f"{name}.json").stat().st_size, "bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
