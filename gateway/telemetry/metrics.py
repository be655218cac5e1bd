"""Every metric, in one table, and how processes count.

Workers and the control process count in plain Python and carry the sums over to prometheus-client a few times a second:
an increment there costs more than it should on a path that makes several a request. There prometheus-client keeps its
values in files that the supervisor adds up at a scrape, so totals survive a process; one that is killed loses what it
has counted since it last carried over, never more.
"""

import os
import struct
from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec
import prometheus_client
from prometheus_client import CollectorRegistry, multiprocess, values
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

Kind = Literal["counter", "gauge", "histogram"]
Process = Literal["worker", "control", "supervisor"]
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Metric(msgspec.Struct, frozen=True):
    """One row. Label values are bounded by design: names of operations and upstreams, statuses; never clients' text."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    process: Process = "worker"


METRICS = (
    Metric("gateway_requests_total", "counter", "Requests answered or given up.", ("operation", "status", "ended")),
    Metric("gateway_request_seconds", "histogram", "Whole life of a request.", ("operation",), _SLOW),
    Metric("gateway_own_seconds", "histogram", "From a request's head to its first byte upstream.", (), _FAST),
    Metric("gateway_upstream_head_seconds", "histogram", "From there to the answer's head.", ("upstream",), _SLOW),
    Metric("gateway_request_bytes_total", "counter", "Bytes of request bodies.", ("operation",)),
    Metric("gateway_response_bytes_total", "counter", "Bytes of response bodies.", ("operation",)),
    Metric("gateway_errors_total", "counter", "Errors of the gateway's own, by row of its table.", ("error",)),
    Metric("gateway_upstream_retries_total", "counter", "Requests sent again on a fresh connection.", ("upstream",)),
    Metric("gateway_unknown_paths_total", "counter", "Requests for paths that the gateway does not know."),
    Metric("gateway_requests_in_flight", "gauge", "Requests being served."),
    Metric("gateway_client_connections", "gauge", "Open client connections."),
    Metric("gateway_connections_turned_away_total", "counter", "Connections closed because there were too many."),
    Metric("gateway_websockets", "gauge", "Open WebSockets."),
    Metric("gateway_upstream_connections", "gauge", "Connections to upstreams.", ("upstream", "state")),
    Metric("gateway_body_bytes", "gauge", "Memory taken by buffered bodies."),
    Metric("gateway_cached_keys", "gauge", "API keys that workers know."),
    Metric("gateway_key_lookups_total", "counter", "API keys asked for in Redis.", ("result",)),
    Metric("gateway_token_checks_total", "counter", "Access tokens (JWTs) that were not known yet.", ("result",)),
    Metric("gateway_redis_up", "gauge", "Whether a worker's Redis calls get through: the number of workers."),
    Metric("gateway_log_lines_dropped_total", "counter", "Log lines dropped because nobody read them in time."),
    Metric("gateway_usage_events_total", "counter", "Usage events by where they went.", ("what",)),
    Metric("gateway_usage_spool_bytes", "gauge", "Usage that waits on disk, or is being delivered from there."),
    Metric("gateway_usage_stream_full", "gauge", "Whether the stream in Redis has no room for usage: 0 or 1."),
    Metric("gateway_reserve_seconds", "histogram", "Reserving in Redis, until the answer or the deadline.", (), _FAST),
    Metric(
        "gateway_limit_refusals_total",
        "counter",
        "Calls that a limit refused; shadow: that one would have refused.",
        ("limit", "scope", "shadow"),
    ),
    Metric("gateway_limit_tokens_total", "counter", "Tokens of admitted calls, reserved and really used.", ("what",)),
    Metric("gateway_limit_usd_total", "counter", "Dollars of admitted calls, reserved and really used.", ("what",)),
    Metric(
        "gateway_limit_utilization",
        "gauge",
        "The share of a project's tightest limits that is used, 0 to 1.",
        ("project", "limit"),
    ),
    Metric("gateway_limits_without_redis_total", "counter", "Calls whose limits Redis could not check.", ("outcome",)),
    Metric("gateway_reservations", "gauge", "Calls in flight with a reservation."),
    Metric("gateway_redis_breaker", "gauge", "Breakers of workers' calls to Redis, by state.", ("state",)),
    Metric("gateway_ledger_events_total", "counter", "Usage events, by what became of them.", ("what",), (), "control"),
    Metric("gateway_ledger_waiting_events", "gauge", "Usage events that are not folded yet.", (), (), "control"),
    Metric("gateway_ledger_lag_seconds", "gauge", "How old the oldest of them is.", (), (), "control"),
    Metric("gateway_ledger_folding", "gauge", "Control processes that fold usage: one.", (), (), "control"),
    Metric("gateway_ledger_fold_seconds", "histogram", "Folding a batch of events.", (), _FAST, "control"),
    Metric(
        "gateway_spend_drift_usd",
        "gauge",
        "How far a counter of spend was from what the ledger says, at the last look; the farthest.",
        ("direction",),
        (),
        "control",
    ),
    Metric(
        "gateway_reconciliation_drift_ratio",
        "gauge",
        "How far ledger and upstream are apart on the last day compared, 0 to 1.",
        ("upstream", "category", "field"),
        process="control",
    ),
    Metric(
        "gateway_reconciliation_day_timestamp_seconds",
        "gauge",
        "When the last day that was compared with an upstream began.",
        ("upstream",),
        process="control",
    ),
    Metric(
        "gateway_reconciliation_failures_total",
        "counter",
        "Days that could not be compared with an upstream, each time.",
        ("upstream",),
        process="control",
    ),
    Metric("gateway_info", "gauge", "Always 1.", ("version",), process="supervisor"),
    Metric("gateway_workers", "gauge", "Worker processes.", ("state",), process="supervisor"),
    Metric("gateway_restarts_total", "counter", "Processes that ended by themselves.", ("role",), process="supervisor"),
    Metric("gateway_reloads_total", "counter", "Reloads of the settings.", ("result",), process="supervisor"),
    Metric("gateway_loop_lag_seconds", "gauge", "How late the event loop of the slowest worker was, last second."),
)

_READINGS = 5  # of the folder of lanes, until none of its files changes hands meanwhile
LARGEST = frozenset(
    {
        "gateway_loop_lag_seconds",
        "gateway_limit_utilization",
        "gateway_usage_stream_full",
        "gateway_ledger_waiting_events",
        "gateway_ledger_lag_seconds",
        "gateway_reconciliation_drift_ratio",
        "gateway_reconciliation_day_timestamp_seconds",
    }
)  # over workers the largest counts, not the sum


class Counts:
    """Sums of one counter family, by label values, on their way to prometheus-client."""

    def __init__(self, family: Any, labels: bool) -> None:
        self._family = family
        self._labels = labels
        self._sums: dict[tuple[str, ...], float] = {}

    def add(self, labels: tuple[str, ...] = (), amount: float = 1) -> None:
        self._sums[labels] = self._sums.get(labels, 0) + amount

    def flush(self) -> None:
        sums, self._sums = self._sums, {}
        for labels, amount in sums.items():
            (self._family.labels(*labels) if self._labels else self._family).inc(amount)


class Counted:
    """Values on their way into a histogram's buckets: kept until then, for sorting many at once costs a fifth."""

    __slots__ = ("_bounds", "_values", "add")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._values: list[float] = []
        self.add = self._values.append

    @property
    def sum(self) -> float:
        return sum(self._values)

    def counts(self) -> list[int]:
        """How many are in each bucket, and beyond the last one."""
        values = sorted(self._values)
        until = [0, *(bisect_right(values, bound) for bound in self._bounds), len(values)]
        return [end - start for start, end in pairwise(until)]


