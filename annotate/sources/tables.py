"""Tables: the separator of a CSV, and the rows of Parquet and XLSX as records.

A cell without a value is left out of its record, but for a prompt. The cells of XLSX are texts, as those of a CSV.
"""

import base64
import csv
import io
import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from functools import lru_cache
from typing import Any, BinaryIO

from django.utils.translation import gettext as _

from annotate.sources.compression import check_unpacked_size
from annotate.sources.errors import FileError
from primitives.text import printable

SEPARATORS = (",", ";", "\t", "|")
RECORDS_TRIED = 50  # of a CSV, with each separator
SEPARATOR_LINE = re.compile(r'"?sep=(?P<separator>[,;|\t:])"?[ \t]*\r?\n?')

PARQUET_ROWS = 20_000_000
ROWS_AT_A_TIME = 256  # of Parquet, in memory together
SHEETS = 200  # of a workbook, offered
NAME_LENGTH = 200  # characters of the name of a sheet; Excel allows 31
SHEET_CELLS = 5_000_000  # what a sheet spans, with its blanks: calamine holds it whole
SHEET_BYTES = 256 * 1024 * 1024  # of a workbook, unpacked
CELL_PLACE = re.compile(rb"""\br=["']([A-Z]{1,3})([0-9]{1,7})["']""")
CHUNK = 1024 * 1024
IMPORT_ID = re.compile(r'\{"ImportId":')  # in a row of Qualtrics
PICTURES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}

PROMPT = "prompt"
PROMPTS = (PROMPT, "question", "instruction", "query", "input")  # names of it beside two completions
KEPT = (PROMPT, "initial_reason_steps")  # the columns of which an empty cell says that the text is empty

# Of a prompt in two parts, the first may be empty.
INSTRUCTION, BESIDE_INSTRUCTION = "instruction", ("input", "context")

Record = dict[str, Any]
Cell = str | list[str]

# Of two such columns, an empty cell beside a filled one is an empty completion.
TWINS = (
    ("completion_a", "completion_b"), ("chosen", "rejected"), ("response_a", "response_b"), ("answer_a", "answer_b"),
    ("output_1", "output_2"), ("answer1", "answer2"), ("response1", "response2"),
)  # fmt: skip


class TableRow(dict[str, Any]):
    """A row of a table as a record. A text in it may be a list or an object, written as JSON."""


