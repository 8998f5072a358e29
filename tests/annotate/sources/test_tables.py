"""Tables of surveys, whose headers have further rows, and workbooks."""

import csv
import html
import io

import pytest

from annotate.imports.reader import Reader
from annotate.sources.lines import as_lines
from tests.annotate.sources.test_lines import LIMIT, xlsx

pytestmark = pytest.mark.once  # files, which no database sees

HEADER, IDS = ["prompt", "topic"], ['{"ImportId":"QID1_TEXT"}', '{"ImportId":"QID2","x":1}']
SURVEY = [HEADER, ["Write one", "Say what of"], IDS, ["Sky?", "air"], HEADER, ["Sea?", "water"]]


def cells(rows: list[list[str]]) -> dict[str, str]:
    texts = {
        f"{column}{number}": text
        for number, row in enumerate(rows, 1)
        for column, text in zip("AB", row, strict=False)
    }
    return {place: html.escape(text) for place, text in texts.items()}


def as_csv(rows: list[list[str]]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue().encode()


def prompts(content: bytes, name: str) -> list[str]:
    with as_lines(io.BytesIO(content), name, LIMIT) as found:
        return [record["prompt"] for _line, record in Reader(found.file, found.format, raw=True)]


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx"])
def test_headers_below_the_header_are_no_records(name: str) -> None:
    content = as_csv(SURVEY) if name == "a.csv" else xlsx(cells(SURVEY))
    assert prompts(content, name) == ["Sky?", "Sea?"]


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx"])
def test_rows_that_only_resemble_headers_are_records(name: str) -> None:
    rows = [HEADER, ["prompt", "topic of"], [IDS[0], "air"], [IDS[1]], ["Sea?", "water"]]
    content = as_csv([row + [""] * (2 - len(row)) for row in rows]) if name == "a.csv" else xlsx(cells(rows))
    assert prompts(content, name) == ["prompt", IDS[0], IDS[1], "Sea?"]


@pytest.mark.parametrize("characters", [10_000, 100_000])
def test_headers_below_the_header_may_be_long(characters: int) -> None:
    survey = [HEADER, ["Write one:\n" + "x" * characters, "Say what of"], *SURVEY[2:]]
    assert prompts(as_csv(survey), "a.csv") == ["Sky?", "Sea?"]


def test_a_first_record_without_an_end_is_read_up_to_a_bound() -> None:
    file = io.BytesIO(b'prompt,topic\n"Sky?' + b"\n" * 4_000_000)
    Reader(file, "csv", raw=True)
    assert file.tell() < 1_100_000


def test_a_table_of_one_column_may_say_its_name() -> None:
    for content, name in ((b"prompt\nprompt\n", "a.csv"), (xlsx(cells([["prompt"], ["prompt"]])), "a.xlsx")):
        assert prompts(content, name) == ["prompt"]
