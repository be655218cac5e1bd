"""The vocabulary of limits: what settings declare, the read model publishes, the scripts take and refusals name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

Scope = Literal["organization", "project", "project_model", "user", "member", "key"]  # member: a user in one project
Unit = Literal["requests", "tokens", "images", "audio_bytes", "batch_tokens"]
Window = Literal["day", "week", "month", "total"]
Reserve = Literal["strict", "adaptive"]

_MINUTE_US = 60_000_000
_DAY_US = 86_400_000_000


class RateKind(msgspec.Struct, frozen=True):
    """A kind of rate limit. name: as in settings. unit: what a call takes; factor: of these in one of the limit's own
    (megabytes are declared, bytes are taken). words: as OpenAI's refusals name it.
    """

    name: str
    unit: Unit
    period_us: int
    words: str
    factor: int = 1


RATES: Mapping[str, RateKind] = MappingProxyType({
    kind.name: kind
    for kind in (
        RateKind("requests_per_minute", "requests", _MINUTE_US, "requests per min (RPM)"),
        RateKind("tokens_per_minute", "tokens", _MINUTE_US, "tokens per min (TPM)"),
        RateKind("requests_per_day", "requests", _DAY_US, "requests per day (RPD)"),
        RateKind("images_per_minute", "images", _MINUTE_US, "images per min (IPM)"),
        RateKind("audio_megabytes_per_minute", "audio_bytes", _MINUTE_US, "audio megabytes per min", 1_000_000),
        RateKind("batch_input_tokens_per_day", "batch_tokens", _DAY_US, "batch input tokens per day"),
    )
})  # fmt: skip
CONCURRENT = "concurrent_requests"  # beside the rates: it has no period

WINDOWS: tuple[Window, ...] = ("day", "week", "month", "total")
NANO_USD_IN_A_CENT = 10_000_000
ORGANIZATION_FIELD = "o"  # of the organization's document; the others are made by the functions below


class RateLimit(msgspec.Struct, frozen=True, omit_defaults=True):
    """kind: a name of RATES, or CONCURRENT. limit: None lifts what would be inherited. burst: a bucket's capacity where
    it is less than the limit. shadow: it counts and says so, and refuses nothing.
    """

    kind: str
    limit: int | None
    burst: int | None = None
    shadow: bool = False


class SpendLimit(msgspec.Struct, frozen=True, omit_defaults=True):
    """nano_usd: 10^-9 dollars; None lifts what would be inherited. Windows are UTC; weeks begin on Monday."""

    window: Window
    nano_usd: int | None
    shadow: bool = False


class LimitSet(msgspec.Struct, frozen=True, omit_defaults=True):
    """The limits of one subject; at most one of a kind and of a window."""

    rates: tuple[RateLimit, ...] = ()
    spend: tuple[SpendLimit, ...] = ()


NONE = LimitSet()


class ModelPermissions(msgspec.Struct, frozen=True):
    """Which models a project may call. models: names as OpenAI's API has them, in lower case."""

    mode: Literal["allow_list", "deny_list"]
    models: tuple[str, ...]


class Permissions(msgspec.Struct, frozen=True, omit_defaults=True):
    """What calls of a project may use. models: None is all. denied_tools: hosted tools, of HOSTED_TOOLS. default_tier:
    for calls that name none, or `auto`; None is as the upstream decides. tiers: beside the standard one; None is all.
    """

    models: ModelPermissions | None = None
    denied_tools: tuple[str, ...] = ()
    default_tier: str | None = None
    tiers: tuple[str, ...] | None = None


HOSTED_TOOLS = ("file_search", "web_search", "image_generation", "mcp", "code_interpreter")


class LimitDocument(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the read model holds for one organization, project, user or key, as JSON.

    own: of the subject itself. models: of a project, by model group or model (its own bucket each); `*` for every model
    that is not named, each its own bucket. Names of models and groups are in lower case, also where they are looked up,
    so that nobody gets a second bucket by writing GPT.

    A user in one project has spend limits only.

    keys, users, projects, project_models: what those beneath inherit, kind by
    kind; keys in an organization's and in projects' documents, the others in the organization's only. groups: model
    patterns (`*` stands for anything) that share a bucket, in the organization's only. reserve: in the organization's
    and projects'. permissions: in projects' only.
    """

    own: LimitSet = NONE
    models: dict[str, LimitSet] = {}
    keys: LimitSet = NONE
    users: LimitSet = NONE
    projects: LimitSet = NONE
    project_models: dict[str, LimitSet] = {}
    groups: dict[str, tuple[str, ...]] = {}
    reserve: Reserve | None = None
    permissions: Permissions | None = None


class Applied(msgspec.Struct, frozen=True):
    """A limit that holds for a call. subject: the id it is counted for; model: of project_model, the group's or the
    model's name. origin: where it is declared, for people (`key_defaults of proj_x`).
    """

    scope: Scope
    subject: str
    limit: RateLimit | SpendLimit
    model: str = ""
    origin: str = ""


def project_field(project_id: str) -> str:
    return f"p:{project_id}"


def user_field(user_id: str) -> str:
    return f"u:{user_id}"


def member_field(project_id: str, user_id: str) -> str:
    return f"m:{project_id}:{user_id}"


def key_field(key_id: str) -> str:
    return f"k:{key_id}"


def matches(pattern: str, model: str) -> bool:
    """Whether a model's name is one that a pattern stands for. Both in lower case."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == model
    *middle, last = rest
    if len(model) < len(first) + len(last) or not (model.startswith(first) and model.endswith(last)):
        return False
    position, end = len(first), len(model) - len(last)
    for part in middle:
        position = model.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


def group_of(groups: Mapping[str, tuple[str, ...]], model: str) -> str | None:
    """The group that a model, in lower case, belongs to. A group's own name belongs to it."""
    if model in groups:
        return model
    return next((name for name, patterns in groups.items() if any(matches(p, model) for p in patterns)), None)
