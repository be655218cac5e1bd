"""A registry of many projects, users, service accounts, keys and audit rows, written past the API."""

from typing import Any

from sqlalchemy import Table, insert, text

from gateway.clock import SystemClock
from gateway.control.registry.changes import Changes
from gateway.control.sql.database import Database
from gateway.control.sql.tables import (
    admin_api_keys,
    api_keys,
    audit_logs,
    group_users,
    groups,
    invites,
    project_groups,
    project_users,
    projects,
    role_assignments,
    roles,
    service_accounts,
    spend_alerts,
    users,
)
from gateway.credentials import digest

ORG = "org-gateway"
BEGAN = 1_790_000_000
_AT_ONCE = 2_000


def key_of(number: int) -> str:
    """The key with this number."""
    return f"sk-gw-{number:032d}"


def project_of(number: int) -> str:
    return f"proj_{number:08d}"


async def fill(database_url: str, *, project_count: int, keys: int) -> None:
    """A tenth of all keys in the first project, the others spread; as many users, service accounts, invites, admin keys
    and groups as projects, and as many audit rows as keys. All users and groups are in the first project, all users in the
    first group; a thousand roles and alerts of the organization and of the first project, which the first user and
    group have."""
    database = await Database.open(database_url)
    changes = Changes(database, SystemClock())
    await changes.ensure(ORG)
    numbers = range(project_count)
    common = {"declared": False, "version": 1}
    await _insert(database, projects, [
        {"id": project_of(n), "organization_id": ORG, "name": f"Project {n}", "created_at": BEGAN + n, **common}
        for n in numbers
    ])  # fmt: skip
    await _insert(database, users, [
        {"id": f"user-{n:08d}", "organization_id": ORG, "email": f"u{n}@example.com", "name": f"U {n}",
         "role": "reader", "created_at": BEGAN + n, **common}
        for n in numbers
    ])  # fmt: skip
    await _insert(database, project_users, [
        {"project_id": project_of(place), "user_id": f"user-{n:08d}", "role": "member", "created_at": BEGAN + n}
        for n in numbers for place in {0, n}
    ])  # fmt: skip
    await _insert(database, service_accounts, [
        {"id": f"svc_acct_{n:08d}", "project_id": project_of(n), "name": f"bot {n}", "role": "member",
         "created_at": BEGAN + n, **common}
        for n in numbers
    ])  # fmt: skip
    await _insert(database, api_keys, [_key(n, keys, project_count) for n in range(keys)])
    await _insert(database, audit_logs, [
        {"id": f"audit_log-{n:08d}", "actor_key_id": f"key_{n % 7}", "organization_id": ORG, "type": "api_key.created", "effective_at": BEGAN + n,
         "project_id": project_of(n % project_count), "resource_id": f"key_{n:08d}", "actor_id": f"key_{n % 7}",
         "actor": {"type": "api_key", "api_key": {"id": f"key_{n % 7}", "type": "user"}},
         "details": {"id": f"key_{n:08d}", "data": {"scopes": []}}}
        for n in range(keys)
    ])  # fmt: skip
    await _fill_people(database, project_count)
    await _fill_roles_and_alerts(database, min(project_count, 1_000))
    async with database.transaction() as connection:  # as both do by themselves in time
        await connection.execute(text("ANALYZE"))
    await database.close()


async def _fill_people(database: Database, count: int) -> None:
    numbers = range(count)
    at = {"organization_id": ORG}
    await _insert(database, invites, [
        {**at, "id": f"invite-{n:08d}", "email": f"u{n}@example.com", "role": "reader", "projects": [],
         "created_at": BEGAN + n, "expires_at": BEGAN + n, "accepted_at": BEGAN + n}
        for n in numbers
    ])  # fmt: skip
    await _insert(database, admin_api_keys, [
        {**at, "id": f"key_admin_{n:08d}", "name": f"a {n}", "hash": digest(f"admin {n}"), "shown": "sk-…",
         "user_id": f"user-{n:08d}", "created_at": BEGAN + n}
        for n in numbers
    ])  # fmt: skip
    await _insert(database, groups, [
        {**at, "id": f"group_{n:08d}", "name": f"G {n}", "created_at": BEGAN + n} for n in numbers
    ])  # fmt: skip
    await _insert(database, group_users, [
        {"group_id": f"group_{0:08d}", "user_id": f"user-{n:08d}", "created_at": BEGAN + n} for n in numbers
    ])  # fmt: skip
    await _insert(database, project_groups, [
        {"project_id": project_of(0), "group_id": f"group_{n:08d}", "role": "member", "created_at": BEGAN + n}
        for n in numbers
    ])  # fmt: skip


async def _fill_roles_and_alerts(database: Database, count: int) -> None:
    made: list[dict[str, Any]] = []
    given: list[dict[str, Any]] = []
    alerts: list[dict[str, Any]] = []
    for n in range(count):
        at = {"organization_id": ORG, "created_at": BEGAN + n}
        for place, subject in ((None, "o"), (project_of(0), f"p:{project_of(0)}")):
            role_id = f"role_{place or 'org'}_{n:08d}"
            role = {"name": f"R {n}", "permissions": ["api.groups.read"], "updated_at": BEGAN + n}
            made.append({**at, **role, "id": role_id, "project_id": place})
            for kind, who in (("user", f"user-{0:08d}"), ("group", f"group_{0:08d}")):
                whose = {"project_id": place or "", "principal_type": kind, "principal_id": who, "role_id": role_id}
                given.append({**at, **whose})
            channel = {"type": "email", "recipients": ["a@example.com"]}
            alert = {"subject": subject, "window": "month", "nano_usd": 10**15, "channel": channel}
            alerts.append({**at, **alert, "id": f"alert_{place or 'org'}_{n:08d}"})
    await _insert(database, roles, made)
    await _insert(database, role_assignments, given)
    await _insert(database, spend_alerts, alerts)


def _key(number: int, keys: int, project_count: int) -> dict[str, Any]:
    place = 0 if number < keys // 10 else number % project_count
    return {
        "id": f"key_{number:08d}",
        "project_id": project_of(place),
        "service_account_id": f"svc_acct_{place:08d}",
        "name": f"key {number}",
        "hash": digest(key_of(number)),
        "shown": "sk-gw-00...0000",
        "created_at": BEGAN + number,
        "declared": False,
        "version": 1,
    }


async def _insert(database: Database, table: Table, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), _AT_ONCE):
        async with database.transaction() as connection:
            await connection.execute(insert(table), rows[start : start + _AT_ONCE])
