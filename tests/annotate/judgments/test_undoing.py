"""Undo and redo: the latest judgment goes and comes back, and its place with it."""

import pytest

from annotate.errors import RefusalError
from annotate.judgments import drafts, judging, undoing
from annotate.models import Judgment
from annotate.queueing import queue
from tests.annotate.invariants import broken_rules
from tests.factories import SKIP, TIE, later, left, right


def test_undo_reopens_with_the_same_sides_and_a_draft(project, teammate, claim):
    judging.record(project, teammate, claim.token, left(claim, 3, rationale="Clear"))
    after = queue.claim(project, teammate)
    again = undoing.undo(project, teammate)
    assert (again.pk, again.left_id, again.state) == (claim.pk, claim.left_id, "live")
    assert again.draft["preferred_id"] == claim.left_id
    assert (again.draft["strength"], again.draft["rationale"]) == (3, "Clear")
    replacing = judging.record(project, teammate, again.token, TIE)
    assert replacing.replaces.preferred_id == claim.left_id
    assert queue.claim(project, teammate).pk == after.pk  # what was on screen comes next
    assert not broken_rules(project)


def test_undo_and_redo_go_through_the_whole_session(project, teammate, claim):
    order = []
    for _ in range(6):
        current = queue.claim(project, teammate)
        order.append(judging.record(project, teammate, current.token, left(current)).pk)
    undone = []
    while again := undoing.undo(project, teammate):
        undone.append(again.comparison_id)
        assert not broken_rules(project)
    comparisons = [Judgment.objects.get(pk=pk).comparison_id for pk in order]
    assert undone == comparisons[::-1]
    redone = []
    while judgment := undoing.redo(project, teammate):
        redone.append(judgment.pk)
        assert not broken_rules(project)
    assert redone == order
    assert Judgment.objects.filter(superseded_at=None).count() == 6
    assert Judgment.objects.count() == 6


def test_undo_and_redo_go_by_order_not_by_time(project, teammate, claim):
    """The clock was two hours ahead for the first verdict, and put right before the second and third."""
    order = []
    for at in (later(120), later(1), later(2)):
        current = queue.claim(project, teammate, now=at)
        order.append(judging.record(project, teammate, current.token, left(current), now=at).pk)
    undone = [undoing.undo(project, teammate, now=later(3 + number)).undone_id for number in range(3)]
    assert undone == order[::-1]
    assert [undoing.redo(project, teammate, now=later(9)).pk for _ in order] == order
    assert not broken_rules(project)


def test_a_redo_takes_the_notes_written_since_the_undo(project, teammate, claim):
    first = judging.record(project, teammate, claim.token, left(claim, 3, rationale="first"))
    again = undoing.undo(project, teammate)
    drafts.save_draft(project, teammate, again.token, {"rationale": "first, corrected"})
    redone = undoing.redo(project, teammate)
    assert (redone.rationale, redone.preferred_id, redone.strength) == ("first, corrected", claim.left_id, 3)
    assert (redone.replaces_id, redone.first_at, redone.seconds) == (first.pk, first.first_at, first.seconds)
    assert Judgment.objects.get(superseded_at=None) == redone
    assert not broken_rules(project)


def test_a_redo_whose_notes_cannot_be_stored_changes_nothing(project, teammate, claim):
    judging.record(project, teammate, claim.token, left(claim, rationale="first"))
    again = undoing.undo(project, teammate)
    drafts.save_draft(project, teammate, again.token, {"reasons": ["unknown"], "rationale": "second"})
    with pytest.raises(RefusalError, match="does not know the reason"):
        undoing.redo(project, teammate)
    again.refresh_from_db()
    assert (again.state, again.draft["rationale"]) == ("live", "second")
    assert not broken_rules(project)


def test_a_new_verdict_ends_what_can_be_redone(project, teammate, claim):
    judging.record(project, teammate, claim.token, left(claim))
    second = queue.claim(project, teammate)
    judging.record(project, teammate, second.token, left(second))
    undoing.undo(project, teammate)
    again = undoing.undo(project, teammate)
    judging.record(project, teammate, again.token, TIE)
    assert undoing.redo(project, teammate) is None


