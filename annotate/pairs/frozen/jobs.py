"""Snapshots of large projects, taken by a worker: asked for, told how far they are, and retried after a kill."""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate import attempts
from annotate.attempts import Progress
from annotate.errors import RefusalError
from annotate.models import Moment, Project, Snapshot, SnapshotJob, User
from annotate.models.conflicts import again_on_race
from annotate.models.jobs import JobQuerySet, LostError
from annotate.pairs.settings import PairSettings, PairSettingsError
from annotate.pairs.snapshots import Watch, take_snapshot
from annotate.projects.sizes import is_large

TASK = "annotate.tasks.take_snapshot"
KEPT = timedelta(days=3)  # how long a job that waits is told to workers, and one that is over is shown
LIVE_AT_MOST = 5  # jobs of a project that wait or run
SECONDS_AT_ONCE = 5.0  # for which a request takes a snapshot itself
_SEAT = threading.BoundedSemaphore(1)  # of the one snapshot that this process takes beside its requests

State = SnapshotJob.State
Send = Callable[[str], None]


class TooLongError(Exception):
    """A snapshot that takes longer than its request should."""


def freeze(
    project: Project, by: User | None, settings: PairSettings | None, send: Send
) -> Snapshot | SnapshotJob:
    """Return the snapshot of the pairs as they are now, or the job of a worker that takes it if it takes long.

    `send` tells a worker once the row of a job is there. Raises RefusalError if too many wait.
    """
    settings = settings or PairSettings()
    return take_at_once(project, by, settings) or request(project, by, settings, send)


def take_at_once(
    project: Project,
    by: User | None,
    settings: PairSettings,
    *,
    at: Moment | None = None,
) -> Snapshot | None:
    """Take a snapshot as `take_snapshot` does. Return None if it takes longer than a request should.

    That is known of a large project before it is begun. Few judgments may have long texts.
    """
    if is_large(project):
        return None
    try:
        return take_snapshot(project, by, settings, at=at, watch=_Deadline())
    except TooLongError:
        return None


@again_on_race
def request(project: Project, by: User | None, settings: PairSettings, send: Send) -> SnapshotJob:
    """Ask for a snapshot, or return the job that takes it already. Raises RefusalError if too many wait.

    Of two users who ask at the same moment, the second finds the job of the first.
    """
    jobs = SnapshotJob.objects.filter(project=project)
    _look_after(jobs, send)
    with transaction.atomic():
        # Of two requests at once, the second finds and counts the first.
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        if (found := jobs.live().filter(settings_key=_key(settings)).first()) is not None:
            return found
        if jobs.live().count() >= LIVE_AT_MOST:
            raise RefusalError(
                _("Other snapshots of this project are being taken. Wait for them, or cancel one.")
            )
        made = SnapshotJob.objects.create(
            project=project,
            created_by=by,
            settings=asdict(settings),
            settings_key=_key(settings),
            heard_at=Now(),
        )
    transaction.on_commit(lambda: send(str(made.pk)))
    return made


def take(job_id: str) -> None:
    """Take the snapshot of a job if no one else does."""
    job = SnapshotJob.objects.select_related("project", "created_by").filter(pk=job_id).first()
    if job is not None:
        attempts.attempt(job, lambda progress: _take(job, progress), share=0)


def take_beside(job: SnapshotJob) -> threading.Thread | None:
    """Take the snapshot of a job in a thread of this process, unless it takes one already: each holds all its pairs."""
    return attempts.attempt_beside(job, take, _SEAT)


def look_after_all(send: Send) -> None:
    """Look after the jobs of every project, whether or not their page is open."""
    _look_after(SnapshotJob.objects.all(), send)


def sweep() -> None:
    """Delete the rows of jobs that are over, some time later."""
    SnapshotJob.objects.filter(~Q(state__in=SnapshotJob.LIVE), finished_at__lt=Now() - KEPT).delete()


def _look_after(jobs: JobQuerySet[SnapshotJob], send: Send) -> None:
    attempts.look_after(jobs, send, KEPT, share=0)


def _take(job: SnapshotJob, progress: Progress) -> None:
    take_snapshot(job.project, job.created_by, _settings(job), watch=_Telling(job, progress))


def _settings(job: SnapshotJob) -> PairSettings:
    """Return the settings of a job. Raises RefusalError for those that a process of another version wrote."""
    unknown = min(job.settings.keys() - {field.name for field in fields(PairSettings)}, default="")
    if not unknown:
        try:
            return PairSettings(**job.settings)
        except PairSettingsError as error:
            unknown = error.field
    sentence = _(
        "The worker does not know the setting %(name)s, or its value: it is of another version than the web server. "
        "Ask who runs this site to update it, then take the snapshot again."
    )
    raise RefusalError(sentence % {"name": unknown})


def _key(settings: PairSettings) -> str:
    return hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode()).hexdigest()


class _Deadline(Watch):
    """The watch of a request, which waits for no long taking."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + SECONDS_AT_ONCE

    def passed(self) -> None:
        if time.monotonic() > self._ends:
            raise TooLongError

    aggregating = passed


class _Telling(Watch):
    """The watch of a job. The heartbeat tells its share: the taking itself is in a transaction, which no one sees."""

    def __init__(self, job: SnapshotJob, progress: Progress) -> None:
        self._job, self._progress = job, progress
        self._rows = self._passed = 0

    def aggregating(self) -> None:
        self._progress.note(share=0)

    def aggregated(self, rows: int) -> None:
        self._rows, self._passed = rows, 0
        self._progress.note(share=0)

    def passed(self) -> None:
        self._passed += 1
        self._progress.note(share=self._passed / (2 * self._rows))

    def taken(self, snapshot: Snapshot) -> None:
        """End the job with its snapshot, or have neither if the job is no longer this attempt's."""
        if not self._job.end(State.DONE, snapshot=snapshot, share=1):
            raise LostError
