"""Rate limits as OpenAI's objects have them: a field for each kind."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from gateway.control.admin.asked import Body
from gateway.errors import DECLARED, GatewayError
from gateway.limits import Applied, LimitSet, RateLimit
from gateway.settings.limits import Whole

UNLIMITED = 1_000_000_000_000  # the largest limit that there is: it stands for none
REQUESTS = "max_requests_per_1_minute"
TOKENS = "max_tokens_per_1_minute"
IMAGES = "max_images_per_1_minute"
AUDIO = "max_audio_megabytes_per_1_minute"

_FIELDS: Mapping[str, str] = MappingProxyType({
    "requests_per_minute": REQUESTS,
    "tokens_per_minute": TOKENS,
    "images_per_minute": IMAGES,
    "audio_megabytes_per_minute": AUDIO,
    "requests_per_day": "max_requests_per_1_day",
    "batch_input_tokens_per_day": "batch_1_day_max_input_tokens",
})  # fmt: skip


class ChangedRates(Body, frozen=True):
    """0 lets nothing pass; UNLIMITED takes a limit away."""

    max_requests_per_1_minute: Whole | None = None
    max_tokens_per_1_minute: Whole | None = None
    max_images_per_1_minute: Whole | None = None
    max_audio_megabytes_per_1_minute: Whole | None = None
    max_requests_per_1_day: Whole | None = None
    batch_1_day_max_input_tokens: Whole | None = None

    def by_field(self) -> dict[str, int]:
        """What is to be changed, as the audit log shows it."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}

    def by_kind(self) -> dict[str, int | None]:
        """The same as rows have it."""
        fields = self.by_field()
        limits = {kind: fields[name] for kind, name in _FIELDS.items() if name in fields}
        return {kind: limit if limit < UNLIMITED else None for kind, limit in limits.items()}


def shown_rates(applied: Iterable[Applied]) -> dict[str, int]:
    """Fields of what holds and refuses."""
    rates = (one.limit for one in applied if isinstance(one.limit, RateLimit) and not one.limit.shadow)
    return {_FIELDS[rate.kind]: rate.limit for rate in rates if rate.kind in _FIELDS and rate.limit is not None}


def refuse_declared(changed: ChangedRates, declared: LimitSet, whose: str) -> None:
    """Raises GatewayError DECLARED (400) for a limit that the settings declare for the same."""
    there = {rate.kind for rate in declared.rates}
    for kind in changed.by_kind():
        if kind in there:
            raise GatewayError(DECLARED, param=_FIELDS[kind], what=f"The limit {kind} of {whose}")
