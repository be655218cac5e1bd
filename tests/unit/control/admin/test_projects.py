"""Projects, by the official client and by plain HTTP."""

import pytest

from tests.fakes.admin_api import AdminApi


async def test_the_life_of_a_project(api: AdminApi) -> None:
    projects = api.client.admin.organization.projects
    made = await projects.create(name="Chat")
    assert (made.name, made.status, made.archived_at, made.created_at) == ("Chat", "active", None, 1_800_000_000)
    assert made.id.startswith("proj_")
    assert await projects.retrieve(made.id) == made
    assert (await projects.update(made.id, name="Talk")).name == "Talk"
    api.clock.advance(5)
    archived = await projects.archive(made.id)
    assert (archived.status, archived.archived_at, archived.name) == ("archived", 1_800_000_005, "Talk")
    assert await projects.archive(made.id) == archived, "again changes nothing"
    assert [one.id async for one in projects.list()] == []
    assert [one.id async for one in projects.list(include_archived=True)] == [made.id]


async def test_pages(api: AdminApi) -> None:
    projects = api.client.admin.organization.projects
    made = []
    for number in range(7):
        api.clock.advance(1)
        made.append((await projects.create(name=f"P{number}")).id)
    assert [one.id async for one in projects.list(limit=3)] == made
    first = await api.ask("GET", "/organization/projects?limit=3")
    assert (first.body["first_id"], first.body["last_id"], first.body["next"]) == (made[0], made[2], made[2])
    assert (first.body["object"], first.body["has_more"]) == ("list", True)
    last = await api.ask("GET", f"/organization/projects?limit=100&after={made[5]}")
    assert ([one["id"] for one in last.body["data"]], last.body["has_more"], last.body["next"]) == (
        made[6:],
        False,
        None,
    )
    descending = await api.ask("GET", f"/organization/projects?order=desc&limit=2&after={made[5]}")
    assert [one["id"] for one in descending.body["data"]] == [made[4], made[3]]


@pytest.mark.parametrize(
    ("method", "path", "body", "error"),
    [
        ("POST", "", {}, (400, "missing_required_parameter", "name")),
        ("POST", "", {"name": ""}, (400, "invalid_value", "name")),
        ("POST", "", {"name": 5}, (400, "invalid_value", "name")),
        ("POST", "", {"name": "a\0b"}, (400, "invalid_value", "name")),
        ("POST", "", {"name": "a", "nmae": "b"}, (400, "unknown_parameter", "nmae")),
        ("POST", "", {"name": "a", "residency": "EU_STORAGE_PROCESSING"}, (400, "invalid_value", "residency")),
        ("POST", "", b'{"name":', (400, None, None)),
        ("POST", "", b"[]", (400, None, None)),
        ("GET", "?limit=0", None, (400, "invalid_value", "limit")),
        ("GET", "?limit=101", None, (400, "invalid_value", "limit")),
        ("GET", "?limit=x", None, (400, "invalid_value", "limit")),
        ("GET", "?limit=1&limit=2", None, (400, "invalid_value", "limit")),
        ("GET", "?after=proj_none", None, (400, "invalid_value", "after")),
        ("GET", "?limt=3", None, (400, "unknown_parameter", "limt")),
        ("GET", "/proj_none", None, (404, "not_found", None)),
        ("GET", "/a%00b", None, (404, "not_found", None)),
        ("DELETE", "", None, (405, "method_not_supported", None)),
    ],
)
async def test_mistakes(api: AdminApi, method: str, path: str, body: object, error: tuple[int, str, str]) -> None:
    assert (await api.ask(method, "/organization/projects" + path, body)).error == error


@pytest.mark.parametrize("query", ["limit=1&limit[x]=2", "limit[x]=2&limit=1", "limit[x]=1", "after[]=a"])
async def test_a_parameter_in_two_spellings(api: AdminApi, query: str) -> None:
    assert (await api.ask("GET", f"/organization/projects?{query}")).status == 400
