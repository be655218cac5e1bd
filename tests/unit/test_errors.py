"""The table of errors: each row as OpenAI's clients understand it, and no client's text that breaks the form."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import errors
from gateway.errors import ErrorKind, Fault, GatewayError, without_keys

ROWS = [row for row in vars(errors).values() if isinstance(row, ErrorKind)]
WORDS: dict[str, Any] = dict.fromkeys((
    "key", "method", "path", "model", "reason", "limit", "encoding", "where", "words", "used", "requested", "wait", "window",
    "what", "id", "scope", "project", "tool", "days",
), "x")  # fmt: skip

# openai-wire.md 3.2, of what a gateway can cause: status, type, code
OPENAIS = {
    "no_api_key": (401, "invalid_request_error", None), "incorrect_api_key": (401, "invalid_request_error", "invalid_api_key"),
    "invalid_url": (404, "invalid_request_error", None), "model_not_found": (404, "invalid_request_error", "model_not_found"),
    "model_denied": (403, "invalid_request_error", "model_not_found"), "tier_denied": (400, "invalid_request_error", None),
    "requests_limited": (429, "requests", "rate_limit_exceeded"), "tokens_limited": (429, "tokens", "rate_limit_exceeded"),
    "request_too_large": (429, "tokens", "rate_limit_exceeded"),
    "project_spend_limited": (429, "insufficient_quota", "project_spend_limit_exceeded"),
    "organization_spend_limited": (429, "insufficient_quota", "organization_spend_limit_exceeded"),
    "internal": (500, "server_error", None), "overloaded": (503, "service_unavailable_error", "server_is_overloaded"),
}  # fmt: skip
STATUSES = {
    "body_too_large": 413, "headers_too_large": 431, "request_timeout": 408, "upstream_timeout": 504, "upstream_unreachable": 502,
    "upstream_cut": 502, "upstream_malformed": 502, "draining": 503, "keys_unavailable": 503, "admin_unavailable": 503,
    "unsupported_encoding": 415, "unmetered_operation": 403, "method_not_allowed": 405,
}  # fmt: skip
RETRIED = {408, 409, 429, 500, 502, 503, 504}  # by the official SDKs, unless x-should-retry says otherwise


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_row(row: ErrorKind) -> None:
    error = GatewayError(row, param="p", **WORDS)
    body = json.loads(error.json())
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["param"] == "p"
    assert "{" not in body["error"]["message"]
    assert 400 <= row.status <= 599
    assert (row.status < 500) == (row.fault is Fault.DOWNSTREAM)
    headers = dict(error.headers())
    assert (b"www-authenticate" in headers) == (row.status == 401)
    if row.status == 503:
        assert int(headers[b"retry-after"]) >= 1
    if row.retry is None and row.status != 429:  # a rate limit passes, and says when
        assert (row.status in RETRIED) == (row.fault is not Fault.DOWNSTREAM or row.name == "request_timeout")


def test_names_are_unique() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("name", OPENAIS)
def test_as_openai_says_it(name: str) -> None:
    row = next(row for row in ROWS if row.name == name)
    assert (row.status, row.type, row.code) == OPENAIS[name]


@pytest.mark.parametrize("name", STATUSES)
def test_the_other_statuses(name: str) -> None:
    assert next(row for row in ROWS if row.name == name).status == STATUSES[name]


@given(st.text(), st.text())
def test_any_text_of_a_client_stays_inside_its_string(path: str, method: str) -> None:
    error = GatewayError(errors.INVALID_URL, method=method, path=path)
    assert set(json.loads(error.json())["error"]) == {"message", "type", "param", "code"}
    assert GatewayError(errors.INVALID_URL, method="{path}", path="{0.kind}").message == "Invalid URL ({path} {0.kind})"


def test_bytes_that_are_no_text() -> None:
    error = GatewayError(errors.INVALID_URL, method="GET", path="/v1/\udcff")
    assert json.loads(error.json())["error"]["message"] == "Invalid URL (GET /v1/?)"


@given(st.text(), st.from_regex(r"sk-[A-Za-z0-9_-]{8,60}", fullmatch=True), st.text())
def test_what_looks_like_a_key_is_never_said(before: str, key: str, after: str) -> None:
    assert key not in without_keys(before + key + after)
    assert key not in GatewayError(errors.MODEL_NOT_FOUND, model=before + key + after).message
