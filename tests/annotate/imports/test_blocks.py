"""A file's rows are written in blocks that its items bound: one row of a ranking becomes thousands of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection

from annotate.imports import uploads, writing
from annotate.imports.files import reception, whole
from annotate.imports.files.options import Options, recognise
from annotate.models import Comparison, Import
from tests.annotate.imports.rows import jsonl

MOST = 50  # items of a block, in these tests
RANKED, ANSWERS = 12, 8
PAIRS = ANSWERS * (ANSWERS - 1) // 2


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ITEMS_AT_A_TIME", MOST)


@contextmanager
def most_values() -> Iterator[list[int]]:
    """Yield a list that gets the number of values of each SELECT."""
    counts: list[int] = []

    def count(execute: Any, sql: str, values: Any, many: bool, context: Any) -> Any:
        if sql.startswith("SELECT"):
            counts.append(sum(len(one) if isinstance(one, list) else 1 for one in values or ()))
        return execute(sql, values, many, context)

    with connection.execute_wrapper(count):
        yield counts


def ranking(number: int) -> dict[str, Any]:
    answers = [{"answer": f"a{n}", "rank": n, "model": "m"} for n in range(ANSWERS)]
    return {"id": f"row-{number}", "prompt": f"Prompt {number}", "answers": answers}


def rankings() -> BytesIO:
    return jsonl(*map(ranking, range(RANKED)))


def bring_in(project: Any, content: BytesIO, **choices: Any) -> whole.Report:
    recognition = recognise([ranking(0)], "jsonl")
    options = Options(format=recognition.name, becomes=recognition.becomes)
    return whole.import_file(project, content, "jsonl", options, "rows.jsonl", **choices)


# --- The items of rows -------------------------------------------------------------------------------------------


def test_a_file_of_rankings_is_brought_in_by_blocks_of_items(project: Any) -> None:
    told: list[int] = []
    with most_values() as counts:
        report = bring_in(project, rankings(), told=told.append)
    assert report.outcome.counts == {"prompts": RANKED, "judged": RANKED * PAIRS, "judgments": RANKED * PAIRS}
    assert max(counts) < 4 * MOST
    assert len(told) > RANKED * PAIRS // (2 * MOST)
    again = bring_in(project, rankings())
    assert again.outcome.counts == {"duplicates": RANKED * PAIRS}


def test_a_row_of_more_items_than_a_block_is_written_in_parts(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "ITEMS_AT_A_TIME", 10)
    with most_values() as counts:
        report = bring_in(project, jsonl(ranking(1)))
    assert report.outcome.counts == {"prompts": 1, "judged": PAIRS, "judgments": PAIRS}
    assert max(counts) < PAIRS


def test_an_uploaded_file_of_rankings_is_written_by_items(project: Any, owner: Any) -> None:
    content = ContentFile(rankings().getvalue(), name="rows.jsonl")
    upload = reception.receive(project, owner, content)
    written: list[int] = []
    with most_values() as counts:
        assert uploads.work(upload.pk, 60).state == Import.State.READY
        uploads.start(upload)
        while uploads.work(upload.pk, 0).state == Import.State.RUNNING:
            written.append(Comparison.objects.count())
    assert Comparison.objects.filter(judged=1, needed=1).count() == RANKED * PAIRS
    steps = [after - before for before, after in pairwise([0, *written])]
    assert steps
    assert max(steps) < MOST + PAIRS
    assert max(counts) < 4 * MOST


# --- Ids of many rows --------------------------------------------------------------------------------------------


def test_of_an_id_that_many_rows_share_few_are_read(project: Any) -> None:
    rows = [{"prompt": f"Prompt {n}", "id": "same"} for n in range(200)]
    pairs = [
        {"prompt": f"Pair {n}", "completion_a": "a", "completion_b": "b", "id": "same"} for n in range(200)
    ]
    whole.import_whole(project, jsonl(*rows, *pairs), "jsonl")
    other = {
        "prompt": "New",
        "completion_a": "a",
        "completion_b": "b",
        "id": "same",
        "prompt_external_id": "same",
    }
    with most_values() as counts:
        outcome = whole.import_whole(project, jsonl(other), "jsonl")
    assert outcome.counts == {"prompts": 1, "pairs": 1, "shared_ids": 1}
    assert max(counts) < MOST


def test_an_id_of_one_pair_alone_is_not_shared(project: Any) -> None:
    """Nor is one that the same texts have twice, by other policies."""
    pair = {"prompt": "One", "completion_a": "a", "completion_b": "b", "id": "same"}
    by_others = {**pair, "policy_a": "x", "policy_b": "y"}
    by_more = {**pair, "policy_a": "x", "policy_b": "z"}
    for _ in range(2):
        for row in (by_others, by_more):
            assert not whole.import_whole(project, jsonl(row), "jsonl").counts["shared_ids"]
    another = {**pair, "prompt": "Two"}
    assert whole.import_whole(project, jsonl(another), "jsonl").counts["shared_ids"] == 1
    assert whole.import_whole(project, jsonl(by_others), "jsonl").counts["shared_ids"] == 1
