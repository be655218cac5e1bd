"""Federation rules: which tokens of a workload identity provider speak for a service account, and what they may do."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Row, Select, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, LongText, ShortText
from gateway.control.admin.found import found
from gateway.control.admin.identity_providers import MAY, Number, the_provider
from gateway.control.admin.pages import Listing, Page, list_page
from gateway.control.admin.project_api_keys import Scope
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change, new_id
from gateway.control.sql.tables import federation_rules, projects, service_accounts
from gateway.errors import NOT_NOW, GatewayError

_ALL = "/organization/workload_identity_providers/{provider_id}/federation_rules"
_ONE = f"{_ALL}/{{rule_id}}"
_EVENT = "workload_identity_provider_mapping"

Matchers = Annotated[
    dict[ShortText, Annotated[str, Meta(max_length=1024)] | bool | Number | float],
    Meta(min_length=1, max_length=50, description="claims and what they must be, one at least"),
]


def routes() -> tuple[Route, ...]:
    return (
        reading(_ALL, MAY, list_rules),
        changing("POST", _ALL, MAY, create_rule),
        reading(_ONE, MAY, read_rule),
        changing("POST", _ONE, MAY, update_rule),
        changing("DELETE", _ONE, MAY, delete_rule),
    )


class ServiceAccountDefault(Body, frozen=True, tag_field="type", tag="service_account_default"):
    """All that a key of the service account may do."""


class Restricted(Body, frozen=True, tag_field="type", tag="restricted"):
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=100)]


Permissions = ServiceAccountDefault | Restricted


class NewRule(Body, frozen=True):
    project_id: ShortText
    service_account_id: ShortText
    attribute_matchers: Matchers
    permissions: Permissions = ServiceAccountDefault()
    name: ShortText | None = None
    description: LongText | None = None
    enabled: bool = True


class ChangedRule(Body, frozen=True):
    attribute_matchers: Matchers | UnsetType = UNSET
    permissions: Permissions | UnsetType = UNSET
    name: ShortText | UnsetType | None = UNSET
    description: LongText | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class RuleListing(Listing, frozen=True):
    service_account_id: str | None = None


class Rule(msgspec.Struct, frozen=True):
    id: str
    workload_identity_provider_id: str
    project_id: str
    service_account_id: str
    attribute_matchers: dict[str, Any]
    permissions: dict[str, Any]
    name: str | None
    description: str | None
    enabled: bool
    created_at: int
    updated_at: int
    object: str = "organization.workload_identity_federation_rule"


def _rows(asked: Asked) -> Select[Any]:
    return select(federation_rules).where(federation_rules.c.provider_id == asked.ids["provider_id"])


def _shown(row: Row[Any]) -> Rule:
    return Rule(
        row.id,
        row.provider_id,
        row.project_id,
        row.service_account_id,
        row.attribute_matchers,
        row.permissions,
        row.name,
        row.description,
        row.enabled,
        row.created_at,
        row.updated_at,
    )


async def _one(asked: Asked, connection: AsyncConnection) -> Row[Any]:
    await the_provider(asked, connection)
    rule_id = asked.ids["rule_id"]
    return await found(connection, _rows(asked).where(federation_rules.c.id == rule_id), "federation rule", rule_id)


async def list_rules(asked: Asked, connection: AsyncConnection) -> Page:
    await the_provider(asked, connection)
    listing = asked.query(RuleListing)
    rows = _rows(asked)
    if listing.service_account_id is not None:
        rows = rows.where(federation_rules.c.service_account_id == listing.service_account_id)
    return await list_page(connection, rows, (federation_rules.c.created_at, federation_rules.c.id), listing, _shown)


async def create_rule(asked: Asked, change: Change) -> Rule:
    provider = await the_provider(asked, change.connection)
    body = asked.body(NewRule)
    await _the_account(asked, change.connection, body.project_id, body.service_account_id)
    said = msgspec.to_builtins(body)
    rule_id = new_id("wifr_")
    row = {**said, "id": rule_id, "provider_id": provider.id, "created_at": asked.now, "updated_at": asked.now}
    await change.connection.execute(insert(federation_rules), [row])
    details = {"id": rule_id, "identity_provider_id": provider.id, "data": said}
    await change.audit(f"{_EVENT}.created", details, resource_id=rule_id, project_id=body.project_id)
    return _shown(await found(change.connection, _rows(asked).where(federation_rules.c.id == rule_id), "", ""))


async def _the_account(asked: Asked, connection: AsyncConnection, project_id: str, account_id: str) -> None:
    """Raises GatewayError (404, 400) if there is no such service account in that project of ours."""
    ours = (projects.c.id == project_id, projects.c.organization_id == asked.organization_id)
    project = await found(connection, select(projects).where(*ours), "project", project_id)
    if project.archived_at is not None:
        raise GatewayError(NOT_NOW, reason=f"The project '{project_id}' is archived")
    columns = service_accounts.c
    there = (columns.id == account_id, columns.project_id == project_id, columns.removed_at.is_(None))
    await found(connection, select(service_accounts).where(*there), "service account", account_id)


async def read_rule(asked: Asked, connection: AsyncConnection) -> Rule:
    return _shown(await _one(asked, connection))


async def update_rule(asked: Asked, change: Change) -> Rule:
    rule = await _one(asked, change.connection)
    changes = msgspec.to_builtins(asked.body(ChangedRule))
    if changes:
        same = update(federation_rules).where(federation_rules.c.id == rule.id)
        await change.connection.execute(same.values(**changes, updated_at=asked.now))
        details = {"id": rule.id, "identity_provider_id": rule.provider_id, "changes_requested": changes}
        await change.audit(f"{_EVENT}.updated", details, resource_id=rule.id, project_id=rule.project_id)
    return _shown(await _one(asked, change.connection))


async def delete_rule(asked: Asked, change: Change) -> dict[str, object]:
    rule = await _one(asked, change.connection)
    await change.connection.execute(delete(federation_rules).where(federation_rules.c.id == rule.id))
    details = {
        "id": rule.id,
        "identity_provider_id": rule.provider_id,
        "project_id": rule.project_id,
        "service_account_id": rule.service_account_id,
    }
    await change.audit(f"{_EVENT}.deleted", details, resource_id=rule.id, project_id=rule.project_id)
    return {"id": rule.id, "object": "organization.workload_identity_federation_rule.deleted", "deleted": True}
