"""Files of a few hundred bytes that would take all memory there is are refused by a process of their own."""

import io
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate.sources import confined
from annotate.sources.errors import FileError
from annotate.sources.lines import as_lines
from tests.annotate.sources.test_lines import parquet, xlsx

pytestmark = pytest.mark.once  # files, which no database sees

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
    with pytest.raises(FileError, match=r"cannot be read"), as_lines(io.BytesIO(content), "a", LIMIT):
        pass


@pytest.mark.parametrize("name", ["a.parquet", "a.xlsx"])
def test_honest_files_are_read_within_little_memory(name, monkeypatch):
    monkeypatch.setattr(confined, "MEMORY", MEMORY)
    content = parquet() if name == "a.parquet" else xlsx({"A1": "prompt", "A2": "one", "A3": "two"})
    with as_lines(io.BytesIO(content), name, LIMIT) as found:
        assert b"two" in found.file.read()


def test_rows_that_nobody_wants_any_more_end_the_process():
    rows = confined.read_lines(io.BytesIO(parquet()), "parquet")
    assert next(rows)
    rows.close()
