"""Files that a row holds until they expire, such as prepared exports: handed out, and deleted when their time is over.

A row has `file`, `filename`, `sha256`, `expires_at`, `created_at` and `state`, and its model names its LIVE states.
"""

from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.http import FileResponse
from django.utils import timezone


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
