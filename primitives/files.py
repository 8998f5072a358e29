"""Files that appear whole: written aside, then renamed, so that a reader sees the old file or the new one."""

import errno
import os
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

ORDINARY, PRIVATE = 0o666, 0o600  # modes, before the umask


class TookTooLongError(TimeoutError):
    """The end of waiting for a storage, which may do what was asked later. `ended` is done then."""

    def __init__(self, name: str, ended: Future[Any]) -> None:
        super().__init__(errno.ETIMEDOUT, "the storage took too long", name)
        self.ended = ended


@contextmanager
def whole_file(path: Path, *, mode: int = ORDINARY, durable: bool = True) -> Iterator[BinaryIO]:
    """Yield a file to write, which takes the place of `path` at the end of the block.

    An exception in the block leaves `path` as it was. `durable` also waits until the file is on the disk.
    """
    part = _aside(path)
    try:
        with _new_file(part, mode) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    if durable:
        sync_directory(path.parent)


def write_whole(path: Path, content: bytes, *, mode: int = ORDINARY, durable: bool = True) -> None:
    """Replace `path` by a file of this content. Raises OSError, and leaves `path` as it was."""
    with whole_file(path, mode=mode, durable=durable) as file:
        file.write(content)


def create_once(path: Path, content: bytes) -> bool:
    """Create `path`, private. Return False, and keep the file that is there, if another was first."""
    part = _aside(path)
    with _new_file(part, PRIVATE) as file:
        file.write(content)
    try:
        os.link(part, path)  # unlike a rename, it never replaces
    except FileExistsError:
        return False
    finally:
        part.unlink()
    return True


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _aside(path: Path) -> Path:
    """Return where this process writes `path` before it is renamed. Two processes never share the place."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _new_file(part: Path, mode: int) -> BinaryIO:
    part.unlink(missing_ok=True)  # left by a process of the same number that was killed
    return os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")