class Observations:
    """One histogram family, on whose way to prometheus-client the values are counted by whoever has them."""

    def __init__(self, family: Any, labels: bool, bounds: tuple[float, ...]) -> None:
        self._family = family
        self._labels = labels
        self._bounds = bounds

    def counted(self) -> Counted:
        """An empty count with this family's buckets."""
        return Counted(self._bounds)

    def carry_over(self, counted: Counted, labels: tuple[str, ...] = ()) -> None:
        child = self._family.labels(*labels) if self._labels else self._family
        child._sum.inc(counted.sum)
        for bucket, count in zip(child._buckets, counted.counts(), strict=True):
            if count:
                bucket.inc(count)


class Metrics:
    """The metrics of one process: those that the table gives to its role."""

    def __init__(self, process: Process = "worker", more: tuple[Metric, ...] = ()) -> None:
        """more: rows besides the table's, for families that follow from other tables and from settings."""
        self.registry = registry = CollectorRegistry()
        self._gauges: dict[str, Any] = {}
        self._counts: dict[str, Counts] = {}
        self._observations: dict[str, Observations] = {}
        for metric in METRICS + more:
            if metric.process != process:
                continue
            labelled = bool(metric.labels)
            common: Any = {"name": metric.name, "documentation": metric.help, "labelnames": metric.labels}
            if metric.kind == "counter":
                family: Any = prometheus_client.Counter(**common, registry=registry)
                self._counts[metric.name] = Counts(family, labelled)
            elif metric.kind == "histogram":
                family = prometheus_client.Histogram(**common, buckets=metric.buckets, registry=registry)
                self._observations[metric.name] = Observations(family, labelled, metric.buckets)
            else:
                mode: Any = "livemax" if metric.name in LARGEST else "livesum"
                self._gauges[metric.name] = prometheus_client.Gauge(**common, multiprocess_mode=mode, registry=registry)

    def counter(self, name: str) -> Counts:
        return self._counts[name]

    def histogram(self, name: str) -> Observations:
        return self._observations[name]

    def set(self, name: str, value: float, labels: tuple[str, ...] = ()) -> None:
        """Sets a gauge at once."""
        gauge = self._gauges[name]
        (gauge.labels(*labels) if labels else gauge).set(value)

    def flush(self) -> None:
        """Carries over what was counted; once a second, and at the end."""
        for counts in self._counts.values():
            counts.flush()


