"""The rows of a project that were chosen to leave, in one format, with their texts in one type."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db import connection
from django.db.models import CharField, Func, Q

from annotate.exports import writers
from annotate.exports.formats import Format, Source
from annotate.exports.shapes import Row, is_chat, shaped
from annotate.exports.splits import Split
from annotate.models import Completion, Judgment, Project, Prompt, Snapshot, SnapshotPair
from annotate.pairs.comparison_rows import comparison_rows
from annotate.pairs.filters import Filters
from annotate.pairs.judgment_rows import judgment_rows
from annotate.pairs.pair_rows import pair_rows
from annotate.pairs.settings import PairSettings

EXAMPLE = 4_000  # characters
PLAIN, CHATS = "text", "chat"  # the two types of prompts, and the ends of the names of their files


@dataclass(frozen=True)
class Selection:
    """The rows to export. `texts` is "messages", "text", "files" (a file for each type), or empty for as they are.

    `columns` names the columns to write, or none for all. `by_files`: the parts of a split are files, not a column.
    """

    project: Project
    format: Format
    filters: Filters = field(default_factory=Filters)
    settings: PairSettings = field(default_factory=PairSettings)
    snapshot: Snapshot | None = None
    texts: str = ""
    split: Split = field(default_factory=Split)
    by_files: bool = False
    for_spreadsheets: bool = False
    only_texts: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of a table."""
        columns = ("prompt", "chosen", "rejected") if self.only_texts else self.format.columns
        return (*columns, "split") if self.has_split_column else columns

    @property
    def has_split_column(self) -> bool:
        return bool(self.split) and not self.by_files

    def raw_rows(self) -> Iterator[Row]:
        """Yield the rows as the project has them, of both types."""
        match self.format.source:
            case Source.PAIRS:
                yield from pair_rows(
                    self.project, self.filters, self.settings, self.snapshot, both_bad=self.format.both_bad
                )
            case Source.COMPARISONS:
                yield from comparison_rows(self.project, self.filters, self.settings)
            case _:
                yield from judgment_rows(self.project, self.filters)

    def rows(
        self, part: str = "", kind: str = "", seen: Callable[[Row], None] | None = None
    ) -> Iterator[Row]:
        """Yield the records of a file: of one part of the split, and of one type of prompts, if they are named.

        `seen` is told each row before it takes its shape.
        """
        rows: Iterator[Row] = self.raw_rows()
        if kind:
            rows = (row for row in rows if is_chat(row["prompt"]) == (kind == CHATS))
        if self.split:
            rows = (row | {"split": self.split.part_of(row["prompt"])} for row in rows)
        if part:
            rows = (row for row in rows if row["split"] == part)
        if seen is not None:
            rows = _told(rows, seen)
        rows = shaped(rows, self.format.texts or self.texts)
        if self.format.record is not None:
            rows = self._recorded(rows, self.format.record)
        return self._trimmed(rows)

    def example(self) -> str:
        """Return the first record as JSON to look at, cut short, or nothing if there is none."""
        record = next(self.rows(), None)
        return json.dumps(record, indent=2, ensure_ascii=False)[:EXAMPLE] if record else ""

    def _recorded(self, rows: Iterator[Row], record: Callable[[Row], Iterator[Row]]) -> Iterator[Row]:
        """Yield the records of the format, with the part of the split where it is a column."""
        for row in rows:
            split = {"split": row["split"]} if self.has_split_column else {}
            for one in record(row):
                yield one | split

    def _trimmed(self, records: Iterator[Row]) -> Iterator[Row]:
        """Return the records without the columns that were not asked for."""
        if self.only_texts:
            columns = self.columns
            return ({name: record[name] for name in columns} for record in records)
        if self.split and not self.has_split_column:
            return ({name: record[name] for name in record if name != "split"} for record in records)
        return records

    def types(self) -> set[str]:
        """Return the types of prompts among the judged ones that are chosen: PLAIN, CHATS, or both. Reads no text."""
        rows = self._comparisons()
        if not self._project_has_chats():
            return {PLAIN} if rows.exists() else set()
        rows = rows.annotate(content_kind=_kind_of("comparison__prompt__content"))
        is_chat = Q(content_kind="array") | _has("messages__isnull", False)
        found = {PLAIN: rows.exclude(is_chat), CHATS: rows.filter(is_chat)}
        return {kind for kind, some in found.items() if some.exists()}

    def _project_has_chats(self) -> bool:
        """Return whether a prompt or a completion of the project is a chat: asked without a join, and mostly enough."""
        completions = Completion.objects.filter(prompt__project=self.project, messages__isnull=False)
        prompts = Prompt.objects.filter(project=self.project).annotate(content_kind=_kind_of("content"))
        return bool(completions.exists() or prompts.filter(content_kind="array").exists())

    def _comparisons(self) -> Any:
        """Return rows with the comparisons that are chosen."""
        if self.snapshot is not None:
            return SnapshotPair.objects.filter(snapshot=self.snapshot).order_by()
        judgments = Judgment.objects.current().filter(self.filters.judgments(), project=self.project)
        return judgments.order_by()


def _kind_of(column: str) -> Func:
    """Return the type of the JSON in a column."""
    function = {"sqlite": "json_type", "postgresql": "jsonb_typeof"}[connection.vendor]
    return Func(column, function=function, output_field=CharField())


def _has(look: str, value: object) -> Q:
    """Return the condition that one of the two completions is so."""
    return Q(**{f"comparison__first__{look}": value}) | Q(**{f"comparison__second__{look}": value})


def _told(rows: Iterator[Row], seen: Callable[[Row], None]) -> Iterator[Row]:
    for row in rows:
        seen(row)
        yield row


@dataclass
class Written:
    """The records of each file, counted while they are written."""

    rows: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.rows.total()


class FileRows:
    """The records of one file, which can be gone through more than once. Each time they are counted from zero."""

    def __init__(
        self,
        name: str,
        make: Callable[[], Iterator[Row]],
        written: Written,
        message_type: Callable[[], Any] | None = None,
    ) -> None:
        self.name, self._make, self._written = name, make, written
        self._message_type = message_type

    def message_type(self) -> Any:
        """Return the type of messages, as `writers.message_type` does, of all files that are read together."""
        return self._message_type() if self._message_type else writers.message_type(self)

    def __iter__(self) -> Iterator[Row]:
        self._written.rows[self.name] = 0
        for row in self._make():
            self._written.rows[self.name] += 1
            yield row
