"""Bringing prompts, pairs and gold in: what is read, what is refused by its line, and that nothing is half done."""

import csv
import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.imports import csv_records, reader, records, writing
from annotate.imports.files import whole
from annotate.imports.reader import LINE_LIMIT, Reader, RowError
from annotate.imports.records import ImportRefusedError, parse
from annotate.models import Comparison, Completion, Policy, Prompt
from tests.annotate.imports.rows import CHAT, PAIR, import_file, jsonl, refusal, text

pytestmark = pytest.mark.once

# --- What is read ------------------------------------------------------------------------------------------------


def test_prompts_from_json_lines(project):
    rows = [
        {"prompt": "One", "id": "a-1", "metadata": {"source": "web"}},
        {"prompt": CHAT, "id": 7},
        {"prompt": "Ünïcödé 日本語 🙂"},
    ]
    assert import_file(project, jsonl(*rows), "jsonl") == {"prompts": 3}
    stored = list(Prompt.objects.order_by("pk").values_list("content", "external_id", "metadata"))
    assert stored == [("One", "a-1", {"source": "web"}), (CHAT, "7", {}), ("Ünïcödé 日本語 🙂", "", {})]


def test_prompts_from_csv_with_further_columns_as_metadata(project):
    file = text('prompt,id,topic\n"One, two",a,"says ""x"""\n"Two\nlines",b,\n')
    assert import_file(project, file, "csv") == {"prompts": 2}
    stored = list(Prompt.objects.order_by("pk").values_list("content", "external_id", "metadata"))
    assert stored == [("One, two", "a", {"topic": 'says "x"'}), ("Two\nlines", "b", {})]


def cr(*lines: str) -> io.BytesIO:
    return text("".join(f"{line}\r" for line in lines))


def test_lines_may_end_with_cr_alone(project):
    """As Excel's “CSV (Macintosh)” writes them."""
    file = cr("prompt,id,note", "One,1,a", '"Two\rlines",2,"b\nc"', "", "Three,3,")
    assert import_file(project, file, "csv") == {"prompts": 3}
    stored = list(Prompt.objects.order_by("pk").values_list("content", "external_id", "metadata"))
    assert stored == [
        ("One", "1", {"note": "a"}),
        ("Two\rlines", "2", {"note": "b\nc"}),
        ("Three", "3", {}),
    ]
    assert import_file(project, cr("Four", "Five"), "txt") == {"prompts": 2}
    assert import_file(project, cr('{"prompt": "Six"}', '{"prompt": "Seven"}'), "jsonl") == {"prompts": 2}


def test_a_cr_inside_a_text_is_kept(project):
    file = text('prompt,note\na\rb,"c\rd"\r\ne,f\r\r\n"\rg\r\nh",i')
    assert import_file(project, file, "csv") == {"prompts": 3}
    stored = list(Prompt.objects.order_by("pk").values_list("content", "metadata"))
    assert stored == [("a\rb", {"note": "c\rd"}), ("e", {"note": "f"}), ("\rg\r\nh", {"note": "i"})]
    assert import_file(project, text("one\rtwo\nthree\n"), "txt") == {"prompts": 2}


def test_lines_that_end_with_cr_are_named_and_resumed(monkeypatch):
    monkeypatch.setattr(reader, "CHUNK", 7)
    content = b"\xef\xbb\xbfprompt\rone\r\rtwo\r\nthree\nfour"
    whole = list(Reader(io.BytesIO(content), "csv"))
    assert [(line, row["prompt"]) for line, row in whole] == [
        (2, "one"),
        (4, "two"),
        (5, "three"),
        (6, "four"),
    ]
    steps, position, line = [], 0, 0
    while position < len(content):
        rows = Reader(io.BytesIO(content), "csv", position, line)
        steps += [next(iter(rows))]
        position, line = rows.position, rows.line
    assert steps == whole


def test_a_line_without_end_is_refused_among_crs():
    file = io.BytesIO(b"prompt\ra\r" + b"x" * (LINE_LIMIT + 5))
    (_line, _row), (line, error) = Reader(file, "csv")
    assert (line, "longer than 8 MiB" in str(error)) == (3, True)


def test_prompts_from_plain_lines(project):
    assert import_file(project, text("One\n\n  Two \r\n{not json}\n"), "txt") == {"prompts": 3}
    assert [prompt.content for prompt in Prompt.objects.order_by("pk")] == ["One", "Two", "{not json}"]


def test_a_byte_order_mark_and_blank_lines_are_passed_over(project):
    for format, content in (
        ("txt", "One\n"),
        ("jsonl", '\n{"prompt": "Two"}\n\n'),
        ("csv", "prompt\n\nThree\n"),
    ):
        file = io.BytesIO(b"\xef\xbb\xbf" + content.encode())
        assert import_file(project, file, format) == {"prompts": 1}
    assert [prompt.content for prompt in Prompt.objects.order_by("pk")] == ["One", "Two", "Three"]


