"""Many rows stored at once: under keys that are reserved for them, on PostgreSQL by COPY."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import repeat
from typing import Any
from uuid import UUID

import orjson
from django.db import connection
from django.db.models import JSONField, Model
from psycopg.copy import LibpqWriter

from primitives.chunks import chunks

LINES_AT_A_TIME = 200  # of COPY
BYTES_AHEAD = 4 * 1024 * 1024  # of COPY, that may wait to be sent

Columns = Mapping[str, Any]  # a row's values, by their `attname`
Cell = Callable[[Any], Any]  # makes of a value what the database takes


def reserve_keys(model: type[Model], count: int) -> list[int]:
    """Return keys that no other row gets. Call it in a transaction, which on SQLite has begun to write."""
    table, key = model._meta.db_table, model._meta.pk.column
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # The lock that writing takes: a restoration that reserves a range under its own is waited for.
            cursor.execute(f"LOCK TABLE {connection.ops.quote_name(table)} IN ROW EXCLUSIVE MODE")
            cursor.execute(
                "SELECT nextval(name) FROM (SELECT pg_get_serial_sequence(%s, %s)::regclass AS name OFFSET 0) AS keys, "
                "generate_series(1, %s)",
                [table, key, count],
            )
            return [found for (found,) in cursor.fetchall()]
        cursor.execute("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = %s", [table])
        last: int = cursor.fetchone()[0]
        return list(range(last + 1, last + 1 + count))


def has_claims_first() -> bool:
    """Return whether new claims are stored before their comparisons, which are then stored once, with their counters.

    SQLite would search whole tables for rows that name a comparison, as long as others wait for theirs.
    """
    return connection.vendor == "postgresql"


def store_rows(
    model: type[Model],
    rows: Sequence[Columns],
    keys: Sequence[int] | None = None,
    shared: Columns | None = None,
) -> list[int]:
    """Store rows of one model, which name the same columns, and return their keys in the same order.

    `keys` are those that were reserved for them, `shared` the columns that are the same in all of them. The other
    columns have their defaults. In the caller's transaction.
    """
    if not rows:
        return []
    keys = keys or reserve_keys(model, len(rows))
    write_rows(model, zip(keys, rows, strict=True), tuple(rows[0]), shared or {})
    return list(keys)


def write_rows(
    model: type[Model],
    rows: Iterable[tuple[int, Columns]],
    given: tuple[str, ...],
    shared: Columns | None = None,
) -> None:
    """Write (key, row), of which each has the columns that `given` names; those of `shared` are the same in all.

    The other columns have their defaults. PostgreSQL takes rows by COPY several times as fast as by INSERT, and holds
    triggers and constraints for both.
    """
    shared = shared or {}
    layout = _layout(model, given, tuple(shared), connection.vendor)
    table, *quoted = map(connection.ops.quote_name, (model._meta.db_table, *layout.names))
    names = ", ".join(quoted)
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            places = ", ".join(["%s"] * len(layout.names))
            statement = f"INSERT INTO {table} ({names}) VALUES ({places})"  # noqa: S608 - of models
            for chunk in chunks(rows, LINES_AT_A_TIME):
                cursor.executemany(statement, list(layout.cells(chunk, shared)))
            return
        plain = cursor.cursor  # that of Django takes no writer
        writer = LibpqWriter(plain, flush_threshold=BYTES_AHEAD)
        statement = f"COPY {table} ({names}) FROM STDIN"
        with connection.wrap_database_errors, plain.copy(statement, writer=writer) as copy:
            for chunk in chunks(rows, LINES_AT_A_TIME):
                copy.write("\n".join(map("\t".join, layout.cells(chunk, shared))) + "\n")


def count_new_tables(*models: type[Model]) -> None:
    """Let PostgreSQL count the rows of tables that it still takes for empty.

    It keeps the plans of statements. Those that were made for empty tables would read them whole once they have grown.
    """
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT oid::regclass::text FROM pg_class "
            "WHERE oid = ANY(%s::regclass[]) AND reltuples <= 0 AND pg_relation_size(oid) > 0",
            [[model._meta.db_table for model in models]],
        )
        if tables := [name for (name,) in cursor.fetchall()]:
            cursor.execute(f"ANALYZE {', '.join(tables)}")


class _Layout:
    """The columns of rows to write: the key, those that are given, those with a default for each row, and the others.

    Those that the database computes, or has a default for, are not among them.
    """

    def __init__(
        self, model: type[Model], given: tuple[str, ...], shared: tuple[str, ...], vendor: str
    ) -> None:
        of_value: Cell = _copied if vendor == "postgresql" else _bound
        of_json: Cell = _copied_json if vendor == "postgresql" else _bound_json
        self.of_key: Cell = str if vendor == "postgresql" else int
        fields = {
            field.attname: field
            for field in model._meta.local_concrete_fields
            if not field.primary_key and not field.generated
        }
        cells = {
            name: of_json if isinstance(field, JSONField) else of_value for name, field in fields.items()
        }
        named = {*given, *shared}
        defaults = [
            field for name, field in fields.items() if name not in named and not field.has_db_default()
        ]
        drawn = [field for field in defaults if field.has_default() and _is_drawn(field.default)]
        same = [field for field in defaults if field not in drawn]
        self.given = [(name, cells[name]) for name in given]
        self.shared = [(name, cells[name]) for name in shared]
        self.drawn = [(field.default, cells[field.attname]) for field in drawn]
        self.same = [repeat(cells[field.attname](field.get_default())) for field in same]
        ordered = [*(fields[name] for name in (*given, *shared)), *drawn, *same]
        self.names = [str(model._meta.pk.column), *(str(field.column) for field in ordered)]

    def cells(self, rows: Sequence[tuple[int, Columns]], shared: Columns) -> Iterator[tuple[Any, ...]]:
        """Yield rows as the database takes them, made column by column."""
        return zip(
            [self.of_key(key) for key, _row in rows],
            *(_column(cell, [row[name] for _key, row in rows]) for name, cell in self.given),
            *(repeat(cell(shared[name])) for name, cell in self.shared),
            *([cell(default()) for _row in rows] for default, cell in self.drawn),
            *self.same,
            strict=False,
        )


_layout = lru_cache(maxsize=64)(_Layout)


def _is_drawn(default: Any) -> bool:
    """Return whether each row gets a default of its own. An empty list or object is the same for all."""
    return callable(default) and default not in (dict, list)


def _column(cell: Cell, values: list[Any]) -> Iterable[Any]:
    """Return the cells of a column. That of a value which all rows share, such as a time or none, is made once."""
    first = values[0]
    if cell in (_copied_json, _bound_json):  # in which 1 and true differ
        if first is None and values.count(None) == len(values):
            return repeat(cell(None))
    elif values.count(first) == len(values):
        return repeat(cell(first))
    elif cell is _copied and type(first) is int and set(map(type, values)) == {int}:
        return map(str, values)  # ids, which are most of what is stored
    return map(cell, values)


def _copied(value: Any) -> str:
    """Return a value in the text format of COPY."""
    if value is None:
        return "\\N"
    text = str(value)
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text or "\t" in text or "\r" in text:
        text = text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return text


def _copied_json(value: Any) -> str:
    if value is None:
        return "\\N"
    if not value and type(value) is dict:
        return "{}"  # as most are
    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # half characters in a key, whole numbers beyond 64 bits
        return _copied(json.dumps(value))
    if "null" in text:  # which may stand for an infinite number: the database is to refuse that
        return _copied(json.dumps(value))
    return text.replace("\\", "\\\\")  # JSON has no line ends and no tabs of its own


def _bound(value: Any) -> Any:
    """Return a value as a parameter of SQLite's driver."""
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    return value.hex if isinstance(value, UUID) else value


def _bound_json(value: Any) -> Any:
    return None if value is None else json.dumps(value)
