"""Each error that the gateway causes or passes on is the right exception of the official client, with its code."""

import subprocess
import sys
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI

from tests.compat.conftest import Make
from tests.compat.stand import Gate
from tests.fakes.redis_servers import eventually

HELLO: Any = [{"role": "user", "content": "Hello!"}]
WRONG = "sk-gw-wrong-0000000000000000000000000000"


async def chat(client: AsyncOpenAI, model: str = "gpt-4o", **options: Any) -> Any:
    return await client.chat.completions.create(model=model, messages=HELLO, **options)


async def refused(call: Any, kind: type[openai.APIStatusError], status: int, code: str | None) -> Any:
    """Makes a call that fails → its exception, which is of this very class."""
    with pytest.raises(openai.APIStatusError) as caught:
        await call
    error = caught.value
    assert (type(error), error.status_code, error.code) == (kind, status, code), error.response.text
    body = error.response.json()["error"]
    assert body.keys() == {"message", "type", "param", "code"}
    assert error.request_id is not None
    assert error.request_id.startswith("req_")
    assert error.response.headers["content-type"].startswith("application/json")
    return error


async def test_no_key(client: AsyncOpenAI) -> None:
    call = chat(client, extra_headers={"Authorization": openai.omit})
    error = await refused(call, openai.AuthenticationError, 401, None)
    assert error.message.startswith("Error code: 401 - You didn't provide an API key.")


async def test_a_wrong_key_is_not_shown(make: Make) -> None:
    error = await refused(chat(make(api_key=WRONG)), openai.AuthenticationError, 401, "invalid_api_key")
    assert WRONG not in str(error)
    assert "Incorrect API key provided: sk-gw-wr" in str(error)


async def test_a_revoked_key(make: Make, gate: Gate, half: str) -> None:
    name = f"revoked-{half}"
    client = make(api_key=gate.keys[name])
    await chat(client)
    command = [sys.executable, "-m", "gateway", "keys", "revoke", f"proj_compat/{name}"]
    subprocess.run([*command, "--data-dir", str(gate.gateway.data_dir)], check=True, capture_output=True, timeout=30)

    async def is_refused() -> bool:
        try:
            await chat(client)
        except openai.AuthenticationError as error:
            return error.code == "invalid_api_key"
        return False

    await eventually(is_refused, within_s=1.0)


async def test_unknown_models(client: AsyncOpenAI, make: Make, strict: Gate) -> None:
    await refused(chat(client, "nope"), openai.NotFoundError, 404, "model_not_found")
    await refused(client.models.retrieve("nope"), openai.NotFoundError, 404, "model_not_found")
    error = await refused(chat(make(base_url=strict.base_url), "nope"), openai.NotFoundError, 404, "model_not_found")
    assert error.param == "model"


async def test_bad_requests_name_the_parameter(client: AsyncOpenAI) -> None:
    error = await refused(chat(client, n=1000), openai.BadRequestError, 400, "integer_above_max_value")
    assert error.param == "n"
    twice = b'{"model": "gpt-4o", "model": "gpt-4o-mini", "messages": []}'
    kind = {"content-type": "application/json"}
    raw = client.post("/chat/completions", content=twice, options={"headers": kind}, cast_to=httpx2.Response)
    error = await refused(raw, openai.BadRequestError, 400, "duplicate_member")
    assert error.param == "model"
    raw = client.post("/chat/completions", content=b"{nonsense", options={"headers": kind}, cast_to=httpx2.Response)
    await refused(raw, openai.BadRequestError, 400, None)


async def test_what_is_not_there(client: AsyncOpenAI, make: Make, strict: Gate) -> None:
    await refused(client.files.retrieve("file-unknown"), openai.NotFoundError, 404, None)
    await refused(client.get("/something/new", cast_to=object), openai.NotFoundError, 404, None)
    here = make(base_url=strict.base_url)
    error = await refused(here.get("/something/new", cast_to=object), openai.NotFoundError, 404, None)
    assert "Invalid URL (GET /v1/something/new)" in error.message


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_ways_around_the_meter_are_refused_unless_allowed(make: Make, strict: Gate) -> None:
    call = make(base_url=strict.base_url).beta.realtime.sessions.create(model="gpt-4o-realtime-preview")
    error = await refused(call, openai.PermissionDeniedError, 403, "operation_not_allowed")
    assert "allow_unmetered" in error.message


async def test_what_is_too_large_or_unreadable(client: AsyncOpenAI, make: Make, strict: Gate) -> None:
    large = chat(make(base_url=strict.base_url), user="x" * (2 << 20))
    await refused(large, openai.APIStatusError, 413, "request_too_large")
    await refused(
        chat(client, extra_headers={"content-encoding": "br"}),
        openai.APIStatusError, 415, "unsupported_content_encoding",
    )  # fmt: skip
    await refused(
        chat(client, extra_headers={"content-encoding": "gzip"}),
        openai.BadRequestError, 400, "invalid_content_encoding",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("400", openai.BadRequestError, None),
        ("403", openai.PermissionDeniedError, None),
        ("404", openai.NotFoundError, None),
        ("408", openai.APIStatusError, None),
        ("409", openai.ConflictError, None),
        ("422", openai.UnprocessableEntityError, None),
        ("429", openai.RateLimitError, "rate_limit_exceeded"),
        ("500", openai.InternalServerError, None),
        ("503", openai.InternalServerError, "server_is_overloaded"),
        ("599", openai.InternalServerError, None),
    ],
)
async def test_what_the_upstream_refuses(client: AsyncOpenAI, fault: str, kind: Any, code: str | None) -> None:
    error = await refused(chat(client, f"gpt-4o+{fault}"), kind, int(fault), code)
    assert error.response.headers.get("retry-after") == ("1" if fault in {"429", "503"} else None)
    await refused(chat(client, f"gpt-4o+{fault}", stream=True), kind, int(fault), code)


async def test_the_upstreams_own_key_is_never_the_clients_fault(client: AsyncOpenAI) -> None:
    """What an upstream says about our key there is passed on as it is: it shows nothing of it."""
    error = await refused(chat(client, "gpt-4o+401"), openai.AuthenticationError, 401, "invalid_api_key")
    assert "sk-upstream" not in str(error)


@pytest.mark.parametrize(
    ("fault", "code"),
    [("cut_head", "upstream_cut"), ("malformed", "upstream_malformed")],
)
async def test_an_upstream_that_breaks_before_its_answer(client: AsyncOpenAI, fault: str, code: str) -> None:
    await refused(chat(client, f"gpt-4o+{fault}"), openai.InternalServerError, 502, code)
    await refused(chat(client, f"gpt-4o+{fault}", stream=True), openai.InternalServerError, 502, code)


async def test_an_upstream_that_is_not_there(make: Make, strict: Gate) -> None:
    client = make(base_url=strict.base_url)
    await refused(chat(client, "refused-1"), openai.InternalServerError, 502, "upstream_unreachable")
    answer = await chat(client, "fallback-1")  # the next upstream of the route has it, under another name
    assert answer.model.startswith("gpt-4o-mini-")


async def test_an_upstream_that_is_too_slow(make: Make, strict: Gate) -> None:
    client = make(base_url=strict.base_url)
    await refused(chat(client, "gpt-4o+delay=60s"), openai.InternalServerError, 504, "upstream_timeout")


async def test_a_refusal_while_a_large_body_comes(make: Make) -> None:
    """The answer arrives although the client has not finished sending."""
    call = make(api_key=WRONG).files.create(file=("big", bytes(24 << 20)), purpose="user_data")
    await refused(call, openai.AuthenticationError, 401, "invalid_api_key")
