"""A request's target: which path, on whose plane, and whether it could escape from where it belongs.

What goes upstream is the path and query as the client wrote them, byte for byte. What decisions are made on is the
path as the most generous reader would take it: decoded until nothing changes, backslashes as slashes. Where that
reading has dot segments, empty segments or control characters, two readers could disagree on which resource is meant,
so such a target is refused: no client needs one.
"""

import re
from urllib.parse import parse_qsl, unquote

import msgspec

from gateway.errors import DUPLICATE_MEMBER, INVALID_URL, GatewayError

BASE = "/v1"
# What the control plane owns, in any spelling, and what must therefore never reach an upstream (design.md, Hand-over).
_ADMIN = re.compile(r"/(?:organization|projects|oauth/token)(?![A-Za-z0-9_-])", re.IGNORECASE)
_EXCHANGE = "/oauth/token"  # where tokens are exchanged: OAuth has no /v1
_SUSPICIOUS = re.compile(r"[%\\\x00-\x20\x7f]|//|/\.")
_FORBIDDEN = re.compile(r"[\\\x00-\x1f\x7f]|//|/\.{1,2}(?:/|$)")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_SHOWN = 200
_REMEMBERED = 4096
_REMEMBERED_LENGTH = 128


class Target(msgspec.Struct, frozen=True):
    """Where a request goes.

    path: decoded, below /v1, for matching: `/chat/completions`. raw: path and query below /v1 as the client wrote
    them, for the upstream. admin: whether it is the control plane's. shown: as logs show it.
    """

    path: str
    raw: str
    admin: bool
    shown: str


def parse_target(method: str, target: str) -> Target:
    """Reads a request target as it stands in the request line. Raises GatewayError INVALID_URL (404)."""
    shown = shown_path(target)
    if target[:1] != "/":
        absolute = _ABSOLUTE.match(target)
        if absolute is None:
            raise invalid_url(method, shown)
        target = target[absolute.end() :]  # RFC 9112 3.2.2: accepted; the authority is ours, whatever it says
    end = target.find("#")
    if end >= 0:
        target = target[:end]
    mark = target.find("?")
    path = target if mark < 0 else target[:mark]
    if path == _EXCHANGE:
        return Target(path, target, admin=True, shown=shown)
    if not path.startswith("/v1/"):
        raise invalid_url(method, path)
    below = path[3:]
    if _SUSPICIOUS.search(below):
        below = _plain(below)
        if _FORBIDDEN.search(below):
            raise invalid_url(method, path)
    return Target(below, target[3:], _ADMIN.match(below) is not None, shown)


class Targets:
    """Reads targets, and remembers those it has read: most of a worker's requests have one of a few."""

    def __init__(self) -> None:
        self._known: dict[bytes, Target] = {}

    def known(self, target: bytes) -> Target | None:
        """One that was read before."""
        return self._known.get(target)

    def read(self, method: str, target: bytes) -> Target:
        """As `parse_target`."""
        read = parse_target(method, as_text(target))
        if len(target) <= _REMEMBERED_LENGTH:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[target] = read
        return read


def as_text(target: bytes) -> str:
    return target.decode("utf-8", "surrogateescape")


def shown_path(target: str) -> str:
    """The path of a target as it may be shown and logged: what can hold a password is cut off."""
    path = target.partition("?")[0].partition("#")[0]
    if path[:1] == "/":
        return path
    absolute = _ABSOLUTE.match(path)
    return path[absolute.end() :] if absolute is not None else path.rpartition("@")[2]


def model_in_query(raw: str) -> str | None:
    """The model that a target's query names. Raises GatewayError DUPLICATE_MEMBER (400): which one counts differs."""
    models = [value for name, value in parse_qsl(raw.partition("?")[2]) if name == "model"]
    if len(models) > 1:
        raise GatewayError(DUPLICATE_MEMBER, param="model")
    return models[0] if models else None


def _plain(path: str) -> str:
    """The path as the most generous reader takes it."""
    for _ in range(8):
        decoded = unquote(path, errors="replace").replace("\\", "/")
        if decoded == path:
            return path
        path = decoded
    return "//"  # still changing: nobody writes this by accident


def invalid_url(method: str, path: str) -> GatewayError:
    shown = path if len(path) <= _SHOWN else path[:_SHOWN] + "…"
    return GatewayError(INVALID_URL, method=method, path=shown.encode("ascii", "replace").decode())
