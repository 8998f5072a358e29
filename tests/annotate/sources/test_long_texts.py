"""Recognition takes time in proportion to the text, whatever names and blanks a file has."""

import io
import time

import pytest

from annotate.imports.files.options import recognise
from annotate.sources.lines import as_lines

pytestmark = pytest.mark.once  # files, which no database sees

SECONDS = 1.0  # of processor time: what the worst of them takes several times over


@pytest.mark.parametrize("word", ["reward", "reply", "answer", "价"])
def test_a_long_name_of_a_column_costs_no_more_than_its_length(word: str) -> None:
    names = {f"rater_{word * (200_000 // len(word))}": "A", "rater_2": "B"}
    record = {"prompt": "Sky?", "response_a": "Blue.", "response_b": "Green.", **names}
    begun = time.process_time()
    recognise([record, record], "jsonl")
    assert time.process_time() - begun < SECONDS


def test_blank_lines_behind_a_brace_cost_no_more_than_others() -> None:
    begun = time.process_time()
    with as_lines(io.BytesIO(b"{" + b"\n" * 60_000 + b"x\n"), "notes.txt", 1 << 20) as found:
        assert found.format == "txt"
    assert time.process_time() - begun < SECONDS


@pytest.mark.parametrize("blanks", ["\n", " \n", "\r\n", "\n\n  ", " \t\n \n\t"])
def test_a_document_over_several_lines_is_json_in_a_text_file(blanks: str) -> None:
    content = f'{{{blanks}"prompt": "A film opens:",\n"chosen": "a", "rejected": "b"\n}}\n'
    with as_lines(io.BytesIO(content.encode()), "notes.txt", 1 << 20) as found:
        assert found.container == "json"
