"""The registry's tables. Times are whole seconds since 1970, as OpenAI's objects have them.

`version`: of the row's last change, from the organization's one count of changes, so that what is published in any
order and any number of times ends with the newest. `declared`: the row follows the settings file, and the API may not
change it. What is ordered in pages is ordered by (created_at, id).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_ID = String(128)
_HASH = LargeBinary(32)
_THERE = "removed_at IS NULL"


def _id() -> Column[str]:
    return Column("id", _ID, primary_key=True)


def _of(name: str, table: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, _ID, ForeignKey(f"{table}.id"), nullable=nullable)


def _changes() -> tuple[Column[int], Column[bool]]:
    return (
        Column("version", BigInteger, nullable=False),
        Column("declared", Boolean(create_constraint=False), nullable=False, server_default=false()),
    )


organizations = Table(
    "organizations",
    metadata,
    _id(),
    Column("version", BigInteger, nullable=False),  # of the last change of anything that is this organization's
)

projects = Table(
    "projects",
    metadata,
    _id(),
    _of("organization_id", "organizations"),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("archived_at", BigInteger),
    *_changes(),
    Index(None, "organization_id", "created_at", "id"),
)

users = Table(
    "users",
    metadata,
    _id(),
    _of("organization_id", "organizations"),
    Column("email", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", String(20), nullable=False),  # owner or reader
    Column("created_at", BigInteger, nullable=False),
    Column("removed_at", BigInteger),
    *_changes(),
    Index(None, "organization_id", "email", unique=True),
    Index(None, "organization_id", "created_at", "id"),
)

service_accounts = Table(
    "service_accounts",
    metadata,
    _id(),
    _of("project_id", "projects"),
    Column("name", Text, nullable=False),
    Column("role", String(20), nullable=False),  # owner, member or none
    Column("created_at", BigInteger, nullable=False),
    Column("removed_at", BigInteger),
    *_changes(),
    Index(None, "project_id", "created_at", "id"),
)

api_keys = Table(
    "api_keys",
    metadata,
    _id(),
    _of("project_id", "projects"),
    _of("user_id", "users", nullable=True),  # its owner: a user or a service account
    _of("service_account_id", "service_accounts", nullable=True),
    Column("name", Text, nullable=False),
    Column("hash", _HASH, nullable=False),  # SHA-256 of the key
    Column("shown", String(40), nullable=False),  # what of the key may be shown
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("removed_at", BigInteger),  # the settings do not declare it any more
    *_changes(),
    CheckConstraint("(user_id IS NULL) <> (service_account_id IS NULL)", name="one_owner"),
    Index(None, "project_id", "created_at", "id"),
    Index(None, "user_id"),
    Index(None, "service_account_id"),
    Index(None, "hash"),
    # Of the keys that are there no two have one hash.
    Index("ux_api_keys_hash", "hash", unique=True, sqlite_where=text(_THERE), postgresql_where=text(_THERE)),
)

revoked_hashes = Table(
    "revoked_hashes",  # of API keys: none of them works again, whatever row has it
    metadata,
    Column("hash", _HASH, primary_key=True),
    Column("revoked_at", BigInteger, nullable=False),
)

outbox = Table(
    "outbox",  # what is to be published; a row is taken away when Redis has it
    metadata,
    Column("organization_id", _ID, primary_key=True),
    Column("kind", String(20), primary_key=True),  # what of the read model: key
    Column("subject", _ID, primary_key=True),  # a key's hash in hex
    Column("version", BigInteger, nullable=False),
)
