"""The records of a file that a check has met: what a run would find in the database when later ones come.

They are on disk, in a database of SQLite's, so that memory stays flat. It keeps digests and no texts: a record costs
about as much as a short sentence, however long it is. That of a dry run is gone with its connection. That of an upload
is kept from step to step. It is a cache: it says how far it has read, and is filled again if it is lost or damaged.
"""

import hashlib
import json
import sqlite3
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from django.conf import settings

from annotate.imports.records import Item, PairOpinion
from annotate.imports.states import Digest
from annotate.imports.writing import NEWS, News
from annotate.models import Import, Judgment
from annotate.sources.candidates import CriterionOpinion, order_completions

CACHE_KILOBYTES = 16 * 1024
NAMED = 2  # records kept of an id: one of two that differ differs from any third
ALL = 2**62
SECONDS = 10  # for another window's step to end
BUSY = sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED
TABLES = (
    "CREATE TABLE IF NOT EXISTS record (number INTEGER PRIMARY KEY, prompt BLOB, first BLOB, second BLOB, "
    "prompt_id BLOB, prompt_metadata BLOB, id BLOB, metadata BLOB, "
    "policy_a INTEGER, policy_b INTEGER, gold TEXT, withdrawn INTEGER)",
    "CREATE TABLE IF NOT EXISTS opinion (key BLOB, number INTEGER, verdict TEXT, preferred INTEGER, strength INTEGER, "
    "rationale BLOB, seconds REAL, at TEXT, on_left INTEGER, too_fast INTEGER, late INTEGER, "
    "reasons BLOB, criteria BLOB, PRIMARY KEY (key, number)) "
    "WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS meaning "
    "(key BLOB, other BLOB, number INTEGER, PRIMARY KEY (key, other)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS policy (number INTEGER PRIMARY KEY, name TEXT UNIQUE)",
    "CREATE TABLE IF NOT EXISTS place (position INTEGER, line INTEGER, policies TEXT, titles TEXT)",
)
# In the names of files: an upgrade reads none that an earlier version has laid out otherwise.
LAYOUT = hashlib.blake2b("".join(TABLES).encode(), digest_size=4).hexdigest()
INSERT = (
    "INSERT OR IGNORE INTO meaning SELECT ?, ?, ? "
    "WHERE (SELECT COUNT(*) FROM (SELECT 1 FROM meaning WHERE key = ? LIMIT ?)) < ?"
)


class Place(NamedTuple):
    """The end of the records that are kept, and what they named and the project did not have.

    That are policies, and the titles of reasons and criteria, by column.
    """

    position: int = 0
    line: int = 0
    policies: tuple[str, ...] = ()
    titles: Mapping[str, Sequence[str]] = MappingProxyType({})


