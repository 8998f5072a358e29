"""Files that a row holds until they expire, such as prepared exports: stored, handed out, and deleted in the end.

A row has `file`, `filename`, `sha256`, `expires_at`, `created_at` and `state`, and its model names its LIVE states.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from datetime import timedelta
from typing import IO, Any

from django.core.files.base import File
from django.db.models import QuerySet
from django.http import FileResponse
from django.utils import timezone

BEAT_SECONDS = 1.0  # between two beats of a writer whose file is being stored


def send_file(row: Any, content_type: str) -> FileResponse:
    """Return the file of a row as a download with its hash. Raises OSError if the storage does not have it."""
    answer = FileResponse(
        row.file.open("rb"), as_attachment=True, filename=row.filename, content_type=content_type
    )
    answer["Cache-Control"] = "no-store"
    answer["X-Content-SHA256"] = row.sha256
    return answer


def drop_expired(rows: QuerySet[Any], kept: timedelta) -> None:
    """Delete the files that have expired, and their rows after ten times as long."""
    now = timezone.now()
    for expired in rows.filter(expires_at__lt=now).exclude(file=""):
        with suppress(OSError):
            expired.file.storage.delete(str(expired.file.name))
            rows.filter(pk=expired.pk).update(file="")
    rows.filter(created_at__lt=now - 10 * kept, file="").exclude(state__in=rows.model.LIVE).delete()


def store_file(row: Any, name: str, file: IO[bytes], beat: Callable[[], None]) -> str:
    """Store the file of a row, and return its name in the storage.

    A storage may take minutes. It is written to by a thread that knows no database, and meanwhile `beat` tells that
    the writer is alive. If the storage or `beat` raises an error, nothing of the file stays.
    """
    storage = row.file.storage
    put = _put(storage, name, file)
    try:
        while not wait([put], timeout=BEAT_SECONDS).done:
            beat()
        return put.result()
    except BaseException:
        stored = name if put.exception() else put.result()  # once it has ended
        with suppress(OSError):
            storage.delete(stored)
        raise


def _put(storage: Any, name: str, file: IO[bytes]) -> Future[str]:
    """Write to a storage in a thread that ends with its process: a web server that stops does not wait for it."""
    put: Future[str] = Future()

    def work() -> None:
        try:
            put.set_result(str(storage.save(name, File(file))))
        except BaseException as error:  # noqa: BLE001 - who waits for it raises it
            put.set_exception(error)

    threading.Thread(target=work, name=f"store {name}", daemon=True).start()
    return put