def use_lane(lane: str) -> None:
    """Makes this process keep its values in the files of a lane, before any metric is made.

    A lane is a worker's place in the sums: named by the supervisor, used by one process at a time, and taken over by
    the process after it, so that there are as many files as workers and not as process ids. prometheus-client would
    name files by process id; the switch is an internal of its, pinned by version and by a test.
    """
    assert os.environ.get(FOLDER_VARIABLE), "the supervisor names the folder"
    internals: Any = values
    internals.ValueClass = internals.MultiProcessValue(lambda: lane)


def lane_ended(folder: Path, lane: str) -> None:
    """The process of a lane has gone: its gauges are no longer true. Counters stay."""
    mark_dead: Any = multiprocess.mark_process_dead
    mark_dead(lane, str(folder))


class _Lanes(Collector):
    """What the files of all lanes say together. A file that has just been made is empty for a moment, or for good if
    its maker was killed in that moment: it says nothing, and prometheus-client would not get past it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Family]:
        merge: Any = multiprocess.MultiProcessCollector.merge
        for attempt in range(1, _READINGS + 1):
            try:
                families: Iterable[Family] = merge(list(map(str, filter(_says_something, self._folder.glob("*.db")))))
                return families
            except (struct.error, FileNotFoundError):  # a lane was taken over while it was read
                if attempt == _READINGS:
                    raise
        return ()


def _says_something(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def exposition(folder: Path, extra: Iterable[CollectorRegistry] = ()) -> bytes:
    """The text of /metrics: all lanes in the folder together, then further registries of this process."""
    registry = CollectorRegistry()
    registry.register(_Lanes(folder))
    return b"".join(prometheus_client.generate_latest(r) for r in (registry, *extra))
