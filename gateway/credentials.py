"""Where a request carries its key."""

import base64
import binascii
import hashlib
import secrets
from collections.abc import Mapping

from gateway.errors import INCORRECT_API_KEY, NO_API_KEY, GatewayError

# Browsers cannot set headers on a WebSocket, so OpenAI's SDK puts the key into the list of subprotocols.
SUBPROTOCOL_PREFIX = "openai-insecure-api-key."
_LONGEST = 16 * 1024


def read_key(headers: Mapping[str, str], *, websocket: bool = False) -> str:
    """The key as it was sent: `Authorization: Bearer`, Basic's password, `api-key`, or a WebSocket's subprotocol.

    Raises GatewayError NO_API_KEY or INCORRECT_API_KEY (401).
    """
    key = ""
    authorization = headers.get("Authorization")
    if authorization is not None:
        if authorization[:7] == "Bearer ":
            key = authorization[7:].strip()
        else:
            scheme, _, rest = authorization.strip().partition(" ")
            if scheme.lower() == "bearer":
                key = rest.strip()
            elif scheme.lower() == "basic":
                key = _password(rest.strip())
    if not key:
        key = headers.get("api-key", "").strip()
    if not key and websocket:
        key = _from_subprotocols(headers.get("Sec-WebSocket-Protocol", ""))
    if not key:
        raise GatewayError(NO_API_KEY)
    if len(key) > _LONGEST or not key.isascii():
        raise incorrect(key)
    return key


def new_key(prefix: str = "sk-gw-") -> str:
    """A random key of 256 bits, in the form that secret scanners know keys by."""
    return prefix + secrets.token_urlsafe(32)


def abbreviated(key: str) -> str:
    """What of a key of ours may be shown later on, as OpenAI's `redacted_value`s are."""
    return f"{key[:8]}...{key[-4:]}"


def digest(key: str) -> bytes:
    """What a key is looked up by."""
    return hashlib.sha256(key.encode()).digest()


def incorrect(key: str) -> GatewayError:
    return GatewayError(INCORRECT_API_KEY, key=redacted(key))


def redacted(key: str) -> str:
    """As OpenAI shows a wrong key: the first 8 and last 4 characters, and only if that leaves most of it hidden."""
    if len(key) < 24 or not key.isascii() or not key.isprintable():
        return "*" * min(len(key), 8)
    return f"{key[:8]}{'*' * min(len(key) - 12, 40)}{key[-4:]}"


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _from_subprotocols(value: str) -> str:
    for protocol in value.split(","):
        if protocol.strip().startswith(SUBPROTOCOL_PREFIX):
            return protocol.strip().removeprefix(SUBPROTOCOL_PREFIX)
    return ""
