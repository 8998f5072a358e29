"""Parquet and workbooks, read in a process of their own: a few hundred bytes of them can unpack to all memory there is.

No size in such a file is to be trusted, and libraries hold whole pages and sheets. So memory is what is bounded, and a
library that crashes takes no web server with it. The process gets the file, and none of the site's secrets.
"""

import io
import json
import logging
import os
import signal
import stat
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
from annotate.sources.documents import RECORD_LIMIT
from annotate.sources.errors import FileError

logger = logging.getLogger(__name__)

MEMORY = 2 << 30  # bytes; what a sheet of as many cells as are taken needs is less than half of it
SECONDS = 1_800  # of processor time
GRACE = 5  # seconds between the signal that says that time is up and the one that ends the process
REFUSED, OUT_OF_MEMORY = 3, 4  # exit statuses: after a FileError, and a MemoryError
SAID = 4_096  # bytes that are read of what the process wrote to its standard error
ENVIRONMENT = (
    *("PATH", "PYTHONPATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV"),
    *("SYSTEMROOT", "TEMP", "TMP"),  # without which Windows starts no Python
)
# The bound of memory counts what is reserved, too, such as the stacks and pools of threads. Libraries start one for
# each core, so that without this a server with many cores would refuse honest files.
ONE_THREAD = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}
# What libraries that end the process say of memory: Python, Rust's, C++.
OF_MEMORY = (b"MemoryError", b"memory allocation of", b"bad_alloc")
OPTIONS = orjson.OPT_NON_STR_KEYS


def read_lines(file: BinaryIO, container: str, sheet: str = "") -> Iterator[bytes]:
    """Yield the rows of a Parquet file or a workbook as lines of JSON, empty for blank rows. Raises FileError.

    Of a workbook, the first line tells of its sheets, as `tables.xlsx_records` does.
    """
    with _on_disk(file) as given, tempfile.TemporaryFile() as told:
        child = _start(container, given, told, sheet)
        rows = cast(BinaryIO, child.stdout)
        number = _first_row(container)
        try:
            while line := rows.readline(RECORD_LIMIT + 1):
                if len(line) > RECORD_LIMIT and not line.endswith(b"\n"):
                    raise FileError(_too_long(number))
                yield line.removesuffix(b"\n")
                number += 1
            status = child.wait()
        finally:
            child.kill()
            child.wait()
            rows.close()
        if status:
            told.seek(0)
            raise FileError(_explain_end(container, status, told.read(SAID)))


def _on_disk(file: BinaryIO) -> BinaryIO:
    """Return a file that a process can be given: the same one if it is on disk, to be read alone, or a copy."""
    if (found := _opened_again(file)) is not None:
        return found
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.seek(0)
    copyfileobj(file, copy)
    copy.seek(0)
    return cast(BinaryIO, copy)


def _opened_again(file: BinaryIO) -> BinaryIO | None:
    """Return a file on disk with a place of its own, or None: one that unpacks what it reads is not what is there."""
    inner: Any = getattr(file, "file", file)  # of Django's
    if isinstance(inner, tempfile.SpooledTemporaryFile):
        inner.rollover()
        inner = inner._file
    inner = getattr(inner, "file", inner)  # of a temporary file with a name
    if not isinstance(inner, io.BufferedReader | io.BufferedRandom) or not isinstance(inner.raw, io.FileIO):
        return None
    inner.flush()
    if not stat.S_ISREG(os.fstat(inner.fileno()).st_mode):
        return None
    try:
        return open(f"/proc/self/fd/{inner.fileno()}", "rb")
    except OSError:  # not Linux
        return None


def _start(container: str, file: BinaryIO, told: BinaryIO, sheet: str) -> subprocess.Popen[bytes]:
    """Start the process that reads the file. Raises FileError."""
    known = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    try:
        return subprocess.Popen(
            [sys.executable, "-m", __name__, container, str(MEMORY), str(SECONDS), json.dumps(sheet)],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=told,
            cwd=Path(__file__).resolve().parents[2],
            env=known | ONE_THREAD,
        )
    except OSError as error:
        logger.exception("The process that reads a file (%s) could not be started", container)
        raise FileError(_not_here()) from error


