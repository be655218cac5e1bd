"""Requests out of bytes: in any pieces the same, whether the parser sees them or a head is known by its bytes."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BAD_REQUEST, HEADERS_TOO_LARGE
from gateway.proxy.http.incoming import Head, RequestReader, Unreadable

KEY = b"Authorization: Bearer sk-one\r\n"
LARGEST = 64 * 1024


class Flow:
    """A connection; counts what is held."""

    def __init__(self) -> None:
        self.holds = 0

    def hold(self) -> None:
        self.holds += 1

    def release(self) -> None:
        self.holds -= 1
        assert self.holds >= 0


class Reading:
    """A reader, and what it has read."""

    def __init__(self) -> None:
        self.flow = Flow()
        self.reader = RequestReader(self.flow, LARGEST)
        self.heads: list[Head | Unreadable] = []

    def feed(self, data: bytes) -> "Reading":
        self.reader.feed(data)
        while self.reader.waiting:
            self.heads.append(self.reader.take())
        return self

    @property
    def found(self) -> list[Any]:
        """All that there is to know of each request; what comes in place of the last one is its kind of error."""
        return [
            one.error.kind
            if isinstance(one, Unreadable)
            else (one.method, one.target, one.modern, one.headers.raw, one.length, one.keep_alive, one.switches,
                  one.body.read_nowait(), one.body.ended, one.body.total_bytes)
            for one in self.heads
        ]  # fmt: skip


def request(body: bytes, *, name: bytes = b"Content-Length", more: bytes = KEY, target: bytes = b"/v1/a") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: h\r\n%b: %d\r\n%b\r\n" % (target, name, len(body), more)
    return head + body


def chunked(body: bytes) -> bytes:
    framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return b"POST /v1/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n%b\r\n%b0\r\n\r\n" % (KEY, framed)


BODIES = st.one_of(st.binary(max_size=12), st.integers(0, 20_000).map(lambda size: b"x" * size))
ONES = st.one_of(
    BODIES.map(request),  # most have the same head
    BODIES.map(request),
    BODIES.map(lambda body: request(body, name=b"content-length")),
    BODIES.map(lambda body: request(body, target=b"/v1/b?c=d")),
    BODIES.map(lambda body: request(body, more=b"Authorization: Bearer sk-two\r\nX: \r\n")),
    BODIES.map(chunked),
    st.just(b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n"),
    st.just(b"\r\n" + request(b"abc")),
)


# A cut is somewhere, or so far behind a request's end; mostly each request comes by itself, or with a little more.
CUTS = st.lists(st.one_of(st.integers(0, 40_000), st.tuples(st.integers(0, 10), st.integers(0, 120))), max_size=12)


@given(st.lists(ONES, max_size=10), CUTS, st.one_of(st.none(), st.just(0), st.integers(0, 120)))
def test_in_any_pieces_the_same(requests: list[bytes], cuts: list[int | tuple[int, int]], every: int | None) -> None:
    expected = [Reading().feed(one).found[0] for one in requests]
    together = Reading()
    data = b"".join(requests)
    ends = [sum(map(len, requests[:number])) for number in range(len(requests) + 1)]
    wanted = [cut if isinstance(cut, int) else ends[min(cut[0], len(requests))] + cut[1] for cut in cuts]
    if every is not None:
        wanted += [end + every for end in ends]
    places = sorted({0, len(data), *(cut for cut in wanted if cut < len(data))})
    for start, end in pairwise(places):
        together.feed(data[start:end])
    assert together.found == expected
    assert (together.reader.ended, together.reader.in_head) == (False, False)
    assert together.flow.holds == sum(size > 128 * 1024 for *_, size in expected)


SMALL = [request(b"x"), request(b"yy"), request(b"zz"), chunked(b"c")]


@settings(max_examples=1000)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans()), min_size=3, max_size=8),
    st.sampled_from([1, 20, 22, 30, 60]),
)
def test_small_requests_in_small_pieces(ones: list[tuple[int, bool, bool]], offset: int) -> None:
    """Nearly all have the same head, and pieces begin with one, or at the same place in the middle of one."""
    requests = [SMALL[which % 3 if which < 9 else 3] for which, *_ in ones]
    whole, together, at = b"".join(requests), Reading(), 0
    cuts = {0, len(whole)}
    for one, (_, begins, middle) in zip(requests, ones, strict=True):
        cuts |= {at} if begins else set()
        cuts |= {at + offset} if middle else set()
        at += len(one)
    for start, end in pairwise(sorted(cuts)):
        together.feed(whole[start:end])
    assert together.found == [Reading().feed(one).found[0] for one in requests]


def known() -> Reading:
    """A connection on which the same head has come twice."""
    reading = Reading().feed(request(b"12345")).feed(request(b"123456"))
    reading.heads.clear()
    return reading


class Broken:
    """In the parser's place."""

    def feed_data(self, _data: bytes) -> None:
        raise AssertionError("the parser is not needed")


