"""Attempts of writers at jobs: alive by a heartbeat, replaced when silent, and started by a page where no worker is.

A worker takes a job from its message. Where none does, the page that waits for it has it done by a thread of the web
server, so that a laptop without a worker needs nothing else. Rows are the truth: a writer holds an attempt of the
row, tells it that it is alive, and is replaced when it goes silent. Silence is told by the database's time
(`Now()`), as the clocks of web servers and workers may disagree.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, Protocol

from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.models.jobs import Job, JobQuerySet, LostError
from annotate.storage_errors import explain_failure

PATIENCE = timedelta(seconds=4)  # a worker that is there has taken a job by then
SILENCE = timedelta(seconds=30)  # who did not tell that it is alive for so long is replaced
HEARTBEAT = 1.0  # seconds, while chunks come
QUIET_HEARTBEAT = 5.0  # seconds, while a job counts, or waits for its first rows
LONGEST_WITHOUT_A_ROW = 3600.0  # seconds, after which a writer is taken to hang, and is replaced
JOIN_SECONDS = 1.0  # for the end of a heartbeat, which may wait for a lock of the database for much longer
# Another message is sent while a job waits: without an end they would pile up where every worker is busy.
MESSAGE_LIFE = timedelta(minutes=30)
ATTEMPTS = 3

logger = logging.getLogger(__name__)


class Held(Protocol):
    """A row that a writer holds: a job, or what another part of the application works on."""

    pk: Any
    _meta: ClassVar[Any]

    def tell(self, **progress: Any) -> bool:
        """Tell that the writer is alive, and how far it is. Return False if the row is no longer its own."""


@dataclass
class Progress:
    """The progress of a job: what of its row has changed. `is_lost` once the job is no longer this attempt's."""

    job: Held
    done: dict[str, Any] = field(default_factory=dict)
    told: float = 0.0
    moved: float = field(default_factory=time.monotonic)
    is_lost: bool = False

    @property
    def hangs(self) -> bool:
        return time.monotonic() - self.moved > LONGEST_WITHOUT_A_ROW

    def note(self, **done: Any) -> None:
        """Note how far it is, for the heartbeat to tell. Raises LostError if the job is no longer ours."""
        self.moved, self.done = time.monotonic(), done
        if self.is_lost:
            raise LostError

    def tell(self, **done: Any) -> None:
        """Tell it once a second. Raises LostError if the job is no longer ours."""
        self.note(**done)
        if self.moved - self.told >= HEARTBEAT:
            self.told = self.moved
            if not self.job.tell(**done):
                raise LostError


def attempt(job: Job, work: Callable[[Progress], None], **fresh: Any) -> None:
    """Work on a job if no one else does. `fresh` are the values of its row with which an attempt begins.

    What goes wrong is a sentence in its row.
    """
    if not _take(job, **fresh):
        return
    progress = Progress(job)
    try:
        with heartbeat(progress):
            work(progress)
    except LostError:
        pass
    except RefusalError as refused:
        job.end(Job.State.FAILED, error=refused.message)
    except Exception as error:
        logger.exception("%s %s failed", _name(job), job.pk)
        job.end(Job.State.FAILED, error=explain_failure(error))


def attempt_beside(
    job: Job, act: Callable[[str], None], seats: threading.BoundedSemaphore
) -> threading.Thread | None:
    """Work on a job, by its id, in a thread of this process, if one of its `seats` is free.

    Return None if none is. The page that waits for the job asks again, each time it looks.
    """
    if not seats.acquire(blocking=False):
        return None

    def work() -> None:
        try:
            act(str(job.pk))
        finally:
            connection.close()
            seats.release()

    thread = threading.Thread(target=work, name=f"{_name(job)} {job.pk}", daemon=True)
    try:
        thread.start()
    except BaseException:
        seats.release()
        raise
    return thread


def is_waiting(job: Job) -> bool:
    """Return whether no worker has taken a job, or the one that did went silent."""
    here: JobQuerySet[Any] = type(job)._default_manager.filter(pk=job.pk)
    untaken = here.filter(state=Job.State.QUEUED, heard_at__lt=Now() - PATIENCE)
    return untaken.exists() or here.silent(SILENCE).exists()


def look_after(jobs: JobQuerySet[Any], send: Callable[[str], None], kept: timedelta, **fresh: Any) -> None:
    """Free jobs whose writer went silent, tell a worker of those that wait, and give up those older than `kept`.

    `fresh` are the values of the row of a job that is not begun.
    """
    jobs.silent(SILENCE).filter(attempt__gte=ATTEMPTS).give_up()
    old = jobs.filter(state=Job.State.QUEUED, created_at__lt=Now() - kept)
    old.filter(attempt=0).give_up(_("No worker took it. Ask for it again."))
    old.give_up(_("It was begun, and never ended. Ask for it again."))
    lost = jobs.live().filter(heard_at__lt=Now() - SILENCE)
    for pk in list(lost.values_list("pk", flat=True)):
        if lost.filter(pk=pk).update(state=Job.State.QUEUED, heard_at=Now(), **fresh):
            transaction.on_commit(partial(send, str(pk)))


def _take(job: Job, **fresh: Any) -> bool:
    """Take a job that waits, or whose writer went silent."""
    free = Q(state=Job.State.QUEUED) | Q(state=Job.State.RUNNING, heard_at__lt=Now() - SILENCE)
    if job.attempt < ATTEMPTS:
        return job.take(free, **fresh)
    rows: JobQuerySet[Any] = type(job)._default_manager.filter(free, pk=job.pk, attempt=job.attempt)
    rows.give_up()
    return False


@contextmanager
def heartbeat(progress: Progress, every: float = QUIET_HEARTBEAT) -> Iterator[None]:
    """Tell that a writer is alive, by a thread of its own: the first rows of a large file may take minutes.

    A writer in a transaction has none. No one would see its row, and SQLite would wait for the transaction's lock.
    """
    if connection.in_atomic_block:
        yield
        return
    is_over = threading.Event()

    def beat() -> None:
        try:
            while not is_over.wait(every) and not progress.hangs and _is_heard(progress):
                pass
        finally:
            connection.close()

    name = f"heartbeat of {_name(progress.job).lower()} {progress.job.pk}"
    thread = threading.Thread(target=beat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(JOIN_SECONDS)  # if it still waits for a lock, it ends by itself


def _is_heard(progress: Progress) -> bool:
    """Tell that a writer is alive. Return False if the job is no longer its own.

    A database that is away for a moment ends no heartbeat.
    """
    try:
        progress.is_lost = not progress.job.tell(**progress.done)
    except (DatabaseError, InterfaceError) as error:
        job = progress.job
        logger.warning("%s %s could not tell that it is alive: %s", _name(job), job.pk, error)
        connection.close()
    return not progress.is_lost


def _name(job: Held) -> str:
    return str(job._meta.verbose_name).capitalize()
