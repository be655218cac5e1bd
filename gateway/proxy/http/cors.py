"""Cross-origin requests from browsers, for the origins that the settings name."""

from collections.abc import Mapping

Headers = list[tuple[bytes, bytes]]

_EXPOSED = (
    b"x-request-id, retry-after, x-ratelimit-limit-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, "
    b"x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens"
)
_MAX_AGE_S = b"600"


class Cors:
    """Answers preflights and adds headers to answers. Without origins in the settings it does neither."""

    def __init__(self, origins: list[str]) -> None:
        self._origins = frozenset(origins)
        self.enabled = bool(origins)

    def _allowed(self, headers: Mapping[str, str]) -> str | None:
        origin = headers.get("Origin")
        return origin if origin and ("*" in self._origins or origin in self._origins) else None

    def preflight(self, method: str, headers: Mapping[str, str]) -> Headers | None:
        """The headers that answer a preflight; None if this is none. A foreign origin gets an answer that permits
        nothing."""
        if not self.enabled or method != "OPTIONS" or "Access-Control-Request-Method" not in headers:
            return None
        origin = self._allowed(headers)
        if origin is None:
            return [(b"Vary", b"Origin")]
        asked = headers.get("Access-Control-Request-Headers", "authorization, content-type")
        return [
            (b"Access-Control-Allow-Origin", origin.encode("utf-8", "surrogateescape")),
            (b"Access-Control-Allow-Methods", b"GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"),
            (b"Access-Control-Allow-Headers", asked.encode("utf-8", "surrogateescape")),
            (b"Access-Control-Max-Age", _MAX_AGE_S),
            (b"Vary", b"Origin, Access-Control-Request-Headers"),
        ]

    def headers(self, headers: Mapping[str, str]) -> Headers:
        """What to add to the answer of an ordinary request."""
        origin = self._allowed(headers)
        if origin is None:
            return [(b"Vary", b"Origin")]  # and nothing of what the upstream permits: this is not its host
        return [
            (b"Access-Control-Allow-Origin", origin.encode("utf-8", "surrogateescape")),
            (b"Access-Control-Expose-Headers", _EXPOSED),
            (b"Vary", b"Origin"),
        ]
