"""Files put into a storage whole, or not at all."""

import errno
import os
from contextlib import suppress
from typing import Any

from django.core.files.base import File


def save_whole(storage: Any, name: str, file: Any, *, max_length: int | None = None) -> str:
    """Put a file under a name, or one like it, and return that. Nothing of it stays if it cannot be put whole.

    Raises OSError, also where the storage takes the file and does not have it then: a proxy may have answered for it.
    """
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(0)
    stored = name
    try:
        content = file if isinstance(file, File) else File(file, name)
        stored = str(storage.save(name, content, max_length=max_length))
        if storage.size(stored) != size:
            raise OSError(errno.EIO, "the storage does not have what was put there", stored)
    except BaseException:
        with suppress(OSError):
            storage.delete(stored)
        raise
    return stored
