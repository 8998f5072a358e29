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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.http import FileResponse
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.exports import account
from annotate.exports.bundle import CONTENT_TYPES, filename, open_download
from annotate.exports.prepared import drop_expired, send_file, store_file
from annotate.exports.selection import Selection
from annotate.models import Export, Project, User
from annotate.models.jobs import JobQuerySet, LostError
from annotate.models.snapshots import KEPT
from annotate.pairs.streams import hasty
from annotate.storage_errors import explain_failure
from annotate.unnamed_files import drop_unnamed

TASK = "annotate.tasks.write_export"
PATIENCE = timedelta(seconds=4)  # a worker that is there has taken a job by then
SILENCE = timedelta(seconds=30)  # who did not tell that it is alive for so long is replaced
HEARTBEAT = 1.0  # seconds, while chunks come
QUIET_HEARTBEAT = 5.0  # seconds, while a job counts, or waits for its first rows
LONGEST_WITHOUT_A_ROW = 3600.0  # seconds, after which a writer is taken to hang, and is replaced
JOIN_SECONDS = 1.0  # for the end of a heartbeat, which may wait for a lock of the database for much longer
# Another message is sent while a job waits: without an end they would pile up where every worker is busy.
MESSAGE_LIFE = timedelta(minutes=30)
ATTEMPTS = 3
LIVE_AT_MOST = 5  # jobs of a project that wait or run
FOLDER = "exports/"

State = Export.State
logger = logging.getLogger(__name__)
Read = Callable[[Project, dict[str, Any]], Selection]


def request(
    selection: Selection, by: User | None, query: dict[str, Any], send: Callable[[str], None]
) -> Export:
    """Ask for a file of what a query selects. `send` tells a worker once the row is there.

    Raises RefusalError if too many wait.
    """
    project = selection.project
    drop_expired(Export.objects.all(), KEPT)
    look_after(Export.objects.filter(project=project), send)
    if Export.objects.live().filter(project=project).count() >= LIVE_AT_MOST:
        raise RefusalError(_("Other files of this project are being prepared. Wait for them, or cancel one."))
    name = filename(selection)
    made = Export.objects.create(project=project, created_by=by, query=query, filename=name, heard_at=Now())
    transaction.on_commit(lambda: send(str(made.pk)))
    return made


def is_waiting(job: Export) -> bool:
    """Return whether no worker has taken a job, or the one that did went silent."""
    here = Export.objects.filter(pk=job.pk)
    untaken = here.filter(state=State.QUEUED, heard_at__lt=Now() - PATIENCE)
    return untaken.exists() or here.silent(SILENCE).exists()


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
    job = Export.objects.select_related("project").filter(pk=job_id).first()
    if job is None or not _take(job):
        return
    try:
        progress = _Progress(job)
        with _heartbeat(progress):
            _write(job, read(job.project, job.query), progress)
    except LostError:
        pass
    except RefusalError as refused:
        job.end(State.FAILED, error=refused.message)
    except Exception as error:
        logger.exception("Export %s failed", job.pk)
        job.end(State.FAILED, error=explain_failure(error))


def look_after_all(send: Callable[[str], None]) -> None:
    """Look after the jobs of every project, whether or not their page is open."""
    look_after(Export.objects.all(), send)


def look_after(jobs: JobQuerySet[Export], send: Callable[[str], None]) -> None:
    """Free jobs whose writer went silent, and tell a worker of those that wait."""
    jobs.silent(SILENCE).filter(attempt__gte=ATTEMPTS).give_up()
    old = jobs.filter(state=State.QUEUED, created_at__lt=Now() - KEPT)
    old.filter(attempt=0).give_up(_("No worker took it. Prepare it again."))
    old.give_up(_("It was begun, and never ended. Prepare it again."))
    lost = jobs.live().filter(heard_at__lt=Now() - SILENCE)
    for pk in list(lost.values_list("pk", flat=True)):
        if lost.filter(pk=pk).update(state=State.QUEUED, heard_at=Now()):
            transaction.on_commit(partial(send, str(pk)))


def download(job: Export) -> FileResponse:
    """Return a prepared file until it expires. Raises MissingError."""
    extension = job.filename.rpartition(".")[2]
    return send_file(job, CONTENT_TYPES.get(extension, "application/octet-stream"))


def sweep() -> None:
    """Delete the files that have expired, and files that no row names."""
    drop_expired(Export.objects.all(), KEPT)
    drop_unnamed(Export, FOLDER, KEPT, live=Export.objects.live())


# --- Writing -----------------------------------------------------------------------------------------------------


def _take(job: Export) -> bool:
    """Take a job that waits, or whose writer went silent."""
    free = Q(state=State.QUEUED) | Q(state=State.RUNNING, heard_at__lt=Now() - SILENCE)
    if job.attempt < ATTEMPTS:
        return job.take(free, rows=0)
    Export.objects.filter(free, pk=job.pk, attempt=job.attempt).give_up()
    return False


@dataclass
class _Progress:
    """The progress of a job, told once a second."""

    job: Export
    told: float = 0.0
    moved: float = field(default_factory=time.monotonic)

    @property
    def hangs(self) -> bool:
        return time.monotonic() - self.moved > LONGEST_WITHOUT_A_ROW

    def tell(self, rows: int) -> None:
        """Tell it, and raise LostError if the job is no longer ours."""
        self.moved = time.monotonic()
        if self.moved - self.told >= HEARTBEAT:
            self.told = self.moved
            if not self.job.tell(rows=rows):
                raise LostError


@contextmanager
def _heartbeat(progress: _Progress) -> Iterator[None]:
    """Tell that a writer is alive, by a thread of its own: the first rows of a large file may take minutes.

    A writer in a transaction has none. No one would see its row, and SQLite would wait for the transaction's lock.
    """
    if connection.in_atomic_block:
        yield
        return
    is_over = threading.Event()

    def beat() -> None:
        try:
            while not is_over.wait(QUIET_HEARTBEAT) and not progress.hangs and _is_heard(progress.job):
                pass
        finally:
            connection.close()

    thread = threading.Thread(target=beat, name=f"heartbeat of export {progress.job.pk}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(JOIN_SECONDS)  # if it still waits for a lock, it ends by itself


def _is_heard(job: Export) -> bool:
    """Tell that a writer is alive. Return False if the job is no longer its own.

    A database that is away for a moment ends no heartbeat.
    """
    try:
        return job.tell()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("Export %s could not tell that it is alive: %s", job.pk, error)
        connection.close()
        return True


def _write(job: Export, selection: Selection, progress: _Progress) -> None:
    """Write to a file of this machine, then to the storage, so that a half-written one is never there."""
    job.tell(expected=account.estimate(selection))
    found, digest, size = open_download(selection), hashlib.sha256(), 0
    with tempfile.TemporaryFile() as file, hasty():
        for chunk in found.chunks:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            progress.tell(found.written.total)
        file.seek(0)
        name = f"{FOLDER}{job.pk}-{job.attempt}"
        stored = store_file(job, name, file, lambda: progress.tell(found.written.total))
    ended = job.end(
        State.DONE,
        file=stored,
        filename=found.filename,
        size=size,
        sha256=digest.hexdigest(),
        rows=found.written.total,
        expires_at=Now() + KEPT,
    )
    if not ended:
        job.file.storage.delete(stored)
