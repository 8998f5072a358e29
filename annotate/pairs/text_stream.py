"""Texts of comparisons, read ahead: PostgreSQL looks for the next ones while Python writes the last ones.

No thread takes part. A query is sent on a connection of its own, and its rows are taken when they are needed. A thread
would have to wait for Python's lock whenever a part of the rows arrives.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, TypeVar

from django.db import DatabaseError, connection
from psycopg import errors, pq
from psycopg.adapt import Transformer

from annotate.pairs.texts import AT_A_TIME, Texts, as_texts, read_texts, texts_statement

ASKED_AT_A_TIME = 125  # comparisons: about as many as fit into the socket between the server and Python
STATEMENT = b"read texts"
T = TypeVar("T")


def read_ahead(rows: Iterable[T], key: Callable[[T], int]) -> Iterator[tuple[list[T], dict[int, Texts]]]:
    """Yield some rows at a time, with the texts of their comparisons. `key` returns the comparison of a row."""
    stream = _open_stream()
    if stream is None:
        for some in _batches(rows, AT_A_TIME):
            yield some, read_texts([key(row) for row in some])
        return
    try:
        yield from _read_ahead(stream, _batches(rows, ASKED_AT_A_TIME), key)
    finally:
        stream.close()


def _read_ahead(
    stream: "_Stream", batches: Iterator[list[T]], key: Callable[[T], int]
) -> Iterator[tuple[list[T], dict[int, Texts]]]:
    asked: list[T] = []
    for some in batches:
        found = stream.take() if asked else {}
        stream.ask([key(row) for row in some])
        if asked:
            yield asked, found
        asked = some
    if asked:
        yield asked, stream.take()


def _batches(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(rows)
    return iter(lambda: list(islice(rest, size)), [])


def _open_stream() -> "_Stream | None":
    """Return a stream, or None where texts are better asked for as they are needed.

    Another connection does not see what a transaction has written, and a pooler may not keep prepared statements.
    SQLite does its work in this process. A server may have no connection left.
    """
    is_able = connection.vendor == "postgresql" and not connection.in_atomic_block
    if not is_able or not connection.settings_dict["OPTIONS"].get("prepare_threshold"):
        return None
    with suppress(DatabaseError):
        return _Stream()
    return None


class _Stream:
    """A connection with one query under way."""

    def __init__(self) -> None:
        self._django = connection.copy()
        try:
            self._django.ensure_connection()
            self._connection = self._django.connection
            self._server = self._connection.pgconn
            statement = texts_statement("postgresql").replace("%s", "$1")
            self._check(self._server.prepare(STATEMENT, statement.encode()))
        except BaseException:
            self.close()
            raise

    def ask(self, keys: list[int]) -> None:
        """Send the query for comparisons by their keys."""
        wanted = f"{{{','.join(map(str, keys))}}}".encode()
        with self._django.wrap_database_errors:
            self._server.send_query_prepared(STATEMENT, [wanted])

    def take(self) -> dict[int, Texts]:
        """Return the texts that were asked for."""
        rows: list[tuple[Any, ...]] = []
        with self._django.wrap_database_errors:
            while result := self._server.get_result():
                self._check(result)
                transformer = Transformer.from_context(self._connection)
                transformer.set_pgresult(result)
                rows += transformer.load_rows(0, result.ntuples, tuple)
        return as_texts(rows)

    def close(self) -> None:
        """Close the connection, whatever is under way."""
        self._django.close()

    def _check(self, result: Any) -> None:
        """Raise the error that a result is."""
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            raise errors.error_from_result(result)
