"""Errors of docs/TROUBLESHOOTING.md as a user meets them: the exact code and message, and the values that belong to it."""

import json
import re

import pytest

from raw_http import RawClient, read_reply
from worker_process import execute_body

# Arguments of a command that fails, and the beginning of its one line. MODEL, PORT and FILE are put in.
RUN = ("run", "--model", "MODEL", "--device", "cpu", "--prompt", "x")
COMMANDS = [
    (("serve", "--model", "MODEL", "--device", "cpu", "--host", "nowhere"), "INVALID_REQUEST: --host is not an address (host=nowhere)"),
    (("serve", "--model", "MODEL", "--device", "cpu", "--port", "PORT"), "INVALID_REQUEST: cannot listen on this address (host=127.0.0.1, port=PORT, reason="),
    (("serve", "--model", "MODEL", "--device", "cpu", "--callback-url", "https://h/"), "INVALID_REQUEST: --callback-url cannot be told (callback_url=https://h/, reason=not an http:// address)"),
    (("serve", "--model", "MODEL", "--device", "cpu", "--callback-url", "http://h:x/"), "INVALID_REQUEST: --callback-url cannot be told (callback_url=http://h:x/, reason=no host or port)"),
    (("tokenize", "--model", "MODEL", "--file", "/dev/zero"), "INVALID_REQUEST: the text is longer than is read (file=/dev/zero, limit_bytes=268435456)"),
    (("serve", "--model", "MODEL", "--device", "cpu", "--api-key-file", "FILE"), "INVALID_REQUEST: no API key can be read from the file (api_key_file=FILE)"),
    ((*RUN[:-2], "--file", "FILE.no"), "INVALID_REQUEST: cannot read the file (file=FILE.no, reason=No such file or directory)"),
    ((*RUN, "--ctx", "100000"), "INVALID_REQUEST: the context asked for is longer than the model was made for (ctx=100000, context_length=512)"),
    (("run", "--model", "MODEL", "--device", "tpu:0", "--prompt", "x"), "INVALID_REQUEST: unknown device (device=tpu:0); use cpu or cuda:N"),
    (("run", "--model", "MODEL", "--device", "fault:nap:1:once:cpu", "--prompt", "x"), "INVALID_REQUEST: not the name of a device that fails on purpose"),
    (("run", "--model", "MODEL", "--device", "fault:load:1:once:cpu", "--prompt", "x"), "CUDA_ERROR: a failure made on purpose (call=load, number=1"),
    (("perplexity", "--model", "MODEL", "--device", "cpu", "--file", "FILE"), "INVALID_REQUEST: cannot read the file"),
    (("bench", "--model", "MODEL", "--device", "cpu", "-p", "0", "-n", "0"), "INVALID_REQUEST: there is nothing to measure"),
    (("detokenize", "--model", "MODEL", "--ids", "1 999999"), "INVALID_REQUEST: not a token id of this vocabulary (id=999999, vocab_size=272)"),
    ((*RUN, "--vram-budget-mb", "1"), "INSUFFICIENT_VRAM: the model does not fit on the device (required="),
    (("run", "--model", "FILE.no", "--device", "cpu", "--prompt", "x"), "MODEL_LOAD_FAILED: cannot open the file: No such file or directory"),
    ((*RUN, "--tokenizer", "JSON:{\"a\":"), "MODEL_LOAD_FAILED: tokenizer.json is not JSON: "),
    ((*RUN, "--tokenizer", "JSON:{\"a\": 1e999}"), "MODEL_LOAD_FAILED: tokenizer.json cannot be read: "),
    ((*RUN, "--tokenizer", "JSON:{\"model\": {\"type\": \"Unigram\"}}"), "MODEL_LOAD_FAILED: tokenizer.json: the model Unigram is not supported"),
    ((*RUN, "--tokenizer", "JSON:{\"model\": 1}"), "MODEL_LOAD_FAILED: tokenizer.json: must be an object (field=model)"),
]


@pytest.fixture(scope="module")
def served(serve_tiny):
    return serve_tiny("--ctx", 128, "--max-tokens-in", 100)


