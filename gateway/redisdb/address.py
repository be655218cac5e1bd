"""From settings to where Redis is and how to get in. Pure, but for the certificate files that a TLS context reads."""

import re
import ssl
from urllib.parse import parse_qs, urlsplit

import msgspec
from redis.asyncio.connection import parse_url

from gateway.redisdb.failures import RedisMisconfigured
from gateway.settings.model import Redis, Sentinel, Tls
from gateway.upstreams import tls_context
from gateway.values import Secret

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
_OPTIONS = frozenset({"db", "username", "password"})


class Address(msgspec.Struct, frozen=True):
    """Where one server listens: host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, *, default_port: int = DEFAULT_PORT) -> "Address":
        """From `host:port`, `host`, `[v6]:port`, and Redis' own unbracketed `v6:port`."""
        host, colon, port = text.rpartition(":")
        if not colon or text.endswith("]"):
            return cls(text.strip("[]"), default_port)
        if not port.isdigit():
            raise RedisMisconfigured(f"{text!r} is not host:port")
        return cls(host.strip("[]"), int(port))


class Access(msgspec.Struct, frozen=True):
    """How to get in, wherever the server is."""

    username: str | None = None
    password: Secret | None = None
    db: int = 0
    tls: Tls | None = None  # None is a plain connection


class Target(msgspec.Struct, frozen=True):
    """Which Redis: one server, the primary that sentinels name, or a cluster that one node leads to."""

    access: Access
    address: Address  # not used with sentinels
    cluster: bool = False
    sentinel: Sentinel | None = None


def target(settings: Redis, embedded_url: str | None = None) -> Target:
    """What the settings ask for; `embedded_url` is where the embedded Valkey is, used when they name no other.

    Raises RedisMisconfigured, without the URL in it.
    """
    if settings.cluster and settings.sentinel:
        raise RedisMisconfigured("redis.cluster and redis.sentinel exclude each other")
    url = settings.url.reveal() if settings.url else embedded_url
    if url is None:
        if settings.sentinel is None:
            raise RedisMisconfigured("redis.url is not set, and no embedded Valkey runs")
        url = "redis://"
    address, access = _read_url(url)
    if settings.cluster and (address.path or access.db):
        raise RedisMisconfigured("redis.url: a cluster has no unix socket and no database but 0")
    access = Access(
        username=settings.username if settings.username is not None else access.username,
        password=settings.password if settings.password is not None else access.password,
        db=access.db,
        tls=settings.tls if url.startswith("rediss:") else None,
    )
    return Target(access, address, settings.cluster, settings.sentinel)


def _read_url(url: str) -> tuple[Address, Access]:
    try:
        split = urlsplit(url)
        unknown = set(parse_qs(split.query)) - _OPTIONS
        parsed = parse_url(url)
    except ValueError:
        # What is wrong is not repeated: urlsplit's words quote the text around a stray / or : in a password.
        raise RedisMisconfigured(
            "redis.url cannot be read; special characters in its password must be percent-encoded"
        ) from None
    if unknown:
        names = ", ".join(sorted(unknown))
        raise RedisMisconfigured(f"redis.url has options that are settings here, or not known: {names}")
    if split.scheme != "unix" and not re.fullmatch(r"(/\d*)?", split.path):
        raise RedisMisconfigured("redis.url: what follows the host is the number of a database")
    password = parsed.get("password")
    if "path" in parsed:
        address = Address(path=parsed["path"])
    else:
        address = Address(parsed.get("host", "localhost"), parsed.get("port", DEFAULT_PORT))
    return address, Access(parsed.get("username"), Secret(password) if password else None, parsed.get("db", 0))


def ssl_context(tls: Tls) -> ssl.SSLContext:
    """See `tls_context`. Raises RedisMisconfigured."""
    try:
        return tls_context(tls)
    except (OSError, ssl.SSLError) as error:
        raise RedisMisconfigured(f"redis.tls: a certificate or key cannot be read: {error}") from None
