"""Files that a row holds until they expire, such as prepared exports: stored, handed out, and deleted in the end."""

import errno
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from datetime import timedelta
from typing import IO, Any

from django.core.files.base import File
from django.db.models.functions import Now
from django.http import FileResponse
from django.utils.translation import gettext as _

from annotate.errors import MissingError
from annotate.models.jobs import FileJob, Job, JobQuerySet, can_be_downloaded
from annotate.storage_errors import storing_error

logger = logging.getLogger(__name__)
BEAT_SECONDS = 1.0  # between two beats of a writer whose file is being stored


def send_file(job: FileJob, content_type: str) -> FileResponse:
    """Return the file of a job as a download with its hash, until it expires. Raises MissingError."""
    if not type(job)._default_manager.filter(can_be_downloaded(), pk=job.pk).exists():
        raise MissingError(_("This file is not ready, or it has expired. Prepare it again."))
    try:
        file = job.file.open("rb")
    except OSError as error:
        sentence = _("This file is no longer in the server’s storage. Prepare it again.")
        raise MissingError(sentence) from error
    answer = FileResponse(file, as_attachment=True, filename=job.filename, content_type=content_type)
    answer["Cache-Control"] = "no-store"
    answer["X-Content-SHA256"] = job.sha256
    return answer


def drop_expired(jobs: JobQuerySet[Any], kept: timedelta) -> None:
    """Delete the files that have expired, and their rows after ten times as long."""
    for expired in jobs.filter(expires_at__lt=Now()).exclude(file=""):
        with suppress(OSError):
            expired.file.storage.delete(str(expired.file.name))
            jobs.filter(pk=expired.pk).update(file="")
    old = jobs.filter(created_at__lt=Now() - 10 * kept, file="")
    old.exclude(state__in=Job.LIVE).delete()


def store_file(job: FileJob, name: str, file: IO[bytes], beat: Callable[[], None]) -> str:
    """Store the file of a job, and return its name in the storage.

    A storage may take minutes. It is written to by a thread that knows no database, and meanwhile `beat` tells that
    the writer is alive. If the storage or `beat` raises an error, nothing of the file stays.

    Raises StorageError with the storage's reason, and what `beat` raises.
    """
    storage = job.file.storage
    put = _put(storage, name, file)
    try:
        while not wait([put], timeout=BEAT_SECONDS).done:
            beat()
        return put.result()
    except BaseException as error:
        stored = name if put.exception() else put.result()  # once it has ended
        with suppress(OSError):
            storage.delete(stored)
        if isinstance(error, OSError):
            logger.exception("%s could not be stored", name)
            raise storing_error(error) from error
        raise


def _put(storage: Any, name: str, file: IO[bytes]) -> Future[str]:
    """Write to a storage in a thread that ends with its process: a web server that stops does not wait for it."""
    put: Future[str] = Future()
    size = file.seek(0, os.SEEK_END)
    file.seek(0)

    def work() -> None:
        try:
            stored = str(storage.save(name, File(file)))
            if storage.size(stored) != size:  # as where a proxy has answered for the storage
                raise OSError(errno.EIO, "the storage does not have what was put there", stored)
            put.set_result(stored)
        except BaseException as error:  # noqa: BLE001 - who waits for it raises it
            put.set_exception(error)

    threading.Thread(target=work, name=f"store {name}", daemon=True).start()
    return put
