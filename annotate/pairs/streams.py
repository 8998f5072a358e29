"""Rows that PostgreSQL finds while Python works on earlier ones. No thread takes part: it would have to wait for
Python's lock whenever a part of the rows arrives. Each stream has a connection of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import DatabaseError, connection
from django.db.models import QuerySet
from psycopg import errors, pq
from psycopg.adapt import Transformer

from annotate.models import Judgment

STATEMENT = b"read texts"
ROWS_AT_A_TIME = 1_000
Row = tuple[Any, ...]

_is_hasty = ContextVar("_is_hasty", default=False)


@contextmanager
def hasty() -> Iterator[None]:
    """Let rows come from a statement that is open until the last one. They must be taken without delay.

    The database keeps what is deleted while a statement is open, which a slow download would prolong to hours.
    """
    token = _is_hasty.set(True)
    try:
        yield
    finally:
        _is_hasty.reset(token)


def stream_rows(rows: "QuerySet[Judgment, Row]") -> Iterator[Row]:
    """Yield the rows of `values_list`, whose columns need no conversion by Django.

    In haste they are streamed. Otherwise the database finds them all before it gives the first one.
    """
    own = open_connection() if _is_hasty.get() else None
    if own is None:
        yield from rows.iterator(chunk_size=2_000)
        return
    try:
        statement = rows.query.sql_with_params()
        with own.wrap_database_errors, own.connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")  # it would count what the caller does between rows
            yield from cursor.stream(*statement, size=ROWS_AT_A_TIME)
    except EmptyResultSet:  # of conditions that nothing can meet
        return
    finally:
        own.close()


class Stream:
    """One statement, whose one parameter `$1` are keys, with one of its questions under way."""

    def __init__(self, own: Any, statement: str) -> None:
        self._own, self._connection, self._server = own, own.connection, own.connection.pgconn
        try:
            self._check(self._server.prepare(STATEMENT, statement.encode()))
        except BaseException:
            self.close()
            raise

    def ask(self, keys: list[int]) -> None:
        """Send the statement with keys."""
        wanted = f"{{{','.join(map(str, keys))}}}".encode()
        with self._own.wrap_database_errors:
            self._server.send_query_prepared(STATEMENT, [wanted])

    def take(self) -> list[Row]:
        """Return the rows that were asked for."""
        rows: list[Row] = []
        with self._own.wrap_database_errors:
            while result := self._server.get_result():
                self._check(result)
                transformer = Transformer.from_context(self._connection)
                transformer.set_pgresult(result)
                rows += transformer.load_rows(0, result.ntuples, tuple)
        return rows

    def close(self) -> None:
        """Close the connection, whatever is under way."""
        self._own.close()

    def _check(self, result: Any) -> None:
        """Raise the error that a result is."""
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            raise errors.error_from_result(result)


def open_connection() -> Any:
    """Return another connection to the database, or None where this one does better.

    Another connection does not see what a transaction has written, and a pooler may not keep prepared statements.
    SQLite does its work in this process. A server may have no connection left.
    """
    is_able = connection.vendor == "postgresql" and not connection.in_atomic_block
    if not is_able or not connection.settings_dict["OPTIONS"].get("prepare_threshold"):
        return None
    with suppress(DatabaseError):
        own = connection.copy()
        try:
            own.ensure_connection()
        except BaseException:
            own.close()
            raise
        return own
    return None
