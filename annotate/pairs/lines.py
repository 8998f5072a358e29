"""Rows as the bytes of a file: JSON Lines and CSV."""

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

import orjson

from primitives.files import whole_file

FORMULA = frozenset("=+-@")  # what a formula in a spreadsheet begins with


def lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield rows as JSON Lines in UTF-8."""
    for row in rows:
        yield json_line(row)


def json_line(row: Any) -> bytes:
    """Return a value as a line of JSON. The library writes what orjson refuses, such as half a surrogate pair."""
    try:
        return orjson.dumps(row) + b"\n"  # a copy: orjson's own holds room for ten times the text
    except TypeError:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass") + b"\n"


def csv_lines(
    rows: Iterable[Mapping[str, Any]], columns: Iterable[str], *, for_spreadsheets: bool = False
) -> Iterator[bytes]:
    """Yield rows as CSV in UTF-8 with a header. Anything but a text or a number is JSON in its cell.

    `for_spreadsheets` puts an apostrophe before texts that a spreadsheet would run as a formula.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    buffer.write("\ufeff")  # by which a spreadsheet knows that it is UTF-8
    writer.writerow(columns)
    cell = _safe_cell if for_spreadsheets else _cell
    for row in rows:
        writer.writerow(map(cell, row.values()))
        yield buffer.getvalue().encode("utf-8", "surrogatepass")
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()  # the header, if there is no row


def _safe_cell(value: Any) -> str:
    return f"'{value}" if isinstance(value, str) and _is_formula(value) else _cell(value)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else _as_json(value)


def _as_json(value: Any) -> str:
    """Return what `json.dumps` does, which takes several times as long for a number or a short list."""
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    if kind is int:
        return str(value)
    if kind is list:
        return f"[{', '.join(map(_as_json, value))}]"
    if value is True or value is False:
        return "true" if value else "false"
    return "null" if value is None else json.dumps(value, ensure_ascii=False, allow_nan=False)


def _is_formula(text: str) -> bool:
    """Return whether a spreadsheet may compute this text: by an operator, in full width or behind blanks too."""
    if text.startswith(("\t", "\r", "\n")):
        return True  # some programs drop these
    first = next((letter for letter in text if not _is_blank(letter)), "")
    return unicodedata.normalize("NFKC", first) in FORMULA


def _is_blank(letter: str) -> bool:
    # Without width, as U+200B and U+FEFF.
    return letter.isspace() or unicodedata.category(letter) in ("Cc", "Cf")


def write_file(path: Path, encoded: Iterable[bytes]) -> None:
    """Write lines to a file that appears whole or not at all."""
    with whole_file(path) as file:
        for line in encoded:
            file.write(line)
