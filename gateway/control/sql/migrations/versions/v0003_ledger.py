"""The ledger: events, what they are grouped by, and sums of minutes, hours and days."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_USE = (
    "requests",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "cache_write_12h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "cached_audio_tokens",
    "output_audio_tokens",
    "input_image_tokens",
    "cached_image_tokens",
    "output_image_tokens",
    "trained_tokens",
    "images",
    "characters",
    "duration_ms",
    "bytes",
    "sessions",
    "web_searches",
    "file_searches",
)
_MONEY = ("quantity", "nano_usd")
_BY_MONTH = "RANGE (at)"


def upgrade() -> None:
    _progress()
    _events()
    _vector_stores()
    _dimensions()
    _grain("usage_minutes", _USE, _BY_MONTH)
    _grain("usage_hours", _USE, _BY_MONTH)
    _grain("usage_days", _USE)
    _grain("cost_hours", _MONEY, _BY_MONTH)
    _grain("cost_days", _MONEY)
    _grain("cost_months", _MONEY)
    _forgiven()
    _reconciled()


def _forgiven() -> None:
    op.create_table(
        "spend_forgiven",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("field", sa.String(length=600), nullable=False),
        sa.Column("nano_usd", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_spend_forgiven_organization_id")
        ),
        sa.PrimaryKeyConstraint("organization_id", "field", name=op.f("pk_spend_forgiven")),
    )


def _progress() -> None:
    op.create_table(
        "ledger_progress",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("ledger", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("held_until", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("position", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_ledger_progress_organization_id")
        ),
        sa.PrimaryKeyConstraint("organization_id", name=op.f("pk_ledger_progress")),
    )


def _events() -> None:
    op.create_table(
        "usage_events",
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("at", sa.Integer(), nullable=False),
        sa.Column("unconfirmed", sa.Boolean(), nullable=False),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        sa.Column("upstream_id", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_events")),
    )
    op.create_index(op.f("ix_usage_events_at_upstream_id"), "usage_events", ["at", "upstream_id"], unique=False)
    op.create_table(
        "usage_refusals",
        sa.Column("position", sa.String(length=64), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("at", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(length=256), nullable=False),
        sa.Column("refusal", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", "organization_id", name=op.f("pk_usage_refusals")),
    )
    op.create_index(op.f("ix_usage_refusals_at"), "usage_refusals", ["at"], unique=False)
    op.create_index(op.f("ix_usage_refusals_request_id"), "usage_refusals", ["request_id"], unique=False)
    op.create_table(
        "usage_set_aside",
        sa.Column("position", sa.String(length=64), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.String(length=20), nullable=False),
        sa.Column("set_aside_at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", "organization_id", name=op.f("pk_usage_set_aside")),
    )


def _vector_stores() -> None:
    op.create_table(
        "vector_stores",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        *(sa.Column(of, sa.String(length=256), nullable=False) for of in ("project_id", "user_id", "key_id")),
        sa.Column("upstream", sa.String(length=256), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("changing", sa.Boolean(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("gone_at", sa.BigInteger(), nullable=True),
        sa.Column("charged_hour", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_vector_stores_organization_id")
        ),
        sa.PrimaryKeyConstraint("organization_id", "id", name=op.f("pk_vector_stores")),
    )


def _dimensions() -> None:
    texts = ("service_tier", "image_size", "image_source", "context_level", "vector_store_id")
    _dimension(
        "usage_dimensions",
        sa.Column("category", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=256), nullable=False),
        sa.Column("batch", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.String(length=256), nullable=False) for name in texts),
    )
    _dimension(
        "cost_dimensions",
        sa.Column("item", sa.String(length=256), nullable=False),
        sa.Column("unit", sa.String(length=40), nullable=False),
    )


def _dimension(name: str, *own: sa.Column[str] | sa.Column[bool]) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        *(sa.Column(of, sa.String(length=256), nullable=False) for of in ("project_id", "user_id", "key_id")),
        sa.Column("whole", sa.Boolean(), nullable=False),
        *own,
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
        sa.UniqueConstraint("digest", name=op.f(f"uq_{name}_digest")),
    )


def _grain(name: str, quantities: tuple[str, ...], partition: str | None = None) -> None:
    op.create_table(
        name,
        sa.Column("at", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("dimension", sa.Integer(), autoincrement=False, nullable=False),
        *(sa.Column(quantity, sa.BigInteger(), nullable=True) for quantity in quantities),
        sa.PrimaryKeyConstraint("at", "dimension", name=op.f(f"pk_{name}")),
        sqlite_with_rowid=False,
        postgresql_partition_by=partition,
        postgresql_with={} if partition else {"fillfactor": 80},
    )


def _reconciled() -> None:
    op.create_table(
        "reconciled_days",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("upstream", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Integer(), nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "upstream", "at", name=op.f("pk_reconciled_days")),
    )
    op.create_table(
        "reconciliations",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("upstream", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Integer(), nullable=False),
        sa.Column("category", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=256), nullable=False),
        sa.Column("field", sa.String(length=40), nullable=False),
        sa.Column("ours", sa.BigInteger(), nullable=False),
        sa.Column("theirs", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "organization_id", "upstream", "at", "category", "model", "field", name=op.f("pk_reconciliations")
        ),
    )
