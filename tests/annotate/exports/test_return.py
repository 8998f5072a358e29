"""Exported comparisons come back with all that was said of them: reasons, criteria, marks and times."""

import itertools
import json
from typing import Any

import pytest
from django.core.files.base import ContentFile
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from annotate.exports.bundle import open_download
from annotate.forms.exports import read_selection
from annotate.imports import records, uploads
from annotate.imports.expansion import Choices, expand
from annotate.imports.files import checking, reception
from annotate.imports.files.spool import dump, load
from annotate.imports.reader import RowError
from annotate.imports.records import ImportRefusedError, Item
from annotate.imports.writing import Outcome, write
from annotate.judgments import revising
from annotate.judgments.verdicts import Verdict
from annotate.models import Comparison, Import, Judgment, Project, User
from annotate.sources.errors import RecordError
from annotate.sources.formats import find_format
from tests.factories import compare, say

numbers = itertools.count(1)
letters = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=6)
titles = st.sampled_from(["Klarer", "Полезно", "有用", "أوضح", "Plus clair", "é", "👍", "Length: “long”"])
choices = st.one_of(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 3)),
    st.tuples(st.sampled_from(["tie", "both_bad"]), st.none()),
)
judgments = st.fixed_dictionaries(
    {
        "verdict": st.one_of(choices, st.just(("skip", None))),
        "reasons": st.lists(st.integers(0, 2), unique=True, max_size=3),
        "criteria": st.dictionaries(st.integers(0, 2), choices, max_size=3),
        "rationale": letters,
        "left": st.sampled_from(["first", "second"]),
        "edited": st.one_of(st.none(), choices),
        "too_fast": st.booleans(),
        "late": st.booleans(),
        "seconds": st.sampled_from([None, 0.25, 12.5]),
    }
)
comparisons = st.fixed_dictionaries(
    {
        "prompt": letters,
        "gold": st.sampled_from([None, None, "a", "b"]),
        "said": st.lists(judgments, min_size=1, max_size=2),
    }
)
OF_A_PROJECT = {"comparison", "batch"}  # ids, and what is called “import 1” there
OF_A_JUDGMENT = {"judgment", "annotator", "imported"}


def leave(project: Project) -> list[dict[str, Any]]:
    project.refresh_from_db()
    query = {"format": "comparisons", "gold": "include", "held_out": "include"}
    found = open_download(read_selection(project, query))
    return [json.loads(line) for line in b"".join(found.chunks).splitlines()]


def items_of(rows: list[dict[str, Any]]) -> list[tuple[int, Item]]:
    format = find_format(rows)
    assert format is not None
    assert format.name == "whetstone-judged"
    return [
        (line, item)
        for line, row in enumerate(rows)
        for candidate in format.rows(row)
        for item in expand(candidate, Choices("judged"))
    ]


def bring_in(project: Project, rows: list[dict[str, Any]], **options: Any) -> Outcome:
    return write(project, load(dump(items_of(rows))), **options)


def essence(rows: list[dict[str, Any]], *, by_title: bool = False) -> list[str]:
    return sorted(json.dumps(_essence(row, by_title), sort_keys=True) for row in rows)


def _essence(row: dict[str, Any], by_title: bool) -> dict[str, Any]:
    said = [
        {key: value for key, value in one.items() if key not in OF_A_JUDGMENT} for one in row["judgments"]
    ]
    if by_title:
        said = [
            one | {"criteria": [*zip(one["criterion_titles"], one["criteria"].values(), strict=True)]}
            for one in said
        ]
    return {key: value for key, value in row.items() if key not in OF_A_PROJECT} | {
        "judgments": sorted(json.dumps(one, sort_keys=True) for one in said)
    }


