"""`manage.py import_file`: what it recognises, what it leaves out and why, and what becomes of the rest."""

import csv
import html
import io
import json
from io import StringIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command

from annotate.imports.files import whole
from annotate.management.commands import import_file
from annotate.models import Comparison, Completion, Judgment, Prompt, TrailEntry, User
from annotate.people import external
from tests.annotate.sources.cases.corpora import TREE
from tests.annotate.sources.test_lines import xlsx
from tests.annotate.sources.test_message_trees import flatten

TRL = [
    {"prompt": "One", "chosen": "a", "rejected": "b", "source": "web"},
    {"prompt": "Two", "chosen": "", "rejected": "b"},
    {"prompt": "Three", "chosen": "c", "rejected": "c"},
]

OUTPUTS = {
    "preferred_output": [{"role": "assistant", "content": "a"}],
    "non_preferred_output": [{"role": "assistant", "content": "b"}],
}


@pytest.fixture
def bring_in(project, tmp_path):
    """bring_in(name, content, **options): the report, and the error if there is one."""

    def bring_in(name, content, **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        out, error = StringIO(), ""
        try:
            call_command("import_file", "reviews", str(path), json="-", stdout=out, **options)
        except CommandError as refused:
            error = str(refused)
        return json.loads(out.getvalue() or "{}"), error

    return bring_in


@pytest.mark.parametrize("container", ["csv", "parquet", "xlsx", "jsonl"])
def test_only_tables_hold_chats_in_their_cells(bring_in, container):
    user, answers = {"role": "user", "content": "Sky?"}, ("Blue.", "Green.")
    chats = [json.dumps([user, {"role": "assistant", "content": text}]) for text in answers]
    row = dict(zip(("Question", "chosen", "rejected"), ("Sky?", *chats), strict=True))
    match container:
        case "csv":
            file = StringIO()
            csv.writer(file).writerows([row, row.values()])
            content = file.getvalue().encode()
        case "parquet":
            table = io.BytesIO()
            pq.write_table(pa.Table.from_pylist([row]), table)
            content = table.getvalue()
        case "xlsx":
            cells = (f"{column}{number}" for number in (1, 2) for column in "ABC")
            texts = map(html.escape, (*row, *row.values()))
            content = xlsx(dict(zip(cells, texts, strict=True)))
        case _:
            content = json.dumps(row).encode()
    report, error = bring_in(f"rows.{container}", content)
    if container == "jsonl":
        assert "not recognised" in error
        return
    assert (error, report["format"]) == ("", "chosen-rejected")
    stored = Completion.objects.order_by("pk").values_list("text", flat=True)
    assert sorted(stored) == [*answers]


def test_a_cell_that_python_could_not_have_printed_is_read(bring_in):
    report, error = bring_in("rows.csv", "prompt,x\nSky?,\"{'a', ['b']}\"\n")
    assert (error, report["taken"]) == ("", 1)


def test_pairs_become_judged_pairs_and_bad_rows_are_listed(bring_in, tmp_path):
    bad = tmp_path / "bad.jsonl"
    report, error = bring_in("rows.json", json.dumps(TRL), bad=str(bad))
    assert error == ""
    expected = {
        "format": "trl", "container": "json", "becomes": "judged", "rows": 3, "taken": 1, "annotators": 1,
        "left_out": {"chosen is empty.": 1, "Its completions are the same.": 1},
        "made": {"prompts": 1, "judged": 1, "judgments": 1},
    }  # fmt: skip
    assert {key: report[key] for key in expected} == expected
    assert [json.loads(line) for line in bad.read_text().splitlines()] == [
        {"line": 2, "reason": "chosen is empty.", "record": TRL[1]},
        {"line": 3, "reason": "Its completions are the same.", "record": TRL[2]},
    ]
    assert Judgment.objects.get().preferred.text == "a"
    assert Comparison.objects.get().metadata == {"source": "web"}


def test_a_table_of_prompts_keeps_chats_and_system_messages(bring_in):
    system, asked = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Sky?"}
    chat = json.dumps([asked]).replace('"', '""')
    report, error = bring_in("rows.csv", f'prompt,system,topic\n"{chat}",Be brief.,sky\n')
    assert error == ""
    assert (report["format"], report["becomes"]) == ("prompts", "prompts")
    prompt = Prompt.objects.get()
    assert (prompt.content, prompt.metadata) == ([system, asked], {"topic": "sky"})


def test_what_python_printed_is_told_by_its_column(bring_in):
    report, error = bring_in("rows.csv", "data,id\n\"{'prompt': 'Sky?', 'answer1': 'a'}\",1\n")
    assert report["format"] is None
    assert "“data” holds lists or objects as Python prints them" in error
    assert "--map prompt=data" in error


def test_pandas_columns_may_hold_objects(bring_in):
    rows = [
        {"input": {"messages": [{"role": "user", "content": text}]}, **outputs}
        for text, outputs in (("One", OUTPUTS), ("Two", OUTPUTS))
    ]
    columns = {key: {str(place): row[key] for place, row in enumerate(rows)} for key in rows[0]}
    report, error = bring_in("rows.json", json.dumps(columns))
    assert error == ""
    assert (report["format"], report["taken"]) == ("openai", 2)


def test_one_column_of_pandas_is_its_rows(bring_in):
    chats = [[{"role": "user", "content": text}] for text in ("One", "Two")]
    report, error = bring_in("rows.json", json.dumps({"messages": dict(enumerate(chats))}))
    assert error == ""
    assert (report["format"], report["taken"]) == ("chats", 2)


def test_refused_rows_of_a_table_come_back_corrected(bring_in, tmp_path):
    bad = tmp_path / "bad.jsonl"
    table = 'prompt;chosen;rejected;topic\nOne;a;;x\nTwo;"a;b\n\nc";d;\nThree;e;e;"y ""z"""\nFour;f\n'
    bring_in("rows.csv", table, bad=str(bad), empty=False)
    rows = [json.loads(line) for line in bad.read_text().splitlines()]
    assert [row["record"] for row in rows] == [
        {"prompt": "One", "chosen": "a", "rejected": "", "topic": "x"},
        {"prompt": "Three", "chosen": "e", "rejected": "e", "topic": 'y "z"'},
        "Four;f",
    ]
    rows[0]["record"]["rejected"], rows[1]["record"]["rejected"] = "g", "h"
    report, error = bring_in("again.jsonl", "\n".join(map(json.dumps, rows[:2])))
    assert error == ""
    assert (report["taken"], report["made"]["judged"]) == (2, 2)
    assert Comparison.objects.get(prompt__content="Three").metadata == {"topic": 'y "z"'}


def test_a_row_with_a_byte_that_is_not_utf8_stays_as_it_is(bring_in, tmp_path):
    bad = tmp_path / "bad.jsonl"
    rows = [f"Où {number}?,a,b".encode() for number in range(200)]
    bring_in("rows.csv", b"\n".join([b"prompt,chosen,rejected", *rows, b"Caf\xe9,a,b"]), bad=str(bad))
    assert [json.loads(line)["record"] for line in bad.read_text().splitlines()] == ["Caf\\xe9,a,b"]


def test_of_a_tree_what_is_ranked_is_judged(bring_in):
    """Its second question has one reply, which nothing can be compared with."""
    report, error = bring_in("trees.jsonl", json.dumps(TREE), becomes="judged")
    assert error == ""
    assert (report["format"], report["taken"], report["unused"]) == ("oasst", 1, {"parts": 1})
    assert Judgment.objects.get().preferred.text == "Blue."


def test_messages_of_a_tree_are_judged_as_the_tree(bring_in):
    """Three times the same tree, and a message apart from its tree."""
    rows = [row for name in "abc" for row in flatten({**TREE, "message_tree_id": name})]
    rows.append({**rows[0], "message_id": "z", "parent_id": "gone"})
    report, error = bring_in("rows.jsonl", "\n".join(map(json.dumps, rows)), becomes="judged")
    assert error == ""
    assert (report["format"], report["rows"], report["taken"]) == ("oasst", 4, 3)
    [reason] = report["left_out"]
    assert reason.startswith("It replies to a message (gone) that is not among those")
    assert Judgment.objects.get().preferred.text == "Blue."


def test_messages_apart_from_their_trees_are_not_prompts(bring_in):
    rows = [
        {"message_id": "1", "parent_id": None, "role": "prompter", "text": "Why?", "rank": None},
        {"message_id": "2", "parent_id": "1", "role": "assistant", "text": "Blue.", "rank": 0},
    ]
    report, error = bring_in("rows.jsonl", "\n".join(map(json.dumps, rows)))
    assert "Otherwise import the file of whole trees." in error
    assert "--map" not in error
    assert (report["taken"], Prompt.objects.count()) == (0, 0)


def test_a_file_becomes_what_is_asked_and_twice_adds_nothing(bring_in):
    content = json.dumps(TRL)
    for _ in range(2):
        report, _error = bring_in("rows.json", content, becomes="comparisons", empty=True)
    assert (report["becomes"], report["taken"], report["made"]) == ("comparisons", 2, {"duplicates": 2})
    assert report["unused"] == {"opinions": 2}
    assert (Comparison.objects.count(), Judgment.objects.count()) == (2, 0)


def test_a_dry_run_counts_and_changes_nothing(bring_in):
    report, error = bring_in("rows.json", json.dumps(TRL), dry_run=True)
    assert (report["found"], report["made"], error) == ({"judged": 1}, {}, "")
    assert not Prompt.objects.exists()
    assert not User.objects.filter(username__contains="imported").exists()


def test_a_dry_run_counts_the_repeats_of_all_blocks(bring_in, monkeypatch):
    monkeypatch.setattr(whole, "ROWS_AT_A_TIME", 3)
    rows = "".join(f"Prompt {n}\n" for n in (1, 1, 2, 1, 3, 3))
    known = [bring_in("rows.txt", rows, dry_run=dry)[0]["known"]["duplicates"] for dry in (True, False)]
    assert known == [3, 3]


def test_a_long_import_tells_how_far_it_is(bring_in, monkeypatch, capsys):
    monkeypatch.setattr(whole, "ROWS_AT_A_TIME", 2)
    monkeypatch.setattr(import_file, "TOLD", 4)
    report, _error = bring_in("rows.txt", "".join(f"Prompt {n}\n" for n in range(11)))
    assert report["made"] == {"prompts": 11}
    assert capsys.readouterr().err == "4 rows are read.\n8 rows are read.\n"


def test_progress_counts_rows_of_the_file_and_not_their_pairs(bring_in, monkeypatch, capsys):
    monkeypatch.setattr(whole, "ROWS_AT_A_TIME", 2)
    monkeypatch.setattr(import_file, "TOLD", 2)
    answers = [{"answer": f"a{n}", "rank": n, "model": "m"} for n in range(5)]
    rows = [{"prompt": f"Prompt {n}", "answers": answers} for n in range(3)]
    report, _error = bring_in("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert report["made"]["judged"] == 30
    assert capsys.readouterr().err == "2 rows are read.\n"


def test_an_import_whose_bad_rows_cannot_be_written_is_reported(bring_in):
    """They are left out either way. The sentence names the file that is at fault."""
    report, error = bring_in("rows.json", json.dumps(TRL), bad="/dev/full")
    assert (report["made"]["judged"], report["taken"], Comparison.objects.count()) == (1, 1, 1)
    assert "/dev/full cannot be written: No space left on device" in error
    assert "Nothing was imported" not in error


def test_an_import_whose_report_cannot_be_written_is_told(project, tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(TRL))
    out = StringIO()
    with pytest.raises(CommandError, match="/dev/full cannot be written: No space left on device"):
        call_command("import_file", "reviews", str(path), json="/dev/full", stdout=out)
    assert "Imported: 1 prompts, 1 judged, 1 judgments." in out.getvalue()
    with pytest.raises(CommandError, match=r"nowhere/bad\.jsonl cannot be written: No such file"):
        call_command("import_file", "reviews", str(path), bad=str(tmp_path / "nowhere" / "bad.jsonl"))


def test_an_import_that_stops_says_why_and_what_it_imported(bring_in, monkeypatch):
    monkeypatch.setattr(whole, "ROWS_AT_A_TIME", 2)
    monkeypatch.setattr(external, "MOST", 3)
    rows = "q,x,y,who,said\n" + "".join(f"Prompt {n},a,b,annotator {n},a\n" for n in range(7))
    columns = ["prompt=q", "completion_a=x", "completion_b=y", "verdict=said", "annotator=who"]
    report, error = bring_in("rows.csv", rows, map=columns)
    assert (report["made"]["judgments"], Judgment.objects.count()) == (2, 2)
    assert report["error"] == error.splitlines()[0]
    assert "more than 3 annotators" in error
    assert error.endswith("What was imported before is kept.")
    assert TrailEntry.objects.filter(verb=TrailEntry.Verb.IMPORTED).count() == 1
    _report, error = bring_in("others.csv", rows.replace("annotator ", "other "), map=columns)
    assert error.endswith("Nothing was imported.")


def test_columns_that_are_not_recognised_must_be_mapped(bring_in):
    content = '"source";"target"\r\n"PYTANIE";"ODPOWIEDŹ"\r\n'
    report, error = bring_in("rows.csv", content)
    assert (report["format"], report["separator"], report["columns"]) == (None, ";", ["source", "target"])
    assert "--map prompt=source" in error
    assert not Prompt.objects.exists()
    report, error = bring_in("rows.csv", content, map=["prompt=source"])
    assert (report["format"], report["becomes"], error) == ("mapping", "prompts", "")
    assert Prompt.objects.get().metadata == {"target": "ODPOWIEDŹ"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"map": ["prompt"]}, "write KEY=COLUMN"),
        ({"map": ["prompt=other"]}, "there is no column “other”. The columns are “source”, “target”"),
        ({"map": ["id=source"]}, "Say which column is the prompt."),
        ({"encoding": "klingon"}, "There is no encoding “klingon”."),
        ({"format": "json"}, "The file is not JSON."),
    ],
)
def test_what_is_asked_wrongly_is_said(bring_in, given, sentence):
    _report, error = bring_in("rows.csv", "source,target\na,b\n", **given)
    assert sentence in error
    assert not Prompt.objects.exists()