class EarlierRecords:
    """Records that would have been written, found again by their prompt, their pair and their ids.

    All that is added is one transaction, which `commit` ends. Of two windows with one `path`, the second waits.
    """

    def __init__(self, path: Path | None = None) -> None:
        if path:
            with suppress(OSError):  # then the database cannot be opened
                path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path or "", isolation_level=None, timeout=SECONDS)
        try:
            self._database.execute(f"PRAGMA cache_size = -{CACHE_KILOBYTES}")
            # A machine that crashes may lose it: the file is then read again.
            self._database.execute("PRAGMA synchronous = OFF")
            if not path:
                self._database.execute("PRAGMA journal_mode = OFF")  # nothing is ever rolled back
            self._database.execute("BEGIN IMMEDIATE")
            for table in TABLES:
                self._database.execute(table)
            (last,) = self._database.execute("SELECT MAX(number) FROM record").fetchone()
            rows = self._database.execute("SELECT position, line, policies, titles FROM place").fetchall()
        except BaseException:
            self._database.close()
            raise
        self._count = last or 0
        places = (
            Place(position, line, tuple(json.loads(policies)), json.loads(titles))
            for position, line, policies, titles in rows
        )
        self.place = next(places, Place())

    def __enter__(self) -> "EarlierRecords":
        return self

    def __exit__(self, *_error: object) -> None:
        self._database.close()

    def clear(self) -> None:
        """Forget all of the file."""
        for table in ("record", "opinion", "meaning", "policy"):
            self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - of the four
        self._count, self.place = 0, Place()

    def commit(self, place: Place) -> None:
        """Keep what was added, and how far the file was read for it."""
        self._database.execute("DELETE FROM place")
        row = (place.position, place.line, json.dumps(place.policies), json.dumps(dict(place.titles)))
        self._database.execute("INSERT INTO place VALUES (?, ?, ?, ?)", row)
        self._database.execute("COMMIT")

    def add(self, records: News) -> None:
        """Keep records, each with the names of what it brought: its prompt, a kind of pair, judgments."""
        for (_line, item), news in records:
            self._count += 1
            self._write(item, news)
            for key, other, most in self._meanings(item, news):
                self._database.execute(INSERT, (key, other, self._count, key, most, most))

    def find(self, items: Iterable[Item]) -> list[Item]:
        """Return what was kept that some items may meet, in its order, with the records that made its prompts.

        Of the texts, they have those that the items have, too. Of the others, a Digest. Of the judgments, they have
        those of the items' annotators.
        """
        items = list(items)
        texts = _Texts(items)
        met = self._numbers({key for item in items for key, _other, _most in self._meanings(item, NEWS)})
        opinions: dict[int, list[PairOpinion]] = {}
        for key, annotator in {
            _hash("opinion", _pair(item).hex(), said.annotator): said.annotator
            for item in items
            for said in item.opinions
        }.items():
            look = (
                "SELECT number, verdict, preferred, strength, rationale, seconds, at, on_left, too_fast, late, "
                "reasons, criteria FROM opinion WHERE key = ?"
            )
            for number, *said in self._database.execute(look, (key,)):
                opinions.setdefault(number, []).append(_opinion(annotator, said, texts))
        met |= opinions.keys()
        makers = self._numbers({_hash("prompt", digest) for digest in self._prompts(met)})
        return [self._read(number, opinions.get(number, ()), texts) for number in sorted(met | makers)]

    def _numbers(self, keys: Iterable[bytes]) -> set[int]:
        look = "SELECT number FROM meaning WHERE key = ?"
        return {number for key in keys for (number,) in self._database.execute(look, (key,))}

    def _prompts(self, numbers: Iterable[int]) -> set[str]:
        look = "SELECT prompt FROM record WHERE number = ?"
        return {digest.hex() for one in numbers for (digest,) in self._database.execute(look, (one,))}

    def _write(self, item: Item, news: Container[str]) -> None:
        first, second = (_hash(key) for key in item.keys) if item.completions is not None else (None, None)
        policies = [self._policy(name) for name in item.policies]
        row = (
            self._count,
            bytes.fromhex(item.digest),
            first,
            second,
            _kept(item.prompt_external_id),
            _kept_metadata(item.prompt_metadata),
            _kept(item.external_id),
            _kept_metadata(_metadata(item)),
            *policies,
            item.gold,
            item.withdrawn,
        )
        self._database.execute(f"INSERT INTO record VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
        if "judgments" not in news:
            return
        for said in item.opinions:
            key = _hash("opinion", _pair(item).hex(), said.annotator)
            at = said.at.isoformat() if said.at else None
            rationale = _kept(said.rationale)
            kept = (
                said.verdict,
                said.preferred,
                said.strength,
                rationale,
                said.seconds,
                at,
                said.left,
                said.too_fast,
                said.late,
                _kept_aspects(said.reasons),
                _kept_aspects(_in_order_of_keys(said.criteria, item.keys)),
            )
            self._database.execute(
                "INSERT OR IGNORE INTO opinion VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (key, self._count, *kept),
            )

    def _policy(self, name: str) -> int:
        """Return the number of a policy's name. A project has few."""
        self._database.execute("INSERT OR IGNORE INTO policy (name) VALUES (?)", (name,))
        (number,) = self._database.execute("SELECT number FROM policy WHERE name = ?", (name,)).fetchone()
        return int(number)

    def _read(self, number: int, opinions: Iterable[PairOpinion], texts: "_Texts") -> Item:
        look = (
            "SELECT record.*, a.name, b.name FROM record JOIN policy a ON a.number = policy_a "
            "JOIN policy b ON b.number = policy_b WHERE record.number = ?"
        )
        row = self._database.execute(look, (number,)).fetchone()
        prompt, first, second, prompt_id, prompt_metadata, own_id, metadata, *rest = row[1:]
        _number_a, _number_b, gold, withdrawn, policy_a, policy_b = rest
        item = Item(
            "",
            prompt_external_id=texts.text(prompt_id),
            prompt_metadata=texts.metadata(prompt_metadata),
            completions=None if first is None else ("", ""),
            policies=(policy_a, policy_b),
            external_id=texts.text(own_id),
            metadata=texts.metadata(metadata),
            gold=gold,
            withdrawn=bool(withdrawn),
        )
        # Known by these, as the record was.
        item.__dict__["digest"] = prompt.hex()
        item.__dict__["keys"] = () if first is None else (texts.key(first), texts.key(second))
        item.metadata = order_completions(item.metadata, sorted(item.keys), item.keys)
        item.opinions = tuple(
            said._replace(criteria=_in_order_of_record(said.criteria, item.keys)) for said in opinions
        )
        return item

    def _meanings(self, item: Item, news: Container[str]) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield the keys of a record, each with what tells it from others of that key, and how many are kept.

        A record is found by what it made. Its judgments are found by their annotators.
        """
        prompt = _hash("prompt", item.digest)
        if "prompts" in news:
            yield prompt, b"", 1
            if item.prompt_external_id:
                yield _hash("prompt id", item.prompt_external_id), prompt, NAMED
        if item.completions is not None and item.kind in news:
            pair = _pair(item)
            yield pair, self._count.to_bytes(8), ALL
            if item.external_id:
                yield _hash("id", item.external_id), pair, NAMED


class _Texts:
    """The texts of some items, by their digests."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._texts: dict[bytes, str] = {}
        self._metadata: dict[bytes, Mapping[str, Any]] = {}
        self._aspects: dict[bytes | None, tuple[Any, ...] | None] = {None: None}
        for item in items:
            for opinion in item.opinions:
                for aspects in (opinion.reasons, _in_order_of_keys(opinion.criteria, item.keys)):
                    self._aspects[_kept_aspects(aspects)] = aspects
            said = (opinion.rationale for opinion in item.opinions)
            for text in (*item.keys, item.prompt_external_id, item.external_id, *said):
                self._texts[_hash(text)] = text
            for metadata in (item.prompt_metadata, _metadata(item), {}):
                if metadata is not None:
                    self._metadata[_kept_metadata(metadata) or b""] = metadata

    def text(self, digest: bytes | None) -> str:
        return self._texts.get(digest) or Digest(f" {digest.hex()}") if digest else ""

    def key(self, digest: bytes) -> str:
        """Return the key of a completion. That of messages has a NUL at its start, and is asked of no database."""
        return self._texts.get(digest) or f"\0{digest.hex()}"

    def reasons(self, digest: bytes | None) -> tuple[str, ...] | None:
        return self._aspects[digest] if digest in self._aspects else (Digest(f" {_hex(digest)}"),)

    def criteria(self, digest: bytes | None) -> tuple[CriterionOpinion, ...] | None:
        if digest in self._aspects:
            return self._aspects[digest]
        return (CriterionOpinion("", Digest(f" {_hex(digest)}"), Judgment.Verdict.TIE),)

    def metadata(self, digest: bytes | None) -> Mapping[str, Any] | None:
        if digest is None:
            return None
        known = self._metadata.get(digest)
        return {Digest(f" {digest.hex()}"): None} if known is None else known


def _opinion(annotator: str, said: list[Any], texts: _Texts) -> PairOpinion:
    verdict, preferred, strength, rationale, seconds, at, left, too_fast, late, reasons, criteria = said
    time = datetime.fromisoformat(at) if at else None
    why = texts.text(rationale)
    return PairOpinion(
        annotator,
        verdict,
        preferred,
        strength,
        why,
        seconds,
        time,
        left,
        None if too_fast is None else bool(too_fast),
        None if late is None else bool(late),
        texts.reasons(reasons),
        texts.criteria(criteria),
    )


def _pair(item: Item) -> bytes:
    return _hash("pair", item.digest, *sorted(item.keys))


def _metadata(item: Item) -> Mapping[str, Any] | None:
    """Return the metadata of a pair as both orders of its completions share it."""
    return order_completions(item.metadata, item.keys, sorted(item.keys))


def _kept(text: str) -> bytes | None:
    return _hash(text) if text else None


def _in_order_of_keys(
    said: tuple[CriterionOpinion, ...] | None, keys: Sequence[str]
) -> tuple[CriterionOpinion, ...] | None:
    """Return what was said by criteria as both orders of a pair's completions share it: places are of sorted keys.

    The title says which criterion is meant. The order in which they were named says nothing.
    """
    if said is None:
        return None
    ordered = sorted(keys)
    places = {place: ordered.index(key) for place, key in enumerate(keys)}
    moved = (
        one._replace(
            key="" if one.title else one.key,
            preferred=None if one.preferred is None else places[one.preferred],
        )
        for one in said
    )
    return tuple(sorted(moved, key=lambda one: (one.title, one.key)))


def _in_order_of_record(
    said: tuple[CriterionOpinion, ...] | None, keys: Sequence[str]
) -> tuple[CriterionOpinion, ...] | None:
    """Return the same with the places of a record's own keys."""
    if said is None:
        return None
    places = {place: keys.index(key) for place, key in enumerate(sorted(keys))}
    return tuple(
        one if one.preferred is None else one._replace(preferred=places[one.preferred]) for one in said
    )


def _kept_aspects(said: tuple[Any, ...] | None) -> bytes | None:
    return None if said is None else _hash("aspects", json.dumps(said))


def _hex(digest: bytes | None) -> str:
    return (digest or b"").hex()


def _kept_metadata(metadata: Mapping[str, Any] | None) -> bytes | None:
    return None if metadata is None else _hash(json.dumps(metadata, sort_keys=True))


def _hash(*words: str) -> bytes:
    text = "\0\0".join(words)  # no text holds a NUL, and a key of messages one at its start
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


# --- The records of an upload ------------------------------------------------------------------------------------


def path_of(upload: Import) -> Path:
    """Return the file that keeps the records of a check from step to step. Each machine has its own."""
    return _folder() / f"{upload.options['pass']}-{LAYOUT}.sqlite3"


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another window is at the records."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in BUSY


def forget(upload: Import) -> None:
    """Delete the records of a check that is over, or that are damaged."""
    if upload.options.get("pass"):
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
