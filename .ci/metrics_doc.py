"""docs/metrics.md: --write makes it from the table of metrics; without it, fails when the two differ."""

import sys
from collections.abc import Iterable, Iterator

from made_page import hold

from gateway.proxy.metering.counters import usage_metrics
from gateway.settings.model import Settings
from gateway.telemetry.metrics import LARGEST, METRICS, Metric
from gateway.usage.fields import FIELDS

HEAD = """\
# Metrics

Made from the table in `gateway/telemetry/metrics.py` by `.ci/metrics_doc.py --write`; not to be edited by hand.

`/metrics` on the operations listener (`listeners.operations`) is one page for the whole gateway. Totals and histograms
are those of all workers together, and go on over a worker's end and over reloads; they begin anew with the supervisor.
A gauge is the sum over processes, or the largest of theirs where that is said. Labels have bounded values: names of
operations, upstreams, projects and models of the price book, statuses; never what a client wrote.

What is worth an alert is in [operations](operations.md#is-it-well).
"""
GROUPS = (
    ("Workers", "worker", "What the data plane counts."),
    ("Control process", "control", "Of the one that folds usage, where several share a Redis."),
    ("Supervisor", "supervisor", "Of each gateway."),
)
FAMILY = "gateway_usage_"
USAGE = """\
Counted by workers when a call ends. `usage.label_user` and `usage.label_key` put the labels `user` and `key` to those
that have `project`. A family is named like a field of one of OpenAI's usage endpoints, so what stands in its answers is
here: `gateway_usage_completions_input_tokens_total` is `input_tokens` of `/v1/organization/usage/completions`.
"""


def row(metric: Metric) -> str:
    said = metric.help
    if metric.buckets:
        said += f" Buckets from {metric.buckets[0]:g} to {metric.buckets[-1]:g} s."
    if metric.name in LARGEST:
        said += " The largest of all processes."
    return f"| `{metric.name}` | {metric.kind} | {listed(metric.labels)} | {said} |\n"


def table(metrics: Iterator[Metric]) -> str:
    return "| metric | | labels | |\n| --- | --- | --- | --- |\n" + "".join(map(row, metrics))


def usage(metrics: tuple[Metric, ...]) -> Iterator[str]:
    """Families that follow the endpoints, a row an endpoint; the others as in other tables."""
    fields: dict[str, list[str]] = {}
    for metric in metrics:
        for category in FIELDS:
            if metric.name.startswith(start := f"{FAMILY}{category}_"):
                fields.setdefault(category, []).append(metric.name.removeprefix(start).removesuffix("_total"))
    yield "| counters | each of | labels |\n| --- | --- | --- |\n"
    for category, names in fields.items():
        (labels,) = {metric.labels for metric in metrics if metric.name.startswith(f"{FAMILY}{category}_")}
        yield f"| `{FAMILY}{category}_…_total` | {listed(names)} | {listed(labels)} |\n"
    yield "\n"
    yield table(one for one in metrics if not one.name.startswith(tuple(f"{FAMILY}{category}_" for category in fields)))


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def page() -> str:
    parts = [HEAD]
    for title, process, said in GROUPS:
        parts.append(f"\n## {title}\n\n{said}\n\n" + table(one for one in METRICS if one.process == process))
    parts += ["\n## Usage and costs\n\n", USAGE, "\n", *usage(usage_metrics(Settings(upstreams={})))]
    return "".join(parts)


if __name__ == "__main__":
    sys.exit(hold("docs/metrics.md", page()))
