"""Working through an uploaded file in steps: checked whole, looked at, then brought in.

Each step is short: it reads some megabytes from where the last one stopped, for a second or two at most, and moves
`Import.position` in the transaction that writes them. So no request is long, memory is bounded by a step, a closed
page only pauses the work, and of two windows on one import one does each step. Nothing is written before the whole
file was found right. An unexpected error ends an import: none is left running for ever.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.http import Http404
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.imports import writing
from annotate.imports.files import earlier
from annotate.imports.files.checking import Check
from annotate.imports.files.earlier import EarlierRecords, Place
from annotate.imports.files.options import Options
from annotate.imports.files.reception import forget_files, restart
from annotate.imports.files.rows import Row, Rows
from annotate.imports.reader import WHOLE_FILE, RowError
from annotate.imports.records import BATCH, ERRORS_KEPT, ImportRefusedError, Item, Sources
from annotate.imports.writing import ROWS_AT_A_TIME, Outcome
from annotate.judgments.imported import take_back
from annotate.models import Comparison, Import, Judgment, Prompt, RefusedRow, User
from annotate.models.conflicts import again_on_race, update_in_parts
from annotate.projects import trail
from annotate.storage_errors import is_disk_full, storage_error, will_pass
from primitives.text import make_storable

logger = logging.getLogger(__name__)
State = Import.State


def work(import_id: int, seconds: float) -> Import:
    """Do steps for about so long, or until the check or the import is over.

    Raises StorageError if the database's disk is full, and the step can then be tried again. Raises Http404 if the
    import is forgotten meanwhile.
    """
    until = time.monotonic() + seconds
    upload = Import.objects.select_related("project").filter(pk=import_id).first()
    if upload is None:
        raise Http404(_("This import was forgotten."))
    while upload.state in (State.CHECKING, State.RUNNING):
        try:
            if upload.state == State.CHECKING:
                _check_some(upload)
            else:
                _write_some(upload)
        except FileNotFoundError:  # another window cancelled it, or the storage was tidied up
            _fail(upload, _("The file is no longer in the server’s storage: upload it again."))
        except Exception as error:
            if is_disk_full(error):
                raise storage_error(error) from error
            if will_pass(error):
                raise
            logger.exception("Import %s failed", upload.pk)
            _fail(
                upload,
                _(
                    "Something went wrong on the server, and it was written to its log. What was brought in before "
                    "is kept."
                ),
            )
        try:
            upload.refresh_from_db()
        except Import.DoesNotExist as gone:
            raise Http404(_("This import was forgotten.")) from gone
        if time.monotonic() > until:
            break
    return upload


def takes_options(upload: Import) -> bool:
    """Return whether a file waits for a person, who may have it read in another way."""
    if upload.state == State.REFUSED:
        has_more = bool(upload.counts.get("rows")) or len(upload.options.get("sheets", ())) > 1
        return has_more and bool(upload.file) and not upload.counts.get("made")
    return upload.state in (State.MAPPING, State.READY)


def check_again(upload: Import, options: Options) -> bool:
    """Check a file from its start by other options. False if it is not waiting for them (any more)."""
    chosen = {**upload.options, **options.dump()}
    return restart(upload, state=State.CHECKING, options=chosen)


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
        forget_files(upload)
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


def withdrawable_prompts(upload: Import) -> QuerySet[Prompt]:
    """Return the prompts that it brought in and that have no comparison in use."""
    left = Comparison.objects.filter(prompt=OuterRef("pk"), withdrawn_at=None)
    return Prompt.objects.in_use().filter(~Exists(left), project=upload.project_id, batch=batch(upload))


def withdraw(upload: Import, by: User, **details: Any) -> tuple[int, int]:
    """Withdraw what it brought in and no person has judged, and its judgments. Return how many comparisons and prompts.

    Each can be restored as any other, or all, with their judgments, by importing them again. The trail says so first,
    as the rows are withdrawn in parts.
    """
    if any(rows.exists() for rows in (unjudged(upload), judgments(upload), withdrawable_prompts(upload))):
        target = _("the import %(name)s") % {"name": upload.filename}
        trail.record(trail.Verb.TAKEN_OUT, by, project=upload.project, target=target, **details)
    comparisons = update_in_parts(unjudged(upload), withdrawn_at=timezone.now())
    take_back(upload.project, judgments(upload))
    return comparisons, update_in_parts(withdrawable_prompts(upload), withdrawn_at=timezone.now())


@dataclass(frozen=True)
class Withdrawn:
    """The part of an import that is out of use by now. With `is_all`, nothing of it is left in use."""

    comparisons: int
    prompts: int
    is_all: bool


def find_withdrawn(upload: Import) -> Withdrawn | None:
    """Return what of an import was withdrawn since, by this page or one by one. None if nothing was."""
    brought = {"project": upload.project_id, "batch": batch(upload)}
    comparisons, prompts = Comparison.objects.filter(**brought), Prompt.objects.filter(**brought)
    is_all = not any(rows.filter(withdrawn_at=None).exists() for rows in (comparisons, prompts))
    out_of_use = Withdrawn(
        comparisons.exclude(withdrawn_at=None).count(), prompts.exclude(withdrawn_at=None).count(), is_all
    )
    return out_of_use if out_of_use.comparisons or out_of_use.prompts else None


def seconds_left(upload: Import) -> float | None:
    """Return an estimate from the pace of this pass so far; None before there is one."""
    if not upload.position or "since" not in upload.counts:
        return None
    spent: float = time.time() - upload.counts["since"]
    return max(0.0, spent * (upload.size - upload.position) / upload.position)


def _opened(upload: Import) -> BinaryIO:
    return cast(BinaryIO, upload.file.open("rb"))


def _check_some(upload: Import) -> None:
    """Do a step of a check. Its records are a cache: no fault of them ends it."""
    if not upload.options.get("pass"):  # of an older version
        restart(upload, state=State.CHECKING)
        return
    for _time in range(2):
        if not _unchanged(upload).exists():
            return  # another window was faster
        try:
            _check_by_records(upload)
        except sqlite3.Error as error:  # of the records: Django has errors of its own
            if earlier.is_busy(error):
                return  # another window is at it
            logger.warning("The records of import %s are damaged, and are read again: %s", upload.pk, error)
            earlier.forget(upload)
        else:
            return
    _check_alone(upload)


def _check_alone(upload: Import) -> None:
    """Do a step of a check without its records: rows meet those alone that are compared together with them."""
    check = Check(upload.project, Options.of(upload), upload.counts, upload.errors)
    if not check.earlier.get("alone"):
        check.earlier["alone"] = True
        sentence = _(
            "The server could not keep what it had read. Rows that repeat far earlier ones are counted as new here, "
            "and are still brought in once."
        )
        check.outcome.add(Outcome(remarks=[(upload.line + 1, sentence)]))
    with _opened(upload) as file:
        rows = check.take(file, upload.format, (upload.position, upload.line), None)
        _record_check(upload, check, rows)


def _check_by_records(upload: Import) -> None:
    options = Options.of(upload)
    with EarlierRecords(earlier.path_of(upload)) as memory, _opened(upload) as file:
        if not _unchanged(upload).exists():
            return  # another window was faster
        if memory.place.position > upload.position:
            memory.clear()
        start, named = memory.place[:2], memory.place
        if missing := upload.position - memory.place.position:  # it was lost, or this is another machine
            check = Check(upload.project, options, {"policies": named.policies, "titles": named.titles})
            rows = check.take(file, upload.format, start, memory, missing)
        else:
            check = Check(upload.project, options, upload.counts, upload.errors)
            rows = check.take(file, upload.format, (upload.position, upload.line), memory)
            if not _record_check(upload, check, rows):
                return
        memory.commit(Place(rows.position, rows.line, tuple(check.sources.new), check.sources.titles))
    if not missing and rows.over:
        earlier.forget(upload)


def _record_check(upload: Import, check: Check, rows: Rows) -> bool:
    """Record a step of a check, unless another window was faster."""
    if check.nothing:
        check.refuse(Row(WHOLE_FILE, error=check.nothing))
    state = State.CHECKING if not rows.over else State.READY if check.found else State.REFUSED
    with transaction.atomic():
        if not _advance(upload, rows, state, check.as_counts(), check.errors):
            return False
        RefusedRow.objects.bulk_create(
            RefusedRow(upload=upload, line=row.line, reason=row.error, text=make_storable(row.text))
            for row in check.kept
        )
    return True


def _write_some(upload: Import) -> None:
    options = Options.of(upload)
    sources = Sources(upload.project)
    refused: list[tuple[int, str]] = []
    items: list[tuple[int, Item]] = []
    with _opened(upload) as file:
        reader = options.reader(file, upload.format, upload.position, upload.line)
        rows = Rows(reader, writing.portion(reader, ROWS_AT_A_TIME), options)
        for row in rows:  # those with an error were counted by the check, and are left out
            try:
                for item in row.items:
                    sources.add(item)
            except RowError as error:
                refused.append((row.line, str(error)))
            else:
                items += [(row.line, item) for item in row.items]
    state = State.DONE if rows.over else State.RUNNING
    try:
        _refuse_news(upload, refused)
        if not _record_step(upload, rows, items, state):
            return
    except ImportRefusedError as error:  # something that came up after the check
        _advance(upload, rows, State.REFUSED, upload.counts, [list(one) for one in error.errors])
        state = State.REFUSED
    if state != State.RUNNING:
        forget_files(upload)


@again_on_race
def _record_step(upload: Import, rows: Rows, items: list[tuple[int, Item]], state: State) -> bool:
    """Write the items of a step, unless another window was faster. Raises ImportRefusedError."""
    with transaction.atomic():
        outcome = Outcome(Counter(upload.counts.get("made", {})), upload.counts.get("remarks", []))
        # The row first: a second window waits for it here, and then finds that this step is done.
        if not _advance(upload, rows, state, upload.counts, upload.errors):
            return False
        update = upload.counts.get("update", False)
        outcome.add(writing.write(upload.project, items, batch(upload), update=update))
        counts = {**upload.counts, "made": dict(outcome.counts), "remarks": outcome.remarks}
        Import.objects.filter(pk=upload.pk).update(counts=counts)
    return True


def _refuse_news(upload: Import, refused: list[tuple[int, str]]) -> None:
    """Let rows pass that the check left out, too. Raises ImportRefusedError for others."""
    if not refused or upload.counts.get("wrong", 0) > upload.refused_rows.count():
        return  # more were left out than are kept
    known = upload.refused_rows.filter(line__in=[line for line, _error in refused])
    lines = set(known.values_list("line", flat=True))
    if news := [(line, sentence) for line, sentence in refused if line not in lines]:
        raise ImportRefusedError(news[:ERRORS_KEPT], len(news))


def _advance(upload: Import, read: Rows, state: State, counts: dict[str, Any], errors: list[Any]) -> bool:
    """Record a step, unless another window was faster: then nothing is changed."""
    over = state not in Import.LIVE
    return (
        _unchanged(upload).update(
            position=read.position,
            line=read.line,
            state=state,
            counts=counts,
            errors=errors,
            finished_at=timezone.now() if over else None,
        )
        == 1
    )


def _unchanged(upload: Import) -> QuerySet[Import]:
    """Return the row of an import, if no other window has changed it."""
    here = Import.objects.filter(pk=upload.pk, state=upload.state, position=upload.position)
    if begun := upload.options.get("pass"):  # a check that was begun again by other options is another one
        here = here.filter(options__pass=begun)
    return here


def _fail(upload: Import, sentence: str) -> None:
    """End an import that cannot go on; what it brought in stays."""
    here = Import.objects.filter(pk=upload.pk, state=upload.state)
    if here.update(state=State.REFUSED, errors=[[WHOLE_FILE, sentence]], finished_at=timezone.now()):
        forget_files(upload)
