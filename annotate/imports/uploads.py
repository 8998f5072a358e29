"""Working through an uploaded file in steps: checked whole, looked at, then brought in.

Each step is short: it reads some megabytes from where the last one stopped, for a second or two at most, and moves
`Import.position` in the transaction that writes them. So no request is long, memory is bounded by a step, a closed
page only pauses the work, and of two windows on one import one does each step. Nothing is written before the whole
file was found right. An unexpected error ends an import: none is left running for ever.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, BinaryIO, cast

from django.core.files.base import File
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.imports import writing
from annotate.imports.reader import WHOLE_FILE, Portion, Reader, RowError, nothing_in
from annotate.imports.records import (
    BATCH,
    ERRORS_KEPT,
    SIDES,
    ImportRefusedError,
    Item,
    Sources,
    parse,
    parse_record,
)
from annotate.imports.writing import ROWS_AT_A_TIME, Outcome
from annotate.judgments.imported import take_back
from annotate.models import Comparison, Import, Judgment, Project, Prompt, User
from annotate.models.conflicts import update_in_parts
from annotate.text.chats import last_question

ROWS_CHECKED_AT_A_TIME = 5_000
ROWS_COMPARED_AT_A_TIME = 200
BYTES_COMPARED_AT_A_TIME = 512 * 1024  # of texts, in memory together
PREVIEWED = 5
PREVIEW_BYTES = 256 * 1024  # of a file that may begin with blank lines, read by each look at its page
FOLDER = str(Import._meta.get_field("file").upload_to)
KEPT = timedelta(days=1)  # how long a file may be without its Import: far longer than an upload takes

logger = logging.getLogger(__name__)
State = Import.State


class StorageError(RefusalError):
    """The server could not store something. The message says what to do."""


def receive(project: Project, by: User, file: File[Any], format: str) -> Import:
    """Store the file, under a name of our own, to be worked through. Raises StorageError, with nothing stored."""
    sweep_files()
    upload = Import(
        project=project,
        created_by=by,
        filename=(file.name or _("pasted text"))[-200:],
        format=format,
        size=file.size or 0,
    )
    upload.counts = {"since": time.time()}
    name = f"{uuid.uuid4()}.{format}"
    try:
        upload.file.save(name, file)
    except BaseException as error:
        stored = upload.file.name or upload.file.field.generate_filename(upload, name)
        with suppress(OSError):
            upload.file.storage.delete(stored)  # what there is of it
        if isinstance(error, OSError) or _is_disk_full(error):
            raise _storage_error(error) from error
        raise
    return upload


def sweep_files() -> None:
    """Delete the files of uploads that no Import names: of a process that was killed, of a deleted project."""
    storage = Import._meta.get_field("file").storage
    with suppress(OSError, NotImplementedError):  # no upload yet, or a storage that is away or lists nothing
        names = {f"{FOLDER}{name}" for name in storage.listdir(FOLDER)[1]}
        named = set(Import.objects.filter(file__in=names).values_list("file", flat=True))
        for name in names - named:
            if timezone.now() - storage.get_modified_time(name) > KEPT:
                storage.delete(name)


def work(import_id: int, seconds: float) -> Import:
    """Do steps for about so long, or until the check or the import is over.

    Raises StorageError if the database's disk is full. The step can then be tried again.
    """
    until = time.monotonic() + seconds
    upload = Import.objects.select_related("project").get(pk=import_id)
    while upload.state in (State.CHECKING, State.RUNNING):
        try:
            if upload.state == State.CHECKING:
                _check_some(upload)
            else:
                _write_some(upload)
        except FileNotFoundError:  # another window cancelled it, or the storage was tidied up
            _fail(upload, _("The file is no longer in the server’s storage: upload it again."))
        except Exception as error:
            if _is_disk_full(error):
                raise _storage_error(error) from error
            if _will_pass(error):
                raise
            logger.exception("Import %s failed", upload.pk)
            _fail(
                upload,
                _(
                    "Something went wrong on the server, and it was written to its log. What was brought in before "
                    "is kept."
                ),
            )
        upload.refresh_from_db()
        if time.monotonic() > until:
            break
    return upload


def start(upload: Import, *, update: bool = False) -> bool:
    """Begin to bring in a file that was checked; `update` what is known and differs, too.

    False if it is not waiting for that (any more).
    """
    counts = {**upload.counts, "since": time.time(), "update": update, "remarks": []}
    waiting = Import.objects.filter(pk=upload.pk, state=State.READY)
    return waiting.update(state=State.RUNNING, position=0, line=0, counts=counts) == 1


def cancel(upload: Import) -> bool:
    """Stop here. What was brought in stays; the file is deleted. False if it was over already."""
    live = Import.objects.filter(pk=upload.pk, state__in=Import.LIVE)
    stopped = live.update(state=State.CANCELLED, finished_at=timezone.now()) == 1
    if stopped:
        upload.file.delete(save=False)
    return stopped


def batch(upload: Import) -> str:
    """Return the Comparison.batch of what this import brings in."""
    return f"{BATCH} {upload.pk}"


def unjudged(upload: Import) -> QuerySet[Comparison]:
    """Return its comparisons in use that no person has judged, skipped or holds."""
    return Comparison.objects.untouched().filter(
        project=upload.project_id,
        batch=batch(upload),
        kind__in=(Comparison.Kind.STANDARD, Comparison.Kind.GOLD),
        withdrawn_at=None,
    )


def judgments(upload: Import) -> QuerySet[Judgment]:
    """Return the judgments that it brought in, on comparisons that no person has judged."""
    people = Judgment.objects.current().by_people().filter(comparison=OuterRef("comparison"))
    mine = Judgment.objects.current().filter(project=upload.project_id, import_batch=batch(upload))
    return mine.filter(~Exists(people))


def unused_prompts(upload: Import) -> QuerySet[Prompt]:
    """Return the prompts that it brought in and that would have no comparison left if it were withdrawn."""
    left = Comparison.objects.filter(prompt=OuterRef("pk"), withdrawn_at=None)
    left = left.exclude(pk__in=unjudged(upload).values("pk"))
    return Prompt.objects.in_use().filter(~Exists(left), project=upload.project_id, batch=batch(upload))


def withdraw(upload: Import) -> tuple[int, int]:
    """Withdraw what it brought in and no person has judged, and its judgments. Return how many comparisons and prompts.

    Each can be restored as any other, or all, with their judgments, by importing them again.
    """
    comparisons = update_in_parts(unjudged(upload), withdrawn_at=timezone.now())
    take_back(judgments(upload))
    return comparisons, update_in_parts(unused_prompts(upload), withdrawn_at=timezone.now())


@dataclass(frozen=True)
class Preview:
    """A record as the page shows it; of a chat, the last message."""

    text: str
    completions: tuple[str, str] | None
    gold: str | None


def preview(upload: Import) -> list[Preview]:
    """Return the first records of a file that was checked, or none if the file is gone."""
    try:
        with _opened(upload) as file:
            reader = Reader(file, upload.format)
            rows = Portion(reader, rows=PREVIEWED, size=PREVIEW_BYTES, seconds=writing.SECONDS_AT_A_TIME)
            items = [parse(row) for _line, row in rows if not isinstance(row, RowError)]
    except FileNotFoundError:  # starting the import says so
        return []
    return [
        Preview(
            last_question(item.prompt),
            item.completions,
            item.gold if item.gold in SIDES else None,
        )
        for item in items
    ]


def seconds_left(upload: Import) -> float | None:
    """Return an estimate from the pace of this pass so far; None before there is one."""
    if not upload.position or "since" not in upload.counts:
        return None
    spent: float = time.time() - upload.counts["since"]
    return max(0.0, spent * (upload.size - upload.position) / upload.position)


def _opened(upload: Import) -> BinaryIO:
    return cast(BinaryIO, upload.file.open("rb"))


def _check_some(upload: Import) -> None:
    sources = Sources(upload.project, upload.counts.get("policies", ()))
    errors, wrong = list(upload.errors), upload.counts.get("wrong", 0)
    found = Counter(upload.counts.get("found", {}))
    outcome = Outcome(Counter(upload.counts.get("expected", {})), upload.counts.get("remarks", []))
    items: list[tuple[int, Item]] = []
    with _opened(upload) as file:
        rows = Reader(file, upload.format, upload.position, upload.line)
        some = writing.portion(rows, ROWS_CHECKED_AT_A_TIME)
        compared = rows.position
        for line, row in some:
            try:
                item = parse_record(row)
                sources.add(item)
            except RowError as error:
                wrong += 1
                if len(errors) < ERRORS_KEPT:
                    errors.append([line, str(error)])
                continue
            found[item.kind] += 1
            items.append((line, item))
            if len(items) >= ROWS_COMPARED_AT_A_TIME or rows.position - compared >= BYTES_COMPARED_AT_A_TIME:
                outcome.add(writing.compare(upload.project, items))
                items, compared = [], rows.position
    outcome.add(writing.compare(upload.project, items))
    over = some.over
    if over and not wrong and not found:
        wrong, errors = 1, [[WHOLE_FILE, nothing_in(rows)]]
    state = State.CHECKING if not over else State.REFUSED if wrong else State.READY
    counts = {
        **upload.counts,
        "found": dict(found),
        "expected": dict(outcome.counts),
        "remarks": outcome.remarks,
        "wrong": wrong,
        "policies": sorted(sources.new),
    }
    if _advance(upload, rows, state, counts, errors) and state == State.REFUSED:
        upload.file.delete(save=False)


def _write_some(upload: Import) -> None:
    with _opened(upload) as file:
        rows = Reader(file, upload.format, upload.position, upload.line)
        some = writing.portion(rows, ROWS_AT_A_TIME)
        items = [(line, parse_record(row)) for line, row in some]
    state = State.DONE if some.over else State.RUNNING
    try:
        with transaction.atomic():
            outcome = Outcome(Counter(upload.counts.get("made", {})), upload.counts.get("remarks", []))
            # The row first: a second window waits for it here, and then finds that this step is done.
            if not _advance(upload, rows, state, upload.counts, upload.errors):
                return
            update = upload.counts.get("update", False)
            outcome.add(writing.write(upload.project, items, batch(upload), update=update))
            counts = {**upload.counts, "made": dict(outcome.counts), "remarks": outcome.remarks}
            Import.objects.filter(pk=upload.pk).update(counts=counts)
    except ImportRefusedError as refused:  # something that came up after the check
        _advance(upload, rows, State.REFUSED, upload.counts, [list(error) for error in refused.errors])
        state = State.REFUSED
    if state != State.RUNNING:
        upload.file.delete(save=False)


def _advance(upload: Import, read: Reader, state: State, counts: dict[str, Any], errors: list[Any]) -> bool:
    """Record a step, unless another window was faster: then nothing is changed."""
    here = Import.objects.filter(pk=upload.pk, state=upload.state, position=upload.position)
    over = state not in Import.LIVE
    return (
        here.update(
            position=read.position,
            line=read.line,
            state=state,
            counts=counts,
            errors=errors,
            finished_at=timezone.now() if over else None,
        )
        == 1
    )


def _fail(upload: Import, sentence: str) -> None:
    """End an import that cannot go on; what it brought in stays."""
    here = Import.objects.filter(pk=upload.pk, state=upload.state)
    if here.update(state=State.REFUSED, errors=[[WHOLE_FILE, sentence]], finished_at=timezone.now()):
        with suppress(OSError):
            upload.file.delete(save=False)


def _storage_error(error: BaseException) -> StorageError:
    if _is_disk_full(error):
        return StorageError(
            _(
                "The server’s disk is full. Nothing was lost. Ask who runs this site to make room, then try again."
            )
        )
    return StorageError(
        _("The server could not store the file (%(reason)s). Ask who runs this site, then upload it again.")
        % {"reason": getattr(error, "strerror", None) or type(error).__name__}
    )


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    sqlstate, sqlite = _codes(error)
    return sqlstate == "53100" or sqlite == sqlite3.SQLITE_FULL


def _will_pass(error: BaseException) -> bool:
    """Return whether the database was away, busy or short of something: the next step may succeed."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    sqlstate, sqlite = _codes(error)
    if sqlite is not None:
        return sqlite & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR)
    # Connections, deadlocks, resources, locks, a shutdown; without a code the connection is lost.
    return sqlstate is None or sqlstate[:2] in ("08", "40", "53", "55", "57")


def _codes(error: BaseException) -> tuple[str | None, int | None]:
    """Return the driver's codes for a database error: PostgreSQL's SQLSTATE, and SQLite's."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None), getattr(cause, "sqlite_errorcode", None)
