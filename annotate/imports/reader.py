"""The records of a file, one at a time: JSON Lines, CSV, or one prompt a line.

What a record must hold is for `records.py`; here it is only told apart from its neighbours, decoded and parsed.
"""

import csv
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice, takewhile
from typing import Any, BinaryIO

from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.imports.csv_records import (
    CHARACTERS,
    RecordTooLargeError,
    RecordWidth,
    hide_inner_crs,
    show_inner_crs,
)
from annotate.sources.containers import COLUMNS as KNOWN_COLUMNS
from annotate.sources.tables import (
    SEPARATOR_LINE,
    TableRow,
    are_import_ids,
    doubled_columns,
    fill_cells,
    gather_cells,
    name_columns,
)
from annotate.text.json_values import DEPTH, JSONError, parse_json
from primitives.text import printable

FORMATS = ("jsonl", "csv", "txt")
KEYS = (
    "prompt", "id", "metadata", "completion_a", "completion_b", "policy_a", "policy_b", "gold",
    "prompt_external_id", "prompt_metadata", "withdrawn",
)  # fmt: skip
LINE_LIMIT = CHARACTERS  # bytes of a line
HEADER_LINES, HEADER_BYTES = 1_000, 64 * 1024  # where a CSV's header must end: every step reads it again
WHOLE_FILE = 0  # the "line" of an error that is the file's, not one line's
HEAD = 8 * 1024  # bytes looked at to see whether this is text at all
HEADINGS_BYTES = 1024 * 1024  # of the rows below the names of columns that are looked at
CHUNK = 1024 * 1024  # bytes read at a time where lines end with CR alone

csv.field_size_limit(LINE_LIMIT)  # a longer cell is refused by what it holds, with its own limit named

# Letters and typographic marks as the single bytes of Latin-1 and Windows-1252; other encodings use others too.
_WESTERN = re.compile(rb"[\x00-\x7f\x80\x85\x91-\x97\xa0-\xff]*")

Record = Mapping[str, Any]


class RowError(RefusalError):
    """A record that cannot be used; the message says why, without the line."""


def guess_format(filename: str) -> str:
    """Return the format that a file's name suggests."""
    suffix = filename.rpartition(".")[2].lower()
    return {"jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl", "csv": "csv"}.get(suffix, "txt")


