"""Files that a row holds until they expire, such as prepared exports: stored, handed out, and deleted in the end."""

import errno
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from datetime import timedelta
from typing import IO, Any

from django.db.models.functions import Now
from django.http import FileResponse
from django.utils.translation import gettext as _

from annotate.errors import MissingError
from annotate.models.jobs import FileJob, Job, JobQuerySet, can_be_downloaded
from annotate.storage_errors import storing_error
from annotate.whole_files import save_whole

logger = logging.getLogger(__name__)
BEAT_SECONDS = 1.0  # between two beats of a writer whose file is being stored
LONGEST_SECONDS = 600.0  # for a storage to take no byte of a file, after which it is taken to hang
LEFT_ALONE_SECONDS = 20.0  # after which no one waits for the end of a file that is not wanted any more


def send_file(job: FileJob, content_type: str) -> FileResponse:
    """Return the file of a job as a download with its hash, until it expires. Raises MissingError."""
    if not type(job)._default_manager.filter(can_be_downloaded(), pk=job.pk).exists():
        raise MissingError(_("This file is not ready, or it has expired. Prepare it again."))
    try:
        file = job.file.open("rb")
    except FileNotFoundError as error:
        sentence = _("This file is no longer in the server’s storage. Prepare it again.")
        raise MissingError(sentence) from error
    except OSError as error:
        logger.exception("%s could not be read", job.file.name)
        sentence = _("The server’s storage does not give this file now: %(reason)s. Try again later.")
        raise MissingError(sentence % {"reason": error.strerror or type(error).__name__}) from error
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
    the writer is alive. If the storage or `beat` raises an error, or the storage hangs, nothing of the file stays.

    Raises StorageError with the storage's reason, and what `beat` raises.
    """
    put = _Put(job.file.storage, name, file)
    try:
        while not put.wait(BEAT_SECONDS):
            beat()
            if put.hangs():
                raise OSError(errno.ETIMEDOUT, "the storage took too long", name)
        return put.stored.result()
    except BaseException as error:
        put.abandon()
        if isinstance(error, OSError):
            logger.exception("%s could not be stored", name)
            raise storing_error(error) from error
        raise


class _Put:
    """A file on its way to a storage, in a thread that ends with its process: a server that stops waits for none."""

    def __init__(self, storage: Any, name: str, file: IO[bytes]) -> None:
        self.stored: Future[str] = Future()
        self._position, self._moved = 0, time.monotonic()
        self._storage, self._name, self._file = storage, name, file
        self._is_abandoned = threading.Event()
        threading.Thread(target=self._work, name=f"store {name}", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait until it is there, or has failed, for so long at most."""
        return bool(wait([self.stored], timeout=seconds).done)

    def hangs(self) -> bool:
        """Return whether nothing of the file was read for long, as of each time that this was asked."""
        position = self._position
        with suppress(ValueError):  # closed
            position = self._file.tell()
        if position != self._position:
            self._position, self._moved = position, time.monotonic()
        return time.monotonic() - self._moved > LONGEST_SECONDS

    def abandon(self) -> None:
        """Let nothing of it stay. A thread that hangs in the storage is left alone, and tidies up when it ends."""
        self._is_abandoned.set()
        self.wait(LEFT_ALONE_SECONDS)
        self._delete()

    def _work(self) -> None:
        try:
            self.stored.set_result(save_whole(self._storage, self._name, self._file))
        except BaseException as error:  # noqa: BLE001 - who waits for it raises it
            self.stored.set_exception(error)
        if self._is_abandoned.is_set():
            self._delete()

    def _delete(self) -> None:
        """Delete what has arrived. The storage may have chosen another name."""
        if self.stored.done():
            with suppress(OSError):
                self._storage.delete(self._name if self.stored.exception() else self.stored.result())
