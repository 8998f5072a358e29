"""A file brought in by a command: as far as it can be used, all of it or nothing, or checked alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, NamedTuple, cast

from django.db import transaction
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.imports import writing
from annotate.imports.files.ahead import read_ahead
from annotate.imports.files.checking import Check
from annotate.imports.files.earlier import EarlierRecords
from annotate.imports.files.options import Options
from annotate.imports.files.rows import Row, Rows
from annotate.imports.files.spool import Placed, Spool
from annotate.imports.reader import WHOLE_FILE, nothing_in
from annotate.imports.records import BATCH, ImportRefusedError
from annotate.imports.writing import Outcome
from annotate.models import Project
from annotate.models.conflicts import again_on_race
from annotate.projects import trail
from primitives.garbage import many_objects

ROWS_AT_A_TIME = 2_000  # checked, and then written, together
BLOCKS_AHEAD = 2  # of them, that wait for the database


@dataclass
class Report:
    """The findings of a check, and the outcome of the import."""

    check: Check
    outcome: Outcome = field(default_factory=Outcome)
    nothing: str = ""  # why the file has no records


class Block(NamedTuple):
    """Some items, which are written together, and how many rows of the file are read so far."""

    items: list[Placed]
    rows: int


class ImportStoppedError(RefusalError):
    """An import could not go on. `report` has what was found and written before."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


def import_file(
    project: Project,
    file: BinaryIO,
    format: str,
    options: Options,
    name: str,
    *,
    update: bool = False,
    refuse: Callable[[Row], None] = lambda row: None,
    told: Callable[[int], None] = lambda rows: None,
) -> Report:
    """Write what of a file can be used, a transaction a block. Run again, it goes on where it was stopped.

    The next block is read and checked while the database commits the last one. `refuse` is called with each row that
    cannot be used, and `told` with how many were read when a block was written. If anything was changed, the trail says
    so, and calls the file by `name`. Raises ImportStoppedError.
    """
    report = Report(Check(project, options))
    try:
        with many_objects(), read_ahead(_blocks(report, file, format, refuse), BLOCKS_AHEAD) as blocks:
            write = partial(again_on_race(writing.write), before_commit=blocks.go_on)
            _write(report, blocks, name, write, update=update, told=told)
    except RefusalError as error:
        raise ImportStoppedError(error.message, report) from error
    except OSError as error:
        sentence = _("%(file)s cannot be read or written: %(reason)s.")
        words = {"file": error.filename or name, "reason": error.strerror}
        raise ImportStoppedError(sentence % words, report) from error
    return report


def check_file(
    project: Project,
    file: BinaryIO,
    format: str,
    options: Options,
    *,
    refuse: Callable[[Row], None] = lambda row: None,
) -> Report:
    """Read a whole file, compare it with the project and with its own earlier records, and write nothing."""
    report = Report(Check(project, options))
    place, is_over = (0, 0), False
    with many_objects(), EarlierRecords() as memory:
        while not is_over:
            rows = report.check.take(file, format, place, memory)
            _hand_over(report.check, refuse)
            place, is_over = (rows.position, rows.line), rows.over
    report.nothing = report.check.nothing
    return report


def import_whole(
    project: Project, file: BinaryIO, format: str, name: str = "", *, update: bool = False
) -> Outcome:
    """Import a file of Whetstone's own rows, all of it or nothing. Raises ImportRefusedError."""
    report = Report(Check(project, Options(container=format)))
    with tempfile.TemporaryFile() as kept, many_objects():
        spool = Spool(cast(BinaryIO, kept))
        for block in _blocks(report, file, format):
            spool.write(block.items)
        errors = [(line, sentence) for line, sentence in report.check.errors]
        if errors or report.nothing:
            count = max(report.check.counts["wrong"], 1)
            raise ImportRefusedError(errors or [(WHOLE_FILE, report.nothing)], count)
        _write_spooled(report, spool, name, update=update)
    return report.outcome


@again_on_race
def _write_spooled(report: Report, spool: Spool, name: str, *, update: bool) -> None:
    report.outcome = Outcome()
    with transaction.atomic():
        _write(report, (Block(items, 0) for items in spool.blocks()), name, writing.write, update=update)


def _blocks(
    report: Report, file: BinaryIO, format: str, refuse: Callable[[Row], None] = lambda row: None
) -> Iterator[Block]:
    """Yield what of a file can be used, and note in the report what was found. It asks no database."""
    check = report.check
    position = line = 0
    while True:
        reader = check.options.reader(file, format, position, line)
        rows = Rows(reader, writing.portion(reader, ROWS_AT_A_TIME), check.options)
        if items := [placed for row in rows for placed in check.add(row)]:
            yield Block(items, check.counts["rows"])
        _hand_over(check, refuse)
        if rows.over:
            report.nothing = "" if check.counts["rows"] else nothing_in(reader)
            return
        position, line = rows.position, rows.line


def _hand_over(check: Check, refuse: Callable[[Row], None]) -> None:
    """Call `refuse` with the rows that a check has refused, and keep them no longer."""
    for row in check.refused:
        refuse(row)
    check.refused.clear()
    check.kept.clear()


def _write(
    report: Report,
    blocks: Iterable[Block],
    name: str,
    write: Callable[..., Outcome],
    *,
    update: bool,
    told: Callable[[int], None] = lambda rows: None,
) -> None:
    project, outcome = report.check.project, report.outcome
    try:
        for block in blocks:
            outcome.add(write(project, block.items, BATCH, update=update))
            told(block.rows)
    finally:
        if outcome.changes_something:
            details = writing.details(update=update)
            trail.record(trail.Verb.IMPORTED, None, project=project, target=name[-200:], **details)
