"""Usage as Prometheus counters: a family for each category and field of OpenAI's usage API, and the costs.

Labels are bounded: the model is a name from the price book or the settings' routes, else `other`; who calls is the
project, and the user and the key only where a setting says so.
"""

from collections.abc import Iterable, Iterator

from gateway.pricing.book import OTHER, Book
from gateway.settings.model import RouteTarget, Settings
from gateway.telemetry.metrics import Metric, Metrics
from gateway.usage.fields import COUNTED, FIELDS, REQUESTS
from gateway.values import UsageEvent, UsageLine

COSTS = "gateway_costs_usd_total"
LINES = "gateway_usage_lines_total"
UNPRICED = "gateway_unpriced_lines_total"
_BASE = ("project", "model", "batch")


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


class UsageCounters:
    """Counts events. One per worker."""

    def __init__(self, settings: Settings, book: Book, metrics: Metrics) -> None:
        self._book = book
        self._routed = frozenset(_routed(settings))
        self._user, self._key = settings.usage.label_user, settings.usage.label_key
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
            labels = self._labels(event, line)
            category = line.category or ""
            for field, family in self._families.get(category, ()):
                amount = field(line.quantities)
                if amount:
                    family.add(labels, amount)
            if not counted and category == event.category and category in self._requests:
                counted = True
                self._requests[category].add(labels)
            if line.nano_usd:
                self._costs.add(labels, line.nano_usd / 1e9)
            self._lines.add((category or "none", line.source))

    def unpriced(self, model: str) -> None:
        self._unpriced.add((self.label(model),))

    def label(self, model: str) -> str:
        """A model's name as a label: of the price book or the routes, else `other`."""
        known = self._book.label(model)
        return model if known == OTHER and model in self._routed else known

    def _labels(self, event: UsageEvent, line: UsageLine) -> tuple[str, ...]:
        model = line.response_model or line.upstream_model or line.request_model
        label = self.label(model)
        if label == OTHER and line.request_model != model:
            label = self.label(line.request_model)
        labels: tuple[str, ...] = (event.project_id, label, "true" if line.batch else "false")
        if self._user:
            labels += (event.user_id,)
        return (*labels, event.key_id) if self._key else labels


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
