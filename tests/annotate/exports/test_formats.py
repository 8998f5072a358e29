"""Formats: each file is what its readers document, and holds rows of one type."""

import csv
import io
import json
import zipfile
from typing import Any

import pytest

from annotate.errors import RefusalError
from annotate.exports import account
from annotate.exports.bundle import open_download
from annotate.exports.formats import FORMATS
from annotate.exports.selection import Selection
from annotate.models import Flag, Judgment
from annotate.pairs.judgment_rows import JUDGMENT_COLUMNS
from annotate.pairs.pair_rows import PAIR_COLUMNS
from annotate.pairs.snapshots import take_snapshot
from tests.annotate.exports.conftest import CHAT
from tests.factories import compare, say


def content(selection: Selection) -> bytes:
    return b"".join(open_download(selection).chunks)


def lines(selection: Selection) -> list[Any]:
    return [json.loads(line) for line in content(selection).splitlines()]


def members(selection: Selection) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content(selection))) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_each_trainer_reads_its_own_shape(plain, chat, select):
    said, hi, day = ({"role": "assistant", "content": text} for text in ("good 0", "Hi!", "Good day to you."))
    bad = {"role": "assistant", "content": "bad 0, and long"}
    asked = [{"role": "user", "content": "Prompt 0"}]
    assert lines(select(format="openai")) == [
        {
            "input": {"messages": messages, "tools": [], "parallel_tool_calls": True},
            "preferred_output": [chosen],
            "non_preferred_output": [rejected],
        }
        for messages, chosen, rejected in ((asked, said, bad), (CHAT, day, hi))
    ]
    assert lines(select(format="axolotl")) == [
        {"messages": asked, "chosen": said, "rejected": bad},
        {"messages": CHAT, "chosen": day, "rejected": hi},
    ]
    files = members(select(format="llama_factory"))
    info = json.loads(files["dataset_info.json"])["reviews-llama-factory"]
    assert (info["formatting"], info["ranking"]) == ("sharegpt", True)
    assert json.loads(files[info["file_name"]]) == [
        {
            "conversations": [{"from": "human", "value": "Prompt 0"}],
            "chosen": {"from": "gpt", "value": "good 0"},
            "rejected": {"from": "gpt", "value": "bad 0, and long"},
            "tools": "",
        },
        {
            "conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hello"}],
            "chosen": {"from": "gpt", "value": "Good day to you."},
            "rejected": {"from": "gpt", "value": "Hi!"},
            "tools": "",
        },
    ]


def test_single_ratings_come_from_pairs_and_from_both_bad(plain, select):
    rows = lines(select(format="kto"))
    assert [(row["prompt"], row["completion"], row["label"], row["both_bad"]) for row in rows] == [
        ("Prompt 0", "good 0", True, False),
        ("Prompt 0", "bad 0, and long", False, False),
        ("Prompt 2", "good 2", False, True),
        ("Prompt 2", "bad 2, and long", False, True),
    ]
    assert {row["policy"] for row in rows} == {"one", "two"}
    assert all(tuple(row) == FORMATS["kto"].columns for row in rows)


def test_tools_of_annotation_read_what_each_annotator_said(plain, chat, select):
    first, tie, bad, skip, in_chat = json.loads(content(select(format="argilla")))
    assert first["id"] == "c0"
    assert first["fields"] == {
        "prompt": "Prompt 0",
        "completion_a": "good 0",
        "completion_b": "bad 0, and long",
    }
    assert [one["value"] for one in first["responses"]["preference"]] == ["completion_a", "completion_a"]
    assert len({one["user_id"] for one in first["responses"]["preference"]}) == 2
    assert [one["value"] for one in first["responses"]["strength"]] == [2, 1]
    assert first["metadata"]["lang"] == "de"
    assert [record["responses"]["preference"][0]["value"] for record in (tie, bad, skip)] == [
        "tie",
        "both_bad",
        "skip",
    ]
    assert in_chat["fields"]["prompt"] == "\n\nSystem: Be brief.\n\nHuman: Hello\n\nAssistant:"

    task, even, _bad, passed, _chat = json.loads(content(select(format="label_studio")))
    assert task["data"]["answer1"] == "good 0"
    assert [one["result"][0] for one in task["annotations"]] == 2 * [
        {
            "from_name": "comparison",
            "to_name": "answer1,answer2",
            "type": "pairwise",
            "value": {"selected": "left"},
        }
    ]
    assert even["annotations"][0]["result"][0]["value"] == {"choices": ["tie"]}
    assert [one["annotations"][0]["was_cancelled"] for one in (task, passed)] == [False, True]


