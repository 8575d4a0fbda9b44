#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/hf_parts.json: what PyPI's `tokenizers` makes of a text with each pre-tokenizer and
normalizer of a tokenizer.json that the worker supports, in each of their settings."""

import argparse
import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE

DEFAULT_OUT = Path(__file__).resolve().parents[1] / "tests" / "golden" / "tokenizer" / "hf_parts.json"
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
TEXT = "ab12, c!!  d.e\tf"
BLANKS = "a b  c"


def metaspace(scheme: str, split: bool) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}


def split(pattern: dict[str, str], behavior: str, invert: bool) -> dict[str, Any]:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


PRE_TOKENIZERS = [
    *[(split({"Regex": "[0-9!]"}, behavior, invert), TEXT) for behavior in BEHAVIORS for invert in (False, True)],
    *[({"type": "Punctuation", "behavior": behavior}, TEXT) for behavior in BEHAVIORS],
    *[({"type": "Digits", "individual_digits": single}, TEXT) for single in (True, False)],
    *[({"type": name}, TEXT) for name in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer")],
    *[({"type": "CharDelimiterSplit", "delimiter": delimiter}, TEXT) for delimiter in (".", "d")],
    *[(metaspace(scheme, cut), BLANKS) for scheme in ("always", "first", "never") for cut in (True, False)],
    ({"type": "Sequence", "pretokenizers": [split({"String": "b"}, "Isolated", False), metaspace("first", True)]}, "ab c"),
    ({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace("first", True)]}, " ab c"),
    ({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace("always", True)]}, " ab c"),
    ({"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False}, "a é"),
    ({"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}, "a é"),
    ({"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False}, " a"),
]
NORMALIZERS = [
    *[({"type": "Strip", "strip_left": left, "strip_right": right}, text)
      for left in (True, False) for right in (True, False) for text in ("  a b \t", "   ")],
    *[({"type": form}, "e\u0301 é ﬁ") for form in ("NFC", "NFD", "NFKC", "NFKD")],
    ({"type": "StripAccents"}, "éa\u0301b"), ({"type": "Lowercase"}, "ÀİbΣ"),
    ({"type": "Prepend", "prepend": "_"}, ""), ({"type": "Prepend", "prepend": "_"}, "a"),
    ({"type": "Replace", "pattern": {"Regex": "a+"}, "content": "<>"}, "baac"),
    ({"type": "Replace", "pattern": {"String": "."}, "content": ""}, "a.b."),
    ({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]}, "ÉÀ"),
]


def reference(**parts: Any) -> Tokenizer:
    document = json.loads(Tokenizer(BPE()).to_str())
    return Tokenizer.from_str(json.dumps({**document, **parts}))


def golden() -> str:
    cases = [{"pre_tokenizer": part, "text": text,
              "pieces": [piece for piece, _ in reference(pre_tokenizer=part).pre_tokenizer.pre_tokenize_str(text)]}
             for part, text in PRE_TOKENIZERS]
    cases += [{"normalizer": part, "text": text, "pieces": [reference(normalizer=part).normalizer.normalize_str(text)]}
              for part, text in NORMALIZERS]
    return "[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT_OUT, metavar="FILE")
    parser.parse_args().file.write_text(golden(), encoding="utf-8")
