"""Bytes in the site's storage, under names of their content: put whole, fetched and checked, retried for a while."""

import errno
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import TypeVar, cast

from django.core.files.base import File
from django.core.files.storage import default_storage

from primitives.files import whole_file

CHUNK = 1 << 20
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between two tries

T = TypeVar("T")
logger = logging.getLogger(__name__)


class StorageFaultError(Exception):
    """A file that could not be put into the storage or taken from it. The message is a sentence that names it."""


class GivenUpError(Exception):
    """The end of the tries, because the caller wanted no more of them."""


def put(path: Path, key: str) -> None:
    """Put a file under `key`, whole. One of its size that is there already is the same, as keys are hashes.

    Raises OSError, also where the storage takes the file and does not have it then.
    """
    size = path.stat().st_size
    if is_stored(key, size):
        return
    folder = local_path(key)
    if folder is not None:
        _put_beside(path, folder)
    else:
        _save(path, key, size)
    if not is_stored(key, size):
        raise OSError(errno.EIO, "the storage does not have what was put there", key)


def is_stored(key: str, size: int) -> bool:
    """Return whether the storage has an object of this size. Raises OSError where the storage is away."""
    return default_storage.exists(key) and default_storage.size(key) == size


def _put_beside(path: Path, target: Path) -> None:
    """Link a file into a folder of this machine, or copy it where another disk is. What is there is damaged."""
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # another process was faster
        link_or_copy(path, target)


def _save(path: Path, key: str, size: int) -> None:
    with path.open("rb") as file:
        stored = default_storage.save(key, File(file, key))
    # A storage class that never overwrites. Another process was faster, or what is there is damaged.
    if stored != key:
        default_storage.delete(stored)
        if not is_stored(key, size):
            default_storage.delete(key)  # the next try puts it there


def link_or_copy(path: Path, target: Path) -> None:
    """Give a file that never changes a second name, or copy it where that cannot be. Raises OSError."""
    try:
        os.link(path, target)
    except FileExistsError:
        raise
    except OSError:  # another disk, or one that knows no links
        with path.open("rb") as file, whole_file(target) as copy:
            shutil.copyfileobj(file, copy, CHUNK)


def fetch(key: str, sha256: str, target: Path, name: str) -> None:
    """Write the object to `target`, whole, if its content is what its hash says.

    Raises StorageFaultError naming it by `name` if it is missing or damaged, and OSError where the storage is away.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_object(key, name) as source, whole_file(target, durable=False) as copy:
        found = hashlib.sha256()
        while chunk := source.read(CHUNK):
            found.update(chunk)
            copy.write(chunk)
        if found.hexdigest() != sha256:
            raise StorageFaultError(
                f"The file {name} is damaged in the storage: {key} is not what was put there."
            )


def open_object(key: str, name: str) -> BufferedReader:
    """Open an object for reading. Raises StorageFaultError if it is missing, OSError where the storage is away."""
    try:
        return cast(BufferedReader, default_storage.open(key, "rb"))
    except FileNotFoundError as error:
        raise StorageFaultError(f"The file {name} is missing in the storage: there is no {key}.") from error


def delete(keys: list[str]) -> list[str]:
    """Delete objects, those that are there. Return those that could not be. The log has the reasons."""
    left = []
    for key in keys:
        try:
            default_storage.delete(key)
        except OSError as error:
            logger.error("%s could not be deleted from the storage: %s", key, error)
            left.append(key)
    return left


def list_keys(folder: str) -> list[str]:
    """Return the keys of the objects in a folder. Raises OSError where the storage is away."""
    try:
        names = default_storage.listdir(folder)[1]
    except (FileNotFoundError, NotImplementedError):  # nothing yet, or a storage that lists nothing
        return []
    return [f"{folder}/{name}" for name in names]


def local_path(key: str) -> Path | None:
    """Return where an object lies if the storage is a folder of this machine."""
    try:
        return Path(default_storage.path(key))
    except NotImplementedError:
        return None


def patiently(
    act: Callable[[], T], what: str, seconds: float, *, is_wanted: Callable[[], bool] = lambda: True
) -> T:
    """Do what needs the storage, and again while it is away, for so long.

    Raises StorageFaultError then, and GivenUpError once it is not wanted any more.
    """
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
    while True:
        try:
            return act()
        except OSError as error:
            reason = f"{error.strerror or error}".rstrip(".")
            logger.warning("%s failed: %s", what, reason)
            if time.monotonic() + pause > deadline:
                raise StorageFaultError(f"{what} failed for {seconds:.0f} seconds: {reason}.") from error
        until = time.monotonic() + pause
        while time.monotonic() < until:
            if not is_wanted():
                raise GivenUpError
            time.sleep(0.1)
        pause = min(2 * pause, LONGEST_PAUSE)
