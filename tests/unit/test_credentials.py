"""Where keys are looked for, and how little of a wrong one is shown."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.credentials import digest, incorrect, read_key, redacted
from gateway.errors import INCORRECT_API_KEY, NO_API_KEY, GatewayError

KEY = "sk-gw-abcdefghijklmnopqrstuvwxyz0123456789ABCDEF"


def basic(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}, {"AUTHORIZATION": f" BEARER   {KEY} "},
        {"Authorization": f"Basic {basic(':' + KEY)}"}, {"Authorization": f"basic {basic('anyone:' + KEY)}"}, {"api-key": KEY},
        {"API-Key": f" {KEY} "}, {"Authorization": "Bearer ", "api-key": KEY}, {"Authorization": "Digest x", "api-key": KEY},
        {"Authorization": f"Bearer {KEY}", "api-key": "another"},
    ],
)  # fmt: skip
def test_found(headers: dict[str, str]) -> None:
    assert read_key(CIMultiDict(headers)) == KEY


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "}, {"Authorization": KEY}, {"api-key": " "},
        {"Authorization": f"Digest {KEY}"}, {"Authorization": "Basic !!!"}, {"Authorization": f"Basic {basic(KEY)}"},
        {"Authorization": f"Basic {basic(KEY + ':')}"}, {"Authorization": "Basic \udcff"}, {"Authorization": "Basic /w=="},
        {"Sec-WebSocket-Protocol": f"openai-insecure-api-key.{KEY}"}, {"x-api-key": KEY},
    ],
)  # fmt: skip
def test_none(headers: dict[str, str]) -> None:
    with pytest.raises(GatewayError) as caught:
        read_key(CIMultiDict(headers))
    assert caught.value.kind is NO_API_KEY
    assert KEY not in caught.value.message


@pytest.mark.parametrize(
    "value", [f"realtime, openai-insecure-api-key.{KEY}", f"openai-insecure-api-key.{KEY},openai-beta.realtime-v1"]
)
def test_among_a_sockets_subprotocols(value: str) -> None:
    assert read_key(CIMultiDict({"Sec-WebSocket-Protocol": value}), websocket=True) == KEY
    headers = CIMultiDict({"Sec-WebSocket-Protocol": value, "Authorization": "Bearer first"})
    assert read_key(headers, websocket=True) == "first"


@pytest.mark.parametrize("key", ["kéy", "key\udcff", "k" * 20_000])
def test_what_cannot_be_a_key(key: str) -> None:
    with pytest.raises(GatewayError) as caught:
        read_key(CIMultiDict({"api-key": key}))
    assert caught.value.kind is INCORRECT_API_KEY
    assert len(caught.value.message) < 300


def test_keys_are_looked_up_by_their_sha_256() -> None:
    assert digest(KEY) == hashlib.sha256(KEY.encode()).digest()


def test_a_wrong_key_is_shown_as_openai_does() -> None:
    assert redacted(KEY) == "sk-gw-ab" + "*" * 36 + "CDEF"
    assert redacted("sk-gw-" + "x" * 500).count("*") == 40
    assert "sk-gw-ab*" in incorrect(KEY).message


@given(st.text(max_size=100))
def test_most_of_a_wrong_key_is_hidden(key: str) -> None:
    shown = redacted(key)
    assert len(shown) - shown.count("*") <= len(key) / 2
    if len(key) >= 12:
        assert key not in shown
