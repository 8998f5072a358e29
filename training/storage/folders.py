"""Folders of rounds and adapters, as any process sees them: what the storage has, then what lies below var/.

Names are as in the database: `runs/reviews-3`, and `runs/reviews-3/adapter` of a policy.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Any

from django.conf import settings as site

from primitives.files import write_whole
from training.models import StoredFile
from training.storage import objects

logger = logging.getLogger(__name__)
CACHE_KEPT = 30 * 24 * 3600  # seconds since an adapter was last used


@dataclass(frozen=True)
class RunFile:
    """A file of a folder: its path there, its size, and where its bytes are."""

    path: str
    size: int
    row: StoredFile | None
    here: Path

    def open(self) -> BufferedReader:
        """Open it for reading. Raises OSError, or StorageFaultError naming what the storage lacks."""
        if self.row is None:
            return self.here.open("rb")
        return objects.open_object(self.row.key, str(self.row))

    def read_bytes(self) -> bytes:
        """Return its content, which the caller knows to be small. Raises as `open` does."""
        with self.open() as file:
            return file.read()

    @property
    def sha256(self) -> str:
        """Return the hash of its content, however large it is."""
        if self.row is not None:
            return self.row.sha256
        with self.open() as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


class Folder:
    """A folder below var/runs, or one inside it. It asks the database once."""

    def __init__(self, name: str) -> None:
        """Name a folder by its path below var/. Raises ValueError for a name that leads out of var/runs."""
        parts = Path(name).parts
        if len(parts) < 2 or parts[0] != "runs" or ".." in parts:
            raise ValueError(f"{name} is not a folder below runs/.")
        self.name, self.root, self._inside = name, "/".join(parts[:2]), "/".join(parts[2:])
        self.here = Path(site.VAR) / name

    @cached_property
    def rows(self) -> dict[str, StoredFile]:
        """Map paths in this folder to the rows of what the storage has of it."""
        start = f"{self._inside}/" if self._inside else ""
        rows = StoredFile.objects.filter(folder=self.root)
        return {row.path.removeprefix(start): row for row in rows if row.path.startswith(start)}

    def find(self, path: str) -> RunFile | None:
        """Return a file of the folder, or None."""
        if row := self.rows.get(path):
            return RunFile(path, row.size, row, self.here / path)
        with suppress(OSError):
            if (self.here / path).is_file():
                return RunFile(path, (self.here / path).stat().st_size, None, self.here / path)
        return None

    def files(self) -> list[RunFile]:
        """Return the files right in the folder, by name. Links and hidden files are left out."""
        here = self.here.iterdir() if self.here.is_dir() else ()
        names = {path.name for path in here if path.is_file() and not path.is_symlink()}
        names |= {path for path in self.rows if "/" not in path}
        return [file for name in sorted(names) if name[0] != "." and (file := self.find(name))]

    def exists(self) -> bool:
        """Return whether the storage or this machine has it."""
        return bool(self.rows) or self.here.is_dir()

    def read_json(self, path: str) -> Any:
        """Return what a JSON file says; None if it is not there, not whole, or cannot be reached."""
        file = self.find(path)
        if file is None:
            return None
        try:
            return json.loads(file.read_bytes())
        except (OSError, ValueError, objects.StorageFaultError):
            return None

    def read_done(self) -> dict[str, Any]:
        """Return the summaries of done.json, by verb; {} before the first verb ended."""
        done = self.read_json("done.json")
        return done if isinstance(done, dict) else {}

    def bring_here(self) -> Path:
        """Return a folder of this machine that holds the files of this one, fetched where the storage has them.

        What was fetched is kept in var/cache, under the hash of its files. Raises StorageFaultError, OSError.
        """
        if not self.rows:
            return self.here
        state = hashlib.sha256()
        for path, row in sorted(self.rows.items()):
            state.update(f"{path} {row.sha256}\n".encode())
        adapters = Path(site.VAR) / "cache" / "adapters"
        kept = adapters / state.hexdigest()
        if not kept.is_dir():
            aside = adapters / f".{kept.name}.{os.getpid()}.{time.monotonic_ns()}"
            try:
                for path, row in self.rows.items():
                    objects.fetch(row.key, row.sha256, aside / path, str(row))
                with suppress(OSError):  # another process was faster
                    aside.rename(kept)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        os.utime(kept)
        _forget_old(adapters)
        return kept


# --- Written ------------------------------------------------------------------------------------------------------


def store(name: str) -> int:
    """Put a folder of this machine into the storage, and return how many files it did not have before.

    What the storage has already stays, as the last worker put it. Without WHETSTONE_STORAGE nothing happens. Raises
    OSError.
    """
    if not site.STORES_RUNS:
        return 0
    folder = Folder(name)
    rows = []
    for path in local_files(folder.here):
        if str(path.relative_to(folder.here)) in folder.rows:
            continue
        row = StoredFile(
            folder=folder.root,
            path=str(path.relative_to(Path(site.VAR) / folder.root)),
            sha256=hash_file(path),
            size=path.stat().st_size,
        )
        _put_copy(path, row.key)  # before the row that names it
        rows.append(row)
    StoredFile.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def _put_copy(path: Path, key: str) -> None:
    """Put a copy of a file, as a resumed round goes on writing into some of its own."""
    with tempfile.TemporaryDirectory(prefix="whetstone-", dir=site.VAR) as aside:
        objects.put(Path(shutil.copy2(path, aside)), key)


def local_files(folder: Path) -> list[Path]:
    """Return the files at and below a folder of this machine. Links and hidden files are left out."""
    found = folder.rglob("*") if folder.is_dir() else ()
    return sorted(
        path
        for path in found
        if path.is_file()
        and not path.is_symlink()
        and not any(part[0] == "." for part in path.relative_to(folder).parts)
    )


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file of this machine."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def forget(folder: str, paths: Iterable[str]) -> list[str]:
    """Delete files and folders of a run directory from the database, the storage and this machine.

    Return what could not be deleted. The log has the reasons. Call it only while no worker has the round.
    """
    paths, left = list(paths), []
    drop_rows(folder, paths)
    for path in paths:
        here = Path(site.VAR) / folder / path
        try:
            shutil.rmtree(here) if here.is_dir() else here.unlink(missing_ok=True)
        except OSError as error:
            logger.error("%s was to be forgotten, and could not be deleted: %s", here, error)
            left.append(str(here))
    try:
        return left + sweep(folder)
    except OSError as error:
        logger.error("%s holds what was forgotten in the storage, and could not be swept: %s", folder, error)
        return [*left, folder]


def drop_rows(folder: str, paths: Iterable[str]) -> None:
    """Delete the rows of files and folders of a run directory. The storage keeps the objects until it is swept."""
    paths = list(paths)
    gone = [
        row.pk
        for row in StoredFile.objects.filter(folder=folder)
        if any(row.path == path or row.path.startswith(f"{path}/") for path in paths)
    ]
    StoredFile.objects.filter(pk__in=gone).delete()


def rewrite(folder: str, path: str, content: bytes) -> None:
    """Replace the content of a file of a run directory, here and in the storage.

    Call it only while no worker has the round. Raises OSError.
    """
    here = Path(site.VAR) / folder / path
    if here.is_file():
        write_whole(here, content)
    row = StoredFile.objects.filter(folder=folder, path=path).first()
    if row is None:
        return
    row.sha256, row.size = hashlib.sha256(content).hexdigest(), len(content)
    with tempfile.TemporaryDirectory(prefix="whetstone-", dir=site.VAR) as aside:
        file = Path(aside) / "content"
        file.write_bytes(content)
        objects.put(file, row.key)  # before the row that names it
    row.save(update_fields=["sha256", "size"])
    sweep(folder)


def sweep(folder: str) -> list[str]:
    """Delete the objects of a folder that no row names. Return those that could not be deleted.

    Call it only while no worker has the round. Raises OSError.
    """
    if not site.STORES_RUNS:
        return []
    named = {row.key for row in StoredFile.objects.filter(folder=folder)}
    return objects.delete([key for key in objects.list_keys(folder) if key not in named])


def unstore(folder: str) -> None:
    """Delete all objects of a folder that no row was committed for. Raises OSError."""
    if site.STORES_RUNS:
        objects.delete(objects.list_keys(folder))


def _forget_old(adapters: Path) -> None:
    for path in adapters.iterdir():
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > CACHE_KEPT:
                shutil.rmtree(path)
