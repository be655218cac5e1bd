"""The ledger's tables. `at`, of grains, events, refusals: minutes since 1970, when the minute, hour or day begins.

A grain has one row for what happened in its time with one dimension; a quantity that is null is none. Rows of `whole`
dimensions are sums over users and keys, for hours and days: what most ask for, in a fraction of the rows. On PostgreSQL
minutes and hours are partitioned by month (`ledger/partitions.py`).
"""

from collections.abc import Iterator

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from gateway.control.sql import tables
from gateway.control.sql.tables import LONGEST_ID
from gateway.values import Quantities

metadata = tables.metadata
LONGEST_TEXT = 256  # characters of a model's name and the like; what is longer is cut
LONGEST_FIELD = 600
_DIGEST = LargeBinary(16)  # of all that a dimension says


def stored(value: str) -> str:
    """A text as both databases take it: clients and upstreams write anything."""
    return value.replace("\0", "\ufffd")[:LONGEST_TEXT]


ledger_progress = Table(
    "ledger_progress",  # how far the usage stream is folded, and by whom
    metadata,
    Column("organization_id", String(LONGEST_ID), ForeignKey("organizations.id"), primary_key=True),
    Column("ledger", String(64), nullable=False),  # a name that no other database has: who may fold, as Redis knows it
    Column("holder", String(64), nullable=False),  # who folds
    Column("fence", BigInteger, nullable=False),  # grows with each holder: what an earlier one still writes is refused
    Column("held_until", BigInteger, nullable=False),  # seconds since 1970; later anybody may take over
    Column("epoch", Text, nullable=False),  # of the counters, when the position was written
    Column("position", Text, nullable=False),  # of the last entry that is folded
)

usage_events = Table(
    "usage_events",  # those that are folded, each once
    metadata,
    Column("id", String(LONGEST_TEXT), primary_key=True),
    Column("at", Integer, nullable=False),
    Column("unconfirmed", Boolean(create_constraint=False), nullable=False),
    Column("event", LargeBinary, nullable=False),  # a UsageEvent as JSON
    Column("upstream_id", Integer),  # `calls.upstream_key` of what its upstream called it; null: it did not
    Index(None, "at", "upstream_id"),  # behind the minute: texts without order would be written all over an index
)

usage_refusals = Table(
    "usage_refusals",  # what limits refused, or would have refused if they were no shadows; not all of it
    metadata,
    Column("position", String(64), primary_key=True),  # in the stream of refusals
    Column("organization_id", String(LONGEST_ID), primary_key=True),
    Column("at", Integer, nullable=False),
    Column("request_id", String(LONGEST_TEXT), nullable=False),  # empty: a number of calls
    Column("refusal", LargeBinary, nullable=False),  # a Refusal as JSON
    Index(None, "at"),
    Index(None, "request_id"),
)

usage_set_aside = Table(
    "usage_set_aside",  # events that are not folded, and why
    metadata,
    Column("position", String(64), primary_key=True),
    Column("organization_id", String(LONGEST_ID), primary_key=True),
    Column("reason", String(20), nullable=False),  # unreadable, late, ahead
    Column("set_aside_at", BigInteger, nullable=False),  # seconds since 1970
    Column("event", LargeBinary, nullable=False),
)

vector_stores = Table(
    "vector_stores",  # those that were seen in answers
    metadata,
    Column("organization_id", String(LONGEST_ID), ForeignKey("organizations.id"), primary_key=True),
    Column("id", String(LONGEST_ID), primary_key=True),
    Column("project_id", String(LONGEST_TEXT), nullable=False),  # whose it is: who made it, else who touched it first
    Column("user_id", String(LONGEST_TEXT), nullable=False),
    Column("key_id", String(LONGEST_TEXT), nullable=False),
    Column("upstream", String(LONGEST_TEXT), nullable=False),
    Column("bytes", BigInteger, nullable=False),  # as last heard of
    Column("changing", Boolean(create_constraint=False), nullable=False),  # and not the last word
    Column("seen_at", BigInteger, nullable=False),  # seconds since 1970
    Column("asked_at", BigInteger, nullable=False),  # when its upstream was asked for it; 0: never
    Column("gone_at", BigInteger),  # when it was known to be deleted or expired
    Column("charged_hour", Integer, nullable=False),  # the last one, since 1970, that is in the usage stream
)


