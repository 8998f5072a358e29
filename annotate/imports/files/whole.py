"""A file brought in by the command line: the same steps as an upload's, one after another in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from annotate.imports import writing
from annotate.imports.files.checking import Check
from annotate.imports.files.options import Options
from annotate.imports.files.rows import Row, Rows
from annotate.imports.reader import Reader, RowError, nothing_in
from annotate.imports.records import BATCH, Sources
from annotate.imports.writing import Outcome
from annotate.models import Project
from annotate.projects import trail

CHECKED = 2_000  # rows at a time
WRITTEN = 1_000
COMPARED = 500


@dataclass
class Report:
    """The findings of a check, and the outcome of the import."""

    check: Check
    outcome: Outcome = field(default_factory=Outcome)
    nothing: str = ""  # why the file has no records


def check_file(
    project: Project, file: BinaryIO, format: str, options: Options, refuse: Callable[[Row], None]
) -> Report:
    """Read a whole file. `refuse` is called with each row that cannot be used."""
    check = Check(project, options)
    nothing = ""
    for reader, rows in _portions(file, format, options, CHECKED):
        for row in rows:
            check.add(row)
            if check.waiting >= COMPARED:
                check.compare()
        check.compare()
        for row in check.refused:
            refuse(row)
        check.refused.clear()
        check.kept.clear()
        nothing = nothing_in(reader)
    return Report(check, nothing="" if check.counts["rows"] else nothing)


def write_file(
    project: Project,
    file: BinaryIO,
    format: str,
    options: Options,
    name: str,
    *,
    update: bool = False,
    told: Callable[[int], None] = lambda rows: None,
) -> Outcome:
    """Write what of a checked file can be used, a transaction a step. Run again, it goes on where it was stopped.

    If it changed anything, the trail says so, and calls the file by `name`.
    """
    outcome, count = Outcome(), 0
    try:
        for _reader, rows in _portions(file, format, options, WRITTEN):
            sources = Sources(project)
            items = []
            for row in rows:
                count += 1
                try:
                    for item in row.items:
                        sources.add(item)
                except RowError:
                    continue  # counted by the check
                items += [(row.line, item) for item in row.items]
            outcome.add(writing.write(project, items, BATCH, update=update))
            told(count)
    finally:
        if outcome.changes_something:
            details: dict[str, Any] = writing.details(update=update)
            trail.record(trail.Verb.IMPORTED, None, project=project, target=name[-200:], **details)
    return outcome


def _portions(file: BinaryIO, format: str, options: Options, most: int) -> Iterator[tuple[Reader, Rows]]:
    position = line = 0
    while True:
        reader = options.reader(file, format, position, line)
        rows = Rows(reader, writing.portion(reader, most), options)
        yield reader, rows
        position, line = rows.position, rows.line
        if rows.over:
            return