def test_pairs_and_gold_become_comparisons_of_external_policies(project):
    project.judgments_needed = 2
    project.save()
    rows = [
        {**PAIR, "policy_a": "gpt", "policy_b": "human"},
        {**PAIR, "prompt": "Twice", "gold": "b"},
        {"prompt": "Alone"},
    ]
    assert import_file(project, jsonl(*rows), "jsonl") == {"prompts": 3, "pairs": 1, "gold": 1}
    pair, gold = Comparison.objects.order_by("pk")
    assert (pair.first.text, pair.first.policy.name, pair.second.policy.name) == ("upon", "gpt", "human")
    assert {policy.kind for policy in Policy.objects.exclude(name="starter")} == {"external"}
    assert (pair.kind, pair.needed, pair.batch) == ("standard", 2, "import")
    assert (gold.kind, gold.gold_preferred.text, gold.first.policy.name) == ("gold", "more", "import")


def test_what_is_there_already_is_counted_and_not_doubled(project):
    rows = [
        PAIR,
        PAIR,
        {"prompt": "One"},
        {"prompt": "One"},
        {**PAIR, "completion_a": "more", "completion_b": "upon"},
    ]
    assert import_file(project, jsonl(*rows), "jsonl") == {"prompts": 2, "pairs": 1, "duplicates": 3}
    assert import_file(project, jsonl(*rows), "jsonl") == {"duplicates": 5}
    assert (Prompt.objects.count(), Completion.objects.count(), Comparison.objects.count()) == (2, 2, 1)


def test_prompts_are_held_out_by_their_text(project):
    project.held_out_share = 0.5
    project.save()
    import_file(project, text("\n".join(f"Prompt {number}" for number in range(200))), "txt")
    assert 70 < Prompt.objects.filter(held_out=True).count() < 130


def test_many_rows_are_written_in_batches(project, monkeypatch):
    monkeypatch.setattr(whole, "ROWS_AT_A_TIME", 7)
    rows = [{**PAIR, "prompt": f"Prompt {number}"} for number in range(30)]
    assert import_file(project, jsonl(*rows), "jsonl") == {"prompts": 30, "pairs": 30}


# --- What is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({}, "prompt is missing"),
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": "  \n"}, "prompt is empty"),
        ({"prompt": 5}, "prompt must be text"),
        ({"prompt": []}, "prompt must be text"),
        ({"prompt": "x" * 100_001}, "100,001 characters"),
        ({"prompt": "a\x00b"}, "NUL"),
        ({"prompt": "\ud800"}, "half a character"),
        ({"prompt": ["Hello"]}, "message 1"),
        ({"prompt": [{"role": "user"}]}, "message 1"),
        ({"prompt": [{"role": "robot", "content": "x"}]}, "one of the roles system"),
        ({"prompt": [*CHAT, {"role": "user", "content": ""}]}, "message 3"),
        (
            {"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "assistant's",
        ),
        ({"prompt": "a", "promt": "b"}, "no key “promt”"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "completion_a and completion_b"),
        ({"prompt": "a", "completion_a": "b"}, "needs both"),
        ({**PAIR, "completion_b": "upon"}, "are the same"),
        ({**PAIR, "completion_b": " "}, "completion_b is empty"),
        ({**PAIR, "completion_a": None}, "completion_a must be text"),
        ({**PAIR, "gold": "c"}, "gold must be"),
        ({"prompt": "a", "gold": "a"}, "gold must be"),
        ({"prompt": "a", "metadata": "b"}, "metadata must be an object"),
        ({"prompt": "a", "metadata": {"deep": [{"b\x00": 1}]}}, "NUL"),
        ({"prompt": "a", "metadata": {"x": "x" * 65_536}}, "has 65,545 bytes as JSON; at most 65,536"),
        ({"prompt": "a", "metadata": {"x": [[[]] * 40_000]}}, "too many values"),
        ({"prompt": [CHAT[1]] * 1_001}, "1,001 messages; at most 1,000"),
        ({"prompt": "a", "id": "x" * 201}, "id must be text"),
        ({**PAIR, "policy_a": ["x"]}, "policy_a must be text"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line(project, row, says):
    ((line, sentence),) = refusal(project, jsonl({"prompt": "Fine"}, row, PAIR))
    assert line == 2
    assert says in sentence
    assert len(sentence) < 250


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b'{"prompt": "a"}\nnot json\n', 2, "not valid JSON at column 1: Expecting value."),
        (b'{"prompt": "a"}\n  {"prompt": "b", "id": x}\n', 2, "at column 25: Expecting value."),
        (b'{"prompt": "a"}\n["a"]\n', 2, "must be a JSON object"),
        (b'{"prompt": "a", "metadata": {"x": NaN}}\n', 1, "NaN"),
        (b'{"prompt": "a"}\n\n{"prompt": "caf\xe9"}\n', 3, "Byte 16 of the line is not UTF-8"),
        (b'{"prompt": "caf\xe9"}\n', 1, "it looks like Latin-1 or Windows-1252."),
        ('{"prompt": "漢字"}\n'.encode("shift_jis"), 1, "Save the file as UTF-8."),
        (b'{"prompt": "a"}\n' * 1_000 + b'{"prompt": "\x00"}\n', 1_001, "NUL"),
        (b"[" * 5_000, 1, "nested more than 33 deep"),
        (b"[" * 100_000, 1, "too many values"),
        (b'{"prompt": "a"}\n{"prompt": ' + b"9" * 5_000 + b"}", 2, "larger than 64 bits"),
        (b'{"prompt": "a", "metadata": {"x": [1e999]}}', 1, "metadata.x.0 is not a finite number."),
        (b'{"prompt": "a", "metadata": {"x\\ud800": 1}}', 1, "The key metadata.x\\ud800 holds"),
        (b'{"prompt": "a", "\\u0000": 1}', 1, "The key \\u0000 holds"),
        (b'{"prompt": "a", "\xe2\x80\xae": 1}', 1, "There is no key “\\u202e”"),
    ],
)
def test_a_file_that_is_no_json_lines_is_named_by_its_line(project, content, line, says):
    assert (found := refusal(project, io.BytesIO(content)))[0][0] == line
    assert says in found[0][1]


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 20


