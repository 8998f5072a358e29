"""A project restored from its archive, on any server: other ids, the same content, the same hashes. All, or nothing.

Each table gets a range of ids of its own, so an id of the archive and its id here differ by one number for the whole
table: no map of ids is kept in memory, rows keep their order, and a snapshot can still say the ids of its digest.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings as site
from django.db import DataError, IntegrityError, connection, transaction
from django.utils.translation import gettext as _

from annotate.models import Claim, Comparison, Membership, Project, Role, Snapshot, User
from annotate.models.bulk.storing import has_claims_first
from annotate.pairs.snapshots import exact_lines
from annotate.projects import trail
from annotate.projects.lifecycle import free_slug
from training.engine.rundir import write_json
from training.models import StoredFile
from training.provenance.archive_format import PEOPLE, TABLES, Table
from training.provenance.archive_reader import LONGEST_LINE, ArchiveError, ArchiveReader, line_error
from training.provenance.restoration import Restoration, insert_rows
from training.storage import folders

SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")


def restore(
    reader: ArchiveReader,
    *,
    slug: str = "",
    accounts: Mapping[str, User] | None = None,
    admin: User | None = None,
) -> Project:
    """Restore a project. `accounts` maps pseudonyms to accounts here that take their place; `admin` joins as one.

    Raises ArchiveError, with nothing changed.
    """
    restoration = Restoration(
        reader, _choose_slug(slug or str(reader.manifest.get("project", ""))[:50], bool(slug))
    )
    aside = site.RUNS / f".restore-{uuid.uuid4().hex}"
    placed: list[Path] = []
    try:
        restoration.shifts = {table.name: _reserve(table, reader) for table in TABLES}
        _unpack(restoration, aside)
        with transaction.atomic():
            restoration.people = _people(restoration, accounts or {})
            for table in _in_order():
                insert_rows(restoration, table)
            connection.check_constraints([table.model._meta.db_table for table in TABLES])
            project = _finish(restoration, admin)
            _check_digests(project)
            _rename_in_reports(restoration, aside)
            placed = _place(restoration, aside)
        return project
    except (IntegrityError, DataError) as error:
        _remove(placed)
        first = str(error).splitlines()[0]
        sentence = _("The rows of the archive do not fit together: %(error)s.")
        raise ArchiveError(sentence % {"error": first.rstrip(".")}) from error
    except BaseException:
        _remove(placed)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _in_order() -> list[Table]:
    """Return the tables in the order in which they are filled: claims before their comparisons where that is faster."""
    if not has_claims_first():
        return list(TABLES)
    claims = next(table for table in TABLES if table.model is Claim)
    rest = [table for table in TABLES if table is not claims]
    place = next(place for place, table in enumerate(rest) if table.model is Comparison)
    return [*rest[:place], claims, *rest[place:]]


def _choose_slug(slug: str, is_asked_for: bool) -> str:
    """Return a slug that is free here, with no folder of runs left behind under it."""
    if is_asked_for:
        if not SLUG.fullmatch(slug):
            raise ArchiveError(_("“%(slug)s” is not a slug: use a-z, 0-9, - and _.") % {"slug": slug})
        if Project.objects.filter(slug=slug).exists() or _has_runs(slug):
            raise ArchiveError(_("“%(slug)s” is taken here; choose another --slug.") % {"slug": slug})
        return slug
    while _has_runs(slug := free_slug(slug)):
        slug = f"{slug}-restored"
    return slug


def _has_runs(slug: str) -> bool:
    known = re.compile(rf"{re.escape(slug)}-(policy-)?\d+")
    stored = StoredFile.objects.filter(folder__startswith=f"runs/{slug}-").values_list("folder", flat=True)
    names = {folder.removeprefix("runs/") for folder in stored.distinct()}
    if site.RUNS.is_dir():
        names |= {path.name for path in site.RUNS.iterdir()}
    return any(map(known.fullmatch, names))


# --- Ids ---------------------------------------------------------------------------------------------------------


def _reserve(table: Table, reader: ArchiveReader) -> int:
    """Reserve ids for a table's rows that nothing else gets. Return how much higher they are than in the archive."""
    among = reader.ranges[table.name]
    if not among.rows:
        return 0
    name, span = table.model._meta.db_table, among.last - among.first + 1
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # An insert waits for the lock before it draws an id. It is held for this moment alone.
            cursor.execute(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")
            cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", [name])
            sequence = cursor.fetchone()[0]
            highest = (
                f"GREATEST((SELECT COALESCE(MAX(id), 0) FROM {name}), (SELECT last_value FROM {sequence}))"  # noqa: S608
            )
            cursor.execute(f"SELECT setval(%s, {highest} + %s)", [sequence, span])
            return int(cursor.fetchone()[0]) - among.last
        # SQLite has one writer at a time; its counter is moved ahead for good, as a sequence is.
        cursor.execute("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = %s", [name])
        counted = int(cursor.fetchone()[0])
        cursor.execute(f"SELECT COALESCE(MAX(id), 0) FROM {name}")  # noqa: S608
        last = max(counted, int(cursor.fetchone()[0])) + span
        cursor.execute("UPDATE sqlite_sequence SET seq = %s WHERE name = %s", [last, name])
        if cursor.rowcount == 0:
            cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [name, last])
        return last - among.last


