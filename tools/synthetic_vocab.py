"""Small vocabularies of any size, in the two forms that GGUF files hold: byte-level BPE and SentencePiece.

Each can write every byte string. Beyond the bytes the pieces are short strings of letters, in an order drawn from the
seed, so that text really is merged, and the same size and seed give the same vocabulary.
"""

import itertools
import string

import numpy as np

NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def bpe_byte_characters():
    """The printable character that stands for each byte in byte-level BPE (Radford et al. 2019, GPT-2)."""
    printable = set(range(33, 127)) | set(range(161, 173)) | set(range(174, 256))
    others = itertools.count(256)
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def grown_pieces(rng, space, count):
    """`count` pairs (left, right): left is a letter, the space or an earlier piece, right a letter."""
    level, pieces = [space, *string.ascii_lowercase], []
    while len(pieces) < count:
        pairs = [(left, right) for left in level for right in string.ascii_lowercase]
        pairs = [pairs[i] for i in rng.permutation(len(pairs))][: count - len(pieces)]
        pieces += pairs
        level = [left + right for left, right in pairs]
    return pieces


def bpe_vocab(size, seed, pre):
    """gguf-bpe metadata as {key: value}. Ids 0, 1, 2 are <|endoftext|>, <|im_start|>, <|im_end|>."""
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    if size < len(control) + 256:
        raise SystemExit(f"error: a byte-level vocabulary has at least {len(control) + 256} tokens, not {size}")
    pieces = grown_pieces(np.random.default_rng([seed, 1]), "Ġ", size - len(control) - 256)
    tokens = control + bpe_byte_characters() + [left + right for left, right in pieces]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL] * len(control) + [NORMAL] * (size - len(control)),
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in pieces],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


# The control tokens of SentencePiece families, and which of them are BOS, EOS, unknown and padding.
SPM_CONTROL = {
    "gemma": (["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"], ("<bos>", "<eos>", "<unk>", "<pad>")),
    "phi3": (
        ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
        ("<s>", "<|endoftext|>", "<unk>", "<|endoftext|>"),
    ),
}


def spm_vocab(size, seed, kind="gemma"):
    """gguf-spm metadata: the control tokens of `kind` first, then bytes, user-defined runs, pieces."""
    control, roles = SPM_CONTROL[kind]
    bos, eos, unknown, padding = map(control.index, roles)
    user_defined = ["\n", "\n\n", "  ", "    "]
    characters = ["▁", *(chr(c) for c in range(33, 127))]
    fixed = len(control) + 256 + len(user_defined) + len(characters)
    if size < fixed:
        raise SystemExit(f"error: a SentencePiece vocabulary has at least {fixed} tokens, not {size}")
    pieces = [left + right for left, right in grown_pieces(np.random.default_rng([seed, 2]), "▁", size - fixed)]
    tokens = control + [f"<0x{byte:02X}>" for byte in range(256)] + user_defined + pieces + characters
    types = [CONTROL] * len(control) + [BYTE] * 256 + [USER_DEFINED] * len(user_defined)
    types += [NORMAL] * (size - len(types))
    first_scored = fixed - len(characters)
    scores = [-1000.0] * first_scored + [-float(rank) for rank in range(size - first_scored)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": bos,
        "tokenizer.ggml.eos_token_id": eos,
        "tokenizer.ggml.unknown_token_id": unknown,
        "tokenizer.ggml.padding_token_id": padding,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
    }
