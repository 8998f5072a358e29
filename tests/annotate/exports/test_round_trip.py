"""Files in formats that can carry everything come into another project without loss."""

import csv
import io
import itertools
import json
import zipfile
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from annotate.exports.bundle import open_download
from annotate.forms.exports import read_selection
from annotate.imports.expansion import Choices, expand
from annotate.imports.writing import write
from annotate.models import Judgment, Project, User
from annotate.sources.formats import find_format
from annotate.sources.tables import TableRow
from tests.factories import compare, say

WITHOUT_SHRINKING = [Phase.explicit, Phase.reuse, Phase.generate]  # each example fills two projects
numbers = itertools.count(1)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)
verdicts = st.sampled_from(["first", "second", "tie", "both_bad", "skip"])
sides = st.sampled_from(["first", "second"])
comparisons = st.fixed_dictionaries(
    {
        "prompt": texts,
        "completions": st.tuples(texts, texts).filter(lambda both: both[0] != both[1]),
        "metadata": st.dictionaries(texts, st.one_of(texts, st.integers(0, 9), st.booleans()), max_size=2),
        "said": st.lists(st.tuples(verdicts, st.integers(1, 3), sides), min_size=1, max_size=2),
    }
)


def read(content: bytes, extension: str) -> list[dict[str, Any]]:
    """Return the records of a file, as a program of another team reads them. Those of tables are rows."""
    match extension:
        case "zip":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                table = pq.read_table(io.BytesIO(archive.read("data/train.parquet")))
                return list(map(TableRow, table.to_pylist()))
        case "parquet":
            return list(map(TableRow, pq.read_table(io.BytesIO(content)).to_pylist()))
        case "csv":
            return list(map(TableRow, csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))))
        case _:
            return [json.loads(line) for line in content.splitlines()]


def leave(project: Project, name: str) -> list[dict[str, Any]]:
    found = open_download(
        read_selection(project, {"format": name} | ({} if name == "kto" else {"ties": "include"}))
    )
    return read(b"".join(found.chunks), found.filename.rpartition(".")[2])


def essence(rows: list[dict[str, Any]]) -> list[str]:
    """Return what the rows say, whatever the ids and the order of the completions are."""
    return sorted(json.dumps(_essence(row), sort_keys=True, default=str) for row in rows)


def _essence(row: dict[str, Any]) -> Any:
    sides = ("completion_a", "completion_b") if "completion_a" in row else ("chosen", "rejected")
    policies = ("policy_a", "policy_b") if "completion_a" in row else ("chosen_policy", "rejected_policy")
    completions = sorted(
        [json.dumps(row[side]), row[policy]] for side, policy in zip(sides, policies, strict=True)
    )
    by_name = {"a": sides[0], "b": sides[1], "chosen": sides[0], "rejected": sides[1]}
    if "completion_a" in row:
        said = [(one["verdict"], one["strength"], one["left"]) for one in row["judgments"]]
    else:
        cells = [row[name] for name in ("verdicts", "strengths", "chosen_left")]
        lists = [json.loads(cell) if isinstance(cell, str) else cell for cell in cells]
        lists[2] = [None if left is None else sides[not left] for left in lists[2]]
        said = list(zip(*lists, strict=True))
    votes = sorted(
        str((row.get(by_name.get(verdict), verdict), strength, left and row[by_name.get(left, left)]))
        for verdict, strength, left in said
    )
    names = ("prompt", "label", "margin", "metadata", "external_id", "id", "prompt_metadata")
    found = {name: row[name] for name in names if name in row}
    if float(found.get("label", 1)) == 0.5:
        # Of two that are equal it points to the first, and which is first is drawn on import.
        del found["margin"]
    return [found, completions, votes]


