"""Parquet and workbooks, read in a process of their own: a few hundred bytes of them can unpack to all memory there is.

No size in such a file is to be trusted, and libraries hold whole pages and sheets. So memory is what is bounded, and a
library that crashes takes no web server with it. The process gets the file, and nothing of the site's environment.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO, cast

import orjson
from django.conf import settings
from django.utils.translation import gettext as _

from annotate.sources import tables
from annotate.sources.errors import FileError

MEMORY = 2 << 30  # bytes; what a sheet of as many cells as are taken needs is less than half of it
SECONDS = 1_800  # of processor time
REFUSED = 3  # the exit status after a FileError
ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
OPTIONS = orjson.OPT_NON_STR_KEYS


def read_lines(file: BinaryIO, container: str) -> Iterator[bytes]:
    """Yield the rows of a Parquet file or a workbook as lines of JSON, empty for blank rows. Raises FileError."""
    with tempfile.TemporaryFile() as copy, tempfile.TemporaryFile() as told:
        file.seek(0)
        copyfileobj(file, copy)
        copy.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-m", __name__, container, str(MEMORY)],
            stdin=copy,
            stdout=subprocess.PIPE,
            stderr=told,
            cwd=Path(__file__).resolve().parents[2],
            env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        )
        try:
            for line in cast(BinaryIO, child.stdout):
                yield line.removesuffix(b"\n")
            status = child.wait()
        finally:
            child.kill()
            child.wait()
            cast(BinaryIO, child.stdout).close()
        if status:
            told.seek(0)
            raise FileError(told.read().decode() if status == REFUSED else _explain_end())


def _explain_end() -> str:
    """Explain why the process ended: it needed too much, or a library failed."""
    return _(
        "The file cannot be read with %(limit)s MB of memory. Save it as JSON Lines or CSV, and import that."
    ) % {"limit": f"{MEMORY >> 20:,}"}


def write_lines(file: BinaryIO, container: str, out: BinaryIO) -> None:
    """Write the rows of a file as lines of JSON. Raises FileError."""
    rows = tables.parquet_records(file) if container == "parquet" else tables.xlsx_records(file)
    for row in rows:
        out.write((b"" if row is None else _as_json(row)) + b"\n")


def _as_json(row: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, default=tables.as_json, option=OPTIONS)
    except TypeError:  # text that is not UTF-8, a whole number above 64 bits: named by the row's check
        return json.dumps(row, default=tables.as_json).encode()


def main(container: str, memory: int) -> int:
    """Read the file that is the standard input, within bounds. Return the exit status."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    settings.configure(USE_I18N=False)
    try:
        write_lines(sys.stdin.buffer, container, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except FileError as error:
        sys.stderr.buffer.write(str(error).encode("utf-8", "replace"))
        return REFUSED
    except MemoryError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
