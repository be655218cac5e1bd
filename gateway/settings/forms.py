"""The forms that values in settings have, and what all of their sections share."""

from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.values import Secret

Port = Annotated[int, Meta(ge=0, le=65535, description="a port number, 0 to 65535; 0 lets the system choose")]
TargetPort = Annotated[int, Meta(ge=1, le=65535, description="a port number, 1 to 65535")]
Seconds = Annotated[float, Meta(gt=0, le=100_000_000, description="a number of seconds above 0, below three years")]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000, description="a whole number from 1 to a billion")]
Days = Annotated[int, Meta(ge=2, le=36_500, description="days, 2 to 36500")]
FilePath = Annotated[str, Meta(pattern=r"^[^\0]+\Z", description="a path")]
Share = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
Host = Annotated[str, Meta(pattern=r"^[^\s\0]+\Z", description="an address or a host's name")]
# What goes into headers: a line break there would begin another header.
HeaderName = Annotated[str, Meta(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z", description="a header's name")]
HeaderWord = Annotated[str, Meta(pattern=r"^[!-~]+\Z", description="text of ASCII letters without spaces")]
HeaderSecret = Annotated[
    Secret, Meta(extra={"pattern": r"^[!-~]([ !-~]*[!-~])?\Z"}, description="a line of ASCII text")
]
KeyText = Annotated[Secret, Meta(extra={"pattern": r"^[!-~]+\Z"}, description="a key: ASCII, without spaces")]
Name = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z", description="a name of letters, digits and _ . -")
]
HttpUrl = Annotated[str, Meta(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?\Z", description="an http:// or https:// URL")]
RedisUrl = Annotated[
    Secret,
    Meta(extra={"pattern": r"^(redis|rediss|unix)://\S+\Z"}, description="a redis://, rediss:// or unix:// URL"),
]
SqlUrl = Annotated[
    Secret,
    Meta(
        extra={"pattern": r"^(sqlite\+aiosqlite|postgresql\+asyncpg)://\S*\Z"},
        description="a sqlite+aiosqlite:// or postgresql+asyncpg:// URL",
    ),
]
AdminKey = Annotated[
    Secret,
    Meta(
        extra={"pattern": r"^(sha256:[0-9a-f]{64}|(?!sha256:)\S{20,})\Z"},
        description="sha256: and 64 hex digits, or the key itself (20 characters or more), best as ${file:…}",
    ),
]
KeyHash = Annotated[
    str,
    Meta(pattern=r"^sha256:[0-9a-f]{64}\Z", description="sha256: and 64 hex digits (see `gateway keys hash`)"),
]
Usd = Annotated[
    Annotated[float, Meta(ge=0, le=1e9)] | Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$")],
    Meta(description="dollars, as a number or as text, with at most 9 decimals"),
]

Factor = Annotated[
    Annotated[float, Meta(ge=0, le=1e3)] | Annotated[str, Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,9})?$")],
    Meta(description="a number from 0 to 1000, also as text"),
]
EmailAddress = Annotated[
    str, Meta(pattern=r"^[!-?A-~]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\Z", description="an e-mail address")
]
WebhookSecret = Annotated[
    Secret,
    Meta(
        # Base64 of 24 bytes or more, as the specification of Standard Webhooks asks for.
        extra={"pattern": r"^whsec_([A-Za-z0-9+/]{4}){8,}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z"},
        description="whsec_ and 24 bytes or more in base64, best as ${file:…}",
    ),
]


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings are frozen and refuse what they do not know."""