@pytest.mark.parametrize(("arguments", "line"), COMMANDS, ids=[line[:60] for _, line in COMMANDS])
def test_a_command_that_fails_says_why_in_one_line(cli, served, tiny, tmp_path, arguments, line):
    file = tmp_path / "file"
    if "--api-key-file" in arguments:
        file.write_text("\n")
    put_in = {"MODEL": str(tiny), "PORT": str(served.port), "FILE": str(file), "FILE.no": f"{file}.no"}
    given = []
    for argument in arguments:
        if argument.startswith("JSON:"):
            (tmp_path / "tokenizer.json").write_text(argument.removeprefix("JSON:"))
            argument = str(tmp_path / "tokenizer.json")
        given.append(put_in.get(argument, argument))
    errors = [text for text in cli(*given, expect=1).stderr.splitlines() if re.match(r"[A-Z_]+: ", text)]
    wanted = line.replace("FILE", str(file)).replace("PORT", str(served.port))
    assert len(errors) == 1 and errors[0].startswith(wanted), errors


def test_an_unknown_instruction_set_is_named(cli, tiny):
    stderr = cli("run", "--model", tiny, "--device", "cpu", "--prompt", "x", env={"ORCD_ISA": "mmx"}, expect=1).stderr
    assert "INVALID_REQUEST: ORCD_ISA names no instruction set (ORCD_ISA=mmx); use scalar, avx2 or avx512, or unset it" in stderr


EXECUTE = "POST /execute HTTP/1.1\r\nHost: localhost\r\n"
REQUESTS = [
    ("GET /livez HTTP/1.1\r\n\r\n", 400, "INVALID_REQUEST", "an HTTP/1.1 request needs a Host header", {"param": "host"}),
    ("GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "INVALID_REQUEST", "more than one Host header", {"param": "host"}),
    ("GET\r\n\r\n", 400, "INVALID_REQUEST", "not an HTTP/1.1 request: ", {}),
    ("GET /no HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "NOT_FOUND", "there is nothing at this path", {"path": "/no"}),
    ("PUT /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "METHOD_NOT_ALLOWED", "this path does not take PUT", {"path": "/livez"}),
    ("GET /livez HTTP/1.1\r\nHost: x.example\r\n\r\n", 403, "UNAUTHORIZED", "this worker listens on a loopback address", {}),
    ("GET /livez HTTP/1.1\r\nHost: localhost\r\nOrigin: http://x.example\r\n\r\n", 403, "UNAUTHORIZED", "requests from pages of this origin", {}),
    (f"{EXECUTE}Content-Length: 5000000\r\n\r\n", 413, "PAYLOAD_TOO_LARGE", "the body is larger than this worker takes", {"limit_bytes": 4 << 20}),
    (f"{EXECUTE}X: {'y' * 20_000}\r\n\r\n", 431, "INVALID_REQUEST", "the header is larger than this worker takes", {"limit_bytes": 16 << 10}),
]


@pytest.mark.parametrize(("request_text", "status", "code", "message", "values"), REQUESTS, ids=[r[3] for r in REQUESTS])
def test_a_request_that_fails_says_why(served, request_text, status, code, message, values):
    with RawClient(served.port) as client:
        client.send(request_text.encode())
        head, body = read_reply(client)
    error = json.loads(body)["error"]
    assert int(head.split()[1]) == status and error["code"] == code and error["message"].startswith(message), error
    assert {name: error[name] for name in values} == values


def test_prompts_over_either_limit_are_refused_with_the_numbers(served, worker, tiny):
    reply = served.post("/execute", execute_body({"prompt": "a " * 200})).json()["error"]
    assert reply["message"] == "the prompt is longer than this worker takes"
    assert reply["n_prompt_tokens"] > reply["max_tokens_in"] == 100 and "--max-tokens-in" in reply["hint"]
    reply = worker(tiny, "--ctx", 64).post("/execute", execute_body({"prompt": "a " * 200})).json()["error"]
    assert reply["message"] == "the prompt does not fit the context"
    assert reply["n_prompt_tokens"] > reply["n_ctx"] == 64 and "--ctx" in reply["hint"]


def test_a_missing_key_and_a_drain_are_told(worker, tiny, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("k")
    process = worker(tiny, "--api-key-file", keys)
    error = process.get("/metrics").json()["error"]
    assert (error["code"], error["message"]) == ("UNAUTHORIZED", "a valid API key is required")
    process.client.headers["Authorization"] = "Bearer k"
    with process.stream(prompt="x", max_tokens=400) as events:
        next(events)
        assert process.post("/shutdown").status_code == 202
        error = process.post("/execute", execute_body({"prompt": "x"})).json()["error"]
        assert (error["code"], error["retriable"]) == ("SHUTTING_DOWN", True)
        assert error["message"] == "the worker is shutting down and takes no new work"