def test_comparisons_hold_every_judgment(plain, three, select):
    rows = lines(select(format="comparisons"))
    assert [[one["verdict"] for one in row["judgments"]] for row in rows] == [
        ["a", "a"],
        ["tie"],
        ["both_bad"],
        ["skip"],
    ]
    first, second = rows[0]["judgments"]
    assert (first["annotator"], first["strength"], first["left"], second["left"]) == (
        f"annotator-{three[0].pk}",
        2,
        "a",
        "b",
    )
    assert (rows[0]["id"], rows[0]["metadata"], rows[0]["policy_b"]) == ("c0", {"lang": "de"}, "two")
    assert lines(select(format="comparisons", min_judgments="2")) == rows[:1]
    plain[0].withdraw()
    assert lines(select(format="comparisons")) == rows[1:]


def test_plain_prompts_and_chats_never_meet_in_a_file(plain, chat, select):
    """One reader of tables after the other takes all rows to be like the first."""
    for name in ("jsonl", "parquet", "csv", "datasets", "kto", "comparisons"):
        with pytest.raises(RefusalError, match="plain prompts and chats"):
            open_download(select(format=name))
    assert lines(select(texts="text", columns="texts")) == [
        {"prompt": "Prompt 0", "chosen": "good 0", "rejected": "bad 0, and long"},
        {
            "prompt": "\n\nSystem: Be brief.\n\nHuman: Hello\n\nAssistant:",
            "chosen": "Good day to you.",
            "rejected": "Hi!",
        },
    ]
    as_messages = lines(select(texts="messages"))
    assert [row["prompt"] for row in as_messages] == [[{"role": "user", "content": "Prompt 0"}], CHAT]
    assert as_messages == lines(select(format="conversational"))
    files = members(select(texts="files"))
    assert {name: len(rows.splitlines()) for name, rows in files.items()} == {
        "reviews-pairs-chat.jsonl": 1,
        "reviews-pairs-text.jsonl": 1,
    }


@pytest.mark.parametrize("texts", ["text", "messages"])
def test_readers_of_tables_find_typed_columns(plain, chat, select, tmp_path, texts):
    import datasets
    import pandas
    import pyarrow.parquet as pq

    expected = lines(select(texts=texts))
    path = tmp_path / "pairs.parquet"
    path.write_bytes(content(select(format="parquet", texts=texts)))
    table = pq.read_table(path)
    assert tuple(table.column_names) == PAIR_COLUMNS
    assert table.to_pylist() == expected
    types = {
        name: str(table.schema.field(name).type) for name in ("label", "comparison", "held_out", "judgments")
    }
    assert types == {
        "label": "double",
        "comparison": "int64",
        "held_out": "bool",
        "judgments": "list<element: int64>",
    }
    assert len(pandas.read_parquet(path)) == 2
    folder = tmp_path / "folder"
    with zipfile.ZipFile(io.BytesIO(content(select(format="datasets", texts=texts)))) as archive:
        archive.extractall(folder)
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"), split="train")
    assert loaded.to_list() == expected
    lines_path = tmp_path / "pairs.jsonl"
    lines_path.write_bytes(content(select(texts=texts)))
    assert (
        len(
            datasets.load_dataset(
                "json", data_files=str(lines_path), cache_dir=str(tmp_path / "c"), split="train"
            )
        )
        == 2
    )


def test_messages_with_calls_of_tools_are_json_in_parquet(project, three, select, tmp_path):
    import datasets
    import pyarrow.parquet as pq

    from tests.factories import compare

    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}],
    }
    chats = [CHAT, [{"role": "user", "content": "Add."}, call, {"role": "tool", "content": "2"}]]
    for chat in chats:
        say(three[0], compare(project, chat, "Two.", "Three."), "first")
    path = tmp_path / "pairs.parquet"
    path.write_bytes(content(select(format="parquet")))
    assert [json.loads(row["prompt"]) for row in pq.read_table(path).to_pylist()] == chats
    # A trainer that loads the file must get messages: of a text it would learn the JSON.
    rows = datasets.load_dataset(
        "parquet", data_files=str(path), cache_dir=str(tmp_path / "cache"), split="train"
    )
    assert list(rows["prompt"]) == chats
    assert list(rows["chosen"]) == [[{"role": "assistant", "content": "Two."}]] * 2


def test_rows_that_are_gone_through_twice_are_counted_once(chat, select):
    download = open_download(select(format="parquet"))
    assert b"".join(download.chunks)
    assert download.written.total == 1