@pytest.mark.parametrize("format", ["jsonl", "csv", "txt"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "The file is empty."),
        (b"\n\n", "no records"),
        (PNG, "This is not a text file: line 3 holds a NUL byte."),
        ("prompt\r\na\r\n".encode("utf-16"), "it looks like UTF-16."),
    ],
)
def test_a_fault_of_the_whole_file_is_said_once_without_a_line(project, content, format, says):
    with pytest.raises(ImportRefusedError) as caught:
        import_file(project, io.BytesIO(content), format)
    assert len(caught.value.errors) == 1
    assert says in str(caught.value)
    assert not str(caught.value).startswith("Line")


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (
            "text,id\na,b\n",
            1,
            "one of them must be “prompt”. It names “text”, “id”; the columns are prompt, id,",
        ),
        ("prompt;id\na;b\n", 1, "Separate them by commas."),
        ("prompt,id\na,b\nc\n", 3, "1 values for 2 columns"),
        ('prompt\n"a\nb"\n"open', 4, "not CSV"),
        ("prompt,metadata\na,{}\n", 2, "a column for each"),
        ("prompt,completion_a\na,b\n", 2, "needs both"),
        ("prompt,id\n,b\n", 2, "prompt is empty"),
        ("prompt" + ",x" * 200 + "\n", 1, "more than 200 columns"),
        ("prompt,id\na" + "," * 200 + "\nb,c\n", 2, "more than 200 columns"),
        ('prompt,id\n"a",' + '"\n",' * 200 + "b\n", 2, "more than 200 columns"),
        ("prompt,id\na," + "x" * 200_000 + "\n", 2, "id must be text of at most 200 characters"),
        ('prompt,id\n"a' + "\n,x" * 70_000 + '",b\n', 2, "more than 10,000 lines"),
        ("prompt,id\n" + "x" * 200_000 + ",a\n", 2, "prompt has 200,000 characters"),
        ("prompt,id,id\na,b,\na,,b\na,b,c\n", 4, "Two columns are called “id”"),
        ("prompt," + "x" * 70_000 + "\na,b\n", 1, "within the first 1,000 lines and 64 KB"),
        ("\n" * 1_000 + "prompt\na\n", 1, "within the first 1,000 lines and 64 KB"),
        ('prompt,"' + "\n" * 1_000 + '"\na,b\n', 1, "within the first 1,000 lines and 64 KB"),
        ('prompt\nb\n"a' + "\n" * 10_000 + '"\n', 3, "more than 10,000 lines"),
    ],
)
def test_a_bad_csv_is_named_by_its_line(project, content, line, says):
    assert (found := refusal(project, text(content), "csv"))[0][0] == line
    assert says in found[0][1]


def test_no_more_of_a_csv_is_read_for_its_header_than_allowed():
    file = text("\n" * 100_000 + "prompt\na\n")
    assert Reader(file, "csv").line <= reader.HEADER_LINES + 1


def test_a_csv_record_of_many_lines_is_read(project):
    lines = "\n" * 9_998
    assert import_file(project, text(f'prompt\n"a{lines}b"\n"c{lines}d"\n'), "csv") == {"prompts": 2}


