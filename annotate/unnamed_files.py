"""Files in the site's storage that no row names any more, or not yet."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db.models import Model
from django.utils import timezone

from primitives.chunks import chunks

NAMES_AT_A_TIME = 1_000  # a statement takes only so many values


def drop_unnamed(rows: type[Model], folder: str, kept: timedelta, fields: Sequence[str] = ("file",)) -> None:
    """Delete old files of a folder that no row names: their writer was killed before it could tell.

    It looks at every file of the folder, so no request waits for it where files are kept for good.
    """
    storage: Any = rows._meta.get_field("file").storage  # type: ignore[union-attr]
    with suppress(OSError, NotImplementedError):  # none yet, or a storage that is away or lists nothing
        for names in chunks((f"{folder}{name}" for name in storage.listdir(folder)[1]), NAMES_AT_A_TIME):
            named: set[str] = set()
            for field in fields:
                named.update(
                    rows._default_manager.filter(**{f"{field}__in": names}).values_list(field, flat=True)
                )
            for name in set(names) - named:
                if timezone.now() - storage.get_modified_time(name) > kept:
                    storage.delete(name)
