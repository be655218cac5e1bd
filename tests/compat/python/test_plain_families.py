"""Families for which the simulator only has plausible objects: every method that the client has for them."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.compat.conftest import Make
from tests.compat.exceptions import NO_CALL, NOT_THERE
from tests.compat.made_up import made_up
from tests.compat.methods import Method, Tags

FAMILIES = (
    "audio.voice_consents", "audio.voices", "beta.agents", "beta.chatkit", "content_provenance_checks",
    "fine_tuning.alpha", "fine_tuning.checkpoints", "safety", "skills", "webhooks",
)  # fmt: skip
APART = {  # they are more than a call with arguments: each has a test below
    "beta.agents.environments.files.prepare", "beta.agents.environments.files.prepare_directory",
    "beta.agents.sessions.stream",
}  # fmt: skip


def needed(path: str) -> dict[str, Any]:
    """What the signatures do not say that a method needs."""
    found: dict[str, dict[str, Any]] = {
        "audio.voices.create": {"type": "prompt", "prompt": "A calm voice"},
        "beta.agents.create": {"model": "gpt-4o"},
        "beta.agents.automations.create": {"expression": "0 9 * * *", "timezone": "Europe/Oslo"},
        "beta.agents.environments.files.create": {"file_id": "file-1"},
        "beta.agents.environments.files.upload": {"path": "/workspace/data.txt"},
    }
    return found.get(path, {})


def order(method: Method) -> tuple[int, int]:
    """What makes objects comes first, from the top down; what deletes them last, from the bottom up."""
    depth = method.path.count(".")
    return {"create": (0, depth), "delete": (2, -depth)}.get(method.name, (1, depth))


def own_id(methods: Mapping[str, Method], maker: Method) -> str:
    """How the methods beside the one that makes an object call its id."""
    beside = maker.path.rpartition(".")[0]
    one = methods.get(f"{beside}.delete") or methods.get(f"{beside}.retrieve")
    return next(iter(made_up(one))) if one is not None else "?"


async def call(client: AsyncOpenAI, method: Method, known: Mapping[str, Any]) -> Any:
    function: Any = functools.reduce(getattr, method.path.split("."), client)
    return await function(**(made_up(method, known) | needed(method.path)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("family", FAMILIES)
async def test_every_method_of_a_family(make: Make, tags: dict[str, Tags], half: str, family: str) -> None:
    client = make(_strict_response_validation=False)
    methods = {
        path: method
        for path, method in tags[half].methods.items()
        if f"{path}.".startswith(f"{family}.") and path not in APART and path not in NO_CALL
    }
    known: dict[str, str] = {}
    not_there = set()
    for method in sorted(methods.values(), key=order):
        try:
            answer = await call(client, method, known)
        except openai.NotFoundError:
            not_there.add(method.path)
        else:
            if method.name == "create" and getattr(answer, "id", None):
                known[own_id(methods, method)] = answer.id
    assert not_there == {path for path in methods if path in NOT_THERE}


async def test_files_for_agents(make: Make, tmp_path: Path) -> None:
    """They go up as ordinary files."""
    client = make(_strict_response_validation=False)
    (tmp_path / "one.txt").write_text("One")
    files = client.beta.agents.environments.files
    await files.prepare({"/workspace/one.txt": tmp_path / "one.txt"})
    await files.prepare_directory(tmp_path, destination="/workspace", include=["*.txt"])
    kept = (await client.files.list(purpose="user_data", limit=2)).data
    assert [file.filename for file in kept] == ["one.txt", "one.txt"]


async def test_a_session_of_an_agent_is_followed(make: Make) -> None:
    """The simulator has no events of agents, which the client's helper finds out after it has begun to listen."""
    client = make(_strict_response_validation=False)
    session = await client.beta.agents.sessions.create(environment={"type": "none"}, extra_body={"status": "idle"})
    with pytest.raises(RuntimeError, match="ended before"):
        async with client.beta.agents.sessions.stream(session.id, input="Hello!") as stream:
            assert [event async for event in stream] == []
