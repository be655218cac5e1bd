"""Reading event streams: any chunking gives the same events, and the events are the stream."""

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.usage.sse import Event, EventReader, parse_event

ENDS = ("\n", "\r\n", "\r")
field = st.sampled_from(["data: ", "data:", "event: ", "id: ", ": ", "retry: ", "unknown: "])
text = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=12)
lines = st.lists(st.tuples(field, text), min_size=1, max_size=4)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def read(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events, reader.take_rest()


@given(
    st.lists(st.tuples(lines, st.sampled_from(ENDS)), max_size=6),
    st.binary(max_size=8),
    st.lists(st.integers(0, 10_000), max_size=30),
)
@settings(derandomize=True, max_examples=400, deadline=None)
def test_any_chunking_gives_the_same_events(
    written: list[tuple[list[tuple[str, str]], str]], tail: bytes, cuts: list[int]
) -> None:
    blocks = ["".join(name + value + end for name, value in block) + end for block, end in written]
    stream = "".join(blocks).encode() + tail
    whole, rest = read([stream])
    events, last = read(in_pieces(stream, cuts))
    assert b"".join(events) + last == stream
    assert [e for e in map(parse_event, events) if said(e)] == [e for e in map(parse_event, whole) if said(e)]
    assert parse_event(last) == parse_event(rest)


def said(event: Event) -> bool:
    """Whether the event is one: where CR and LF meet at a cut, an empty line more may stand between two."""
    return event != Event("", None)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=30))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_no_byte_is_lost_whatever_comes(stream: bytes, cuts: list[int]) -> None:
    events, rest = read(in_pieces(stream, cuts))
    assert b"".join(events) + rest == stream


@pytest.mark.parametrize("end", ENDS)
def test_each_line_end(end: str) -> None:
    stream = f"event: a{end}data: 1{end}data: 2{end}{end}data: x{end}{end}".encode()
    for size in range(1, len(stream)):
        events, rest = read([stream[at : at + size] for at in range(0, len(stream), size)])
        said_events = [event for event in map(parse_event, events) if said(event)]
        assert said_events == [Event("a", b"1\n2"), Event("", b"x")], size
        assert rest.strip() == b""


def test_fields() -> None:
    assert parse_event(b"\xef\xbb\xbfdata: x\n\n") == Event("", b"x")
    assert parse_event(b": ping\n\n") == Event("", None)
    assert parse_event(b"data\n\n") == Event("", b"")
    assert parse_event(b"data:  two spaces\nid: 7\n\n") == Event("", b" two spaces")
    assert parse_event("event: é\ndata: {}\n\n".encode()) == Event("é", b"{}")


def test_an_endless_event_ends_the_reading() -> None:
    reader = EventReader(largest=1000)
    assert reader.feed(b"data: " + b"x" * 900) == []
    assert reader.busy
    assert reader.feed(b"x" * 200) == []
    assert reader.overflow
    assert len(reader.take_rest()) == 1106
    assert reader.feed(b"\n\ndata: y\n\n") == []


@pytest.mark.alone  # it measures time
def test_an_event_of_16_mib_in_small_pieces_takes_linear_time() -> None:
    def seconds(mib: int) -> float:
        reader = EventReader()
        piece = b"x" * 4096
        began = time.process_time()
        reader.feed(b"data: ")
        for _ in range(mib * 256):
            assert reader.feed(piece) == []
        assert len(reader.feed(b"\n\n")) == 1
        return time.process_time() - began

    # The least of five is what the code costs. Linear is 8 times, quadratic 64; as far from each is 22, for the small
    # one may fit a core's cache.
    small, large = (min(seconds(mib) for _ in range(5)) for mib in (2, 16))
    assert large < 22 * small
