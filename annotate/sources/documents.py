"""Whole JSON documents: one array of records, objects one after another, or an object with a list of records inside.

Each record is found by Python's own decoder and passed on as it is written, without its line ends. So what a record
holds is checked where records are: a number that is too large is the fault of its record, not of the file.
"""

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from django.utils.translation import gettext as _

from annotate.sources.errors import FileError
from primitives.text import printable

RECORD_LIMIT = 8 * 1024 * 1024  # characters of a record
CHUNK = 256 * 1024
AHEAD = 1024  # characters that are looked at to tell what a list holds
_SPACES = re.compile(r"[ \t\r\n]*")
_LINE_ENDS = re.compile(r"[\r\n]+")
MESSAGE_KEYS = {"role", "content", "from", "value"}  # a list of such objects is a chat
FEWEST_COLUMNS = 2  # of a table: an object with one list is a record, or holds a list of them
# The keys of a table of pandas (“split”, “tight”) or W&B.
BESIDE_ROWS = {
    *("columns", "data", "index", "index_names", "column_names"),
    *("ncols", "nrows", "column_types", "log_mode", "_type", "type", "name"),
}
DEPTH = 3  # of objects in which a list of records is looked for


def records(file: BinaryIO) -> Iterator[str]:
    """Yield each record as JSON on one line. Raises FileError where the document is broken or is something else."""
    window = _Window(file)
    first = window.peek()
    if first == "[":
        yield from _elements(window)
    elif first == "{":
        yield from _objects(window)
    else:
        raise FileError(_("The file is not JSON."))
    if rest := window.peek():
        raise window.error(_("“%(text)s” follows the end of the JSON") % {"text": printable(rest)})


def is_array(file: BinaryIO) -> bool:
    """Return whether the document begins with a list."""
    return _Window(file).peek() == "["


def list_inside(value: Any, depth: int = DEPTH) -> list[tuple[str, list[Any]]]:
    """Return each list of records inside an object, with its keys. A chat, or a list of texts, is not one."""
    found: list[tuple[str, list[Any]]] = []
    if not isinstance(value, dict) or depth == 0:
        return found
    for key, inner in value.items():
        if isinstance(inner, list) and inner and all(isinstance(one, dict) for one in inner):
            if not MESSAGE_KEYS & inner[0].keys():
                found.append((key, inner))
        elif isinstance(inner, dict):
            found += [(f"{key}.{name}", items) for name, items in list_inside(inner, depth - 1)]
    return found


def rows_of_columns(value: Any) -> list[dict[str, Any]] | None:
    """Return the rows of an object of columns, or None for any other value.

    A column is a list, as `datasets` has them, or an object with numbers as its keys, as pandas writes them. Its cells
    belong to rows by these keys, in whatever order they are. A list of objects is not a column: it is a chat, or a list
    of records. Rows may also stand under their own numbers (pandas’ “index”).
    """
    if not isinstance(value, dict):
        return None
    if _is_numbered(value):
        return list(value.values())
    if len(value) >= FEWEST_COLUMNS or _is_numbered_column(value):
        return _join_columns(value)
    return None


def _is_numbered_column(value: dict[str, Any]) -> bool:
    """Return whether an object is one column of pandas: texts or lists under their numbers.

    A record or a number there is not a cell of anything that can be imported.
    """
    columns = list(value.values())
    return (
        len(columns) == 1
        and isinstance(columns[0], dict)
        and all(
            place.isdecimal() and isinstance(cell, str | list | None) for place, cell in columns[0].items()
        )
    )