def make_project(side: str, reasons: list[str] | None = None, criteria: list[str] | None = None) -> Project:
    project = Project.objects.create(slug=f"{side}-{next(numbers)}", name=side, held_out_share=0)
    for column, given_titles in (("reasons", reasons or []), ("criteria", criteria or [])):
        stored = [{"key": f"key-{n}", "title": title} for n, title in enumerate(given_titles, start=1)]
        setattr(project, column, stored)
    project.save()
    return project


def judge(project: Project, user: User, made: Comparison, drawn: dict[str, Any]) -> None:
    ids = {"a": made.first_id, "b": made.second_id}

    def chosen(choice: tuple[str, int | None]) -> dict[str, Any]:
        word, strength = choice
        if word not in ids:
            return {"verdict": word}
        return {"verdict": "prefer", "preferred_id": ids[word], "strength": strength}

    judgment = say(user, made, "tie", left=drawn["left"])
    verdict = Verdict(
        **chosen(drawn["verdict"]),
        reasons=[project.reasons[place]["key"] for place in drawn["reasons"]],
        criteria={project.criteria[place]["key"]: chosen(one) for place, one in drawn["criteria"].items()},
        rationale=drawn["rationale"],
    )
    judgment = revising.revise(project, user, judgment.pk, verdict)
    if drawn["edited"]:
        judgment = revising.revise(project, user, judgment.pk, Verdict(**chosen(drawn["edited"])))
    marks = {name: drawn[name] for name in ("too_fast", "late", "seconds")}
    Judgment.objects.filter(pk=judgment.pk).update(**marks)


@given(
    st.lists(comparisons, min_size=1, max_size=2),
    st.lists(titles, min_size=3, max_size=3),
    st.lists(titles, min_size=3, max_size=3),
)
@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_all_that_was_said_comes_back(db, drawn, reasons, criteria):
    ours, theirs = make_project("ours", reasons, criteria), make_project("theirs")
    people = [User.objects.create_user(f"who-{next(numbers)}", password="x") for _ in range(2)]
    policies = tuple(ours.policies.create(name=policy, kind="external") for policy in ("one", "two"))
    for place, one in enumerate(drawn):
        made = compare(ours, f"{place} {one['prompt']}", "Blue.", "Green.", policies=policies,
                       external_id=f"pair {place}")  # fmt: skip
        for person, said in zip(people, one["said"], strict=False):
            judge(ours, person, made, said)
        if one["gold"]:
            preferred = {"a": made.first_id, "b": made.second_id}[one["gold"]]
            Comparison.objects.filter(pk=made.pk).update(kind="gold", gold_preferred=preferred)
    rows = leave(ours)
    said = [
        named
        for row in rows
        for one in row["judgments"]
        for named in (one["reasons"], one["criterion_titles"])
    ]
    if any(len({*named}) < len(named) for named in said):
        with pytest.raises(RowError, match="two are called"):
            bring_in(theirs, rows)
        return
    bring_in(theirs, rows)
    has_twins = len({*criteria}) < 3  # the title says which is meant, and two keys become one
    assert essence(leave(theirs), by_title=has_twins) == essence(rows, by_title=has_twins)
    again = bring_in(theirs, rows, update=True)
    assert again.counts == {"duplicates": len(rows)}, again.remarks
    theirs.refresh_from_db()
    assert all(one.is_removed for one in [*theirs.all_reasons, *theirs.all_criteria])


@pytest.fixture
def row(project: Project, make_member: Any) -> dict[str, Any]:
    """One exported comparison, judged by a reason and by a criterion whose key says nothing."""
    project.reasons = [{"key": "clear", "title": "Clearer"}]
    project.criteria = [{"key": "key-1", "title": "Полезно"}]
    project.save()
    anna, made = make_member("anna", "annotator"), compare(project, "Sky?", "Blue.", "Green.")
    judgment = say(anna, made, "first")
    notes = {"reasons": ["clear"], "criteria": {"key-1": {"verdict": "tie"}}}
    revising.revise(project, anna, judgment.pk, Verdict("prefer", made.first_id, 2, **notes))
    [found] = leave(project)
    return found


