"""Rows as the bytes of a file, streamed: lines and arrays of JSON, CSV, Parquet, and several files in one zip."""

import json
import zipfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Protocol

from annotate.exports.shapes import Row
from annotate.pairs.lines import csv_lines, json_line
from primitives.text import make_storable

LARGE_CHUNK = 64 * 1024  # bytes
ROWS_AT_A_TIME = 2_000  # of Parquet's row groups, in memory together
# The type of a column by its name, for Parquet. Texts and messages are told apart by the rows.
INTEGERS = {
    "comparison", "prompt_id", "chosen_completion", "rejected_completion", "chosen_seed", "rejected_seed",
    "votes_chosen", "votes_rejected", "votes_tie", "judgment", "replaces", "preferred", "strength", "left", "right",
    "gold", "completion_id",
}  # fmt: skip
FLOATS = {"label", "margin", "weight", "chosen_logprob", "rejected_logprob", "seconds"}
FLAGS = {"held_out", "late", "too_fast", "current", "both_bad"}
LISTS_OF_INTEGERS = {
    "judgments", "strengths", "prompt_token_ids", "chosen_token_ids", "rejected_token_ids",
}  # fmt: skip
LISTS_OF_TEXTS = {"annotators", "verdicts", "reasons", "reason_titles", "criterion_titles"}
LISTS_OF_FLAGS = {"chosen_left", "imported"}
CONTENT = ("prompt", "chosen", "rejected", "completion")
PLAIN_MESSAGE = {"role", "content"}


# --- JSON --------------------------------------------------------------------------------------------------------


def json_lines(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[bytes]:
    """Yield rows as JSON Lines."""
    return map(json_line, rows)


def json_array(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[bytes]:
    """Yield rows as one JSON array, a row a line."""
    opening = b"["
    for row in rows:
        yield opening + b"\n" + json_line(row).rstrip(b"\n")
        opening = b","
    yield b"[]\n" if opening == b"[" else b"\n]\n"


# --- CSV ---------------------------------------------------------------------------------------------------------


def plain_csv(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[bytes]:
    """Yield rows as CSV with a header, texts as they are."""
    return csv_lines(rows, columns)


def spreadsheet_csv(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[bytes]:
    """Yield rows as CSV in which no text is a formula to a spreadsheet."""
    return csv_lines(rows, columns, for_spreadsheets=True)


# --- Parquet -----------------------------------------------------------------------------------------------------


class Sink:
    """A file that is read by chunks while it is written, and that nothing can seek in."""

    closed = False

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._length = 0

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        self._chunks.append(chunk)
        self._length += len(chunk)
        return len(chunk)

    def tell(self) -> int:
        return self._length

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def drain(self) -> bytes:
        """Return what was written since the last call."""
        found = b"".join(self._chunks)
        self._chunks.clear()
        return found


class Rows(Protocol):
    """The rows of a file, which can be gone through more than once."""

    def __iter__(self) -> Iterator[Row]: ...

    def message_type(self) -> Any:
        """Return the type of messages in it and in the files that are read together with it."""


def parquet(rows: Rows, columns: Sequence[str]) -> Iterator[bytes]:
    """Yield rows as a Parquet file with typed columns. `rows` is gone through twice for chats."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rest = iter(rows)
    some = list(islice(rest, ROWS_AT_A_TIME))
    head, messages = some[0] if some else {}, None
    if not some or _has_messages(head):
        messages = rows.message_type()
        rest = iter(rows)
        some = list(islice(rest, ROWS_AT_A_TIME))
    schema = pa.schema([(column, _type(column, head, messages)) for column in columns])
    sink = Sink()
    with pq.ParquetWriter(pa.PythonFile(sink, "w"), schema, compression="zstd") as writer:
        while some:
            writer.write_table(_table(some, schema))
            yield sink.drain()
            some = list(islice(rest, ROWS_AT_A_TIME))
    yield sink.drain()


def message_type(rows: Iterable[Row]) -> Any:
    """Return the type of messages: a list of roles and contents, or JSON where one of them holds anything else.

    None for rows of plain text.

    A type for every key would fill each message with the keys of all others, and change what was said. `datasets` reads
    JSON as messages, and other readers as text.
    """
    import pyarrow as pa

    rest = iter(rows)
    first = next(rest, {})
    if not _has_messages(first):
        return None
    is_plain = all(
        message.keys() == PLAIN_MESSAGE and isinstance(message["content"], str)
        for row in chain([first], rest)
        for column in CONTENT
        if isinstance(content := row.get(column), list)
        for message in content
    )
    plain = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    return plain if is_plain else pa.json_()


def _has_messages(row: Row) -> bool:
    return any(isinstance(row.get(column), list) for column in CONTENT)


def _type(column: str, head: Row, messages: Any) -> Any:
    import pyarrow as pa

    kinds = {
        pa.int64(): INTEGERS, pa.float64(): FLOATS, pa.bool_(): FLAGS, pa.list_(pa.int64()): LISTS_OF_INTEGERS,
        pa.list_(pa.string()): LISTS_OF_TEXTS, pa.list_(pa.bool_()): LISTS_OF_FLAGS,
    }  # fmt: skip
    if messages is not None and column in CONTENT:
        return messages
    if isinstance(head.get(column), bool):
        return pa.bool_()  # KTO's label, which elsewhere is a probability
    return next((kind for kind, names in kinds.items() if column in names), pa.string())


def _table(rows: list[Row], schema: Any) -> Any:
    import pyarrow as pa

    columns = zip(*map(itemgetter(*schema.names), rows), strict=True)
    arrays = [_array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: Sequence[Any], kind: Any) -> Any:
    """Return a column. What does not fit into one of texts is JSON there. UTF-8 has no halves of surrogate pairs."""
    import pyarrow as pa

    try:
        return pa.array(values, kind)
    except pa.ArrowTypeError:
        return _array([_as_text(value) for value in values], kind)
    except UnicodeEncodeError:
        return pa.array([_encodable(value) for value in values], kind)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return make_storable(value)
    if isinstance(value, list):
        return [_encodable(one) for one in value]
    return {key: _encodable(one) for key, one in value.items()} if isinstance(value, dict) else value


def _as_text(value: Any) -> str | None:
    """Return a value for a column of texts: what is not a text is JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- Zip ---------------------------------------------------------------------------------------------------------


def zipped(files: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[bytes]:
    """Yield a zip of these files, each written when it is reached."""
    sink = Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, chunks in files:
            compressed = zipfile.ZIP_STORED if name.endswith(".parquet") else zipfile.ZIP_DEFLATED
            entry = zipfile.ZipInfo(name)
            entry.compress_type = compressed
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as file:
                for chunk in chunks:
                    file.write(chunk)
                    yield sink.drain()
    yield sink.drain()


def joined(chunks: Iterable[bytes]) -> Generator[bytes]:
    """Yield the same bytes in larger chunks."""
    gathered = bytearray()
    for chunk in chunks:
        gathered += chunk
        if len(gathered) >= LARGE_CHUNK:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