def _join_columns(value: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the rows of columns, or of a table in one object."""
    if (rows := _rows_of_table(value)) is not None or explain_table(value):
        return rows
    columns = list(value.values())
    if all(isinstance(column, dict) and column and column.keys() == columns[0].keys() for column in columns):
        if not all(place.isdecimal() for place in columns[0]):
            return None
        columns = [[column[place] for place in columns[0]] for column in columns]
    elif any(isinstance(cell, dict) for column in columns if isinstance(column, list) for cell in column):
        return None
    if not all(isinstance(column, list) and column and len(column) == len(columns[0]) for column in columns):
        return None
    return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _is_numbered(value: dict[str, Any]) -> bool:
    """Return whether an object holds records under their numbers."""
    return bool(value) and all(_is_numbered_row(key, row) for key, row in value.items())


def _is_numbered_row(key: object, row: Any) -> bool:
    """Return whether a record is under its number. Keys that are all numbers are those of a column's cells."""
    return (
        isinstance(key, str)
        and key.isdecimal()
        and isinstance(row, dict)
        and not all(name.isdecimal() for name in row)
    )


def explain_table(value: Any) -> str:
    """Return why an object that is a table has no rows that can be read, or an empty text for any other value."""
    if not isinstance(value, dict):
        return ""
    if _is_split(value):
        return _explain_rows(value["columns"], value["data"])
    if _is_of_viewer(value) and any(
        isinstance(row, dict) and row.get("truncated_cells") for row in value["rows"]
    ):
        return _(
            "The viewer has cut texts of this table (“truncated_cells”). Take the whole file from the data set."
        )
    return ""


def _explain_rows(names: list[Any], rows: list[Any]) -> str:
    """Return why names and rows make no table, or an empty text. Both names of a twin would hold the last value."""
    twin, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        return _("The table has two columns called “%(name)s”.") % {"name": printable(str(twin), 40)}
    short = next((place for place, row in enumerate(rows) if len(row) != len(names)), None)
    return _explain_length(short + 1, rows[short], names) if short is not None else ""


def _explain_length(number: int, row: Any, names: list[Any]) -> str:
    return _("Row %(number)s of the table has %(count)s cells for %(columns)s columns.") % {
        "number": f"{number:,}",
        "count": f"{len(row) if isinstance(row, list) else 0:,}",
        "columns": f"{len(names):,}",
    }


def _is_split(value: dict[str, Any]) -> bool:
    """Return whether an object is a table of names and rows, and nothing that a record could say beside them."""
    names, data = value.get("columns"), value.get("data")
    return (
        value.keys() <= BESIDE_ROWS
        and isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and isinstance(data, list)
        and bool(data)
        and all(isinstance(row, list) for row in data)
    )


def _is_of_viewer(value: dict[str, Any]) -> bool:
    return (
        isinstance(value.get("features"), list)
        and isinstance(value.get("rows"), list)
        and bool(value["rows"])
        and all(isinstance(row, dict) and isinstance(row.get("row"), dict) for row in value["rows"])
    )


def _rows_of_table(value: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the rows of a table in one object, as pandas (“split”), W&B and the viewer of Hugging Face write it."""
    if explain_table(value):
        return None
    if _is_split(value):
        return [dict(zip(value["columns"], row, strict=True)) for row in value["data"]]
    return [row["row"] for row in value["rows"]] if _is_of_viewer(value) else None


def _objects(window: "_Window") -> Iterator[str]:
    """Yield objects that follow one another. A single one may be a record, or hold the list of them."""
    if window.is_longer_than(RECORD_LIMIT):
        yield from _long_object(window)
        return
    count = 0
    while window.peek() == "{":
        text, count = window.take(), count + 1
        yield _on_one_line(text)
        if window.peek() == ",":
            window.skip()


def _elements(window: "_Window") -> Iterator[str]:
    """Yield the elements of the array that begins here."""
    window.skip()
    if window.peek() == "]":
        window.skip()
        return
    while True:
        yield _on_one_line(window.take())
        mark = window.peek()
        if mark not in ("]", ","):
            raise window.error(_("The list is not closed") if not mark else _("A comma is missing"))
        window.skip()
        if mark == "]":
            return


def _long_object(window: "_Window") -> Iterator[str]:
    """Yield the records of an object too long for one: under their numbers, or in its one list or table."""
    if _is_numbered_document(window.file):
        for _key, _row, text in _members(window):
            yield _on_one_line(text)
        return
    window.skip()
    found = False
    names: list[Any] = []
    while True:
        key = json.loads(window.take())
        if window.peek() != ":":
            raise window.error(_("A colon is missing"))
        window.skip()
        if window.peek() == "[" and window.begins_list_of_objects():
            if found:
                raise FileError(
                    _(
                        "The JSON object holds several lists; “%(name)s” is the second one. Save the one that you mean."
                    )
                    % {"name": printable(str(key))}
                )
            found = True
            yield from _elements(window)
        elif key == "data" and names and not found and window.begins("[["):
            found = True
            yield from _rows(window, names)
        elif key == "columns":
            names = _names(window.take())
        else:
            window.take()
        mark = window.peek()
        if mark not in ("}", ","):
            raise window.error(_("The object is not closed") if not mark else _("A comma is missing"))
        window.skip()
        if mark == "}":
            break
    if not found:
        raise FileError(
            _("The JSON object is longer than %(limit)s MiB, and no list of records was found in it.")
            % {"limit": RECORD_LIMIT // 1024 // 1024}
        )


def _is_numbered_document(file: BinaryIO) -> bool:
    """Return whether the object in a file holds records under their numbers. It is read as far as it does."""
    place = file.tell()
    try:
        return all(_is_numbered_row(key, row) for key, row, _text in _members(_Window(file)))
    finally:
        file.seek(place)


def _members(window: "_Window") -> Iterator[tuple[Any, Any, str]]:
    """Yield each key of the object that begins here, with its value and the text of it."""
    window.peek()
    mark = ","
    while mark != "}":
        window.skip()
        key = json.loads(window.take())
        if window.peek() != ":":
            raise window.error(_("A colon is missing"))
        window.skip()
        yield key, *window.take_value()
        mark = window.peek()
        if mark not in ("}", ","):
            raise window.error(_("The object is not closed") if not mark else _("A comma is missing"))
    window.skip()


def _names(text: str) -> list[Any]:
    """Return the names of a table's columns; none if a value is something else."""
    value = json.loads(text)
    return value if isinstance(value, list) and all(isinstance(name, str) for name in value) else []


def _rows(window: "_Window", names: list[Any]) -> Iterator[str]:
    """Yield the rows of a table as records."""
    if fault := _explain_rows(names, []):
        raise FileError(fault)
    for number, text in enumerate(_elements(window), start=1):
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            raise window.error(_("A row of the table is not valid")) from None
        if not isinstance(row, list) or len(row) != len(names):
            raise FileError(_explain_length(number, row, names))
        yield _as_text(dict(zip(names, row, strict=True)))


def _as_text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, which the check of the row names
        return json.dumps(value)
    return text


def _on_one_line(text: str) -> str:
    return _LINE_ENDS.sub(" ", text)


class _Window:
    """The part of a document that is being read. It grows to the end of the value that is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.file.seek(0)
        # A byte that is not UTF-8 goes through, and is named by its record.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._scan = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str).raw_decode
        self.text, self.at, self.line, self.over = "", 0, 1, False

    def peek(self) -> str:
        """Return the next character that is not blank, or an empty text at the end."""
        while True:
            end = _SPACES.match(self.text, self.at).end()  # type: ignore[union-attr]
            self._move(end)
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._grow():
                return ""

    def skip(self) -> None:
        self._move(self.at + 1)

    def take(self) -> str:
        """Return the text of the next value."""
        return self.take_value()[1]

    def take_value(self) -> tuple[Any, str]:
        """Return the next value, with its numbers as texts, and the text of it."""
        self.peek()
        while True:
            try:
                value, end = self._scan(self.text, self.at)
            except RecursionError:
                raise self.error(_("The JSON is nested too deep")) from None
            except json.JSONDecodeError as error:
                if len(self.text) - self.at > RECORD_LIMIT or not self._grow():
                    raise self._invalid(error) from None
            else:
                if end < len(self.text) or not self._grow():  # a number may go on
                    break
        text = self.text[self.at : end]
        self._move(end)
        return value, text

    def is_longer_than(self, size: int) -> bool:
        """Return whether more than so many characters are left."""
        while len(self.text) - self.at <= size:
            if not self._grow():
                return False
        return True

    def begins(self, marks: str) -> bool:
        """Return whether these marks come next, with blanks between them at most."""
        self.is_longer_than(AHEAD)
        return re.compile(r"[ \t\r\n]*".join(map(re.escape, marks))).match(self.text, self.at) is not None

    def begins_list_of_objects(self) -> bool:
        """Return whether the list that begins here holds objects that are not chat messages."""
        self.is_longer_than(AHEAD)
        end = _SPACES.match(self.text, self.at + 1).end()  # type: ignore[union-attr]
        if self.text[end : end + 1] != "{":
            return False
        key = re.compile(r'\{[ \t\r\n]*"([^"\\]*)"').match(self.text, end)
        return key is None or key[1] not in MESSAGE_KEYS

    def error(self, sentence: str) -> FileError:
        return FileError(
            _("The JSON is broken at line %(line)s: %(sentence)s.")
            % {"line": f"{self.line:,}", "sentence": sentence}
        )

    def _invalid(self, error: json.JSONDecodeError) -> FileError:
        if len(self.text) - self.at > RECORD_LIMIT:
            return self.error(
                _("a record is longer than %(limit)s MiB, or is not valid")
                % {"limit": RECORD_LIMIT // 1024 // 1024}
            )
        self.line += self.text.count("\n", self.at, error.pos)
        return self.error(error.msg.rstrip("."))

    def _move(self, to: int) -> None:
        self.line += self.text.count("\n", self.at, to)
        self.at = to
        if self.at > CHUNK:
            self.text, self.at = self.text[self.at :], 0

    def _grow(self) -> bool:
        """Read on, as much again as is there. Return whether there was more."""
        if self.over:
            return False
        part = self.file.read(max(CHUNK, len(self.text) - self.at))
        self.over = not part
        self.text += self._decoder.decode(part, final=self.over)
        return not self.over
