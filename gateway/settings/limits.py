"""The settings of limits: how fast and for how much money. Where one is not written, the one above it holds.

As in `model.py`, each field's comment is its documentation.
"""

from decimal import Decimal
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from gateway.limits import CONCURRENT, RATES, WINDOWS, LimitSet, RateLimit, Reserve, SpendLimit
from gateway.settings.forms import Base, Name, Seconds, Usd

_NANO = 1_000_000_000

Whole = Annotated[int, Meta(ge=0, le=1_000_000_000_000, description="a whole number from 0 to a trillion")]
Burst = Annotated[int, Meta(ge=1, le=1_000_000_000_000, description="a whole number from 1 to a trillion")]
# Sums of it in Redis are exact up to 9 million dollars; and up to 8 million a number with 9 decimals is one that floats
# tell from its neighbours, so that what was written can be had back exactly.
Dollars = Annotated[
    Annotated[float, Meta(ge=0, lt=8_000_000)] | Annotated[str, Meta(pattern=r"^[0-7]?[0-9]{1,6}(\.[0-9]{1,9})?\Z")],
    Meta(description="dollars below 8 million, as a number or as text, with at most 9 decimals"),
]
DollarsOrUnlimited = (
    Annotated[float, Meta(ge=0, lt=8_000_000)]
    | Annotated[str, Meta(pattern=r"^([0-7]?[0-9]{1,6}(\.[0-9]{1,9})?|unlimited)\Z")]
)
Models = Annotated[list[str], Meta(min_length=1, description="a list of model names, in which * stands for anything")]
Mode = Literal["local", "open", "closed"]


class Rate(Base, frozen=True):
    limit: Whole  # how many; 0 lets nothing pass
    burst: Burst | None = None  # how many of them at once, never more than limit; null is all
    shadow: bool = False  # count and log only, refuse nothing


class Concurrency(Base, frozen=True):
    limit: Whole  # how many at a time; 0 lets nothing pass
    shadow: bool = False  # count and log only, refuse nothing


class Budget(Base, frozen=True):
    usd: Dollars  # how much; 0 lets nothing pass
    shadow: bool = False  # count and log only, refuse nothing


RateForm = Annotated[
    Whole | Literal["unlimited"] | Rate,
    Meta(description="a whole number from 0 to a trillion, {limit, burst, shadow}, or unlimited"),
]
ConcurrencyForm = Annotated[
    Whole | Literal["unlimited"] | Concurrency,
    Meta(description="a whole number from 0 to a trillion, {limit, shadow}, or unlimited"),
]
BudgetForm = Annotated[
    DollarsOrUnlimited | Budget,
    Meta(description="dollars below 8 million with at most 9 decimals, {usd, shadow}, or unlimited"),
]


class Budgets(Base, frozen=True):
    """Windows are UTC."""

    day: BudgetForm | UnsetType = UNSET  # from midnight to midnight
    week: BudgetForm | UnsetType = UNSET  # from Monday
    month: BudgetForm | UnsetType = UNSET  # from the first
    total: BudgetForm | UnsetType = UNSET  # for ever


class ModelLimits(Base, frozen=True):
    requests_per_minute: RateForm | UnsetType = UNSET  # calls
    tokens_per_minute: RateForm | UnsetType = UNSET  # tokens of input and output
    requests_per_day: RateForm | UnsetType = UNSET  # calls
    images_per_minute: RateForm | UnsetType = UNSET  # images that are made
    audio_megabytes_per_minute: RateForm | UnsetType = UNSET  # audio that is sent, in millions of bytes
    batch_input_tokens_per_day: RateForm | UnsetType = UNSET  # tokens of input of batches
    concurrent_requests: ConcurrencyForm | UnsetType = UNSET  # calls at the same time


class SubjectLimits(ModelLimits, frozen=True):
    spend: Budgets = Budgets()  # dollars


class EveryProject(SubjectLimits, frozen=True):
    models: dict[str, ModelLimits] = field(
        default_factory=dict
    )  # by model or group; "*" is every other model, each for itself


class ProjectLimits(EveryProject, frozen=True):
    keys: SubjectLimits = SubjectLimits()  # what each of its keys has
    reserve: Reserve | None = None  # null is as in limits.reserve


class WhenRedisIsAway(Base, frozen=True):
    rates: Mode = "local"  # local: each worker alone with its share; open: not limited; closed: 503
    spend: Literal["open", "closed"] = "closed"  # of calls that have a spend limit
    concurrency: Mode = "local"  # as rates


class Limits(Base, frozen=True):
    reserve: Reserve = "adaptive"  # how much a call takes until it is known what it used
    groups: dict[Name, Models] = field(
        default_factory=dict
    )  # models that share their limits in each project; a group's own name belongs to it
    organization: SubjectLimits = SubjectLimits()  # of all projects together
    projects: EveryProject = EveryProject()  # what each project has
    users: SubjectLimits = SubjectLimits()  # what each user has; a key without one is a user of its own
    keys: SubjectLimits = SubjectLimits()  # what each key has
    by_user: dict[str, SubjectLimits] = field(
        default_factory=dict
    )  # what single users have, by the `user` of their keys
    when_redis_is_away: WhenRedisIsAway = WhenRedisIsAway()
    unknown_call_usd: Usd = 0.01  # what a POST to a path that the gateway does not know reserves of spend limits
    lease_s: Seconds = 30.0  # how long the reservation of a worker that died is held


def limit_set(written: ModelLimits) -> LimitSet:
    """What is written, in the words of `gateway.limits`. What is not written is not in it; `unlimited` is None."""
    rates = []
    for kind in (*RATES, CONCURRENT):
        match getattr(written, kind):
            case int(limit):
                rates.append(RateLimit(kind, limit))
            case Rate(limit, burst, shadow):
                rates.append(RateLimit(kind, limit, burst, shadow))
            case Concurrency(limit, shadow):
                rates.append(RateLimit(kind, limit, shadow=shadow))
            case str():
                rates.append(RateLimit(kind, None))
    spend = []
    for window in WINDOWS:
        match getattr(written.spend, window) if isinstance(written, SubjectLimits) else UNSET:
            case "unlimited":
                spend.append(SpendLimit(window, None))
            case Budget(usd, shadow):
                spend.append(SpendLimit(window, nano_usd(usd), shadow))
            case float(usd) | str(usd):
                spend.append(SpendLimit(window, nano_usd(usd)))
    return LimitSet(tuple(rates), tuple(spend))


def nano_usd(usd: float | str) -> int:
    """Dollars as settings write them, exactly: 0.1 is a tenth. Raises ValueError if 9 decimals are not enough."""
    nano = Decimal(str(usd)) * _NANO
    if nano != nano.to_integral_value():
        raise ValueError(f"expected dollars with at most 9 decimals, got {usd}")
    return int(nano)
