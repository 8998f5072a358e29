"""The records of a portion as items, with what is wrong with those that cannot be used."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from types import MappingProxyType
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

from annotate.imports.allowances import Allowance, AllowanceError
from annotate.imports.expansion import expand
from annotate.imports.files.options import Options
from annotate.imports.ratings import ANSWERS, pair_ratings
from annotate.imports.reader import KEYS, Portion, Reader, RowError, twice_named
from annotate.imports.records import Item, parse_record
from annotate.sources.candidates import Candidate
from annotate.sources.containers import TEXT_TABLES
from annotate.sources.errors import RecordError
from annotate.sources.tables import doubled_columns

# Of the records that rate completions of one prompt, and are read together.
GROUP_CHARACTERS = 8 * 1024 * 1024


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
        self._group_size = 0  # in characters

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
        row = None
        try:
            candidates = self._candidates(record)
            first = list(islice(candidates, 2))
            if not self._is_rating(first):
                row = self._expanded(line, chain(first, candidates), self.reader, Allowance())
        except (RecordError, RowError, AllowanceError) as error:
            row = Row(line, error=str(error), text=self.reader.text)
        if row is not None:
            yield from self._pair()
            yield row
            return
        if not self._is_alike(first[0]):
            yield from self._pair()
        self._add_to_group(line, first[0])

    def _candidates(self, record: Any) -> Iterator[Candidate]:
        """Yield what a record says. Raises RecordError and RowError."""
        if isinstance(record, RowError):
            raise record
        source = self.options.source
        if source is None:
            return
        doubled = self._doubled_columns(record)
        if not doubled:
            yield from source.rows(record)
            return
        found: list[Candidate] = []
        with suppress(RecordError):
            found += source.rows(record)
        for name in doubled:
            if not found or not all(_is_set_aside(name, candidate) for candidate in found):
                raise RowError(twice_named(name))
        yield from found

    def _doubled_columns(self, record: Any) -> list[str]:
        """Return the names of columns under which a row of texts has several values."""
        if self.options.container not in TEXT_TABLES or not isinstance(record, Mapping):
            return []
        return doubled_columns(record)

    def _own(self, line: int, record: Any) -> Row:
        try:
            for name in self._doubled_columns(record):
                if name in KEYS:
                    raise RowError(twice_named(name))
            item = parse_record(record)
        except RowError as error:
            return Row(line, error=str(error), text=self.reader.text)
        return Row(line, [item])

    def _expanded(
        self, line: int, candidates: Iterable[Candidate], said: "Reader | _Rating", allowance: Allowance
    ) -> Row:
        """Return the items of a record. Of several candidates those that cannot be used are counted, and left out.

        Raises AllowanceError.
        """
        items: list[Item] = []
        errors: list[str] = []
        figures = {"prompts": 0, "pairs": 0, "best": 0, "opinions": 0}
        for candidate in candidates:
            _add_figures(figures, candidate)
            try:
                items += expand(candidate, self.options.choices, allowance)
            except RowError as error:
                errors.append(str(error))
        if not items:
            sentence = errors[0] if errors else _("It holds no prompt.")
            return Row(line, error=sentence, text=said.text, figures=figures)
        if errors:
            items[0].left_out = {**items[0].left_out, "parts": len(errors)}
        return Row(line, items, figures=figures)

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
        if not self._group or len(self._group) >= ANSWERS or self._group_size >= GROUP_CHARACTERS:
            return False
        first = self._group[0].candidate
        return first.prompt == candidate.prompt and first.tools == candidate.tools

    def _add_to_group(self, line: int, candidate: Candidate) -> None:
        text = self.reader.text
        self._group.append(_Rating(line, candidate, text))
        self._group_size += len(text)

    def _read_group(self) -> None:
        """Read on to the end of the group. The record after it is read again by the next step."""
        for line, record in self.reader.records():
            if record is not None:
                try:
                    candidates = list(islice(self._candidates(record), 2))
                except (RecordError, RowError):
                    return
                if not self._is_rating(candidates) or not self._is_alike(candidates[0]):
                    return
                self._add_to_group(line, candidates[0])
            self.position, self.line = self.reader.position, self.reader.line
        self.position, self.line = self.reader.position, self.reader.line
        self.over = True

    def _pair(self) -> Iterator[Row]:
        """Yield the ratings of the group in pairs. One that finds no other is refused by name."""
        group, self._group, self._group_size = self._group, [], 0
        if not group:
            return
        allowance = Allowance()  # for all of them
        texts = {one.line: one for one in group}
        rows: dict[int, Row] = {one.line: Row(one.line) for one in group}
        for line, candidate in pair_ratings((one.line, one.candidate) for one in group):
            try:
                row = self._expanded(line, [candidate], texts[line], allowance)
            except AllowanceError as error:
                row = Row(line, error=str(error), text=texts[line].text)
            rows[line] = _joined(rows[line], row)
        yield from rows.values()


def _is_set_aside(name: str, candidate: Candidate) -> bool:
    """Return whether a format made no more of a column than metadata, which may be a list."""
    return any(name in (one or {}) for one in (candidate.metadata, candidate.prompt_metadata))


def _joined(one: Row, other: Row) -> Row:
    """Return two rows of a line as one. What cannot be used beside what can is counted as left out."""
    if one.items and other.items:
        return Row(one.line, [*one.items, *other.items], figures=other.figures)
    if not one.items:
        return other
    first = one.items[0]
    first.left_out = {**first.left_out, "parts": first.left_out.get("parts", 0) + 1}
    return one


def _add_figures(figures: dict[str, int], candidate: Candidate) -> None:
    count = len(candidate.answers)
    figures["prompts"] += 1
    figures["pairs"] += count * (count - 1) // 2
    figures["best"] += max(0, count - 1)
    figures["opinions"] += len(candidate.opinions)
