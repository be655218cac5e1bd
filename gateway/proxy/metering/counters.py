"""Usage as Prometheus counters: a family for each category and field of OpenAI's usage API, and the costs.

Labels are bounded: the model is a name from the price book or the settings' routes, else `other`; who calls is the
project, and the user and the key only where a setting says so.
"""

from collections.abc import Iterable, Iterator

import msgspec

from gateway.pricing.book import OTHER, Book
from gateway.settings.model import RouteTarget, Settings
from gateway.telemetry.metrics import Metric, Metrics
from gateway.usage.fields import COUNTED, FIELDS, REQUESTS
from gateway.values import Quantities, UsageEvent, UsageLine

COSTS = "gateway_costs_usd_total"
LINES = "gateway_usage_lines_total"
UNPRICED = "gateway_unpriced_lines_total"
_BASE = ("project", "model", "batch")
_MOST_NAMES = 4096  # of models, with their labels; they may come from clients


def usage_metrics(settings: Settings) -> tuple[Metric, ...]:
    """The rows for the table of metrics; their labels follow the settings."""
    labels = _BASE + (("user",) if settings.usage.label_user else ()) + (("key",) if settings.usage.label_key else ())
    rows = [
        Metric(_name(category, field), "counter", f"{field} as in /v1/organization/usage/{category}.", labels)
        for category, field in _families()
    ]
    return (
        *rows,
        Metric(COSTS, "counter", "What calls cost, in dollars.", labels),
        Metric(LINES, "counter", "Lines of usage, reported by the upstream or estimated.", ("category", "source")),
        Metric(UNPRICED, "counter", "Lines of usage that the price book has no price for.", ("model",)),
    )


PlainUse = tuple[int, int, int, int, int]  # tokens read, of these cached, written, of these for reasoning; nano-USD


class _Sum:
    """What the lines amount to that have category, source and labels in common."""

    __slots__ = ("_lines", "_plain", "nano_usd", "number", "requests")

    def __init__(self) -> None:
        self.nano_usd = self.number = self.requests = 0
        self._lines: list[Quantities] = []  # summed up together, which costs a quarter of one by one
        self._plain: list[PlainUse] = []

    def add(self, line: UsageLine, *, request: bool) -> None:
        self.number += 1
        self.nano_usd += line.nano_usd or 0
        self.requests += request
        self._lines.append(line.quantities)

    def add_plain(self, uses: list[PlainUse]) -> None:
        """Lines that are their calls' only ones."""
        self.number += len(uses)
        self.nano_usd += sum([use[-1] for use in uses])
        self.requests += len(uses)
        self._plain += uses

    @property
    def quantities(self) -> Quantities:
        lines = self._lines
        if self._plain:
            read, cached, written, thought, _ = map(sum, zip(*self._plain, strict=True))
            plain = Quantities(input_tokens=read, cached_tokens=cached, output_tokens=written, reasoning_tokens=thought)
            lines = [*lines, plain]
        return Quantities(*map(sum, zip(*map(_values, lines), strict=True)))


_values = msgspec.structs.astuple
CounterKey = tuple[str | None, str, str, str, bool, str, str]


class UsageCounters:
    """Counts events. One per worker: lines are summed up, and `flush` carries the sums over to the metrics."""

    def __init__(self, settings: Settings, book: Book, metrics: Metrics) -> None:
        self._book = book
        self._routed = frozenset(_routed(settings))
        self._by_user, self._by_key = settings.usage.label_user, settings.usage.label_key
        self._sums: dict[CounterKey, _Sum] = {}
        self._names: dict[str, str] = {}
        self._families = {
            category: tuple((field, metrics.counter(_name(category, name))) for name, field in fields.items())
            for category, fields in FIELDS.items()
        }
        self._requests = {category: metrics.counter(_name(category, REQUESTS)) for category in COUNTED}
        self._costs = metrics.counter(COSTS)
        self._lines = metrics.counter(LINES)
        self._unpriced = metrics.counter(UNPRICED)

    def count(self, event: UsageEvent) -> None:
        """An event's lines; and the call itself, once, where it was served."""
        counted = False
        for line in event.lines:
            key = self.key_of(line, event)
            total = self._sums.get(key)
            if total is None:
                total = self._sums[key] = _Sum()
            request = not counted and line.category == event.category
            counted = counted or request
            total.add(line, request=request)

    def key_of(self, line: UsageLine, event: UsageEvent) -> CounterKey:
        """What a line has in common with those that it is counted with."""
        model = self._label(line.response_model or line.upstream_model or line.request_model, line.request_model)
        return (
            line.category, line.source, event.project_id, model, line.batch,
            event.user_id if self._by_user else "", event.key_id if self._by_key else "",
        )  # fmt: skip

    def count_plain(self, key: CounterKey, uses: list[PlainUse]) -> None:
        """Calls that have one line each, of tokens. key: see `key_of`."""
        total = self._sums.get(key)
        if total is None:
            total = self._sums[key] = _Sum()
        total.add_plain(uses)

    def unpriced(self, model: str) -> None:
        self._unpriced.add((self._label(model, model),))

    def flush(self) -> None:
        """Carries over what was counted."""
        sums, self._sums = self._sums, {}
        for (category, source, project, model, batch, user, key), total in sums.items():
            labels: tuple[str, ...] = (project, model, "true" if batch else "false")
            labels += ((user,) if self._by_user else ()) + ((key,) if self._by_key else ())
            used = total.quantities
            for field, family in self._families.get(category or "", ()):
                amount = field(used)
                if amount:
                    family.add(labels, amount)
            if total.requests and category in self._requests:
                self._requests[category].add(labels, total.requests)
            if total.nano_usd:
                self._costs.add(labels, total.nano_usd / 1e9)
            self._lines.add((category or "none", source), total.number)

    def _label(self, model: str, instead: str) -> str:
        """A model's name as a label: of the price book or the routes, perhaps as the client named it, else `other`."""
        label = self._names.get(model)
        if label is None:
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            label = self._names[model] = self._known(model)
        return self._label(instead, instead) if label == OTHER and instead != model else label

    def _known(self, model: str) -> str:
        known = self._book.label(model)
        return model if known == OTHER and model in self._routed else known


def _families() -> Iterator[tuple[str, str]]:
    for category, fields in FIELDS.items():
        for field in fields:
            yield category, field
        if category in COUNTED:
            yield category, REQUESTS


def _name(category: str, field: str) -> str:
    return f"gateway_usage_{category}_{field}_total"


def _routed(settings: Settings) -> Iterable[str]:
    """The names that routes give to models."""
    for route in settings.routes:
        yield from (name for name in route.models if "*" not in name)
        for target in route.upstreams:
            if isinstance(target, RouteTarget) and target.upstream_model is not None:
                yield target.upstream_model
