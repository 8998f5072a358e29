"""Any file as lines of UTF-8: JSON Lines, CSV, or one prompt a line, which can be read in steps by byte position.

What is such lines already stays as it is. All else is turned once, streaming, at the door: it is unpacked, given UTF-8,
and the records of JSON documents, Parquet and XLSX are written a line each. A record's line is then its place: the
number of the record, or of the row of the sheet. Messages, one a row, are joined to trees. Of refused rows, as an
import hands them out, the records are taken.
"""

import codecs
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from django.utils.translation import gettext as _

from annotate.sources import (
    compression,
    confined,
    containers,
    documents,
    encodings,
    message_trees,
    tables,
)
from annotate.sources.errors import FileError
from annotate.sources.formats import find_format

IN_MEMORY = 4 * 1024 * 1024
SAMPLE_LINES = 8  # shown, so that a person sees whether the encoding is right
SAMPLE_WIDTH = 160
SAMPLE_BYTES = 64 * 1024
LINE_ENDS = re.compile(r"[\r\n]+")
REFUSED = {"line", "reason", "record"}  # in a line of the file in which an import hands out refused rows


@dataclass(frozen=True)
class Lines:
    """A file as lines. `format` is jsonl, csv or txt; the others say what it was."""

    file: BinaryIO
    format: str
    container: str
    compression: str = ""
    encoding: str = ""  # empty where the container fixes it
    doubt: str = ""  # of the encoding, which was found and not said: one of encodings
    separator: str = ""
    is_turned: bool = False
    sheets: tuple[str, ...] = ()  # of a workbook
    sheet: str = ""  # the one that is read

    @property
    def is_numbered_by_rows(self) -> bool:
        """Return whether a place is the number of a record or row, and not of a line of the file."""
        return self.container in ("json", "parquet", "xlsx")


@contextmanager
def as_lines(
    file: BinaryIO, name: str, limit: int, *, container: str = "", encoding: str = "", sheet: str = ""
) -> Iterator[Lines]:
    """Yield a file as lines. `container`, `encoding` and `sheet` are what a person chose. Raises FileError.

    `limit` bounds the bytes of what it is turned into. That is a temporary file, gone at the end.
    """
    with compression.unpacked(file, limit) as (inside, packed, inner_name):
        found = containers.find_binary(inside)
        if found:
            with _copy() as copy:
                rows = confined.read_lines(inside, found, sheet)
                told: dict[str, Any] = json.loads(next(rows)) if found == "xlsx" else {}
                _write_records(rows, copy, limit)
                sheets, read = tuple(told.get("sheets", ())), told.get("sheet", "")
                yield Lines(copy, "jsonl", found, packed, is_turned=True, sheets=sheets, sheet=read)
            return
        said, encoding = encoding, encoding or encodings.detect(inside)
        doubt = "" if said else encodings.find_doubt(inside, encoding)
        suffix = container or containers.name_suffix(inner_name or name)
        with _recoded(inside, encoding, limit) as text:
            head = text.read(containers.HEAD).decode("utf-8", "replace")
            found = container or containers.find_text_container(head, *_first_line(text), suffix)
            if found == "json":
                with _copy() as copy:
                    _write_records(_json_records(text), copy, limit)
                    yield Lines(copy, "jsonl", found, packed, encoding, doubt, is_turned=True)
                return
            if found == "jsonl" and (turn := _find_turn(_first_line(text)[0])):
                with _copy() as copy:
                    _write_records(turn(message_trees.read_lines(text)), copy, limit)
                    yield Lines(copy, "jsonl", found, packed, encoding, doubt, is_turned=True)
                return
            separator = tables.find_separator(head, containers.COLUMNS) if found == "csv" else ""
            text.seek(0)
            is_turned = text is not file
            yield Lines(text, found, found, packed, encoding, doubt, separator, is_turned)


def sample(file: BinaryIO) -> list[str]:
    """Return the first lines that hold something beyond ASCII, or else the first ones."""
    file.seek(0)
    lines = file.read(SAMPLE_BYTES).decode("utf-8", "replace").splitlines()
    telling = [line for line in lines if not line.isascii()] or _first_beyond_ascii(file)
    return [
        line.strip()[:SAMPLE_WIDTH]
        for line in (telling or [line for line in lines if line.strip()])[:SAMPLE_LINES]
    ]


