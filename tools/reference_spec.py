"""What tools/fp32_reference.py knows of a GGUF file: its weights, dequantised by the `gguf` package, and the facts in which
the families differ. Nothing is shared with the C++ adapters; `transformers` (tools/hf_oracle.py) says what is right.
"""

import math
from dataclasses import dataclass

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

FAMILIES = ("llama", "qwen2", "qwen3", "qwen3moe", "phi3", "gemma", "gemma2", "gemma3", "granite", "smollm3", "gpt2", "starcoder2", "gpt-oss")
INTERLEAVED = ("llama", "granite", "smollm3")  # llama's converter permutes q and k
LAYER_NORM = ("gpt2", "starcoder2")


@dataclass(frozen=True)
class Rope:
    """How one kind of layer turns positions into angles."""

    dim: int  # of a head, from its first
    interleaved: bool  # rotates (2i, 2i+1); otherwise (i, i + dim/2)
    frequencies: np.ndarray  # [dim/2] radians per position, float64
    magnitude: float  # of the rotated pair; 1 but for YaRN and LongRoPE

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
    layer_norm: bool  # LayerNorm instead of RMS norms
    ropes: tuple  # a Rope for each layer; None: no rotation
    windows: tuple  # for each layer: a query sees its own and the window-1 positions before it; 0: all
    query_scale: float
    score_cap: float  # softcap of the scores; 0: none
    embedding_scale: float
    residual_scale: float  # of what attention and feed-forward add
    logit_scale: float
    logit_cap: float  # softcap of the logits; 0: none
    gelu: bool  # GELU (tanh form) instead of SiLU
    ffn_norm: str  # the norm before the feed-forward network
    n_experts: int  # 0: one network for every token
    n_experts_used: int


class GgufModel:
    """Metadata and dequantised tensors of one GGUF file. Tensors are dequantised when first used, and kept.

    contract: evaluate with the two roundings of docs/NUMERICS.md that an fp32 evaluation has not (int8 activations, N3;
    binary16 K and V, N4).
    """

    def __init__(self, path, contract=False):
        self.reader = GGUFReader(str(path))
        self.tensors = {t.name: t for t in self.reader.tensors}
        self.cache = {}
        self.contract = contract
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

    def is_quantised(self, name):
        return self.tensors[name].tensor_type.name not in ("F32", "F16", "BF16")

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
    if family not in FAMILIES:
        raise SystemExit(f"error: no fp32 reference for the family '{family}' ({', '.join(FAMILIES)})")

    def key(name, default=None):
        return model.get(f"{family}.{name}", default)

    n_layers, dim, n_heads = key("block_count"), key("embedding_length"), key("attention.head_count")
    head_dim = key("attention.key_length", dim // n_heads)
    if key("attention.value_length", head_dim) != head_dim:
        raise SystemExit("error: key_length and value_length differ")
    gemma, layer_norm, granite = family in ("gemma", "gemma2", "gemma3"), family in LAYER_NORM, family == "granite"
    # Gemma 27B scales queries by its nominal head size, all others by the real one (Gemma 2 and 3 reports, 2024 and 2025).
    scaled_dim = dim // n_heads if (family, n_layers) in (("gemma2", 46), ("gemma3", 62)) else head_dim
    windows = read_windows(family, key, n_layers)
    return Spec(
        family=family,
        n_layers=n_layers,
        dim=dim,
        n_heads=n_heads,
        n_kv_heads=key("attention.head_count_kv", n_heads),
        head_dim=head_dim,
        eps=key("attention.layer_norm_epsilon" if layer_norm else "attention.layer_norm_rms_epsilon"),
        layer_norm=layer_norm,
        ropes=read_ropes(model, key, head_dim, windows),
        windows=windows,
        query_scale=key("attention.scale", 1.0 / math.sqrt(scaled_dim)),
        score_cap=key("attn_logit_softcapping", 0.0) if family == "gemma2" else 0.0,
        embedding_scale=math.sqrt(dim) if gemma else key("embedding_scale") if granite else 1.0,
        residual_scale=key("residual_scale") if granite else 1.0,
        logit_scale=1.0 / key("logit_scale") if granite else 1.0,
        logit_cap=key("final_logit_softcapping", 0.0) if gemma else 0.0,
        gelu=gemma or layer_norm,
        ffn_norm="post_attention_norm" if family == "gpt-oss" else "ffn_norm",
        n_experts=key("expert_count", 0),
        n_experts_used=key("expert_used_count", 0),
    )


def read_windows(family, key, n_layers):
    window = key("attention.sliding_window", 0) if family != "qwen2" else 0
    # Every period-th layer is global; 0: none.
    period = key("attention.sliding_window_pattern", 6) if family == "gemma3" else 2 if family in ("gemma2", "gpt-oss") else 0
    local = period if isinstance(period, list) else [period == 0 or (layer + 1) % period != 0 for layer in range(n_layers)]
    return tuple(window if is_local else 0 for is_local in local)


def read_ropes(model, key, head_dim, windows):
    family = model.get("general.architecture")
    if family == "gpt2":
        return (None,) * len(windows)
    rope = read_rope(model, key, head_dim, family in INTERLEAVED)
    if family == "smollm3":  # every fourth layer is without (SmolLM3, Hugging Face 2025)
        return tuple(None if (layer + 1) % 4 == 0 else rope for layer in range(len(windows)))
    if family != "gemma3":
        return (rope,) * len(windows)
    # Local layers have their own base, and are not scaled.
    base = key("rope.freq_base_swa", key("rope.local.freq_base", 10000.0))
    local = Rope(rope.dim, False, plain_frequencies(base, rope.dim), 1.0)
    return tuple(local if window else rope for window in windows)


def plain_frequencies(base, dim):
    return base ** (-2.0 * np.arange(dim // 2, dtype=np.float64) / dim)


def read_rope(model, key, head_dim, interleaved):
    dim, base = key("rope.dimension_count", head_dim), key("rope.freq_base", 10000.0)
    scaling, factor = key("rope.scaling.type", "none"), key("rope.scaling.factor", 1.0)
    frequencies, magnitude = plain_frequencies(base, dim), 1.0
    if model.has("rope_freqs.weight"):
        frequencies = frequencies / model.weight("rope_freqs.weight")
    if model.has("rope_factors_long.weight"):  # LongRoPE (Ding et al. 2024); the file's context length chooses
        is_long = key("context_length") > key("rope.scaling.original_context_length")
        frequencies = frequencies / model.weight(f"rope_factors_{'long' if is_long else 'short'}.weight")
        magnitude = key("rope.scaling.attn_factor")
    elif scaling == "linear":
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
        magnitude = key("rope.scaling.yarn_attn_factor", 1 + 0.1 * math.log(factor)) * key("rope.scaling.attn_factor", 1.0)
    elif scaling != "none":
        raise SystemExit(f"error: no fp32 reference for the rope scaling '{scaling}'")
    return Rope(dim, interleaved, frequencies, magnitude)
