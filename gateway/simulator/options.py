"""What a simulator can be told when it is made."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from gateway.clock import Clock, SystemClock


class Latency(msgspec.Struct, frozen=True):
    """How long an answer takes: `first_s` until its first token, `token_s` for each further output token."""

    first_s: float = 0.0
    token_s: float = 0.0


REALISTIC = Latency(first_s=0.35, token_s=0.012)


class SimulatorOptions(msgspec.Struct, frozen=True):
    """keys: upstream keys that are accepted; None takes any, but one must be there.
    data: folder for stored files and the book; None makes a temporary one and removes it at the end.
    organization, project: ids that responses name; another id in `openai-organization` is refused.
    pace_s: pause before each stream event. latency: on top. step_s: how long jobs (runs, batches, vector store files,
    fine-tuning, videos, background responses) stay in each of their states.
    caching: whether repeated long prompts have cached tokens. max_objects: of each kind; then the oldest are forgotten.
    seed: of everything random.
    admin_keys: that read the organization's usage and costs; None takes any that is none of `keys`.
    prices: for these costs: nano-dollars for one of each, by response model and name in `bill.PRICED`.
    """

    keys: frozenset[str] | None = None
    data: Path | None = None
    organization: str = "org-simulator"
    project: str = "proj_simulator"
    pace_s: float = 0.0
    latency: Latency = Latency()
    step_s: float = 0.01
    caching: bool = True
    max_objects: int = 20_000
    seed: int = 1
    admin_keys: frozenset[str] | None = None
    prices: Mapping[str, Mapping[str, int]] = MappingProxyType({})
    clock: Clock = SystemClock()
