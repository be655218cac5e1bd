import random

import pytest

from gateway.simulator import faults
from gateway.simulator.faults import FaultError, Faults, choose


def chosen(*specs: str, seed: int = 0) -> Faults:
    return choose(specs, random.Random(seed))


def test_no_spec_is_no_fault() -> None:
    assert chosen() is faults.NONE
    assert not faults.NONE.shapes_body


@pytest.mark.parametrize(
    ("spec", "field", "value"),
    [
        ("delay=500ms", "delay_s", 0.5),
        ("delay=2s", "delay_s", 2.0),
        ("delay=250", "delay_s", 0.25),
        ("pace=0", "pace_s", 0.0),
        ("pace=1.5ms", "pace_s", 0.0015),
        ("drip=7:20ms", "drip", (7, 0.02)),
        ("stall", "stall", 0),
        ("stall=3", "stall", 3),
        ("cut=100", "cut", 100),
        ("reset=0", "reset", 0),
        ("cut_head", "cut_head", True),
        ("status=503", "status", 503),
        ("429", "status", 429),
        ("retry_after=7", "retry_after", 7),
        ("malformed", "malformed", True),
        ("malformed_json", "malformed_json", True),
        ("huge=3", "huge", 3),
        ("gzip", "gzip", True),
        ("chunks=12", "chunks", 12),
        ("tokens=77", "tokens", 77),
        ("error_event", "error_event", -1),
        ("error_event=4", "error_event", 4),
        ("no_usage", "no_usage", True),
        ("expire", "expire", True),
        ("fail", "fail", True),
    ],
)
def test_each_spec(spec: str, field: str, value: object) -> None:
    found = chosen(spec)
    assert getattr(found, field) == value
    assert found.specs == (spec,)


@pytest.mark.parametrize(
    "spec",
    ["", "foo", "delay", "delay=", "delay=fast", "drip=3", "drip=0:1", "cut=x", "cut=-1", "status=200", "status=abc",
     "600", "gzip=1", "tokens", "huge", "500@x", "pace=1h", "retry_after"],
)  # fmt: skip
def test_an_unknown_spec_is_named(spec: str) -> None:
    with pytest.raises(FaultError) as caught:
        chosen("gzip", spec)
    assert str(caught.value) == spec


def test_a_model_name_carries_specs() -> None:
    assert faults.split_model("gpt-4o+pace=5ms+cut=10") == ("gpt-4o", ("pace=5ms", "cut=10"))
    assert faults.split_model("ft:gpt-4o:org::id") == ("ft:gpt-4o:org::id", ())


def test_a_header_carries_specs() -> None:
    assert faults.split_header(" delay=1ms, gzip ,,") == ("delay=1ms", "gzip")


def test_a_probability_is_a_share_of_requests() -> None:
    held = sum(chosen("500@0.25", seed=seed).status == 500 for seed in range(2000))
    assert 420 <= held <= 580
    assert chosen("500@0.25", seed=3) == chosen("500@0.25", seed=3)
    assert chosen("500@0").specs == ()
    assert chosen("500@1").status == 500


def test_what_changes_a_body_says_so() -> None:
    assert all(chosen(spec).shapes_body for spec in ("gzip", "cut=0", "stall", "reset=1", "drip=1:1", "huge=1"))
    assert not any(chosen(spec).shapes_body for spec in ("delay=1", "status=500", "pace=1", "tokens=3"))
