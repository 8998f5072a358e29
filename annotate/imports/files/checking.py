"""A check of a file, a portion at a time: counts, the rows that cannot be used, and what is known already."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from annotate.imports import writing
from annotate.imports.files.options import Options
from annotate.imports.files.rows import Row, Rows
from annotate.imports.files.spool import Placed
from annotate.imports.reader import RowError, nothing_in
from annotate.imports.records import ERRORS_KEPT, Sources
from annotate.imports.writing import Outcome
from annotate.models import Project

KEPT = 10_000  # rows that cannot be used, with their texts
KEPT_CHARACTERS = 32 * 1024 * 1024
REASONS = 50  # counted apart
ANNOTATORS = 1_000  # named
ROWS_AT_A_TIME = 5_000
ROWS_COMPARED_AT_A_TIME = 200
BYTES_COMPARED_AT_A_TIME = 512 * 1024  # of texts, in memory together
COUNTED = ("rows", "wrong", "kept", "characters")
COUNTERS = ("found", "figures", "reasons", "unused", "annotators")


class Check:
    """The findings of a check. It goes on from what the earlier steps found."""

    def __init__(
        self,
        project: Project,
        options: Options,
        earlier: Mapping[str, Any] | None = None,
        errors: Iterable[Any] = (),
    ) -> None:
        self.project, self.options = project, options
        self.earlier = dict(earlier or {})
        self.sources = Sources(project, self.earlier.get("policies", ()), self.earlier.get("titles"))
        self.errors = list(errors)
        self.counts = Counter({name: self.earlier.get(name, 0) for name in COUNTED})
        self.found, self.figures, self.reasons, self.unused, self.annotators = (
            Counter(self.earlier.get(name, {})) for name in COUNTERS
        )
        self.outcome = Outcome(Counter(self.earlier.get("expected", {})), self.earlier.get("remarks", []))
        self.nothing = ""  # why the file has no records
        self.refused: list[Row] = []  # by this step, all of them
        self.kept: list[Row] = []  # of those, what is stored

    def take(
        self,
        file: BinaryIO,
        format: str,
        start: tuple[int, int],
        memory: writing.Memory | None,
        size: float = math.inf,
    ) -> Rows:
        """Check a portion of a file, of `size` bytes at most, and return its rows. `start` is a position and its line.

        A record meets what the memory holds of the file: in a run, that was written before it. Without a memory, it
        meets what is compared together with it.
        """
        reader = self.options.reader(file, format, *start)
        rows = Rows(reader, writing.portion(reader, ROWS_AT_A_TIME, size), self.options)
        compared = reader.position
        waiting: list[Placed] = []
        for row in rows:
            waiting += self.add(row)
            if (
                len(waiting) >= ROWS_COMPARED_AT_A_TIME
                or reader.position - compared >= BYTES_COMPARED_AT_A_TIME
            ):
                self.compare(waiting, memory)
                waiting, compared = [], reader.position
        self.compare(waiting, memory)
        if rows.over and not self.counts["rows"]:
            self.nothing = nothing_in(reader)
        return rows

    def add(self, row: Row) -> list[Placed]:
        """Take in a row, and return what of it can be used."""
        self.counts["rows"] += 1
        for name, count in row.figures.items():
            self.figures[name] += count
        if row.error:
            self.refuse(row)
            return []
        try:
            for item in row.items:
                self.sources.add(item)
        except RowError as error:
            self.refuse(Row(row.line, error=str(error), text=row.text))
            return []
        for item in row.items:
            self.found[item.kind] += 1
            for name, count in item.left_out.items():
                self.unused[name] += count
            for opinion in item.opinions:
                if opinion.annotator in self.annotators or len(self.annotators) < ANNOTATORS:
                    self.annotators[opinion.annotator] += 1
        return [(row.line, item) for item in row.items]

    def refuse(self, row: Row) -> None:
        """Count a row that cannot be used, and keep it, as long as they are not too many."""
        self.counts["wrong"] += 1
        if len(self.errors) < ERRORS_KEPT:
            self.errors.append([row.line, row.error])
        if row.error in self.reasons or len(self.reasons) < REASONS:
            self.reasons[row.error] += 1
        if not row.line:
            return
        self.refused.append(row)
        if self.counts["kept"] < KEPT and self.counts["characters"] < KEPT_CHARACTERS:
            self.counts["kept"] += 1
            self.counts["characters"] += len(row.text)
            self.kept.append(row)

    def compare(self, items: Iterable[Placed], memory: writing.Memory | None) -> None:
        """Find out what of these is in the project already, or in what the memory holds of the file."""
        self.outcome.add(writing.compare(self.project, items, memory))

    def as_counts(self) -> dict[str, Any]:
        """Return all of it for `Import.counts`."""
        return {
            **self.earlier,
            **self.counts,
            **{name: dict(getattr(self, name)) for name in COUNTERS},
            "expected": dict(self.outcome.counts),
            "remarks": self.outcome.remarks,
            "policies": sorted(self.sources.new),
            "titles": self.sources.titles,
        }
