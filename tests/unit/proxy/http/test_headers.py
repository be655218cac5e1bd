"""Which headers cross, and that nobody can take away what gives a message its meaning."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.http.headers import (
    HOP_BY_HOP,
    REQUEST_DROPPED,
    RESPONSE_DROPPED,
    Sorter,
    joined,
    kept,
    named_by_connection,
    sorted_out,
)

Headers = list[tuple[bytes, bytes]]
names = st.sampled_from(
    [b"X-A", b"x-a", b"X-B", b"Content-Type", b"Accept", b"Connection", b"TE", b"Keep-Alive", b"Cookie", b"UPGRADE"]
)
values = st.sampled_from([b"x-a", b"X-B, close", b"keep-alive", b"", b"\xff", b"content-type,x-a", b"Connection"])
heads = st.lists(st.tuples(names, values), max_size=12)


@given(heads, st.sampled_from([REQUEST_DROPPED, RESPONSE_DROPPED]))
def test_what_crosses_does_so_in_order_with_its_duplicates(headers: Headers, dropped: frozenset[bytes]) -> None:
    found = kept(headers, dropped)
    named = {t.strip().lower() for n, v in headers if n.lower() == b"connection" for t in v.split(b",")}
    named -= {b"content-type"}
    assert found == [(n, v) for n, v in headers if n.lower() not in dropped and n.lower() not in named]


def test_both_ways_drop_what_concerns_one_connection_only() -> None:
    assert HOP_BY_HOP <= REQUEST_DROPPED
    assert HOP_BY_HOP <= RESPONSE_DROPPED
    assert {
        b"authorization",
        b"api-key",
        b"openai-organization",
        b"openai-project",
        b"cookie",
        b"host",
    } <= REQUEST_DROPPED
    assert {b"set-cookie"} <= RESPONSE_DROPPED
    for crossing in (
        b"openai-beta",
        b"idempotency-key",
        b"traceparent",
        b"accept-encoding",
        b"retry-after",
        b"location",
        b"x-request-id",
    ):
        assert crossing not in REQUEST_DROPPED | RESPONSE_DROPPED


def test_names_in_a_connection_header() -> None:
    assert named_by_connection(b"close, X-Mine ,x-other,, bad name, b\xffd") == {b"x-mine", b"x-other"}
    for meaning in (b"content-type", b"Content-Encoding", b"CONTENT-LENGTH", b"host"):
        assert not named_by_connection(meaning)


def test_looking_one_up() -> None:
    headers = [(b"X-A", b"1"), (b"x-a", b"2"), (b"Y", b"\xe9")]
    assert (joined(headers, b"x-a"), joined(headers, b"y"), joined(headers, b"z")) == ("1, 2", "é", "")


def test_what_is_wanted_is_found_on_the_way() -> None:
    headers = [(b"X-A", b"1"), (b"x-a", b"2"), (b"TE", b"x"), (b"X-B", b"3"), (b"Connection", b"x-b")]
    found = sorted_out(headers, HOP_BY_HOP, frozenset({b"x-a", b"x-b", b"te", b"x-c"}))
    assert found == ([(b"X-A", b"1"), (b"x-a", b"2")], {b"x-a": b"1"})


@given(st.lists(heads, min_size=1, max_size=6))
def test_a_sorter_says_the_same_head_after_head(several: list[Headers]) -> None:
    wanted = frozenset({b"x-a", b"accept", b"te"})
    sorter = Sorter(RESPONSE_DROPPED, wanted)
    for headers in several:
        passing, found = sorter.sort(headers)
        framing = next((value for name, value in headers if name == b"TE"), None)
        assert found.pop(b"te", None) == framing, "whatever Connection says of it"
        assert (passing, found) == sorted_out(headers, RESPONSE_DROPPED, wanted)
        assert passing is not headers, "it may be added to"


def test_a_sorter_forgets() -> None:
    sorter = Sorter(RESPONSE_DROPPED, frozenset({b"x-a"}))
    for number in range(10_000):
        assert sorter.sort([(b"X-%d" % number, b""), (b"TE", b"x"), (b"X-a", b"1")])[1] == {b"x-a": b"1"}
    assert len(sorter._orders) < 500
