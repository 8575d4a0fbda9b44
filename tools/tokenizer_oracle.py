#!/usr/bin/env python3
"""Holds the worker's tokenizers against the PyPI package `tokenizers` on seeded random strings.

    tokenizer_oracle.py generate SOURCE [--family NAME] [-n 20000] [--seed 1] [--special] > strings.jsonl
    tokenizer_oracle.py compare --program build/release/bin/tokenizer_dump --vocab FILE.gguf [--source tokenizer.json]
                                [--family NAME] [-n 20000] [--seed 1] [--special]
    (FILE may also be a tokenizer.json)

SOURCE is a GGUF file or a tokenizer.json. From a GGUF the oracle is built out of its tokens, merges or scores, with the
pre-tokenizer that the family has on Hugging Face; FAMILY overrides what the file says (and compare then hands the
program a copy of the vocabulary that says so too). A line of the output is {"text": base64 of the bytes, "ids": [...]}.
compare prints `family N equal M` and the first differences, and exits 1 when there is one. Needs: tokenizers, gguf.
"""

import argparse
import base64
import functools
import json
import random
import re
import struct
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


O200K_WORDS = [r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
               r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"]
O200K_REST = [r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"]
CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = "|".join([word + CONTRACTION for word in O200K_WORDS] + [r"\p{N}{1,3}"] + O200K_REST)
TEKKEN = "|".join(O200K_WORDS + [r"\p{N}"] + O200K_REST)
KIMI = "|".join([r"[\p{Han}]+"]
                + [word.replace(r"\p{M}]", r"\p{M}&&[^\p{Han}]]") + CONTRACTION for word in O200K_WORDS]
                + [r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", *O200K_REST[1:]])
DEEPSEEK_CJK = "[一-龥ࠀ-一가-퟿]+"
# Letters of the scripts that have two cases, as deepseek-llm lists them.
DEEPSEEK_LETTERS = (
    "b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 388-38a 38c 38e-3a1 3a3-3f5 "
    "3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a "
    "1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe "
    "1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d "
    "2124 2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183 2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee "
    "2cf2 2cf3 a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a "
    "ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df 1e900-1e943")
DEEPSEEK_LETTERS = r"\s?[A-Za-z" + re.sub(r"[0-9a-f]+", lambda m: f"\\x{{{m[0]}}}", DEEPSEEK_LETTERS).replace(" ", "") + "]+"
DEEPSEEK3 = ("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
             "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def digits(one_by_one=True):
    return pre_tokenizers.Digits(individual_digits=one_by_one)


# The pre-tokenizer of each family as its tokenizer.json on Hugging Face has it, and whether that normalises to NFC and
# ignores merges. `default` is llama.cpp's; kimi-k2 is its tokenization_kimi.py.
FAMILIES = {
    "default": ([split(r"[\p{P}\$\+<=>\^~\|]+"),
                 split(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"),
                 split(r"\p{N}+"), split(r"[0-9][0-9][0-9]"), byte_level(False)], False, False),
    "gpt-2": ([byte_level(True)], False, False),
    "olmo": ([byte_level(True)], True, False),
    "smollm": ([digits(), byte_level(True)], False, False),
    "command-r": ([digits(), byte_level(True)], True, False),
    "falcon": ([pre_tokenizers.Punctuation("contiguous"), byte_level(True), digits(False), split("[0-9][0-9][0-9]")],
               False, False),
    "falcon3": ([pre_tokenizers.Punctuation("contiguous"), byte_level(True), digits()], False, False),
    "qwen2": ([split(QWEN2), byte_level(False)], True, False),
    "grok-2": ([split(QWEN2), byte_level(False)], False, False),
    "qwen35": ([split(QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")),
                byte_level(False)], True, False),
    "seed-coder": ([split(QWEN2.replace(r"|\p{N}|", r"|\p{N}{1}|").replace(r"[^\s\p{L}\p{N}]+[\r\n]*",
                                                                          r"[^\s\p{L}\p{N}\r\n]+")),
                    byte_level(False)], False, False),
    "bailingmoe": ([split(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
                          r"|\s+(?!\S)|\s+"), byte_level(False)], False, False),
    "llama-bpe": ([split(LLAMA3), byte_level(False)], False, True),
    "dbrx": ([split(LLAMA3), byte_level(False)], False, False),
    "gpt-4o": ([split(O200K), byte_level(False)], False, False),
    "tekken": ([split(TEKKEN), byte_level(False)], False, True),
    "kimi-k2": ([split(KIMI), byte_level(False)], False, False),
    "deepseek-llm": ([split("[\r\n]"), split(DEEPSEEK_LETTERS), split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), split(r"\s+$"),
                      split(DEEPSEEK_CJK), digits(), byte_level(False)], False, False),
    "deepseek-coder": ([split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(DEEPSEEK_CJK), digits(),
                        byte_level(False)], False, False),
    "deepseek-v3": ([split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK3), byte_level(False)], False, False),
    "bloom": ([split(BLOOM), byte_level(False)], False, False),
    "viking": ([split(BLOOM), digits(), byte_level(False)], False, False),
    "superbpe": ([digits(False), split(r"(?=(\d{3})+(?!\d))"), byte_level(False)], False, False),
}
ALIASES = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "phi-2": "gpt-2", "llama4": "gpt-4o"}


def family_parts(family):
    """Normalizer, pre-tokenizer and ignore_merges of a family."""
    family = ALIASES.get(family, family)
    if family not in FAMILIES:
        raise SystemExit(f"no oracle for the family {family}")
    stages, is_nfc, ignore_merges = FAMILIES[family]
    return normalizers.NFC() if is_nfc else None, pre_tokenizers.Sequence(stages), ignore_merges


def read_metadata(path):
    """Keys and values of a GGUF file. gguf.GGUFReader does it too, but takes a minute for 262,144 tokens."""
    scalars = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    with open(path, "rb") as file:

        def number(code):
            return struct.unpack("<" + code, file.read(struct.calcsize("<" + code)))[0]

        def value(kind):
            if kind == 8:
                return file.read(number("Q")).decode("utf-8", "surrogateescape")
            if kind == 9:
                kind, count = number("I"), number("Q")
                if kind in (8, 9):
                    return [value(kind) for _ in range(count)]
                form = f"<{count}{scalars[kind]}"
                return list(struct.unpack(form, file.read(struct.calcsize(form))))
            return number(scalars[kind])

        magic, version, _, n_entries = file.read(4), number("I"), number("Q"), number("Q")
        if magic != b"GGUF" or version not in (2, 3):
            raise SystemExit(f"{path} is not a GGUF file of version 2 or 3")
        entries = {}
        for _ in range(n_entries):
            key = value(8)
            entries[key] = value(number("I"))
        return entries


@functools.lru_cache(maxsize=1)  # reading a large one takes seconds
def load_vocab(path):
    return Vocab(path)


class Vocab:
    """The tokenizer part of a GGUF file."""

    def __init__(self, path):
        value = read_metadata(path).get
        self.model = value("tokenizer.ggml.model")
        self.pre = value("tokenizer.ggml.pre", "")
        self.tokens = value("tokenizer.ggml.tokens")
        self.types = value("tokenizer.ggml.token_type", [NORMAL] * len(self.tokens))
        self.merges = value("tokenizer.ggml.merges", [])
        self.scores = value("tokenizer.ggml.scores", [])
        self.add_space_prefix = value("tokenizer.ggml.add_space_prefix", self.model == "llama")

    def save(self, path, pre):
        """A vocabulary-only copy under another pre-tokenizer family."""
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.merges:
            writer.add_token_merges(self.merges)
        if self.scores:
            writer.add_token_scores(self.scores)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()


def bpe_oracle(vocab, family):
    normalizer, pre_tokenizer, ignore_merges = family_parts(family)
    ids = {text: i for i, text in enumerate(vocab.tokens)}
    merges = [tuple(merge.split(" ")) for merge in vocab.merges]
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@functools.lru_cache(maxsize=1)
def spm_merges(vocab):
    """Merges in the order of the scores, as transformers derives them from a SentencePiece model."""
    plain = {t: i for i, t in enumerate(vocab.tokens) if vocab.types[i] in (NORMAL, UNUSED, USER_DEFINED)}
    merges = []
    for text, i in plain.items():
        splits = [(text[:k], text[k:]) for k in range(1, len(text)) if text[:k] in plain and text[k:] in plain]
        splits.sort(key=lambda s: (plain[s[0]], plain[s[1]]))
        merges += [(left, right, vocab.scores[i]) for left, right in splits]
    merges.sort(key=lambda m: (m[2], len(m[0]), len(m[1])), reverse=True)
    return [(left, right) for left, right, _ in merges]


def spm_oracle(vocab):
    ids = {text: i for i, text in enumerate(vocab.tokens)}
    unknown = next(t for t in ("<unk>", "<UNK>") if t in ids)
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=spm_merges(vocab), unk_token=unknown, fuse_unk=True,
                                     byte_fallback=True))
    prefix = [normalizers.Prepend("\u2581")] if vocab.add_space_prefix else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "\u2581")])
    return tokenizer


