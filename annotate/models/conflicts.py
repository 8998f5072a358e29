"""Database conflicts, which are retried, and many rows at once: updated in chunks, or stored by COPY."""

import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, wraps
from itertools import repeat
from typing import Any, ParamSpec, TypeVar

import orjson
from django.db import DatabaseError, IntegrityError, connection
from django.db.models import JSONField, Max, Min, Model, QuerySet

ATTEMPTS = 10
ROWS_AT_A_TIME = 10_000  # of one UPDATE, so that annotators who judge meanwhile do not wait for long
LINES_AT_A_TIME = 200  # of COPY
TAB = "\t"

P = ParamSpec("P")
T = TypeVar("T")
Row = Mapping[str, Any]  # the columns of a row, by their `attname`


class RaceError(IntegrityError):
    """Another transaction was faster. Roll back and look again, as when a unique index says so."""


def again_on_race(function: Callable[P, T]) -> Callable[P, T]:
    """Retry on a conflict, usually two tabs of the same user. The second was refused, and now sees the first.

    An index refuses it, or PostgreSQL in a deadlock. `function` opens its own transactions.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
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
    ends = rows.aggregate(first=Min("pk"), last=Max("pk"))
    if ends["first"] is None:
        return 0
    starts = range(ends["first"], ends["last"] + 1, ROWS_AT_A_TIME)
    parts = (rows.filter(pk__gte=start, pk__lt=start + ROWS_AT_A_TIME) for start in starts)
    return sum(again_on_race(part.update)(**changes) for part in parts)


# --- Many rows stored ---


def reserve_keys(model: type[Model], count: int) -> list[int]:
    """Return keys for new rows that no other row gets. On SQLite the caller's transaction must have begun to write."""
    table, key = model._meta.db_table, model._meta.pk.column
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT nextval(name) FROM (SELECT pg_get_serial_sequence(%s, %s)::regclass AS name OFFSET 0) AS keys, "
                "generate_series(1, %s)",
                [table, key, count],
            )
            return [found for (found,) in cursor.fetchall()]
        cursor.execute("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = %s", [table])
        last: int = cursor.fetchone()[0]
        return list(range(last + 1, last + 1 + count))


def store_rows(model: type[Model], rows: Sequence[Row], keys: Sequence[int] | None = None) -> list[int]:
    """Store rows of one model, which name the same columns, and return their keys in the same order.

    `keys` are those that were reserved for them. The other columns have their defaults. PostgreSQL takes rows by COPY
    several times as fast as by INSERT, and holds triggers and constraints for both.
    """
    if not rows:
        return []
    if connection.vendor != "postgresql":
        keyed: Iterable[Mapping[str, Any]] = [{"pk": key} for key in keys] if keys else repeat({})
        made = (model(**key, **row) for key, row in zip(keyed, rows, strict=False))
        return [one.pk for one in model._default_manager.bulk_create(made)]
    keys = keys or reserve_keys(model, len(rows))
    copy_rows(model, zip(keys, rows, strict=True), tuple(rows[0]))
    return list(keys)


def copy_rows(model: type[Model], rows: Iterable[tuple[int, Row]], given: tuple[str, ...]) -> None:
    """Write (key, row) by PostgreSQL's COPY. `given` names the columns of each row."""
    layout = _layout(model, given)
    names = ", ".join(map(_quoted, layout.names))
    copying = f"COPY {_quoted(model._meta.db_table)} ({names}) FROM STDIN"
    with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(copying) as copy:
        lines: list[str] = []
        for key, row in rows:
            lines.append(layout.line(key, row))
            if len(lines) == LINES_AT_A_TIME:
                copy.write("".join(lines))
                lines.clear()
        copy.write("".join(lines))


class _Layout:
    """The columns of COPY: the key, those that are given, those with a default for each row, and the same for all.

    Those that the database computes, or has a default for, are not among them.
    """

    def __init__(self, model: type[Model], given: tuple[str, ...]) -> None:
        fields = {
            field.attname: field
            for field in model._meta.local_concrete_fields
            if not field.primary_key and not field.generated
        }
        defaults = [
            field for name, field in fields.items() if name not in given and not field.has_db_default()
        ]
        drawn = [field for field in defaults if field.has_default() and callable(field.default)]
        same = [field for field in defaults if field not in drawn]
        self.given = [(name, _json_cell if isinstance(fields[name], JSONField) else _cell) for name in given]
        self.drawn = [
            (field.default, _json_cell if isinstance(field, JSONField) else _cell) for field in drawn
        ]
        self.end = "".join(f"\t{_cell(field.get_default())}" for field in same) + "\n"
        ordered = [*(fields[name] for name in given), *drawn, *same]
        self.names = [str(model._meta.pk.column), *(str(field.column) for field in ordered)]

    def line(self, key: int, row: Row) -> str:
        """Return a row in COPY's text format."""
        cells = [cell(row[name]) for name, cell in self.given]
        cells += [cell(default()) for default, cell in self.drawn]
        return f"{key}\t{TAB.join(cells)}{self.end}"


_layout = lru_cache(maxsize=64)(_Layout)


def _cell(value: Any) -> str:
    """Return a value in COPY's text format."""
    if value is None:
        return "\\N"
    if isinstance(value, str):
        if "\\" in value:
            value = value.replace("\\", "\\\\")
        if "\n" in value or "\t" in value or "\r" in value:
            value = value.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
        return str(value)
    return str(value)


def _json_cell(value: Any) -> str:
    if value is None:
        return "\\N"
    try:
        return (
            orjson.dumps(value).decode().replace("\\", "\\\\")
        )  # JSON has no line ends and no tabs of its own
    except TypeError:  # keys that are no text, and the like
        return _cell(json.dumps(value))


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)
