"""Which upstream serves a model, and how a request to it begins."""

import re
from functools import partial
from urllib.parse import quote, urlsplit

import msgspec

from gateway.errors import MODEL_NOT_FOUND, GatewayError
from gateway.proxy.http.headers import HOP_BY_HOP, REQUEST_DROPPED
from gateway.proxy.upstream.pool import Address, Pool
from gateway.settings.model import RouteTarget, Settings, Timeouts, Tls, Upstream
from gateway.settings.places import control_socket
from gateway.upstreams import own_headers, tls_context

Headers = list[tuple[bytes, bytes]]
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})  # these say so when their body is empty
_HANDED_OVER = HOP_BY_HOP | {b"content-length", b"expect", b"x-gateway-client-address"}
_REMEMBERED = 4096  # routes by model, request lines; they are the client's to name, so the memory of them is bounded
_REMEMBERED_LENGTH = 128


class Destination:
    """One upstream as the hot path needs it: its connections and the constant part of a request head.

    constant: headers that every request to it gets. dropped: of the client's headers, what does not go there.
    """

    __slots__ = (
        "_asks", "_begun", "_constant", "_silent", "base_path", "base_url", "constant", "dropped", "name", "pool", "tls"
    )  # fmt: skip

    def __init__(  # noqa: PLR0917 - most callers give the first four
        self,
        name: str,
        pool: Pool,
        base_url: str,
        constant: Headers,
        dropped: frozenset[bytes] = REQUEST_DROPPED,
        asks: bool = False,
    ) -> None:
        self.name = name
        self._asks = asks
        self._silent: set[str] = set()  # models that refuse to be asked for their streams' usage
        self.pool = pool
        self.tls = pool.tls
        self.base_url = base_url.rstrip("/")
        self.base_path = quote(urlsplit(self.base_url).path, safe="/%:@!$&'()*+,;=~").encode()
        self.constant = constant
        self.dropped = dropped | {header.lower() for header, _ in constant}
        self._begun: dict[tuple[str, str], bytes] = {}
        self._constant = b"\r\n".join([b" HTTP/1.1", *map(b": ".join, constant)])

    def may_ask(self, model: str) -> bool:
        """Whether a stream of this model may be asked for its usage."""
        return self._asks and model not in self._silent

    def ask_no_more(self, model: str) -> None:
        """This model refused a request because it asked. Remembered until the worker ends."""
        if len(self._silent) >= _REMEMBERED:
            self._silent.clear()
        self._silent.add(model)

    def head(self, method: str, target: str, lines: bytes, length: int | None) -> bytes:
        """A request head up to and with the empty line. target: path and query below the base path, as written.

        lines: what crosses from the client, each behind a line end. length: of the body; None sends it in chunks.
        """
        begin = self._begun.get((method, target)) or self._begin(method, target)
        if length:
            return b"%b%b\r\nContent-Length: %d\r\n\r\n" % (begin, lines, length)
        if length is None:
            return b"%b%b\r\nTransfer-Encoding: chunked\r\n\r\n" % (begin, lines)
        if method in _WITH_BODY:
            return b"%b%b\r\nContent-Length: 0\r\n\r\n" % (begin, lines)
        return b"%b%b\r\n\r\n" % (begin, lines)

    def _begin(self, method: str, target: str) -> bytes:
        """The request line and the headers that every request gets; kept, for most requests have one of a few."""
        path = target.encode("utf-8", "surrogateescape")
        begin = method.encode() + b" " + self.base_path + path + self._constant
        if len(target) <= _REMEMBERED_LENGTH:
            if len(self._begun) >= _REMEMBERED:
                self._begun.clear()
            self._begun[method, target] = begin
        return begin


class Attempt(msgspec.Struct, frozen=True):
    """One place to try. upstream_model: what the model is called there; None if the same as in the request."""

    destination: Destination
    upstream_model: str | None