def test_a_criterion_of_the_same_key_is_another_one(row):
    theirs = make_project("theirs", criteria=["Безопасно"])
    bring_in(theirs, [row])
    [judgment] = Judgment.objects.filter(project=theirs)
    theirs.refresh_from_db()
    assert [(one.key, one.title, one.is_removed) for one in theirs.all_criteria] == [
        ("key-1", "Безопасно", False),
        ("key-2", "Полезно", True),
    ]
    assert judgment.criteria == {"key-2": {"verdict": "tie"}}


def test_a_reason_of_the_same_title_is_the_same_one(row):
    theirs = make_project("theirs", reasons=["Shorter", "Clearer"])
    bring_in(theirs, [row])
    assert [one.reasons for one in Judgment.objects.filter(project=theirs)] == [["key-2"]]
    theirs.refresh_from_db()
    assert len(theirs.reasons) == 2


def test_an_older_file_names_criteria_by_keys_alone(row):
    """A key that is made of the title means it. A number does not."""
    theirs = make_project("theirs", criteria=["Ясно"])
    theirs.criteria += [{"key": "helpful", "title": "Helpful"}]
    theirs.save()
    said = row["judgments"][0]
    del said["criterion_titles"]
    said["criteria"] = {"helpful": {"verdict": "tie"}, "key-1": {"verdict": "both_bad"}}
    bring_in(theirs, [row])
    expected = {"helpful": {"verdict": "tie"}, "key-1-2": {"verdict": "both_bad"}}
    for _ in range(2):
        assert [one.criteria for one in Judgment.objects.filter(project=theirs)] == [expected]
        assert bring_in(theirs, [row], update=True).counts == {"duplicates": 1}
    [left] = leave(theirs)
    assert left["judgments"][0]["criterion_titles"] == ["Helpful", "key-1"]


@pytest.mark.parametrize("name", ["reasons", "criteria", "late"])
def test_what_an_older_file_does_not_say_stays(row, name):
    theirs = make_project("theirs")
    bring_in(theirs, [row])
    before = essence(leave(theirs))
    del row["judgments"][0][name]
    assert bring_in(theirs, [row], update=True).counts == {"duplicates": 1}
    assert essence(leave(theirs)) == before


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        ({"reasons": []}, "what “NAME” gave as reasons is “clearer” here and missing in this row."),
        ({"criteria": {}}, "what “NAME” said by criteria is “key-1 tie” here and missing in this row."),
        ({"late": True}, 'here and “["late", 2,'),
    ],
    ids=str,
)
def test_another_reason_is_told_and_taken_if_asked(row, change, remark):
    theirs = make_project("theirs")
    bring_in(theirs, [row])
    row["judgments"][0] |= change
    outcome = bring_in(theirs, [row])
    assert outcome.counts == {"different": 1}
    assert remark.replace("NAME", row["judgments"][0]["annotator"]) in outcome.remarks[0][1]
    bring_in(theirs, [row], update=True)
    [left] = leave(theirs)
    assert left["judgments"][0] | change == left["judgments"][0]
    assert Judgment.objects.filter(project=theirs).count() == 2  # the first one is history


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"reasons": "clear"}, "reasons must be a list of texts."),
        ({"reasons": ["x" * 61]}, "reasons must be text of at most 60 characters."),
        ({"reasons": [" "]}, "reasons: each needs a title."),
        ({"reasons": ["Clear", "Clear "]}, "reasons: two are called “Clear”. Rename one of them."),
        ({"strength": 1.7}, "The strength of a preference must be 1, 2 or 3."),
        (
            {"criteria": {"x": {"verdict": "prefer", "preferred": "a", "strength": 1.7}}},
            "The strength of a preference must be 1, 2 or 3.",
        ),
        ({"reasons": [str(n) for n in range(51)]}, "A judgment has 51 reasons; at most 50 are taken."),
        ({"criteria": ["x"]}, "criteria must be an object of objects."),
        ({"criteria": {"x": {"verdict": "a"}}}, "criteria: what is said of “x” is not a verdict."),
        ({"criteria": {"x": {"verdict": "prefer", "strength": 1}}}, "by “x”"),
        ({"criteria": {"x": {"verdict": "prefer", "preferred": "a"}}}, "has a strength of 1, 2 or 3."),
        ({"criteria": {"x": {"verdict": "tie", "preferred": "a"}}}, "by “x”"),
        ({"criteria": {"": {"verdict": "tie"}}}, "criteria: each needs a title."),
    ],
    ids=str,
)
def test_reasons_that_are_none_are_refused_by_name(row, change, sentence):
    row["judgments"][0] |= change
    row["judgments"][0].pop("criterion_titles")
    with pytest.raises((RowError, RecordError)) as caught:
        items_of([row])
    assert sentence in str(caught.value)


