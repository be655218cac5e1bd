"""The life of each of Terraform's resources, with the requests that OpenAI's provider makes."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest

from tests.compat.stand import Gate
from tests.compat.surroundings import filled, surroundings
from tests.compat.terraform import Provider, Resource, resources


@pytest.fixture
async def provider(gate: Gate) -> AsyncIterator[Provider]:
    async with aiohttp.ClientSession() as session:
        yield Provider(gate.base_url, session)


def at(answer: Any, path: str) -> Any:
    """What an answer, or a body, has there: for the provider null and nothing are the same."""
    for name in path.split("."):
        answer = answer.get(name) if isinstance(answer, Mapping) else None
    return answer


def state_of(resource: Resource, answer: Any) -> dict[str, Any]:
    return {path: at(answer, path) for path in (field.partition("=")[0] for field in resource.state)}


def check_planned(resource: Resource, body: Any, state: Mapping[str, Any]) -> None:
    """Terraform ends with an error if what was applied is not what was planned."""
    for field in resource.state:
        path, _, planned = field.partition("=")
        root, *_ = (planned or path).split(".")
        if root in body:
            assert state[path] == at(body, planned or path), path


@pytest.mark.parametrize("resource", resources(), ids=lambda one: one.name)
async def test_terraform(provider: Provider, resource: Resource) -> None:
    known = await surroundings(provider, resource.needs())
    body = filled(resource.body, known)
    status, made = await provider.request("POST", filled(resource.all, known), body)
    assert status == 200, made
    known["id"] = str(made.get(resource.by) or made.get("id", ""))
    state = state_of(resource, made)
    check_planned(resource, body, state)

    async def plan_is_empty() -> None:
        """Reading, for a plan or an import, finds what is in the state."""
        status, there = await provider.read(resource, known)
        assert status == 200, there
        assert state_of(resource, there) == state

    await plan_is_empty()
    if resource.change is not None:
        body = filled(resource.change, known)
        status, changed = await provider.request("POST", filled(resource.one, known), body)
        assert status == 200, changed
        state = state_of(resource, changed)
        check_planned(resource, body, state)
        await plan_is_empty()
    if resource.destroy is not None:
        method, more = resource.destroy
        status, ended = await provider.request(method, filled(resource.one, known) + more)
        assert status == 200, ended
    status, left = await provider.read(resource, known)
    if resource.left is None:
        assert status == 404, left
        assert (await provider.request("DELETE", filled(resource.one, known)))[0] == 404, "gone already: no mistake"
    else:
        assert status == 200, left
        assert {name: left[name] for name in resource.left} == resource.left