@pytest.mark.parametrize("cut", [0, 1, 80, 10_000])
def test_a_head_that_comes_again_needs_no_parser(cut: int) -> None:
    reading, one = known(), request(b"b" * 20_000)
    head = len(one) - 20_000
    first, *_ = Reading().feed(one).found
    reading.reader._parser = Broken()  # type: ignore[assignment]
    reading.feed(one[: head + cut])
    if cut:
        reading.feed(one[head + cut :])
    else:  # `Expect: 100-continue`, and many libraries, send the body by itself
        assert (reading.heads[0].body.ended, reading.reader.in_head) == (False, False)  # type: ignore[union-attr]
        reading.feed(one[head:])
    assert reading.found == [first]


def test_a_known_head_in_the_middle_of_another_is_none() -> None:
    """Or the next request would be read as part of a header."""
    reading = known().feed(request(b"abc") + b"POST /v1/b HTTP/1.1\r\nX-Foo: ")
    assert reading.reader.in_head
    reading.feed(request(b"four")).feed(b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n")
    assert [found[:2] for found in reading.found] == [("POST", b"/v1/a"), ("POST", b"/v1/b"), ("GET", b"/v1/models")]


def test_pieces_that_begin_in_the_middle_are_not_heads() -> None:
    """Pipelined requests, each piece of which ends a little behind a request's beginning."""
    one = request(b"xx")
    reading = Reading()
    for piece in (one, one + one[:20], one[20:] + one[:20], one[20:], one):
        reading.feed(piece)
    assert [found[:2] for found in reading.found] == [("POST", b"/v1/a")] * 5


@pytest.mark.parametrize("more", [b"", request(b"abc")])
def test_a_head_that_is_too_large(more: bytes) -> None:
    reading = Reading().feed(more + b"POST /v1/a HTTP/1.1\r\n")
    for _ in range(20):
        reading.feed(b"X: " + b"y" * 5000 + b"\r\n")
    assert reading.reader.ended
    assert reading.found[-1] is HEADERS_TOO_LARGE


def test_framing_without_a_body_is_too_large_as_well() -> None:
    reading = Reading().feed(b"POST /v1/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;x=")
    for _ in range(20):
        reading.feed(b"y" * 5000)
    assert reading.reader.ended
    assert reading.found[-1] is HEADERS_TOO_LARGE


def test_1_0_knows_no_chunks() -> None:
    reading = Reading().feed(b"POST /v1/a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert reading.found == [BAD_REQUEST]


def test_what_follows_on_a_known_body_is_read_in_its_turn() -> None:
    reading, one = known(), request(b"abc")
    following = b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n"
    reading.feed(one[:-1]).feed(one[-1:] + following + one)
    assert [found[:2] for found in reading.found] == [
        (b"POST".decode(), b"/v1/a"),
        ("GET", b"/v1/models"),
        ("POST", b"/v1/a"),
    ]
    reading = known().feed(one + one)
    assert [found[7] for found in reading.found] == [b"abc", b"abc"]


@pytest.mark.parametrize("length", [
    b"+3", b" 3", b"03", b"3 ", b"3\t", b"0x3", b"3, 3", b"-3", b"", b"3\r\nContent-Length: 3", b"3\n", b"3;", b"\xb2", b"3" * 16, b"3" * 40,
    b"3\r\nTransfer-Encoding: chunked", b"3\rX: y", b"0", b"3\r\nX: y",
])  # fmt: skip
def test_only_digits_are_digits(length: bytes) -> None:
    odd = request(b"abc").replace(b"Content-Length: 3", b"Content-Length: " + length)
    alone, after = Reading().feed(odd), known().feed(odd)
    assert after.found == alone.found
    assert after.reader.ended == alone.reader.ended


@pytest.mark.parametrize("change", [
    (b"Host: h", b"Host: i"), (b"/v1/a", b"/v1/b"), (b"POST", b"PUT"), (b"HTTP/1.1", b"HTTP/1.0"), (b"sk-one", b"sk-two"), (b"sk-one\r\n", b"sk-one\r\nX: y\r\n"),
    (b"Content-Length", b"content-length"), (b"POST /v1/a HTTP/1.1\r\n", b"POST /v1/a HTTP/1.1\r\n "), (b"sk-one\r\n", b"sk-one\n"),
])  # fmt: skip
def test_another_head_is_another_head(change: tuple[bytes, bytes]) -> None:
    odd = request(b"abc").replace(*change)
    assert known().feed(odd).found == Reading().feed(odd).found


def test_the_key_is_not_shown() -> None:
    assert "sk-" not in repr(known().reader._known)
    assert known().reader._known is not None


def test_heads_that_are_not_worth_keeping() -> None:
    long = b"X: " + b"y" * 9000 + b"\r\n"
    for one in (request(b"abc", more=long), chunked(b"abc"), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"):
        reading = Reading().feed(one).feed(one).feed(one)
        assert reading.reader._known is None
        assert len(reading.heads) == 3
