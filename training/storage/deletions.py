"""Files of rounds that are to be deleted: noted with the rows that change, and deleted once those are committed.

A note is a row of `StoredFile` in a folder that no round has. It goes with the files. So a process that is killed in
between leaves notes, which the next sweep carries out.
"""

import json
import logging
from collections.abc import Iterable
from typing import Any

from django.db import transaction

from training.engine.rundir import to_json
from training.models import Round, StoredFile
from training.storage import folders
from training.storage.folders import Folder
from training.storage.hiding import names_people, rename_people
from training.storage.objects import StorageFaultError

logger = logging.getLogger(__name__)

NOTED = "deleting/"  # before the name of a folder
REPORT = "done.json"  # stays, without what a probe said of annotators


def note(folder: str, paths: Iterable[str]) -> None:
    """Note files and folders of a run directory that are to be deleted. From the commit on, no row names them.

    Call it only in a transaction, while no worker has the round. REPORT among them is rewritten instead.
    """
    paths = set(paths)
    notes = [StoredFile(folder=f"{NOTED}{folder}", path=path, size=0) for path in sorted(paths)]
    StoredFile.objects.bulk_create(notes, ignore_conflicts=True)
    folders.drop_rows(folder, paths - {REPORT})


def carry_out(folder: str) -> list[str]:
    """Delete what is noted of a run directory, unless a worker has its round. Return what could not be deleted.

    The log has the reasons. The notes of a folder go once all of it is deleted.
    """
    with transaction.atomic():
        # A worker that claims the round waits for this.
        round_ = Round.objects.select_for_update(no_key=True).filter(folder=folder).first()
        notes = StoredFile.objects.filter(folder=f"{NOTED}{folder}")
        paths = set(notes.values_list("path", flat=True))
        if not paths or (round_ is not None and round_.is_live):
            return []
        left = folders.forget(folder, paths - {REPORT})
        if REPORT in paths:
            left += _rewrite_report(folder)
        if not left:
            notes.delete()
    return left


def sweep() -> None:
    """Carry out all notes, such as those of a process that was killed before it could."""
    noted = StoredFile.objects.filter(folder__startswith=NOTED).order_by()
    for folder in noted.values_list("folder", flat=True).distinct():
        carry_out(folder.removeprefix(NOTED))


def _rewrite_report(folder: str) -> list[str]:
    """Take what a probe said of annotators out of done.json. Return its name if it could not be replaced."""
    file = Folder(folder).find(REPORT)
    if file is None:
        return []
    try:
        done: Any = json.loads(file.read_bytes())
        if isinstance(done, dict) and names_people(done.get("probe")):
            content = to_json(done | {"probe": rename_people(done["probe"], {})}, indent=2) + "\n"
            folders.rewrite(folder, REPORT, content.encode())
    except ValueError:  # says nothing that a page could show
        return []
    except (OSError, StorageFaultError) as error:
        logger.error("%s/%s names who was forgotten, and could not be replaced: %s", folder, REPORT, error)
        return [f"{folder}/{REPORT}"]
    return []
