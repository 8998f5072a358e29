"""Any file as lines: each container and packing gives the same records, and none takes more than it may."""

import gzip
import io
import json
import zipfile
from typing import Any

import pytest
import zstandard

from annotate.imports.files.options import first_records
from annotate.sources import documents, encodings
from annotate.sources.errors import FileError
from annotate.sources.lines import SAMPLE_BYTES, Lines, as_lines, sample

ROWS = [
    {"prompt": "Żółw, «1»", "chosen": "a\nb", "rejected": "2"},
    {"prompt": "two", "chosen": "3", "rejected": "tab\there"},
]
LIMIT = 10 * 1024 * 1024


def csv(separator: str, end: str = "\n") -> bytes:
    rows = [list(ROWS[0]), *(row.values() for row in ROWS)]
    return "".join(separator.join(f'"{cell}"' for cell in row) + end for row in rows).encode()


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{**row, "left": None} for row in ROWS]), file)
    return file.getvalue()


def sheet_data(cells: dict[str, str]) -> str:
    rows: dict[str, str] = {}
    for place, text in cells.items():
        number = place.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        cell = f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'
        rows[number] = rows.get(number, "") + cell
    return "".join(f'<row r="{number}">{row}</row>' for number, row in rows.items())


def xlsx(cells: dict[str, str], **others: dict[str, str]) -> bytes:
    """Return a workbook of a sheet called One with these texts, and of others."""
    sheets = {"One": cells, **others}
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    files = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{relations}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{relations}"><sheets>'
        + "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1))
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        + "".join(
            f'<Relationship Id="r{n}" Type="{relations}/worksheet" Target="worksheets/sheet{n}.xml"/>'
            for n in range(1, len(sheets) + 1)
        )
        + "</Relationships>",
    }
    for n, data in enumerate(map(sheet_data, sheets.values()), 1):
        files[f"xl/worksheets/sheet{n}.xml"] = (
            f'<worksheet xmlns="{main}"><sheetData>{data}</sheetData></worksheet>'
        )
    return zipped(files)


