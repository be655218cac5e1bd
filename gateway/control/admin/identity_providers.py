"""Workload identity providers: issuers of tokens which federation rules let workloads exchange for keys."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field
from sqlalchemy import Row, Select, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.control.admin.asked import Asked, Body, LongText, ShortText, invalid
from gateway.control.admin.found import found
from gateway.control.admin.oauth import discovery_url
from gateway.control.admin.pages import Listing, Page, list_page
from gateway.control.admin.routes import Route, changing, reading
from gateway.control.registry.changes import Change, new_id
from gateway.control.sql.tables import federation_rules, identity_providers
from gateway.tokens.download import wrong_url
from gateway.tokens.keys import ALGORITHMS, KeySetError, read_keys

_ALL = "/organization/workload_identity_providers"
_ONE = f"{_ALL}/{{provider_id}}"
MAY = "api.workload_identity_providers"
_EVENT = "workload_identity_provider"

Identifier = Annotated[str, Meta(min_length=1, max_length=1024)]
Number = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Expression = Annotated[
    str,
    Meta(
        pattern=r"^(assertion\.)?[A-Za-z0-9_:/-]+(\.[A-Za-z0-9_:/-]+)*\Z",
        max_length=256,
        description="a claim's name, such as assertion.repository: other expressions are not evaluated here",
    ),
]


def routes() -> tuple[Route, ...]:
    return (
        reading(_ALL, MAY, list_providers),
        changing("POST", _ALL, MAY, create_provider),
        reading(_ONE, MAY, read_provider),
        changing("POST", _ONE, MAY, update_provider),
        changing("DELETE", _ONE, MAY, delete_provider),
    )


class Transformation(Body, frozen=True):
    attribute: ShortText
    expression: Expression


class Discovery(Body, frozen=True, tag_field="type", tag="discovery"):
    discovery_url: Identifier | None = None


class Jwks(msgspec.Struct, frozen=True):
    keys: Annotated[list[dict[str, str | bool | Number | list[str] | None]], Meta(max_length=100)]


class UploadedJwks(Body, frozen=True, tag_field="type", tag="uploaded_jwks"):
    jwks: Jwks


Verification = Discovery | UploadedJwks
Transformations = Annotated[list[Transformation], Meta(max_length=50)]


class NewProvider(Body, frozen=True):
    name: ShortText
    type: Literal["oidc"]
    issuer: Identifier
    audience: Identifier
    attribute_transformations: Transformations = field(default_factory=list)
    description: LongText | None = None
    enabled: bool = True
    verification: Verification = Discovery()


class ChangedProvider(Body, frozen=True):
    name: ShortText | UnsetType = UNSET
    issuer: Identifier | UnsetType = UNSET
    audience: Identifier | UnsetType = UNSET
    attribute_transformations: Transformations | UnsetType = UNSET
    description: LongText | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    verification: Verification | UnsetType = UNSET


class Provider(msgspec.Struct, frozen=True):
    id: str
    name: str
    issuer: str
    audience: str
    attribute_transformations: list[dict[str, str]]
    description: str | None
    enabled: bool
    verification: dict[str, Any]
    created_at: int
    updated_at: int
    type: str = "oidc"
    object: str = "organization.workload_identity_provider"


def _rows(asked: Asked) -> Select[Any]:
    return select(identity_providers).where(identity_providers.c.organization_id == asked.organization_id)


async def the_provider(asked: Asked, connection: AsyncConnection) -> Row[Any]:
    """The one that the path names. Raises GatewayError NOT_FOUND (404)."""
    provider_id = asked.ids["provider_id"]
    rows = _rows(asked).where(identity_providers.c.id == provider_id)
    return await found(connection, rows, "workload identity provider", provider_id)


def _shown(row: Row[Any]) -> Provider:
    return Provider(
        row.id,
        row.name,
        row.issuer,
        row.audience,
        row.attribute_transformations,
        row.description,
        row.enabled,
        row.verification,
        row.created_at,
        row.updated_at,
    )


async def list_providers(asked: Asked, connection: AsyncConnection) -> Page:
    by = (identity_providers.c.created_at, identity_providers.c.id)
    return await list_page(connection, _rows(asked), by, asked.query(Listing), _shown)


async def create_provider(asked: Asked, change: Change) -> Provider:
    body = asked.body(NewProvider)
    said = msgspec.to_builtins(body)
    del said["type"]
    _usable(asked, body.issuer, said["verification"])
    row = {**said, "id": new_id("wip_"), "organization_id": asked.organization_id}
    times = {"created_at": asked.now, "updated_at": asked.now}
    await change.connection.execute(insert(identity_providers), [{**row, **times}])
    details = {"id": row["id"], "data": {**said, "type": "oidc"}}
    await change.audit(f"{_EVENT}.created", details, resource_id=row["id"])
    return _shown(await found(change.connection, _rows(asked).where(identity_providers.c.id == row["id"]), "", ""))


async def read_provider(asked: Asked, connection: AsyncConnection) -> Provider:
    return _shown(await the_provider(asked, connection))


async def update_provider(asked: Asked, change: Change) -> Provider:
    provider = await the_provider(asked, change.connection)
    changes = msgspec.to_builtins(asked.body(ChangedProvider))
    if changes:
        _usable(asked, changes.get("issuer", provider.issuer), changes.get("verification", provider.verification))
        same = update(identity_providers).where(identity_providers.c.id == provider.id)
        await change.connection.execute(same.values(**changes, updated_at=asked.now))
        details = {"id": provider.id, "changes_requested": changes}
        await change.audit(f"{_EVENT}.updated", details, resource_id=provider.id)
    return _shown(await the_provider(asked, change.connection))


async def delete_provider(asked: Asked, change: Change) -> dict[str, object]:
    """Its rules go with it. Keys that its tokens were exchanged for live on until they expire, within the hour."""
    provider = await the_provider(asked, change.connection)
    await change.connection.execute(delete(federation_rules).where(federation_rules.c.provider_id == provider.id))
    await change.connection.execute(delete(identity_providers).where(identity_providers.c.id == provider.id))
    await change.audit(f"{_EVENT}.deleted", {"id": provider.id, "name": provider.name}, resource_id=provider.id)
    return {"id": provider.id, "object": "organization.workload_identity_provider.deleted", "deleted": True}


def _usable(asked: Asked, issuer: str, verification: dict[str, Any]) -> None:
    """Raises GatewayError (400) for keys that can never be had."""
    if verification["type"] == "discovery":
        said = verification["discovery_url"]
        private = asked.house.settings.tokens.allow_private_jwks
        if (wrong := wrong_url(discovery_url(issuer, said), private=private)) is not None:
            raise invalid(
                "verification.discovery_url" if said else "issuer", f"keys cannot be fetched from there: {wrong}"
            )
        return
    keys = verification["jwks"]["keys"]
    if any("d" in key or "k" in key for key in keys):
        raise invalid("verification.jwks", "it holds a private key; upload public ones only")
    try:
        readable = read_keys(verification["jwks"], [name for name, *_ in ALGORITHMS])
    except KeySetError as error:
        raise invalid("verification.jwks", str(error)) from None
    if not readable.keys:
        raise invalid("verification.jwks", "it has no public key for signatures (RSA from 2048 bits, EC, Ed25519)")
