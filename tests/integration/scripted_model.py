"""A model that says what a script tells: the real worker then writes thoughts, tool calls and channels as large models do.

It is a GPT-2 whose blocks do nothing and whose head looks at the position alone: at each position of a script one token has
all the weight, or some share it. The chat template picks the script whose name is the last message, and pads its prompt
so that generation begins where the script does.
"""

import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import make_model  # noqa: E402
from synthetic_vocab import CONTROL, NORMAL, USER_DEFINED, bpe_byte_characters  # noqa: E402

PAD, END = "<|pad|>", "<|im_end|>"
UNNAMED = object()  # a piece: a row of the head behind the last token
CTX = 512


class Script:
    """pieces: a token each, or UNNAMED; a tuple of them is drawn from evenly; bytes are tokens of a byte each. opening:
    what the prompt ends with."""

    def __init__(self, *pieces, opening=""):
        self.pieces, self.opening = pieces, opening


class Vocabulary:
    def __init__(self, control, user_defined):
        self.tokens = [PAD, END, *control, *user_defined, *bpe_byte_characters()]
        self.types = [CONTROL] * (2 + len(control)) + [USER_DEFINED] * len(user_defined) + [NORMAL] * 256
        self.marks = [PAD, END, *control, *user_defined]

    def id(self, piece):
        spelled = piece
        if piece not in self.marks:
            data = piece if isinstance(piece, bytes) else piece.encode()
            spelled = "".join(bpe_byte_characters()[byte] for byte in data)
        if spelled not in self.tokens:
            self.tokens.append(spelled)
            self.types.append(NORMAL)
        return self.tokens.index(spelled)

    def count(self, text):
        """Tokens of a text that is made of marks and single bytes."""
        n = 0
        while text:
            mark = next((mark for mark in self.marks if text.startswith(mark)), text[0])
            n += 1 if mark in self.marks else len(mark.encode())
            text = text[len(mark) :]
        return n


def write_scripted_model(path, scripts, control=(), user_defined=(), mentions=""):
    """scripts: {name: Script}. mentions: text in a comment of the template, for what looks for words in it."""
    vocabulary = Vocabulary(control, user_defined)
    vocabulary.id("zz")  # a vocabulary has merges
    weights, position, branches = [], 0, []
    for name, script in scripts.items():
        n_opening = vocabulary.count(script.opening)
        position += n_opening + 1  # one pad at least
        branches.append(f"{{% if messages[-1].content == '{name}' %}}{PAD * (position - n_opening)}{script.opening}{{% endif %}}")
        for piece in (*script.pieces, END):
            for one in piece if isinstance(piece, tuple) else (piece,):
                weights.append((-1 if one is UNNAMED else vocabulary.id(one), position - 1))
            position += 1
    assert position < CTX, "the scripts are longer than the context"
    shape = make_model.Shape(family="gpt2", layers=1, dim=CTX, ffn=32, heads=8, kv_heads=8, ctx=CTX, types="F32", tied=False,
                             vocab=len(vocabulary.tokens) + 1)  # fmt: skip
    head = np.zeros((shape.vocab, CTX), np.float32)
    for token, at in weights:
        head[token, at] = 1
    metadata = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": vocabulary.tokens, "tokenizer.ggml.token_type": vocabulary.types, "tokenizer.ggml.merges": ["z z"],
        "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": f"{{# {mentions} #}}" + "".join(branches),
    }  # fmt: skip
    writer = GGUFWriter(str(path), shape.family)
    make_model.add_metadata(writer, shape, 0, metadata)
    for tensor in make_model.list_tensors(shape):
        data = np.zeros((tensor.rows, tensor.columns) if tensor.rows else tensor.columns, np.float32)
        if tensor.name == "position_embd.weight":
            data = np.eye(CTX, dtype=np.float32)
        elif tensor.name == "output.weight":
            data = head
        elif tensor.kind == "norm":
            data += 1
        writer.add_tensor(tensor.name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