@pytest.mark.parametrize("name", ["jsonl", "parquet", "csv", "datasets", "comparisons"])
@given(st.lists(comparisons, min_size=1, max_size=3), st.booleans())
@settings(
    max_examples=6,
    phases=WITHOUT_SHRINKING,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_what_leaves_comes_in_without_loss(db, name, drawn, as_chats):
    number = next(numbers)
    ours, theirs = (
        Project.objects.create(slug=f"{side}-{number}", name=side, held_out_share=0)
        for side in ("ours", "theirs")
    )
    people = [User.objects.create_user(f"person-{number}-{place}", password="x") for place in range(2)]
    policies = tuple(ours.policies.create(name=policy, kind="external") for policy in ("one", "two"))
    for place, one in enumerate(drawn):
        prompt = f"{place} {one['prompt']}"
        made = compare(
            ours, [{"role": "user", "content": prompt}] if as_chats else prompt, *one["completions"], policies=policies,
            external_id=f"pair {place}", metadata=one["metadata"],
        )  # fmt: skip
        for person, (what, strength, left) in zip(people, one["said"], strict=False):
            say(person, made, what, strength, left=left)
    rows = leave(ours, name)
    if rows:
        format = find_format(rows)
        assert format is not None
        items = [
            (line, item)
            for line, row in enumerate(rows)
            for candidate in format.rows(row)
            for item in expand(candidate, Choices("judged"))
        ]
        write(theirs, items)
    assert essence(leave(theirs, name)) == essence(rows)


CHAT = '[{"role": "user", "content": "x"}]'
ANSWERS = [f'[{{"role": "assistant", "content": "{text}"}}]' for text in ("Blue.", "Green.")]


@pytest.mark.parametrize("texts", [[CHAT, "Blue.", "Green."], ["Sky?", *ANSWERS], [CHAT, *ANSWERS]], ids=str)
@pytest.mark.parametrize("name", ["jsonl", "comparisons", "kto"])
def test_texts_of_chats_stay_texts_in_json(project, make_member, name, texts):
    say(make_member("anna", "annotator"), compare(project, *texts), "first")
    rows = leave(project, name)
    format = find_format(rows)
    assert format is not None
    found = [candidate for row in rows for candidate in format.rows(row)]
    assert {one.prompt for one in found} == {texts[0]}
    assert {answer.content for one in found for answer in one.answers} == {*texts[1:]}


@pytest.mark.parametrize("texts", [[CHAT, "Blue.", "Green."], ["Sky?", *ANSWERS]], ids=str)
@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_texts_of_chats_stay_texts_in_tables(project, make_member, name, texts):
    """Unless all of a row are such texts."""
    say(make_member("anna", "annotator"), compare(project, *texts), "first")
    rows = leave(project, name)
    format = find_format(rows)
    assert format is not None
    [found] = format.rows(rows[0])
    assert (found.prompt, {answer.content for answer in found.answers}) == (texts[0], {*texts[1:]})


def test_a_judgment_that_was_too_fast_stays_so(project, make_member):
    judgment = say(make_member("anna", "annotator"), compare(project, "Sky?", "Blue.", "Green."), "first")
    Judgment.objects.filter(pk=judgment.pk).update(too_fast=True)
    rows = leave(project, "comparisons")
    other = Project.objects.create(slug="other", name="Other")
    format = find_format(rows)
    assert format is not None
    for counts in ({"prompts": 1, "judged": 1, "judgments": 1}, {"duplicates": 1}):
        items = [
            (line, item)
            for line, row in enumerate(rows)
            for candidate in format.rows(row)
            for item in expand(candidate, Choices("judged"))
        ]
        assert write(other, items).counts == counts
    assert essence(leave(other, "comparisons")) == essence(rows)
    assert [one["too_fast"] for row in leave(other, "comparisons") for one in row["judgments"]] == [True]


def test_an_export_says_that_a_judgment_is_not_too_fast(project, make_member):
    say(make_member("anna", "annotator"), compare(project, "Sky?", "Blue.", "Green."), "first")
    [row] = leave(project, "comparisons")
    [said] = row["judgments"]
    said["rationale"] = "It is blue on most days, and on others it is not."
    other = Project.objects.create(slug="other", name="Other")

    def bring_in(too_fast, **options):
        given = said | {"too_fast": too_fast}
        format = find_format([row])
        assert format is not None
        items = [
            item
            for candidate in format.rows(row | {"judgments": [given]})
            for item in expand(candidate, Choices("judged"))
        ]
        return write(other, list(enumerate(items)), **options)

    bring_in(True)
    assert bring_in(None).counts == {"duplicates": 1}
    outcome = bring_in(False, update=True)
    assert outcome.counts == {"updated": 1}
    [(_line, sentence)] = outcome.remarks
    assert '“["too fast", ' in sentence.partition(" here and ")[0]
    assert "too fast" not in sentence.partition(" here and ")[2]
    [again] = leave(other, "comparisons")
    assert [one["too_fast"] for one in again["judgments"]] == [False]
    assert bring_in(False).counts == bring_in(None).counts == {"duplicates": 1}
