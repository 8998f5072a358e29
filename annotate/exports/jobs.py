"""Files that take long, written by a task and kept for some days: progress, a hash, and a link that expires.

A worker takes a job from its message. Where none does, the page that waits for the file has it written by a thread of
the web server, so that a laptop without a worker needs nothing else. Rows are the truth: a writer holds an attempt
of the row, tells it that it is alive, and is replaced when it goes silent. Silence is told by the database's time
(`Now()`), as the clocks of web servers and workers may disagree.
"""

import hashlib
import logging
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.http import FileResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.errors import MissingError, RefusalError
from annotate.exports import account
from annotate.exports.bundle import CONTENT_TYPES, filename, open_download
from annotate.exports.prepared import drop_expired, send_file, store_file
from annotate.exports.selection import Selection
from annotate.models import Export, Project, User
from annotate.models.snapshots import KEPT
from annotate.storage_errors import explain_failure
from annotate.unnamed_files import drop_unnamed

TASK = "annotate.tasks.write_export"
PATIENCE = timedelta(seconds=4)  # a worker that is there has taken a job by then
SILENCE = timedelta(seconds=30)  # who did not tell that it is alive for so long is replaced
HEARTBEAT = 1.0  # seconds
# Another message is sent while a job waits: without an end they would pile up where every worker is busy.
MESSAGE_LIFE = timedelta(minutes=30)
ATTEMPTS = 3
LIVE_AT_MOST = 5  # jobs of a project that wait or run
FOLDER = "exports/"

State = Export.State
logger = logging.getLogger(__name__)
Read = Callable[[Project, dict[str, Any]], Selection]


class LostError(Exception):
    """The job was cancelled, or another attempt took its place."""


def request(
    selection: Selection, by: User | None, query: dict[str, Any], send: Callable[[str], None]
) -> Export:
    """Ask for a file of what a query selects. `send` tells a worker once the row is there.

    Raises RefusalError if too many wait.
    """
    project = selection.project
    drop_expired(Export.objects.all(), KEPT)
    look_after(Export.objects.filter(project=project), send)
    if Export.objects.filter(project=project, state__in=Export.LIVE).count() >= LIVE_AT_MOST:
        raise RefusalError(_("Other files of this project are being prepared. Wait for them, or cancel one."))
    name = filename(selection)
    made = Export.objects.create(project=project, created_by=by, query=query, filename=name, heard_at=Now())
    transaction.on_commit(lambda: send(str(made.pk)))
    return made


def is_waiting(job: Export) -> bool:
    """Return whether no worker has taken a job, or the one that did went silent."""
    untaken = Q(state=State.QUEUED, heard_at__lt=Now() - PATIENCE)
    return Export.objects.filter(untaken | _silent(), pk=job.pk).exists()


def _silent() -> Q:
    """Return the condition that the writer of a job went silent."""
    return Q(state=State.RUNNING, heard_at__lt=Now() - SILENCE)


def write_beside(job: Export, read: Read) -> threading.Thread:
    """Write a job's file in a thread of this process."""

    def work() -> None:
        try:
            write(str(job.pk), read)
        finally:
            connection.close()

    thread = threading.Thread(target=work, name=f"export {job.pk}", daemon=True)
    thread.start()
    return thread


def write(job_id: str, read: Read) -> None:
    """Write a job's file if no one else does. `read` makes a selection of its query."""
    job = _claim(job_id)
    if job is None:
        return
    try:
        _write(job, read(job.project, job.query))
    except LostError:
        pass
    except RefusalError as refused:
        _end(job, State.FAILED, error=refused.message)
    except Exception as error:
        logger.exception("Export %s failed", job.pk)
        _end(job, State.FAILED, error=explain_failure(error))


def look_after_all(send: Callable[[str], None]) -> None:
    """Look after the jobs of every project, whether or not their page is open."""
    look_after(Export.objects.all(), send)


