"""A project restored from its archive, on any server: other ids, the same content, the same hashes. All, or nothing.

Each table gets a range of ids of its own, so an id of the archive and its id here differ by one number for the whole
table: no map of ids is kept in memory, rows keep their order, and a snapshot can still say the ids of its digest.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings as site
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, connection, models, transaction
from django.utils.translation import gettext as _

from annotate.models import Membership, Project, Role, Snapshot, User
from annotate.pairs.snapshots import exact_lines
from annotate.projects import trail
from annotate.projects.lifecycle import free_slug
from training.models import StoredFile
from training.provenance.archive_format import ADAPTER, BATCHES, OF_AN_IMPORT, PEOPLE, TABLES, Table
from training.provenance.archive_reader import ArchiveError, ArchiveReader, line_error
from training.storage import folders

AT_A_TIME = 500
SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
TABLE_OF = {table.model: table.name for table in TABLES}


@dataclass
class Restoration:
    """A restoration under way: the new project, and what the ids, people and places of the archive are here."""

    reader: ArchiveReader
    slug: str
    shifts: dict[str, int] = field(default_factory=dict)  # table -> id here minus id there
    people: dict[int, int] = field(default_factory=dict)

    @property
    def project_id(self) -> int:
        return self.reader.ranges["project"].first + self.shifts["project"]

    def here(self, table: str, pk: Any) -> int:
        """Return the id here of an id in the archive. Raises ValueError for one of no row of the archive."""
        among = self.reader.ranges[table]
        if type(pk) is not int or not among.rows or not among.first <= pk <= among.last:
            raise ValueError(_("it names a row that the archive does not hold"))
        return pk + self.shifts[table]

    def place(self, adapter: str) -> str:
        """Return the folder here, below var/, of an adapter of the archive."""
        found = ADAPTER.fullmatch(adapter)
        if found is None:
            raise ValueError(_("it names no adapter of the archive"))
        return (
            f"{self.folder(found[1])}/adapter" if found[1] else f"runs/{self.slug}-policy-{found[2]}/adapter"
        )

    def folder(self, number: Any) -> str:
        """Return the folder here, below var/, of a round by its number."""
        return f"runs/{self.slug}-{number}"


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
            for table in TABLES:
                _insert(restoration, table)
            connection.check_constraints([table.model._meta.db_table for table in TABLES])
            project = _finish(restoration, admin)
            _check_digests(project)
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


# --- Rows --------------------------------------------------------------------------------------------------------


def _insert(restoration: Restoration, table: Table) -> None:
    """Insert a table's rows, in the order of their ids. The foreign keys are checked by the database at the end."""
    some: list[models.Model] = []
    count = 0
    for row in _instances(restoration, table):
        some.append(row)
        count += 1
        if len(some) >= AT_A_TIME:
            table.model._base_manager.bulk_create(some)
            some = []
    table.model._base_manager.bulk_create(some)
    if count != restoration.reader.ranges[table.name].rows:
        raise ArchiveError(
            _("The table %(name)s does not have the rows that the manifest says.") % {"name": table.name}
        )


def _instances(restoration: Restoration, table: Table) -> Iterator[models.Model]:
    fields = {one.name: one for one in table.fields}
    before = 0
    for number, row in restoration.reader.rows(table.member):
        try:
            if unknown := row.keys() - fields.keys():
                raise ValueError(_("this version knows no “%(name)s”") % {"name": min(unknown)})
            pk = restoration.here(table.name, row.get("id"))
            if pk <= before:
                raise ValueError(_("its id does not come after the one before it"))
            before = pk
            values = {
                fields[name].attname: _value(restoration, fields[name], value) for name, value in row.items()
            }
            yield _instance(restoration, table, values | {"id": pk})
        except (ValueError, TypeError, OverflowError, ValidationError) as error:
            why = "; ".join(error.messages) if isinstance(error, ValidationError) else str(error)
            raise line_error(table.member, number, why) from None
        except (KeyError, AttributeError):
            raise line_error(table.member, number, _("it lacks a field, or one is of another kind")) from None


def _value(restoration: Restoration, one: models.Field[Any, Any], value: Any) -> Any:
    """Return a value of a row as its field holds it here. Raises ValueError or ValidationError."""
    if value is None:
        if not one.null:
            raise ValueError(_("%(name)s is missing") % {"name": one.name})
        return None
    related = one.related_model
    if related is User:
        if value not in restoration.people:
            raise ValueError(_("%(name)s is a person whom the archive does not know") % {"name": one.name})
        return restoration.people[value]
    if related is not None and not one.primary_key:
        return restoration.here(TABLE_OF[related], value)
    if isinstance(one, models.JSONField):
        if one.default in (dict, list) and not isinstance(value, one.default):
            raise ValueError(_("%(name)s is of another kind") % {"name": one.name})
        return value
    found = one.to_python(value)
    if found not in one.empty_values:
        one.run_validators(found)
    if one.choices and found != "" and found not in _choices(one):
        raise ValueError(_("%(name)s cannot be “%(value)s”") % {"name": one.name, "value": str(value)[:80]})
    if one.name in BATCHES and (named := OF_AN_IMPORT.fullmatch(found)):
        return _batch(restoration, int(named[1]))
    return found


@cache
def _choices(one: models.Field[Any, Any]) -> frozenset[Any]:
    """Return what a field may hold, which Django would list for every value."""
    return frozenset(key for key, _label in one.flatchoices)


def _batch(restoration: Restoration, pk: int) -> str:
    """Return the name here of what an import brought in. One that is gone must not be mistaken for one of here."""
    try:
        return f"import {restoration.here('imports', pk)}"
    except ValueError:
        return f"moved import {pk}"


def _instance(restoration: Restoration, table: Table, values: dict[str, Any]) -> models.Model:
    """Return the row, with what is different here: its slug, folders, tokens, and how far a snapshot's ids moved."""
    match table.name:
        case "project":
            values |= {"slug": restoration.slug, "current_policy_id": None}
        case "policies" if values.get("adapter"):
            values["adapter"] = restoration.place(values["adapter"])
        case "rounds":
            values["folder"] = restoration.folder(values["number"])
            config = values["settings"].get("config", {})
            if config.get("start_adapter"):
                config["start_adapter"] = restoration.place(config["start_adapter"])
        case "snapshots":
            for name, shifted in (("comparison_shift", "comparisons"), ("judgment_shift", "judgments")):
                values[name] = values.get(name, 0) + restoration.shifts[shifted]
    for one in table.model._meta.concrete_fields:
        if isinstance(one, models.UUIDField):
            values[one.attname] = uuid.uuid4()
    return table.model(**values)


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
