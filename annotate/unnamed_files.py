"""Files in the site's storage that no row names any more, or not yet."""

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import chain
from operator import or_
from typing import Any

from django.db import connection
from django.db.models import Model, Q, QuerySet

from primitives.chunks import chunks

NAMES_AT_A_TIME = 1_000  # a statement takes only so many values
LOST_SECONDS = 60.0  # with files that cannot be deleted, after which the storage is taken to be away

logger = logging.getLogger(__name__)


def drop_unnamed(
    rows: type[Model],
    folder: str,
    kept: timedelta,
    fields: Sequence[str] = ("file",),
    *,
    live: QuerySet[Any] | None = None,
) -> None:
    """Delete old files of a folder that no row names: their writer was killed before it could tell.

    Files whose name begins with the id of a `live` row stay, however old they seem: it may be about to name them.
    It looks at every file of the folder, so no request waits for it where files are kept for good. A file that cannot
    be deleted does not keep the others, unless the storage is away.
    """
    storage: Any = rows._meta.get_field("file").storage  # type: ignore[union-attr]
    try:
        found = storage.listdir(folder)[1]
    except (OSError, NotImplementedError):  # none yet, or a storage that is away or lists nothing
        return
    # After the files: a row that ended in between has named its file.
    keys = [] if live is None else live.values_list("pk", flat=True)
    begun = tuple(f"{folder}{key}" for key in keys)
    now, lost = _database_time(), 0.0
    for names in chunks((f"{folder}{name}" for name in found), NAMES_AT_A_TIME // len(fields)):
        # In one statement: a name may move from field to field.
        is_named = reduce(or_, (Q(**{f"{field}__in": names}) for field in fields))
        named = set(chain.from_iterable(rows._default_manager.filter(is_named).values_list(*fields)))
        for name in set(names) - named:
            if name.startswith(begun):
                continue
            began = time.monotonic()
            if not _delete_old(storage, name, now - kept):
                lost += time.monotonic() - began
            if lost > LOST_SECONDS:
                return


def _delete_old(storage: Any, name: str, before: datetime) -> bool:
    """Delete a file that was last written before a moment. Return False, with the reason in the log, if it stays."""
    try:
        if storage.get_modified_time(name) < before:
            storage.delete(name)
    except FileNotFoundError:  # deleted since
        pass
    except OSError as error:
        logger.error("%s is named by no row, and could not be deleted: %s", name, error)
        return False
    return True


def _database_time() -> datetime:
    """Return the time by the database's clock: that of a web server may be days ahead."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_TIMESTAMP")
        told = cursor.fetchone()[0]
    return told if isinstance(told, datetime) else datetime.fromisoformat(told).replace(tzinfo=UTC)