def zipped(files: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def sheet() -> bytes:
    cells = {f"{column}2": name for column, name in zip("BCD", ROWS[0], strict=True)}
    for number, row in enumerate(ROWS, start=4):
        cells |= {f"{column}{number}": text for column, text in zip("BCD", row.values(), strict=True)}
    return xlsx(cells)


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


CONTAINERS = {
    "a.jsonl": b"".join(dump(row) + b"\n" for row in ROWS),
    "array.json": dump(ROWS),
    "pretty.json": json.dumps(ROWS, indent=2).encode(),
    "object.json": json.dumps({"version": 1, "about": {"rows": ROWS}}, indent=2).encode(),
    "columns.json": dump({name: [row[name] for row in ROWS] for name in ROWS[0]}),
    "pandas.json": dump({name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ROWS[0]}),
    "split.json": dump(
        {"columns": list(ROWS[0]), "index": [0, 1], "data": [list(row.values()) for row in ROWS]}
    ),
    "viewer.json": dump(
        {
            "features": [{"name": name} for name in ROWS[0]],
            "rows": [{"row_idx": n, "row": row, "truncated_cells": []} for n, row in enumerate(ROWS)],
        }
    ),
    "one-line.json": dump({"version": 1, "rows": ROWS}),
    "objects.json": b"\n".join(json.dumps(row, indent=1).encode() for row in ROWS),
    "named-wrongly.txt": dump(ROWS),
    "comma.csv": csv(","),
    "semicolon.csv": csv(";", "\r\n"),
    "tab.tsv": csv("\t", "\r"),
    "said.csv": b"sep=|\r\n" + csv("|", "\r\n"),
    "names.csv": csv(",").replace(b'"prompt"', b'" Prompt "', 1),
    "table.txt": csv(","),
    "utf-16.csv": csv(";").decode().encode("utf-16"),
    "mark.csv": b"\xef\xbb\xbf" + csv(","),
    "a.parquet": parquet(),
    "a.xlsx": sheet(),
}
PACKED = {
    "": lambda content, name: content,
    ".gz": lambda content, name: gzip.compress(content),
    ".zst": lambda content, name: zstandard.ZstdCompressor().compress(content),
    ".zip": lambda content, name: zipped({f"__MACOSX/{name}": b"", f"folder/{name}": content}),
}


def read(content: bytes, name: str, **options: Any) -> tuple[list[Any], Lines]:
    with as_lines(io.BytesIO(content), name, LIMIT, **options) as found:
        return first_records(found.file, found.format, found.separator), found


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("name", CONTAINERS)
def test_each_container_gives_the_same_records(name, packed):
    records, found = read(PACKED[packed](CONTAINERS[name], name), name + packed)
    assert records == ROWS
    assert found.compression == packed.removeprefix(".")


@pytest.mark.parametrize(
    ("asked", "prompt"), [("", "one"), ("One", ""), ("Two", "one"), ("Three", "another")]
)
def test_one_sheet_is_read_and_the_others_are_told(asked, prompt):
    two, three = ({"A1": "prompt", "A2": text} for text in ("one", "another"))
    with as_lines(
        io.BytesIO(xlsx({"A1": "A title"}, Two=two, Three=three)), "a.xlsx", LIMIT, sheet=asked
    ) as found:
        rows = [json.loads(line) for line in found.file.read().splitlines() if line]
    assert rows == ([{"prompt": prompt}] if prompt else [])
    assert (found.sheets, found.sheet) == (("One", "Two", "Three"), asked or "Two")


@pytest.mark.parametrize("asked", ["", "é" * 200])
def test_the_name_of_a_sheet_is_cut_and_still_names_it(asked):
    long, data = "é" * 1_000_000, {"A1": "prompt", "A2": "one"}
    content = xlsx({"A1": "A title"}, **{long: data, f"x{long}": {"A1": "prompt"}})
    with as_lines(io.BytesIO(content), "a.xlsx", LIMIT, sheet=asked) as found:
        rows = [json.loads(line) for line in found.file.read().splitlines() if line]
    assert rows == [{"prompt": "one"}]
    assert (found.sheets, found.sheet) == (("One", "é" * 200, f"x{'é' * 199}"), "é" * 200)


def test_a_sheet_that_is_not_there_is_refused_by_its_name():
    with (
        pytest.raises(FileError, match="has no sheet “Four”"),
        as_lines(io.BytesIO(xlsx({"A1": "prompt"})), "a.xlsx", LIMIT, sheet="Four"),
    ):
        pass


def test_records_of_refused_rows_are_read_from_their_file():
    refused = [
        {"line": 7, "reason": "Why.", "record": {"prompt": "½", "completion_a": "a"}},
        {"line": 9, "reason": "Why.", "record": "{broken\nrecord"},
        {"prompt": "added by hand"},
    ]
    content = b"\n".join(map(dump, refused))
    with as_lines(io.BytesIO(content), "rows-refused.jsonl", LIMIT) as found:
        lines = found.file.read().splitlines()
    assert lines == [dump(refused[0]["record"]), b"{broken record", dump(refused[2])]


@pytest.mark.parametrize("record", [[1, 2], 5, None, True, {}])
def test_a_refused_row_may_be_any_json(record):
    refused = [
        {"line": 7, "reason": "Each line must be a JSON object.", "record": record},
        {"line": 8, "reason": "Why.", "record": {"prompt": "Sky?"}},
    ]
    for rows in (refused, refused[::-1]):
        with as_lines(io.BytesIO(b"\n".join(map(dump, rows))), "rows-refused.jsonl", LIMIT) as found:
            lines = found.file.read().splitlines()
        assert lines == [dump(row["record"]) for row in rows]


def test_a_mended_refused_row_keeps_its_line_separators():
    record = '{"prompt": "one\u2028two\u0085three",\r\n "completion_a": "x"}\n'
    content = dump({"line": 7, "reason": "Why.", "record": record})
    with as_lines(io.BytesIO(content), "rows-refused.jsonl", LIMIT) as found:
        [line] = found.file.read().split(b"\n")[:-1]
    assert json.loads(line) == {"prompt": "one\u2028two\u0085three", "completion_a": "x"}


def test_records_of_tables_and_documents_are_placed_by_row():
    with as_lines(io.BytesIO(sheet()), "a.xlsx", LIMIT) as found:
        lines = found.file.read().splitlines()
    assert [bool(line) for line in lines] == [False, False, False, True, True]
    assert found.is_numbered_by_rows


def test_columns_of_pandas_are_joined_by_their_keys():
    columns = {
        "prompt": {"0": "p0", "1": "p1"},
        "chosen": {"1": "good1", "0": "good0"},
        "rejected": {"1": "bad1", "0": "bad0"},
    }
    assert read(dump(columns), "pandas.json")[0] == [
        {"prompt": "p0", "chosen": "good0", "rejected": "bad0"},
        {"prompt": "p1", "chosen": "good1", "rejected": "bad1"},
    ]


def test_one_column_of_pandas_holds_texts():
    assert read(dump({"prompt": {"0": "p0", "1": "p1"}}), "pandas.json")[0] == [
        {"prompt": "p0"},
        {"prompt": "p1"},
    ]
    record = {"scores": {"1": 5, "2": 3}}
    assert read(dump(record), "scores.json")[0] == [record]


def test_records_under_their_numbers_are_rows() -> None:
    rows = [{"prompt": "p0", "chosen": "a"}, {"prompt": "p1", "rejected": "b"}]
    for document in ({"0": rows[0], "1": rows[1]}, {"7": rows[0], "12": rows[1]}):
        assert read(dump(document), "index.json")[0] == rows
    config = {"train": rows[0], "test": rows[1]}
    assert read(dump(config), "config.json")[0] == [config]
    long = {str(number): {"prompt": "p" * 1_000_000, "n": number} for number in range(9)}
    with as_lines(io.BytesIO(dump(long)), "long.json", LIMIT) as found:
        assert [json.loads(line)["n"] for line in found.file] == [*range(9)]


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ({"2024": {"total": 5}, "rows": [{"n": 1}, {"n": 2}]}, [{"n": 1}, {"n": 2}]),
        ({"rows": [{"n": 1}, {"n": 2}], "2024": {"total": 5}}, [{"n": 1}, {"n": 2}]),
        ({"0": {"n": 1}, "1": {"n": 2}}, [{"n": 1}, {"n": 2}]),
        ({"7": {"n": 1}}, [{"n": 1}]),
        ({"0": {"n": 1}, "1": {}}, None),
        ({"0": {"n": 1}, "note": "x"}, None),
        ({"0": {"0": "x", "1": "y"}, "1": {"0": "p", "1": "q"}}, None),
    ],
    ids=str,
)
def test_numbers_hold_rows_alike_in_documents_of_any_length(document: dict[str, Any], rows: Any) -> None:
    """A long document of another shape, which would be one record or would be turned as a whole, is refused."""
    short = read(dump(document), "numbers.json")[0]
    assert rows is None or short == rows
    blanks = b" " * (documents.RECORD_LIMIT + 1)
    long = io.BytesIO(dump(document).replace(b"{", b"{" + blanks, 1))
    if rows is None:
        with pytest.raises(FileError, match="no list of records"), as_lines(long, "long.json", LIMIT):
            pass
    else:
        with as_lines(long, "long.json", LIMIT) as found:
            assert [json.loads(line) for line in found.file] == rows