def _first_beyond_ascii(file: BinaryIO) -> list[str]:
    """Return lines beyond ASCII, or parts of long ones, that come after what is sampled first."""
    found: list[str] = []
    read = 0
    while len(found) < SAMPLE_LINES and read < encodings.SEARCHED and (raw := file.readline(SAMPLE_BYTES)):
        read += len(raw)
        if not raw.isascii():
            first = next(place for place, byte in enumerate(raw) if byte >= 128)
            found.append(raw[max(0, first - SAMPLE_WIDTH // 2) :].decode("utf-8", "replace"))
    return found


# --- Text --------------------------------------------------------------------------------------------------------


@contextmanager
def _recoded(file: BinaryIO, encoding: str, limit: int) -> Iterator[BinaryIO]:
    if encoding == "utf-8":
        file.seek(0)
        yield file
        return
    with _copy() as copy:
        try:
            encodings.recode(file, encoding, cast(BinaryIO, _Bounded(copy, limit)))
        except UnicodeError as error:
            raise FileError(
                _("The file is not %(encoding)s. Choose another encoding.")
                % {"encoding": encodings.name_encoding(encoding)}
            ) from error
        copy.seek(0)
        yield copy


def _first_line(file: BinaryIO) -> tuple[str, bool]:
    """Return the first line that is not blank, and whether nothing follows it."""
    file.seek(0)
    line = b""
    while not line.strip(b"\xef\xbb\xbf \t\r\n"):
        line = file.readline(containers.LINE)
        if not line:
            break
    while (rest := file.readline(containers.LINE)) and not rest.strip():
        pass
    return line.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace"), not rest


def _find_turn(first_line: str) -> Callable[[Iterator[bytes]], Iterator[bytes]] | None:
    """Return how a file of JSON Lines with this first line is turned into records; None if they are its lines."""
    if _find_refused(first_line):
        return _unwrap
    return iter if message_trees.begins_with_message(first_line) else None


# --- Refused rows ------------------------------------------------------------------------------------------------


def _find_refused(line: str | bytes) -> dict[str, Any] | None:
    """Return what a line of a file of refused rows says. None for another line."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.keys() == REFUSED else None


def _unwrap(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the records of refused rows, which may have been corrected, and any other line as it is."""
    for line in lines:
        refused = _find_refused(line)
        if refused is None:
            yield line
        elif isinstance(text := refused["record"], str):  # it could not be read
            yield LINE_ENDS.sub(" ", text.strip("\r\n")).encode("utf-8", "replace")
        else:
            yield _as_line(refused["record"])


# --- Records -----------------------------------------------------------------------------------------------------


def _json_records(file: BinaryIO) -> Iterator[bytes]:
    """Yield the records of a JSON document. A single object may hold them in a list or in columns."""
    is_array = documents.is_array(file)
    found = documents.records(file)
    first, second = next(found, None), next(found, None)
    if first is None:
        return
    if second is None and not is_array and (inside := _list_in_document(first)) is not None:
        yield from map(_as_line, inside)
        return
    for text in (first, *([] if second is None else [second])):
        yield text.encode("utf-8", "surrogateescape")
    for text in found:
        yield text.encode("utf-8", "surrogateescape")


def _as_line(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, which the check of the row names
        return json.dumps(value).encode()


def _list_in_document(text: str) -> list[Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if (rows := documents.rows_of_columns(value)) is not None:
        return rows
    if fault := documents.explain_table(value):
        raise FileError(fault)
    lists = documents.list_inside(value)
    if not lists or find_format([value]) is not None:
        return None
    if len(lists) > 1:
        names = ", ".join(f"“{name[:40]}”" for name, _items in lists[:3])
        raise FileError(
            _("The JSON object holds several lists (%(names)s). Save the one that you mean as a file.")
            % {"names": names}
        )
    return lists[0][1]


def _write_records(records: Iterator[bytes], copy: BinaryIO, limit: int) -> None:
    out = _Bounded(copy, limit)
    for record in message_trees.join_messages(records):
        out.write(record + b"\n")
    copy.seek(0)


@contextmanager
def _copy() -> Iterator[BinaryIO]:
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as copy:
        yield cast(BinaryIO, copy)


class _Bounded:
    """A file that refuses to grow beyond a limit."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.file, self.left, self.limit = file, limit, limit

    def write(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left < 0:
            raise FileError(compression.too_large(self.limit))
        self.file.write(data)
