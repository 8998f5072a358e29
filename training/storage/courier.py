"""The files of a running round, carried between its worker's run directory and the storage.

What is put is always the whole state of the run directory: its rows replace those of the state before in one
transaction, which fails once the round is another worker's. Hashing and sending happen in a thread that knows no
database, from links and copies, so that the trainer may go on and the heartbeat too.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings as site
from django.db import InterfaceError, OperationalError, connection, transaction

from primitives.files import write_whole
from training.engine.rundir import RunDirectory
from training.models import Round, StoredFile
from training.storage import folders, objects
from training.storage.folders import Folder
from training.storage.objects import GivenUpError, StorageFaultError

MARKER = ".attempt"  # which attempt worked in this folder last: a file of the worker's machine
OUTBOX = ".outbox"
TICK_SECONDS = 1.0
LEFT_HERE = frozenset({"progress.json"})
DONE = (
    *("done.json", "previous/done.json", "probing/done.json"),
    *("assist/done.json", "assist/draft/done.json"),
)
TRAINED = ("", "assist/draft")  # folders of a round in which `train` works
CHECKPOINTS = frozenset(str(Path(folder) / "checkpoints") for folder in TRAINED)
REPLACED = frozenset({".safetensors"})  # large, and only ever replaced by a whole new file

T = TypeVar("T")
logger = logging.getLogger(__name__)


class FencedError(Exception):
    """The round is no longer this worker's."""


@dataclass(frozen=True)
class Parcel:
    """The state of a run directory: files in the outbox by their paths, and the hash and size of each, once known."""

    outbox: Path
    paths: list[str]
    contents: dict[str, tuple[str, int]] = field(default_factory=dict)


