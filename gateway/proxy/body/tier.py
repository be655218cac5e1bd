"""Asking for a service tier where the client left that to its project: `service_tier`, spliced into a JSON body.

Everything else stays byte for byte. What cannot be spliced plainly is left as it is.
"""

import re
from collections.abc import Iterator

import msgspec

from gateway.errors import GatewayError
from gateway.proxy.body.asking import Splice
from gateway.proxy.body.head import HeadDecoder

_MEMBER = re.compile(rb'"service_tier"[ \t\r\n]*:[ \t\r\n]*("auto"|null)')
_CANDIDATES = 32


def with_tier(body: bytes | bytearray, tier: str, decoder: HeadDecoder) -> bytes | None:
    """The body with this service tier, if it names none, null or `auto`; None if there is no plain way."""
    return next((made for made in (one.done(body) for one in _ways(body, tier)) if _says(made, tier, decoder)), None)


def _ways(body: bytes | bytearray, tier: str) -> Iterator[Splice]:
    """Where it may be said. The first is wrong if the body has the member already."""
    said = msgspec.json.encode(tier)
    yield Splice(body.find(b"{") + 1, b'"service_tier":' + said + b",")
    for _, found in zip(range(_CANDIDATES), _MEMBER.finditer(body), strict=False):
        yield Splice(found.start(1), said, found[1])


def _says(body: bytes, tier: str, decoder: HeadDecoder) -> bool:
    """Whether it was the right place: another object may have a member of the same name."""
    try:
        decoder.decode(body)
    except GatewayError:
        return False
    return decoder.facts.service_tier == tier