def test_there_is_nothing_to_undo_or_redo_for_who_did_nothing(project, teammate, owner, claim):
    judging.record(project, teammate, claim.token, TIE)
    assert undoing.undo(project, owner) is None
    assert undoing.redo(project, owner) is None
    assert undoing.redo(project, teammate) is None


def test_undo_keeps_the_place_so_nobody_else_gets_it(project, teammate, owner, make_comparisons):
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    judging.record(project, teammate, claim.token, TIE)
    undoing.undo(project, teammate)
    assert queue.claim(project, owner) is None


def test_a_redo_whose_place_was_given_away_is_marked_late(project, teammate, owner, make_comparisons):
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    judging.record(project, teammate, claim.token, TIE)
    undoing.undo(project, teammate)
    theirs = queue.claim(project, owner, now=later(11))
    judging.record(project, owner, theirs.token, TIE, now=later(12))
    assert undoing.redo(project, teammate, now=later(13)).late
    assert not broken_rules(project)


def test_what_replaces_a_late_judgment_is_late_too(project, teammate, owner, make_comparisons):
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    theirs = queue.claim(project, owner, now=later(11))
    judging.record(project, teammate, claim.token, TIE, now=later(12))
    judging.record(project, owner, theirs.token, TIE, now=later(12))
    again = undoing.undo(project, teammate, now=later(13))
    assert judging.record(project, teammate, again.token, left(again), now=later(14)).late
    assert not broken_rules(project)


def test_a_skip_whose_place_others_took_is_passed_over(project, teammate, owner, make_comparisons):
    make_comparisons(2)
    first = queue.claim(project, teammate)
    judging.record(project, teammate, first.token, TIE)
    second = queue.claim(project, teammate)
    judging.record(project, teammate, second.token, SKIP)
    theirs = queue.claim(project, owner)
    judging.record(project, owner, theirs.token, TIE)
    assert undoing.undo(project, teammate).comparison_id == first.comparison_id
    assert not broken_rules(project)
    assert undoing.redo(project, teammate).comparison_id == first.comparison_id
    assert not broken_rules(project)


def test_the_skip_that_set_a_comparison_aside_can_be_undone(project, make_member, make_comparisons):
    make_comparisons(1)
    for number in range(3):
        user = make_member(f"annotator{number}", "annotator")
        judging.record(project, user, queue.claim(project, user).token, SKIP)
    assert undoing.undo(project, user) is not None
    assert not broken_rules(project)


def test_a_verdict_from_a_tab_opened_before_a_redo_revises(project, teammate, claim):
    judging.record(project, teammate, claim.token, left(claim))
    again = undoing.undo(project, teammate)
    undoing.redo(project, teammate)
    revised = judging.record(project, teammate, again.token, right(claim))
    assert revised.token == again.token
    assert Judgment.objects.get(superseded_at=None).pk == revised.pk
    assert judging.record(project, teammate, again.token, right(claim)).pk == revised.pk
    assert not broken_rules(project)


def test_a_tab_of_an_undo_can_still_be_sent_after_a_redo(project, teammate, claim):
    judging.record(project, teammate, claim.token, left(claim))
    stale = undoing.undo(project, teammate)
    undoing.redo(project, teammate)
    undoing.undo(project, teammate)
    assert judging.record(project, teammate, stale.token, right(claim)).preferred_id == claim.right_id
    assert not broken_rules(project)


def test_a_verdict_that_an_undo_overtakes_is_recorded(project, teammate, claim, monkeypatch):
    judging.record(project, teammate, claim.token, TIE)
    reopened = undoing.undo(project, teammate)
    undoing.redo(project, teammate)
    settle = judging._settle

    def overtaken(*args):
        settled = settle(*args)
        monkeypatch.setattr(judging, "_settle", settle)
        undoing.undo(project, teammate)  # as another tab does, once this one found the claim settled
        return settled

    monkeypatch.setattr(judging, "_settle", overtaken)
    sent = judging.record(project, teammate, reopened.token, SKIP)
    [current] = Judgment.objects.current().filter(annotator=teammate)
    assert (current, current.verdict) == (sent, "skip")
    assert broken_rules(project) == []