def add_special(tokenizer, texts, special):
    """User-defined tokens are always matched in text, control tokens when the caller asks for it."""
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t, kind in texts if kind == USER_DEFINED])
    if special:
        tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True)
                                      for t, kind in texts if kind in (CONTROL, UNKNOWN)])


def load_oracle(source, family, special):
    """(tokenizer, family, special token texts)"""
    if str(source).endswith(".json"):
        document = json.loads(Path(source).read_text(encoding="utf-8"))
        added = [token["content"] for token in document["added_tokens"]]
        if not special:
            document["added_tokens"] = []
        return Tokenizer.from_str(json.dumps(document)), family, added
    vocab = load_vocab(source)
    typed = [(t, k) for t, k in zip(vocab.tokens, vocab.types) if k in (UNKNOWN, CONTROL, USER_DEFINED) and t]
    if vocab.model == "llama":
        tokenizer, family = spm_oracle(vocab), "spm"
    else:
        family = family or vocab.pre
        tokenizer = bpe_oracle(vocab, family)
    add_special(tokenizer, typed, special)
    return tokenizer, family, [t for t, _ in typed]


SCRIPTS = [(0x20, 0x7E), (0xA1, 0xFF), (0x100, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x531, 0x58A),
           (0x591, 0x5F4), (0x600, 0x6FF), (0x700, 0x74F), (0x900, 0x97F), (0x980, 0x9FE), (0xB80, 0xBFA),
           (0xE01, 0xE5B), (0xE81, 0xEDF), (0xF00, 0xFDA), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137C),
           (0x13A0, 0x13FD), (0x1780, 0x17F9), (0x1800, 0x18AA), (0x1E00, 0x1EFF), (0x1F00, 0x1FFE), (0x2000, 0x206F),
           (0x2070, 0x209C), (0x20A0, 0x20C0), (0x20D0, 0x20F0), (0x2100, 0x218B), (0x2190, 0x23FF), (0x2460, 0x27BF),
           (0x2C00, 0x2C7F), (0x3000, 0x303F), (0x3041, 0x30FF), (0x3130, 0x318E), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
           (0xA000, 0xA48C), (0xAC00, 0xD7A3), (0xF900, 0xFAD9), (0xFB00, 0xFB4F), (0xFE00, 0xFE0F), (0xFF01, 0xFFEE),
           (0x10000, 0x100FA), (0x10280, 0x1031F), (0x10400, 0x1044F), (0x104A0, 0x104A9), (0x11000, 0x11075),
           (0x12000, 0x12399), (0x13000, 0x1342F), (0x16A40, 0x16A6F), (0x1D165, 0x1D1FF), (0x1D400, 0x1D7FF),
           (0x1E900, 0x1E95F), (0x1F100, 0x1F1FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0xE0100, 0xE01EF),
           (0xE000, 0xF8FF)]
