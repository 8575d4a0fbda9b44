"""Hostile HTTP/1.1: each shape gets its status or a closed connection, and the next request works.

A tiny model: what is under test is the server. Time limits are tested in tests/unit/server/http_server_test.cpp, where
they can be short.
"""

import json
import resource
import socket

import pytest

from raw_http import RawClient, read_reply, request_bytes, status_of
from worker_process import Worker, execute_body, terminal_of, text_of

pytestmark = pytest.mark.core

HOST = "Host: localhost\r\n"
CANCEL = '{"job_id":"x"}'
N_IDLE = 1000


@pytest.fixture(scope="module")
def served(serve_tiny):
    return serve_tiny("--slots", 2)


def raw(port: int, data: str | bytes) -> bytes:
    """The whole answer to these bytes, after which the client sends nothing more."""
    with RawClient(port) as client:
        client.send(data.encode("latin-1") if isinstance(data, str) else data)
        client.socket.shutdown(socket.SHUT_WR)
        return client.read_to_end()


def get(path: str, headers: str = HOST) -> str:
    return f"GET {path} HTTP/1.1\r\n{headers}\r\n"


def post(headers: str, body: str) -> str:
    return f"POST /cancel HTTP/1.1\r\n{HOST}{headers}\r\n{body}"


def chunked(body: str, headers: str = "") -> str:
    return post("Transfer-Encoding: chunked\r\n" + headers, body)


CHUNKED_CANCEL = f"{len(CANCEL):x}\r\n{CANCEL}\r\n0\r\n\r\n"
SMUGGLED = get("/livez")

