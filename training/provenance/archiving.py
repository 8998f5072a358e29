"""A project written into one file, from which another server restores it (`restoring.py`).

Rows are streamed: memory does not grow with the project. The file is of one moment: what annotators do meanwhile is
not in it, and they do not wait for it.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.models import Claim, Import, Policy, Project, User
from annotate.people.pseudonyms import pseudonym
from annotate.projects.trail import VERBS_OF_PEOPLE, rename_people
from training.engine.rundir import to_json
from training.models import Round
from training.provenance.archive_format import (
    FORMAT,
    MANIFEST,
    PEOPLE,
    REMOVED,
    RUN_FILES,
    TABLES,
    Table,
    people_fields,
    portable_adapter,
)
from training.provenance.portability import adapter_members, portable_summary
from training.storage.folders import Folder, RunFile

AT_A_TIME = 2_000
CHUNK = 1 << 20
MADE = (1980, 1, 1, 0, 0, 0)  # of each member: the same rows make the same file

Line = dict[str, Any]  # of a member, by the names of its fields


@dataclass
class Archive:
    """An archive that is being written: its zip file, and what its manifest says of the members so far."""

    zip: zipfile.ZipFile
    members: dict[str, dict[str, Any]] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, pieces: Iterable[bytes]) -> None:
        """Add a member, and note its size and its SHA-256."""
        info = zipfile.ZipInfo(name, MADE)
        info.compress_type = zipfile.ZIP_STORED if name.endswith(".safetensors") else zipfile.ZIP_DEFLATED
        sha, size = hashlib.sha256(), 0
        with self.zip.open(info, "w", force_zip64=True) as member:
            for piece in pieces:
                member.write(piece)
                sha.update(piece)
                size += len(piece)
        self.members[name] = {"sha256": sha.hexdigest(), "bytes": size}

    def add_table(self, table: Table, rows: Iterable[Line]) -> None:
        """Add a table, and note its fields, the number of its rows, and its first and last id."""
        noted: dict[str, Any] = {"rows": 0, "first": None, "last": None}
        noted["fields"] = [one.name for one in table.fields]

        def count() -> Iterator[Line]:
            for row in rows:
                noted["rows"] += 1
                noted["first"] = row["id"] if noted["first"] is None else noted["first"]
                noted["last"] = row["id"]
                yield row

        self.add(table.member, _lines(count()))
        self.tables[table.name] = noted


def write_archive(project: Project, file: BinaryIO) -> dict[str, int]:
    """Write a project's archive into `file`. Return the number of rows of each table.

    Raises RefusalError while a round runs: its worker is on this server.
    """
    with _one_moment(), zipfile.ZipFile(file, "w", allowZip64=True) as zipped:
        if running := project.rounds.filter(state__in=Round.LIVE).first():
            sentence = _("Round %(number)d is %(state)s; wait for it to end or cancel it first.")
            state = running.get_state_display().lower()
            raise RefusalError(sentence % {"number": running.number, "state": state})
        archive = Archive(zipped)
        people = _people(project)
        archive.add(PEOPLE, _lines(_people_rows(people)))
        changes = _changes(project, people)
        for table in TABLES:
            archive.add_table(table, _rows(table, project, changes.get(table.name)))
        for name, content in _files(project):
            archive.add(name, content)
        manifest = {
            "format": FORMAT,
            "project": project.slug,
            "written_at": timezone.now().isoformat(),
            "tables": archive.tables,
            "members": archive.members,
        }
        zipped.writestr(zipfile.ZipInfo(MANIFEST, MADE), json.dumps(manifest, indent=1))
    return {name: table["rows"] for name, table in archive.tables.items()}


@contextmanager
def _one_moment() -> Iterator[None]:
    """Read everything as it is at one moment, and let others write meanwhile."""
    if connection.in_atomic_block:
        yield
        return
    usual = getattr(connection, "transaction_mode", None)
    if connection.vendor == "sqlite":
        connection.transaction_mode = "DEFERRED"  # type: ignore[attr-defined]
    try:
        with transaction.atomic():
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield
    finally:
        if connection.vendor == "sqlite":
            connection.transaction_mode = usual  # type: ignore[attr-defined]


# --- Rows --------------------------------------------------------------------------------------------------------


def _people(project: Project) -> dict[int, User]:
    """Return all whom a row of the project names, by id."""
    found: set[int] = set()
    for table in TABLES:
        for one in people_fields(table):
            found |= set(table.rows(project).order_by().values_list(one.attname, flat=True).distinct())
    return {person.pk: person for person in User._base_manager.filter(pk__in=found - {None}).order_by("pk")}


def _people_rows(people: dict[int, User]) -> Iterator[Line]:
    """Yield a person as an archive knows them: a number, a pseudonym, and whether a file named them."""
    for pk, person in people.items():
        yield {
            "id": pk,
            "name": pseudonym(pk),
            "imported": getattr(person, "imported_into_id", None) is not None,
        }


def _rows(table: Table, project: Project, change: Callable[[Line], None] | None) -> Iterator[Line]:
    names = {one.attname: one.name for one in table.fields}
    for values in table.rows(project).values(*names).iterator(chunk_size=AT_A_TIME):
        row = {name: values[attname] for attname, name in names.items()}
        if change is not None:
            change(row)
        yield row


def _changes(project: Project, people: dict[int, User]) -> dict[str, Callable[[Line], None]]:
    """Return what is changed in the rows of a table so that they can leave: leases, folders, names of people."""
    folders = dict(project.rounds.values_list("folder", "number"))
    adapters = {
        policy.adapter: portable_adapter(policy.adapter, policy.pk, folders)
        for policy in project.policies.exclude(adapter="").order_by("-pk")
    }
    names = {name: pseudonym(pk) for pk, one in people.items() for name in (one.username, one.email) if name}
    # What a file calls a person may be the username of another: then nothing tells which of them is meant.
    listed = {
        one.external_name: REMOVED if one.external_name in names else pseudonym(pk)
        for pk, one in people.items()
        if one.external_name
    }
    listed = names | listed

    def release_claim(row: Line) -> None:
        if row["state"] in Claim.HOLDING:
            row["state"] = Claim.State.RELEASED.value

    def cancel_import(row: Line) -> None:
        if row["state"] in Import.LIVE:
            row["state"] = Import.State.CANCELLED.value

    def move_adapter(row: Line) -> None:
        row["adapter"] = adapters.get(row["adapter"], "")

    def move_folders(row: Line) -> None:
        row["folder"] = f"rounds/{row['number']}"
        config = row["settings"].get("config", {})
        if config.get("start_adapter"):
            config["start_adapter"] = adapters.get(config["start_adapter"])
        if config.get("reference", "start") not in ("start", "base"):
            config["reference"] = adapters.get(config["reference"], config["reference"])

    def rename_people_of(row: Line) -> None:
        row["who_name"] = _name_of(row["who"], row["who_name"], people, names)
        if row["verb"] in VERBS_OF_PEOPLE:
            row["target"] = _name_of(row["subject"], row["target"], people, names)
        row["details"] = rename_people(row["details"], names, listed, stranger=REMOVED)
        for name in ("who", "subject"):  # an account that is gone
            row[name] = row[name] if row[name] in people else None

    return {
        "claims": release_claim,
        "imports": cancel_import,
        "policies": move_adapter,
        "rounds": move_folders,
        "trail": rename_people_of,
    }


def _name_of(pk: int | None, name: str, people: dict[int, User], names: dict[str, str]) -> str:
    if not name:
        return ""
    return pseudonym(pk) if pk in people else names.get(name, REMOVED)


def _lines(rows: Iterable[Line]) -> Iterator[bytes]:
    for row in rows:
        text = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_as_text)
        yield text.encode() + b"\n"


def _as_text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no form in an archive.")


# --- Files -------------------------------------------------------------------------------------------------------


def _files(project: Project) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield the files of the rounds and the adapters of the policies that the storage or this machine has."""
    folders = dict(project.rounds.values_list("folder", "number"))
    for policy in project.policies.filter(kind=Policy.Kind.ADAPTER).order_by("pk"):
        place = portable_adapter(policy.adapter, policy.pk, folders)
        for name, source in adapter_members(Folder(policy.adapter)).items():
            yield f"{place}/{name}", [source] if isinstance(source, bytes) else _chunks(source)
    for round_ in project.rounds.order_by("number"):
        round_.project = project
        folder = Folder(round_.folder)
        for name in RUN_FILES:
            found = folder.find(name)
            if found is None:
                continue
            if name == "done.json":
                summary = portable_summary(round_, json.loads(found.read_bytes()))
                yield f"rounds/{round_.number}/{name}", [to_json(summary, indent=2).encode() + b"\n"]
            else:
                yield f"rounds/{round_.number}/{name}", _chunks(found)


def missing_adapters(project: Project) -> list[Policy]:
    """Return the policies whose adapter is nowhere to be found: they are archived without their weights."""
    adapted = project.policies.filter(kind=Policy.Kind.ADAPTER).order_by("pk")
    return [policy for policy in adapted if not Folder(policy.adapter).exists()]


def _chunks(found: RunFile) -> Iterator[bytes]:
    with found.open() as file:
        while chunk := file.read(CHUNK):
            yield chunk
