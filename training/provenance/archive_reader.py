"""An archive from outside, checked whole before anything of it is used: names, sizes, hashes, and the shape of rows.

It may come from anyone. Nothing is unpacked to a path that it names itself, nothing larger than it says, and its rows
can point at nothing but each other.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from typing import Any, BinaryIO, cast

from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.text.json_values import parse_json
from primitives.text import printable
from training.provenance.archive_format import FORMAT, MANIFEST, MEMBER, PEOPLE, TABLES

CHUNK = 1 << 20
LONGEST_LINE = 64 << 20
LARGEST_MANIFEST = 64 << 20
MOST_BYTES = 50 << 30  # of all members together
LARGEST_ID = 2**53
SPAN = 2**40  # ids of a table that are reserved for it
DEPTH = 64
NEW = frozenset(table.name for table in TABLES if table.is_new)
NO_ROWS = {"rows": 0, "first": 0, "last": 0}  # as the manifest tells of an empty table


class ArchiveError(RefusalError):
    """An archive that cannot be restored. The message says why, in a sentence."""


@dataclass(frozen=True)
class Range:
    """The ids of a table in the archive, and how many rows it has."""

    rows: int
    first: int
    last: int


class ArchiveReader:
    """An archive whose members have been found to be what its manifest says."""

    def __init__(self, file: BinaryIO, most_bytes: int = MOST_BYTES) -> None:
        """Open and check an archive. Raises ArchiveError."""
        try:
            self.zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            raise ArchiveError(_("This is not a project archive: it is not a whole zip file.")) from None
        self.manifest = self._read_manifest()
        self._check_members(most_bytes)
        self.ranges = {table.name: self._range(table.name) for table in TABLES}
        if self.ranges["project"].rows != 1:
            raise ArchiveError(_("The archive does not hold one project."))

    def _read_manifest(self) -> dict[str, Any]:
        try:
            if self.zip.getinfo(MANIFEST).file_size > LARGEST_MANIFEST:
                raise ValueError
            manifest = json.loads(self.zip.read(MANIFEST))
            written_as = manifest["format"]
            known = isinstance(manifest["members"], dict) and isinstance(manifest["tables"], dict)
        except (
            KeyError,
            ValueError,
            TypeError,
            RecursionError,
            zipfile.BadZipFile,
            NotImplementedError,
            OSError,
        ):
            raise ArchiveError(
                _("This is not a project archive: it has no manifest that can be read.")
            ) from None
        if written_as != FORMAT or not known:
            sentence = _(
                "The archive is of the format %(format)s; this version of Whetstone reads %(known)s."
            )
            raise ArchiveError(sentence % {"format": printable(str(written_as)), "known": FORMAT})
        return dict(manifest)

    def _check_members(self, most_bytes: int) -> None:
        """Check each member's name, size and hash. Nothing is unpacked."""
        members = self.manifest["members"]
        infos = self.zip.infolist()
        names = [info.filename for info in infos if info.filename != MANIFEST]
        if sorted(names) != sorted(members) or len(infos) != len(names) + 1:
            raise ArchiveError(_("The archive does not hold the files that its manifest names."))
        missing = {PEOPLE, *(table.member for table in TABLES if not table.is_new)} - set(names)
        if missing:
            raise ArchiveError(_("The archive lacks %(name)s.") % {"name": min(missing)})
        total = 0
        for info in infos:
            if info.filename == MANIFEST:
                continue
            if not MEMBER.fullmatch(info.filename) or info.flag_bits & 1:
                name = printable(info.filename)
                raise ArchiveError(
                    _("The archive holds a file that does not belong there: %(name)s.") % {"name": name}
                )
            noted = members[info.filename]
            if not isinstance(noted, dict) or noted.get("bytes") != info.file_size:
                raise _damaged(info.filename)
            total += info.file_size
        if total > most_bytes:
            sentence = _("The archive holds %(size)s bytes; at most %(most)s are taken.")
            raise ArchiveError(sentence % {"size": f"{total:,}", "most": f"{most_bytes:,}"})
        for info in infos:
            if info.filename != MANIFEST:
                self._check_hash(info, members[info.filename].get("sha256"))

    def _check_hash(self, info: zipfile.ZipInfo, expected: object) -> None:
        sha = hashlib.sha256()
        for chunk in self.chunks(info.filename):
            sha.update(chunk)
        if sha.hexdigest() != expected:
            raise _damaged(info.filename)

    def _range(self, name: str) -> Range:
        noted = self.manifest["tables"].get(name, NO_ROWS if name in NEW else None)
        try:
            rows, first, last = (noted[key] or 0 for key in ("rows", "first", "last"))
            whole = all(type(value) is int for value in (rows, first, last))
        except (TypeError, KeyError):
            whole = False
        if (
            not whole
            or not 0 <= first <= last <= LARGEST_ID
            or last - first >= SPAN
            or not 0 <= rows <= last - first + 1
        ):
            raise ArchiveError(_("The manifest says nothing usable of the table %(name)s.") % {"name": name})
        return Range(rows, first, last)

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a member, never more of it than its size. Raises ArchiveError where it is damaged."""
        left = self.zip.getinfo(name).file_size
        try:
            with self.zip.open(name) as member:
                while chunk := member.read(CHUNK):
                    left -= len(chunk)
                    if left < 0:
                        raise _damaged(name)
                    yield chunk
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            EOFError,
            OSError,
            RuntimeError,
            ValueError,
        ) as error:
            raise _damaged(name) from error
        except Exception as error:
            if type(error).__module__ == "zlib":
                raise _damaged(name) from error
            raise
        if left:
            raise _damaged(name)

    def rows(self, member: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (line number, row) for each line of a table. Raises ArchiveError naming table and line."""
        number = 0
        if member not in self.manifest["members"]:
            return
        with self.zip.open(member) as packed, BufferedReader(cast(RawIOBase, packed), CHUNK) as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                try:
                    if len(line) > LONGEST_LINE:
                        raise ValueError
                    row = parse_json(line, depth=DEPTH, marks=LONGEST_LINE)
                except ValueError:
                    raise line_error(member, number, _("it is not JSON that can be stored")) from None
                if not isinstance(row, dict):
                    raise line_error(member, number, _("it is not a JSON object"))
                yield number, row


def line_error(member: str, number: int, why: str) -> ArchiveError:
    """Return the error of a line of the archive."""
    sentence = _("Line %(number)d of %(member)s cannot be restored: %(why)s.")
    return ArchiveError(sentence % {"number": number, "member": member, "why": why.rstrip(".")})


def _damaged(name: str) -> ArchiveError:
    return ArchiveError(
        _("The archive is damaged: %(name)s is not what was written.") % {"name": printable(name)}
    )
