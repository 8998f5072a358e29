"""Rows as lines and as CSV, in files that appear whole."""

import csv
import io
import os
from typing import Any

import pytest

from annotate.pairs.lines import csv_lines, lines, write_file


@pytest.mark.parametrize("operator", ["=", "+", "-", "@", "＝", "＋", "－", "＠"])
@pytest.mark.parametrize(
    "lead",
    ["", " ", "\t", "\r", "\n", "\u00a0", "\u200b", "\ufeff", "\u3000", "\u2060", "\x00", " \u200b\u00a0"],
)
def test_no_cell_for_spreadsheets_begins_a_formula(lead, operator):
    text = f"{lead}{operator}1+1"
    assert (cell(text, for_spreadsheets=True), cell(text)) == (f"'{text}", text)


@pytest.mark.parametrize("text", ["a=1", "1-1", "", " ", "\u200b", "“=”", "é@", "\u200ba=1"])
def test_other_text_of_a_csv_stays_as_it_is(text):
    assert cell(text, for_spreadsheets=True) == cell(text) == text


def test_numbers_for_spreadsheets_stay_numbers():
    assert cell(-0.5, for_spreadsheets=True) == "-0.5"


def cell(value, **options):
    """Return what a reader of tables finds of a value."""
    rows, columns = [{"value": value, "more": 1}], ("value", "more")
    table = b"".join(csv_lines(rows, columns, **options)).decode("utf-8-sig")
    [header, [found, _more]] = csv.reader(io.StringIO(table, newline=""))
    assert header == ["value", "more"]
    return found


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("before")

    def broken() -> Any:
        yield b"one"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_file(path, broken())
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["pairs.jsonl"]
    write_file(path, lines([{"text": "ü🙂"}]))
    assert path.read_bytes() == '{"text":"ü🙂"}\n'.encode()