class Courier:
    """The files of one attempt. Without WHETSTONE_STORAGE it does nothing."""

    def __init__(self, round_: Round, files: RunDirectory, keep: Callable[[], bool]) -> None:
        """`keep` writes the heartbeat, and returns False once the round is another's. What it raises ends the work."""
        self.round, self.files, self.keep = round_, files, keep
        self.is_active = site.STORES_RUNS
        self._pool = ThreadPoolExecutor(1, "courier")
        self._sending: Future[Any] | None = None
        self._sent = -float("inf")
        self._is_wanted = True
        self._is_whole = False  # whether the run directory is what the attempt before left, or more
        self._known: dict[
            tuple[str, int, int, int], str
        ] = {}  # hashes by path, inode, size and time of change
        self._waste: list[str] = []  # keys of the state before, which a page may just be reading

    # --- To the worker ---

    def fetch(self) -> None:
        """Bring the run directory to the state in which the attempt before left it.

        If that attempt was here, the folder is at least as new as the storage. If it was elsewhere, what lies here is
        older, and goes. Raises FencedError, StorageFaultError.
        """
        if not self.is_active:
            return
        marker = self.files.root / MARKER
        rows = list(StoredFile.objects.filter(folder=self.round.folder))
        here = _read(marker)
        if here != str(self.round.attempts - 1) and (rows or here):
            shutil.rmtree(self.files.root, ignore_errors=True)
            self.while_alive(lambda: self._fetch(rows))
        self.files.root.mkdir(parents=True, exist_ok=True)
        write_whole(marker, str(self.round.attempts).encode())
        self._is_whole = True

    def _fetch(self, rows: list[StoredFile]) -> None:
        for row in rows:
            if not self._is_wanted:
                raise GivenUpError
            target = self.files.root / row.path
            fetch = partial(objects.fetch, row.key, row.sha256, target, str(row))
            self._patiently(fetch, f"Fetching {row} from the storage")

    def fetch_adapter(self, adapter: str | None) -> None:
        """Fetch an adapter that the round needs into this machine's cache. Raises as `fetch` does."""
        if adapter:
            what, folder = f"Fetching {adapter} from the storage", Folder(adapter)
            folder.rows  # noqa: B018 - asked of the database here, not in the thread
            self.while_alive(lambda: self._patiently(folder.bring_here, what))

    # --- To the storage ---

    def tick(self) -> None:
        """Put a state now and then while a child works. A storage that is away is tried again the next time.

        Raises FencedError.
        """
        if not self.is_active:
            return
        try:
            if self._sending is None:
                if time.monotonic() - self._sent >= site.CHECKPOINT_SECONDS:
                    self._sent = time.monotonic()
                    self._sending = self._send()
            elif self._sending.done():
                sent, self._sending, self._sent = self._sending, None, time.monotonic()
                self._record(sent.result())
        except (StorageFaultError, OSError) as error:
            logger.warning("%s: what it has so far could not be stored: %s", self.round, error)

    def deliver(self, seconds: float | None = None) -> bool:
        """Put the present state, and return True when the storage has it. Raises FencedError, StorageFaultError."""
        if not self.is_active:
            return False
        self._settle()
        if not self._is_whole:
            return False
        parcel = self._wait(self._send(seconds))
        self._sent = time.monotonic()
        self._record(parcel)
        return True

    def discard(self) -> None:
        """Remove the run directory, whose state was delivered."""
        self._settle()
        shutil.rmtree(self.files.root, ignore_errors=True)

    def leave(self) -> None:
        """Remove what is not needed any more once the round is over, here and in the storage."""
        if not self.is_active:
            return
        try:
            folders.sweep(self.round.folder)
        except OSError as error:
            logger.warning("%s: its storage could not be tidied: %s", self.round, error)
        self.discard()

    def close(self) -> None:
        """End the thread."""
        self._is_wanted = False
        self._pool.shutdown()

    def while_alive(self, act: Callable[[], T]) -> T:
        """Do something long in the thread, while the heartbeat goes on. Raises FencedError."""
        self._settle()
        return self._wait(self._pool.submit(act))

    def _wait(self, doing: Future[T]) -> T:
        """Wait for the thread, while the heartbeat goes on. Raises FencedError, and what `keep` raises."""
        while not wait([doing], TICK_SECONDS).done:
            try:
                if not self.keep():
                    raise FencedError
            except (OperationalError, InterfaceError):
                logger.warning("%s: the database cannot be reached.", self.round, exc_info=True)
                connection.close()
            except BaseException:
                self._is_wanted, self._sending = False, doing  # it gives up after the file that it is at
                raise
        return doing.result()

    def _settle(self) -> None:
        """Let what is being sent give up, and wait for its end."""
        if self._sending is not None:
            self._is_wanted = False
            with suppress(GivenUpError, StorageFaultError, OSError):
                self._wait(self._sending)
        self._sending, self._is_wanted = None, True

    def _patiently(self, act: Callable[[], T], what: str, seconds: float | None = None) -> T:
        limit = site.STORAGE_SECONDS if seconds is None else seconds
        return objects.patiently(act, what, limit, is_wanted=lambda: self._is_wanted)

    def _send(self, seconds: float | None = None) -> Future[Parcel]:
        """Begin to send the present state."""
        try:
            parcel = self._collect()
        except FileNotFoundError:  # a checkpoint that gave way to the next one just now
            parcel = self._collect()
        return self._pool.submit(self._put, parcel, seconds)

    def _collect(self) -> Parcel:
        """Link or copy the state into the outbox.

        What says that a verb is done comes first, so that no state lacks what it speaks of. The newest checkpoint comes
        before the logs, which may then be longer.
        """
        outbox = self.files.root / OUTBOX
        shutil.rmtree(outbox, ignore_errors=True)
        outbox.mkdir(parents=True)
        paths: list[str] = []
        for path in self._in_order():
            paths.append(path)
            source, copy = self.files.root / path, outbox / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix in REPLACED:
                objects.link_or_copy(source, copy)
            else:
                shutil.copy2(source, copy)
        return Parcel(outbox, paths)

    def _in_order(self) -> Iterator[str]:
        """Yield the paths of the state. Each is copied before the next is looked for."""
        done = [path for path in DONE if (self.files.root / path).exists()]
        yield from done
        for trained in TRAINED:
            yield from self._checkpoint(trained)
        yield from (path for path in self._others() if path not in DONE)

    def _checkpoint(self, trained: str) -> list[str]:
        """Return the paths of the newest checkpoint in a folder that is trained in, unless training is over."""
        run = RunDirectory(self.files.root / trained)
        if run.adapter.is_dir() and "train" in run.read_done():
            return []
        whole = sorted(run.checkpoints.glob("step-*.json"))[-1:]
        files = [path.with_suffix(suffix) for path in whole for suffix in (".safetensors", ".json")]
        return [str(file.relative_to(self.files.root)) for file in files]

    def _others(self) -> Iterator[str]:
        for folder, inside, names in os.walk(self.files.root):
            at = Path(folder).relative_to(self.files.root)
            inside[:] = [name for name in inside if name[0] != "." and str(at / name) not in CHECKPOINTS]
            for name in names:
                path = at / name
                if name[0] != "." and name not in LEFT_HERE and not (self.files.root / path).is_symlink():
                    yield str(path)

    def _put(self, parcel: Parcel, seconds: float | None) -> Parcel:
        """Hash and put what the storage does not have. Runs in the thread."""
        for path in parcel.paths:
            if not self._is_wanted:
                raise GivenUpError
            file = parcel.outbox / path
            sha256, size = self._hash(file, path), file.stat().st_size
            key = f"{self.round.folder}/{sha256}"
            what = f"Storing {self.round.folder}/{path}"
            self._patiently(partial(objects.put, file, key), what, seconds)
            parcel.contents[path] = (sha256, size)
        return parcel

    def _hash(self, file: Path, path: str) -> str:
        found = file.stat()
        key = (path, found.st_ino, found.st_size, found.st_mtime_ns)
        if key not in self._known:
            with file.open("rb") as opened:
                self._known[key] = hashlib.file_digest(opened, "sha256").hexdigest()
        return self._known[key]

    def _record(self, parcel: Parcel) -> None:
        """Write the rows of a state in place of those before. Raises FencedError, with nothing changed."""
        shutil.rmtree(parcel.outbox, ignore_errors=True)
        rows = [
            StoredFile(folder=self.round.folder, path=path, sha256=sha256, size=size)
            for path, (sha256, size) in parcel.contents.items()
        ]
        with transaction.atomic():
            if not self.keep():  # holds the round's row until the end
                raise FencedError
            before = list(StoredFile.objects.filter(folder=self.round.folder))
            gone = [row.pk for row in before if row.path not in parcel.contents]
            StoredFile.objects.filter(pk__in=gone).delete()
            StoredFile.objects.bulk_create(
                rows,
                update_conflicts=True,
                unique_fields=["folder", "path"],
                update_fields=["sha256", "size", "stored_at"],
            )
        named = {row.key for row in rows}
        objects.delete([key for key in self._waste if key not in named])
        self._waste = [row.key for row in before if row.key not in named]


def clear_leftovers() -> None:
    """Remove run directories that were a worker's scratch, of rounds that are over by now."""
    if not site.STORES_RUNS or not site.RUNS.is_dir():
        return
    here = {f"runs/{path.parent.name}": path.parent for path in site.RUNS.glob(f"*/{MARKER}")}
    resumable = (*Round.LIVE, Round.State.FAILED)
    over = Round.objects.filter(folder__in=here).exclude(state__in=resumable)
    for folder in over.values_list("folder", flat=True):
        shutil.rmtree(here[folder], ignore_errors=True)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
