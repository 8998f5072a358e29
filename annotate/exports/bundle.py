"""A selection as a download: one file, or a zip of several with what describes them."""

import json
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.exports import card, trainers, writers
from annotate.exports.formats import Source
from annotate.exports.selection import FileRows, Selection, Written
from annotate.exports.shapes import Row
from annotate.exports.splits import TRAIN

CONTENT_TYPES = {
    "jsonl": "application/x-ndjson",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "zip": "application/zip",
}


class MixedTypesError(RefusalError):
    """Plain prompts and chats in one file, which no reader of tables takes."""


@dataclass(frozen=True)
class Download:
    """A file to send or to store. `written` counts its records while `chunks` are taken."""

    filename: str
    content_type: str
    chunks: Generator[bytes]
    written: Written


def open_download(selection: Selection) -> Download:
    """Return a selection as one file. Raises RefusalError, before anything is sent, if its rows do not fit."""
    require_fit(selection)
    written, name = Written(), filename(selection)
    if is_folder(selection):
        chunks = writers.zipped(folder(selection, written))
    else:
        chunks = _write(selection, FileRows(name, selection.rows, written))
    content_type = CONTENT_TYPES[name.rpartition(".")[2]]
    return Download(name, content_type, writers.joined(chunks), written)


def filename(selection: Selection) -> str:
    """Return the name of the file that a selection becomes."""
    extension = "zip" if is_folder(selection) else selection.format.extension
    return f"{selection.format.filename(selection.project.slug)}.{extension}"


def is_folder(selection: Selection) -> bool:
    """Return whether a selection is several files."""
    return (
        selection.format.is_folder
        or selection.texts == "files"
        or bool(selection.split and selection.by_files)
    )


def require_fit(selection: Selection) -> None:
    """Raise RefusalError if rows do not fit the format: MixedTypesError if plain prompts and chats would meet."""
    is_told = selection.format.texts or selection.texts or selection.format.source is Source.JUDGMENTS
    if not is_told and len(selection.types()) > 1:
        sentence = _(
            "This project has plain prompts and chats. Choose how they leave together: all as messages, all as text, "
            "or a file for each."
        )
        raise MixedTypesError(sentence, "texts")


def folder(selection: Selection, written: Written) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield the files of a folder by their names, each to be taken before the next."""
    observed = card.Observed() if selection.format.name == "datasets" else None
    names: dict[str, str] = {}

    @cache
    def message_type(kind: str) -> Any:
        """Return the type of messages in all parts of the split, which readers load as one."""
        return writers.message_type(selection.rows(kind=kind))

    for stem, kind, part in _places(selection):
        name = f"{stem}.{selection.format.extension}"
        names[stem] = name

        def rows(name: str = name, kind: str = kind, part: str = part) -> Iterator[Row]:
            return selection.rows(part, kind, observed.begin(name) if observed else None)

        yield name, _write(selection, FileRows(name, rows, written, partial(message_type, kind)))
    if observed is not None:
        yield "README.md", [card.write(selection, observed, written).encode()]
    elif selection.format.name == "llama_factory":
        yield "dataset_info.json", [json.dumps(trainers.dataset_info(names), indent=2).encode() + b"\n"]


def _places(selection: Selection) -> Iterator[tuple[str, str, str]]:
    """Yield each file's name without its end, the type of its prompts, and its part of the split."""
    kinds = sorted(selection.types()) if selection.texts == "files" else []
    parts = selection.split.parts if selection.by_files else ("",)
    stem = selection.format.filename(selection.project.slug)
    for kind, part in product(kinds or [""], parts):
        if selection.format.name == "datasets":
            yield f"data/{'-'.join(filter(None, [kind, part or TRAIN]))}", kind, part
        else:
            yield "-".join(filter(None, [stem, kind, part])), kind, part


def _write(selection: Selection, rows: FileRows) -> Iterator[bytes]:
    write = selection.format.write
    if write is writers.plain_csv and selection.for_spreadsheets:
        write = writers.spreadsheet_csv
    return write(rows, selection.columns)
