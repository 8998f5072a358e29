"""Database conflicts, which are retried, and many rows at once: found by key, updated in chunks, or stored by COPY."""

import json
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache, wraps
from itertools import repeat
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import orjson
from django.db import DatabaseError, IntegrityError, connection
from django.db.models import JSONField, Max, Min, Model, QuerySet
from psycopg.copy import LibpqWriter

from primitives.chunks import chunks

ATTEMPTS = 10
ROWS_AT_A_TIME = 10_000  # of one UPDATE, so that annotators who judge meanwhile do not wait for long
LINES_AT_A_TIME = 200  # of COPY
BYTES_AHEAD = 4 * 1024 * 1024  # of COPY, that may wait to be sent

WANTED = "json_array_elements_text(%s::json) AS wanted(value)"  # psycopg takes long to write an array

P = ParamSpec("P")
T = TypeVar("T")
Row = Mapping[str, Any]  # the columns of a row, by their `attname`
Cell = Callable[[Any], Any]  # makes of a value what the database takes

_is_retried = ContextVar("is_retried", default=False)  # by a function that is being called


class RaceError(IntegrityError):
    """Another transaction was faster. Roll back and look again, as when a unique index says so."""


def again_on_race(function: Callable[P, T]) -> Callable[P, T]:
    """Retry on a conflict, usually two tabs of the same user. The second was refused, and now sees the first.

    An index refuses it, or PostgreSQL in a deadlock. `function` opens its own transactions. Inside of another function
    that is retried it is called once: the outermost one is retried, with all that it does.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        if _is_retried.get():
            return function(*args, **kwargs)
        token = _is_retried.set(True)
        try:
            return retried(*args, **kwargs)
        finally:
            _is_retried.reset(token)

    def retried(*args: P.args, **kwargs: P.kwargs) -> T:
        for _ in range(ATTEMPTS - 1):
            try:
                return function(*args, **kwargs)
            except DatabaseError as error:
                if not isinstance(error, IntegrityError) and not _is_deadlock(error):
                    raise
                time.sleep(random.uniform(0, 0.02))  # so that the two do not meet again
        return function(*args, **kwargs)

    return wrapper


def _is_deadlock(error: DatabaseError) -> bool:
    return getattr(error.__cause__, "sqlstate", None) == "40P01"


def update_in_parts(rows: "QuerySet[Any]", **changes: Any) -> int:
    """Do `rows.update(**changes)` in chunks of keys, and return how many rows changed. Not atomic."""
    return sum(again_on_race(part.update)(**changes) for part in in_parts(rows))


def in_parts(rows: "QuerySet[Any]") -> Iterator["QuerySet[Any]"]:
    """Yield rows in chunks of keys."""
    ends = rows.aggregate(first=Min("pk"), last=Max("pk"))
    if ends["first"] is not None:
        for start in range(ends["first"], ends["last"] + 1, ROWS_AT_A_TIME):
            yield rows.filter(pk__gte=start, pk__lt=start + ROWS_AT_A_TIME)


# --- Many rows found ---


def find_keys(model: type[Model], project: int, column: str, values: Collection[str]) -> list[int]:
    """Return the keys of a project's rows that have one of many texts in a column: one look at its index for each.

    A plain `IN` is a join that PostgreSQL plans by its statistics. During a first import they say that the project is
    empty, and each chunk would read all of it. So the project is a column of the join, too, and not a value to plan by.
    """
    if not values:
        return []
    if connection.vendor != "postgresql":
        rows = model._default_manager.filter(project=project, **{f"{column}__in": values})
        return list(rows.values_list("pk", flat=True))
    name = _quoted(column)
    one = (
        f"SELECT id FROM {_quoted(model._meta.db_table)} "  # noqa: S608 - of models
        f"WHERE project_id = here.project AND {name} = wanted.value AND {name} <> '' OFFSET 0"
    )
    each = (
        "SELECT found.id FROM (SELECT %s::bigint AS project OFFSET 0) AS here "  # noqa: S608 - of models
        f"CROSS JOIN {WANTED} CROSS JOIN LATERAL ({one}) AS found"
    )
    with connection.cursor() as cursor:
        cursor.execute(each, [project, json.dumps(list(values))])
        return [key for (key,) in cursor.fetchall()]


def find_named(
    model: type[Model], project: int, external_ids: Collection[str], column: str, most: int
) -> list[tuple[str, Any]]:
    """Return (external id, value of a column) of a project's rows, `most` of them for each id that many may share."""
    if not external_ids:
        return []
    table = _quoted(model._meta.db_table)
    values: tuple[Any, ...]
    if connection.vendor == "postgresql":
        each = (
            f"SELECT wanted.value, found.{_quoted(column)} "  # noqa: S608 - of models
            f"FROM (SELECT %s::bigint AS project OFFSET 0) AS here CROSS JOIN {WANTED} "
            f"CROSS JOIN LATERAL (SELECT * FROM {table} WHERE project_id = here.project "
            "AND external_id = wanted.value AND external_id <> '' LIMIT %s) AS found"
        )
        values = project, json.dumps(list(external_ids)), most
    else:
        each = (
            f"SELECT wanted.value, found.{_quoted(column)} "  # noqa: S608 - of models
            f"FROM json_each(%s) AS wanted CROSS JOIN {table} AS found WHERE found.id IN (SELECT id FROM {table} "
            "WHERE project_id = %s AND external_id = wanted.value AND NOT (external_id = '') LIMIT %s)"
        )
        values = json.dumps(list(external_ids)), project, most
    with connection.cursor() as cursor:
        cursor.execute(each, values)
        return [(external_id, value) for external_id, value in cursor.fetchall()]


# --- Many rows stored ---


def reserve_keys(model: type[Model], count: int) -> list[int]:
    """Return keys that no other row gets. Call it in a transaction, which on SQLite has begun to write."""
    table, key = model._meta.db_table, model._meta.pk.column
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # The lock that writing takes: a restoration that reserves a range under its own is waited for.
            cursor.execute(f"LOCK TABLE {_quoted(table)} IN ROW EXCLUSIVE MODE")
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
    rows: Sequence[Row],
    keys: Sequence[int] | None = None,
    shared: Row | None = None,
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
    model: type[Model], rows: Iterable[tuple[int, Row]], given: tuple[str, ...], shared: Row | None = None
) -> None:
    """Write (key, row), of which each has the columns that `given` names; those of `shared` are the same in all.

    The other columns have their defaults. PostgreSQL takes rows by COPY several times as fast as by INSERT, and holds
    triggers and constraints for both.
    """
    shared = shared or {}
    layout = _layout(model, given, tuple(shared), connection.vendor)
    table, names = _quoted(model._meta.db_table), ", ".join(map(_quoted, layout.names))
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

    def cells(self, rows: Sequence[tuple[int, Row]], shared: Row) -> Iterator[tuple[Any, ...]]:
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


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)
