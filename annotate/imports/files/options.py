"""The choices for a file: how it is read, and what its rows become. Found when it arrives, changed by a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

from annotate.imports.expansion import Choices
from annotate.imports.reader import KEYS, Reader, RowError
from annotate.models import Import
from annotate.sources.containers import TABLES, TEXT_TABLES
from annotate.sources.encodings import name_encoding
from annotate.sources.formats import FORMATS, Format, find_format
from annotate.sources.formats.fields import FUNCTIONS, SYSTEM, TOOLS
from annotate.sources.formats.views import open_cell
from annotate.sources.mappings import mapping, proposals
from annotate.sources.messages import is_chat
from annotate.sources.tables import TableRow, doubled_columns
from primitives.text import printable

ROWS, MAPPED, UNKNOWN = "rows", "mapping", ""  # values of Options.format beside the names of formats
SAID_BY_ROWS = ""  # value of Options.becomes: each row says what it is
RECOGNISED = 50  # records that a file is recognised by
RECOGNISED_BYTES = 4 * 1024 * 1024
COMPLETIONS = ("completion_a", "completion_b")
ABOUT_CHATS = (*SYSTEM, TOOLS, FUNCTIONS)  # keys beside a prompt
LISTS = ("columns", "header", "sheets")  # fields of Options
OWN = ("whetstone",)  # formats whose rows `records.parse` reads too, and more strictly


class Recognition(NamedTuple):
    """The result of recognising a file: the name of its format, and what its rows become."""

    name: str
    becomes: str


@dataclass(frozen=True)
class Options:
    """The choices for one file. `format` is ROWS for Whetstone's own rows, a format's name, MAPPED, or UNKNOWN."""

    container: str = ""
    compression: str = ""
    encoding: str = ""
    doubt: str = ""  # of the encoding, which was found
    separator: str = ","
    sheets: tuple[str, ...] = ()  # of a workbook
    sheet: str = ""  # the one that is read
    by_rows: bool = False  # a place is the number of a record, and not of a line
    format: str = ROWS
    recognised: str = ROWS  # what it was found to be, before a person chose
    usual: str = SAID_BY_ROWS  # what such rows mostly become
    columns: tuple[str, ...] = ()
    header: tuple[str, ...] = ()  # of a CSV: the names of its columns in their order
    printed: str = ""  # a column with lists or objects as Python prints them
    proposal: Mapping[str, str] = field(default_factory=dict)  # role -> column, as names and values suggest
    columns_mapped: Mapping[str, str] = field(default_factory=dict)  # role -> column
    # Value of the verdict -> key of mapping.MEANINGS.
    meanings: Mapping[str, str] = field(default_factory=dict)
    becomes: str = SAID_BY_ROWS
    pairs: str = "all"
    without_losses: bool = False
    empty: bool = False

    @classmethod
    def of(cls, upload: Import) -> Options:
        """Return the options of an upload. An older one has none."""
        return cls.load(upload.options)

    @classmethod
    def load(cls, stored: Mapping[str, Any]) -> Options:
        known = {one.name for one in fields(cls)}
        given = {name: value for name, value in stored.items() if name in known}
        given |= {name: tuple(given[name]) for name in LISTS if name in given}
        return cls(**given)

    def dump(self) -> dict[str, Any]:
        """Return them as JSON."""
        lists = {name: list(getattr(self, name)) for name in LISTS}
        return {**asdict(self), **lists}

    @cached_property
    def source(self) -> Format | mapping.Mapping | None:
        """The reader of records as candidates. None where they are Whetstone's rows, each saying what it is."""
        if self.format == MAPPED:
            return mapping.Mapping(self.columns_mapped, self.meanings)
        if self.format == ROWS and self.becomes == SAID_BY_ROWS:
            return None
        name = OWN[0] if self.format == ROWS else self.format
        return next((one for one in FORMATS if one.name == name), None)

    @cached_property
    def choices(self) -> Choices:
        becomes = self.becomes or (self.source.becomes if self.source else "prompts")
        return Choices(becomes, self.pairs, self.without_losses, self.empty)

    @property
    def advice(self) -> str:
        """Return what to do with a file that cannot be recognised, and why it is not, or an empty text."""
        if self.format != UNKNOWN:
            return ""
        if self.printed and not proposals.advise(self.columns):
            return _(
                "“%(name)s” holds lists or objects as Python prints them. Save the file as JSON Lines or Parquet."
            ) % {"name": printable(self.printed, 40)}
        return proposals.advise(self.columns) or proposals.warn(self.columns)

    @property
    def encoding_label(self) -> str:
        return name_encoding(self.encoding)

    @property
    def label(self) -> str:
        """Return the name of the format for a person."""
        if self.format == ROWS:
            return _("One prompt a line") if self.container == "txt" else _("Whetstone’s rows")
        return str(self.source.label) if self.source else _("Not recognised")

    def reader(self, file: Any, format: str, position: int = 0, line: int = 0) -> Reader:
        """Return a Reader of the file's lines."""
        raw = self.source is not None or self.format == UNKNOWN
        return Reader(
            file, format, position, line, separator=self.separator, raw=raw, is_table=self.container in TABLES
        )

    def place(self, line: int, sentence: str) -> str:
        """Return an error with its place."""
        if line == 0:
            return sentence
        words = {"line": f"{line:,}", "sentence": sentence}
        return (_("Row %(line)s: %(sentence)s") if self.by_rows else _("Line %(line)s: %(sentence)s")) % words


def first_records(
    file: Any, format: str, separator: str = ",", container: str = ""
) -> list[Mapping[str, Any]]:
    """Return the first records that can be read at all. Of several values under one name they have the first."""
    found: list[Mapping[str, Any]] = []
    reader = Reader(file, format, separator=separator, raw=True, is_table=container in TABLES)
    for _line, record in reader.records():
        if record is not None and not isinstance(record, RowError):
            doubled = doubled_columns(record) if container in TEXT_TABLES else []
            first = {name: record[name][0] for name in doubled}
            found.append(TableRow({**record, **first}) if first else record)
        if len(found) >= RECOGNISED or reader.position > RECOGNISED_BYTES:
            break
    return found


def recognise(records: Iterable[Mapping[str, Any]], format: str) -> Recognition:
    """Return what a file's first records are: a format's name, ROWS or UNKNOWN, and what they become.

    Records that are Whetstone's rows and nothing else are read as such, and each fault is then named by its line. So
    is a file of which no record can be read.
    """
    known = list(records)
    if format == "txt" or not known:
        return Recognition(ROWS, SAID_BY_ROWS)
    found = find_format(known)
    if format == "csv":
        is_own = found is not None and found.name in (*OWN, "prompts") and not any(map(_holds_chat, known))
    else:
        is_own = (found is None or found.name in OWN) and all(
            "prompt" in record
            and not record.keys() - set(KEYS)
            and not any(is_chat(record.get(key)) for key in COMPLETIONS)
            for record in known
        )
    if is_own:
        return Recognition(ROWS, SAID_BY_ROWS)
    return Recognition(found.name, found.becomes) if found is not None else Recognition(UNKNOWN, SAID_BY_ROWS)


def _holds_chat(record: Mapping[str, Any]) -> bool:
    """Return whether a row of a table says more of a chat than a text: messages, its system message, or tools."""
    return any(record.get(key) for key in ABOUT_CHATS) or any(
        is_chat(open_cell(text))
        for key in ("prompt", *COMPLETIONS)
        if isinstance(text := record.get(key), str)
    )


def columns_of(records: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(mapping.columns_of(records))