def test_a_number_that_is_not_in_quotes_is_not_a_key() -> None:
    document = b'{5: {"n": 1}' + b" " * (documents.RECORD_LIMIT + 1) + b"}"
    with pytest.raises(FileError), as_lines(io.BytesIO(document), "bad.json", LIMIT):
        pass


def test_rows_whose_texts_are_cut_are_not_read() -> None:
    rows = [{"row": {"prompt": "Sk", "chosen": "b"}, "truncated_cells": ["prompt"]}]
    with pytest.raises(FileError, match="The viewer has cut texts"):
        read(dump({"features": [{"name": "prompt"}], "rows": rows}), "viewer.json")


@pytest.mark.parametrize("more", [{}, {"index": [0, 1]}])
def test_a_table_with_a_fault_is_refused_and_is_not_columns(more: dict[str, Any]) -> None:
    twins = {"columns": ["prompt", "prompt"], "data": [["a", "b"], ["c", "d"]], **more}
    short = {"columns": ["prompt", "chosen"], "data": [["a", "b"], ["c"]], **more}
    for table, sentence in (
        (twins, "two columns called “prompt”"),
        (short, "Row 2 of the table has 1 cells for 2"),
    ):
        with pytest.raises(FileError, match=sentence):
            read(dump(table), "split.json")


