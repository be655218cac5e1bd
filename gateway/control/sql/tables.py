"""The registry's tables. Times are whole seconds since 1970, as OpenAI's objects have them.

`version`: of the row's last change, from the organization's one count of changes, so that what is published in any
order and any number of times ends with the newest. `declared`: the row follows the settings file, and the API may not
change it. What is ordered in pages is ordered by (created_at, id). What was removed stays as a row where others still
have to say who it was.

`subject`: whose limits these are, as `gateway.limits` names documents: `o`, `p:<project>`, `u:<user>`,
`m:<project>:<user>`, `k:<key>`.
"""

from sqlalchemy import (
    JSON,
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
LONGEST_ID = 128
_ID = String(LONGEST_ID)
_HASH = LargeBinary(32)
_JSON = JSON(none_as_null=True)
LONGEST_MODEL = 200  # characters of a name
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
    Column("spend_opened_at", BigInteger),  # since when spend is counted in Redis: it is opened once
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
    Column("developer_persona", Text),
    Column("technical_level", Text),
    Index(None, "organization_id", "email"),
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
    Column("removed_at", BigInteger),  # the settings do not declare it any more, or the API has removed it
    *_changes(),
    Column("scopes", _JSON),  # a list; null: it may do everything
    Column("last_used_at", BigInteger),
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
    Column("kind", String(20), primary_key=True),  # what of the read model: key, limits
    Column("subject", _ID, primary_key=True),  # a key's hash in hex; whose limits
    Column("version", BigInteger, nullable=False),
)

admin_api_keys = Table(
    "admin_api_keys",  # of the admin API; they do not work on the data plane, nor API keys here
    metadata,
    _id(),
    _of("organization_id", "organizations"),
    Column("name", Text, nullable=False),
    Column("hash", _HASH, nullable=False),  # SHA-256 of the key
    Column("shown", String(40), nullable=False),  # what of the key may be shown
    _of("user_id", "users", nullable=True),  # whose it is: it may do what they may; null: what an owner may
    Column("scopes", _JSON),  # a list of permissions that it is restricted to; null: all of its owner's
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("last_used_at", BigInteger),
    Column("removed_at", BigInteger),
    Index(None, "organization_id", "created_at", "id"),
    Index(None, "hash", unique=True),
)

audit_logs = Table(
    "audit_logs",
    metadata,
    _id(),
    _of("organization_id", "organizations"),
    Column("type", String(80), nullable=False),  # project.created, login.failed, …
    Column("effective_at", BigInteger, nullable=False),
    Column("project_id", _ID),
    Column("resource_id", String(256)),  # what was changed; of rate limits it holds a model's name
    Column("actor_id", _ID),  # a user or service account, or a key that is nobody's
    Column("actor_key_id", _ID),
    Column("actor_email", Text),
    Column("actor", _JSON, nullable=False),  # as OpenAI's object has it
    Column("details", _JSON, nullable=False),
    Index(None, "organization_id", "effective_at", "id"),
    *(
        Index(None, "organization_id", column, "effective_at", "id")
        for column in ("project_id", "resource_id", "actor_id", "actor_key_id", "type")
    ),
)

invites = Table(
    "invites",
    metadata,
    _id(),
    _of("organization_id", "organizations"),
    Column("email", Text, nullable=False),
    Column("role", String(20), nullable=False),  # owner or reader
    Column("projects", _JSON, nullable=False),  # [{id, role}]
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("accepted_at", BigInteger),
    Column("removed_at", BigInteger),
    Index(None, "organization_id", "created_at", "id"),
)

project_users = Table(
    "project_users",
    metadata,
    Column("project_id", _ID, ForeignKey("projects.id"), primary_key=True),
    Column("user_id", _ID, ForeignKey("users.id"), primary_key=True),
    Column("role", String(100), nullable=False),  # owner, member, or a role's name
    Column("created_at", BigInteger, nullable=False),
    Index(None, "user_id"),
)

groups = Table(
    "groups",
    metadata,
    _id(),
    _of("organization_id", "organizations"),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "organization_id", "created_at", "id"),
)

group_users = Table(
    "group_users",
    metadata,
    Column("group_id", _ID, ForeignKey("groups.id"), primary_key=True),
    Column("user_id", _ID, ForeignKey("users.id"), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "user_id"),
)

project_groups = Table(
    "project_groups",
    metadata,
    Column("project_id", _ID, ForeignKey("projects.id"), primary_key=True),
    Column("group_id", _ID, ForeignKey("groups.id"), primary_key=True),
    Column("role", String(100), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "group_id"),
)

