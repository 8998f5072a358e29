"""The file of rows that cannot be used, as JSON Lines: each with its place, the reason, and the record as it came."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from annotate.imports.files.options import Options
from annotate.imports.reader import Reader, RowError
from annotate.models import Import
from annotate.text.json_values import DEPTH, JSONError, parse_json

UNREADABLE = re.compile(r"\\x[0-9a-f]{2}")  # a byte that is not UTF-8, by its number


def refused_lines(upload: Import) -> Iterator[bytes]:
    """Yield the rows that cannot be used as JSON Lines, with reasons."""
    options = Options.of(upload)
    rows = upload.refused_rows.values_list("line", "reason", "text")
    for row in rows.iterator(chunk_size=200):
        yield json.dumps(refused_record(*row, options)).encode() + b"\n"


def refused_record(line: int, reason: str, text: str, options: Options) -> dict[str, Any]:
    """Return a row that cannot be used for the file of them: its place, why, and the record as it came."""
    return {"line": line, "reason": reason, "record": _read_row(text, options) or _read_json(text)}


def _read_json(text: str) -> Any:
    try:
        return parse_json(text, depth=DEPTH + 1)
    except JSONError:
        return text


def _read_row(text: str, options: Options) -> Mapping[str, Any] | None:
    """Return a row of a CSV as a record with the names of its columns; None if it cannot be split."""
    if not options.header or UNREADABLE.search(text):
        return None
    header = io.StringIO(newline="")
    csv.writer(header, delimiter=options.separator).writerow(options.header)
    file = io.BytesIO(f"{header.getvalue()}{text}\n".encode("utf-8", "surrogateescape"))
    rows = [record for _line, record in Reader(file, "csv", separator=options.separator, raw=True)]
    return rows[0] if len(rows) == 1 and not isinstance(rows[0], RowError) else None
