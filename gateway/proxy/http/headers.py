"""Which headers cross the gateway. Everything does, in order and with duplicates, but for what is listed here."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import compress
from operator import itemgetter

import msgspec

RawHeaders = Iterable[tuple[bytes, bytes]]

# RFC 9110 7.6.1: these concern one connection only, and so does whatever a Connection header names.
HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip

# Of a request: what the gateway answers for itself or replaces by the upstream's own. Cookies belong to the client's
# relation with the gateway's host, and one upstream account serves many clients.
REQUEST_DROPPED = HOP_BY_HOP | {
    b"host", b"content-length", b"expect", b"cookie", b"authorization", b"api-key", b"openai-organization",
    b"openai-project", b"http2-settings",
}  # fmt: skip

# Neither way crosses `x-ratelimit-*`: the upstream's speak of the account that all clients share.
#
# Of a response: cookies, for the same reason; Alt-Svc and HSTS, because they make promises about the upstream's host
# that a client would hold the gateway's host to.
RESPONSE_DROPPED = HOP_BY_HOP | {b"set-cookie", b"alt-svc", b"strict-transport-security"}

_MOST_ORDERS = 256
_NOT_NAMES = frozenset({b"keep-alive", b"close"})
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# A Connection header may not name what makes the message mean something else: that would let a client strip it.
_NEVER_NAMED = frozenset({b"content-type", b"content-encoding", b"content-length", b"host", b"close", b"keep-alive"})


def named_by_connection(value: bytes) -> frozenset[bytes]:
    """The headers that a Connection header's value declares to be of this connection only, in lower case."""
    tokens = {token.strip().lower() for token in value.split(b",")}
    return frozenset(t for t in tokens - _NEVER_NAMED if _TOKEN.fullmatch(t))


def kept(headers: RawHeaders, dropped: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """The headers that cross, names as they were written."""
    return sorted_out(list(headers), dropped, frozenset())[0]


def sorted_out(
    headers: list[tuple[bytes, bytes]], dropped: frozenset[bytes], wanted: frozenset[bytes]
) -> tuple[list[tuple[bytes, bytes]], dict[bytes, bytes]]:
    """The headers that cross, and the first value of each of the wanted ones among them, by its name in lower case."""
    lower = [name.lower() for name, _ in headers]
    if b"connection" in lower and (named := _named(headers, lower)):
        dropped |= named
    passing = [
        header
        for header, name in zip(headers, lower, strict=True)
        if name not in dropped and name[:12] != b"x-ratelimit-"
    ]
    found = {name: headers[lower.index(name)][1] for name in wanted.intersection(lower) if name not in dropped}
    return passing, found


class _Order(msgspec.Struct, frozen=True):
    """What is to be done with headers of these names, in this order. crosses: for each; noted: names in lower case, and
    where the first of each is; connection: whether values say that more are of this connection only."""

    crosses: tuple[bool, ...]
    noted: tuple[tuple[bytes, int], ...]
    connection: bool


class Sorter:
    """`sorted_out` for heads of one kind, over and over: what is done with names is remembered as they are written."""

    __slots__ = ("_dropped", "_name_of", "_orders", "_wanted")

    def __init__(self, dropped: frozenset[bytes], wanted: frozenset[bytes]) -> None:
        self._dropped = dropped
        self._wanted = wanted
        self._orders: dict[tuple[bytes, ...], _Order] = {}
        self._name_of = itemgetter(0)

    def sort(self, headers: list[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], dict[bytes, bytes]]:
        """The headers that cross, and the first value of each of the wanted ones, whether these cross or not. headers:
        values may end in blanks, which mean nothing."""
        names = tuple(map(self._name_of, headers))
        order = self._orders.get(names) or self._order(names)
        passing = list(compress(headers, order.crosses))
        found = {name: headers[at][1].rstrip(b" \t") for name, at in order.noted}
        if order.connection:
            for one in _named(headers, [name.lower() for name in names]) - self._dropped:
                passing = [header for header in passing if header[0].lower() != one]
                found.pop(one, None)
        return passing, found

    def _order(self, names: tuple[bytes, ...]) -> _Order:
        lower = [name.lower() for name in names]
        order = _Order(
            tuple([name not in self._dropped and not name.startswith(b"x-ratelimit-") for name in lower]),
            tuple([(name, lower.index(name)) for name in self._wanted.intersection(lower)]),
            b"connection" in lower,
        )
        if len(self._orders) >= _MOST_ORDERS:  # they are others' to choose
            self._orders.clear()
        self._orders[names] = order
        return order


def _named(headers: list[tuple[bytes, bytes]], lower: list[bytes]) -> frozenset[bytes]:
    """What Connection headers name. Nearly all of them say keep-alive or close, which is no header's name."""
    values = [value for (_, value), name in zip(headers, lower, strict=True) if name == b"connection"]
    return frozenset().union(*[named_by_connection(value) for value in values if value.lower() not in _NOT_NAMES])


def joined(headers: RawHeaders, wanted: bytes) -> str:
    """All values of a header as one list; `wanted` in lower case."""
    return ", ".join(value.decode("latin-1") for name, value in headers if name.lower() == wanted)


class Crossing(msgspec.Struct, frozen=True):
    """What of a request's headers goes to one upstream. lines: joined, without the last one's end; each begins with a
    line end, so that none is nothing. request_id: the client's own, None if it has given none.
    """

    lines: bytes
    request_id: str | None

    def __repr__(self) -> str:
        return f"Crossing({len(self.lines)})"  # a header may hold a key


def crossing_of(headers: list[tuple[bytes, bytes]], noted: Mapping[bytes, bytes]) -> Crossing:
    """noted: with `x-request-id`, if that is among the headers."""
    given = noted.get(b"x-request-id")
    lines = b"".join([b"\r\n%b: %b" % header for header in headers])
    return Crossing(lines, None if given is None else given.decode("utf-8", "surrogateescape"))


class Headers:
    """A request's headers, and what was made of them: a client that sends the same ones again has the same object.

    raw: all but Content-Length, in order, as they came. named: the first of each, by its name in lower case. key: the
    digest of the key that they carry, once it was read. crossing: what goes to an upstream, by the upstream's name.
    """

    __slots__ = ("crossing", "key", "named", "raw")

    def __init__(self, raw: list[tuple[bytes, bytes]], named: dict[bytes, bytes]) -> None:
        self.raw = raw
        self.named = named
        self.key: bytes | None = None
        self.crossing: dict[str, Crossing] = {}

    def __repr__(self) -> str:
        return f"Headers({len(self.raw)})"  # they hold keys


class Named(Mapping[str, str]):
    """Headers to look up by name, in any case, as text: bytes that are none become surrogates."""

    __slots__ = ("_first",)

    def __init__(self, first: dict[bytes, bytes]) -> None:
        """first: the first of each name, in lower case."""
        self._first = first

    def __getitem__(self, name: str) -> str:
        try:
            return self._first[name.lower().encode()].decode("utf-8", "surrogateescape")
        except KeyError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._first)

    def __len__(self) -> int:
        return len(self._first)
