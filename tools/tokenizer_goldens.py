#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/*.jsonl: small vocabularies, strings, and the ids that PyPI's `tokenizers` gives.

    tools/tokenizer_goldens.py [FOLDER]

The first line of a file is its vocabulary {model, pre, tokens, types, merges, scores, add_space_prefix} (texts in
base64), each other line {"text": base64, "special": control tokens matched or not, "ids": [...]}.
"""

import argparse
import base64
import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import tokenizer_oracle as oracle

SPECIALS = [("<|endoftext|>", oracle.CONTROL), ("<|im_start|>", oracle.CONTROL), ("<|im_end|>", oracle.CONTROL),
            ("<tool_call>", oracle.USER_DEFINED), ("<tool", oracle.USER_DEFINED), ("\n\n\n", oracle.USER_DEFINED)]
SPM_SPECIALS = [("<unk>", oracle.UNKNOWN), ("<s>", oracle.CONTROL), ("</s>", oracle.CONTROL),
                ("<end_of_turn>", oracle.CONTROL), ("\n\n", oracle.USER_DEFINED), ("  ", oracle.USER_DEFINED),
                ("   ", oracle.USER_DEFINED), ("<h1>", oracle.USER_DEFINED)]
CORPUS = (oracle.WORDS + [w.capitalize() for w in oracle.WORDS] + [" " + w for w in oracle.WORDS] * 3 + oracle.CODE
          + oracle.EMOJI + ["    ", "\n\n", "\r\n", "123", "2024", "1999", "aaaaaaaa", "'s", "'re", "éé", "哈哈"] * 4)


def b64(text):
    return base64.b64encode(text.encode()).decode()


class SmallVocab:
    """As oracle.Vocab has it, but made up."""

    pre = ""
    merges = scores = ()
    add_space_prefix = False


def small_bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    state = json.loads(tokenizer.to_str())["model"]
    vocab = SmallVocab()
    vocab.model = "gpt2"
    vocab.tokens = [t for t, _ in sorted(state["vocab"].items(), key=lambda item: item[1])]
    vocab.types = [oracle.NORMAL] * len(vocab.tokens)
    vocab.merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in state["merges"]]
    vocab.tokens += [t for t, _ in SPECIALS]
    vocab.types += [kind for _, kind in SPECIALS]
    return vocab


def small_spm(add_space_prefix):
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=600, show_progress=False)
    tokenizer.train_from_iterator([w.replace(" ", "\u2581") for w in CORPUS if "\n\n" not in w], trainer)
    state = json.loads(tokenizer.to_str())["model"]
    merged = ["".join(merge) if isinstance(merge, list) else merge.replace(" ", "") for merge in state["merges"]]
    merged = [t for t in merged if "\u2581\u2581" not in t]
    characters = sorted(t for t in state["vocab"] if len(t) == 1)
    rows = [(t, kind, 0.0) for t, kind in SPM_SPECIALS]
    rows += [(f"<0x{byte:02X}>", oracle.BYTE, 0.0) for byte in range(256)]
    rows += [(t, oracle.NORMAL, -float(rank)) for rank, t in enumerate(dict.fromkeys(merged + characters))]
    vocab = SmallVocab()
    vocab.model = "llama"
    vocab.tokens, vocab.types, vocab.scores = map(list, zip(*rows))
    vocab.add_space_prefix = add_space_prefix
    return vocab


def write(path, vocab, make_oracle, seed):
    typed = [(t, k) for t, k in zip(vocab.tokens, vocab.types)
             if k in (oracle.UNKNOWN, oracle.CONTROL, oracle.USER_DEFINED)]
    header = {"model": vocab.model, "pre": vocab.pre, "tokens": [b64(t) for t in vocab.tokens], "types": vocab.types,
              "merges": [b64(m) for m in vocab.merges], "scores": list(vocab.scores),
              "add_space_prefix": vocab.add_space_prefix}
    lines = [header]
    for special in (False, True):
        tokenizer = make_oracle()
        oracle.add_special(tokenizer, typed, special)
        for text in oracle.strings(450, seed + special, [t for t, _ in typed]):
            if len(text.encode()) <= 160:
                ids = tokenizer.encode(text, add_special_tokens=False).ids
                lines.append({"text": b64(text), "special": special, "ids": ids})
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    print(f"{path}: {len(lines) - 1} strings, {path.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER",
                        default=Path(__file__).resolve().parents[1] / "tests" / "golden" / "tokenizer")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for seed, family in enumerate(("gpt-2", "smollm", "qwen2", "llama-bpe", "default")):
        vocab = small_bpe()
        vocab.pre = family
        write(folder / f"bpe_{family}.jsonl", vocab, lambda: oracle.bpe_oracle(vocab, family), 100 + 2 * seed)
    for name, prefix in (("spm_prefix", True), ("spm_plain", False)):
        vocab = small_spm(prefix)
        write(folder / f"{name}.jsonl", vocab, lambda: oracle.spm_oracle(vocab), 200 + prefix * 2)


if __name__ == "__main__":
    main()
