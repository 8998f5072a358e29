"""The records of a portion as items, with what is wrong with those that cannot be used."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from annotate.imports.expansion import expand
from annotate.imports.files.options import Options
from annotate.imports.ratings import ANSWERS, pair_ratings
from annotate.imports.reader import Portion, Reader, RowError
from annotate.imports.records import Item, parse_record
from annotate.sources.candidates import Candidate
from annotate.sources.errors import RecordError


class Row(NamedTuple):
    """A record, and what it becomes: items, or an error. `text` is the record as it is in the file, with an error.

    `figures` counts what its candidates hold: prompts, pairs of completions, opinions.
    """

    line: int
    items: Sequence[Item] = ()
    error: str = ""
    text: str = ""
    figures: Mapping[str, int] = MappingProxyType({})


@dataclass
class _Rating:
    """A record that rates one completion alone: it waits for others of its prompt."""

    line: int
    candidate: Candidate
    text: str


class Rows:
    """The records of a portion, each as a Row. `position` and `line` say where the next step goes on.

    Ratings of completions of one prompt make pairs where they follow each other. A step reads such a group to its end.
    """

    def __init__(self, reader: Reader, portion: Portion, options: Options) -> None:
        self.reader, self.portion, self.options = reader, portion, options
        self.over = False  # the file ended
        self.position, self.line = reader.position, reader.line
        self._group: list[_Rating] = []

    def __iter__(self) -> Iterator[Row]:
        for line, record in self.portion:
            for row in self._read(line, record):
                self.portion.add_items(len(row.items))
                yield row
        self.over = self.portion.over
        self.position, self.line = self.reader.position, self.reader.line
        if self._group and not self.over:
            self._read_group()
        yield from self._pair()

    def _read(self, line: int, record: Any) -> Iterator[Row]:
        source = self.options.source
        if source is None:
            yield self._own(line, record)
            return
        try:
            candidates = self._candidates(record)
        except (RecordError, RowError) as error:
            yield from self._pair()
            yield Row(line, error=str(error), text=self.reader.text)
            return
        if not self._is_rating(candidates):
            yield from self._pair()
            yield self._expanded(line, candidates, self.reader)
            return
        if not self._is_alike(candidates[0]):
            yield from self._pair()
        self._group.append(_Rating(line, candidates[0], self.reader.text))

    def _candidates(self, record: Any) -> list[Candidate]:
        """Return what a record says. Raises RecordError and RowError."""
        if isinstance(record, RowError):
            raise record
        return list(self.options.source.rows(record)) if self.options.source else []

    def _own(self, line: int, record: Any) -> Row:
        try:
            item = parse_record(record)
        except RowError as error:
            return Row(line, error=str(error), text=self.reader.text)
        return Row(line, [item])

    def _expanded(self, line: int, candidates: list[Candidate], said: "Reader | _Rating") -> Row:
        """Return the items of a record. Of several candidates those that cannot be used are counted, and left out."""
        items: list[Item] = []
        errors: list[str] = []
        for candidate in candidates:
            try:
                items += expand(candidate, self.options.choices)
            except RowError as error:
                errors.append(str(error))
        if not items:
            return Row(line, error=errors[0], text=said.text, figures=_figures(candidates))
        if errors:
            items[0] = replace(items[0], left_out={**items[0].left_out, "parts": len(errors)})
        return Row(line, items, figures=_figures(candidates))

    # --- Ratings of one completion -------------------------------------------------------------------------------

    def _is_rating(self, candidates: list[Candidate]) -> bool:
        return (
            self.options.choices.becomes != "prompts"
            and len(candidates) == 1
            and len(candidates[0].answers) == 1
            and bool(candidates[0].opinions)
        )

    def _is_alike(self, candidate: Candidate) -> bool:
        """Return whether a rating belongs to the group."""
        if not self._group or len(self._group) >= ANSWERS:
            return False
        first = self._group[0].candidate
        return first.prompt == candidate.prompt and first.tools == candidate.tools

    def _read_group(self) -> None:
        """Read on to the end of the group. The record after it is read again by the next step."""
        for line, record in self.reader.records():
            if record is not None:
                try:
                    candidates = self._candidates(record)
                except (RecordError, RowError):
                    return
                if not self._is_rating(candidates) or not self._is_alike(candidates[0]):
                    return
                self._group.append(_Rating(line, candidates[0], self.reader.text))
            self.position, self.line = self.reader.position, self.reader.line
        self.position, self.line = self.reader.position, self.reader.line
        self.over = True

    def _pair(self) -> Iterator[Row]:
        """Yield the ratings of the group in pairs. One that finds no other is refused by name."""
        group, self._group = self._group, []
        if not group:
            return
        texts = {one.line: one for one in group}
        rows: dict[int, Row] = {one.line: Row(one.line) for one in group}
        for line, candidate in pair_ratings((one.line, one.candidate) for one in group):
            row = self._expanded(line, [candidate], texts[line])
            if row.items and rows[line].items:
                row = Row(line, [*rows[line].items, *row.items], figures=row.figures)
            rows[line] = row if row.items or not rows[line].items else rows[line]
        yield from rows.values()


def _figures(candidates: list[Candidate]) -> dict[str, int]:
    figures = {"prompts": len(candidates), "pairs": 0, "best": 0, "opinions": 0}
    for candidate in candidates:
        count = len(candidate.answers)
        figures["pairs"] += count * (count - 1) // 2
        figures["best"] += max(0, count - 1)
        figures["opinions"] += len(candidate.opinions)
    return figures
