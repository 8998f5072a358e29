"""A dry run counts what a run would: what is known, what differs, and what is new, wherever blocks end."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import pytest

from annotate.imports.files import checking, earlier, whole
from annotate.imports.files.earlier import EarlierRecords, Place
from annotate.imports.files.options import Options
from annotate.imports.records import Item, PairOpinion
from annotate.imports.writing import NEWS
from annotate.models import Comparison, Project, Prompt
from annotate.sources.candidates import CriterionOpinion
from tests.annotate.imports.rows import jsonl

ROWS, BLOCK = 40, 4


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "ROWS_AT_A_TIME", BLOCK)
    monkeypatch.setattr(checking, "ROWS_AT_A_TIME", BLOCK)


def own_row(draw: Random) -> dict[str, Any]:
    """Return one of few rows of Whetstone's, which often repeat or contradict each other."""
    row: dict[str, Any] = {"prompt": draw.choice("PQ")}
    if draw.random() < 0.7:
        row |= dict(zip(("completion_a", "completion_b"), draw.sample("abc", 2), strict=True))
    for key, values in {
        "policy_a": "xy", "id": "12", "metadata": [{"m": 1}, {"m": 2}], "prompt_external_id": "pq",
        "prompt_metadata": [{"n": 1}, {}], "gold": ["a", "b", "none"], "withdrawn": [False, True],
    }.items():  # fmt: skip
        is_of_pair = key not in ("id", "metadata", "prompt_external_id", "prompt_metadata", "withdrawn")
        is_of_prompt = key.startswith("prompt_")
        if draw.random() < 0.25 and ("completion_a" in row or not (is_of_pair or is_of_prompt)):
            row[key] = draw.choice(values)
    return row


def preferred(side: str) -> dict[str, Any]:
    return {"verdict": "prefer", "preferred": side, "strength": 1}


CRITERIA: list[dict[str, Any]] = [
    {}, {"criteria": {}},
    {"criteria": {"help": preferred("a")}}, {"criteria": {"help": preferred("b")}},
    {"criteria": {"key-1": preferred("a")}, "criterion_titles": ["help"]},
    {"criteria": {"help": preferred("b"), "care": {"verdict": "tie"}}},
    {"criteria": {"care": {"verdict": "tie"}, "help": preferred("b")}},
]  # fmt: skip


def judged_row(draw: Random) -> dict[str, Any]:
    """Return one of few comparisons with judgments, as an export writes them."""
    judgments = [
        {"judgment": 1, "annotator": draw.choice("uvw"), "verdict": draw.choice(["a", "b", "tie", "skip"]),
         "strength": None, "rationale": draw.choice(["", "why"]), "seconds": None, "left": draw.choice("ab"),
         "late": draw.random() < 0.2,
         "reasons": draw.choice([None, [], ["Clear"], ["Clear", "Short"]]),
         **draw.choice(CRITERIA)}
        for _ in range(draw.randrange(3))
    ]  # fmt: skip
    first, second = draw.sample("abc", 2)
    return {
        "prompt": draw.choice("PQ"), "completion_a": first, "completion_b": second, "policy_a": "m", "policy_b": "m",
        "id": draw.choice(["", "1"]), "metadata": {}, "prompt_external_id": "", "prompt_metadata": {}, "gold": None,
        "judgments": judgments,
    }  # fmt: skip