def test_a_project_takes_no_more_than_200_reasons_of_files(row):
    theirs = make_project("theirs")
    said = row["judgments"][0]
    row["judgments"] = [
        said | {"annotator": f"rater {n}", "reasons": [f"reason {n} {m}" for m in range(50)]}
        for n in range(5)
    ]
    with pytest.raises(ImportRefusedError, match="more than 200 reasons"):
        bring_in(theirs, [row])
    assert not Judgment.objects.filter(project=theirs).exists()


def upload(project: Project, by: User, rows: list[dict[str, Any]]) -> Import:
    """Check a file on the page, a step at a time."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    found = reception.receive(project, by, ContentFile(content, name="rows.jsonl"), "")
    while found.state == Import.State.CHECKING:
        found = uploads.work(found.pk, 0)
    return found


def run(found: Import) -> Import:
    uploads.start(found)
    while (found := uploads.work(found.pk, 0)).state == Import.State.RUNNING:
        pass
    return found


@pytest.fixture
def small_steps(monkeypatch):
    """Let a step take few rows, of a check and of a run."""
    for module in (checking, uploads):
        monkeypatch.setattr(module, "ROWS_AT_A_TIME", 4)


def with_reason(row: dict[str, Any], number: int, reason: str) -> dict[str, Any]:
    said = row["judgments"][0] | {"reasons": [reason]}
    return row | {"prompt": f"Sky {number}?", "id": f"pair {number}", "judgments": [said]}


def test_a_check_counts_the_reasons_of_its_earlier_steps(row, make_member, small_steps, monkeypatch):
    monkeypatch.setattr(records, "ASPECTS_LIMIT", 5)
    theirs, owner = make_project("theirs"), make_member("olga", "admin")
    rows = [with_reason(row, number, f"reason {number}") for number in range(12)]
    found = upload(theirs, owner, rows)
    assert (found.state, found.counts["wrong"], found.counts["expected"]["judged"]) == ("ready", 7, 5)
    found = run(found)
    theirs.refresh_from_db()
    assert (found.state, found.counts["made"]["judged"], len(theirs.reasons)) == ("done", 5, 5)


def test_a_remark_shows_no_digest(row, make_member, small_steps):
    """A check knows digests alone of what an earlier step read."""
    theirs, owner = make_project("theirs"), make_member("olga", "admin")
    others = [with_reason(row, number, "Clearer") for number in range(8)]
    found = upload(theirs, owner, [with_reason(row, 9, "Shorter"), *others, with_reason(row, 9, "Clearer")])
    [(line, remark)] = found.counts["remarks"]
    assert line == 10
    assert "gave as reasons is “…” here and “clearer” in this row." in remark


def test_what_another_project_decides_is_counted_as_left_out(row):
    row |= {"held_out": True, "arm": "probe", "propensity": 0.5}
    [(_line, item)] = items_of([row])
    assert item.left_out == {"held_out": 1, "arms": 1}