def test_judgments_leave_as_lines_csv_and_parquet(plain, select, tmp_path):
    import pyarrow.parquet as pq

    rows = lines(select(format="judgments"))
    assert len(rows) == 5
    table = csv.DictReader(io.StringIO(content(select(format="judgments_csv")).decode("utf-8-sig")))
    assert [row["verdict"] for row in table] == [row["verdict"] for row in rows]
    path = tmp_path / "judgments.parquet"
    path.write_bytes(content(select(format="judgments_parquet")))
    found = pq.read_table(path)
    assert tuple(found.column_names) == JUDGMENT_COLUMNS
    assert found.column("seconds").to_pylist() == [row["seconds"] for row in rows]


def test_every_format_of_an_empty_project_is_a_file(project, select, tmp_path):
    import pyarrow.parquet as pq

    for name, one in FORMATS.items():
        found = content(select(format=name))
        if one.is_folder:
            assert len(members(select(format=name))) == 2
        elif one.extension == "json":
            assert json.loads(found) == []
        elif one.extension == "parquet":
            assert pq.read_table(io.BytesIO(found)).num_rows == 0
        else:
            assert len(found.splitlines()) == (one.extension == "csv")


@pytest.mark.parametrize(
    ("query", "kept", "reasons"),
    [
        ({}, True, {"tie", "both_bad", "skipped"}),
        ({"annotator": ["bela"]}, True, set()),
        ({"judged_by": "people"}, True, {"tie", "both_bad", "skipped"}),
        ({"judged_by": "imported"}, False, set()),
        ({"annotator": ["anna", "bela"], "min_judgments": "2"}, True, {"too_few", "skipped"}),
        ({"strength": "1.6"}, False, {"weak", "tie", "both_bad", "skipped"}),
        ({"agreement": "1", "kind": "standard"}, True, {"tie", "both_bad", "skipped"}),
        ({"metadata": "lang=de"}, True, set()),
        ({"metadata": "lang=fr"}, False, set()),
        ({"flags": "leave"}, False, {"tie", "both_bad", "skipped"}),
        ({"flags": "only"}, True, set()),
        ({"until": "2020-01-01"}, False, set()),
        ({"ties": "include"}, True, {"both_bad", "skipped"}),
        ({"ties": "only"}, False, {"decided", "both_bad", "skipped"}),
    ],
)
def test_filters_keep_what_they_say_and_count_the_rest(plain, three, select, query, kept, reasons):
    Flag.objects.create(comparison=plain[0], annotator=three[0])
    selection = select(**query)
    found = account.count(selection.project, selection.filters, selection.settings)
    rows = lines(selection)
    assert found["pairs"] == len(rows)
    assert found["everything"] == 4 == found["filtered"] + found["pairs"] + sum(found["excluded"].values())
    assert (plain[0].pk in {row["comparison"] for row in rows}, set(found["excluded"])) == (kept, reasons)


def test_a_choice_that_means_nothing_is_refused_by_name(project, owner, plain, select):
    digest = take_snapshot(project, owner).digest
    for field, query in {
        "texts": {"format": "openai", "texts": "text"},
        "columns": {"format": "kto", "columns": "texts"},
        "ties": {"format": "openai", "ties": "include"},
        "test": {"format": "judgments", "test": "10"},
        "kind": {"snapshot": digest[:12], "kind": "gate"},
        "snapshot": {"snapshot": digest[:12], "format": "argilla"},
        "format": {"format": "docx"},
        "strength": {"strength": "4"},
    }.items():
        with pytest.raises(RefusalError) as refused:
            select(**query)
        assert refused.value.field == field
    assert len(lines(select(snapshot=digest[:12], format="openai"))) == 1


def test_exported_comparisons_name_what_a_criterion_prefers(project, make_member, select):
    project.criteria = [{"key": "helpful", "title": "Helpful"}]
    project.save()
    made = compare(project, "Sky?", "Blue.", "Green.")
    helpful = {"verdict": "prefer", "preferred_id": made.second_id, "strength": 2}
    tie = {"verdict": "tie", "preferred_id": None, "strength": None}
    for name, criterion in (("anna", helpful), ("ben", tie)):
        judgment = say(make_member(name, "annotator"), made, "first")
        Judgment.objects.filter(pk=judgment.pk).update(criteria={"helpful": criterion})
    [row] = map(json.loads, b"".join(open_download(select(format="comparisons")).chunks).splitlines())
    found = [one["criteria"]["helpful"] for one in row["judgments"]]
    assert found == [
        {"verdict": "prefer", "preferred": "b", "strength": 2},
        {"verdict": "tie", "preferred": None, "strength": None},
    ]
