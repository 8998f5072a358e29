"""The records of a file that a check has met: what a run would find in the database when later ones come.

They are on disk, in a database of SQLite's, so that memory stays flat. That of a dry run is gone with its connection.
That of an upload is kept from step to step. It is a cache: it says how far it has read, and is filled again if it is
lost.
"""

import hashlib
import json
import sqlite3
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from django.conf import settings

from annotate.imports.files.spool import dump, load
from annotate.imports.records import Item
from annotate.imports.writing import NEWS, News
from annotate.models import Import

CACHE_KILOBYTES = 16 * 1024
NAMED = 2  # records kept of an id: one of two that differ differs from any third
ALL = 2**62
SECONDS = 10  # for another window's step to end
TABLES = (
    "CREATE TABLE IF NOT EXISTS record (number INTEGER PRIMARY KEY, item BLOB)",
    "CREATE TABLE IF NOT EXISTS meaning "
    "(key BLOB, other BLOB, number INTEGER, PRIMARY KEY (key, other)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS place (position INTEGER, line INTEGER, policies TEXT)",
)
INSERT = (
    "INSERT OR IGNORE INTO meaning SELECT ?, ?, ? "
    "WHERE (SELECT COUNT(*) FROM (SELECT 1 FROM meaning WHERE key = ? LIMIT ?)) < ?"
)


class Place(NamedTuple):
    """The end of the records that are kept, and the policies that they named and the project did not have."""

    position: int = 0
    line: int = 0
    policies: tuple[str, ...] = ()


class EarlierRecords:
    """Records that would have been written, found again by their prompt, their pair and their ids.

    All that is added is one transaction, which `commit` ends. Of two windows with one `path`, the second waits.
    """

    def __init__(self, path: Path | None = None) -> None:
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path or "", isolation_level=None, timeout=SECONDS)
        try:
            self._database.execute(f"PRAGMA cache_size = -{CACHE_KILOBYTES}")
            if not path:
                self._database.execute("PRAGMA journal_mode = OFF")  # nothing is ever rolled back
            self._database.execute("BEGIN IMMEDIATE")
            for table in TABLES:
                self._database.execute(table)
            (last,) = self._database.execute("SELECT MAX(number) FROM record").fetchone()
            rows = self._database.execute("SELECT position, line, policies FROM place").fetchall()
        except BaseException:
            self._database.close()
            raise
        self._count = last or 0
        self.place = next((Place(one, line, tuple(json.loads(names))) for one, line, names in rows), Place())

    def __enter__(self) -> "EarlierRecords":
        return self

    def __exit__(self, *_error: object) -> None:
        self._database.close()

    def clear(self) -> None:
        """Forget all of the file."""
        for table in ("record", "meaning"):
            self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - of the two
        self._count, self.place = 0, Place()

    def commit(self, place: Place) -> None:
        """Keep what was added, and how far the file was read for it."""
        self._database.execute("DELETE FROM place")
        row = (place.position, place.line, json.dumps(place.policies))
        self._database.execute("INSERT INTO place VALUES (?, ?, ?)", row)
        self._database.execute("COMMIT")

    def add(self, records: News) -> None:
        """Keep records, each with the names of what it brought: its prompt, a kind of pair, judgments."""
        for placed, news in records:
            self._count += 1
            self._database.execute("INSERT INTO record VALUES (?, ?)", (self._count, dump([placed])))
            for key, other, most in self._meanings(placed[1], news):
                self._database.execute(INSERT, (key, other, self._count, key, most, most))

    def find(self, items: Iterable[Item]) -> list[Item]:
        """Return what was kept that some items may meet, in its order, with the records that made its prompts."""
        met = self._numbers({key for item in items for key, _other, _most in self._meanings(item, NEWS)})
        makers = self._numbers({_hash("prompt", item.digest) for item in self._read(met)})
        return list(self._read(met | makers))

    def _numbers(self, keys: Iterable[bytes]) -> set[int]:
        look = "SELECT number FROM meaning WHERE key = ?"
        return {number for key in keys for (number,) in self._database.execute(look, (key,))}

    def _read(self, numbers: Iterable[int]) -> Iterator[Item]:
        for number in sorted(numbers):
            for (text,) in self._database.execute("SELECT item FROM record WHERE number = ?", (number,)):
                yield from (item for _line, item in load(text))

    def _meanings(self, item: Item, news: Container[str]) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield the keys of a record, each with what tells it from others of that key, and how many are kept.

        An id names what it came with, and nothing that was known already.
        """
        prompt = _hash("prompt", item.digest)
        yield prompt, b"", 1
        if item.prompt_external_id and "prompts" in news:
            yield _hash("prompt id", item.prompt_external_id), prompt, NAMED
        if item.completions is not None:
            pair = _hash("pair", item.digest, *sorted(item.keys))
            yield pair, self._count.to_bytes(8), ALL
            if item.external_id and item.kind in news:
                yield _hash("id", item.external_id), pair, NAMED


def _hash(*words: str) -> bytes:
    text = "\0\0".join(words)  # no text holds a NUL, and a key of messages one at its start
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


# --- The records of an upload ------------------------------------------------------------------------------------


def path_of(upload: Import) -> Path:
    """Return the file that keeps the records of a check from step to step. Each machine has its own."""
    return _folder() / f"{upload.options.get('pass') or upload.pk}.sqlite3"


def forget(upload: Import) -> None:
    """Delete the records of a check that is over."""
    _delete(path_of(upload))


def sweep(before: float) -> None:
    """Delete the records of checks that no step has gone on with since that time."""
    for path in _folder().glob("*.sqlite3"):
        with suppress(OSError):
            if path.stat().st_mtime < before:
                _delete(path)


def _folder() -> Path:
    return Path(settings.VAR) / "cache" / "checks"


def _delete(path: Path) -> None:
    for one in (path, path.with_name(f"{path.name}-journal")):
        with suppress(OSError):
            one.unlink()
