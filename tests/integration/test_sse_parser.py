"""The parser that other tests trust is itself held to the standard's examples."""

import pytest

from sse import SseEvent, SseParser, iter_sse, parse_sse

STREAM = 'event: token\ndata: {"t":"héé 🌍"}\n\n: keep-alive\n\ndata: a\ndata:b\nid: 7\n\n'.encode()
EXPECTED = [SseEvent("token", '{"t":"héé 🌍"}'), SseEvent("message", "a\nb", "7")]


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, len(STREAM)])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_any_chunking_and_line_ending_gives_the_same_events(chunk_bytes, line_end):
    stream = STREAM.replace(b"\n", line_end)
    chunks = [stream[at : at + chunk_bytes] for at in range(0, len(stream), chunk_bytes)]
    assert list(iter_sse(chunks)) == EXPECTED


def test_an_event_without_data_is_dropped():
    assert parse_sse(b"event: token\n\ndata: x\n\n") == [SseEvent("message", "x")]


@pytest.mark.parametrize("cut", [b"data: x\n", b"data: x", b"event: end\n"])
def test_a_stream_cut_inside_an_event_is_refused(cut):
    with pytest.raises(ValueError, match="inside an event"):
        parse_sse(b"data: whole\n\n" + cut)


def test_a_stream_cut_inside_a_character_is_refused():
    parser = SseParser()
    parser.feed("data: é".encode()[:-1])
    with pytest.raises(UnicodeDecodeError):
        parser.close()
