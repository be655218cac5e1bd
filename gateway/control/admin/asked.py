"""A request of the admin API as nouns see it, and what is wrong with it in OpenAI's words."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_args, get_origin
from urllib.parse import unquote_plus

import msgspec
from msgspec import Meta

from gateway.accounts.spend import Spent
from gateway.control.admin.caller import Caller
from gateway.errors import INVALID_JSON, INVALID_VALUE, MISSING_PARAMETER, UNKNOWN_PARAMETER, GatewayError
from gateway.settings.model import Settings

T = TypeVar("T")

_BRACKETED = re.compile(r"^([^\[\]]+)\[([^\[\]]*)\]$")
_AT = re.compile(r" - at `\$\.?(?:\[\.\.\.\])?(.*)`$")
_FIELD = re.compile(r"^Object (missing required|contains unknown) field `(.*?)`")
_SEPARATOR = re.compile(r",(?! )")  # a comma before a space is part of a name, as in line items
_NUL = "\0"

ShortText = Annotated[str, Meta(min_length=1, max_length=256)]
LongText = Annotated[str, Meta(max_length=4096)]
Lifetime = Annotated[int, Meta(ge=1, le=10 * 366 * 86_400, description="seconds")]


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What nouns' request bodies are made from."""


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What nouns' query parameters are made from. Lists may be written as `a[]=1&a[]=2`, `a[0]=1`, `a=1&a=2`, `a=1,2`;
    members of a struct as `a[b]=1`."""


class House(msgspec.Struct, frozen=True):
    """What nouns know besides the tables. models: those that have a price, in lower case, sorted. spent: by
    subjects (fields of `gateway.limits`) in the present windows; None: nobody knows at the moment.
    """

    settings: Settings
    models: Sequence[str]
    spent: Callable[[Sequence[str]], Awaitable[Mapping[str, Spent] | None]]

    @property
    def organization_id(self) -> str:
        return self.settings.organization_id


class Asked(msgspec.Struct, frozen=True):
    """A request that its caller may make. ids: of its path, by the names in the route. now: seconds since 1970."""

    house: House
    caller: Caller
    ids: Mapping[str, str]
    pairs: Sequence[tuple[str, str]]
    content: bytes
    now: int

    @property
    def organization_id(self) -> str:
        return self.house.organization_id

    def body(self, form: type[T]) -> T:
        """The body, of this form. Raises GatewayError (400) that names the member at fault."""
        try:
            value: object = msgspec.json.decode(self.content or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise GatewayError(INVALID_JSON, reason=str(error)) from None
        return _converted(value, form, strict=True)

    def query(self, form: type[T]) -> T:
        """The query parameters, of this form. Raises GatewayError (400) that names the parameter at fault."""
        return _converted(_gathered(self.pairs, form), form, strict=False)


def read_pairs(query: str) -> list[tuple[str, str]]:
    """A query string's names and values. Raises GatewayError (400) for what is no text."""
    pairs = []
    for piece in query.split("&"):
        if piece:
            name, _, value = piece.partition("=")
            try:
                pairs.append((unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict")))
            except UnicodeDecodeError:
                raise invalid(unquote_plus(name)[:100], "it is not UTF-8") from None
    return pairs


def _converted(value: object, form: type[T], *, strict: bool) -> T:
    try:
        converted = msgspec.convert(value, form, strict=strict)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None
    if (place := _with_nul(value)) is not None:
        raise invalid(place, "it holds the character U+0000")
    return converted


def _explained(message: str) -> GatewayError:
    found = _AT.search(message)
    place = found[1] if found is not None else ""
    message = message[: found.start()] if found is not None else message
    field = _FIELD.match(message)
    if field is not None:
        name = f"{place}.{field[2]}".lstrip(".")
        return GatewayError(MISSING_PARAMETER if field[1].startswith("missing") else UNKNOWN_PARAMETER, param=name)
    if not place:
        return GatewayError(INVALID_JSON, reason=f"{message[:1].lower()}{message[1:]}")
    return invalid(place, f"{message[:1].lower()}{message[1:]}")


def invalid(param: str, reason: str) -> GatewayError:
    """Of a member or a parameter that is wrong, also one that has the right form."""
    return GatewayError(INVALID_VALUE, param=param, reason=reason)


def _with_nul(value: object, place: str = "") -> str | None:
    """Where a text has U+0000, which PostgreSQL cannot keep."""
    if isinstance(value, str):
        return place if _NUL in value else None
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for name, one in inner:
        if isinstance(name, str) and _NUL in name:
            return place or "a name"
        if (found := _with_nul(one, f"{place}.{name}".lstrip("."))) is not None:
            return found
    return None


def _gathered(pairs: Sequence[tuple[str, str]], form: type[Any]) -> dict[str, object]:
    """Parameters by name, lists and structs put together."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(form)}
    gathered: dict[str, Any] = {}
    for name, value in pairs:
        bracketed = _BRACKETED.match(name)
        plain, inner = (bracketed[1], bracketed[2]) if bracketed is not None else (name, None)
        kind = fields.get(plain)
        if kind is None:
            raise GatewayError(UNKNOWN_PARAMETER, param=plain[:100])
        if _is_list(kind):
            values = _SEPARATOR.split(value) if inner is None else [value]
            gathered.setdefault(plain, []).extend(values)
        elif inner and isinstance(gathered.get(plain, {}), dict):
            gathered.setdefault(plain, {})[inner] = value
        elif plain in gathered:
            raise invalid(plain, "it appears more than once")
        else:
            gathered[plain] = value
    return gathered


def _is_list(kind: Any) -> bool:
    """Whether a field takes a list, maybe with other things or with limits."""
    if get_origin(kind) in {list, tuple}:
        return True
    return any(_is_list(one) for one in get_args(kind))