class Reader:
    """The records of a binary file: (line, record or RowError) for each, blank lines passed over.

    In CSV, columns other than KEYS become metadata, unless the record is wanted `raw`: as its columns say. Raw records
    of a CSV, and of other lines that were a table (`is_table`), are rows of a table.

    `position` (bytes) and `line` say how far it has read; given to another Reader, it goes on from there. `text` is
    the record that was read last, as it is in the file.
    """

    def __init__(
        self,
        file: BinaryIO,
        format: str,
        position: int = 0,
        line: int = 0,
        *,
        separator: str = ",",
        raw: bool = False,
        is_table: bool = False,
    ) -> None:
        if format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {format!r}.")
        self.file, self.format, self.separator, self.raw = file, format, separator or ",", raw
        self.is_table = is_table or format == "csv"
        self.position, self.line = 0, 0
        self._read_lines: list[bytes] = []  # of the present record
        self._broken: RowError | None = None
        self._lines = self._read()
        self.file.seek(0)
        self._no_text = _no_text(self.file.read(HEAD))
        self.file.seek(0)
        self._lines_end_with_cr = _ends_with_cr(self.file.readline(LINE_LIMIT), format)
        self.file.seek(0)
        self._width = RecordWidth(self.separator)
        if format == "csv":
            self._skip_separator_line()
        self._header: list[str] | None = None  # as it is in the file
        self.columns = self._read_columns() if format == "csv" else []
        if self.columns and not position and not self._lines_end_with_cr:
            self._pass_over_headings()
        if position:
            self.file.seek(position)
            self.position, self.line = position, line
            self._lines = self._read()

    def __iter__(self) -> Iterator[tuple[int, Record | RowError]]:
        for line, record in self.records():
            if record is not None:
                yield line, record

    def records(self) -> Iterator[tuple[int, Record | RowError | None]]:
        """Yield each record, and None for a blank line: a file of nothing else can be left at any of them."""
        if self._no_text:
            yield WHOLE_FILE, RowError(self._no_text)
            return
        if self.format == "csv" and (not self.columns if self.raw else "prompt" not in self.columns):
            if self.columns or self._broken:
                yield 1, self._broken or RowError(_wrong_columns(self.columns))
            return
        self._read_lines.clear()
        for line, record in self._csv() if self.format == "csv" else self._plain():
            found = self._broken or record
            self._broken = None
            yield line, found
            self._read_lines.clear()

    @property
    def text(self) -> str:
        """Return the record that was read last as it is in the file; of a byte that is not UTF-8, its number."""
        whole = b"".join(self._read_lines).removeprefix(b"\xef\xbb\xbf")
        return whole.decode(errors="backslashreplace").strip("\r\n")

    # --- Lines ---------------------------------------------------------------------------------------------------

    def _read(self) -> Iterator[str]:
        """Yield lines as text. One that cannot be decoded comes as a blank, and its record gets the error."""
        for raw in self._cr_lines() if self._lines_end_with_cr else self._raw_lines():
            first = self.position == 0
            self.position += len(raw)
            self.line += 1
            self._read_lines.append(raw)
            yield self._decode(raw.removeprefix(b"\xef\xbb\xbf") if first else raw)
            if len(raw) > LINE_LIMIT:
                return  # its end may be gigabytes away

    def _raw_lines(self) -> Iterator[bytes]:
        readline = self.file.readline  # looked up once: a file of Django's passes it on through properties
        while raw := readline(LINE_LIMIT + 1):
            yield raw

    def _cr_lines(self) -> Iterator[bytes]:
        """Yield lines that end with CR, LF, or both: `readline` knows LF alone."""
        rest = b""
        while chunk := self.file.read(CHUNK):
            *lines, rest = (rest + chunk).splitlines(keepends=True)  # the last one may go on
            yield from lines
            if len(rest) > LINE_LIMIT:
                yield rest[: LINE_LIMIT + 1]
                return
        if rest:
            yield rest

    def _decode(self, raw: bytes) -> str:
        try:
            text = self._text(raw)
            if self.format == "csv":
                text = hide_inner_crs(text)
                self._width.add(text)
        except RecordTooLargeError as error:
            self._broken = RowError(error.message)
            return self._width.close()
        except RowError as error:
            self._broken = error
            return "\n"
        return text

    def _text(self, raw: bytes) -> str:
        if len(raw) > LINE_LIMIT:
            raise RowError(
                _("The line is longer than %(limit)s MiB; nothing after it was read.")
                % {"limit": LINE_LIMIT // 1024 // 1024}
            )
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise RowError(_not_utf8(raw, error.start + 1)) from error
        if "\x00" in text:
            raise RowError(_("The line holds a NUL character."))
        return text

    # --- Records -------------------------------------------------------------------------------------------------

    def _plain(self) -> Iterator[tuple[int, Record | RowError | None]]:
        for text in self._lines:
            stripped = text.strip()
            if not stripped:
                yield self.line, None
            elif self.format == "txt":
                yield self.line, {"prompt": stripped}
            else:
                row = _from_json(text.rstrip())
                yield self.line, TableRow(row) if self.is_table and isinstance(row, dict) else row

    def _skip_separator_line(self) -> None:
        """Take the separator from a first line such as `sep=;`, as Excel writes it."""
        head = self.file.readline(HEAD).removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
        self.file.seek(0)
        if said := SEPARATOR_LINE.fullmatch(head):
            next(self._lines)
            self.separator = said["separator"]
            self._width = RecordWidth(self.separator)

    def _read_columns(self) -> list[str]:
        try:
            for values in csv.reader(self._first_lines(), delimiter=self.separator):
                if values or self._broken:
                    self._header = values if len(values) > 1 else None
                    names = map(_column, show_inner_crs(values))
                    return [] if self._broken else name_columns(list(names))
        except csv.Error as error:
            self._broken = _not_csv(error)
        return []

    def _pass_over_headings(self) -> None:
        """Pass over the two rows below the names of columns that Qualtrics writes: questions, and their ids."""
        after, line = self.position, self.line
        lines = takewhile(lambda _text: self.position - after <= HEADINGS_BYTES, self._lines)
        with suppress(csv.Error):
            rows = list(islice(csv.reader(lines, delimiter=self.separator), 2))
            if self.position - after <= HEADINGS_BYTES and are_import_ids(rows[1:]):
                self._broken = None
                return
        self.file.seek(after)
        self.position, self.line, self._lines = after, line, self._read()
        self._width, self._broken = RecordWidth(self.separator), None

    def _first_lines(self) -> Iterator[str]:
        for text in self._lines:
            if self.line > HEADER_LINES or self.position > HEADER_BYTES:
                self._broken = self._broken or RowError(
                    _(
                        "The columns must be named within the first %(lines)s lines and %(size)s KB of the file."
                    )
                    % {"lines": f"{HEADER_LINES:,}", "size": HEADER_BYTES // 1024}
                )
                return
            yield text

    def _csv(self) -> Iterator[tuple[int, Record | RowError | None]]:
        records = csv.reader(self._lines, strict=True, delimiter=self.separator)
        while True:
            line = self.line + 1
            try:
                values = next(records, None)
            except csv.Error as error:
                self._width = RecordWidth(self.separator)  # the next line begins a record
                yield line, _not_csv(error)
                continue
            if values is None:
                return
            is_record = any(values) and values != self._header
            yield line, self._from_csv(show_inner_crs(values)) if is_record else None

    def _from_csv(self, values: list[str]) -> Record | RowError:
        if len(values) != len(self.columns):
            return RowError(
                _("There are %(values)s values for %(columns)s columns.")
                % {"values": len(values), "columns": len(self.columns)}
            )
        row = gather_cells(self.columns, values)
        if self.raw:
            return TableRow(fill_cells(row))
        for column in doubled_columns(row):
            if column in KEYS:
                return RowError(twice_named(column))
        if row.get("metadata"):
            return RowError(_("In CSV, metadata is a column for each of its keys."))
        known = {key: value for key, value in row.items() if key in KEYS and value}
        others = {key: value for key, value in row.items() if key not in KEYS and value}
        return {**known, "prompt": row["prompt"]} | ({"metadata": others} if others else {})


class Portion:
    """Records of a Reader, as many as one step may take: at least one line of them.

    It ends after `rows` records, `size` bytes, `seconds` or `items`, whatever comes first. The caller counts the items
    that records become, by `add_items`. `over`: the file ended.
    """

    def __init__(
        self, reader: Reader, *, rows: int, size: float, seconds: float, items: float = math.inf
    ) -> None:
        self.reader = reader
        self.rows, self.size, self.seconds, self.items = rows, size, seconds, items
        self.over = False

    def add_items(self, count: int) -> None:
        """Take in how many items the last record became."""
        self.items -= count

    def __iter__(self) -> Iterator[tuple[int, Record | RowError]]:
        count, start, until = 0, self.reader.position, time.monotonic() + self.seconds
        for line, record in self.reader.records():
            if record is not None:
                count += 1
                yield line, record
            read = self.reader.position - start
            if count >= self.rows or read >= self.size or self.items <= 0 or time.monotonic() >= until:
                return
        self.over = True


def _ends_with_cr(start: bytes, format: str) -> bool:
    """Return whether the lines of a file that starts like this, up to its first LF, end with CR alone.

    Texts may hold a CR, the names of columns do not: a CSV is told by the end of its first line.
    """
    at = start.find(b"\r")
    return at >= 0 and start[at : at + 2] != b"\r\n" and (format == "csv" or not start.endswith(b"\n"))


def _column(name: str) -> str:
    """Return the name of a column without blanks around it; a known one in small letters."""
    name = name.strip()
    known = re.sub(r"[ -]+", "_", name.casefold())
    return known if known in KNOWN_COLUMNS or known in KEYS else name


def _from_json(text: str) -> Record | RowError:
    try:
        row = parse_json(text, depth=DEPTH + 1)  # the record around what may be so deep
    except JSONError as error:
        return RowError(str(error))
    if not isinstance(row, dict):
        return RowError(_("Each line must be a JSON object."))
    return row


def twice_named(column: str) -> str:
    """Return why a row cannot be used that has two values under one name."""
    return _("Two columns are called “%(name)s”, and this row has a value in both.") % {
        "name": printable(column, 40)
    }


# --- Files that are something else -------------------------------------------------------------------------------


def nothing_in(reader: Reader) -> str:
    """Explain why a file that was read to its end has no record."""
    return _("The file holds no records.") if reader.position else _("The file is empty.")


def _no_text(head: bytes) -> str:
    """Return why a file that begins like this cannot be read as text; empty if it can."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _("Save the file as UTF-8: it looks like UTF-16.")
    if (place := head.find(b"\x00")) >= 0:
        return _(
            "This is not a text file: line %(line)s holds a NUL byte. Upload JSON Lines, CSV, or text with one prompt "
            "a line."
        ) % {"line": head.count(b"\n", 0, place) + 1}
    return ""


def _not_utf8(raw: bytes, byte: int) -> str:
    if _WESTERN.fullmatch(raw):
        return _(
            "Byte %(byte)s of the line is not UTF-8. Save the file as UTF-8: it looks like Latin-1 or Windows-1252."
        ) % {"byte": byte}
    return _(
        "Byte %(byte)s of the line is not UTF-8. Save the file as UTF-8. Or choose its encoding, if it has another one."
    ) % {"byte": byte}


def _not_csv(error: csv.Error) -> RowError:
    return RowError(_("This is not CSV: %(error)s.") % {"error": error})


def _wrong_columns(columns: list[str]) -> str:
    sentence = _(
        "The first line must name the columns, and one of them must be “prompt”. It names %(found)s; the columns are "
        "%(keys)s, and any others become metadata."
    ) % {
        "found": ", ".join(f"“{printable(column, 40)}”" for column in columns[:12]),
        "keys": ", ".join(key for key in KEYS if key != "metadata"),
    }
    if len(columns) == 1 and {";", "\t"} & set(columns[0]):
        sentence += " " + _("Separate them by commas.")
    return sentence
