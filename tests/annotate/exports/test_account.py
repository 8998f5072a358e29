"""The account of an export on its page: what will leave, counted without a look at all texts each time."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.exports import account
from annotate.exports.bundle import open_download
from annotate.models import Prompt
from annotate.pairs.filters import REASONS, Filters
from annotate.pairs.snapshots import take_snapshot
from tests.factories import compare, say


def compared_texts(selection) -> tuple[dict, int]:
    """Return the account of a selection, and how many queries compared texts for it."""
    with CaptureQueriesContext(connection) as queries:
        found = account.count(selection.project, selection.filters, selection.settings)
    return found, sum('"text" = ' in query["sql"] for query in queries)


def test_equal_completions_leave_by_no_account_and_no_file(project, three, plain, select):
    for text in ("Yes.", "No."):
        say(three[0], compare(project, f"Is it {text}?", text, text), "first")
    selection = select(format="csv")
    found, _queries = compared_texts(selection)
    download = open_download(selection)
    rows = len(b"".join(download.chunks).splitlines()) - 1
    assert (found["excluded"]["equal"], found["pairs"]) == (2, rows)
    assert download.written.total == rows


def test_what_was_withdrawn_is_not_counted_as_equal(project, three, plain, select):
    same = compare(project, "Same?", "Yes.", "Yes.")
    say(three[0], same, "first")
    same.withdraw()
    found, _queries = compared_texts(select())
    assert found["excluded"] == {"both_bad": 1, "skipped": 1, "tie": 1, "withdrawn": 1}


def test_texts_are_compared_once_and_new_ones_when_they_come(project, three, plain, select):
    selection = select()
    assert [compared_texts(selection)[1] for _ in range(3)] == [1, 0, 0]
    same = compare(project, "Same?", "Yes.", "Yes.")
    say(three[0], same, "first")
    counted = [compared_texts(selection) for _ in range(2)]
    assert [(found["excluded"].get("equal"), queries) for found, queries in counted] == [(1, 1), (1, 0)]


def test_a_comparison_that_is_seen_late_is_compared(project, three, plain, select):
    """Two transactions may draw ids in one order, and commit in the other."""
    selection = select()
    last = plain[-1].pk
    say(three[0], compare(project, "First to commit", "One", "Two", pk=last + 1_000), "first")
    compared_texts(selection)
    say(three[0], compare(project, "Same?", "Yes.", "Yes.", pk=last + 999), "first")
    assert compared_texts(selection)[0]["excluded"]["equal"] == 1


@pytest.mark.parametrize(
    ("held_out", "pairs", "reason"),
    [("leave", (1, 0), "held_out"), ("only", (0, 1), "not_held_out"), ("include", (1, 1), None)],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_the_side_that_stays_is_counted(project, owner, three, plain, held_out, pairs, reason, frozen):
    """Comparisons on held-out prompts are looked at when they are left out, so that the page can say how many."""
    other = compare(project, "Held out", "Yes.", "No.")
    say(three[0], other, "first")
    Prompt.objects.filter(pk=other.prompt_id).update(held_out=True)
    snapshot = take_snapshot(project, owner) if frozen else None
    found = account.count(project, Filters(held_out=held_out), snapshot=snapshot)
    assert (found["train"], found["held_out"]) == pairs
    sides = {name: count for name, count in found["excluded"].items() if "held_out" in name}
    if frozen:
        assert sides == ({reason: 1} if reason else {})
    else:
        assert sides == {"leave": {"held_out": 1}, "only": {"not_held_out": 4}, "include": {}}[held_out]


def test_reasons_read_well_behind_the_number_one():
    """“1 ties” and “1 equal completions” do not: a noun in the plural needs “with” or “on” before it."""
    for label in map(str, REASONS.values()):
        first, *others = label.removesuffix(".").split()
        has_plural = any(word.endswith("s") for word in (first, *others))
        assert not has_plural or first in ("with", "on"), label
