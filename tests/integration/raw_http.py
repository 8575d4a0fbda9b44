"""A raw HTTP client for what well-behaved clients never do: single bytes, half requests, silence, hanging up."""

import json
import socket
from typing import Any

from worker_process import TIME_SCALE


class RawClient:
    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(30 * TIME_SCALE)
        self.socket.connect(("127.0.0.1", port))

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: Any) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_until(self, mark: bytes) -> bytes:
        """Reads up to the mark (and what came with it), or to the end of the connection."""
        data = b""
        while mark not in data:
            chunk = self.socket.recv(4096)
            if not chunk:
                break
            data += chunk
        return data

    def read_to_end(self) -> bytes:
        return self.read_until(b"\0never\0")


def request_bytes(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    lines = {"Host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
    payload = b"" if body is None else json.dumps(body).encode()
    if body is not None:
        lines["Content-Length"] = str(len(payload))
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head.encode() + b"\r\n" + payload


def read_reply(client: RawClient) -> tuple[bytes, bytes]:
    """Head and body of the next answer, which has a length or none."""
    data = client.read_until(b"\r\n\r\n")
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while len(body) < sum(lengths):
        chunk = client.socket.recv(4096)
        assert chunk, f"the connection ended inside a body: {data!r}"
        body += chunk
    return head, body


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def metric(text: str, name: str, **labels: str) -> float:
    """The value of one sample in Prometheus text."""
    wanted = name + ("{" + ",".join(f'{k}="{v}"' for k, v in labels.items()) + "}" if labels else "")
    for line in text.splitlines():
        if line.startswith(wanted + " "):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no sample {wanted}")
