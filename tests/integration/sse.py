"""Server-sent events, read as the HTML standard writes them (section 9.2.6): any line ending, any chunking."""

import codecs
import json
from dataclasses import dataclass
from typing import Any, Iterable, Iterator


@dataclass(frozen=True)
class SseEvent:
    name: str
    data: str
    last_id: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class SseParser:
    """Feed bytes as they come; every call returns the events they complete."""

    def __init__(self) -> None:
        # Strict: a stream that splits a character must still be UTF-8 as a whole, or the test fails here.
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._text = ""
        self._skip_newline = False
        self._name = ""
        self._data: list[str] = []
        self._last_id = ""

    def feed(self, chunk: bytes) -> list[SseEvent]:
        self._text += self._decoder.decode(chunk)
        events = []
        while (line := self._take_line()) is not None:
            if (event := self._line(line)) is not None:
                events.append(event)
        return events

    def close(self) -> None:
        """Raises if the stream stopped inside a character, a line or an event."""
        self._decoder.decode(b"", final=True)
        if self._text or self._data or self._name:
            raise ValueError(f"stream ends inside an event: {self._name!r} {self._data!r} {self._text!r}")

    def _take_line(self) -> str | None:
        if self._skip_newline and self._text:
            self._skip_newline = False
            if self._text[0] == "\n":
                self._text = self._text[1:]
        ends = [at for at in (self._text.find("\n"), self._text.find("\r")) if at >= 0]
        if not ends:
            return None
        at = min(ends)
        line = self._text[:at]
        self._skip_newline = self._text[at] == "\r"
        self._text = self._text[at + 1 :]
        return line

    def _line(self, line: str) -> SseEvent | None:
        if line == "":
            if not self._data:
                self._name = ""
                return None
            event = SseEvent(self._name or "message", "\n".join(self._data), self._last_id)
            self._name, self._data = "", []
            return event
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        elif field == "id" and "\0" not in value:
            self._last_id = value
        return None  # a comment (empty field name), retry, or a field the standard says to ignore


def iter_sse(chunks: Iterable[bytes]) -> Iterator[SseEvent]:
    """Events of a whole stream; raises ValueError if it ends in the middle of one."""
    parser = SseParser()
    for chunk in chunks:
        yield from parser.feed(chunk)
    parser.close()


def parse_sse(body: bytes) -> list[SseEvent]:
    return list(iter_sse([body]))
