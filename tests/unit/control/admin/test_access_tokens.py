"""Tokens of the settings' issuers: made known to workers, and in place of admin keys."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from sqlalchemy import delete, insert, select, update

from gateway.control.registry.changes import Changes
from gateway.control.sql.tables import api_keys, audit_logs, project_users, users
from gateway.settings.tokens import Issuer as IssuerSettings
from gateway.tokens.bearers import bearer_of
from gateway.values import Principal
from tests.fakes.admin_api import AdminApi, Answer, admin_api
from tests.fakes.issuer import NOW, Issuer, issuer, rsa_key
from tests.fakes.redis_servers import Server

PATH = "/organization/access_tokens"
HASH = "sha256:" + "a" * 64
DECLARED = [{"id": "proj_a", "keys": [{"name": "k", "hash": HASH, "user": "ada@example.com"}]}, {"id": "proj_b"}]


class Bench:
    def __init__(self, api: AdminApi, idp: Issuer, settings: dict[str, Any]) -> None:
        self.api = api
        self.idp = idp
        self._issuer = msgspec.convert(settings, IssuerSettings)

    async def known(self, token: str) -> Answer:
        return await self.api.ask("POST", PATH, key=token)

    async def refused(self, token: str) -> str:
        answer = await self.known(token)
        assert answer.error == (401, "invalid_token", None), answer.body
        return str(answer.body["error"]["message"])

    def record(self, **claims: Any) -> Principal | None:
        """What workers find for a token with these claims."""
        bearer = bearer_of({"sub": "ada", "exp": NOW, **claims}, self._issuer)
        return self.api.principal(bearer.key_digest().hex())

    async def rows(self, table: Any) -> list[Any]:
        async with self.api.database.transaction() as connection:
            return list(await connection.execute(select(table)))

    async def change(self, statement: Any) -> None:
        """What another noun does to the registry, and all keys published."""
        async with Changes(self.api.database, self.api.clock).begin("org-gateway") as change:
            await change.connection.execute(statement)
            hashes = await change.connection.scalars(select(api_keys.c.hash))
            await change.publish("key", [bytes(one).hex() for one in hashes])
        await self.api.publisher.publish_due()


@asynccontextmanager
async def made(valkey: Server, database_url: str, folder: Path, **more: Any) -> AsyncIterator[Bench]:
    async with issuer() as idp:
        one = idp.settings(claims={"project": "project", "roles": "roles"}, default_project="proj_a", **more)
        async with admin_api(valkey, database_url, folder, tokens={"issuers": [one]}, projects=DECLARED) as api:
            yield Bench(api, idp, one)


@pytest.fixture
async def bench(valkey: Server, database_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with made(valkey, database_url, tmp_path) as one:
        yield one


async def test_a_user_comes_to_be_with_the_first_token(bench: Bench) -> None:
    token = bench.idp.token(sub="bob", email="Bob@example.com", email_verified=True, name="Bob")
    first = await bench.known(token)
    assert first.status == 200, first.body
    assert first.body == {"object": "organization.access_token", "id": first.body["id"], "project_id": "proj_a"}
    record = bench.record(sub="bob")
    assert record is not None
    assert record.user_id.startswith("user-")
    assert (record.key_id, record.project_id, record.revoked) == (first.body["id"], "proj_a", False)
    assert (await bench.known(token)).body == first.body, "once"
    (user,) = [row for row in await bench.rows(users) if row.id == record.user_id]
    assert (user.email, user.name, user.role) == ("bob@example.com", "Bob", "reader")
    keys = bench.api.client.admin.organization.projects.api_keys
    (shown,) = [key async for key in keys.list("proj_a") if key.id == record.key_id]
    assert (shown.name, shown.redacted_value) == ("token of bob@example.com", "jwt")
    assert shown.owner.user is not None
    other = await bench.known(bench.idp.token(sub="bob", project="proj_b"))
    assert other.body["id"] != first.body["id"]
    assert bench.record(sub="bob", project="proj_b").user_id == record.user_id  # type: ignore[union-attr]
    events = [row.type for row in await bench.rows(audit_logs)]
    assert sorted(events) == ["api_key.created", "api_key.created", "user.added"]


async def test_a_user_who_has_the_address_already(bench: Bench) -> None:
    assert (await bench.known(bench.idp.token(email="ADA@example.com", email_verified=True))).status == 200
    assert bench.record().user_id == "ada@example.com"  # type: ignore[union-attr]
    assert (await bench.known(bench.idp.token(sub="eve", email="ada@example.com"))).status == 200
    assert bench.record(sub="eve").user_id.startswith("user-")  # type: ignore[union-attr]
    eve = next(row for row in await bench.rows(users) if row.id.startswith("user-"))
    assert eve.email == f"{eve.id}@token.invalid", "an address that nobody has verified is nobody's"


async def test_who_was_removed_does_not_come_back(bench: Bench) -> None:
    token = bench.idp.token()
    await bench.known(token)
    user_id = bench.record().user_id  # type: ignore[union-attr]
    await bench.change(delete(project_users).where(project_users.c.user_id == user_id))
    assert bench.record().revoked  # type: ignore[union-attr]
    assert "no access" in await bench.refused(token)
    assert bench.record().revoked  # type: ignore[union-attr]
    place = {"project_id": "proj_a", "user_id": user_id, "role": "member", "created_at": NOW}
    await bench.change(insert(project_users).values(**place))
    assert (await bench.known(token)).status == 200, "somebody has put them back"
    assert not bench.record().revoked  # type: ignore[union-attr]
    await bench.change(update(users).where(users.c.id == user_id).values(removed_at=NOW))
    assert bench.record().revoked  # type: ignore[union-attr]
    assert "removed" in await bench.refused(token)
    assert "removed" in await bench.refused(bench.idp.token(project="proj_b")), "in no project"


async def test_its_record_is_revoked_as_a_key_is(bench: Bench) -> None:
    token = bench.idp.token()
    record_id = (await bench.known(token)).body["id"]
    await bench.api.client.admin.organization.projects.api_keys.delete(record_id, project_id="proj_a")
    assert bench.record().revoked  # type: ignore[union-attr]
    assert "revoked" in await bench.refused(token)


async def test_projects(bench: Bench) -> None:
    assert "project is not known" in await bench.refused(bench.idp.token(project="proj_x"))
    organization = bench.api.client.admin.organization
    project = await organization.projects.create(name="C")
    token = bench.idp.token(project=project.id)
    assert (await bench.known(token)).status == 200
    await organization.projects.archive(project.id)
    assert bench.record(project=project.id).revoked  # type: ignore[union-attr]
    assert "project is not known" in await bench.refused(token)


async def test_users_who_must_be_there(valkey: Server, database_url: str, tmp_path: Path) -> None:
    async with made(valkey, database_url, tmp_path, create_users=False) as bench:
        assert "user is not known" in await bench.refused(bench.idp.token())
        ada = bench.idp.token(email="ada@example.com", email_verified=True)
        assert "no access to the project" in await bench.refused(ada)
        place = {"project_id": "proj_a", "user_id": "ada@example.com", "role": "member", "created_at": NOW}
        await bench.change(insert(project_users).values(**place))
        assert (await bench.known(ada)).status == 200
        assert bench.record().user_id == "ada@example.com"  # type: ignore[union-attr]
        assert not [row for row in await bench.rows(users) if row.id.startswith("user-")]


async def test_who_is_not_let_in(bench: Bench) -> None:
    idp = bench.idp
    for token in (idp.token(exp=NOW - 60), idp.token(key=rsa_key()), idp.token(iss="https://x"), idp.token(aud="x")):
        await bench.refused(token)
    assert (await bench.api.ask("POST", PATH, key=None)).status == 401
    assert (await bench.api.ask("POST", PATH)).error == (401, "invalid_api_key", None), "not an admin key either"
    assert (await bench.api.ask("GET", PATH, key=idp.token())).status == 405
    idp.does = "fail"
    bench.api.clock.advance(90_000)
    assert (await bench.known(idp.token(exp=NOW + 200_000))).error[:2] == (503, "key_check_unavailable")


async def test_without_issuers(api: AdminApi) -> None:
    async with issuer() as idp:
        assert (await api.ask("POST", PATH, key=idp.token())).error[:2] == (401, "invalid_api_key")
        assert (await api.ask("GET", "/organization/projects", key=idp.token())).error[:2] == (401, "invalid_api_key")


# In place of admin keys


async def test_roles_of_the_token(bench: Bench) -> None:
    owner, reader = bench.idp.token(roles=["owner"]), bench.idp.token(sub="r", roles="reader")
    made = await bench.api.ask("POST", "/organization/projects", {"name": "X"}, key=owner)
    assert made.status == 200
    client = bench.api.as_caller(reader)
    assert len([one async for one in client.admin.organization.projects.list()]) == 3
    with pytest.raises(openai.AuthenticationError) as caught:
        await client.admin.organization.projects.create(name="Y")
    assert caught.value.code == "insufficient_permissions"
    await client.close()
    (row,) = [row for row in await bench.rows(audit_logs) if row.type == "project.created"]
    assert row.actor["type"] == "session"
    key = await bench.api.ask("POST", "/organization/admin_api_keys", {"name": "x"}, key=owner)
    assert key.status == 200, "of the organization's owner, for the token's user is none here"


async def test_roles_of_the_user(bench: Bench) -> None:
    token = bench.idp.token()
    assert (await bench.api.ask("GET", "/organization/projects", key=token)).error[:2] == (401, "invalid_token")
    await bench.known(token)
    assert (await bench.api.ask("GET", "/organization/projects", key=token)).error[:2] == (
        401,
        "insufficient_permissions",
    )
    assert (await bench.api.ask("GET", "/organization/projects/proj_a/api_keys", key=token)).status == 200
    assert (await bench.api.ask("GET", "/organization/projects/proj_b/api_keys", key=token)).status == 401
    user_id = bench.record().user_id  # type: ignore[union-attr]
    await bench.change(update(users).where(users.c.id == user_id).values(role="owner"))
    made = await bench.api.ask("POST", "/organization/projects", {"name": "X"}, key=token)
    assert made.status == 200
    (row,) = [row for row in await bench.rows(audit_logs) if row.type == "project.created"]
    assert (row.actor_id, row.actor["session"]["user"]["id"]) == (user_id, user_id)
    await bench.change(update(users).where(users.c.id == user_id).values(removed_at=NOW))
    assert (await bench.api.ask("GET", "/organization/projects", key=token)).error[:2] == (401, "invalid_token")
    boss = bench.idp.token(roles=["owner"])
    assert (await bench.api.ask("GET", "/organization/projects", key=boss)).error[:2] == (401, "invalid_token")


async def test_wrong_tokens_are_written_down(bench: Bench) -> None:
    assert (await bench.api.ask("GET", "/organization/projects", key=bench.idp.token(exp=NOW - 60))).status == 401
    (row,) = await bench.rows(audit_logs)
    assert row.type == "login.failed"
    assert row.details["error_code"] == "invalid_token"
