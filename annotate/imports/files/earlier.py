"""The records of a file that a dry run has met: what a run would find in the database when later ones come.

They are on disk, in a temporary database of SQLite's that is gone with its connection. So memory stays flat.
"""

import hashlib
import sqlite3
from collections.abc import Container, Iterable, Iterator

from annotate.imports.files.spool import dump, load
from annotate.imports.records import Item
from annotate.imports.writing import NEWS, News

CACHE_KILOBYTES = 16 * 1024
NAMED = 2  # records kept of an id: one of two that differ differs from any third
ALL = 2**62
TABLES = """
CREATE TABLE record (number INTEGER PRIMARY KEY, item BLOB);
CREATE TABLE meaning (key BLOB, other BLOB, number INTEGER, PRIMARY KEY (key, other)) WITHOUT ROWID;
"""
INSERT = (
    "INSERT OR IGNORE INTO meaning SELECT ?, ?, ? "
    "WHERE (SELECT COUNT(*) FROM (SELECT 1 FROM meaning WHERE key = ? LIMIT ?)) < ?"
)


class EarlierRecords:
    """Records that would have been written, found again by their prompt, their pair and their ids."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KILOBYTES}")
        self._database.executescript(TABLES)
        self._count = 0

    def __enter__(self) -> "EarlierRecords":
        return self

    def __exit__(self, *_error: object) -> None:
        self._database.close()

    def add(self, records: News) -> None:
        """Keep records, each with the names of what it brought: its prompt, a kind of pair, judgments."""
        self._database.execute("BEGIN")
        for placed, news in records:
            self._count += 1
            self._database.execute("INSERT INTO record VALUES (?, ?)", (self._count, dump([placed])))
            for key, other, most in self._meanings(placed[1], news):
                self._database.execute(INSERT, (key, other, self._count, key, most, most))
        self._database.execute("COMMIT")

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
