"""Database conflicts, which are retried, and many rows at once: updated in chunks, or stored by COPY."""

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

from django.db import DatabaseError, IntegrityError, connection
from django.db.models import JSONField, Max, Min, Model, QuerySet

ATTEMPTS = 10
ROWS_AT_A_TIME = 10_000  # of one UPDATE, so that annotators who judge meanwhile do not wait for long

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


def store_rows(model: type[Model], rows: Sequence[Row]) -> list[int]:
    """Store rows of one model, which name the same columns, and return their keys in the same order.

    The other columns have their defaults. PostgreSQL takes rows by COPY several times as fast as by INSERT, and holds
    triggers and constraints for both.
    """
    if not rows:
        return []
    if connection.vendor != "postgresql":
        return [made.pk for made in model._default_manager.bulk_create(model(**row) for row in rows)]
    columns = _columns(model, tuple(rows[0]))
    table, names = _quoted(model._meta.db_table), ", ".join(_quoted(column.name) for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(name) FROM (SELECT pg_get_serial_sequence(%s, %s)::regclass AS name OFFSET 0) AS keys, "
            "generate_series(1, %s)",
            [table, model._meta.pk.column, len(rows)],
        )
        keys = [key for (key,) in cursor.fetchall()]
        key_name = model._meta.pk.attname
        copying = f"COPY {table} ({names}) FROM STDIN"
        with connection.wrap_database_errors, cursor.copy(copying) as copy:
            for key, row in zip(keys, rows, strict=True):
                whole = {**row, key_name: key}
                copy.write_row([column.read(whole) for column in columns])
    return keys


class _Column(NamedTuple):
    """A column to write. `default` is None where each row gives its value."""

    name: str
    attname: str
    is_json: bool
    default: Callable[[], Any] | None

    def read(self, row: Row) -> Any:
        value = row[self.attname] if self.default is None else self.default()
        return json.dumps(value) if self.is_json and value is not None else value


@lru_cache(maxsize=64)
def _columns(model: type[Model], given: tuple[str, ...]) -> list[_Column]:
    """Return the columns to write: not those that the database computes, or has a default for."""
    return [
        _Column(
            str(field.column),
            field.attname,
            isinstance(field, JSONField),
            None if field.primary_key or field.attname in given else field.get_default,
        )
        for field in model._meta.local_concrete_fields
        if not field.generated and (field.attname in given or field.primary_key or not field.has_db_default())
    ]


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)
