"""A file brought in by a command: checked whole, then written from what its check kept of it."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from django.db import transaction

from annotate.imports import writing
from annotate.imports.files.checking import Check
from annotate.imports.files.options import Options
from annotate.imports.files.rows import Row, Rows
from annotate.imports.files.spool import Spool
from annotate.imports.reader import WHOLE_FILE, Reader, nothing_in
from annotate.imports.records import BATCH, ImportRefusedError
from annotate.imports.writing import Outcome
from annotate.models import Project
from annotate.projects import trail

ROWS_AT_A_TIME = 2_000  # checked, and then written, together
COMPARED = 1_000
OBJECTS_AT_A_TIME = 100_000  # made between two looks for garbage: rows are made of many, and leave none


@dataclass
class Report:
    """The findings of a check, and the outcome of the import."""

    check: Check
    outcome: Outcome = field(default_factory=Outcome)
    nothing: str = ""  # why the file has no records


@contextmanager
def spooled() -> Iterator[Spool]:
    """Yield a place for the rows of a file between its check and its import."""
    with tempfile.TemporaryFile() as file:
        yield Spool(cast(BinaryIO, file))


def import_whole(
    project: Project, file: BinaryIO, format: str, name: str = "", *, update: bool = False
) -> Outcome:
    """Import a file of Whetstone's own rows, all of it or nothing. Raises ImportRefusedError."""
    with spooled() as spool:
        report = check_file(project, file, format, Options(container=format), spool)
        errors = [(line, sentence) for line, sentence in report.check.errors]
        if errors or report.nothing:
            count = max(report.check.counts["wrong"], 1)
            raise ImportRefusedError(errors or [(WHOLE_FILE, report.nothing)], count)
        with transaction.atomic():
            return write_file(project, spool, name, update=update)


def check_file(
    project: Project,
    file: BinaryIO,
    format: str,
    options: Options,
    spool: Spool,
    *,
    refuse: Callable[[Row], None] = lambda row: None,
) -> Report:
    """Read a whole file into a spool. `refuse` is called with each row that cannot be used."""
    check = Check(project, options)
    nothing = ""
    with _many_objects():
        for reader, rows in _portions(file, format, options):
            usable = []
            for row in rows:
                usable += check.add(row)
                if check.waiting >= COMPARED:
                    check.compare()
            check.compare()
            spool.write(usable)
            for row in check.refused:
                refuse(row)
            check.refused.clear()
            check.kept.clear()
            nothing = nothing_in(reader)
    return Report(check, nothing="" if check.counts["rows"] else nothing)


def write_file(
    project: Project,
    spool: Spool,
    name: str,
    *,
    update: bool = False,
    told: Callable[[int], None] = lambda rows: None,
) -> Outcome:
    """Write what of a checked file can be used, a transaction a block. Run again, it goes on where it was stopped.

    If it changed anything, the trail says so, and calls the file by `name`.
    """
    outcome, count = Outcome(), 0
    try:
        with _many_objects():
            for items in spool.blocks():
                outcome.add(writing.write(project, items, BATCH, update=update))
                count += len(items)
                told(count)
    finally:
        if outcome.changes_something:
            details = writing.details(update=update)
            trail.record(trail.Verb.IMPORTED, None, project=project, target=name[-200:], **details)
    return outcome


def _portions(file: BinaryIO, format: str, options: Options) -> Iterator[tuple[Reader, Rows]]:
    position = line = 0
    while True:
        reader = options.reader(file, format, position, line)
        rows = Rows(reader, writing.portion(reader, ROWS_AT_A_TIME), options)
        yield reader, rows
        position, line = rows.position, rows.line
        if rows.over:
            return


@contextmanager
def _many_objects() -> Iterator[None]:
    """Let Python look for garbage less often, and not among what was there before."""
    usual = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(OBJECTS_AT_A_TIME, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()
