"""Folders from elsewhere on their way to a name below var/runs, marked until the rows that name them are committed.

A process that is killed before leaves a mark, or a folder aside. Both are swept some days later.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from django.conf import settings as site
from django.db import transaction

from annotate.models import Policy
from primitives.files import sync_directory
from training.models import Round, StoredFile
from training.storage import folders
from training.storage.folders import ASIDE, Folder

MARK = ".placing"
KEPT_SECONDS = 3 * 24 * 3600  # longer than any file takes to the storage


@contextmanager
def folder_aside() -> Iterator[Path]:
    """Yield an empty folder on the disk of var/runs, which is deleted unless it was moved."""
    site.RUNS.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=site.RUNS))
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def place(folder: Path, name: str) -> None:
    """Move a folder from aside to its name below var/, marked. Raises OSError, with what was there before in its place.

    Store its files then, and call `settle` with the rows that name it, or `drop`.
    """
    target, root = Path(site.VAR) / name, Path(site.VAR) / Folder(name).root
    if target == root:
        (folder / MARK).touch()
    else:
        root.mkdir(parents=True)
        (root / MARK).touch()
    folder.rename(target)
    sync_directory(target.parent)


def settle(name: str) -> None:
    """Take the mark of a folder away once the rows of this transaction are committed."""
    mark = Path(site.VAR) / Folder(name).root / MARK
    transaction.on_commit(partial(mark.unlink, missing_ok=True), robust=True)


def drop(name: str) -> None:
    """Delete a folder that was placed and that no row names, here and in the storage."""
    root = Folder(name).root
    StoredFile.objects.filter(folder=root).delete()
    with suppress(OSError):
        folders.unstore(root)
        shutil.rmtree(Path(site.VAR) / root)  # last, as it holds the mark


def sweep() -> None:
    """Delete what processes left that were killed: folders aside, and folders that were placed without their rows."""
    before = time.time() - KEPT_SECONDS
    for mark in site.RUNS.glob(f"*/{MARK}"):
        if not _is_older(mark, before):
            continue
        name = f"runs/{mark.parent.name}"
        if _is_named(name):
            mark.unlink(missing_ok=True)
        else:
            drop(name)
    for aside in site.RUNS.glob(f"{ASIDE}*"):
        if _is_older(aside, before):
            shutil.rmtree(aside, ignore_errors=True)


def _is_older(path: Path, before: float) -> bool:
    with suppress(OSError):
        return path.stat().st_mtime < before
    return False


def _is_named(name: str) -> bool:
    """Return whether a round or a policy has a folder of var/runs."""
    is_round = Round.objects.filter(folder=name).exists()
    return is_round or Policy.objects.filter(adapter__startswith=f"{name}/").exists()