roles = Table(
    "roles",  # those that somebody has made; the predefined ones are in the code
    metadata,
    _id(),
    _of("organization_id", "organizations"),
    _of("project_id", "projects", nullable=True),  # whose it is; null: the organization's
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("permissions", _JSON, nullable=False),  # a list
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("created_by", _ID),
    Index(None, "organization_id", "project_id", "created_at", "id"),
)

role_assignments = Table(
    "role_assignments",
    metadata,
    Column("organization_id", _ID, ForeignKey("organizations.id"), primary_key=True),
    Column("project_id", _ID, primary_key=True),  # where it holds; empty: in the whole organization
    Column("principal_type", String(10), primary_key=True),  # user or group
    Column("principal_id", _ID, primary_key=True),
    Column("role_id", _ID, primary_key=True),  # also of a predefined one
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", _ID),
    Index(None, "principal_id"),
    Index(None, "role_id"),
)

declared_limits = Table(
    "declared_limits",  # what the settings say of limits, as documents of `gateway.limits`
    metadata,
    Column("organization_id", _ID, ForeignKey("organizations.id"), primary_key=True),
    Column("subject", _ID, primary_key=True),
    Column("document", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
)

rate_limits = Table(
    "rate_limits",  # those that the API has set
    metadata,
    Column("organization_id", _ID, ForeignKey("organizations.id"), primary_key=True),
    Column("subject", _ID, primary_key=True),
    Column("model", String(LONGEST_MODEL), primary_key=True),  # lower case; empty: of all models together
    Column("kind", String(40), primary_key=True),  # a name of RATES
    Column("limit", BigInteger, nullable=False),
)

seen_models = Table(
    "seen_models",  # what projects have called; it makes a rate limit's object, no more
    metadata,
    Column("organization_id", _ID, ForeignKey("organizations.id"), primary_key=True),
    Column("project_id", _ID, ForeignKey("projects.id"), primary_key=True),
    Column("model", String(LONGEST_MODEL), primary_key=True),  # lower case
    Column("seen_at", BigInteger, nullable=False),  # the first time
)

spend_limits = Table(
    "spend_limits",  # those that the API has set
    metadata,
    Column("organization_id", _ID, ForeignKey("organizations.id"), primary_key=True),
    Column("subject", _ID, primary_key=True),
    Column("window", String(10), primary_key=True),  # day, week, month, total
    Column("nano_usd", BigInteger, nullable=False),
)

spend_alerts = Table(
    "spend_alerts",
    metadata,
    _id(),
    _of("organization_id", "organizations"),
    Column("subject", _ID, nullable=False),
    Column("window", String(10), nullable=False),
    Column("nano_usd", BigInteger, nullable=False),
    Column("channel", _JSON, nullable=False),  # how it is told, as OpenAI's object has it
    Column("created_at", BigInteger, nullable=False),
    Column("told_window", String(20)),  # the last window of which telling it was begun
    Column("attempts", BigInteger, nullable=False, server_default=text("0")),  # of telling it; 0: it is done
    Column("next_at", BigInteger),  # when it is tried again
    Index(None, "organization_id", "subject", "created_at", "id"),
)

project_permissions = Table(
    "project_permissions",  # what a project's calls may use; null: everything
    metadata,
    Column("project_id", _ID, ForeignKey("projects.id"), primary_key=True),
    Column("models", _JSON),  # {mode: allow_list | deny_list, model_ids: […]}
    Column("hosted_tools", _JSON),  # {tool: whether it may be used}
    Column("service_tiers", _JSON),  # {default, enabled_tiers: all | […]}
)

identity_providers = Table(
    "identity_providers",  # whose tokens are exchanged for ours
    metadata,
    _id(),
    _of("organization_id", "organizations"),
    Column("name", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("audience", Text, nullable=False),
    Column("attribute_transformations", _JSON, nullable=False),  # [{attribute, expression}]
    Column("description", Text),
    Column("enabled", Boolean(create_constraint=False), nullable=False),
    Column("verification", _JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index(None, "organization_id", "created_at", "id"),
)

federation_rules = Table(
    "federation_rules",  # which tokens of an identity provider speak for a service account
    metadata,
    _id(),
    _of("provider_id", "identity_providers"),
    _of("project_id", "projects"),
    _of("service_account_id", "service_accounts"),
    Column("attribute_matchers", _JSON, nullable=False),  # {claim: value}
    Column("permissions", _JSON, nullable=False),
    Column("name", Text),
    Column("description", Text),
    Column("enabled", Boolean(create_constraint=False), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index(None, "provider_id", "created_at", "id"),
)