class Router:
    """From a model's name to where it is served, in the order of the settings."""

    def __init__(self, settings: Settings, destinations: dict[str, Destination]) -> None:
        self._default: tuple[Attempt, ...] = ()
        self._rules: list[tuple[re.Pattern[str], tuple[Attempt, ...]]] = []
        self._known: dict[str, tuple[Attempt, ...]] = {}
        if not settings.routes:
            everything = (Attempt(next(iter(destinations.values())), None),)
            self._rules.append((re.compile(""), everything))
            self._default = everything
        for route in settings.routes:
            attempts = tuple(map(partial(_attempt, destinations), route.upstreams))
            self._rules.extend((_glob(pattern), attempts) for pattern in route.models)
            if "*" in route.models and not self._default:
                # A call without a model has no name to give it another one.
                self._default = tuple(Attempt(a.destination, None) for a in attempts)

    def route(self, model: str | None) -> tuple[Attempt, ...]:
        """Where a call for this model goes, or one without a model. Raises GatewayError MODEL_NOT_FOUND (404)."""
        if model is None:
            if not self._default:
                raise GatewayError(MODEL_NOT_FOUND, model="")
            return self._default
        known = self._known.get(model)
        return self._search(model) if known is None else known

    def _search(self, model: str) -> tuple[Attempt, ...]:
        for pattern, attempts in self._rules:
            if pattern.match(model):
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[model] = attempts
                return attempts
        raise GatewayError(MODEL_NOT_FOUND, param="model", model=model[:200])


def served_by(attempts: tuple[Attempt, ...], name: str, model: str) -> list[Attempt]:
    """Of a model's route, what leads to this upstream. Raises GatewayError MODEL_NOT_FOUND (404) if nothing does."""
    found = [attempt for attempt in attempts if attempt.destination.name == name]
    if not found:
        raise GatewayError(MODEL_NOT_FOUND, param="model", model=model[:200])
    return found


def _glob(pattern: str) -> re.Pattern[str]:
    """`*` stands for anything; nothing else is special, for model names have brackets and question marks rarely."""
    return re.compile(".*".join(map(re.escape, pattern.split("*"))) + r"\Z", re.DOTALL)


def _attempt(destinations: dict[str, Destination], target: str | RouteTarget) -> Attempt:
    if isinstance(target, RouteTarget):
        return Attempt(destinations[target.upstream], target.upstream_model)
    return Attempt(destinations[target], None)


def _own_headers(upstream: Upstream) -> Headers:
    """What the upstream gets instead of the client's host and credentials."""
    host: Headers = [(b"Host", urlsplit(upstream.base_url).netloc.encode("idna"))]
    return host + [(name.encode(), value.encode()) for name, value in own_headers(upstream)]


def address_of(url: str) -> tuple[Address, bool]:
    """Where an http or https URL points, and whether it wants TLS."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return Address(host=parts.hostname or "", port=parts.port or (443 if secure else 80)), secure


def destination(name: str, upstream: Upstream, timeouts: Timeouts) -> Destination:
    """An upstream's destination with a pool of its own. Needs a running loop."""
    address, secure = address_of(upstream.base_url)
    pool = Pool(
        address,
        tls=tls_context(upstream.tls) if secure else None,
        limit=upstream.max_connections,
        keepalive_s=upstream.keepalive_s,
        connect_s=timeouts.connect_s,
    )
    asks = upstream.include_usage == "ask"
    return Destination(name, pool, upstream.base_url, _own_headers(upstream), asks=asks)


def control_attempts(settings: Settings) -> tuple[Attempt, ...]:
    """Where administrative requests go, head unchanged: the control process's socket, or `control_url`."""
    if settings.control_url is None:
        address, secure = Address(unix_path=str(control_socket(settings))), False
    else:
        address, secure = address_of(settings.control_url)
    tls = tls_context(Tls()) if secure else None
    pool = Pool(address, tls=tls, connect_s=settings.timeouts.connect_s, keepalive_s=15.0)
    base = (settings.control_url or "http://control").rstrip("/") + "/v1"
    return (Attempt(Destination("control", pool, base, [], _HANDED_OVER), None),)