# What the server says to each, and to nothing that comes after it: one answer, then the connection is closed.
REFUSED = {
    # Two ways to say where a request ends (RFC 9112, 11.2).
    "length and chunked": (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n" + SMUGGLED), 400),
    "chunked and length": (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n" + SMUGGLED), 400),
    "two lengths": (post("Content-Length: 14\r\nContent-Length: 15\r\n", CANCEL + SMUGGLED), 400),
    "two equal lengths": (post("Content-Length: 14\r\nContent-Length: 14\r\n", CANCEL + SMUGGLED), 400),
    "a list of lengths": (post("Content-Length: 14, 14\r\n", CANCEL + SMUGGLED), 400),
    "a signed length": (post("Content-Length: +14\r\n", CANCEL), 400),
    "a negative length": (post("Content-Length: -1\r\n", CANCEL), 400),
    "a hexadecimal length": (post("Content-Length: 0xe\r\n", CANCEL), 400),
    "a length with a blank": (post("Content-Length: 1 4\r\n", CANCEL), 400),
    "an empty length": (post("Content-Length:\r\n", CANCEL), 400),
    "a length over 64 bits": (post("Content-Length: 18446744073709551630\r\n", CANCEL), 400),
    "a length over the limit": (post("Content-Length: 18446744073709551615\r\n", CANCEL), 413),
    "chunked twice": (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CHUNKED_CANCEL), 400),
    "chunked after identity": (post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", CHUNKED_CANCEL), 400),
    "gzip": (post("Transfer-Encoding: gzip\r\n", SMUGGLED), 400),
    "gzip, chunked": (post("Transfer-Encoding: gzip, chunked\r\n", CHUNKED_CANCEL), 400),
    "chunked, gzip": (post("Transfer-Encoding: chunked, gzip\r\n", SMUGGLED), 400),
    "xchunked": (post("Transfer-Encoding: xchunked\r\n", SMUGGLED), 400),
    "a vertical tab before chunked": (post("Transfer-Encoding: \x0bchunked\r\n", CHUNKED_CANCEL), 400),
    "chunked of HTTP/1.0": (chunked(CHUNKED_CANCEL).replace("HTTP/1.1", "HTTP/1.0"), 400),
    "chunked before a blank and a colon": (post("Transfer-Encoding : chunked\r\n", CHUNKED_CANCEL), 400),
    # Lines and fields.
    "a blank before the colon": (get("/livez", HOST + "X : a\r\n"), 400),
    "no colon": (get("/livez", HOST + "X\r\n"), 400),
    "no name": (get("/livez", HOST + ": a\r\n"), 400),
    "a folded first line": (get("/livez", " X: a\r\n" + HOST), 400),
    "bare line feeds": (get("/livez").replace("\r\n", "\n") + "\r\n\r\n", 400),
    "a line feed in a value": (get("/livez", HOST + "X: a\nY: b\r\n"), 400),
    "a carriage return in a value": (get("/livez", HOST + "X: a\rY: b\r\n"), 400),
    "NUL in a value": (get("/livez", HOST + "X: a\0b\r\n"), 400),
    "NUL in a name": (get("/livez", HOST + "X\0: a\r\n"), 400),
    "NUL in the target": (get("/live\0z"), 400),
    "a control character in a value": (get("/livez", HOST + "X: a\x01b\r\n"), 400),
    "two blanks": (get(" /livez"), 400),
    "a blank after the version": (get("/livez").replace("1.1", "1.1 "), 400),
    "HTTP in small letters": (get("/livez").replace("HTTP", "http"), 400),
    "HTTP/1.2": (get("/livez").replace("1.1", "1.2"), 400),
    "HTTP/2.0": (get("/livez").replace("1.1", "2.0"), 400),
    "HTTP/0.9": ("GET /livez\r\n\r\n", 400),
    "the preface of HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a TLS hello": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\x11" * 508, 400),
    "no Host": (get("/livez", ""), 400),
    "an absolute target and no Host": (get("http://localhost/livez", ""), 400),
    # Sizes.
    "10,000 headers": (get("/livez", HOST + "".join(f"X{i}: y\r\n" for i in range(10_000))), 431),
    "a header of 1 MB": (get("/livez", HOST + "X: " + "y" * 1_000_000 + "\r\n"), 431),
    "a name of 100 kB": (get("/livez", HOST + "X" * 100_000 + ": y\r\n"), 431),
    "a target of 1 MB": (get("/" + "x" * 1_000_000), 431),
    "a method of 100 kB": (get("/").replace("GET", "G" * 100_000), 431),
    # Chunks.
    "a chunk size that is none": (chunked("xyz\r\n"), 400),
    "a chunk size over 64 bits": (chunked("fffffffffffffffff\r\n"), 400),
    "a chunk size over the limit": (chunked("ffffffffffffffff\r\n"), 413),
    "a negative chunk size": (chunked("-1\r\n"), 400),
    "a chunk size 0x2": (chunked("0x2\r\n{}\r\n0\r\n\r\n"), 400),
    "a chunk longer than it says": (chunked("2\r\n{}}\r\n0\r\n\r\n"), 400),
    "a chunk without its end": (chunked("2\r\n{}0\r\n\r\n"), 400),
    "a blank before a chunk size": (chunked(" 2\r\n{}\r\n0\r\n\r\n"), 400),
    "a chunk extension of 100 kB": (chunked("2;a=" + "b" * 100_000 + "\r\n{}\r\n0\r\n\r\n"), 431),
    "a trailer of 100 kB": (chunked("2\r\n{}\r\n0\r\nX: " + "y" * 100_000 + "\r\n\r\n"), 431),
    "chunks over the limit": (chunked(("100000\r\n" + "x" * 0x100000 + "\r\n") * 5 + "0\r\n\r\n"), 413),
}


@pytest.mark.parametrize("shape", REFUSED)
def test_a_request_of_this_shape_is_refused_and_the_connection_closed(served, shape):
    request, status = REFUSED[shape]
    reply = raw(served.port, request)
    assert status_of(reply) == status, reply
    assert reply.count(b"\r\n\r\n") == 1, "something behind the refused request was answered too"
    assert b"\r\nConnection: close\r\n" in reply
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"] in ("INVALID_REQUEST", "PAYLOAD_TOO_LARGE")
    assert served.get("/livez").status_code == 200


# Odd, and allowed or answered in the usual way. The same connection goes on afterwards.
ANSWERED = {
    "empty lines before it": ("\r\n\r\n" + get("/livez"), 200),
    "an empty line behind its body": (post("Content-Length: 14\r\n", CANCEL + "\r\n"), 202),
    "a folded value": (get("/livez", HOST + "X: a\r\n b\r\n"), 200),
    "a tab before chunked": (post("Transfer-Encoding:\tchunked\r\n", CHUNKED_CANCEL), 202),
    "a chunk extension": (chunked(CHUNKED_CANCEL.replace("e\r\n", 'e;a=b;c="d"\r\n', 1)), 202),
    "zeros before a chunk size": (chunked("0" * 30 + CHUNKED_CANCEL), 202),
    "chunks of one byte": (chunked("".join(f"1\r\n{c}\r\n" for c in CANCEL) + "0\r\n\r\n"), 202),
    "a gzip body": (post("Content-Encoding: gzip\r\nContent-Length: 14\r\n", CANCEL), 415),
    "an identity body": (post("Content-Encoding: identity\r\nContent-Length: 14\r\n", CANCEL), 202),
    "trailers": (chunked(CHUNKED_CANCEL[:-2] + "Host: evil.example\r\nAuthorization: Bearer x\r\n\r\n"), 202),
    "a body of GET": (get("/livez", HOST + "Content-Length: 2\r\n") + "hi", 200),
    "an expectation that is none": (post("Expect: 200-maybe\r\nContent-Length: 14\r\n", CANCEL), 202),
    "an upgrade": (get("/livez", HOST + "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: \r\n"), 200),
    "a target in absolute form": (get("http://localhost/livez"), 200),
    "an absolute target of a foreign host": (get("http://evil.example/livez"), 403),
    "an absolute target and two hosts": (get("http://localhost/livez", HOST + HOST), 400),
    "an absolute target without a host": (get("http:///livez"), 404),
    "a query": (get("/livez?a=%00../&b"), 200),
    "a foreign host": (get("/livez", "Host: evil.example\r\n"), 403),
    "an empty host": (get("/livez", "Host:\r\n"), 403),
    "a host behind a user": (get("/livez", "Host: localhost@evil.example\r\n"), 403),
    "a host in the place of a port": (get("/livez", "Host: localhost:80.evil.example\r\n"), 403),
    "two hosts": (get("/livez", HOST + HOST), 400),
    "an unknown method": (get("/livez").replace("GET", "BREW"), 405),
    "TRACE": (get("/livez").replace("GET", "TRACE"), 405),
    "CONNECT": (get("localhost:22").replace("GET", "CONNECT"), 404),
    "OPTIONS of all": (get("*").replace("GET", "OPTIONS"), 204),
    "a percent-encoded letter": (get("/%6civez"), 404),
    "a percent-encoded way up": (get("/%2e%2e/%2e%2e/etc/passwd"), 404),
    "a way up": (get("/../../../../etc/passwd"), 404),
    "a way up and back": (get("/x/../livez"), 404),
    "two slashes": (get("//livez"), 404),
    "a fragment": (get("/livez#x"), 404),
    "a target that is not ASCII": (get("/li\xffvez"), 404),
    "1,000 short headers": (get("/livez", HOST + "".join(f"X{i}: y\r\n" for i in range(1000))), 200),
}


@pytest.mark.parametrize("shape", ANSWERED)
def test_a_request_of_this_shape_is_answered_and_the_connection_goes_on(served, shape):
    request, status = ANSWERED[shape]
    with RawClient(served.port) as client:
        client.send(request.encode("latin-1"))
        head, body = read_reply(client)
        assert status_of(head) == status, head + body
        client.send(get("/livez").encode())
        head, body = read_reply(client)
    assert status_of(head) == 200 and body == b'{"status":"ok"}'


def test_head_is_get_without_its_body(served):
    answers = {}
    for method in ("GET", "HEAD"):
        head, _, body = raw(served.port, get("/livez", HOST + "Connection: close\r\n").replace("GET", method)).partition(b"\r\n\r\n")
        answers[method] = ([line for line in head.split(b"\r\n") if not line.startswith((b"Date", b"x-request-id"))], body)
    assert answers["HEAD"][0] == answers["GET"][0] and b"Content-Length: 15" in answers["GET"][0]
    assert answers["GET"][1] == b'{"status":"ok"}' and answers["HEAD"][1] == b""
    assert raw(served.port, "HEAD /execute HTTP/1.1\r\nHost: localhost\r\n\r\n").endswith(b"\r\n\r\n")


def test_probes_of_http_1_0_without_a_host_are_answered(served):
    assert status_of(raw(served.port, "GET /livez HTTP/1.0\r\n\r\n")) == 200
    assert status_of(raw(served.port, "GET /livez HTTP/1.0\r\nHost: evil.example\r\n\r\n")) == 403


def test_no_cors_header_comes_unasked(served):
    for method, path in (("OPTIONS", "/execute"), ("GET", "/livez"), ("POST", "/execute")):
        reply = served.client.request(method, served.base_url + path, headers={"Origin": f"http://localhost:{served.port}"})
        assert not [name for name in reply.headers if name.startswith("access-control")]


def test_a_hundred_pipelined_requests_are_answered_in_order(served):
    requests = b"".join(request_bytes("GET", "/livez", x_request_id=f"n{i}") for i in range(100))
    with RawClient(served.port) as client:
        client.send(requests + request_bytes("GET", "/livez", Connection="close"))
        heads = [line for line in client.read_to_end().split(b"\r\n") if line.startswith(b"x-request-id: n")]
    assert heads == [b"x-request-id: n%d" % i for i in range(100)]


def test_half_requests_that_end_are_no_requests(served):
    for half in ("", "\r", "\r\n", "\r\n\r", "GET", "GET /livez HTTP/1.1\r\nHost: loc", chunked("e\r\n{"), post("Content-Length: 14\r\n", "{"),
                 chunked('2;a="\r\n{}\r\n0\r\n\r\n'), chunked("2\n{}\n0\n\n")):
        assert raw(served.port, half) == b"", half
    assert served.get("/livez").status_code == 200


def test_a_client_that_closes_its_sending_side_gets_its_whole_stream(served):
    request = request_bytes("POST", "/execute", execute_body({"prompt": "x", "max_tokens": 20}))
    reply = raw(served.port, request)
    assert status_of(reply) == 200 and b"event: end\n" in reply and reply.endswith(b"0\r\n\r\n")


def test_slow_heads_and_bodies_hold_nobody_up(served):
    """Clients that are in the middle of their request, more than there are threads; each is answered once it is whole."""
    body = json.dumps(execute_body({"prompt": "x", "max_tokens": 2})).encode()
    head = f"POST /execute HTTP/1.1\r\n{HOST}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    clients = [RawClient(served.port) for _ in range(40)]
    for i, client in enumerate(clients):
        client.send(head[:20] if i % 2 else head + body[:10])
    assert terminal_of(served.execute(prompt="y", max_tokens=4)).name == "end"
    whole = [clients[0], clients[1]]
    whole[0].send(body[10:])
    whole[1].send(head[20:] + body.replace(b"job-", b"jub-"))
    for client in whole:
        assert b"event: end\n" in client.read_to_end()
    for client in clients:
        client.socket.close()
    assert served.get("/livez").status_code == 200


def test_a_reader_that_does_not_read_holds_nobody_up(served):
    with RawClient(served.port, receive_buffer=2048) as client:
        client.send(request_bytes("POST", "/execute", execute_body({"prompt": "x", "max_tokens": 100})) +
                    request_bytes("GET", "/metrics") * 200)
        assert terminal_of(served.execute(prompt="y", max_tokens=4)).name == "end"
        assert served.get("/health").status_code == 200


def test_a_thousand_idle_connections_leave_room_for_others(served):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * N_IDLE)), hard))
    clients = []
    try:
        clients += [RawClient(served.port) for _ in range(N_IDLE)]
        assert served.get("/health").status_code == 200
        assert terminal_of(served.execute(prompt="x", max_tokens=4)).name == "end"
        for client in clients[:: N_IDLE // 10]:
            client.send(get("/livez").encode())
            assert read_reply(client)[1] == b'{"status":"ok"}'
    finally:
        for client in clients:
            client.socket.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert served.get("/livez").status_code == 200


# Bodies of /execute: (body, part of the message).
DEEP = "[" * 100_000
BODIES = {
    "deep nesting": ('{"x":' + DEEP, "levels deep"),
    "33 levels": ('{"x":' + "[" * 32 + "]" * 32 + "}", "33 levels deep"),
    "invalid UTF-8": (b'{"job_id":"\xff"}', "not valid JSON (UTF-8)"),
    "an overlong character": (b'{"job_id":"\xc0\xaf"}', "not valid JSON (UTF-8)"),
    "half a surrogate pair": (b'{"job_id":"\\ud800"}', "not valid JSON (UTF-8)"),
    "a byte order mark alone": (b"\xef\xbb\xbf", "not valid JSON (UTF-8)"),
    "a control character": (b'{"job_id":"\x01"}', "not valid JSON (UTF-8)"),
    "a field twice": ('{"job_id":"a","prompt":"x","job_id":"b"}', "given twice"),
    "a field twice, once escaped": ('{"job_id":"a","prompt":"x","job\\u005fid":"b"}', "given twice"),
    "a number over binary64": ('{"job_id":"a","prompt":"x","temperature":1e999}', "binary64"),
    "a number over 64 bits": ('{"job_id":"a","prompt":"x","seed":18446744073709551616}', "must be an integer"),
    "a negative seed": ('{"job_id":"a","prompt":"x","seed":-1}', "must be between 0 and 18446744073709551615"),
    "not a number": ('{"job_id":"a","prompt":"x","temperature":NaN}', "not valid JSON (UTF-8)"),
    "no end": ('{"job_id":"a"', "not valid JSON (UTF-8)"),
    "more behind the end": ('{"job_id":"a","prompt":"x"}{}', "not valid JSON (UTF-8)"),
    "nothing": ("", "not valid JSON (UTF-8)"),
    "an array": ("[]", "must be a JSON object"),
    "10,000 unknown fields": ("{" + ",".join(f'"f{i}":1' for i in range(10_000)) + "}", "more problems"),
}


@pytest.mark.parametrize("shape", BODIES)
def test_a_body_of_this_shape_is_refused_with_a_reason(served, shape):
    body, reason = BODIES[shape]
    reply = served.client.post(served.base_url + "/execute", content=body)
    assert reply.status_code == 400 and len(reply.content) < 16_384
    assert reply.json()["error"]["code"] == "INVALID_REQUEST"
    assert reason in reply.json()["error"]["message"]
    assert served.get("/livez").status_code == 200


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_line_of_the_log_shows_a_prompt_an_output_or_a_key(binary, smollm2, tmp_path, log_format):
    key, canary = "key-canary-7f3b", "prompt-canary-4c1d"
    keys = tmp_path / "keys"
    keys.write_text(key + "\n")
    process = Worker(binary, ["--model", str(smollm2), "--device", "cpu", "--port", "0", "--log-format", log_format,
                              "--api-key-file", str(keys)])
    process.port = int(process.wait_text(r'ready\b.*port"?[=:](\d+)')[1])
    process.client.headers["Authorization"] = f"Bearer {key}"
    text = text_of(process.execute(prompt=f"{canary} and Paris is the capital of", max_tokens=12, temperature=0))
    process.execute(prompt=canary, max_tokens=3, stop=[canary])
    with process.stream(prompt=canary, max_tokens=500) as events:
        next(events)  # and leave
    url = process.base_url
    wrong = {"Authorization": "Bearer key-canary-wrong"}
    assert process.client.post(url + "/execute", json=execute_body({"prompt": canary}), headers=wrong).status_code == 401
    for path in ("/execute", "/tokenize", "/apply-template", "/cancel"):
        for body in (f'{{"{canary}": 1}}', f'{{"prompt": "{canary}', json.dumps({"prompt": [canary], "content": canary})):
            assert process.client.post(url + path, content=body).status_code == 400
    assert process.client.post(url + "/tokenize", json={"content": canary}).status_code == 200
    assert process.client.get(url + f"/{canary}?{canary}").status_code == 404
    raw(process.port, get(f"/{canary}\0"))
    process.stop()
    log = process.stderr
    assert "execute_end" in log and "canary" not in log, log
    words = [word for word in text.split() if len(word) >= 5]
    assert words and not [word for word in words if word in log]