def like(record: Mapping[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of a record as a row of a table where the record is one."""
    return TableRow(part) if isinstance(record, TableRow) else part


def fill_cells(row: Mapping[str, Cell]) -> Record:
    """Return a row of texts without its empty cells, which say nothing, as a record.

    An empty prompt, or completion of two, says that it is empty: without its key, the prompt would be inside both. So
    does an empty instruction beside an input, which is the rest of the prompt.
    """
    names: dict[str, bool] = {}
    for name, value in row.items():
        names[_fold(name)] = bool(value) or names.get(_fold(name), False)
    stays = {*KEPT}
    for twins in TWINS:
        if any(names.get(name) for name in twins):
            stays.update(twins)
            if not any(names.get(name) for name in PROMPTS):
                stays.update([name for name in PROMPTS if name in names][:1])
    if any(names.get(name) for name in BESIDE_INSTRUCTION):
        stays.add(INSTRUCTION)
    return {name: value for name, value in row.items() if value or _fold(name) in stays}


@lru_cache(maxsize=1024)
def _fold(name: str) -> str:
    """Return the name of a column as formats look for it: in small letters, without blanks."""
    return re.sub(r"[ -]+", "_", name.strip().casefold())


def gather_cells(names: Sequence[str], cells: Sequence[str]) -> dict[str, Cell]:
    """Return the cells of a row by the names of their columns. Several values under one name are a list of them.

    No other cell is a list. Whether such a row can be used depends on what the column is for.
    """
    row: dict[str, Cell] = dict.fromkeys(names, "")
    for name, cell in zip(names, cells, strict=False):
        before = row[name]
        if not cell or cell == before:
            continue
        row[name] = [*before, cell] if isinstance(before, list) else [before, cell] if before else cell
    return row


def doubled_columns(row: Mapping[str, Any]) -> list[str]:
    """Return the names of columns under which a row of texts has several values."""
    return [name for name, value in row.items() if isinstance(value, list)]


# --- CSV ---------------------------------------------------------------------------------------------------------


def find_separator(text: str, known: frozenset[str] = frozenset()) -> str:
    """Return the separator of a CSV that begins with `text`, or an empty text if it looks like no table.

    A line `sep=;` says it. Else it is the one that splits the most records into as many values as there are columns.
    `known` are the names of columns that settle it.
    """
    if said := SEPARATOR_LINE.match(text):
        return said["separator"]
    scores = {separator: _score(text, separator, known) for separator in SEPARATORS}
    best = max(SEPARATORS, key=lambda separator: scores[separator])
    return best if scores[best] > (0, 0.0, 0) else ""


def _score(text: str, separator: str, known: frozenset[str]) -> tuple[int, float, int]:
    """Return how many columns are known, the share of records as wide as the header, and how wide that is."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            if row:
                rows.append(row)
            if len(rows) > RECORDS_TRIED:
                break
    except csv.Error:
        pass  # a cut quote, or no CSV: what was read so far counts
    if not rows or len(rows[0]) < 2:
        return 0, 0.0, 0
    header = rows[0]
    # The last record may be cut where the sample ends.
    others = rows[1:-1] or rows[1:]
    even = sum(len(row) == len(header) for row in others) / len(others) if others else 1.0
    named = sum(name.strip().casefold() in known for name in header)
    return named, round(even, 1), len(header)


# --- Parquet -----------------------------------------------------------------------------------------------------


def parquet_records(file: BinaryIO) -> Iterator[Record]:
    """Yield the rows of a Parquet file, read by one thread. Raises FileError, or MemoryError."""
    import pyarrow as pa  # noqa: PLC0415 - heavy, and rarely needed
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        file.seek(0)
        table = pq.ParquetFile(file)
        if table.metadata.num_rows > PARQUET_ROWS:
            raise FileError(
                _("The file has %(count)s rows; at most %(limit)s are taken.")
                % {"count": f"{table.metadata.num_rows:,}", "limit": f"{PARQUET_ROWS:,}"}
            )
        for batch in table.iter_batches(batch_size=ROWS_AT_A_TIME, use_threads=False):
            for row in batch.to_pylist(maps_as_pydicts="lossy"):
                yield {name: value for name, value in row.items() if value is not None or name == PROMPT}
    except pa.ArrowMemoryError:  # an ArrowException, too, but no fault of the file's form
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise FileError(
            _("The Parquet file cannot be read (%(error)s).") % {"error": _short(error)}
        ) from error


def as_json(value: object) -> Any:
    """Return a value of Arrow's as one of JSON: an image as a data URI, a decimal number as its digits."""
    if isinstance(value, bytes):
        for start, kind in PICTURES.items():
            if value.startswith(start):
                return f"data:image/{kind};base64,{base64.b64encode(value).decode()}"
        return value.decode("utf-8", "surrogateescape")  # what is no text is refused by its row
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)


# --- XLSX --------------------------------------------------------------------------------------------------------


def xlsx_records(file: BinaryIO, sheet: str = "") -> Iterator[Record | None]:
    """Yield the workbook's sheets, then a record for each row of one, and None for its blank rows and headers.

    So the place of a record is the number of its row. Of sheets, {"sheets": their names, "sheet": that of the one that
    is read}: the one asked for, or the first one with a row below its header. Raises FileError.
    """
    import python_calamine  # noqa: PLC0415 - rarely needed

    _check_sheets(file)
    try:
        file.seek(0)
        workbook = python_calamine.load_workbook(file)
        names = [name[:NAME_LENGTH] for name in workbook.sheet_names]
        if sheet and sheet not in names:
            raise FileError(_("The workbook has no sheet “%(name)s”.") % {"name": printable(sheet, 40)})
        rows: list[list[Any]] = []
        number = 0
        for number in [names.index(sheet)] if sheet else range(len(names)):
            rows = workbook.get_sheet_by_index(number).to_python(skip_empty_area=False)
            if sum(any(cell != "" for cell in row) for row in rows) > 1:  # the first one names the columns
                break
        yield {"sheets": names[:SHEETS], "sheet": names[number] if names else ""}
        yield from _sheet_records(rows)
    except python_calamine.PasswordError as error:
        raise FileError(_("The workbook is locked by a password.")) from error
    except (python_calamine.CalamineError, OSError, ValueError) as error:
        raise FileError(_("The workbook cannot be read (%(error)s).") % {"error": _short(error)}) from error


def _sheet_records(rows: list[list[Any]]) -> Iterator[Record | None]:
    columns: list[str] = []
    headings = _count_headings(rows)
    for number, row in enumerate(rows):
        cells = [_cell(value) for value in row]
        is_header = len(columns) > 1 and cells[0] == columns[0] and _names_in(row) == columns
        if not columns or not any(cells) or number < headings or is_header:
            columns = columns or (_names_in(row) if any(cells) else [])
            yield None
            continue
        named = name_columns([*columns, *[""] * (len(cells) - len(columns))])
        yield fill_cells(gather_cells(named, cells))


def _names_in(row: Sequence[Any]) -> list[str]:
    """Return the names of columns in a row, without blank cells behind them."""
    names = [_cell(value).strip() for value in row]
    while names and not names[-1]:
        names.pop()
    return names


def _count_headings(rows: list[list[Any]]) -> int:
    """Return how many rows stand above the first record: more than one in a sheet of Qualtrics."""
    start = next((number for number, row in enumerate(rows) if any(cell != "" for cell in row)), 0)
    return start + 3 if are_import_ids(rows[start + 2 : start + 3]) else start


def are_import_ids(rows: Sequence[Sequence[object]]) -> bool:
    """Return whether there is a row, and it has the ids of Qualtrics' questions, which stand below their texts."""
    cells = [str(cell) for cell in rows[0] if cell != ""] if rows else []
    return bool(cells) and all(map(IMPORT_ID.match, cells))


def name_columns(names: Sequence[str]) -> list[str]:
    """Return the names of columns, in which those without one are called by their number: none is lost."""
    return [name or f"column {number}" for number, name in enumerate(names, start=1)]


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return str(int(value))
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)


def _check_sheets(file: BinaryIO) -> None:
    """Refuse a workbook that would take far more memory than its bytes. Raises FileError."""
    try:
        with zipfile.ZipFile(file) as archive:
            check_unpacked_size(archive, SHEET_BYTES)
            for member in archive.infolist():
                if member.filename.startswith("xl/worksheets/") and member.filename.endswith(".xml"):
                    with archive.open(member) as stream:
                        _check_span(stream)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise FileError(_("The workbook cannot be read (%(error)s).") % {"error": _short(error)}) from error


def _check_span(sheet: Any) -> None:
    columns = last = 0
    rest = b""
    while part := sheet.read(CHUNK):
        text = rest + part
        for letters, number in CELL_PLACE.findall(text):
            columns, last = max(columns, _column(letters)), max(last, int(number))
        rest = text[-32:]
        if columns * last > SHEET_CELLS:
            raise FileError(
                _("The sheet spans %(columns)s columns and %(rows)s rows; at most %(limit)s cells are taken.")
                % {"columns": f"{columns:,}", "rows": f"{last:,}", "limit": f"{SHEET_CELLS:,}"}
            )


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number


def _short(error: Exception) -> str:
    return printable(str(error).splitlines()[0] if str(error) else type(error).__name__, 120)
