"""What alembic runs to come by a connection: ours, in its transaction. SQLite changes tables by copying them."""

from alembic import context

from gateway.control.sql import ledger_tables

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=ledger_tables.metadata, render_as_batch=connection.dialect.name == "sqlite"
)
with context.begin_transaction():
    context.run_migrations()
