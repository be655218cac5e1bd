"""The settings of tokens: whose JWTs stand in for API keys and admin keys.

As in `model.py`, each field's comment is its documentation.
"""

from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, field

from gateway.settings.forms import Base, FilePath, HttpUrl
from gateway.settings.tree import Place

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
Text = Annotated[str, Meta(min_length=1, max_length=1_000, pattern=r"^[^\0]+\Z", description="text")]
ProjectId = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_-]{1,128}\Z", description="a project's id: letters, digits, _ and -")
]
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class TokenClaims(Base, frozen=True):
    """Names of claims. `a.b` is also the claim `b` in the claim `a`."""

    user: Text = "sub"  # who it is, for this issuer
    email: Text = "email"  # their e-mail address
    project: Text | None = None  # which project: a text, or a list of which the first that is known counts
    roles: Text | None = None  # what they are in the admin API: a text or a list; null is nothing of the token's own


class Issuer(Base, frozen=True):
    issuer: Text  # the token's `iss`, letter by letter
    audience: Text  # what its `aud` must be, or have among others
    algorithms: Annotated[
        list[Algorithm], Meta(min_length=1, description="a list of asymmetric algorithms, such as RS256 and ES256")
    ] = field(default_factory=lambda: ["RS256", "ES256"])  # with which it may be signed
    jwks_url: HttpUrl | None = None  # where its keys are: https://, or http:// on this machine; or else jwks_file
    jwks_file: FilePath | None = None  # a file with its keys, read again when it changes
    claims: TokenClaims = TokenClaims()
    projects: dict[str, ProjectId] = field(default_factory=dict)  # project ids by the claim's values; none: as it says
    default_project: ProjectId | None = None  # of tokens whose claim names none that is known
    roles: dict[str, Literal["owner", "reader"]] = field(
        default_factory=dict
    )  # by the claim's values; none: as it says, if that is `owner` or `reader`
    create_users: bool = True  # users and their place in the project come to be with their first token; false: must be
    trust_email: bool = False  # an address is who it says also in tokens without `email_verified: true`
    leeway_s: Annotated[float, Meta(ge=0, le=600, description="a number of seconds from 0 to 600")] = 30.0  # of clocks


class Tokens(Base, frozen=True):
    issuers: list[Issuer] = field(default_factory=list)  # whose JWTs are taken for keys; none: nobody's
    allow_private_jwks: bool = False  # workload identity providers may have their keys in private networks, and here


def token_problems(tokens: Tokens) -> Iterator[tuple[Place, str]]:
    """What single fields cannot know."""
    seen: set[tuple[str, str]] = set()
    for index, one in enumerate(tokens.issuers):
        place: Place = ("tokens", "issuers", index)
        if (one.issuer, one.audience) in seen:
            yield place, "is an earlier issuer with the same audience too"
        seen.add((one.issuer, one.audience))
        if (one.jwks_url is None) == (one.jwks_file is None):
            yield place, "expected either jwks_url or jwks_file"
        if one.jwks_url is not None and not _acceptable(one.jwks_url):
            yield (
                (*place, "jwks_url"),
                "expected an https:// URL with a host, or http:// to 127.0.0.1, ::1 or localhost",
            )
        if one.projects and one.claims.project is None:
            yield (*place, "projects"), "are found by a claim: say which with claims.project"
        if one.roles and one.claims.roles is None:
            yield (*place, "roles"), "are found by a claim: say which with claims.roles"


def _acceptable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:
            return False
    except ValueError:
        return False
    return parts.scheme == "https" or parts.hostname in _LOOPBACK
