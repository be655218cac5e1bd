"""The admin API: its keys and log, people in projects, groups and roles, limits, permissions, identity providers."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _more_of_organizations()
    _audit_logs()
    _declared_limits()
    _groups()
    _identity_providers()
    _invites()
    _rate_limits()
    _role_assignments()
    _spend_alerts()
    _spend_limits()
    _more_of_users()
    _admin_api_keys()
    _group_users()
    _project_groups()
    _project_permissions()
    _project_users()
    _roles()
    _seen_models()
    _more_of_api_keys()
    _federation_rules()


def _more_of_organizations() -> None:
    op.add_column("organizations", sa.Column("spend_opened_at", sa.BigInteger(), nullable=True))


def _audit_logs() -> None:
    op.create_table(
        "audit_logs",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("type", sa.String(length=80), nullable=False),
        sa.Column("effective_at", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.String(length=128), nullable=True),
        sa.Column("resource_id", sa.String(length=256), nullable=True),
        sa.Column("actor_id", sa.String(length=128), nullable=True),
        sa.Column("actor_key_id", sa.String(length=128), nullable=True),
        sa.Column("actor_email", sa.Text(), nullable=True),
        sa.Column("actor", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("details", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_audit_logs_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_logs")),
    )
    op.create_index(
        op.f("ix_audit_logs_organization_id_effective_at_id"),
        "audit_logs",
        ["organization_id", "effective_at", "id"],
        unique=False,
    )
    for column in ("actor_id", "actor_key_id", "project_id", "resource_id", "type"):
        op.create_index(
            op.f(f"ix_audit_logs_organization_id_{column}_effective_at_id"),
            "audit_logs",
            ["organization_id", column, "effective_at", "id"],
            unique=False,
        )


def _declared_limits() -> None:
    op.create_table(
        "declared_limits",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_declared_limits_organization_id")
        ),
        sa.PrimaryKeyConstraint("organization_id", "subject", name=op.f("pk_declared_limits")),
    )


def _groups() -> None:
    op.create_table(
        "groups",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_groups_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_groups")),
    )
    op.create_index(
        op.f("ix_groups_organization_id_created_at_id"), "groups", ["organization_id", "created_at", "id"], unique=False
    )


def _identity_providers() -> None:
    op.create_table(
        "identity_providers",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("attribute_transformations", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("verification", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_identity_providers_organization_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_providers")),
    )
    op.create_index(
        op.f("ix_identity_providers_organization_id_created_at_id"),
        "identity_providers",
        ["organization_id", "created_at", "id"],
        unique=False,
    )


def _invites() -> None:
    op.create_table(
        "invites",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("projects", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("accepted_at", sa.BigInteger(), nullable=True),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_invites_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invites")),
    )
    op.create_index(
        op.f("ix_invites_organization_id_created_at_id"),
        "invites",
        ["organization_id", "created_at", "id"],
        unique=False,
    )


def _rate_limits() -> None:
    op.create_table(
        "rate_limits",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("limit", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_rate_limits_organization_id")),
        sa.PrimaryKeyConstraint("organization_id", "subject", "model", "kind", name=op.f("pk_rate_limits")),
    )


def _role_assignments() -> None:
    op.create_table(
        "role_assignments",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("project_id", sa.String(length=128), nullable=False),
        sa.Column("principal_type", sa.String(length=10), nullable=False),
        sa.Column("principal_id", sa.String(length=128), nullable=False),
        sa.Column("role_id", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_role_assignments_organization_id")
        ),
        sa.PrimaryKeyConstraint(
            "organization_id",
            "project_id",
            "principal_type",
            "principal_id",
            "role_id",
            name=op.f("pk_role_assignments"),
        ),
    )
    op.create_index(op.f("ix_role_assignments_principal_id"), "role_assignments", ["principal_id"], unique=False)
    op.create_index(op.f("ix_role_assignments_role_id"), "role_assignments", ["role_id"], unique=False)


def _spend_alerts() -> None:
    op.create_table(
        "spend_alerts",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("window", sa.String(length=10), nullable=False),
        sa.Column("nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("told_window", sa.String(length=20), nullable=True),
        sa.Column("attempts", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_spend_alerts_organization_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spend_alerts")),
    )
    op.create_index(
        op.f("ix_spend_alerts_organization_id_subject_created_at_id"),
        "spend_alerts",
        ["organization_id", "subject", "created_at", "id"],
        unique=False,
    )


def _spend_limits() -> None:
    op.create_table(
        "spend_limits",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("window", sa.String(length=10), nullable=False),
        sa.Column("nano_usd", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_spend_limits_organization_id")
        ),
        sa.PrimaryKeyConstraint("organization_id", "subject", "window", name=op.f("pk_spend_limits")),
    )


def _more_of_users() -> None:
    op.add_column("users", sa.Column("developer_persona", sa.Text(), nullable=True))
    op.add_column("users", sa.Column("technical_level", sa.Text(), nullable=True))
    op.drop_index(op.f("ix_users_organization_id_email"), table_name="users")
    op.create_index(op.f("ix_users_organization_id_email"), "users", ["organization_id", "email"], unique=False)


def _admin_api_keys() -> None:
    op.create_table(
        "admin_api_keys",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("shown", sa.String(length=40), nullable=False),
        sa.Column("user_id", sa.String(length=128), nullable=True),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_admin_api_keys_organization_id")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_admin_api_keys_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_admin_api_keys")),
    )
    op.create_index(op.f("ix_admin_api_keys_hash"), "admin_api_keys", ["hash"], unique=True)
    op.create_index(
        op.f("ix_admin_api_keys_organization_id_created_at_id"),
        "admin_api_keys",
        ["organization_id", "created_at", "id"],
        unique=False,
    )


def _group_users() -> None:
    op.create_table(
        "group_users",
        sa.Column("group_id", sa.String(length=128), nullable=False),
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_group_users_group_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_group_users_user_id")),
        sa.PrimaryKeyConstraint("group_id", "user_id", name=op.f("pk_group_users")),
    )
    op.create_index(op.f("ix_group_users_user_id"), "group_users", ["user_id"], unique=False)


def _project_groups() -> None:
    op.create_table(
        "project_groups",
        sa.Column("project_id", sa.String(length=128), nullable=False),
        sa.Column("group_id", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_project_groups_group_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_project_groups_project_id")),
        sa.PrimaryKeyConstraint("project_id", "group_id", name=op.f("pk_project_groups")),
    )
    op.create_index(op.f("ix_project_groups_group_id"), "project_groups", ["group_id"], unique=False)


def _project_permissions() -> None:
    op.create_table(
        "project_permissions",
        sa.Column("project_id", sa.String(length=128), nullable=False),
        sa.Column("models", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("hosted_tools", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("service_tiers", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_project_permissions_project_id")),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_project_permissions")),
    )


def _project_users() -> None:
    op.create_table(
        "project_users",
        sa.Column("project_id", sa.String(length=128), nullable=False),
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_project_users_project_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_project_users_user_id")),
        sa.PrimaryKeyConstraint("project_id", "user_id", name=op.f("pk_project_users")),
    )
    op.create_index(op.f("ix_project_users_user_id"), "project_users", ["user_id"], unique=False)


def _roles() -> None:
    op.create_table(
        "roles",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("project_id", sa.String(length=128), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("permissions", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=True),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_roles_organization_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_roles_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_roles")),
    )
    op.create_index(
        op.f("ix_roles_organization_id_project_id_created_at_id"),
        "roles",
        ["organization_id", "project_id", "created_at", "id"],
        unique=False,
    )


def _seen_models() -> None:
    op.create_table(
        "seen_models",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("project_id", sa.String(length=128), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_seen_models_organization_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_seen_models_project_id")),
        sa.PrimaryKeyConstraint("organization_id", "project_id", "model", name=op.f("pk_seen_models")),
    )


def _more_of_api_keys() -> None:
    op.add_column("api_keys", sa.Column("scopes", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", sa.BigInteger(), nullable=True))


def _federation_rules() -> None:
    op.create_table(
        "federation_rules",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("provider_id", sa.String(length=128), nullable=False),
        sa.Column("project_id", sa.String(length=128), nullable=False),
        sa.Column("service_account_id", sa.String(length=128), nullable=False),
        sa.Column("attribute_matchers", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("permissions", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_federation_rules_project_id")),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["identity_providers.id"], name=op.f("fk_federation_rules_provider_id")
        ),
        sa.ForeignKeyConstraint(
            ["service_account_id"], ["service_accounts.id"], name=op.f("fk_federation_rules_service_account_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_federation_rules")),
    )
    op.create_index(
        op.f("ix_federation_rules_provider_id_created_at_id"),
        "federation_rules",
        ["provider_id", "created_at", "id"],
        unique=False,
    )