def counts(file: BytesIO, project: Any, options: Options, *, dry: bool) -> dict[str, int]:
    if dry:
        return dict(whole.check_file(project, file, "jsonl", options).check.outcome.counts)
    return dict(whole.import_file(project, file, "jsonl", options, "rows.jsonl").outcome.counts)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    ("make", "options"),
    [(own_row, Options()), (judged_row, Options(format="whetstone-judged", becomes="judged"))],
)
def test_a_dry_run_counts_what_a_run_counts(db: None, make: Any, options: Options, seed: int) -> None:
    project = Project.objects.create(slug=f"dry-{seed}", name="Dry")
    draw = Random(seed)
    rows = [make(draw) for _ in range(ROWS)]
    for part in (rows[: ROWS // 2], rows):  # into an empty project, and into one that knows half of them
        dry = counts(jsonl(*part), project, options, dry=True)
        before = Prompt.objects.count(), Comparison.objects.count()
        assert dry == counts(jsonl(*part), project, options, dry=False), json.dumps(part)
        assert before[0] == 0 or part is rows  # the dry run wrote nothing


def test_an_id_that_is_not_stored_is_not_shared_in_one_block(project: Any) -> None:
    first, renamed = {"prompt": "One", "id": "1"}, {"prompt": "One", "id": "2"}
    rows = jsonl(first, renamed, {"prompt": "Two", "id": "2"})
    assert counts(rows, project, Options(), dry=False) == {"prompts": 2, "different": 1}


def test_of_what_no_later_record_means_nothing_is_found() -> None:
    with EarlierRecords() as memory:
        memory.add([((1, Item("P", completions=("a", "b"), external_id="1")), NEWS)])
        assert memory.find([Item("Q", completions=("a", "b"), external_id="2")]) == []


def names(items: list[Item]) -> list[Any]:
    return [(item.digest, item.keys) for item in items]


def test_records_are_found_with_what_made_their_prompt() -> None:
    maker = Item("P", prompt_external_id="p")
    pair = Item("P", completions=("a", "b"), external_id="1")
    said = Item("P", completions=("b", "a"), opinions=(PairOpinion("u", "tie"),))
    other = Item("P", completions=("a", "c"))
    with EarlierRecords() as memory:
        memory.add([((n, item), NEWS) for n, item in enumerate((maker, pair, other, said))])
        assert names(memory.find([Item("P", completions=("a", "b"))])) == names([maker, pair, said])
        assert len(memory.find([Item("Q", completions=("c", "d"), external_id="1")])) == 2
        assert names(memory.find([Item("Q", prompt_external_id="p")])) == names([maker])


def test_an_id_of_what_was_known_names_nothing() -> None:
    known = Item("P", completions=("a", "b"), external_id="1", opinions=(PairOpinion("u", "tie"),))
    with EarlierRecords() as memory:
        memory.add([((1, known), {"judgments"})])
        assert memory.find([Item("Q", completions=("a", "b"), external_id="1")]) == []


def test_of_many_judgments_only_the_annotators_are_found() -> None:
    def said(name: str) -> Item:
        return Item("P", completions=("a", "b"), opinions=(PairOpinion(name, "tie", rationale="why"),))

    with EarlierRecords() as memory:
        memory.add([((1, said("u0")), NEWS)])
        memory.add([((n, said(f"u{n}")), {"judgments"}) for n in range(1, 1_000)])
        found = memory.find([said("u7"), said("new")])
    assert [item.opinions for item in found] == [(), said("u7").opinions]


@pytest.mark.parametrize("completions", [("a", "b"), ("b", "a")])
def test_what_criteria_prefer_is_found_in_either_order(completions: tuple[str, str]) -> None:
    """A later record has the completions the other way round, and names the criteria in another order."""

    def said(item: Item, preferred: str, key: str = "") -> Item:
        assert item.completions is not None
        one = CriterionOpinion(key, "Help", "prefer", item.completions.index(preferred), 1)
        tie = CriterionOpinion("care", "", "tie")
        return replace(item, opinions=(PairOpinion("u", "tie", criteria=(one, tie) if key else (tie, one)),))

    known = said(Item("P", completions=completions), "a")
    with EarlierRecords() as memory:
        memory.add([((1, known), NEWS)])
        [found] = memory.find([said(Item("P", completions=completions[::-1]), "a", "key-1")])
        [other] = memory.find([said(Item("P", completions=completions[::-1]), "b")])
    assert {*found.opinions[0].criteria} == {*known.opinions[0].criteria}
    assert not {*other.opinions[0].criteria} & {*known.opinions[0].criteria}


def test_no_text_is_kept_on_disk(tmp_path: Path) -> None:
    secret = "Secret text. " * 1_000
    item = Item(
        secret, completions=(secret + "1", secret + "2"), prompt_external_id="Secret id", external_id="Secret pair",
        metadata={"Secret key": secret}, prompt_metadata={"Secret key": secret},
        opinions=(PairOpinion("Secret name", "a", 0, rationale=secret),),
    )  # fmt: skip
    path = tmp_path / "records.sqlite3"
    with EarlierRecords(path) as memory:
        memory.add([((n, item), NEWS) for n in range(100)])
        memory.commit(Place())
    kept = path.read_bytes()
    assert b"Secret" not in kept
    assert len(kept) < 100 * 1_000


def test_of_an_id_that_many_records_share_few_are_kept() -> None:
    with EarlierRecords() as memory:
        memory.add([((n, Item(f"P{n}", prompt_external_id="same")), NEWS) for n in range(100)])
        assert len(memory.find([Item("Q", prompt_external_id="same")])) == earlier.NAMED
