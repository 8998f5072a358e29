"""The first rows of a file, as its page shows them."""

import json
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from annotate.imports import writing
from annotate.imports.files.options import Options
from annotate.imports.files.rows import Rows
from annotate.imports.reader import Portion, RowError
from annotate.imports.records import SIDES, Item
from annotate.models import Import
from annotate.sources.formats.views import open_cells
from annotate.sources.mappings.mapping import MISSING, find_value
from annotate.text.chats import as_completion, last_question

PREVIEWED = 5
COLUMNS_SHOWN = 12
PREVIEW_BYTES = 256 * 1024  # of a file that may begin with blank lines, read by each look at its page


@dataclass(frozen=True)
class Preview:
    """A record as the page shows it; of a chat, the last message."""

    text: str
    completions: tuple[Any, Any] | None
    gold: str | None
    verdicts: tuple[str, ...] = ()  # of its annotators: a, b, tie and so on


def preview(upload: Import) -> list[Preview]:
    """Return the first records of a file that was checked, or none if the file is gone."""
    options = Options.of(upload)
    try:
        with upload.file.open("rb") as file:
            reader = options.reader(file, upload.format)
            portion = Portion(reader, rows=PREVIEWED, size=PREVIEW_BYTES, seconds=writing.SECONDS_AT_A_TIME)
            items = [item for row in Rows(reader, portion, options) for item in row.items[:PREVIEWED]]
    except (FileNotFoundError, ValueError):  # starting the import says so
        return []
    return [_show(item) for item in items[:PREVIEWED]]


@dataclass(frozen=True)
class Table:
    """The first records as the file has them. `more` columns are not shown."""

    columns: list[str]
    rows: list[list[str]]
    more: int


def table(upload: Import, options: Options) -> Table | None:
    """Return the first records as a table, to map columns by, or None if there are none.

    Columns that are mapped, or proposed to be, come first.
    """
    mapped = options.columns_mapped or options.proposal
    outer = [name for name in options.columns if "." not in name]
    every = list(dict.fromkeys([*mapped.values(), *outer]))
    columns = every[:COLUMNS_SHOWN]
    try:
        with upload.file.open("rb") as file:
            reader = options.reader(cast(BinaryIO, file), upload.format)
            reader.raw = True
            portion = Portion(reader, rows=PREVIEWED, size=PREVIEW_BYTES, seconds=writing.SECONDS_AT_A_TIME)
            records = [record for _line, record in portion if not isinstance(record, RowError)]
    except (OSError, ValueError):
        return None
    if not records or not columns:
        return None
    rows = [
        [_cell(record[name] if name in record else find_value(open_cells(record), name)) for name in columns]
        for record in records
    ]
    return Table(columns, rows, len(every) - len(columns))


def _cell(value: Any) -> str:
    if value is None or value is MISSING:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _show(item: Item) -> Preview:
    said = tuple(
        SIDES[opinion.preferred] if opinion.preferred is not None else opinion.verdict
        for opinion in item.opinions
    )
    completions = (
        (as_completion(item.completions[0]), as_completion(item.completions[1])) if item.completions else None
    )
    return Preview(last_question(item.prompt), completions, item.gold if item.gold in SIDES else None, said)
