"""tokenizer.json files that use every part which hf-json supports, over small trained vocabularies: what
tests/integration/test_tokenizer_oracle.py hands to the worker and to PyPI's `tokenizers`."""

import functools
import json

import gguf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

import tokenizer_goldens as goldens
import tokenizer_oracle as oracle

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BYTES_ONLY = {**BYTE_LEVEL, "use_regex": False}
METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
LLAMA = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
                                             {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]}
LLAMA_DECODER = {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
          r"|\s+(?!\S)|\s")
BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")


def sequence(kind, *parts):
    return {"type": "Sequence", {"n": "normalizers", "p": "pretokenizers"}[kind]: list(parts)}


def split(behavior, pattern, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def added(token_id, content, **flags):
    return {"id": token_id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": False, **flags}


@functools.cache
def byte_vocab():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  show_progress=False)
    tokenizer.train_from_iterator(goldens.CORPUS, trainer)
    return json.loads(tokenizer.to_str())["model"]


@functools.cache
def character_vocab(byte_fallback):
    """Characters as symbols, blanks as U+2581."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    specials = ["<unk>", "<s>", "</s>"] + ([f"<0x{byte:02X}>" for byte in range(256)] if byte_fallback else [])
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(goldens.CORPUS, trainer)
    return {**json.loads(tokenizer.to_str())["model"], "byte_fallback": byte_fallback}


def document(model, normalizer=None, pre_tokenizer=None, decoder=None, tokens=(), special_tokens=None, **rules):
    model = {**model, **rules}
    start = 1 + max(model["vocab"].values())
    names = [added(model["vocab"].get(content, start + i), content, **flags) for i, (content, flags) in enumerate(tokens)]
    known = [added(model["vocab"][t], t, special=True, **(special_tokens or {})) for t in ("<unk>", "<s>", "</s>") if t in model["vocab"]]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": known + names,
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": None, "decoder": decoder,
            "model": model}


def byte_level(pre_tokenizer=None, normalizer=None, tokens=(), **rules):
    return document(byte_vocab(), normalizer, pre_tokenizer or BYTE_LEVEL, BYTE_LEVEL, tokens, **rules)


def characters(normalizer=None, pre_tokenizer=None, byte_fallback=True, tokens=(), **rules):
    return document(character_vocab(byte_fallback), normalizer, pre_tokenizer, LLAMA_DECODER, tokens, **rules)


def pipelines():
    """name -> document"""
    vowels, digit, comma = {"Regex": "[aeiou]"}, {"Regex": r"\p{N}"}, {"String": ","}
    found = {
        "prefix space": byte_level({**BYTE_LEVEL, "add_prefix_space": True}),
        "bytes only": byte_level(BYTES_ONLY),
        "digits, then bytes": byte_level(sequence("p", {"type": "Digits", "individual_digits": False}, BYTE_LEVEL)),
        "behind the bytes": byte_level(sequence("p", {"type": "Punctuation", "behavior": "Contiguous"}, BYTE_LEVEL,
                                                {"type": "Digits", "individual_digits": True})),
        "punctuation": byte_level(sequence("p", {"type": "Punctuation", "behavior": "MergedWithNext"}, BYTE_LEVEL)),
        "whitespace": byte_level(sequence("p", {"type": "Whitespace"}, BYTES_ONLY)),
        "whitespace split": byte_level(sequence("p", {"type": "WhitespaceSplit"}, BYTE_LEVEL)),
        "bert": byte_level(sequence("p", {"type": "BertPreTokenizer"}, BYTES_ONLY)),
        "delimiter": byte_level(sequence("p", {"type": "CharDelimiterSplit", "delimiter": "-"}, BYTES_ONLY)),
        "delimiter n": byte_level(sequence("p", {"type": "CharDelimiterSplit", "delimiter": "n"}, BYTE_LEVEL)),
        "delimiter .": byte_level(sequence("p", {"type": "CharDelimiterSplit", "delimiter": "."}, BYTE_LEVEL)),
        "ignored merges": byte_level(ignore_merges=True),
        "sets": byte_level(sequence("p", split("Isolated", {"Regex": r"[^(\s|[.,!?…。，、।۔،])]+|[\p{L}&&[^\p{Han}a-m]]+"}),
                                    BYTES_ONLY)),
        "llama": characters(LLAMA, fuse_unk=True),
        "no bytes": characters(LLAMA, byte_fallback=False),
        "no bytes, fused": characters(LLAMA, byte_fallback=False, fuse_unk=True),
        "no unknown": characters(LLAMA, byte_fallback=False, unk_token=None),
        "gemma": characters({"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
                            split("MergedWithPrevious", {"String": " "}), tokens=[("\n\n", {}), ("\u2581\u2581", {})]),
        "metaspace": characters(pre_tokenizer=METASPACE),
        "metaspace, first": characters(pre_tokenizer={**METASPACE, "prepend_scheme": "first", "split": False},
                                       tokens=[("<x>", {})]),
        "metaspace, never": characters(pre_tokenizer={**METASPACE, "prepend_scheme": "never"}),
        "replace by expression": byte_level(normalizer={"type": "Replace", "pattern": {"Regex": r"\s{2,}|x"},
                                                        "content": "_"}),
        "strip and lower": byte_level(normalizer=sequence("n", {"type": "Strip", "strip_left": True, "strip_right": True},
                                                          {"type": "Lowercase"})),
        "accents": byte_level(normalizer=sequence("n", {"type": "NFD"}, {"type": "StripAccents"})),
        "added tokens": byte_level(tokens=[("<tool>", {}), ("<tool", {"lstrip": True}), ("of", {"single_word": True}),
                                           ("|end|", {"rstrip": True, "lstrip": True}), ("and", {"normalized": True}),
                                           ("Straße", {"normalized": True, "rstrip": True})]),
        "added tokens, normalised": byte_level(normalizer={"type": "NFC"}, tokens=[
            ("<tool>", {"special": True, "rstrip": True}), ("caf\u00e9", {"normalized": True}), ("ha", {"normalized": True})]),
    }
    late = {"normalized": True}
    found |= {
        "added tokens, lower case": byte_level(normalizer={"type": "Lowercase"}, tokens=[
            ("<X>", {"special": True, **late}), ("WORD", {"single_word": True, **late}), ("\u00c9", late)]),
        "added tokens, llama": characters(LLAMA, tokens=[("<tool>", late), ("<x y>", {"lstrip": True, **late})]),
        "special tokens, llama": characters(LLAMA, special_tokens=late),
        "version of merges": byte_level(merges=["#version: 0.2"] + [" ".join(m) for m in byte_vocab()["merges"]]),
    }
    for expression in (r"\p{N}{1,3}+", r"[a-e]{2}?", r"\p{L}{,3}", r"\p{L}{2,3}+|(?:\p{N}|-){2}+.", CL100K):
        found[expression] = byte_level(sequence("p", split("Isolated", {"Regex": expression}), BYTES_ONLY))
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        found[form] = byte_level(normalizer={"type": form})
    for behavior in BEHAVIORS:
        for pattern in (vowels, digit, comma):
            for invert in (False, True):
                name = f"{behavior} {'not ' if invert else ''}{next(iter(pattern.values()))}"
                found[name] = byte_level(sequence("p", split(behavior, pattern, invert), BYTES_ONLY))
    return found


def sentencepiece(vocab):
    """A SentencePiece vocabulary of a GGUF file as transformers converts it: llama's form, or gemma's."""
    tokenizer = oracle.spm_oracle(vocab)
    oracle.add_special(tokenizer, [(t, k) for t, k in zip(vocab.tokens, vocab.types) if t], special=True)
    found = json.loads(tokenizer.to_str())
    found["decoder"] = LLAMA_DECODER if vocab.add_space_prefix else {"type": "Sequence", "decoders":
                                                                     LLAMA_DECODER["decoders"][:3]}
    return found


def write_gemma4(path, vocab, document):
    """Gemma's vocabulary as the converter of Gemma 4 writes it: with merges, and runs of newlines as ordinary tokens."""
    writer = gguf.GGUFWriter(path, "gemma4")
    writer.add_tokenizer_model("gemma4")
    writer.add_token_list(vocab.tokens)
    writer.add_token_types([oracle.NORMAL if text and not text.strip("\n") else kind for text, kind in zip(vocab.tokens, vocab.types)])
    # Blanks are U+2581 by the time of merging, so those of Gemma 3's tokens that are typed as blanks never merge.
    writer.add_token_merges([" ".join(merge) for merge in document["model"]["merges"] if " " not in "".join(merge)])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def specials(document):
    return [token["content"] for token in document["added_tokens"]] + [" |end| ", "  of", "coffee and"]


def main():
    import sys
    import tempfile
    from pathlib import Path
    with tempfile.TemporaryDirectory() as folder:
        for name, content in pipelines().items():
            path = Path(folder) / "tokenizer.json"
            path.write_text(json.dumps(content))
            print(name, end=": ")
            oracle.compare(sys.argv[1], path, n=int(sys.argv[2]), extra=specials(content), round_trip=False)


if __name__ == "__main__":
    main()
