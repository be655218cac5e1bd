"""The settings `limits`: their forms, their exactness, and one sample for each way to be wrong."""

import fnmatch
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import LimitSet, RateLimit, SpendLimit
from gateway.settings.limits import ModelLimits, SubjectLimits, limit_set, nano_usd
from gateway.settings.limits_check import _meet
from gateway.settings.load import SettingsError, load_settings
from gateway.settings.model import Settings
from gateway.settings.transfer import convert, decode, encode

UPSTREAMS = "upstreams: {openai: {base_url: 'https://api.openai.com/v1'}}\n"
KEYS = "{name: k, user: ada, secret: '1'}"
WHOLE = "a whole number from 0 to a trillion"
DOLLARS = "dollars below 8 million with at most 9 decimals, {usd, shadow}, or unlimited"


def load(tmp_path: Path, text: str, **environment: str) -> Settings:
    path = tmp_path / "gateway.yaml"
    path.write_text(UPSTREAMS + text)
    return load_settings(path, environment)


def complaints(tmp_path: Path, text: str, **environment: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, **environment)
    return [line.removeprefix(f"{tmp_path}/gateway.yaml:") for line in str(caught.value).splitlines()]


def keys_limits(tmp_path: Path, text: str, **environment: str) -> LimitSet:
    """What `limits.keys` says."""
    settings = load(tmp_path, f"limits: {{keys: {text}}}\n", **environment)
    assert decode(encode(settings)) == settings, "it gets to the processes as it is"
    return limit_set(settings.limits.keys)


def test_nothing_is_limited_by_default(tmp_path: Path) -> None:
    limits = load(tmp_path, "").limits
    assert limit_set(limits.organization) == limit_set(limits.projects) == limit_set(limits.keys) == LimitSet()
    assert (limits.reserve, limits.unknown_call_usd, limits.lease_s) == ("adaptive", 0.01, 30)
    away = limits.when_redis_is_away
    assert (away.rates, away.spend, away.concurrency) == ("local", "closed", "local")


def test_the_forms_of_a_limit(tmp_path: Path) -> None:
    text = (
        "{requests_per_minute: 600, tokens_per_minute: {limit: 1_000, burst: 10, shadow: true}, requests_per_day: 0,"
        " images_per_minute: {limit: 3}, audio_megabytes_per_minute: unlimited, batch_input_tokens_per_day: '${N}',"
        " concurrent_requests: {limit: 7, shadow: true}}"
    )
    assert keys_limits(tmp_path, text, N="12").rates == (
        RateLimit("requests_per_minute", 600),
        RateLimit("tokens_per_minute", 1000, 10, True),
        RateLimit("requests_per_day", 0),
        RateLimit("images_per_minute", 3),
        RateLimit("audio_megabytes_per_minute", None),
        RateLimit("batch_input_tokens_per_day", 12),
        RateLimit("concurrent_requests", 7, shadow=True),
    )


def test_the_forms_of_a_budget(tmp_path: Path) -> None:
    text = "{spend: {day: 5, week: '0.000000001', month: {usd: 0.1, shadow: true}, total: unlimited}}"
    assert keys_limits(tmp_path, text).spend == (
        SpendLimit("day", 5_000_000_000),
        SpendLimit("week", 1),
        SpendLimit("month", 100_000_000, True),
        SpendLimit("total", None),
    )
    assert keys_limits(tmp_path, "{spend: {day: '${USD}'}}", USD="7.5").spend == (SpendLimit("day", 7_500_000_000),)
    assert keys_limits(tmp_path, "{spend: {day: 0}}").spend == (SpendLimit("day", 0),)


def test_not_written_is_not_unlimited(tmp_path: Path) -> None:
    assert limit_set(ModelLimits()) == limit_set(SubjectLimits()) == LimitSet()
    expected = f"2: limits.keys.requests_per_minute: expected {WHOLE}, {{limit, burst, shadow}}, or unlimited, got "
    assert complaints(tmp_path, "limits: {keys: {requests_per_minute: null}}") == [expected + "nothing"]
    lines = complaints(tmp_path, "limits: {keys: {requests_per_minute: '${RPM:-}'}}")
    assert lines == [expected + "something else from a variable"], "an empty variable lifts nothing"


@given(st.integers(0, 7_999_999 * 10**9))
def test_money_is_exact_as_number_and_as_text(nano: int) -> None:
    written = f"{Decimal(nano) / 10**9:f}"
    for usd in (written, float(written)):
        settings = convert({"upstreams": {"a": {"base_url": "http://a"}}, "limits": {"keys": {"spend": {"day": usd}}}})
        assert limit_set(settings.limits.keys).spend == (SpendLimit("day", nano),)


