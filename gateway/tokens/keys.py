"""Key sets (JWKS, RFC 7517): which key verifies a signature."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from jwt import PyJWK
from jwt.exceptions import PyJWTError

# What a key has to be for each algorithm: its type and curve. There is none here that uses a secret.
ALGORITHMS: tuple[tuple[str, str, str | None], ...] = (
    ("RS256", "RSA", None),
    ("RS384", "RSA", None),
    ("RS512", "RSA", None),
    ("PS256", "RSA", None),
    ("PS384", "RSA", None),
    ("PS512", "RSA", None),
    ("ES256", "EC", "P-256"),
    ("ES384", "EC", "P-384"),
    ("ES512", "EC", "P-521"),
    ("EdDSA", "OKP", "Ed25519"),
)
_MOST_KEYS = 100
_LEAST_RSA_BITS = 2048
_MOST_RSA_BITS = 8192  # what takes a signature's check a millisecond
_PUBLIC = ("kty", "crv", "n", "e", "x", "y")


class KeySetError(ValueError):
    """This is no key set. The message is for people."""


class KeySet(msgspec.Struct, frozen=True):
    """Keys by their `kid` and an algorithm."""

    keys: Mapping[tuple[str | None, str], PyJWK]

    def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """The key of this name. Without a name, the only one that there is for the algorithm."""
        if kid is not None:
            return self.keys.get((kid, algorithm))
        fitting = [key for (_, of), key in self.keys.items() if of == algorithm]
        return fitting[0] if len(fitting) == 1 else None


def read_keys(document: bytes | Mapping[str, Any], algorithms: Sequence[str]) -> KeySet:
    """The keys of a document that verify signatures of these algorithms. Others are left out: secrets, weak and broken
    ones, those for encryption. Raises KeySetError."""
    try:
        decoded: Any = msgspec.json.decode(document) if isinstance(document, bytes) else document
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise KeySetError("it is not JSON") from None
    entries = decoded.get("keys") if isinstance(decoded, Mapping) else None
    if not isinstance(entries, list):
        raise KeySetError("it has no list of keys")
    if len(entries) > _MOST_KEYS:
        raise KeySetError(f"it has more than {_MOST_KEYS} keys")
    keys: dict[tuple[str | None, str], PyJWK] = {}
    for entry in entries:
        for algorithm in _fitting(entry, algorithms):
            key = _made(entry, algorithm)
            if key is not None:
                keys.setdefault((entry.get("kid"), algorithm), key)
    return KeySet(keys)


def _fitting(entry: Any, algorithms: Sequence[str]) -> list[str]:
    """Those of the algorithms that a key is for."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("kid"), str | None):
        return []
    if entry.get("use") not in {None, "sig"}:
        return []
    operations = entry.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return []
    kind = (entry.get("kty"), entry.get("crv") if entry.get("kty") != "RSA" else None)
    return [
        name
        for name, *needed in ALGORITHMS
        if name in algorithms and tuple(needed) == kind and entry.get("alg") in {None, name}
    ]


def _made(entry: Mapping[str, Any], algorithm: str) -> PyJWK | None:
    public = {name: entry[name] for name in _PUBLIC if name in entry}  # what is private is nothing to keep
    try:
        key = PyJWK(public, algorithm)
    except (PyJWTError, ValueError, TypeError):
        return None
    bits = getattr(key.key, "key_size", 0) if public["kty"] == "RSA" else _LEAST_RSA_BITS
    return key if _LEAST_RSA_BITS <= bits <= _MOST_RSA_BITS else None