SPACES = [*map(chr, (0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x20, 0x85, 0xA0, 0x1680, 0x180E, *range(0x2000, 0x200E),
                     0x2028, 0x2029, 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF)), "\r\n", "\n\n", "\t\t", "  ", "    "]
DIGITS = [0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xE50, 0xFF10, 0x104A0, 0x1D7CE, 0x1D7D8]
OTHER_NUMBERS = "²³¹¼½¾ⅣⅫↂ①⑳㊿〇〩𒐀𐄇٪৴"
CONTRACTIONS = [q + s for q in "'’" for s in "s t re ve m ll d S T RE VE M LL D Re vE lL ſ x 're".split()]
EMOJI = ["👩\u200d👩\u200d👧\u200d👦", "👨🏽\u200d🚀", "🏳\ufe0f\u200d🌈", "🇩🇪🇫🇷", "👍🏿", "❤\ufe0f", "1\ufe0f\u20e3", "🧑\u200d💻",
         "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "😀😃😄", "🤷🏻\u200d♀\ufe0f", "\u200d", "\ufe0f"]
CODE = ["def f(x: int) -> None:\n    return x**2 + 1\n", "for(int i=0;i<n;++i){a[i]+=b[i];}", "#include <vector>\n",
        "SELECT * FROM t WHERE id='x';", "<div class=\"a\">&nbsp;</div>", "{\"k\": [1, 2.5e-3, null]}", "\t\tif x:\n\t\t\tpass",
        "a->b->c", "x != y && !z || ~w", "/* c */ // d\n", "$HOME/.bashrc", "https://a.example/b?c=d&e=%20f#g", "0xDEADBEEF",
        "<table><tr><td></td></tr></table>", "```python\n", "<h1>", "<br>\n<p>"]
WORDS = ("the of and to in is that it was for on are with as be at one have this from or had by not but what all were when we "
         "there can an your which their said if will each about how up out them then she many some so these would other into "
         "has more her two him see could no make than first been its who now people my made over did down only way find use "
         "may long Haus Straße café naïve façade Ünïcödé señor Привет мир שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดี 你好世界 "
         "こんにちは 안녕하세요 ελληνικά tokenization internationalization antidisestablishmentarianism").split()


def cut_specials(rng, specials):
    text = rng.choice(specials)
    if rng.random() < 0.3:  # almost one
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(["", " ", "x", "<", ">"]) + text[at + rng.randrange(2):]
    return text


def any_code_point(rng):
    while True:
        c = rng.randrange(0x110000)
        if not 0xD800 <= c < 0xE000 and (unicodedata.category(chr(c)) != "Cn" or rng.random() < 0.2):
            return chr(c)


def piece(rng, specials):
    """A few characters of one kind."""
    kind = rng.randrange(17)
    n = rng.choice((1, 1, 2, 3, 5, 8, 13))
    if kind == 0:
        return "".join(any_code_point(rng) for _ in range(n))
    if kind <= 2:
        low, high = rng.choice(SCRIPTS)
        return "".join(chr(rng.randint(low, high)) for _ in range(n))
    if kind == 3:
        return "".join(rng.choice(SPACES) for _ in range(n))
    if kind == 4:
        return rng.choice(SPACES) * rng.choice((1, 2, 3, 4, 7, 16, 17, 31, 32, 33, 70))
    if kind == 5:
        zero = rng.choice(DIGITS)
        return "".join(chr(zero + rng.randrange(10)) for _ in range(n))
    if kind == 6:
        return rng.choice(OTHER_NUMBERS) + str(rng.randrange(10 ** rng.randrange(1, 12)))
    if kind == 7:
        return rng.choice(WORDS) + rng.choice(CONTRACTIONS) + rng.choice(["", " ", "a"])
    if kind == 8:
        return rng.choice(EMOJI) * rng.choice((1, 1, 2))
    if kind == 9:
        return rng.choice(CODE)
    if kind == 10 and specials:
        return cut_specials(rng, specials)
    if kind == 11:
        return rng.choice("aeiounAst") + "".join(chr(rng.randint(0x300, 0x345)) for _ in range(n))
    if kind == 12:
        return "".join(rng.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") for _ in range(n))
    if kind == 13:
        return rng.choice(["a", "ab", "A", "=", "-", "é", "ه", "哈", "ha", "1", "'", "_", "\u0301"]) * rng.choice((3, 9, 40, 150))
    if kind == 14:
        return unicodedata.normalize(rng.choice(["NFD", "NFC", "NFKD"]), rng.choice(WORDS))
    return " ".join(rng.choice(WORDS) for _ in range(n))


def strings(n, seed, specials):
    rng = random.Random(seed)
    yield ""
    # Beside the n random strings: every code point at least once, cut into lines with a little context.
    if n >= 20000:
        everything = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Co"]
        rng.shuffle(everything)
        step = len(everything) // 3000 + 1
        for i in range(0, len(everything), step):
            yield "".join(rng.choice(["", "", " ", "a", "1", "'s"]) + c for c in everything[i:i + step])
    for i in range(1, n):
        if i % 997 == 0:
            yield piece(rng, specials) * 400  # very long
        elif i % 101 == 0:
            yield "".join(rng.choice("abcdefgXYZé") for _ in range(rng.randrange(2000)))  # one long word
        else:
            yield "".join(piece(rng, specials) for _ in range(rng.choice((1, 1, 2, 3, 5, 9))))


@functools.lru_cache(maxsize=1)  # the families of one vocabulary are asked with the same strings
def string_list(n, seed, specials):
    return list(strings(n, seed, specials))


def dump(program, vocab, texts, special):
    """(ids, decoded bytes) of each text, by the worker's code."""
    data = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    result = subprocess.run([str(program), str(vocab), *(["--special"] if special else [])], input=data,
                            capture_output=True)
    if result.returncode != 0:
        raise SystemExit(f"{program} failed: {result.stderr.decode()}")
    out, at, results = result.stdout, 0, []
    for _ in texts:
        (count,) = struct.unpack_from("<I", out, at)
        ids = list(struct.unpack_from(f"<{count}i", out, at + 4))
        at += 4 + 4 * count
        (size,) = struct.unpack_from("<I", out, at)
        results.append((ids, out[at + 4:at + 4 + size]))
        at += 4 + size
    assert at == len(out)
    return results


def unspellable_bytes(vocab):
    """Bytes for which a byte-level vocabulary has no token; the oracle drops them (SmolLM2: 0xF1 and the like)."""
    if vocab.model != "gpt2":
        return b""
    order = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    order += [byte for byte in range(256) if byte not in order]
    alphabet = {byte: chr(byte) if i < 188 else chr(0x100 + i - 188) for i, byte in enumerate(order)}
    known = set(vocab.tokens)
    return bytes(byte for byte in range(256) if alphabet[byte] not in known)


def round_trips(text, decoded, tokenizer, family, unspellable):
    """Byte-exact, but for what the oracle itself folds or drops: NFC, U+2581 for a space, bytes without a token."""
    if text == decoded:
        return True
    if family == "spm":
        return text.replace("\u2581", " ") == decoded.replace("\u2581", " ")
    normalize = tokenizer.normalizer.normalize_str if tokenizer.normalizer is not None else str
    if unspellable:
        return normalize(text).encode().translate(None, unspellable).decode("utf-8", "surrogateescape") == decoded
    return normalize(text) == normalize(decoded)


def compare(program, vocab, source=None, family=None, n=20000, seed=1, special=False, out=sys.stdout, extra=(),
            round_trip=True):
    """Number of strings, of equal ones, of byte-exact round trips; prints the line `family N equal M`. extra: texts that
    the strings hold, too; round_trip: whether the worker must give the text back (not all pipelines do)."""
    is_json = str(vocab).endswith(".json")
    special = special or is_json  # what a tokenizer.json adds is always matched
    tokenizer, oracle_family, specials = load_oracle(source or vocab, family, special)
    name = oracle_family or (Path(vocab).name if is_json else load_vocab(vocab).pre)
    texts = string_list(n, seed, (*specials, *extra))
    unspellable = b"" if is_json else unspellable_bytes(load_vocab(vocab))
    with tempfile.TemporaryDirectory() as folder:
        if family and not source and not is_json and family != load_vocab(vocab).pre:
            renamed = Path(folder) / "renamed.gguf"
            load_vocab(vocab).save(renamed, family)
            vocab = renamed
        results = dump(program, vocab, [text.encode() for text in texts], special)
    expected = []
    for i in range(0, len(texts), 1000):  # the oracle's encodings are large
        batch = tokenizer.encode_batch_fast(texts[i:i + 1000], add_special_tokens=False)
        expected += [encoding.ids for encoding in batch]
    n_equal = n_round = n_shown = 0
    for text, want, (ids, decoded) in zip(texts, expected, results):
        n_equal += ids == want
        is_back = not round_trip or round_trips(text, decoded.decode("utf-8", "surrogateescape"), tokenizer, name,
                                                unspellable)
        n_round += is_back
        if (ids != want or not is_back) and n_shown < 5:
            n_shown += 1
            at = next((i for i, (a, b) in enumerate(zip(want, ids)) if a != b), min(len(want), len(ids)))
            print(f"  text {text[:200]!r}\n  at {at}: oracle {want[at:at + 8]}, worker {ids[at:at + 8]}; "
                  f"round trip {'ok' if is_back else ascii(decoded[:200])}", file=out)
    print(f"{name}{' special' if special else ''} {len(texts)} equal {n_equal} round trip {n_round}", file=out)
    return len(texts), n_equal, n_round


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    generate = commands.add_parser("generate")
    generate.add_argument("source")
    check = commands.add_parser("compare")
    check.add_argument("--program", required=True)
    check.add_argument("--vocab", required=True)
    check.add_argument("--source")
    for command in (generate, check):
        command.add_argument("--family")
        command.add_argument("-n", type=int, default=20000)
        command.add_argument("--seed", type=int, default=1)
        command.add_argument("--special", action="store_true")
    args = parser.parse_args()
    if args.command == "generate":
        tokenizer, _, specials = load_oracle(args.source, args.family, args.special)
        for text in strings(args.n, args.seed, specials):
            line = {"text": base64.b64encode(text.encode()).decode(),
                    "ids": tokenizer.encode(text, add_special_tokens=False).ids}
            print(json.dumps(line, separators=(",", ":")))
        return 0
    n, n_equal, n_round = compare(args.program, args.vocab, args.source, args.family, args.n, args.seed, args.special)
    return 0 if n == n_equal == n_round else 1


if __name__ == "__main__":
    sys.exit(main())