def test_a_record_that_holds_a_table_is_a_record() -> None:
    record = {"prompt": "Describe it.", "columns": ["a", "b"], "data": [["x", "y"]]}
    assert read(dump(record), "a.json")[0] == [record]
    assert read(json.dumps(record, indent=1).encode(), "a.json")[0] == [record]


@pytest.fixture
def small_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "RECORD_LIMIT", 40)


@pytest.mark.usefixtures("small_records")
def test_a_table_that_is_longer_than_a_record_is_read() -> None:
    table = {"columns": ["prompt", "n"], "index": [0, 1], "data": [["a\ud800", 10**20], ["ż", None]]}
    with as_lines(io.BytesIO(json.dumps(table, indent=1).encode()), "split.json", LIMIT) as found:
        rows = [json.loads(line) for line in found.file]
    assert rows == [{"prompt": "a\ud800", "n": 10**20}, {"prompt": "ż", "n": None}]


@pytest.mark.usefixtures("small_records")
@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (
            {"columns": ["a", "b"], "data": [["x", "y"] * 2] * 9},
            "Row 1 of the table has 4 cells for 2 columns",
        ),
        ({"columns": ["a", "a"], "data": [["x", "y"]] * 9}, "two columns called “a”"),
        ({"prompt": "x" * 90}, "no list of records was found in it"),
    ],
)
def test_a_long_object_without_rows_is_refused(document: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FileError, match=sentence):
        read(json.dumps(document, indent=1).encode(), "a.json")


def test_cells_under_no_name_are_kept_by_their_number() -> None:
    book = xlsx({"A1": "prompt", "A2": "Sky?", "B2": "blue", "D2": "late"})
    with as_lines(io.BytesIO(book), "a.xlsx", LIMIT) as found:
        rows = [json.loads(line) for line in found.file if line.strip()]
    assert {"prompt": "Sky?", "column 2": "blue", "column 4": "late"} in rows


def test_a_single_record_is_not_its_list():
    ranking = {"task": "Rank", "prompt": "Q", "items": [{"id": "1", "title": "A", "body": "x"}] * 2}
    chat = {"prompt": [{"role": "user", "content": "Q"}], "chosen": "a", "rejected": "b"}
    for record in (ranking, chat):
        assert read(json.dumps(record, indent=1).encode(), "a.json")[0] == [record]


def test_a_record_of_chats_is_not_an_object_of_columns():
    chats = {
        key: [{"role": role, "content": key}] for key, role in (("prompt", "user"), ("chosen", "assistant"))
    }
    record = {**chats, "rejected": [{"role": "assistant", "content": "b"}]}
    assert read(dump(record), "a.json")[0] == [record]


def test_half_a_character_in_a_list_inside_is_left_to_its_row():
    content = b'{"data": [{"prompt": "a\\ud800"}, {"prompt": "b"}]}'
    with as_lines(io.BytesIO(content), "rows.json", LIMIT) as found:
        assert [json.loads(line) for line in found.file] == [{"prompt": "a\ud800"}, {"prompt": "b"}]


def test_the_only_line_of_json_lines_is_a_record():
    record = {"query": "Q", "answers": [{"text": "a"}], "scores": [{"of": "a"}]}
    assert read(dump(record), "a.jsonl")[0] == [record]