def _dimension() -> Iterator[Column[int] | Column[bytes] | Column[str] | Column[bool]]:
    yield Column("id", Integer, primary_key=True)
    yield Column("digest", _DIGEST, nullable=False, unique=True)
    yield Column("organization_id", String(LONGEST_ID), nullable=False)
    for name in ("project_id", "user_id", "key_id"):
        yield Column(name, String(LONGEST_TEXT), nullable=False)
    yield Column("whole", Boolean(create_constraint=False), nullable=False)


usage_dimensions = Table(
    "usage_dimensions",
    metadata,
    *_dimension(),
    Column("category", String(40), nullable=False),
    Column("model", String(LONGEST_TEXT), nullable=False),
    Column("batch", Boolean(create_constraint=False), nullable=False),
    *(
        Column(name, String(LONGEST_TEXT), nullable=False)
        for name in ("service_tier", "image_size", "image_source", "context_level", "vector_store_id")
    ),
)

cost_dimensions = Table(
    "cost_dimensions",
    metadata,
    *_dimension(),
    Column("item", String(LONGEST_TEXT), nullable=False),
    Column("unit", String(40), nullable=False),
)


def _reconciled() -> Iterator[Column[int] | Column[str]]:
    yield Column("organization_id", String(LONGEST_ID), nullable=False)
    yield Column("upstream", String(64), nullable=False)
    yield Column("at", Integer, nullable=False)  # when the day begins


USE = ("requests", *Quantities.__struct_fields__)
MONEY = ("quantity", "nano_usd")
_BY_MONTH = "RANGE (at)"
FILL = 80
"""Per cent of a page that PostgreSQL fills with rows of hours and days: the next sum of a row finds room beside it."""


def _grain(quantities: tuple[str, ...]) -> Iterator[Column[int] | PrimaryKeyConstraint]:
    yield Column("at", Integer, nullable=False, autoincrement=False)
    yield Column("dimension", Integer, nullable=False, autoincrement=False)
    for quantity in quantities:
        yield Column(quantity, BigInteger)
    yield PrimaryKeyConstraint("at", "dimension")


usage_minutes = Table(
    "usage_minutes", metadata, *_grain(USE), sqlite_with_rowid=False, postgresql_partition_by=_BY_MONTH
)
usage_hours = Table("usage_hours", metadata, *_grain(USE), sqlite_with_rowid=False, postgresql_partition_by=_BY_MONTH)
usage_days = Table("usage_days", metadata, *_grain(USE), sqlite_with_rowid=False, postgresql_with={"fillfactor": FILL})
cost_hours = Table("cost_hours", metadata, *_grain(MONEY), sqlite_with_rowid=False, postgresql_partition_by=_BY_MONTH)
cost_days = Table("cost_days", metadata, *_grain(MONEY), sqlite_with_rowid=False, postgresql_with={"fillfactor": FILL})
# Of whom, without what for: dimensions whose item and unit are empty. All that somebody ever spent is the sum of these.
cost_months = Table("cost_months", metadata, *_grain(MONEY), sqlite_with_rowid=False)
spend_forgiven = Table(
    "spend_forgiven",  # what of the ledger's costs does not count for spend limits any more
    metadata,
    Column("organization_id", String(LONGEST_ID), ForeignKey("organizations.id"), primary_key=True),
    Column("field", String(LONGEST_FIELD), primary_key=True),  # of the counters: window and subject
    Column("nano_usd", BigInteger, nullable=False),
)

reconciled_days = Table(
    "reconciled_days",  # days that were compared with what an upstream says of them
    metadata,
    *_reconciled(),
    Column("checked_at", BigInteger, nullable=False),  # seconds since 1970
    PrimaryKeyConstraint("organization_id", "upstream", "at"),
)

reconciliations = Table(
    "reconciliations",  # what came of it
    metadata,
    *_reconciled(),
    Column("category", String(40), nullable=False),  # of the usage API, or `costs`
    Column("model", String(LONGEST_TEXT), nullable=False),
    Column("field", String(40), nullable=False),  # as OpenAI's results name it; of costs `nano_usd`
    Column("ours", BigInteger, nullable=False),
    Column("theirs", BigInteger, nullable=False),
    PrimaryKeyConstraint("organization_id", "upstream", "at", "category", "model", "field"),
)

PARTITIONED = (usage_minutes, usage_hours, cost_hours)