def _explain_end(container: str, status: int, said: bytes) -> str:
    """Explain why the process ended: what it refused, what it needed too much of, or what only the log can tell."""
    if status == REFUSED:
        return said.decode("utf-8", "replace")
    if status == OUT_OF_MEMORY or any(words in said for words in OF_MEMORY):
        return _(
            "The file cannot be read with %(limit)s MB of memory. Save it as JSON Lines or CSV, and import that."
        ) % {"limit": f"{MEMORY >> 20:,}"}
    if status == -getattr(signal, "SIGXCPU", 0):
        return _(
            "Reading the file takes more than %(limit)s minutes. Save it as JSON Lines or CSV, and import that."
        ) % {"limit": f"{SECONDS // 60:,}"}
    logger.error("The process that read a file (%s) ended with %s. It said: %r", container, status, said)
    return _not_here()


def _not_here() -> str:
    return _("The file could not be read here. Save it as JSON Lines or CSV, and import that.")


def _first_row(container: str) -> int:
    """Return the number of the first line that is written: that of sheets comes before the rows of a workbook."""
    return 0 if container == "xlsx" else 1


def _too_long(row: int) -> str:
    return _("Row %(row)s of the file is longer than %(limit)s MiB.") % {
        "row": f"{row:,}",
        "limit": RECORD_LIMIT >> 20,
    }


# --- The process -------------------------------------------------------------------------------------------------


def write_lines(file: BinaryIO, container: str, out: BinaryIO, sheet: str = "") -> None:
    """Write the rows of a file as lines of JSON, after a line of the sheets of a workbook. Raises FileError."""
    rows = tables.parquet_records(file) if container == "parquet" else tables.xlsx_records(file, sheet)
    for number, row in enumerate(rows, start=_first_row(container)):
        line = b"" if row is None else _as_json(row)
        if len(line) > RECORD_LIMIT:
            raise FileError(_too_long(number))
        out.write(line + b"\n")


def _as_json(row: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, default=tables.as_json, option=OPTIONS)
    except TypeError:  # text that is not UTF-8, a whole number above 64 bits: named by the row's check
        return json.dumps(row, default=tables.as_json).encode()


def _bound(memory: int, seconds: int) -> None:
    """Bound what this process may take, by what it is allowed at most."""
    import resource  # noqa: PLC0415 - Windows has none: there, these files alone cannot be read

    def at_most(kind: int, wanted: int) -> int:
        hard = resource.getrlimit(kind)[1]
        return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)

    for kind, wanted, grace in (
        (resource.RLIMIT_DATA, memory, 0),
        (resource.RLIMIT_CPU, seconds, GRACE),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        most = at_most(kind, wanted + grace)
        resource.setrlimit(kind, (min(wanted, max(most - grace, 1)) if grace else most, most))


def main(container: str, memory: int, seconds: int, sheet: str = "") -> int:
    """Read the file that is the standard input, within bounds. Return the exit status."""
    _bound(memory, seconds)
    settings.configure(USE_I18N=False)
    try:
        if container == "parquet":
            _use_one_thread()
        write_lines(sys.stdin.buffer, container, sys.stdout.buffer, sheet)
        sys.stdout.buffer.flush()
    except FileError as error:
        sys.stderr.buffer.write(str(error).encode("utf-8", "replace"))
        return REFUSED
    except MemoryError:
        return OUT_OF_MEMORY
    return 0


def _use_one_thread() -> None:
    import pyarrow as pa  # noqa: PLC0415 - heavy, and of Parquet alone

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


if __name__ == "__main__":
    found = main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4]))
    sys.stderr.flush()
    os._exit(found)  # all is told: now and then, Arrow's threads abort a process that ends by itself
