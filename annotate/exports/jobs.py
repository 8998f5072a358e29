"""Files that take long, written by a task and kept for some days: progress, a hash, and a link that expires."""

import hashlib
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from django.http import FileResponse
from django.utils.translation import gettext as _

from annotate import attempts
from annotate.attempts import Progress
from annotate.errors import RefusalError
from annotate.exports import account
from annotate.exports.bundle import CONTENT_TYPES, filename, open_download
from annotate.exports.prepared import drop_expired, send_file, store_file
from annotate.exports.selection import Selection
from annotate.models import Export, Project, User
from annotate.models.jobs import JobQuerySet
from annotate.models.snapshots import KEPT
from annotate.pairs.streams import hasty
from annotate.unnamed_files import drop_unnamed

TASK = "annotate.tasks.write_export"
LIVE_AT_MOST = 5  # jobs of a project that wait or run
_SEATS = threading.BoundedSemaphore(4)  # files that this process writes beside its requests
FOLDER = "exports/"

State = Export.State
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
    name = filename(selection)
    with transaction.atomic():
        # Of two requests at once, the second counts the first.
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        if Export.objects.live().filter(project=project).count() >= LIVE_AT_MOST:
            raise RefusalError(
                _("Other files of this project are being prepared. Wait for them, or cancel one.")
            )
        made = Export.objects.create(
            project=project, created_by=by, query=query, filename=name, heard_at=Now()
        )
    transaction.on_commit(lambda: send(str(made.pk)))
    return made


def write_beside(job: Export, read: Read) -> threading.Thread | None:
    """Write a job's file in a thread of this process, unless it writes several already."""
    return attempts.attempt_beside(job, lambda job_id: write(job_id, read), _SEATS)


def write(job_id: str, read: Read) -> None:
    """Write a job's file if no one else does. `read` makes a selection of its query."""
    job = Export.objects.select_related("project").filter(pk=job_id).first()
    if job is not None:
        attempts.attempt(job, lambda progress: _write(job, read(job.project, job.query), progress), rows=0)


def look_after_all(send: Callable[[str], None]) -> None:
    """Look after the jobs of every project, whether or not their page is open."""
    look_after(Export.objects.all(), send)


def look_after(jobs: JobQuerySet[Export], send: Callable[[str], None]) -> None:
    """Free jobs whose writer went silent, and tell a worker of those that wait."""
    attempts.look_after(jobs, send, KEPT, rows=0)


def download(job: Export) -> FileResponse:
    """Return a prepared file until it expires. Raises MissingError."""
    extension = job.filename.rpartition(".")[2]
    return send_file(job, CONTENT_TYPES.get(extension, "application/octet-stream"))


def sweep() -> None:
    """Delete the files that have expired, and files that no row names."""
    drop_expired(Export.objects.all(), KEPT)
    drop_unnamed(Export, FOLDER, KEPT, live=Export.objects.live())


def _write(job: Export, selection: Selection, progress: Progress) -> None:
    """Write to a file of this machine, then to the storage, so that a half-written one is never there."""
    job.tell(expected=account.estimate(selection))
    found, digest, size = open_download(selection), hashlib.sha256(), 0
    with tempfile.TemporaryFile() as file, hasty():
        for chunk in found.chunks:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            progress.tell(rows=found.written.total)
        file.seek(0)
        name = f"{FOLDER}{job.pk}-{job.attempt}"
        stored = store_file(job, name, file, lambda: progress.tell(rows=found.written.total))
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