def test_commas_inside_quotes_are_not_columns(project):
    commas = "," * 300
    records = [f'"one{commas}",1', f'"two""{commas}\n{commas}",2', f'"""{commas}",3', 'a",4']
    assert import_file(project, text("\n".join(["prompt,id", *records])), "csv") == {"prompts": 4}
    assert set(Prompt.objects.values_list("external_id", flat=True)) == {"1", "2", "3", "4"}


@given(st.text(st.sampled_from('",a\n'), max_size=30))
def test_columns_are_counted_as_csv_splits_them(content):
    width = csv_records.RecordWidth()

    def counted():
        for line in content.splitlines(keepends=True):
            width.add(line)
            yield line

    records = csv.reader(counted(), strict=True)
    while True:
        try:
            values = next(records, None)
        except csv.Error:
            width = csv_records.RecordWidth()
            continue
        if values is None:
            return
        assert width.separators == max(len(values) - 1, 0)


def test_a_chat_of_a_thousand_messages_is_taken(project):
    row = {"prompt": [CHAT[1]] * 1_000, "metadata": {"deep": json.loads("[" * 31 + "]" * 31)}}
    assert import_file(project, jsonl(row), "jsonl") == {"prompts": 1}


def test_every_bad_line_is_counted_and_the_first_ones_are_told(project):
    rows = [{"prompt": ""} for _ in range(30)]
    with pytest.raises(ImportRefusedError, match=r"Line 1: .* \(and 29 more\)") as caught:
        import_file(project, jsonl({"prompt": ""}, *rows[1:]), "jsonl")
    assert (len(caught.value.errors), caught.value.count) == (records.ERRORS_KEPT, 30)


def test_an_endless_line_is_refused_without_being_held(project):
    class Endless(io.RawIOBase):
        """64 MiB in one line."""

        left = 64 * 1024 * 1024

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def seek(self, position: int, whence: int = 0) -> int:
            return position

        def readinto(self, buffer: Any) -> int:
            count = min(len(buffer), self.left)
            self.left -= count
            buffer[:count] = b"x" * count
            return count

    tracemalloc.start()
    found = list(Reader(io.BufferedReader(Endless()), "txt"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(line, type(row)) for line, row in found] == [(1, RowError)]
    assert peak < 4 * LINE_LIMIT


@pytest.mark.parametrize(
    ("format", "head", "pattern", "says"),
    [
        ("jsonl", b'{"prompt": "a", "metadata": {"a": [', b"[],", "too many values"),
        ("jsonl", b'{"prompt": "a", "metadata": {"a": [', b'"","",', "too many values"),
        ("csv", b"prompt,id\n", b"ab,", "more than 200 columns"),
        ("csv", b"prompt,", b"ab,", "more than 200 columns"),
        ("csv", b"prompt,id\n", b'ab,"\n",', "more than 200 columns"),
    ],
)
def test_a_line_of_many_values_is_refused_before_it_is_split(format, head, pattern, says):
    content = head + pattern * ((LINE_LIMIT - len(head)) // len(pattern))
    tracemalloc.start()
    _line, found = next(iter(Reader(io.BytesIO(content), format)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found, RowError)
    assert says in str(found)
    assert peak < 8 * LINE_LIMIT  # split, it would be up to 25 times as much


def test_a_completion_of_a_policy_trained_here_is_refused(project):
    ((line, sentence),) = refusal(project, jsonl({"prompt": "Fine"}, {**PAIR, "policy_b": "starter"}))
    assert line == 2
    assert "“starter”" in sentence


def test_more_policies_than_a_project_may_have_are_refused(project, monkeypatch):
    monkeypatch.setattr(records, "POLICIES", 3)
    named = [{**PAIR, "prompt": name, "policy_a": name} for name in ("gpt", "gpt", "human", "mistral")]
    # The fourth row names the third and the fourth, "import" being the other side of each.
    ((line, sentence),) = refusal(project, jsonl(*named))
    assert (line, sentence) == (4, "The project would have more than 3 policies from elsewhere.")
    assert import_file(project, jsonl(*named[:3]), "jsonl")["pairs"] == 2
    assert import_file(project, jsonl({**PAIR, "policy_a": "human"}, {"prompt": "Alone"}), "jsonl")
    with pytest.raises(ImportRefusedError, match="Line 1: The project would have"):
        import_file(project, jsonl({**PAIR, "prompt": "Other", "policy_b": "mistral"}), "jsonl")
    assert not Prompt.objects.filter(content="Other").exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_imports_the_second_sees_what_the_first_wrote(project, commits_first):
    rows = [(1, parse(PAIR)), (2, parse({"prompt": "Alone"}))]
    commits_first(lambda: writing.write(project, rows))
    assert writing.write(project, rows[::-1]).counts == {"duplicates": 2}
