"""Archives of adapters from outside: the two files that are wanted are unpacked, and nothing else is written."""

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Self, cast

from django.conf import settings as site
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from primitives.text import printable
from training.usage.weights_check import CONFIG, MOST_CONFIG, WEIGHTS, make_json_error

CHUNK = 1 << 20
DESCRIPTIONS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
LONGEST_DESCRIPTION = 1024 * 1024  # bytes
MEMBERS = 10_000  # of an archive that are looked at
WANTED = (CONFIG, WEIGHTS)
PICKLES = (".bin", ".pt", ".pth", ".pkl")


def unpack(file: BinaryIO, folder: Path) -> None:
    """Write the two files of an adapter from a zip or tar archive into a folder. Raises RefusalError.

    Nothing else of the archive is written anywhere. Both must be plain files in one folder, and within the limit.
    """
    file.seek(0)
    kind = file.read(4)
    file.seek(0)
    try:
        if kind.startswith(b"PK"):
            _unpack_zip(file, folder)
        else:
            _unpack_tar(file, folder)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,
        zlib.error,
    ) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise RefusalError(_("The file is not a zip or tar archive that can be read."), "file") from error
    except RuntimeError as error:  # of zipfile, for one with a password
        raise RefusalError(_("The archive is encrypted."), "file") from error


def _unpack_zip(file: BinaryIO, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > MEMBERS:
            raise _too_many()
        links = {one.filename for one in members if (one.external_attr >> 16) & 0o170000 == 0o120000}
        files = [one for one in members if not one.is_dir()]
        names = {one.filename: one for one in files}
        for wanted, name in _places([one.filename for one in files], links).items():
            if names[name].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile  # the others unpack a whole block before it can be counted
            with archive.open(names[name]) as source:
                write_file(source, folder / wanted)


def _unpack_tar(file: BinaryIO, folder: Path) -> None:
    """Read a tar archive twice: for its names, and for the two files. Both times no more than the limit."""
    names, links = list[str](), set[str]()
    with _tar(file) as archive:
        for number, member in enumerate(archive):
            if number >= MEMBERS:
                raise _too_many()
            names.append(member.name)
            if not (member.isreg() or member.isdir()):
                links.add(member.name)
    places = {name: wanted for wanted, name in _places(names, links).items()}
    file.seek(0)
    with _tar(file) as archive:
        for member in archive:
            source = archive.extractfile(member) if member.name in places and member.isreg() else None
            if source is not None:
                write_file(source, folder / places[member.name])


class _Member(tarfile.TarInfo):
    """A member whose own description is short: `tarfile` reads a long one whole, before anything can count it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.type in DESCRIPTIONS and member.size > LONGEST_DESCRIPTION):
            raise tarfile.ReadError("A member's description is too long.")
        return member


@contextmanager
def _tar(file: BinaryIO) -> Iterator[tarfile.TarFile]:
    """Open a tar file, compressed or not, as a stream: unpacked it may be no longer than the limit."""
    with tarfile.open(fileobj=cast(Any, _Limited(file)), mode="r|*", tarinfo=_Member) as archive:
        limited = cast(Any, archive)
        read, room = limited.fileobj.read, [site.IMPORT_LIMIT * 2]

        def counted(size: int) -> bytes:
            content: bytes = read(size)
            room[0] -= len(content)
            if room[0] < 0:
                raise too_large()
            return content

        limited.fileobj.read = counted
        yield archive


class _Limited:
    """The file alone, without what `tarfile` might close."""

    def __init__(self, file: BinaryIO) -> None:
        self.read: Callable[[int], bytes] = file.read


def _places(names: list[str], links: set[str]) -> dict[str, str]:
    """Return where an archive keeps each of the two files. Raises RefusalError, saying what is wrong with it."""
    found: dict[str, str] = {}
    for name in names:
        path = PurePosixPath(name)
        if path.name not in WANTED:
            continue
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise RefusalError(_("The archive holds a path that leads elsewhere."), "file")
        if name in links:
            raise RefusalError(_("The archive holds a link in the place of a file."), "file")
        if found.get(path.name) == name:
            sentence = _("The archive holds a file twice: %(name)s.")
            raise RefusalError(sentence % {"name": printable(name)}, "file")
        if path.name in found:
            raise RefusalError(_("The archive holds more than one adapter. Pack one alone."), "file")
        found[path.name] = name
    if missing := [one for one in WANTED if one not in found]:
        pickled = [name for name in names if PurePosixPath(name).name.endswith(PICKLES)]
        if WEIGHTS in missing and pickled:
            sentence = _(
                "Only safetensors are read, and the weights are in %(name)s. Save them with PEFT once more."
            )
            raise RefusalError(sentence % {"name": printable(pickled[0])}, "file")
        raise RefusalError(_("The archive holds no %(name)s.") % {"name": missing[0]}, "file")
    if PurePosixPath(found[CONFIG]).parent != PurePosixPath(found[WEIGHTS]).parent:
        raise RefusalError(_("The two files of the adapter are in different folders."), "file")
    return found


def write_file(source: IO[bytes], path: Path) -> None:
    """Copy a file of an adapter, no more than its limit, and have it on the disk."""
    room = MOST_CONFIG if path.name == CONFIG else int(site.IMPORT_LIMIT)
    with path.open("xb") as file:
        while content := source.read(CHUNK):
            room -= len(content)
            if room < 0:
                raise make_json_error(CONFIG) if path.name == CONFIG else too_large()
            file.write(content)
        file.flush()
        os.fsync(file.fileno())


def too_large() -> RefusalError:
    megabytes = site.IMPORT_LIMIT // 1024 // 1024
    sentence = _("The adapter is larger than %(megabytes)d MB (WHETSTONE_IMPORT_MEGABYTES).")
    return RefusalError(sentence % {"megabytes": megabytes}, "file")


def _too_many() -> RefusalError:
    return RefusalError(_("The archive holds too many files. Pack the adapter alone."), "file")