REFUSED = {
    "lists.json": (dump({"train": ROWS, "test": ROWS}), "several lists (“train”, “test”)"),
    "broken.json": (b'[\n{"a": 1},\n{"a": ]\n', "broken at line 3"),
    "cut.json": (dump(ROWS)[:-1], "The list is not closed"),
    "more.json": (dump(ROWS) + b"x", "follows the end"),
    "deep.json": (b'[{"a": ' + b"[" * 100_000, "nested too deep"),
    "two.zip": (zipped({"a.csv": "x", "b.csv": "y"}), "several files (“a.csv”, “b.csv”"),
    "none.zip": (zipped({}), "holds no file"),
    "twice.gz": (gzip.compress(gzip.compress(b"x")), "packed twice"),
    "cut.gz": (gzip.compress(b"x" * 9_999)[:-9], "cannot be unpacked"),
    "cut.zst": (zstandard.ZstdCompressor().compress(b"\x01\x02" * 9_999)[:9], "cannot be unpacked"),
    "bomb.gz": (gzip.compress(b"x" * (LIMIT + 1)), "more than 10 MB"),
    "bomb.zip": (zipped({"a.txt": b"x" * (LIMIT + 1)}), "more than 10 MB"),
    "bomb.xlsx": (xlsx({"A1": "a", "XFD1048576": "b"}), "16,384 columns and 1,048,576 rows"),
    "cut.parquet": (parquet()[:-20], "Parquet file cannot be read"),
    "old.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "Excel 97"),
    "pointer.txt": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n",
        "pointer of Git LFS",
    ),
    "odd.csv": ("a;ż".encode("utf-16")[:-1], "not UTF-16"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_a_sentence(name):
    content, sentence = REFUSED[name]
    with pytest.raises(FileError, match=r".+") as caught:
        read(content, name)
    assert sentence in str(caught.value)


TEXTS = {
    "cp1250": "Zażółć gęślą jaźń. Chrząszcz brzmi w trzcinie, a dzięcioł stuka w sosnę pod Łodzią.",
    "cp1251": "Съешь же ещё этих мягких французских булок, да выпей чаю. Мама мыла раму.",
    "big5": "維基百科是一個自由的百科全書，人人可編輯。我們歡迎所有人的貢獻與知識。",
    "cp1252": "Où est passé le garçon ? Élève très doué, il préfère la forêt à l’école. Dès l’été, il s’y promène "
    "jusqu’à la tombée de la nuit, où sa mère l’appelle : « Reviens donc, le dîner est prêt ! »",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_an_encoding_is_found_or_chosen(encoding):
    content = "\n".join(TEXTS[encoding].split(" ")).encode(encoding)
    found = read(content, "a.txt")[1].encoding
    assert found == encoding
    with as_lines(io.BytesIO(content), "a.txt", LIMIT, encoding="cp437") as otherwise:
        assert otherwise.file.read() != TEXTS[encoding].replace(" ", "\n").encode()
    with as_lines(io.BytesIO(content), "a.txt", LIMIT) as lines:
        assert sample(lines.file)[0] in TEXTS[encoding]


def test_a_broken_byte_makes_no_other_encoding():
    """Most lines are UTF-8: the others are refused by their line."""
    content = "\n".join(["zażółć"] * 5).encode() + b"\n\xe9t\xe9\n"
    records, found = read(content, "a.txt")
    assert (found.encoding, found.is_turned, len(records)) == ("utf-8", False, 5)
    assert encodings.find_codec("latin1") == "iso8859-1"
    assert (encodings.find_codec("UTF8"), encodings.find_codec("zip"), encodings.find_codec("?")) == (
        "utf-8",
        "",
        "",
    )


def test_lines_beyond_ascii_are_shown_wherever_they_come():
    content = "".join([*(f"Plain row {row}\n" for row in range(9000)), "Señor, ¿qué pasó?\n"]).encode()
    assert len(content) > SAMPLE_BYTES
    assert sample(io.BytesIO(content)) == ["Señor, ¿qué pasó?"]