def look_after(jobs: QuerySet[Export], send: Callable[[str], None]) -> None:
    """Free jobs whose writer went silent, and tell a worker of those that wait."""
    long_ago = Now() - SILENCE
    _give_up(jobs.filter(_silent(), attempt__gte=ATTEMPTS))
    old = jobs.filter(state=State.QUEUED, created_at__lt=Now() - KEPT)
    _give_up(old.filter(attempt=0), _("No worker took it. Prepare it once more."))
    _give_up(old, _("It was begun, and never ended. Prepare it once more."))
    lost = Q(state=State.QUEUED, heard_at__lt=long_ago)
    for pk in list(jobs.filter(lost | _silent()).values_list("pk", flat=True)):
        if Export.objects.filter(lost | _silent(), pk=pk).update(state=State.QUEUED, heard_at=Now()):
            transaction.on_commit(partial(send, str(pk)))


def cancel(job: Export) -> bool:
    """Stop a job. Return False if it was over already."""
    live = Export.objects.filter(pk=job.pk, state__in=Export.LIVE)
    return live.update(state=State.CANCELLED, finished_at=Now()) == 1


def download(job: Export) -> FileResponse:
    """Return a prepared file until it expires. Raises MissingError."""
    if not job.can_be_downloaded:
        raise MissingError(_("This file is not ready, or it has expired. Prepare it once more."))
    content_type = CONTENT_TYPES.get(job.filename.rpartition(".")[2], "application/octet-stream")
    try:
        return send_file(job, content_type)
    except OSError as error:
        raise MissingError(
            _("This file is no longer in the server’s storage. Prepare it once more.")
        ) from error


def sweep() -> None:
    """Delete the files that have expired, and files that no row names."""
    drop_expired(Export.objects.all(), KEPT)
    drop_unnamed(Export, FOLDER, KEPT)


# --- Writing -----------------------------------------------------------------------------------------------------


@dataclass
class _Pulse:
    """The row of a job, told once a second how far it is."""

    job: Export
    told: float = 0.0

    def beat(self, rows: int) -> None:
        """Tell it, and raise LostError if the job is no longer ours."""
        if time.monotonic() - self.told >= HEARTBEAT:
            self.told = time.monotonic()
            if not _ours(self.job).update(rows=rows, heard_at=Now()):
                raise LostError


def _claim(job_id: str) -> Export | None:
    """Take a job that waits, or whose writer went silent. Of several that try, one has it."""
    job = Export.objects.select_related("project").filter(pk=job_id).first()
    if job is None:
        return None
    free = Export.objects.filter(Q(state=State.QUEUED) | _silent(), pk=job.pk, attempt=job.attempt)
    if job.attempt >= ATTEMPTS:
        _give_up(free)
        return None
    if not free.update(state=State.RUNNING, attempt=F("attempt") + 1, rows=0, heard_at=Now()):
        return None
    job.refresh_from_db()
    return job


def _give_up(jobs: QuerySet[Export], why: str = "") -> None:
    sentence = why or _("It was begun several times, and never ended.")
    jobs.update(state=State.FAILED, error=sentence, finished_at=Now())


def _ours(job: Export) -> Any:
    return Export.objects.filter(pk=job.pk, state=State.RUNNING, attempt=job.attempt)


def _write(job: Export, selection: Selection) -> None:
    """Write to a file of this machine, then to the storage, so that a half-written one is never there."""
    pulse = _Pulse(job)
    _ours(job).update(expected=account.estimate(selection), heard_at=Now())
    found, digest, size = open_download(selection), hashlib.sha256(), 0
    with tempfile.TemporaryFile() as file:
        for chunk in found.chunks:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            pulse.beat(found.written.total)
        file.seek(0)
        name = f"{FOLDER}{job.pk}-{job.attempt}"
        stored = store_file(job, name, file, lambda: pulse.beat(found.written.total))
    ended = _end(
        job,
        State.DONE,
        file=stored,
        filename=found.filename,
        size=size,
        sha256=digest.hexdigest(),
        rows=found.written.total,
        expires_at=timezone.now() + KEPT,
    )
    if not ended:
        job.file.storage.delete(stored)


def _end(job: Export, state: State, **fields: Any) -> bool:
    return bool(_ours(job).update(state=state, finished_at=Now(), heard_at=Now(), **fields))
