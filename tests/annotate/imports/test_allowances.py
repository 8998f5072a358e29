"""One record that would become far more than it holds: it is refused by its line, before memory is taken."""

import json
import tracemalloc
from typing import Any

import pytest

from annotate.imports import allowances
from annotate.imports.files import rows as reading
from annotate.imports.files import whole
from annotate.imports.files.options import Options
from tests.annotate.imports.rows import jsonl
from tests.annotate.sources.cases.corpora import TREE

SMALL = {"prompt": "One", "chosen": "a", "rejected": "b"}
MEMORY = 64 * 1024 * 1024  # bytes that a hostile record of some hundred kB may take


def check(project: Any, *records: Any, format: str, **options: Any) -> whole.Report:
    chosen = Options(format=format, becomes=options.pop("becomes", "judged"), **options)
    return whole.check_file(project, jsonl(*records), "jsonl", chosen)


def message(role: str, text: str, replies: Any = (), **more: Any) -> dict[str, Any]:
    return {"message_id": text, "role": role, "text": text, "replies": list(replies), **more}


def trees(count: int, answers: int) -> dict[str, Any]:
    """Return a tree of many prompts with ranked answers."""
    questions = [
        message(
            "prompter", f"q{n}", [message("assistant", f"{n}.{rank}", rank=rank) for rank in range(answers)]
        )
        for n in range(count)
    ]
    return {"prompt": message("prompter", "root", [message("assistant", "first", questions)])}


def assert_refused(project: Any, record: Any, says: str, format: str, **options: Any) -> None:
    tracemalloc.start()
    try:
        report = check(project, record, format=format, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(json.dumps(record)) < 4_000_000
    [(line, sentence)] = report.check.errors
    assert (line, says in sentence) == (1, True), sentence
    assert not report.check.found
    assert peak < MEMORY


def test_a_tree_of_too_many_pairs_is_refused_by_its_line(project: Any) -> None:
    """100 prompts with 64 answers each would make 201,600 pairs."""
    assert_refused(project, trees(100, 64), "more than 10,000 pairs", "oasst")


def test_a_ranking_by_too_many_annotators_is_refused(project: Any) -> None:
    """900 annotators who judge 2,016 pairs would make 1.8 million judgments."""
    record = {
        "fields": {"prompt": "P", **{f"answer_{n}": f"a{n}" for n in range(64)}},
        "responses": {
            "better": [{"value": "tie", "status": "submitted", "user_id": str(n)} for n in range(900)]
        },
    }
    assert_refused(project, record, "more than 16 MiB", "argilla")


def test_metadata_that_many_pairs_would_repeat_is_bounded(project: Any) -> None:
    answers = [{"answer": f"a{n}", "rank": n, "model": "m"} for n in range(64)]
    record = {"prompt": "P", "answers": answers, "note": "x" * 60_000}
    assert_refused(project, record, "more than 16 MiB", "nectar")


def test_a_prompt_that_a_tree_would_repeat_is_bounded(project: Any) -> None:
    questions = [message("assistant", f"a{n}", [message("prompter", f"q{n}")]) for n in range(500)]
    record = {"prompt": message("prompter", "x" * 90_000, questions)}
    assert_refused(project, record, "more than 16 MiB", "oasst", becomes="prompts")


def test_keys_that_a_tree_would_repeat_are_bounded(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each prompt of a tree has the metadata of all of it. No more prompts are read than may become something."""
    monkeypatch.setattr(allowances, "BYTES", 1024 * 1024)
    questions = [message("assistant", f"a{n}", [message("prompter", f"q{n}")]) for n in range(3_000)]
    record = {"prompt": message("prompter", "root", questions), **{f"key {n}": n for n in range(3_000)}}
    assert_refused(project, record, "more than 1 MiB", "oasst", becomes="prompts")


def test_ratings_of_one_prompt_share_their_bounds(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowances, "PAIRS", 2)
    records = [{"prompt": "P", "completion": f"c{n}", "label": n < 2} for n in range(6)]
    report = check(project, *records, format="trl-kto")
    assert report.check.found["judged"] == 3  # the first is free
    [(line, sentence)] = report.check.errors
    assert (line, "more than 2 pairs" in sentence) == (6, True)


def test_a_pair_of_ratings_that_is_left_out_is_counted(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the line that completes it completes another pair, too."""
    monkeypatch.setattr(allowances, "PAIRS", 2)
    records = [{"prompt": "P", "completion": f"c{n}", "label": n < 2} for n in range(4)]
    report = check(project, *records, format="trl-kto")
    assert (report.check.found["judged"], report.check.unused) == (3, {"parts": 1})


def test_ratings_of_one_prompt_are_read_together_up_to_some_size(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "GROUP_CHARACTERS", 200)
    records = [{"prompt": "P", "completion": f"{n}" * 150, "label": n % 2 == 0} for n in range(4)]
    report = check(project, *records, format="trl-kto")
    assert report.check.found["judged"] == 2


def test_a_refused_record_leaves_the_others(project: Any) -> None:
    report = check(project, trees(100, 64), TREE, format="oasst")
    assert (report.check.counts["rows"], report.check.counts["wrong"]) == (2, 1)
    assert report.check.found["judged"]


def test_the_largest_ranking_is_taken(project: Any) -> None:
    answers = [{"answer": f"a{n}", "rank": n, "model": "m"} for n in range(64)]
    report = check(project, {"prompt": "P", "answers": answers, "source": "web"}, format="nectar")
    assert report.check.found["judged"] == 64 * 63 // 2


def test_a_record_that_says_nothing_is_refused(project: Any) -> None:
    """A tree that begins with the assistant holds no prompt."""
    report = check(project, {"prompt": message("assistant", "Hello")}, TREE, format="oasst")
    assert report.check.errors[0] == [1, "It holds no prompt."]
    assert report.check.found["judged"]
