"""The administrative operations, all 143 that the client has: they reach the control process and nothing else.

What each of them does is tested beside it; here it matters that all get there, answer admin keys alone, in OpenAI's
shape, and once.
"""

import functools
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.compat.conftest import Make, Served
from tests.compat.described import OLDEST, administrative
from tests.compat.made_up import made_up
from tests.compat.methods import Method, methods
from tests.compat.stand import ADMIN_KEY, Gate

# API keys may ask which limits hold for them, and what they have used.
OF_ITSELF = ("admin.organization.spend_limit.retrieve", "admin.organization.usage.")


async def call(client: AsyncOpenAI, method: Method) -> None:
    arguments = made_up(method)
    if method.path.endswith("external_keys.create"):  # its signature does not say what goes with a type
        arguments |= {"external_id": "e", "kms_arn": "arn:aws:kms:one", "role_arn": "arn:aws:iam:one"}
    function: Any = functools.reduce(getattr, method.path.split("."), client)
    await function(**arguments)


@pytest.fixture(scope="module")
def every_method() -> list[Method]:
    with OpenAI(api_key="none", admin_api_key="none") as client:
        return list(methods(client.admin, "admin"))


async def refusal(client: AsyncOpenAI, method: Method) -> openai.APIStatusError | None:
    """What a call ends with; None if all is well."""
    try:
        await call(client, method)
    except openai.APIStatusError as error:
        return error
    return None


async def test_every_operation_is_answered_by_the_control_process(make: Make, every_method: list[Method]) -> None:
    client = make(max_retries=2)
    for method in every_method:
        error = await refusal(client, method)
        if error is not None:
            assert 400 <= error.status_code < 500, method.path
            assert error.type == "invalid_request_error", method.path
            assert error.request_id, method.path
            assert error.request.headers["x-stainless-retry-count"] == "0", f"{method.path} was retried"
    assert len(administrative(OLDEST)) == 41


async def test_an_api_key_opens_none_of_them(make: Make, gate: Gate, half: str, every_method: list[Method]) -> None:
    client = make(admin_api_key=gate.keys[half])
    for method in every_method:
        if method.path.startswith(OF_ITSELF):
            continue
        error = await refusal(client, method)
        assert error is not None, method.path
        assert (error.status_code, error.code) == (401, "insufficient_permissions"), method.path


async def test_an_admin_key_opens_nothing_else(make: Make) -> None:
    client = make(api_key=ADMIN_KEY)
    with pytest.raises(openai.AuthenticationError) as caught:
        await client.models.list()
    assert caught.value.code == "invalid_api_key"
    assert ADMIN_KEY not in str(caught.value)


@pytest.mark.parametrize("path", ["/organization/something/new", "/projects/p_1/something", "/organization"])
async def test_unknown_administrative_paths_stay_here_too(make: Make, served: Served, path: str) -> None:
    client = make(api_key=ADMIN_KEY)
    with pytest.raises(openai.NotFoundError):
        await client.get(path, cast_to=object)
    assert not [record for record in await served() if record.path.endswith(path)]
