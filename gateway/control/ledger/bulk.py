"""Many rows in one statement, without what SQLAlchemy does for each: a batch of events touches some five thousand."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Column, String, Table
from sqlalchemy.ext.asyncio import AsyncConnection

_PER_QUERY = 1_000  # parameters
_EACH_ANEW = "SET LOCAL plan_cache_mode = force_custom_plan"
"""On PostgreSQL, for the rest of the transaction: a plan that was kept from when a table had few rows reads all of them
for ever, unless somebody analyzes the table."""


async def insert_rows(
    connection: AsyncConnection, table: Table, rows: Collection[Sequence[Any]], *, adds: Iterable[str] = ()
) -> None:
    """Inserts them in this order. rows: values of all columns. adds: columns whose values are added to those of a row
    with the same primary key, if there is one; null is nothing. Raises SQLAlchemyError."""
    if not rows:
        return
    names = ", ".join(table.c.keys())
    place = ", ".join(table.primary_key.columns.keys())
    sums = ", ".join(f"{one} = coalesce({table}.{one} + excluded.{one}, {table}.{one}, excluded.{one})" for one in adds)
    conflict = f" ON CONFLICT ({place}) DO UPDATE SET {sums}" if sums else ""
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(table.c))
        statement = f"INSERT INTO {table} ({names}) VALUES ({marks}){conflict}"  # noqa: S608
        await connection.exec_driver_sql(statement, list(rows))
        return
    arrays = ", ".join(_array(connection, column, number) for number, column in enumerate(table.c, 1))
    statement = f"INSERT INTO {table} ({names}) SELECT * FROM unnest({arrays}){conflict}"  # noqa: S608
    await connection.exec_driver_sql(statement, tuple(zip(*rows, strict=True)))


def _array(connection: AsyncConnection, column: Column[Any], number: int) -> str:
    """Texts have no length here: a cast to one would cut them."""
    kind = "TEXT" if isinstance(column.type, String) else column.type.compile(connection.dialect)
    return f"${number}::{kind}[]"


async def select_by(
    connection: AsyncConnection, select: str, column: Column[Any], values: Sequence[Any]
) -> list[Sequence[Any]]:
    """The rows whose column has one of the values. select: what of them, up to its FROM. Raises SQLAlchemyError."""
    found: list[Sequence[Any]] = []
    if connection.dialect.name != "sqlite":
        await connection.exec_driver_sql(_EACH_ANEW)
    for start in range(0, len(values), _PER_QUERY):
        some = tuple(values[start : start + _PER_QUERY])
        if connection.dialect.name == "sqlite":
            condition, parameters = f"IN ({', '.join('?' * len(some))})", some
        else:
            condition, parameters = f"= ANY ({_array(connection, column, 1)})", (some,)
        result = await connection.exec_driver_sql(f"{select} WHERE {column.name} {condition}", parameters)
        found += result.all()
    return found
