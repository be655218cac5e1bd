"""Metrics of several processes in one folder: each in a lane, which it may take over from another."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import prometheus_client.parser
import pytest

from gateway.telemetry.metrics import FOLDER_VARIABLE, METRICS, Metrics, exposition, lane_ended

# What a worker does: counts, carries over, ends. A process of its own, for lanes change prometheus-client for good.
_WORKER = """
import json, sys
from gateway.telemetry.metrics import Metrics, use_lane

use_lane(sys.argv[1])
metrics = Metrics()
for name, labels, amount in json.loads(sys.argv[2]):
    if name == "gateway_own_seconds":
        histogram = metrics.histogram(name)
        counted = histogram.counted()
        counted.add(amount)
        histogram.carry_over(counted, tuple(labels))
    elif name in {"gateway_client_connections", "gateway_loop_lag_seconds"}:
        metrics.set(name, amount, tuple(labels))
    else:
        metrics.counter(name).add(tuple(labels), amount)
metrics.flush()
"""
REQUESTS = ("gateway_requests_total", ["listModels", "200", "complete"])
OTHERS = ("gateway_requests_total", ["listModels", "401", "complete"])


def work(folder: Path, lane: str, *counts: tuple[str, list[str], float]) -> None:
    environment = {**os.environ, FOLDER_VARIABLE: str(folder)}
    subprocess.run([sys.executable, "-c", _WORKER, lane, json.dumps(counts)], check=True, env=environment)


def samples(text: bytes) -> dict[str, float]:
    """By name and the values of the labels, in the order of their names."""
    families = prometheus_client.parser.text_string_to_metric_families(text.decode())
    return {
        " ".join([sample.name, *(sample.labels[name] for name in sorted(sample.labels))]): sample.value
        for family in families
        for sample in family.samples
    }


def test_lanes_are_added_up_and_taken_over(tmp_path: Path) -> None:
    work(tmp_path, "w0-0", (*REQUESTS, 3), (*OTHERS, 1), ("gateway_own_seconds", [], 0.0002))
    work(tmp_path, "w1-0", (*REQUESTS, 4), ("gateway_own_seconds", [], 0.002))
    found = samples(exposition(tmp_path))
    assert found["gateway_requests_total complete listModels 200"] == 7
    assert found["gateway_requests_total complete listModels 401"] == 1
    assert found["gateway_own_seconds_count"] == 2
    assert found["gateway_own_seconds_sum"] == pytest.approx(0.0022)
    buckets = {name.split()[1]: value for name, value in found.items() if name.startswith("gateway_own_seconds_bucket")}
    assert (buckets["0.0001"], buckets["0.00025"], buckets["0.0025"], buckets["+Inf"]) == (0, 1, 2, 2)
    files = sorted(path.name for path in tmp_path.iterdir())
    lane_ended(tmp_path, "w0-0")
    work(tmp_path, "w0-0", (*REQUESTS, 10))
    assert sorted(path.name for path in tmp_path.iterdir()) == files, "as many files as lanes, not as processes"
    assert samples(exposition(tmp_path))["gateway_requests_total complete listModels 200"] == 17


def test_gauges_are_of_those_that_live(tmp_path: Path) -> None:
    for lane, connections, lag in (("w0-0", 3, 0.5), ("w1-0", 4, 0.1)):
        work(tmp_path, lane, ("gateway_client_connections", [], connections), ("gateway_loop_lag_seconds", [], lag))
    found = samples(exposition(tmp_path))
    assert (found["gateway_client_connections"], found["gateway_loop_lag_seconds"]) == (7, 0.5)
    lane_ended(tmp_path, "w0-0")
    found = samples(exposition(tmp_path))
    assert (found["gateway_client_connections"], found["gateway_loop_lag_seconds"]) == (4, 0.1)


def test_a_file_that_is_just_being_made_says_nothing(tmp_path: Path) -> None:
    work(tmp_path, "w0-0", (*REQUESTS, 3))
    (tmp_path / "counter_w1-0.db").touch()
    (tmp_path / "gauge_livesum_w1-0.db").touch()
    assert samples(exposition(tmp_path))["gateway_requests_total complete listModels 200"] == 3


def test_an_empty_folder_and_the_supervisors_own(tmp_path: Path) -> None:
    metrics = Metrics("supervisor")
    metrics.counter("gateway_restarts_total").add(("worker",))
    metrics.counter("gateway_restarts_total").add(("worker",))
    metrics.flush()
    assert samples(exposition(tmp_path, [metrics.registry]))["gateway_restarts_total worker"] == 2


def test_the_table() -> None:
    def unique(values: Iterable[str]) -> bool:
        values = list(values)
        return len(set(values)) == len(values)

    assert unique(metric.name for metric in METRICS)
    for metric in METRICS:
        assert metric.name.startswith("gateway_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert metric.help.endswith(".")
