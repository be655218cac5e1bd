"""Refusals as OpenAI words them, and durations as Go writes them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import CONCURRENT, Applied, RateLimit, Scope, SpendLimit, Window
from gateway.proxy.admission.refusal import go_duration, refusal
from gateway.values import Taking

_PARTS = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)(?:\.(\d{1,3}))?s)?(?:(\d+)ms)?")
CODEX = re.compile(r"(?i)try again in\s*(\d+(?:\.\d+)?)\s*(s|ms|seconds?)")
ORG = "org-1"


@pytest.mark.parametrize(
    ("us", "written"),
    [
        (0, "0s"), (999, "0s"), (2_640, "2ms"), (20_000, "20ms"), (180_000, "180ms"), (1_000_000, "1s"),
        (8_640_000, "8.64s"), (59_999_999, "59.999s"), (360_000_000, "6m0s"), (692_334_000, "11m32.334s"),
        (1_396_298_000, "23m16.298s"), (3_600_500_000, "1h0m0.5s"), (86_400_000_000, "24h0m0s"), (-5, "0s"),
    ],
)  # fmt: skip
def test_durations_as_openai_writes_them(us: int, written: str) -> None:
    assert go_duration(us) == written


def read_back(text: str) -> int:
    """In milliseconds, as Go reads it."""
    found = _PARTS.fullmatch(text)
    assert found, text
    hours, minutes, seconds, decimals, ms = found.groups()
    assert (ms is None) or (hours, minutes, seconds) == (None, None, None), "Go has a unit of its own below a second"
    whole = (int(hours or 0) * 60 + int(minutes or 0)) * 60 + int(seconds or 0)
    return whole * 1000 + int((decimals or "").ljust(3, "0")) + int(ms or 0)


@given(st.integers(0, 100 * 3600 * 1_000_000))
def test_a_duration_can_be_read_back(us: int) -> None:
    written = go_duration(us)
    assert read_back(written) == us // 1000
    assert not re.search(r"\.\d*0s$", written), "Go writes no zeros at the end"


def said(
    kind: str,
    taking: Taking,
    used: int,
    wait_us: int | None,
    *,
    limit: int = 100,
    scope: Scope = "organization",
    subject: str = ORG,
    model: str = "gpt-4o",
) -> tuple[str, str, dict[bytes, bytes]]:
    error = refusal(Applied(scope, subject, RateLimit(kind, limit)), ORG, model, taking, used, wait_us)
    assert (error.kind.status, error.kind.code) == (429, "rate_limit_exceeded")
    return (
        error.message.removesuffix(" Visit https://platform.openai.com/account/rate-limits to learn more."),
        (error.kind.type),
        dict(error.headers()),
    )


def test_requests_per_minute() -> None:
    assert said("requests_per_minute", Taking(), 3, 20_000_000, limit=3) == (
        (
            "Rate limit reached for gpt-4o in organization org-1 on requests per min (RPM): Limit 3, Used 3, Requested 1. "
            "Please try again in 20s."
        ),
        "requests",
        {b"retry-after": b"20", b"retry-after-ms": b"20000"},
    )


def test_tokens_per_minute() -> None:
    taking = Taking(tokens=11159)
    assert said("tokens_per_minute", taking, 18928, 173_201, limit=30000, model="gpt-4.1") == (
        (
            "Rate limit reached for gpt-4.1 in organization org-1 on tokens per min (TPM): Limit 30000, Used 18928, "
            "Requested 11159. Please try again in 174ms."
        ),
        "tokens",
        {b"retry-after": b"1", b"retry-after-ms": b"174"},
    )


def test_more_tokens_than_the_limit() -> None:
    assert said("tokens_per_minute", Taking(tokens=30601), 5, None, limit=30000) == (
        (
            "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Requested 30601. "
            "The input or output tokens must be reduced in order to run successfully."
        ),
        "tokens",
        {b"x-should-retry": b"false"},
    )


@pytest.mark.parametrize(
    ("kind", "taking", "limit", "words", "requested"),
    [
        ("requests_per_minute", Taking(), 0, "requests per min (RPM)", "1"),
        ("images_per_minute", Taking(images=11), 10, "images per min (IPM)", "11"),
        ("audio_megabytes_per_minute", Taking(audio_bytes=2_500_000), 2, "audio megabytes per min", "2.5"),
        (CONCURRENT, Taking(), 0, "concurrent requests", "1"),
    ],
)
def test_what_will_never_pass_and_has_no_tokens(
    kind: str, taking: Taking, limit: int, words: str, requested: str
) -> None:
    assert said(kind, taking, 0, None, limit=limit) == (
        f"Request too large for gpt-4o in organization org-1 on {words}: Limit {limit}, Requested {requested}.",
        "requests",
        {b"x-should-retry": b"false"},
    )


def test_what_runs_at_a_time() -> None:
    message, kind, headers = said(CONCURRENT, Taking(), 100, 0, scope="key", subject="key_9")
    assert message == (
        "Rate limit reached for gpt-4o in key key_9 organization org-1 on concurrent requests: Limit 100, Used 100, "
        "Requested 1. Please try again in 1s."
    )
    assert (kind, headers) == ("requests", {b"retry-after": b"1", b"retry-after-ms": b"1000"})


@pytest.mark.parametrize(
    ("kind", "taking", "used", "counted"),
    [
        ("images_per_minute", Taking(images=4), 98, "images per min (IPM): Limit 100, Used 98, Requested 4"),
        (
            "audio_megabytes_per_minute",
            Taking(audio_bytes=1_250_000),
            99_000_001,
            "audio megabytes per min: Limit 100, Used 99, Requested 1.25",
        ),
        ("requests_per_day", Taking(), 100, "requests per day (RPD): Limit 100, Used 100, Requested 1"),
    ],
)
def test_other_units(kind: str, taking: Taking, used: int, counted: str) -> None:
    message, of, _ = said(kind, taking, used, 864_000_000, scope="project_model", subject="proj_1", model="")
    assert (of, message) == (
        "requests",
        (
            f"Rate limit reached for default in project proj_1 organization org-1 on {counted}. "
            "Please try again in 14m24s."
        ),
    )


def test_batch_tokens_are_tokens() -> None:
    assert said("batch_input_tokens_per_day", Taking(batch_tokens=5), 99, 1000)[1] == "tokens"


SPENDS: list[tuple[Scope, Window, str, str]] = [
    ("organization", "month", "organization_spend_limit_exceeded", "monthly spend limit of organization org-1"),
    ("project", "day", "project_spend_limit_exceeded", "daily spend limit of project x organization org-1"),
    ("user", "week", "user_spend_limit_exceeded", "weekly spend limit of user x organization org-1"),
    ("key", "total", "key_spend_limit_exceeded", "total spend limit of key x organization org-1"),
]


@pytest.mark.parametrize(("scope", "window", "code", "words"), SPENDS)
def test_spend(scope: Scope, window: Window, code: str, words: str) -> None:
    applied = Applied(scope, "x", SpendLimit(window, 5_000_000_000))
    error = refusal(applied, ORG, "gpt-4o", Taking(nano_usd=1_234_567), 4_999_000_000, None)
    assert (error.kind.status, error.kind.type, error.kind.code) == (429, "insufficient_quota", code)
    assert error.headers() == [(b"x-should-retry", b"false")], "nothing to wait for"
    assert error.message.startswith("You exceeded your current quota, please check your plan and billing details: ")
    assert error.message.endswith(
        f"the {words} is $5.00, of which $4.999 is spent or reserved, and this request may cost $0.001234567."
    )


@given(st.integers(1, 59_998_999))
def test_nobody_is_told_to_come_too_early(wait_us: int) -> None:
    """Codex reads the wait out of the message, other clients out of the headers."""
    message, _, headers = said("tokens_per_minute", Taking(tokens=1), 100, wait_us)
    found = CODEX.search(message)
    assert found
    told_us = float(found[1]) * (1000 if found[2] == "ms" else 1_000_000)
    assert wait_us <= round(told_us) < wait_us + 1000
    assert int(headers[b"retry-after-ms"]) * 1000 == round(told_us)
    assert int(headers[b"retry-after"]) * 1_000_000 >= wait_us
    assert int(headers[b"retry-after"]) >= 1