@pytest.mark.parametrize("usd", [0.0000000001, 1e-12, "0.1234567891"])
def test_money_that_is_finer_than_nano_dollars(usd: float | str) -> None:
    with pytest.raises(ValueError, match="at most 9 decimals"):
        nano_usd(usd)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("limits: {key: {}}", "2: limits.key: is not a setting; did you mean keys?"),
        ("limits: {keys: {rpm: 3}}", "2: limits.keys.rpm: is not a setting; known are requests_per_minute, "),
        ("limits: {keys: {requests_per_minute: -1}}", f"2: limits.keys.requests_per_minute: expected {WHOLE}, {{limit, burst, shadow}}, or unlimited, got -1"),
        ("limits: {keys: {requests_per_minute: 1.5}}", f"2: limits.keys.requests_per_minute: expected {WHOLE}, {{limit, burst, shadow}}, or unlimited, got 1.5"),
        ("limits: {keys: {requests_per_minute: many}}", f"2: limits.keys.requests_per_minute: expected {WHOLE}, {{limit, burst, shadow}}, or unlimited, got 'many'"),
        ("limits: {keys: {requests_per_minute: {burst: 3}}}", f"2: limits.keys.requests_per_minute.limit: is missing; expected {WHOLE}"),
        ("limits: {keys: {requests_per_minute: {limit: 3, burst: 0}}}", "2: limits.keys.requests_per_minute.burst: expected a whole number from 1 to a trillion, got 0"),
        ("limits: {users: {requests_per_minute: {limit: 3, burst: 4}}}", "2: limits.users.requests_per_minute.burst: expected at most the limit, 3, got 4"),
        ("limits: {keys: {concurrent_requests: {limit: 3, burst: 3}}}", "2: limits.keys.concurrent_requests.burst: is not a setting; known are limit, shadow"),
        ("limits: {keys: {spend: 5}}", "2: limits.keys.spend: expected a mapping, got 5"),
        ("limits: {keys: {spend: {year: 5}}}", "2: limits.keys.spend.year: is not a setting; known are day, week, month, total"),
        ("limits: {keys: {spend: {day: 8_000_000}}}", f"2: limits.keys.spend.day: expected {DOLLARS}, got 8000000"),
        ("limits: {keys: {spend: {day: -1}}}", f"2: limits.keys.spend.day: expected {DOLLARS}, got -1"),
        ("limits: {keys: {spend: {day: '$$5'}}}", f"2: limits.keys.spend.day: expected {DOLLARS}, got something else from a variable"),
        ("limits: {keys: {spend: {day: 0.0000000001}}}", "2: limits.keys.spend.day: expected dollars with at most 9 decimals, got 1e-10"),
        ("limits: {keys: {spend: {day: {usd: 0.0000000001}}}}", "2: limits.keys.spend.day.usd: expected dollars with at most 9 decimals, got 1e-10"),
        ("limits: {unknown_call_usd: 0.0000000001}", "2: limits.unknown_call_usd: expected dollars with at most 9 decimals, got 1e-10"),
        ("limits: {when_redis_is_away: {spend: local}}", "2: limits.when_redis_is_away.spend: expected one of closed, open, got 'local'"),
        ("limits: {reserve: all}", "2: limits.reserve: expected one of adaptive, strict, got 'all'"),
        ("limits: {groups: {a: []}}", "2: limits.groups.a: expected a list of model names, in which * stands for anything, got a list"),
        ("limits: {groups: {a: [gpt-*], b: [o3, gpt-4*]}}", "2: limits.groups.b[1]: stands for models of the group a too; a model is in one group only"),
        ("limits: {groups: {A: [x], a: [y]}}", "2: limits.groups.a: stands for models of the group A too; a model is in one group only"),
        ("limits: {groups: {a: [x], y: ['*A']}}", "2: limits.groups.y[0]: stands for models of the group a too; a model is in one group only"),
        ("limits: {projects: {models: {gpt-*: {}}}}", '2: limits.projects.models.gpt-*: expected a model, a group or "*"; what patterns stand for goes into limits.groups'),
        ("limits: {projects: {models: {gpt: {}, GPT: {}}}}", "2: limits.projects.models.GPT: is the same model as gpt"),
        ("limits: {projects: {models: {gpt: {spend: {}}}}}", "2: limits.projects.models.gpt.spend: is not a setting; known are requests_per_minute, "),
        ("limits: {groups: {g: [GPT-*]}}\nprojects: [{id: proj_a, limits: {models: {gpt-4: {}}}}]", "3: projects[0].limits.models.gpt-4: is in the group g, whose models share their limits; expected g"),
        ("limits: {by_user: {eve: {}}}\nprojects: [{id: proj_a, keys: [" + KEYS + "]}]", "2: limits.by_user.eve: expected the user of a declared key, got 'eve'"),
        ("projects: [{id: proj_a, limits: {keys: {tokens_per_minute: {limit: 1, burst: 2}}}}]", "2: projects[0].limits.keys.tokens_per_minute.burst: expected at most the limit, 1, got 2"),
        ("projects: [{id: proj_a, keys: [{name: k, secret: '1', limits: {spend: {total: 1e-10}}}]}]", "2: projects[0].keys[0].limits.spend.total: expected dollars with at most 9 decimals, got 1e-10"),
        ("limits: {by_user: {ada: {spend: {week: 1e-10}}}}\nprojects: [{id: proj_a, keys: [" + KEYS + "]}]", "2: limits.by_user.ada.spend.week: expected dollars with at most 9 decimals, got 1e-10"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, text: str, expected: str) -> None:
    (line,) = complaints(tmp_path, text)
    assert line == expected or (expected.endswith(", ") and line.startswith(expected))


def test_a_models_limits_may_be_named_like_its_group(tmp_path: Path) -> None:
    load(tmp_path, "limits: {groups: {gpt-6: [gpt-6, gpt-6-*]}, projects: {models: {GPT-6: {}, '*': {}}}}")


@given(st.text("ab*", max_size=7), st.text("ab*", max_size=7))
def test_whether_two_patterns_meet(one: str, other: str) -> None:
    """Against all short names: a shortest common one is never longer than both patterns without their stars."""
    letters = len(one.replace("*", "")) + len(other.replace("*", ""))
    common = any(
        fnmatch.fnmatchcase(name, one) and fnmatch.fnmatchcase(name, other)
        for length in range(min(letters, 9) + 1)
        for name in (
            f"{bits:0{length}b}".replace("0", "a").replace("1", "b")[-length:] if length else ""
            for bits in range(2**length)
        )
    )
    if common or letters <= 9:
        assert _meet(one, other) == common
