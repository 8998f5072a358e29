"""Compressed files, unpacked: `.gz`, `.zst`, and a `.zip` with one file. What comes out of them is bounded."""

import gzip
import io
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO

import zstandard
from django.utils.translation import gettext as _

from annotate.sources.errors import FileError
from primitives.text import printable

GZIP, ZSTD, ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
EMPTY_ZIP = b"PK\x05\x06"
CHUNK = 1024 * 1024
WINDOW = 128 * 1024 * 1024  # bytes that a frame of zstd may ask for: what `zstd -19 --long` uses at most
PIECE = 1024  # bytes of zstd unpacked at a time: at most 32 MiB come of them
IN_MEMORY = 4 * 1024 * 1024  # of an unpacked file; the rest is on the disk
MEMBERS = 1_000  # of a zip, looked at


def find_compression(head: bytes) -> str:
    """Return how a file that begins like this is packed: gz, zst, zip, or an empty text. An XLSX is a zip, too."""
    if head.startswith(GZIP):
        return "gz"
    if head.startswith(ZSTD):
        return "zst"
    return "zip" if head.startswith((ZIP, EMPTY_ZIP)) else ""


@contextmanager
def unpacked(file: BinaryIO, limit: int) -> Iterator[tuple[BinaryIO, str, str]]:
    """Yield the file without its packing, how it was packed, and the name inside a zip. Raises FileError.

    What was packed is copied to a temporary file, which can be read from any place.
    """
    file.seek(0)
    compression = find_compression(file.read(8))
    file.seek(0)
    if not compression or (compression == "zip" and is_xlsx(file)):
        file.seek(0)
        yield file, "", ""
        return
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as copy:
        name = _unpack(file, compression, copy, limit)  # type: ignore[arg-type]
        copy.seek(0)
        if inner := find_compression(copy.read(8)):
            copy.seek(0)
            if inner != "zip" or not is_xlsx(copy):  # type: ignore[arg-type]
                raise FileError(_("The file is packed twice. Unpack it once, and upload what was inside."))
        copy.seek(0)
        yield copy, compression, name  # type: ignore[misc]


def is_xlsx(file: BinaryIO) -> bool:
    """Return whether a zip is a workbook of Excel's."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return False
    return "[Content_Types].xml" in names and any(name.startswith("xl/") for name in names)


def check_unpacked_size(archive: zipfile.ZipFile, limit: int) -> None:
    """Read all members of a zip, which may lie about their sizes. Raises FileError if they are too large together."""
    read = 0
    for member in archive.infolist():
        with archive.open(member) as stream:
            while part := stream.read(CHUNK):
                read += len(part)
                if read > limit:
                    raise FileError(too_large(limit))


def too_large(limit: int) -> str:
    """Return the sentence about a file that unpacks to more than is taken."""
    return _("Unpacked, the file has more than %(limit)s MB. Split it, and import the parts.") % {
        "limit": f"{max(1, limit // 1024 // 1024):,}"
    }


def _unpack(file: BinaryIO, compression: str, copy: BinaryIO, limit: int) -> str:
    try:
        if compression == "gz":
            with gzip.GzipFile(fileobj=file) as stream:
                _copy(stream, copy, limit)
        elif compression == "zst":
            _unpack_zst(file, copy, limit)
        else:
            return _unpack_zip(file, copy, limit)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise FileError(_("The file is broken: it cannot be unpacked to its end.")) from error
    return ""


def _unpack_zst(file: BinaryIO, copy: BinaryIO, limit: int) -> None:
    """Unpack frame by frame. A stream reader of zstandard's would take a file that was cut for a whole one."""
    opened = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    frame, written, is_begun = opened.decompressobj(), 0, False
    while part := file.read(PIECE):
        while part:
            is_begun = True
            found = frame.decompress(part)
            written += len(found)
            if written > limit:
                raise FileError(too_large(limit))
            copy.write(found)
            part = b""
            if frame.eof:
                part, frame, is_begun = frame.unused_data, opened.decompressobj(), False
    if is_begun:
        raise EOFError


def _unpack_zip(file: BinaryIO, copy: BinaryIO, limit: int) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            members = [one for one in archive.infolist()[:MEMBERS] if not _is_clutter(one)]
            if len(members) != 1:
                raise FileError(_several(members))
            if members[0].flag_bits & 1:
                raise FileError(_("The zip is locked by a password. Unpack it, and upload the file."))
            with archive.open(members[0]) as stream:
                _copy(stream, copy, limit)
            return members[0].filename
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise FileError(_("The file is broken: it cannot be unpacked to its end.")) from error


def _is_clutter(member: zipfile.ZipInfo) -> bool:
    """Return whether a member is a folder, or what macOS adds."""
    name = member.filename
    return member.is_dir() or name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


def _several(members: list[zipfile.ZipInfo]) -> str:
    if not members:
        return _("The zip holds no file.")
    names = ", ".join(f"“{printable(member.filename, 60)}”" for member in members[:3])
    return _("The zip holds several files (%(names)s …). Upload them one at a time.") % {"names": names}


def _copy(stream: io.BufferedIOBase | IO[bytes], copy: BinaryIO, limit: int) -> None:
    written = 0
    while part := stream.read(CHUNK):
        written += len(part)
        if written > limit:
            raise FileError(too_large(limit))
        copy.write(part)
