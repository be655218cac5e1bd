"""Schemathesis makes requests from OpenAI's API descriptions, right and wrong ones, for each administrative operation that
is served: none of the answers is a 5xx, and each whose status is described is as described.

Needs the descriptions, beside the project or where GATEWAY_DESCRIPTIONS says; is skipped without.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import requests
import schemathesis.openapi
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from structlog.testing import capture_logs

from gateway.control.admin import not_served
from gateway.control.admin.nouns import all_routes
from gateway.control.admin.routes import Routes
from gateway.redisdb.client import connect
from tests.compat.corrected import FOLDER, described
from tests.compat.surroundings import Plain, filled, names_in, recipes, surroundings
from tests.fakes.admin_api import ADMIN_KEY, AdminApi, admin_api
from tests.fakes.ledger import Ledger
from tests.fakes.measuring import Measured, Size
from tests.fakes.raw_usage import DAY_S, NOW, made_up
from tests.fakes.redis_servers import Server

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]
HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
TIMED = ("/organization/usage/", "/organization/costs")
ONES = {"user_id": "user", "group_id": "group", "role_id": "role", "alert_id": "alert", "project_id": "project",
        "service_account_id": "account", "api_key_id": "api_key", "key_id": "api_key", "invite_id": "invite"}  # fmt: skip


def names_of(path: str) -> dict[str, str]:
    """What the ids of a path are to be, by their names: what surroundings makes."""
    named = {name: one for name, one in ONES.items() if f"{{{name}}}" in path}
    if "/admin_api_keys/" in path:
        named["key_id"] = "admin_key"
    if "project_id" in named:
        within = {
            "alert_id": "project_alert",
            "user_id": "member",
            "group_id": "project_group",
            "role_id": "project_role",
        }
        named |= {name: one for name, one in within.items() if name in named}
    return named


def besides(path: str) -> set[str]:
    """What else has to be there for an answer other than 404."""
    project = "project_" if path.startswith("/projects/") else ""
    return {
        name
        for end, name in (
            ("/groups/{group_id}/users/{user_id}", "grouped"),
            ("/users/{user_id}/roles/{role_id}", f"{project}user_role"),
            ("/groups/{group_id}/roles/{role_id}", f"{project}group_role"),
            ("/model_permissions", "permitted"),
            ("/organization/spend_limit", "limit"),
            ("/projects/{project_id}/spend_limit", "project_limit"),
        )
        if path.endswith(end)
    }


def shape(path: str) -> str:
    """A path without the names of its ids."""
    return re.sub(r"\{\w+\}", "{}", path)


class Right(msgspec.Struct, frozen=True):
    """What is right for an operation: ids that are there, a body, if we know one, and what it cannot do without."""

    ids: dict[str, str]
    body: Any
    query: dict[str, Any]


async def right_for(api: AdminApi, path: str) -> Right:
    named = names_of(path)
    made = [one for one in recipes().values() if shape(path) in {shape(one.path), f"{shape(one.path)}/{{}}"}]
    body = made[0].body if made else None
    async with aiohttp.ClientSession() as session:
        needs = {*named.values(), *besides(path), *names_in(body)}
        known = await surroundings(Plain(api.url, session, ADMIN_KEY), needs)
    known["fresh"] += "x"  # what was made has had the other
    fixed = {"rate_limit_id": "rl-gpt-4o-mini"} if "{rate_limit_id}" in path else {}
    query = {"start_time": NOW - 5 * DAY_S, "group_by": ["project_id"]} if path.startswith(TIMED) else {}
    return Right({name: known[one] for name, one in named.items()} | fixed, filled(body, known), query)


async def fold(api: AdminApi) -> None:
    """There is usage of every kind."""
    client = connect(api.server.settings())
    try:
        await Ledger(api.database, client).folded(*made_up(200, seed=1))
    finally:
        await client.aclose()


class Tried:
    """Makes requests, and remembers the problems and how often an operation was done."""

    def __init__(self, url: str, examples: int) -> None:
        """examples: of right and of wrong requests, each with ids that are there and with ids that are made up."""
        self._url = url
        self._examples = examples
        self._session = requests.Session()
        self.problems: list[str] = []
        self.requests = 0
        self.done: dict[str, int] = {}

    def request(self, case: Any) -> None:
        self.requests += 1
        response = case.call(base_url=self._url, session=self._session, headers=HEADERS)
        name = name_of(case.operation)
        self.done[name] = self.done.get(name, 0) + (response.status_code == 200)
        case.validate_response(response, checks=CHECKS)

    def try_right(self, operation: Any, right: Right) -> None:
        with_body = operation.method == "post" and right.body is not None
        body = {"body": right.body, "media_type": "application/json"} if with_body else {}
        self._noting(
            operation, lambda: self.request(operation.Case(path_parameters=right.ids, query=right.query, **body))
        )

    def try_many(self, operation: Any, mode: Any, ids: Mapping[str, str] | None) -> None:
        """Some requests of one kind. ids: those of the path; without, they are made up too."""

        @settings(
            max_examples=self._examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=[*HealthCheck],
        )
        @given(operation.as_strategy(mode, path_parameters=dict(ids) if ids else None))
        def requested(case: Any) -> None:
            self.request(case)

        try:
            self._noting(operation, requested)
        except Unsatisfiable:
            assert mode.is_negative, f"no request could be made: {name_of(operation)}"
            assert not [*operation.query, *operation.body], "only a path can have nothing wrong in it"

    def _noting(self, operation: Any, do: Callable[[], None]) -> None:
        try:
            do()
        except FailureGroup as group:
            self.problems.append(f"{name_of(operation)}:\n{group}")


def name_of(operation: Any) -> str:
    return f"{operation.method.upper()} {operation.path}"


@pytest.mark.skipif(not FOLDER.is_dir(), reason="OpenAI's API descriptions are not beside the project")
@pytest.mark.proof
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("version", "database_url"), [("2.3.0", "sqlite"), ("2026-08", "postgresql")], indirect=["database_url"]
)
async def test_described(  # noqa: PLR0917 - fixtures
    valkey: Server, database_url: str, tmp_path: Path, version: str, size: Size, measured: Measured
) -> None:
    with capture_logs() as logged:
        async with admin_api(valkey, database_url, tmp_path) as api:
            await fold(api)
            tried = Tried(api.url, size(small=5, full=15))
            for operation in served_of(schemathesis.openapi.from_dict(described(version))):
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    right = await right_for(api, operation.path)
                    for ids in (right.ids, None) if right.ids else (None,):
                        await asyncio.to_thread(tried.try_many, operation, mode, ids)
                await asyncio.to_thread(tried.try_right, operation, await right_for(api, operation.path))
    measured(f"requests made from {version}", tried.requests, "")
    assert not [line for line in logged if line["log_level"] not in {"info", "debug"}]
    assert not tried.problems, "\n\n".join(tried.problems)
    never = [name for name, times in tried.done.items() if not times]
    assert not never, f"never done: {never}"


def served_of(description: Any) -> Iterator[Any]:
    refused = {(route.method, route.path) for route in not_served.routes()}
    served = Routes(route for route in all_routes() if (route.method, route.path) not in refused)
    for found in description.get_all_operations():
        operation = found.ok()
        if served.match(operation.method.upper(), operation.path) is not None:
            yield operation
