"""What is remembered of usage: models, and when keys were used; over both databases."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.control.jobs import seen as module
from gateway.control.jobs.seen import MOST, Seen
from gateway.control.sql.tables import seen_models
from gateway.values import UsageEvent, UsageLine
from tests.fakes.admin_api import AdminApi, admin_api
from tests.fakes.events import AT_US, ORG
from tests.fakes.redis_servers import Server


@pytest.fixture
async def api(valkey: Server, registry_url: str, tmp_path: Path) -> AsyncIterator[AdminApi]:
    projects = [{"id": "proj_a"}, {"id": "proj_b"}]
    async with admin_api(valkey, registry_url, tmp_path, projects=projects) as made:
        yield made


def job_of(api: AdminApi) -> Seen:
    return Seen(ORG, api.database, api.clock)


def called(*models: str, project_id: str = "proj_a", status: int = 200) -> UsageEvent:
    """One call with a line of each model."""
    return UsageEvent(
        id="req_1", at_us=AT_US, organization_id=ORG, project_id=project_id, user_id="u", key_id="k", status=status,
        lines=tuple(UsageLine(request_model=model, response_model="other") for model in models),
    )  # fmt: skip


async def remembered(api: AdminApi) -> list[tuple[str, str]]:
    columns = seen_models.c
    query = select(columns.project_id, columns.model).order_by(columns.project_id, columns.model)
    async with api.database.transaction() as connection:
        return [(project_id, model) for project_id, model in await connection.execute(query)]


async def test_each_model_is_remembered_once(api: AdminApi) -> None:
    job, began = job_of(api), int(api.clock.wall())
    assert await job.note([]) == 0
    some = [called("Own/Llama", "gpt-x"), called("own/llama"), called("gpt-x", project_id="proj_b", status=101)]
    assert await job.note(some) == 3
    api.clock.advance(60)
    assert await job.note([called("gpt-x"), called("gpt-y")]) == 1
    after = job_of(api)
    assert await after.note(some) == 0, "it has read the table"
    assert [await one.note([called("gpt-z")]) for one in (job, after)] == [1, 1], "several may run"
    ours = [("proj_a", model) for model in ("gpt-x", "gpt-y", "gpt-z", "own/llama")]
    assert await remembered(api) == [*ours, ("proj_b", "gpt-x")]
    async with api.database.transaction() as connection:
        first = await connection.scalars(select(seen_models.c.seen_at).where(seen_models.c.model == "gpt-x"))
        assert set(first) == {began}


async def test_what_is_no_model_of_ours(api: AdminApi) -> None:
    key = "sk-gw-test-KEYZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ9"
    none = [
        called("refused", status=404),
        called("never-answered", status=0),
        called(),
        called("gpt-x", project_id="proj_none"),
        called("gpt-x", project_id="proj\0"),
        called("", "a\0b", "a\nb", "\x7f", key, "a" * 201, "\u0130" * 200),
    ]
    assert await job_of(api).note([*none, called("a" * 200, "mod\u00e8le \u2713")]) == 2
    assert await remembered(api) == [("proj_a", "a" * 200), ("proj_a", "mod\u00e8le \u2713")]


async def test_a_project_has_so_many(api: AdminApi) -> None:
    job = job_of(api)
    assert await job.note([called(*(f"m-{n:03}" for n in range(MOST - 2)))]) == MOST - 2
    more = called(*(f"n-{n:03}" for n in range(MOST)))
    assert [await one.note([more]) for one in (job, job_of(api), job)] == [2, 0, 0]
    found = [model for _, model in await remembered(api)]
    assert (len(found), found[-3:]) == (MOST, ["m-497", "n-000", "n-001"])
    assert await job.note([called("n-002", project_id="proj_b")]) == 1, "the others have room"


async def test_what_it_does_not_keep_in_mind_it_finds_in_the_table(
    api: AdminApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KNOWN", 2)
    job = job_of(api)
    assert await job.note([called(f"m-{n}") for n in range(4)]) == 4
    assert await job.note([called("last")]) == 1
    assert await job.note([called("m-0")]) == 0
    assert len(await remembered(api)) == 5


async def test_when_a_key_was_used(api: AdminApi) -> None:
    """To the minute, never back in time, and shown with the key and its user."""
    organization = api.client.admin.organization
    await organization.invites.create(
        email="ada@example.com", role="reader", projects=[{"id": "proj_a", "role": "member"}]
    )
    (ada,) = [user async for user in organization.users.list()]
    path = "/organization/projects/proj_a/api_keys"
    key = (await api.ask("POST", path, {"name": "k", "user_id": ada.id})).body["id"]
    job = job_of(api)

    def used(at_s: int) -> UsageEvent:
        return UsageEvent(
            id=f"req_{at_s}",
            at_us=at_s * 1_000_000,
            organization_id=ORG,
            project_id="proj_a",
            user_id=ada.id,
            key_id=key,
        )

    async def shown() -> list[int | None]:
        one = await organization.projects.api_keys.retrieve(key, project_id="proj_a")
        return [one.last_used_at, (await organization.users.retrieve(ada.id)).api_key_last_used_at]

    assert await shown() == [None, None]
    for at_s, wanted in ((1_000, 1_000), (1_059, 1_000), (1_060, 1_060), (900, 1_060)):
        await job.note([used(at_s)])
        assert await shown() == [wanted, wanted], at_s
    await job_of(api).note([used(1_200), used(1_100)])
    assert await shown() == [1_200, 1_200]
