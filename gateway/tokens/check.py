"""Checks a token against an issuer: signature, issuer, audience, times. Only then is anything in it believed."""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from jwt import PyJWS
from jwt.exceptions import PyJWTError

from gateway.tokens.key_cache import Keys

LONGEST = 8 * 1024
_FORM = re.compile(r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_LONGEST_KID = 512


class TokenError(Exception):
    """A token is not good. The message says why, to whoever sent it; nothing of the token is in it."""


class Trusted(msgspec.Struct, frozen=True):
    """Whose tokens are believed. algorithms: asymmetric ones; the token only says which of them."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    keys: Keys
    leeway_s: float = 30.0


class Unchecked(msgspec.Struct, frozen=True):
    """What a token says before anything of it is known to be true."""

    text: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    @property
    def issuer(self) -> object:
        return self.claims.get("iss")

    def is_for(self, audience: str) -> bool:
        said = self.claims.get("aud")
        return said == audience or (isinstance(said, list) and audience in said)


def looks_like_token(text: str) -> bool:
    """Whether a credential is a JWT by its form: three parts, the first of which begins a JSON object."""
    return text.startswith("eyJ") and _FORM.fullmatch(text) is not None


def unpack(text: str) -> Unchecked:
    """A token taken apart. Raises TokenError."""
    if len(text) > LONGEST:
        raise TokenError(f"it is longer than {LONGEST} bytes")
    if not looks_like_token(text):
        raise TokenError("it does not have the form of a JWT")
    header, claims, _ = text.split(".")
    return Unchecked(text, _object(header, "header"), _object(claims, "claims"))


async def checked(token: Unchecked, trusted: Trusted, now: float) -> Mapping[str, Any]:
    """The token's claims, which its issuer has signed and which hold now. now: seconds since 1970. Raises TokenError,
    and KeysAwayError if nobody can tell."""
    if token.issuer != trusted.issuer:
        raise TokenError("its issuer is not trusted")
    header = token.header
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in trusted.algorithms:
        raise TokenError("its algorithm is not one that its issuer may use")
    if "crit" in header or "b64" in header:
        raise TokenError("its header asks for what is not known here")
    if not (kid is None or (isinstance(kid, str) and len(kid) <= _LONGEST_KID)):
        raise TokenError("its key's name is none")
    key = await trusted.keys.find(kid, algorithm)
    if key is None:
        raise TokenError("its issuer has no such key")
    try:
        PyJWS(algorithms=[algorithm]).decode_complete(token.text, key, [algorithm])
    except (PyJWTError, ValueError, TypeError):
        raise TokenError("its signature is wrong") from None
    _in_force(token, trusted, now)
    return token.claims


def _in_force(token: Unchecked, trusted: Trusted, now: float) -> None:
    if not token.is_for(trusted.audience):
        raise TokenError("it is for another audience")
    if ends_at(token.claims) + trusted.leeway_s <= now:
        raise TokenError("it has expired")
    for name in ("nbf", "iat"):
        if name in token.claims and _time(token.claims, name) - trusted.leeway_s > now:
            raise TokenError("it is not valid yet")


def ends_at(claims: Mapping[str, Any]) -> float:
    """When a token expires, in seconds since 1970. Raises TokenError."""
    if "exp" not in claims:
        raise TokenError("it does not say when it expires")
    return _time(claims, "exp")


def claim_of(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of this name; with dots in it also one within others. None if there is none."""
    if name in claims:
        return claims[name]
    for at, letter in enumerate(name):
        inner = claims.get(name[:at]) if letter == "." else None
        if isinstance(inner, Mapping) and (found := claim_of(inner, name[at + 1 :])) is not None:
            return found
    return None


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise TokenError(f"its `{name}` is no time")
    return float(value)


def _object(part: str, what: str) -> Mapping[str, Any]:
    """A part's JSON object. A name that stands twice is refused: which of them counts would be anybody's guess."""
    try:
        decoded = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        value = json.loads(decoded.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except _TwiceError:
        raise TokenError(f"a name stands twice in its {what}") from None
    except (ValueError, RecursionError):
        raise TokenError(f"its {what} cannot be read") from None
    if not isinstance(value, dict):
        raise TokenError(f"its {what} cannot be read")
    return value


class _TwiceError(ValueError):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _TwiceError
    return made


def _no_number(text: str) -> None:
    raise ValueError(text)
