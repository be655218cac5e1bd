"""What jobs that ask upstreams have in common: a session, and words for what becomes of a request."""

from collections.abc import Mapping

import aiohttp

from gateway.settings.model import Upstream
from gateway.upstreams import tls_context

ONE_S = 10.0  # for a request


def session_for(upstream: Upstream, headers: Mapping[str, str], one_s: float = ONE_S) -> aiohttp.ClientSession:
    """For requests of so many seconds each. Raises OSError or ssl.SSLError if a file of the upstream's cannot be
    used."""
    return aiohttp.ClientSession(
        headers={"User-Agent": "openai-gateway", **headers},
        connector=aiohttp.TCPConnector(ssl=tls_context(upstream.tls)),
        timeout=aiohttp.ClientTimeout(total=one_s),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def why(error: Exception, one_s: float = ONE_S) -> str:
    """Why there was no answer, for people and without a secret. error: TimeoutError or aiohttp.ClientError."""
    if isinstance(error, TimeoutError):
        return f"no answer within {one_s:.0f} s"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection to {error.host}: {error.os_error}"
    return f"it cannot be reached ({type(error).__name__})"
