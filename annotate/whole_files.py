"""Files put into a storage whole, or not at all."""

import errno
import os
from contextlib import suppress
from typing import Any

from django.core.files.base import File

from primitives.files import TookTooLongError


def save_whole(storage: Any, name: str, file: Any, *, max_length: int | None = None) -> str:
    """Put a file under a name, or one like it, and return that. Nothing of it stays if it cannot be put whole.

    A storage that took too long may have it later: it is deleted then. So no two files are put under one name.
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
    except BaseException as error:
        _delete(storage, stored)
        if isinstance(error, TookTooLongError):
            error.ended.add_done_callback(lambda _ended: _delete(storage, stored))
        raise
    return stored


def _delete(storage: Any, name: str) -> None:
    with suppress(OSError):
        storage.delete(name)