# --- People ------------------------------------------------------------------------------------------------------


def _people(restoration: Restoration, accounts: Mapping[str, User]) -> dict[int, int]:
    """Return the account here of each person of the archive: one that was named, or a new one that none can enter."""
    found: dict[int, int] = {}
    known = set(accounts)
    for number, row in restoration.reader.rows(PEOPLE):
        pk, name = row.get("id"), row.get("name")
        if type(pk) is not int or not isinstance(name, str) or not re.fullmatch(r"annotator-\d{1,18}", name):
            raise line_error(PEOPLE, number, _("it is not a person"))
        known.discard(name)
        person = accounts.get(name) or _new_person(restoration, name, is_imported=row.get("imported") is True)
        if person.pk in found.values():
            raise ArchiveError(
                _("Two people of the archive cannot be the one account %(name)s.") % {"name": person}
            )
        found[pk] = person.pk
    if known:
        raise ArchiveError(_("The archive knows no %(name)s.") % {"name": min(known)})
    return found


def _new_person(restoration: Restoration, name: str, *, is_imported: bool) -> User:
    """Return a new account without a password, which is not active."""
    stem = f"{name}.{restoration.slug}"
    names = (f"{stem}.{uuid.uuid4().hex[:6]}" if tries else stem for tries in range(9))
    username = next(name for name in names if not User.objects.filter(username=name).exists())
    named: dict[str, Any] = {}
    if is_imported and "imported_into" in {one.name for one in User._meta.get_fields()}:
        named = {"imported_into_id": restoration.project_id, "external_name": name}
    person = User(username=username, is_active=False, **named)
    person.set_unusable_password()
    person.save()
    return person


def _finish(restoration: Restoration, admin: User | None) -> Project:
    """Return the project with its current policy, its admin, and an entry of its trail."""
    project = Project.objects.get(pk=restoration.project_id)
    [(number, row)] = restoration.reader.rows(next(table.member for table in TABLES))
    try:
        if row.get("current_policy") is not None:
            project.current_policy_id = restoration.here("policies", row["current_policy"])
            project.save(update_fields=["current_policy"])
    except ValueError as error:
        raise line_error("tables/project.jsonl", number, str(error)) from None
    if admin is not None:
        Membership.objects.update_or_create(project=project, user=admin, defaults={"role": Role.ADMIN})
    trail.record(
        trail.Verb.MOVED_IN, None, project=project, target=str(restoration.reader.manifest.get("project"))
    )
    return project


def _check_digests(project: Project) -> None:
    """Check that each snapshot is, to the byte, what its digest says, unless something of it was forgotten."""
    for snapshot in Snapshot.objects.filter(project=project, forgotten=0):
        sha = hashlib.sha256()
        for line in exact_lines(snapshot):
            sha.update(line)
        if sha.hexdigest() != snapshot.digest:
            sentence = _("The pairs of snapshot %(digest)s are not those that its digest names.")
            raise ArchiveError(sentence % {"digest": snapshot.digest[:12]})


# --- Files -------------------------------------------------------------------------------------------------------


def _unpack(restoration: Restoration, aside: Path) -> None:
    """Write the archive's files below `aside`. Their names were checked; each part of a path is chosen here."""
    for name in restoration.reader.manifest["members"]:
        kind, number, *rest = name.split("/")
        if kind == "tables":
            continue
        folder = f"{restoration.slug}-{number}" if kind == "rounds" else f"{restoration.slug}-policy-{number}"
        path = aside.joinpath(folder, *rest)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for chunk in restoration.reader.chunks(name):
                file.write(chunk)


def _rename_in_reports(restoration: Restoration, aside: Path) -> None:
    """Let what probes said of annotators name those of here. A file that cannot be read stays as it is."""
    for file in sorted(aside.glob("*/done.json")):
        if file.stat().st_size > LONGEST_LINE:
            continue
        try:
            done = json.loads(file.read_bytes())
        except (ValueError, RecursionError):
            continue
        if not isinstance(done, dict) or "probe" not in done:
            continue
        try:
            write_json(file, restoration.rename_people(done))
        except ValueError as error:
            sentence = _("%(name)s cannot be restored: %(why)s.")
            raise ArchiveError(sentence % {"name": f"{file.parent.name}/done.json", "why": error}) from None


def _place(restoration: Restoration, aside: Path) -> list[Path]:
    """Move the unpacked folders to where rounds have theirs. Return the new ones."""
    placed: list[Path] = []
    try:
        for folder in sorted(aside.iterdir()) if aside.is_dir() else ():
            target = site.RUNS / folder.name
            if target.exists():
                raise ArchiveError(
                    _("%(folder)s exists already; choose another --slug.") % {"folder": target.name}
                )
            folder.rename(target)
            placed.append(target)
            folders.store(f"runs/{target.name}")
    except BaseException:
        _remove(placed)
        raise
    return placed


def _remove(placed: list[Path]) -> None:
    """Remove folders that were placed, and what the storage has of them. Their rows are rolled back."""
    for folder in placed:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folders.unstore(f"runs/{folder.name}")
