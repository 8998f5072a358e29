"""The records of a file, one at a time: JSON Lines, CSV, or one prompt a line.

What a record must hold is for `importing.py`; here it is only told apart from its neighbours, decoded and parsed.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from django.utils.translation import gettext as _

FORMATS = ("jsonl", "csv", "txt")
KEYS = ("prompt", "id", "metadata", "completion_a", "completion_b", "policy_a", "policy_b", "gold")
LINE_LIMIT = 8 * 1024 * 1024  # bytes
WHOLE_FILE = 0  # the "line" of an error that is the file's, not one line's
HEAD = 8 * 1024  # bytes looked at to see whether this is text at all

# Letters and typographic marks as the single bytes of Latin-1 and Windows-1252; other encodings use others too.
_WESTERN = re.compile(rb"[\x00-\x7f\x80\x85\x91-\x97\xa0-\xff]*")

Record = Mapping[str, Any]


class RowError(Exception):
    """A record that cannot be used; the message says why, without the line."""


def guess_format(filename: str) -> str:
    """The format that a file's name suggests."""
    suffix = filename.rpartition(".")[2].lower()
    return {"jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl", "csv": "csv"}.get(suffix, "txt")


class Reader:
    """The records of a binary file: (line, record or RowError) for each, blank lines passed over.

    In CSV, columns other than KEYS become metadata.

    `position` (bytes) and `line` say how far it has read; given to another Reader, it goes on from there.
    """

    def __init__(self, file: BinaryIO, format: str, position: int = 0, line: int = 0) -> None:
        if format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {format!r}.")
        self.file, self.format = file, format
        self.position, self.line = 0, 0
        self._broken: RowError | None = None
        self._lines = self._read()
        self.file.seek(0)
        self._no_text = _no_text(self.file.read(HEAD))
        self.file.seek(0)
        self.columns = next(filter(None, csv.reader(self._lines)), []) if format == "csv" else []
        if position:
            self.file.seek(position)
            self.position, self.line = position, line
            self._lines = self._read()

    def _read(self) -> Iterator[str]:
        """Lines as text. One that is no text comes as a blank, and its error is kept for the record it belongs to."""
        while raw := self.file.readline(LINE_LIMIT + 1):
            first = self.position == 0
            self.position += len(raw)
            self.line += 1
            yield self._decode(raw.removeprefix(b"\xef\xbb\xbf") if first else raw)

    def _decode(self, raw: bytes) -> str:
        if len(raw) > LINE_LIMIT:
            while raw and not raw.endswith(b"\n"):  # pass over the rest of it
                raw = self.file.readline(64 * 1024)
                self.position += len(raw)
            self._broken = RowError(
                _("The line is longer than %(limit)s MiB.") % {"limit": LINE_LIMIT // 1024 // 1024}
            )
            return "\n"
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            self._broken = RowError(_not_utf8(raw, error.start + 1))
            return "\n"
        if "\x00" in text:
            self._broken = RowError(_("The line holds a NUL character."))
            return "\n"
        return text

    def __iter__(self) -> Iterator[tuple[int, Record | RowError]]:
        if self._no_text:
            yield WHOLE_FILE, RowError(self._no_text)
            return
        if self.format == "csv" and "prompt" not in self.columns:
            if self.columns or self._broken:
                yield 1, self._broken or RowError(_wrong_columns(self.columns))
            return
        for line, record in self._csv() if self.format == "csv" else self._plain():
            found = self._broken or record
            self._broken = None
            if found is not None:
                yield line, found

    def _plain(self) -> Iterator[tuple[int, Record | RowError | None]]:
        for text in self._lines:
            stripped = text.strip()
            if not stripped:
                yield self.line, None
            elif self.format == "txt":
                yield self.line, {"prompt": stripped}
            else:
                yield self.line, _from_json(text.rstrip())

    def _csv(self) -> Iterator[tuple[int, Record | RowError | None]]:
        records = csv.reader(self._lines, strict=True)
        while True:
            line = self.line + 1
            try:
                values = next(records, None)
            except csv.Error as error:
                yield line, RowError(_("This is not CSV: %(error)s.") % {"error": error})
                continue
            if values is None:
                return
            yield line, self._from_csv(values) if any(values) else None

    def _from_csv(self, values: list[str]) -> Record | RowError:
        if len(values) != len(self.columns):
            return RowError(
                _("There are %(values)s values for %(columns)s columns.")
                % {"values": len(values), "columns": len(self.columns)}
            )
        row = dict(zip(self.columns, values, strict=True))
        if row.get("metadata"):
            return RowError(_("In CSV, metadata is a column for each of its keys."))
        known = {key: value for key, value in row.items() if key in KEYS and value}
        others = {key: value for key, value in row.items() if key not in KEYS and value}
        return {**known, "prompt": row["prompt"]} | ({"metadata": others} if others else {})


def _from_json(text: str) -> Record | RowError:
    try:
        row = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        return RowError(
            _("This is not valid JSON at column %(column)s: %(error)s.")
            % {"column": error.colno, "error": error.msg.rstrip(".")}
        )
    except (ValueError, RecursionError) as error:
        return RowError(_("This is not JSON: %(error)s.") % {"error": str(error).rstrip(".")})
    if not isinstance(row, dict):
        return RowError(_("Each line must be a JSON object."))
    return row


def _no_constant(name: str) -> None:
    raise ValueError(_("%(name)s is no JSON number") % {"name": name})


# --- Files that are something else -------------------------------------------------------------------------------


def nothing_in(reader: Reader) -> str:
    """What to say of a file that was read to its end without a record."""
    return _("The file holds no records.") if reader.position else _("The file is empty.")


def _no_text(head: bytes) -> str:
    """Why a file that begins like this cannot be read as text; empty if it can."""
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
    return _("Byte %(byte)s of the line is not UTF-8. Save the file as UTF-8.") % {"byte": byte}


def _wrong_columns(columns: list[str]) -> str:
    sentence = _(
        "The first line must name the columns, and one of them must be “prompt”. It names %(found)s; the columns are "
        "%(keys)s, and any others become metadata."
    ) % {
        "found": ", ".join(f"“{column[:40]}”" for column in columns[:12]),
        "keys": ", ".join(key for key in KEYS if key != "metadata"),
    }
    if len(columns) == 1 and {";", "\t"} & set(columns[0]):
        sentence += " " + _("Separate them by commas.")
    return sentence
