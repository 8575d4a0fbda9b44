"""The command line: what each subcommand prints, how it fails, what it exits with."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from worker_process import TIME_SCALE, terminal_of, text_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import hf_pipelines  # noqa: E402
import tokenizer_oracle  # noqa: E402

PROMPT = "The three primary colours are"


def run_json(cli, model, *extra):
    result = cli("run", "--model", model, "--device", "cpu", "--json", "--max-tokens", 12, *extra)
    assert result.stderr == ""
    return json.loads(result.stdout)


@pytest.mark.core
def test_run_prints_the_text_or_everything_about_it(cli, smollm2):
    answer = run_json(cli, smollm2, "--prompt", PROMPT, "--seed", 11)
    assert set(answer) == {"text", "token_ids", "prompt_token_ids", "stop_reason", "seed", "timings", "logits_digest", "receipt"}
    assert answer["seed"] == 11 and len(answer["token_ids"]) == 12 and answer["stop_reason"] == "max_tokens"
    assert answer["receipt"]["logits_digest"] == answer["logits_digest"] and answer["timings"]["prompt_tokens"] == len(answer["prompt_token_ids"])
    plain = cli("run", "--model", smollm2, "--device", "cpu", "--prompt", PROMPT, "--seed", 11, "--max-tokens", 12)
    assert plain.stdout == answer["text"]
    ids = " ".join(map(str, answer["token_ids"]))
    assert cli("detokenize", "--model", smollm2, "--ids", ids).stdout == answer["text"] + "\n"
    prompt_ids = cli("tokenize", "--model", smollm2, "--text", PROMPT, "--bos", "--special").stdout
    assert prompt_ids == " ".join(map(str, answer["prompt_token_ids"])) + "\n"


def test_run_and_execute_give_the_same_bits(cli, smollm2_worker, smollm2, tmp_path):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text(PROMPT)
    answer = run_json(cli, smollm2, "--file", prompt, "--seed", 5, "--temperature", 0.7, "--threads", 1)
    events = smollm2_worker.execute(prompt=PROMPT, max_tokens=12, seed=5, temperature=0.7)
    assert text_of(events) == answer["text"]
    assert terminal_of(events).json["receipt"] == answer["receipt"]


@pytest.mark.core
@pytest.mark.parametrize("asked", ["", "--temperature 0", "--chat", "--stop e", "--top-k 9 --repetition-penalty 1.3"])
def test_a_receipt_is_replayed_with_the_same_bits(cli, tiny, tmp_path, asked):
    path = tmp_path / "receipt.json"
    written = cli("run", "--model", tiny, "--device", "cpu", "--json", "--prompt", PROMPT, "-n", 8, "--seed", 6, *asked.split())
    path.write_text(written.stdout)
    answer = json.loads(written.stdout)
    replay = ("verify", path, "--model", tiny, "--device", "cpu")
    said = cli(*replay, "--threads", 1, env={"ORCD_ISA": "scalar"})
    assert (said.stderr, said.stdout.splitlines()[-1]) == ("", "verified: the same request gave the same bits")
    report = json.loads(cli(*replay, "--json").stdout)
    assert report["verified"] and report["token_ids_equal"] and report["model_digest"]["equal"]
    assert report["logits_digest"] == {"receipt": answer["logits_digest"], "here": answer["logits_digest"], "equal": True}
    # The receipt alone, with the prompt beside it.
    path.write_text(json.dumps(answer["receipt"]))
    framed = ["--chat"] if asked == "--chat" else []
    assert json.loads(cli(*replay, "--json", "--prompt", PROMPT, *framed).stdout)["token_ids_equal"] is None


@pytest.mark.core
def test_receipts_of_every_face_are_replayed(cli, serve_tiny, tiny, tmp_path):
    served, path = serve_tiny(), tmp_path / "receipt.json"
    end = terminal_of(served.execute(prompt=PROMPT, max_tokens=6, temperature=0.5)).json
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 6, "n": 2, "seed": 3}
    choices = served.post("/v1/completions", body).json()["choices"]
    assert choices[0]["text"] != choices[1]["text"]
    for receipt in (end, *choices):
        path.write_text(json.dumps(receipt))
        assert "verified: " in cli("verify", path, "--model", tiny, "--device", "cpu", "--prompt", PROMPT).stdout


@pytest.mark.core
def test_a_receipt_whose_request_went_on_after_an_end_is_replayed(cli, serve_tiny, tiny, tmp_path):
    served, path = serve_tiny(), tmp_path / "receipt.json"
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 300}

    def ask(seed, **more):
        return served.post("/v1/completions", {**body, "seed": seed, **more}).json()["choices"][0]

    seed = next(seed for seed in range(100) if ask(seed)["finish_reason"] == "stop")
    path.write_text(json.dumps(ask(seed)))
    assert "verified: " in cli("verify", path, "--model", tiny, "--device", "cpu", "--prompt", PROMPT).stdout
    on = ask(seed, ignore_eos=True)
    assert on["finish_reason"] == "length" and on["receipt"]["logits_rows"] == 300
    path.write_text(json.dumps(on))
    assert "verified: " in cli("verify", path, "--model", tiny, "--device", "cpu", "--prompt", PROMPT).stdout
    written = cli("run", "--model", tiny, "--device", "cpu", "--json", "--prompt", PROMPT, "-n", 300, "--seed", seed).stdout
    assert json.loads(written)["stop_reason"] == "eos"
    path.write_text(written)
    report = json.loads(cli("verify", path, "--model", tiny, "--device", "cpu", "--json").stdout)
    assert report["verified"] and report["token_ids_equal"]


def test_a_receipt_that_does_not_hold_is_told(cli, tiny, tmp_path):
    path = tmp_path / "receipt.json"
    answer = run_json(cli, tiny, "--prompt", PROMPT, "--seed", 6)
    replay = ("verify", path, "--model", tiny, "--device", "cpu")

    def told(code, *extra, **changed):
        path.write_text(json.dumps({**answer, **changed}))
        return cli(*replay, *extra, expect=code)

    other = dict(answer["receipt"], logits_digest="0" * 32)
    for changed in ({"receipt": other}, {"token_ids": [*answer["token_ids"][:-1], 0]}, {"token_ids": answer["token_ids"][:-2]}, {"receipt": dict(answer["receipt"], logits_rows=3)},
                    {"receipt": dict(answer["receipt"], seed=7)}):
        result = told(1, **changed)
        assert "\nNOT verified\n" in result.stdout and "DIFFER" in result.stdout
        assert result.stderr.startswith("INVALID_REQUEST: the receipt does not hold here (logits_digest=")
    report = json.loads(told(1, "--json", receipt=other).stdout)
    assert not report["verified"] and not report["logits_digest"]["equal"] and report["model_digest"]["equal"]
    for changed, line in (
        ({"receipt": dict(answer["receipt"], numerics_version=2)}, "the receipt is of another numerics version (receipt=2, here=1)"),
        ({"prompt_token_ids": [1]}, "this is not the prompt of the receipt (prompt_tokens=1, receipt="),
        ({"prompt_token_ids": "x"}, "prompt_token_ids: must be an array of token ids, not a string"),
        ({"receipt": {}}, "sampling: is required"),
    ):
        assert told(1, **changed).stderr.startswith("INVALID_REQUEST: " + line)
    path.write_text(json.dumps(answer["receipt"]))
    assert cli(*replay, expect=1).stderr.startswith("INVALID_REQUEST: the receipt does not hold its prompt; give")
    path.write_text("{")
    assert cli(*replay, expect=1).stderr.startswith("INVALID_REQUEST: ")
    assert cli(*replay, "--prompt", "a", "--file", "b", expect=2).stderr.startswith("usage: verify needs either --prompt or --file")
    assert cli("verify", "--model", tiny, "--device", "cpu", expect=2).stderr.startswith("usage: receipt is required")


def test_run_stops_at_a_stop_string(cli, smollm2):
    whole = run_json(cli, smollm2, "--prompt", PROMPT, "--temperature", 0)
    word = whole["text"].split()[3]
    cut = run_json(cli, smollm2, "--prompt", PROMPT, "--temperature", 0, "--stop", word, "--stop", "never said")
    assert cut["stop_reason"] == "stop" and cut["text"] == whole["text"][: whole["text"].index(word)]


def test_a_stop_string_is_taken_as_it_is_written(cli, smollm2):
    """Brackets and commas made several of one."""
    whole = run_json(cli, smollm2, "--prompt", PROMPT, "--temperature", 0)
    word = whole["text"].split()[3]
    for stop in (f"[{word},never]", f"[{word}]", "[]", f'["{word}"]'):
        assert run_json(cli, smollm2, "--prompt", PROMPT, "--temperature", 0, "--stop", stop)["token_ids"] == whole["token_ids"], stop
    run = ("run", "--model", smollm2, "--device", "cpu", "--prompt", PROMPT)
    assert word in cli(*run, "--stop", "never", word, expect=2).stderr


def test_run_tells_all_that_is_wrong_with_its_options_before_it_loads(cli, smollm2):
    stops = [flag for text in ("", "a", "b", "c", "d") for flag in ("--stop", text)]
    long = " one two three four" * 20
    refused = cli("run", "--model", smollm2, "--device", "cpu", "--prompt", PROMPT, "--top-k", 49153, *stops, "--stop", long, expect=1)
    assert refused.stdout == "" and refused.stderr.startswith("INVALID_REQUEST: ") and refused.stderr.count("\n") == 1
    for part in ("--top-k must be between 0 and 49152, got 49153", "at most 4 strings, got 6", "must not be empty", "at most 32 tokens, got 80"):
        assert part in refused.stderr
    assert len(run_json(cli, smollm2, "--prompt", PROMPT, "--top-k", 49152, "--seed", 1)["token_ids"]) == 12


@pytest.mark.core
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_whole_text_and_one_line(binary, smollm2, number):
    process = subprocess.Popen(
        [binary, "run", "--model", smollm2, "--device", "cpu", "--prompt", "1 2 3 4 5 6 7 8 9", "--temperature", "0", "--max-tokens", "8000"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = process.stdout.read(4)
    process.send_signal(number)
    rest, stderr = process.communicate(timeout=20 * TIME_SCALE)
    assert process.returncode == 1
    assert (first + rest).decode("utf-8").startswith(" 10 ")
    assert stderr.decode().startswith("CANCELLED: ") and stderr.count(b"\n") == 1


@pytest.mark.core
def test_plan_equals_what_the_worker_takes(cli, worker, smollm2):
    options = ("--ctx", 512, "--slots", 2)
    plan = json.loads(cli("plan", "--model", smollm2, "--device", "cpu", "--json", *options).stdout)
    assert plan["fits"] is True and plan["max_context"] == 8192 and plan["device"] == "cpu"
    assert sum(plan["categories"].values()) == plan["total_bytes"] < plan["free_bytes"]
    assert {item["category"] for item in plan["items"]} >= {"weights", "kv", "activations", "sampling"}
    for category, total in plan["categories"].items():
        ends = [item["offset"] + item["bytes"] for item in plan["items"] if item["category"] == category]
        assert max(ends, default=0) <= total < max(ends, default=0) + 256 or total == 0
    served = worker(smollm2, *options)
    assert served.get("/health").json()["vram_bytes_used"] == plan["total_bytes"]
    table = cli("plan", "--model", smollm2, "--device", "cpu", *options).stdout
    assert str(plan["total_bytes"]) in table and "fits" in table


def test_plan_says_what_would_fit(cli, smollm2):
    tight = json.loads(cli("plan", "--model", smollm2, "--device", "cpu", "--json", "--vram-budget-mb", 160, "--slots", 1, "--ctx", 8192).stdout)
    assert tight["fits"] is False and 0 < tight["max_context"] < 8192 and tight["total_bytes"] > 160 * 2**20
    # The cache that was asked for, not the one there would be without.
    cache = json.loads(cli("plan", "--model", smollm2, "--device", "cpu", "--json", "--kv-cache-size-mb", 10_000_000).stdout)
    assert cache["fits"] is False and 10_000_000 - 5 < cache["categories"]["kv"] / 2**20 <= 10_000_000
    edge = ("--vram-budget-mb", 160, "--slots", 1, "--ctx", tight["max_context"])
    assert json.loads(cli("plan", "--model", smollm2, "--device", "cpu", "--json", *edge).stdout)["fits"] is True


def test_inspect_tells_what_the_file_holds(cli, smollm2):
    report = json.loads(cli("inspect", smollm2, "--json").stdout)
    assert (report["architecture"], report["quant_kind"], report["n_tensors"], report["vocab_size"]) == ("llama", "Q4_1", 272, 49152)
    assert report["metadata"]["llama.block_count"] == 30 and len(report["metadata"]["tokenizer.ggml.tokens"]) == 49152
    names = [tensor["name"] for tensor in report["tensors"]]
    assert len(names) == 272 and "token_embd.weight" in names
    program = cli("inspect", smollm2, "--program").stdout
    assert "logits[n, 49152]" in program and "blk.29" in cli("inspect", smollm2, "--tensors").stdout
    assert "general.architecture" in cli("inspect", smollm2, "--metadata").stdout


@pytest.mark.core
def test_check_accepts_good_files_and_rejects_cut_ones_with_field_and_offset(cli, smollm2, gemma3, tmp_path):
    for model in (smollm2, gemma3):
        result = cli("check", model)
        assert result.stdout.startswith("ok ") and result.stdout.count("\n") == 1
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(smollm2.read_bytes()[:50_000_000])
    result = cli("check", cut, expect=1)
    assert result.stdout.startswith("MODEL_LOAD_FAILED: ") and "field=" in result.stdout and "offset=" in result.stdout
    assert result.stdout.count("\n") == 1
    assert json.loads(cli("check", cut, "--json", expect=1).stdout)["code"] == "MODEL_LOAD_FAILED"
    assert cli("check", tmp_path / "absent.gguf", expect=1).stdout.startswith("MODEL_LOAD_FAILED: ")


def test_tokenizing_works_on_a_vocabulary_alone(cli, smollm2, gemma3, tmp_path):
    vocabulary = tmp_path / "vocabulary.gguf"
    tokenizer_oracle.load_vocab(smollm2).save(vocabulary, "smollm")
    assert cli("plan", "--model", vocabulary, "--device", "cpu", expect=1).stderr.startswith("MODEL_LOAD_FAILED: ")
    for file in (smollm2, vocabulary):
        assert cli("tokenize", "--tokenizer", file, "--text", "Hello world").stdout == "19556 905\n"
    assert cli("detokenize", "--model", vocabulary, "--ids", "19556, 905").stdout == "Hello world\n"
    both = cli("tokenize", "--text", "Hello world", "--tokenizer", vocabulary, env={"ORCD_MODEL": str(gemma3)})
    assert both.stdout == "19556 905\n", "--tokenizer stands instead of the model's own vocabulary"
    assert cli("check", vocabulary).stdout.startswith("ok ")


def test_detokenize_refuses_ids_outside_the_vocabulary(cli, smollm2):
    for ids in ("49152", "-1", "1 x"):
        assert cli("detokenize", "--model", smollm2, f"--ids={ids}", expect=1).stderr.startswith("INVALID_REQUEST: ")


# The short one is for the instrumented builds, where a token takes a second.
@pytest.mark.parametrize("sentences, ctx, variants", [
    pytest.param(12, 64, (("--chunk", 1), ("--chunk", 7), ("--batch", 3), ("--threads", 1)), id="long"),
    pytest.param(2, 16, (("--chunk", 7), ("--batch", 2)), id="short", marks=pytest.mark.core)])
def test_perplexity_does_not_depend_on_threads_chunks_or_batch(cli, smollm2, tmp_path, sentences, ctx, variants):
    text = tmp_path / "text.txt"
    text.write_text("It was the best of times, it was the worst of times, it was the age of wisdom. " * sentences)

    def measure(*extra):
        result = json.loads(cli("perplexity", "--model", smollm2, "--device", "cpu", "--file", text, "--ctx", ctx, "--json", *extra).stdout)
        return {key: result[key] for key in ("tokens", "nll", "ppl", "logits_digest")}

    first = measure()
    assert first["tokens"] > 18 * sentences and 1 < first["ppl"] < 60 and len(first["logits_digest"]) == 32
    for variant in variants:
        assert measure(*variant) == first, variant


def test_bench_reports_rates_and_the_share_of_the_bandwidth(cli, smollm2):
    result = json.loads(cli("bench", "--model", smollm2, "--device", "cpu", "--json", "-p", 32, "-n", 4, "-r", 1, "--batch", "1,2").stdout)
    assert result["prompt_tokens"] == 32 and result["gen_tokens"] == 4
    assert result["prefill_tokens_per_s"] > 0 and result["decode_tokens_per_s"] > 0
    share = result["bytes_per_token"] * result["decode_tokens_per_s"] / result["bandwidth_bytes_per_s"]
    assert result["bandwidth_share"] == pytest.approx(share) and 0 < share < 1.5
    assert [row["n"] for row in result["batch"]] == [1, 2] and result["bytes_per_token"] > 90_000_000
    only = json.loads(cli("bench", "--model", smollm2, "--device", "cpu", "--json", "-p", 16, "-n", 0, "-r", 1).stdout)
    assert only["prefill_tokens_per_s"] > 0 and only["decode_tokens_per_s"] is None and only["batch"] == []
    only = json.loads(cli("bench", "--model", smollm2, "--device", "cpu", "--json", "-p", 0, "-n", 2, "-r", 1).stdout)
    assert only["decode_tokens_per_s"] > 0 and only["prefill_tokens_per_s"] is None
    assert "nothing to measure" in cli("bench", "--model", smollm2, "--device", "cpu", "-p", 0, "-n", 0, expect=1).stderr
    assert "longer than the model" in cli("bench", "--model", smollm2, "--device", "cpu", "-n", 2**32 - 1, expect=1).stderr
    table = cli("bench", "--model", smollm2, "--device", "cpu", "-p", 16, "-n", 2, "-r", 1).stdout
    assert "pp16" in table and "tg2" in table and "bandwidth" in table


def test_devices_version_and_doctor_say_what_is_here(cli, smollm2, smollm2_worker):
    devices = json.loads(cli("devices", "--json").stdout)["devices"]
    assert devices[0]["device"] == "cpu" and devices[0]["total_bytes"] > 0
    assert json.loads(cli("version", "--json").stdout)["numerics_version"] == 1
    assert cli("--version").stdout == cli("version").stdout
    assert json.loads(cli("doctor", "--model", smollm2, "--device", "cpu", "--port", 0, "--json").stdout)["ok"] is True
    busy = cli("doctor", "--model", smollm2, "--device", "cpu", "--port", smollm2_worker.port, "--vram-budget-mb", 10, "--json", expect=1)
    failed = {c["check"]: c["detail"] for c in json.loads(busy.stdout)["checks"] if c["status"] == "fail"}
    assert set(failed) == {"port", "memory"} and "INSUFFICIENT_VRAM" in failed["memory"]


@pytest.mark.parametrize("arguments", [
    (), ("frobnicate",), ("serve",), ("run", "--device", "cpu", "--prompt", "x"), ("plan", "--model", "m.gguf"),
    ("run", "--model", "m.gguf", "--device", "cpu"), ("run", "--model", "m.gguf", "--device", "cpu", "--prompt", "x", "--file", "y"),
    ("run", "--model", "m.gguf", "--device", "cpu", "--prompt", "x", "--temperature", "nan"),
    ("run", "--model", "m.gguf", "--device", "cpu", "--prompt", "x", "--temperature", "2.5"),
    ("plan", "--model", "m.gguf", "--device", "cpu", "--ctx", "-1"), ("plan", "--model", "m.gguf", "--device", "cpu", "--slots", "0"),
    ("plan", "--model", "m.gguf", "--device", "cpu", "--gpu-device", "0"), ("serve", "--model", "m.gguf", "--device", "cpu", "--port", "70000"),
    ("tokenize", "--text", "x"), ("check",), ("plan", "--model", "m.gguf", "--device", "cpu", "--nope"),
    ("serve", "--model", "m.gguf", "--device", "cpu", "--api-key-file", ""), ("serve", "--model", "m.gguf", "--device", "cpu", "--api-key-file="),
], ids=lambda arguments: "_".join(arguments)[:60])
def test_a_wrong_command_line_is_one_usage_line_and_exit_2(cli, arguments):
    result = cli(*arguments, expect=2)
    assert result.stdout == "" and result.stderr.startswith("usage: ") and result.stderr.count("\n") == 1


def test_every_shared_option_is_taken_by_what_loads_a_model(cli):
    shared = ("--device", "--gpu-device", "--vram-budget-mb", "--kv-cache-size-mb", "--ctx", "--slots", "--threads", "--tokenizer",
              "--json", "--log-format")  # fmt: skip
    for command in ("serve", "run", "plan", "perplexity", "bench", "verify"):
        said = cli(command, "--help").stdout
        assert [option for option in shared if not re.search(rf"[ ,]{option}[ ,]", said)] == [], command
    assert all(" --seed " in cli(command, "--help").stdout for command in ("serve", "run"))


def test_a_tokenizer_that_does_not_fit_is_refused_wherever_it_is_given(cli, tiny, smollm2, tmp_path):
    text = tmp_path / "text"
    text.write_text("a b c")
    for command in (("plan",), ("bench",), ("perplexity", "--file", text)):
        refused = cli(*command, "--model", tiny, "--device", "cpu", "--tokenizer", smollm2, expect=1).stderr
        assert refused.startswith("MODEL_LOAD_FAILED: "), refused


def test_a_device_is_never_guessed(cli, smollm2):
    result = cli("plan", "--model", smollm2, expect=2)
    assert "--device" in result.stderr and "cpu" in result.stderr
    unknown = cli("plan", "--model", smollm2, "--device", "tpu", expect=1)
    assert unknown.stderr.startswith("INVALID_REQUEST: ")
    assert cli("run", "--model", smollm2, "--gpu-device", 99, "--prompt", "x", expect=1).stderr.startswith("CUDA_ERROR: ")


def test_an_empty_variable_for_keys_does_not_serve_everybody(cli, tiny):
    serve = ("serve", "--model", tiny, "--device", "cpu", "--port", 0)
    assert cli(*serve, env={"ORCD_API_KEY_FILE": ""}, expect=2).stderr.startswith("usage: --api-key-file (ORCD_API_KEY_FILE) names no file")


def test_more_sequences_than_tokens_of_a_step_are_measured_or_refused(cli, tiny, tmp_path):
    """They ended in INTERNAL."""
    bench = ("bench", "--model", tiny, "--device", "cpu", "-p", 0, "-n", 1, "-r", 1, "--json")
    report = json.loads(cli(*bench, "--batch", "600").stdout)
    assert [b["n"] for b in report["batch"]] == [600]
    refused = cli(*bench, "--batch", "8", "--batch-tokens", 4, expect=1).stderr
    assert refused.startswith("INVALID_REQUEST: the benchmark asked for does not fit the limits") and "batch_tokens=4" in refused
    text = tmp_path / "text"
    text.write_text("one two three four five six seven eight nine ten " * 4)
    perplexity = ("perplexity", "--model", tiny, "--device", "cpu", "--file", text, "--ctx", 8, "--json")
    few = json.loads(cli(*perplexity, "--batch-tokens", 3, "--batch", 4).stdout)
    assert few["logits_digest"] == json.loads(cli(*perplexity).stdout)["logits_digest"]


def test_a_text_that_cannot_be_read_from_stdin_is_an_error_and_not_empty(binary, tiny, tmp_path):
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        result = subprocess.run([binary, "tokenize", "--model", tiny, "--file", "-"], stdin=directory, capture_output=True, text=True, check=False)
    finally:
        os.close(directory)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "INVALID_REQUEST: cannot read the file (file=-, reason=Is a directory)\n"


def test_options_come_from_the_environment_and_the_command_line_wins(cli, smollm2):
    env = {"ORCD_MODEL": str(smollm2), "ORCD_DEVICE": "cpu", "ORCD_CTX": "256", "ORCD_JSON": "1"}
    assert json.loads(cli("plan", env=env).stdout)["context"] == 256
    assert json.loads(cli("plan", "--ctx", 128, env=env).stdout)["context"] == 128
    assert json.loads(cli("plan", "--device", "cpu", env={**env, "ORCD_GPU_DEVICE": "3"}).stdout)["device"] == "cpu"


def test_a_text_on_the_command_line_outweighs_one_in_the_environment(cli, smollm2, tmp_path):
    text = tmp_path / "text"
    text.write_text("Hello world")
    ids = "19556 905\n"
    assert cli("tokenize", "--model", smollm2, "-f", text, env={"ORCD_TEXT": "other"}).stdout == ids
    assert cli("tokenize", "--model", smollm2, "--text", "Hello world", env={"ORCD_FILE": "/nowhere"}).stdout == ids
    assert cli("tokenize", "--model", smollm2, env={"ORCD_TEXT": "Hello world"}).stdout == ids
    both = cli("tokenize", "--model", smollm2, env={"ORCD_TEXT": "x", "ORCD_FILE": str(text)}, expect=2)
    assert both.stderr.startswith("usage: tokenize needs either --text or --file")


def test_what_is_no_file_is_told_at_once(cli, smollm2, tmp_path):
    """A named pipe as vocabulary was waited for; a directory as text was a fault of the worker (bugs)."""
    os.mkfifo(tmp_path / "pipe")
    for vocabulary in ("--model", "--tokenizer"):
        assert "not a regular file" in cli("tokenize", vocabulary, tmp_path / "pipe", "--text", "x", expect=1).stderr
    for command in (("run", "--device", "cpu"), ("tokenize",), ("perplexity", "--device", "cpu")):
        stderr = cli(*command, "--model", smollm2, "--file", tmp_path, expect=1).stderr
        assert stderr.startswith("INVALID_REQUEST: cannot read the file") and "Is a directory" in stderr


def test_an_answer_that_cannot_be_written_is_a_failure(binary, smollm2):
    """Nothing told it, and the generation went on (a bug)."""
    arguments = [binary, "run", "--model", smollm2, "--device", "cpu", "--prompt", "Once upon a time", "-n", "100000", "--temperature", "0"]
    with open("/dev/full", "w") as full:
        result = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    said = "INTERNAL: cannot write to stdout (system={}); its reader has ended, or its disk is full\n"
    assert (result.returncode, result.stderr) == (1, said.format("No space left on device"))
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run([binary, "version"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert (result.returncode, result.stderr) == (1, said.format("Broken pipe"))


def test_control_characters_of_a_file_do_not_reach_the_terminal(cli, tiny, tmp_path):
    odd = tmp_path / "odd.gguf"
    key = b"general.architecture"
    data = tiny.read_bytes()
    at = data.index(key) + len(key) + 4 + 8  # behind the type and the length of the value
    assert data[at : at + 5] == b"llama"
    odd.write_bytes(data[:at] + b"l\x1b[\nm" + data[at + 5 :])
    shown = cli("inspect", odd).stdout
    assert "l?[?m" in shown and "\x1b" not in shown
    for name in (odd, tmp_path / "none\x1b[2J\n.gguf"):
        refused = cli("plan", "--model", name, "--device", "cpu", expect=1).stderr
        assert "\x1b" not in refused and refused.count("\n") == 1


def test_help_is_on_stdout(cli):
    assert "serve" in cli("--help").stdout
    assert "--vram-budget-mb" in cli("serve", "--help").stdout


def test_a_foreign_tokenizer_json_is_refused_with_the_first_difference(cli, smollm2, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(hf_pipelines.pipelines()["bytes only"]))
    expected = " ".join(map(str, Tokenizer.from_file(str(path)).encode("Hello, world").ids))
    assert cli("tokenize", "--tokenizer", path, "--text", "Hello, world").stdout == expected + "\n"
    result = cli("run", "--model", smollm2, "--device", "cpu", "--prompt", "x", "--tokenizer", path, expect=1)
    assert "spell a token differently" in result.stderr and "id=0" in result.stderr
