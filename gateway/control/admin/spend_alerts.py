"""Spend alerts of the organization and of projects: who is told when so much has been spent. They refuse nothing."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from sqlalchemy import Row, Select, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, Query
from gateway.control.admin.found import found, the_project
from gateway.control.admin.pages import Order, Page, list_page
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change, new_id
from gateway.control.registry.channels import Channel
from gateway.control.sql.tables import spend_alerts
from gateway.limits import NANO_USD_IN_A_CENT, ORGANIZATION_FIELD, Window, project_field

_ORGANIZATION = ("/organization/spend_alerts", "api.spend_alerts")
_PROJECT = ("/organization/projects/{project_id}/spend_alerts", "api.organization.projects.spend_alerts")


def routes() -> tuple[Route, ...]:
    return tuple(
        route
        for path, may in (_ORGANIZATION, _PROJECT)
        for route in (
            reading(path, may, list_alerts),
            changing("POST", path, may, create_alert),
            reading(f"{path}/{{alert_id}}", may, read_alert),
            changing("POST", f"{path}/{{alert_id}}", may, update_alert),
            changing("DELETE", f"{path}/{{alert_id}}", may, delete_alert),
        )
    )


class SpendAlertListing(Query, frozen=True):
    limit: Annotated[int, Meta(ge=0, le=100)] = 20
    after: str | None = None
    before: str | None = None
    order: Order = "asc"


class SpendAlertBody(Body, frozen=True):
    """interval: OpenAI has the month only. threshold_amount: cents, up to a billion dollars."""

    threshold_amount: Annotated[int, Meta(ge=0, le=100_000_000_000)]
    currency: Literal["USD"]
    interval: Window
    notification_channel: Channel

    def columns(self) -> dict[str, Any]:
        return {
            "window": self.interval,
            "nano_usd": self.threshold_amount * NANO_USD_IN_A_CENT,
            "channel": msgspec.to_builtins(self.notification_channel),
        }


class SpendAlert(msgspec.Struct, frozen=True):
    id: str
    object: str
    threshold_amount: int
    interval: str
    notification_channel: dict[str, Any]
    currency: str = "USD"


def _kind(asked: Asked) -> str:
    return "project.spend_alert" if "project_id" in asked.ids else "organization.spend_alert"


async def _subject(asked: Asked, connection: AsyncConnection, *, active: bool = False) -> str:
    """Whose alerts the path names."""
    if "project_id" not in asked.ids:
        return ORGANIZATION_FIELD
    project = await the_project(asked, connection, active=active)
    return project_field(project.id)


def _rows(asked: Asked, subject: str) -> Select[Any]:
    ours = spend_alerts.c.organization_id == asked.organization_id
    return select(spend_alerts).where(ours, spend_alerts.c.subject == subject)


async def _one(asked: Asked, connection: AsyncConnection, *, active: bool = False) -> Row[Any]:
    rows = _rows(asked, await _subject(asked, connection, active=active))
    alert_id = asked.ids["alert_id"]
    return await found(connection, rows.where(spend_alerts.c.id == alert_id), "spend alert", alert_id)


def _shown(asked: Asked, row: Row[Any]) -> SpendAlert:
    return SpendAlert(row.id, _kind(asked), row.nano_usd // NANO_USD_IN_A_CENT, row.window, row.channel)


async def _audit(asked: Asked, change: Change, alert_id: str, what: dict[str, Any]) -> None:
    """OpenAI's log has no type for spend alerts: they are changed settings of what they belong to. Where a webhook goes
    is not said, for such addresses may hold secrets."""
    project_id = asked.ids.get("project_id")
    details = {
        "id": project_id or asked.organization_id,
        "changes_requested": {"spend_alert": {"id": alert_id, **what}},
    }
    event = "project.updated" if project_id is not None else "organization.updated"
    await change.audit(event, details, resource_id=alert_id, project_id=project_id)


def _said(body: SpendAlertBody) -> dict[str, Any]:
    channel = msgspec.to_builtins(body.notification_channel)
    return {
        "threshold_amount": body.threshold_amount,
        "interval": body.interval,
        "notification_channel": {name: value for name, value in channel.items() if name != "url"},
    }


async def list_alerts(asked: Asked, connection: AsyncConnection) -> Page:
    rows = _rows(asked, await _subject(asked, connection))
    listing = asked.query(SpendAlertListing)
    by = (spend_alerts.c.created_at, spend_alerts.c.id)
    return await list_page(connection, rows, by, listing, lambda row: _shown(asked, row), listing.before)


async def create_alert(asked: Asked, change: Change) -> SpendAlert:
    subject = await _subject(asked, change.connection, active=True)
    body = asked.body(SpendAlertBody)
    row = {
        "id": new_id("alert_"),
        "organization_id": asked.organization_id,
        "subject": subject,
        "created_at": asked.now,
        **body.columns(),
    }
    await change.connection.execute(insert(spend_alerts), [row])
    await _audit(asked, change, row["id"], _said(body))
    return SpendAlert(row["id"], _kind(asked), body.threshold_amount, body.interval, row["channel"])


async def read_alert(asked: Asked, connection: AsyncConnection) -> SpendAlert:
    return _shown(asked, await _one(asked, connection))


async def update_alert(asked: Asked, change: Change) -> SpendAlert:
    """What has been told in this window is told again only if the threshold is higher now; what could not be told is
    tried anew, for the change may be what helps."""
    alert = await _one(asked, change.connection, active=True)
    body = asked.body(SpendAlertBody)
    values = body.columns()
    told = alert.attempts == 0 and values["window"] == alert.window and values["nano_usd"] <= alert.nano_usd
    anew = {} if told else {"told_window": None, "attempts": 0, "next_at": None}
    same = update(spend_alerts).where(spend_alerts.c.id == alert.id)
    await change.connection.execute(same.values(**values, **anew))
    await _audit(asked, change, alert.id, _said(body))
    return _shown(asked, await _one(asked, change.connection))


async def delete_alert(asked: Asked, change: Change) -> dict[str, object]:
    alert = await _one(asked, change.connection)
    await change.connection.execute(delete(spend_alerts).where(spend_alerts.c.id == alert.id))
    await _audit(asked, change, alert.id, {"deleted": True})
    return {"id": alert.id, "object": f"{_kind(asked)}.deleted", "deleted": True}
