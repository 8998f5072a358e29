"""The files of an installation moved from this machine's folders into the storage, a file at a time.

Run it again to pick up where it left off: what the storage has is passed over.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings as site
from django.core.files.storage import default_storage
from django.db import models, transaction

from annotate.models import Export, Import, Policy
from annotate.whole_files import save_whole
from training.models import Round, StoredFile
from training.storage import folders, objects
from training.storage.folders import Folder

Say = Callable[[str], None]


@dataclass
class Account:
    """The account of a move: files by what became of them."""

    moved: int = 0
    known: int = 0
    missing: int = 0


def move(say: Say, *, delete: bool = False) -> Account:
    """Put what lies below var/files and var/runs into the storage. With `delete`, remove here what is there.

    Rounds that wait or run are left to their workers. Raises OSError, with everything before it done.
    """
    account = Account()
    for name in _uploads():
        _move_upload(name, account, say, delete=delete)
    for name in _run_folders():
        if _is_live(name):
            say(f"{name}: its round is not over; its worker stores it.")
        else:
            _move_folder(name, account, say, delete=delete)
    return account


def _is_live(name: str) -> bool:
    return Round.objects.filter(folder=name, state__in=Round.LIVE).exists()


def _uploads() -> Iterator[str]:
    """Yield the names of the files that rows of imports and exports hold."""
    for model in (Import, Export):
        fields = [one.name for one in model._meta.concrete_fields if isinstance(one, models.FileField)]
        for names in model._default_manager.order_by("pk").values_list(*fields):
            yield from filter(None, names)


def _move_upload(name: str, account: Account, say: Say, *, delete: bool) -> None:
    here = Path(site.MEDIA_ROOT) / name
    is_there = default_storage.exists(name)
    at = objects.local_path(name)
    if is_there and at is not None and here.exists() and at.samefile(here):
        account.known += 1
        return
    if not here.is_file():
        account.known += is_there
        account.missing += not is_there
        if not is_there:
            say(f"{name}: neither here nor in the storage.")
        return
    if is_there and default_storage.size(name) == here.stat().st_size:
        account.known += 1
    else:
        default_storage.delete(name)
        with here.open("rb") as file:
            save_whole(default_storage, name, file)
        account.moved += 1
        say(name)
    if delete and default_storage.size(name) == here.stat().st_size:
        here.unlink()


def _run_folders() -> list[str]:
    """Return the folders of rounds and adapters that rows name."""
    names = set(Round.objects.values_list("folder", flat=True))
    names |= {Folder(adapter).root for adapter in _adapters()}
    return sorted(names)


def _adapters() -> list[str]:
    return list(Policy.objects.exclude(adapter="").values_list("adapter", flat=True))


def _move_folder(name: str, account: Account, say: Say, *, delete: bool) -> None:
    files = folders.local_files(Path(site.VAR) / name)
    if not files:
        return
    moved = folders.store(name)
    account.moved += moved
    account.known += len(files) - moved
    if moved:
        say(f"{name}: {moved} files")
    if delete:
        rows = Folder(name).rows
        paths = {path: rows.get(str(path.relative_to(Path(site.VAR) / name))) for path in files}
        if all(row and _is_stored(path, row) for path, row in paths.items()):
            _remove(name)
        else:
            say(f"{name}: stays here too, as the storage does not have the very same files.")


def _is_stored(path: Path, row: StoredFile) -> bool:
    """Return whether the storage has this very file of this machine."""
    return objects.is_stored(row.key, path.stat().st_size) and row.sha256 == folders.hash_file(path)


def _remove(name: str) -> None:
    """Remove a folder of this machine, unless its round was resumed meanwhile."""
    with transaction.atomic():
        list(Round.objects.select_for_update().filter(folder=name))  # which a worker that claims it waits for
        if not _is_live(name):
            shutil.rmtree(Path(site.VAR) / name)