def test_verdicts_of_people_become_their_judgments(bring_in):
    rows = "q,x,y,who,said\nOne,a,b,ada,2\nTwo,a,b,ben,tie\nThree,a,b,ben,?\n"
    columns = ["prompt=q", "completion_a=x", "completion_b=y", "verdict=said", "annotator=who", "a=1", "b=2"]
    columns += ["both_bad=?"]
    report, _error = bring_in("rows.csv", rows, map=columns)
    assert (report["becomes"], report["annotators"], report["taken"]) == ("judged", 2, 3)
    said = Judgment.objects.order_by("comparison").values_list("annotator__external_name", "verdict")
    assert list(said) == [("ada", "prefer"), ("ben", "tie"), ("ben", "both_bad")]


def test_ratings_of_one_prompt_become_a_pair(bring_in, monkeypatch):
    """However the steps fall."""
    from annotate.imports.files import whole

    monkeypatch.setattr(whole, "ROWS_AT_A_TIME", 1)
    rows = [
        {"prompt": prompt, "completion": text, "label": label}
        for prompt, text, label in [("1", "x", True), ("2", "a", True), ("2", "b", False), ("3", "c", False)]
    ]
    report, _error = bring_in("kto.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert (report["rows"], report["taken"]) == (4, 2)
    assert (report["found"], report["made"]["judgments"]) == ({"judged": 1}, 1)
    assert Judgment.objects.get().preferred.text == "a"


def test_a_column_without_a_name_is_called_by_its_number(bring_in):
    """As tables with an index have one."""
    report, error = bring_in("rows.csv", ",prompt,chosen,rejected\n7,Sky?,blue,green\n")
    assert error == ""
    assert (report["becomes"], report["taken"]) == ("judged", 1)
    assert Comparison.objects.get().metadata == {"column 1": "7"}


def test_a_bare_number_is_not_guessed_before_a_late_zero(bring_in):
    """The first records, which a file is recognised by, say 1 alone."""
    rows = "q,x,y,lab\n" + "".join(f"{number},a,b,{int(number < 50)}\n" for number in range(60))
    columns = ["prompt=q", "completion_a=x", "completion_b=y", "verdict=lab"]
    report, error = bring_in("rows.csv", rows, map=columns)
    assert (report["taken"], "“1” in lab is not a known verdict" in error) == (0, True)
    assert not Judgment.objects.exists()


def test_of_zero_and_one_neither_is_guessed(bring_in):
    """One may be the second of the two, or the first."""
    rows = "q,x,y,label\nOne,a,b,0\nTwo,a,b,1\n"
    columns = ["prompt=q", "completion_a=x", "completion_b=y", "verdict=label"]
    report, error = bring_in("rows.csv", rows, map=columns)
    assert (report["taken"], "“1” in label is not a known verdict" in error) == (0, True)
    report, error = bring_in("rows.csv", rows, map=[*columns, "a=0", "b=1"])
    assert (report["taken"], error) == (2, "")
    assert {
        judgment.comparison.prompt.text: judgment.preferred.text for judgment in Judgment.objects.all()
    } == {
        "One": "a",
        "Two": "b",
    }


def test_an_unsure_encoding_must_be_said(bring_in):
    content = "prompt,topic\nДа,x\n".encode("koi8-r")
    _report, error = bring_in("rows.csv", content)
    assert not Prompt.objects.exists()
    assert "The encoding is unsure: it looks like" in error
    assert "--encoding" in error
    report, _error = bring_in("rows.csv", content, dry_run=True)
    assert report["encoding_unsure"]
    assert not Prompt.objects.exists()
    report, error = bring_in("rows.csv", content, encoding="koi8-r")
    assert (error, report["encoding_unsure"]) == ("", False)
    assert Prompt.objects.get().text == "Да"
