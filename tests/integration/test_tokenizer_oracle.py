"""Every family of tokenizers against PyPI's `tokenizers`: all ids equal, every text back byte for byte."""

import io
import json
import lzma
import os
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tools"))
import hf_pipelines  # noqa: E402
import pre_tokenizer_vectors  # noqa: E402
import tokenizer_oracle  # noqa: E402

N_STRINGS = 20000
N_PIPELINE_STRINGS = 1500


@pytest.fixture(scope="session")
def program(binary):
    """Built beside the worker: it hands many strings at once to the same library."""
    path = Path(os.environ.get("ORCD_TOKENIZER_DUMP") or binary.with_name("tokenizer_dump"))
    assert path.is_file(), f"{path} is missing: build the target tokenizer_dump"
    return path


@pytest.fixture(scope="session")
def unpacked(shared_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabularies")

    def unpack(name):
        target = folder / Path(name).name
        if not target.is_file():
            packed = shared_dir / "data" / f"{name}.xz"
            assert packed.is_file(), f"{packed} is missing: set ORCD_SHARED_DIR"
            target.write_bytes(lzma.decompress(packed.read_bytes()))
        return target

    return unpack


@pytest.fixture(scope="session")
def byte_level(shared_dir, unpacked, smollm2):
    """GPT-2's vocabulary, or SmolLM2's where that is not at hand: what tells families apart is how they split."""
    return unpacked("vocab/gpt-2.vocab.gguf") if shared_dir else smollm2


def check(program, vocab, **options):
    report = io.StringIO()
    n, n_equal, n_round_trips = tokenizer_oracle.compare(program, vocab, n=N_STRINGS, out=report, **options)
    print(report.getvalue(), end="")
    assert n >= N_STRINGS
    assert (n_equal, n_round_trips) == (n, n), report.getvalue()


@pytest.mark.parametrize("special", [False, True], ids=["plain", "special"])
def test_smollm2_ids_equal_the_oracle(program, smollm2, special):
    check(program, smollm2, special=special)


@pytest.mark.parametrize("special", [False, True], ids=["plain", "special"])
def test_gemma3_ids_equal_the_oracle(program, gemma3, special):
    check(program, gemma3, special=special)


def test_probe_texts_are_those_that_the_oracle_gives():
    committed = (REPO / "src" / "tokenizer" / "conformance_vectors.cpp").read_text(encoding="utf-8")
    assert committed == pre_tokenizer_vectors.source()


@pytest.mark.parametrize("family", tokenizer_oracle.FAMILIES)
def test_each_family_equals_the_oracle(program, byte_level, family):
    check(program, byte_level, family=family)


@pytest.mark.shared
def test_llama_bpe_over_the_qwen2_vocabulary_equals_the_oracle(program, unpacked):
    check(program, unpacked("vocab/qwen2.vocab.gguf"), family="llama-bpe")


@pytest.mark.shared
def test_qwen2_equals_the_tokenizer_json_of_qwen3(program, unpacked):
    check(program, unpacked("vocab/qwen2.vocab.gguf"), source=unpacked("tokenizers/qwen3.tokenizer.json"))


@pytest.mark.shared
@pytest.mark.parametrize("special", [False, True], ids=["plain", "special"])
def test_phi3_ids_equal_the_oracle(program, unpacked, special):
    check(program, unpacked("vocab/phi-3.vocab.gguf"), special=special)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["qwen3", "gptoss"])
def test_tokenizer_json_equals_the_oracle(program, unpacked, name):
    check(program, unpacked(f"tokenizers/{name}.tokenizer.json"))


@pytest.mark.parametrize("name", hf_pipelines.pipelines())
def test_every_part_of_a_tokenizer_json_equals_the_oracle(program, tmp_path, name):
    document = hf_pipelines.pipelines()[name]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    report = io.StringIO()
    n, n_equal, _ = tokenizer_oracle.compare(program, path, n=N_PIPELINE_STRINGS, out=report,
                                             extra=hf_pipelines.specials(document), round_trip=False)
    assert (n, n_equal) == (N_PIPELINE_STRINGS, N_PIPELINE_STRINGS), report.getvalue()


@pytest.mark.parametrize("which", [pytest.param("phi3", marks=pytest.mark.shared), "gemma3"])
def test_sentencepiece_as_tokenizer_json_equals_the_oracle_and_the_gguf(program, unpacked, gemma3, tmp_path, which):
    vocab = unpacked("vocab/phi-3.vocab.gguf") if which == "phi3" else gemma3
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(hf_pipelines.sentencepiece(tokenizer_oracle.load_vocab(vocab))))
    report = io.StringIO()
    n, n_equal, _ = tokenizer_oracle.compare(program, path, n=N_STRINGS, out=report, round_trip=False)
    assert n == n_equal >= N_STRINGS, report.getvalue()
    texts = [text.encode() for text in tokenizer_oracle.strings(2000, 8, ["<s>", "</s>"])]
    assert (tokenizer_oracle.dump(program, path, texts, special=True)
            == tokenizer_oracle.dump(program, vocab, texts, special=True))


def test_gemma4s_form_equals_the_oracle(program, gemma3, tmp_path):
    """No vocabulary of Gemma 4 is at hand; its form with Gemma 3's tokens is, and so is that tokenizer.json."""
    vocab = tokenizer_oracle.load_vocab(gemma3)
    document = hf_pipelines.sentencepiece(vocab)
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    hf_pipelines.write_gemma4(tmp_path / "vocab.gguf", vocab, document)
    report = io.StringIO()
    texts = ["\n" * n for n in range(1, 80)]
    n, n_equal, n_back = tokenizer_oracle.compare(
        program, tmp_path / "vocab.gguf", source=tmp_path / "tokenizer.json", special=True, n=N_STRINGS, out=report, extra=texts)
    assert n == n_equal == n_back >= N_STRINGS, report.getvalue()


@pytest.mark.shared
def test_tokenizer_json_and_gguf_give_equal_ids(program, unpacked):
    texts = [text.encode() for text in tokenizer_oracle.strings(N_STRINGS, 7, [])]
    gguf_results = tokenizer_oracle.dump(program, unpacked("vocab/qwen2.vocab.gguf"), texts, special=False)
    json_results = tokenizer_oracle.dump(program, unpacked("tokenizers/qwen3.tokenizer.json"), texts, special=False)
    assert json_results == gguf_results
