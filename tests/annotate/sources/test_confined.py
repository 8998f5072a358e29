"""Files of a few hundred bytes that would take all memory there is are refused by a process of their own."""

import gzip
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.files.uploadedfile import TemporaryUploadedFile

from annotate.sources import confined
from annotate.sources.errors import FileError
from annotate.sources.lines import as_lines
from tests.annotate.sources.test_lines import ROWS, parquet, xlsx

LIMIT = 1 << 30
MEMORY = 512 << 20  # bytes, in which honest files of tests are read


def repeating_parquet() -> bytes:
    """Return a file whose 256 rows are one text of 4 MB."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 256, pa.int32()), pa.array(["a" * (4 << 20)]))
    file = io.BytesIO()
    pq.write_table(pa.table({"prompt": column}), file, compression="zstd", store_schema=False)
    return file.getvalue()


def repeating_workbook() -> bytes:
    """Return a workbook whose 100 cells are one shared text of 10 MB."""
    file, sheet = io.BytesIO(), io.BytesIO(xlsx({f"A{number}": "x" for number in range(1, 101)}))
    text = "a" * (10 << 20)
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings"
    with zipfile.ZipFile(sheet) as before, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in before.namelist():
            content = before.read(name).decode()
            content = content.replace(
                'inlineStr"><is><t xml:space="preserve">x</t></is></c>', 's"><v>0</v></c>'
            )
            shared = f'<Relationship Id="rId99" Type="{kind}" Target="sharedStrings.xml"/></Relationships>'
            if name == "xl/_rels/workbook.xml.rels":
                content = content.replace("</Relationships>", shared)
            archive.writestr(name, content)
        archive.writestr("xl/sharedStrings.xml", f"<sst {main}><si><t>{text}</t></si></sst>")
    return file.getvalue()


@pytest.mark.parametrize("bomb", [repeating_parquet, repeating_workbook])
def test_a_small_file_that_unpacks_to_much_is_refused(bomb, monkeypatch):
    monkeypatch.setattr(confined, "MEMORY", MEMORY)
    content = bomb()
    assert len(content) < 20_000
    with (
        pytest.raises(FileError, match=r"cannot be read with 512 MB"),
        as_lines(io.BytesIO(content), "a", LIMIT),
    ):
        pass


@pytest.mark.parametrize("name", ["a.parquet", "a.xlsx"])
def test_honest_files_are_read_within_little_memory(name, monkeypatch):
    monkeypatch.setattr(confined, "MEMORY", MEMORY)
    content = parquet() if name == "a.parquet" else xlsx({"A1": "prompt", "A2": "one", "A3": "two"})
    with as_lines(io.BytesIO(content), name, LIMIT) as found:
        assert b"two" in found.file.read()


def spooled(content: bytes) -> Any:
    """Return a file that is in memory until it is asked for."""
    file = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115 - the test closes it
    file.write(content)
    return file


def named(content: bytes) -> Any:
    """Return a file as Django hands over a large upload."""
    upload = TemporaryUploadedFile("rows.parquet", "", len(content), None)
    upload.write(content)
    return upload


@pytest.mark.parametrize("make", [spooled, named])
def test_a_file_on_disk_is_not_copied(make: Any, monkeypatch: Any) -> None:
    monkeypatch.delattr(confined, "copyfileobj")
    with make(parquet()) as file:
        file.seek(7)
        assert len(list(confined.read_lines(file, "parquet"))) == len(ROWS)
        assert file.tell() == 7


def test_a_file_that_unpacks_itself_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet.gz"
    path.write_bytes(gzip.compress(parquet()))
    with gzip.open(path) as file:
        assert len(list(confined.read_lines(file, "parquet"))) == len(ROWS)


def test_rows_that_nobody_wants_any_more_end_the_process():
    rows = confined.read_lines(io.BytesIO(parquet()), "parquet")
    assert next(rows)
    rows.close()


def run(program: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a program in a process of its own, with a file as its standard input."""
    command = [sys.executable, "-c", program]
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        return subprocess.run(command, stdin=file, capture_output=True, check=False, timeout=300)


def test_how_many_cores_a_server_has_does_not_matter() -> None:
    file = io.BytesIO()
    texts = [f"{number} {'text ' * 40}" for number in range(2_000)]
    pq.write_table(pa.table({f"c{number}": texts for number in range(64)}), file)
    program = (
        "import os, sys, pyarrow; pyarrow.set_cpu_count(64); from annotate.sources import confined\n"
        f"status = confined.main('parquet', {MEMORY}, 100)\n"
        "print(len(os.listdir('/proc/self/task')), file=sys.stderr)\n"
        "sys.exit(status)"
    )
    done = run(program, file.getvalue())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"\n") == len(texts)
    assert int(done.stderr) <= 3  # threads: none for each core


def test_a_limit_below_what_is_wanted_stays() -> None:
    program = (
        "import resource as r; from annotate.sources import confined\n"
        "r.setrlimit(r.RLIMIT_CPU, (100, 100)); r.setrlimit(r.RLIMIT_DATA, (1 << 29, 1 << 30))\n"
        "confined._bound(2 << 30, 1800); print(r.getrlimit(r.RLIMIT_CPU), r.getrlimit(r.RLIMIT_DATA))"
    )
    assert run(program).stdout.decode().strip() == f"(95, 100) ({1 << 30}, {1 << 30})"


def test_a_row_longer_than_a_record_may_be_is_refused(
    monkeypatch: Any,
) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 3, pa.int32()), pa.array(["a" * (4 << 20)]))
    file = io.BytesIO()
    column = pa.ListArray.from_arrays(pa.array([0, 3], pa.int32()), text)
    pq.write_table(pa.table({"prompt": column}), file, compression="zstd", store_schema=False)
    with pytest.raises(FileError, match="Row 1 of the file is longer than 8 MiB"):
        list(confined.read_lines(file, "parquet"))
    monkeypatch.setattr(confined, "RECORD_LIMIT", 8)  # here, and not in the process
    with pytest.raises(FileError, match="Row 1 of the file is longer"):
        list(confined.read_lines(io.BytesIO(parquet()), "parquet"))


def test_a_file_that_takes_too_long_is_told_so(monkeypatch: Any) -> None:
    monkeypatch.setattr(confined, "SECONDS", 1)
    file = io.BytesIO()
    pq.write_table(pa.table({"prompt": pa.repeat(pa.scalar(1, pa.int8()), 19_000_000)}), file)
    with pytest.raises(FileError, match="takes more than"):
        for _line in confined.read_lines(file, "parquet"):
            pass


def test_a_library_that_fails_is_logged_and_not_called_memory(
    tmp_path: Path, monkeypatch: Any, caplog: Any
) -> None:
    (tmp_path / "python_calamine.py").write_text("raise RuntimeError('libmissing.so')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(FileError, match="could not be read here"):
        list(confined.read_lines(io.BytesIO(xlsx({"A1": "prompt"})), "xlsx"))
    assert "libmissing.so" in caplog.text


def test_a_process_that_cannot_be_started_is_logged(monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(FileError, match="could not be read here"):
        list(confined.read_lines(io.BytesIO(parquet()), "parquet"))
    assert "/nowhere/python" in caplog.text
