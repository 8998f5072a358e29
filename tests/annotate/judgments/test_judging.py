"""Recording and revising: one judgment per submission, nothing lost, nothing forged."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Count

from annotate.errors import RefusalError
from annotate.judgments import judging, revising, undoing
from annotate.judgments.judging import Verdict
from annotate.judgments.verdicts import RATIONALE_LIMIT
from annotate.models import Claim, Comparison, Judgment, Membership, Project, stored_aspects
from annotate.queueing import queue
from tests.annotate.invariants import broken_rules
from tests.factories import SKIP, TIE, later, left, right

# --- Recording ---------------------------------------------------------------------------------------------------


def test_a_judgment_names_its_completion_and_keeps_the_sides(project, teammate, claim):
    judgment = judging.record(project, teammate, claim.token, right(claim, 3))
    judgment.refresh_from_db()
    assert (judgment.verdict, judgment.preferred_id, judgment.strength) == ("prefer", claim.right_id, 3)
    assert (judgment.left_id, judgment.right_id) == (claim.left_id, claim.right_id)
    assert (judgment.late, judgment.too_fast, judgment.superseded_at) == (False, True, None)
    claim.comparison.refresh_from_db()
    assert (claim.comparison.judged, claim.comparison.claimed) == (1, 0)


def test_every_strength_and_verdict_is_stored_as_it_was_given(project, teammate, make_comparisons):
    """argilla#5712: every ranking stored as 1, 2, 3."""
    make_comparisons(12)
    given = [("prefer", 1), ("prefer", 2), ("prefer", 3), ("tie", None), ("both_bad", None), ("skip", None)]
    stored = []
    for verdict, strength in given:
        claim = queue.claim(project, teammate)
        preferred = claim.left_id if strength else None
        judging.record(project, teammate, claim.token, Verdict(verdict, preferred, strength))
        judgment = Judgment.objects.get(token=claim.token)
        stored.append((judgment.verdict, judgment.strength))
    assert stored == given


def test_a_double_click_a_retry_and_a_reload_are_one_judgment(project, teammate, claim):
    first = judging.record(project, teammate, claim.token, left(claim))
    for verdict in (left(claim), right(claim), TIE):
        assert judging.record(project, teammate, claim.token, verdict).pk == first.pk
    assert Judgment.objects.get().preferred_id == claim.left_id
    assert not broken_rules(project)


def test_a_replay_after_undo_stays_undone(project, teammate, claim):
    first = judging.record(project, teammate, claim.token, left(claim))
    again = undoing.undo(project, teammate)
    assert again.token != claim.token
    replayed = judging.record(project, teammate, claim.token, left(claim))
    assert replayed.pk == first.pk
    assert Judgment.objects.get().superseded_at is not None
    assert queue.claim(project, teammate).pk == again.pk


def test_a_late_verdict_is_accepted_and_marked(project, teammate, owner, claim):
    """Open-Assistant#1138: work was lost with the lock."""
    queue.expire_claims(project, now=later(11))
    judgment = judging.record(project, teammate, claim.token, left(claim), now=later(12))
    assert judgment.late
    assert not broken_rules(project)


def test_a_verdict_on_a_freed_claim_is_late_on_every_clock(project, teammate, owner, make_comparisons):
    """A verdict that waited for the database, or another server's clock, can be behind what freed its claim."""
    make_comparisons(1)
    mine = queue.claim(project, teammate)
    queue.expire_claims(project, now=later(11))
    theirs = queue.claim(project, owner)
    assert judging.record(project, teammate, mine.token, left(mine)).late
    assert not judging.record(project, owner, theirs.token, left(theirs)).late
    assert broken_rules(project) == []


def test_a_late_verdict_counts_beside_the_one_that_came_first(project, teammate, owner, make_comparisons):
    make_comparisons(1)
    mine = queue.claim(project, teammate)
    theirs = queue.claim(project, owner, now=later(11))
    assert judging.record(project, teammate, mine.token, left(mine), now=later(12)).late
    assert not judging.record(project, owner, theirs.token, left(theirs), now=later(13)).late
    comparison = Comparison.objects.get()
    assert (comparison.judged, comparison.claimed, comparison.needed) == (2, 0, 1)
    assert not broken_rules(project)


def test_a_verdict_on_what_was_fetched_ahead_may_arrive_first(project, teammate, claim):
    """The browser was offline for two verdicts, and sends them in any order."""
    ahead = queue.claim_next(project, teammate)
    judging.record(project, teammate, ahead.token, left(ahead))
    judging.record(project, teammate, claim.token, left(claim))
    assert not Judgment.objects.filter(late=True).exists()
    assert not broken_rules(project)


@pytest.mark.parametrize(
    ("measured", "waited", "seconds", "too_fast"),
    [
        (None, 30, 30, False),
        (4.5, 30, 4.5, False),
        (0.4, 30, 0.4, True),
        (900.0, 30, 30, False),  # longer than it was held
        (float("nan"), 30, 30, False),
        (-5.0, 1, 1, True),
    ],
)
def test_seconds_are_the_browsers_where_they_are_possible(
    project, teammate, claim, measured, waited, seconds, too_fast
):
    now = claim.seen_at + timedelta(seconds=waited)
    judgment = judging.record(project, teammate, claim.token, left(claim), seconds=measured, now=now)
    assert judgment.seconds == pytest.approx(seconds)
    assert judgment.too_fast is too_fast


def test_a_fast_skip_is_not_marked(project, teammate, claim):
    assert not judging.record(project, teammate, claim.token, SKIP, seconds=0.2).too_fast


def test_reasons_criteria_and_rationale_are_kept(project, teammate, claim):
    project.reasons = stored_aspects(["warmer words", "clearer"])
    project.criteria = stored_aspects(["helpful", "honest"])
    project.save()
    criteria = {
        "helpful": {"verdict": "prefer", "preferred_id": claim.right_id, "strength": 1},
        "honest": {"verdict": "tie"},
    }
    verdict = left(claim, reasons=["clearer", "clearer"], criteria=criteria, rationale="  Because.\n")
    judgment = judging.record(project, teammate, claim.token, verdict)
    judgment.refresh_from_db()
    assert (judgment.reasons, judgment.criteria, judgment.rationale) == (["clearer"], criteria, "Because.")


# --- What is refused ---------------------------------------------------------------------------------------------


def refused(project: Project, field: str, *said: Any, where: Project | None = None) -> str:
    """Return the message of the refusal of this field. Check that nothing changed."""
    before = list(Claim.objects.order_by("pk").values()), list(Judgment.objects.order_by("pk").values())
    with pytest.raises(RefusalError) as caught:
        judging.record(where or project, *said)
    assert caught.value.field == field
    assert (
        list(Claim.objects.order_by("pk").values()),
        list(Judgment.objects.order_by("pk").values()),
    ) == before
    assert not broken_rules(project)
    return caught.value.message


@pytest.mark.parametrize(
    "token",
    ["", "not a token", "12", "01234567-89ab-4cde-8f01-23456789abcd", "'; DROP TABLE annotate_claim; --"],
)
def test_a_forged_token_is_refused(project, teammate, claim, token):
    refused(project, "token", teammate, token, left(claim))


def test_another_persons_token_is_refused(project, owner, claim):
    refused(project, "token", owner, claim.token, left(claim))


def test_a_token_of_another_project_is_refused(project, teammate, claim):
    other = Project.objects.create(slug="other", name="Other")
    Membership.objects.create(project=other, user=teammate, role="annotator")
    refused(project, "token", teammate, claim.token, left(claim), where=other)


def test_a_preference_for_a_foreign_completion_is_refused(project, teammate, claim):
    stranger = Comparison.objects.exclude(pk=claim.comparison_id)[0].first_id
    refused(project, "preferred_id", teammate, claim.token, Verdict("prefer", stranger, 1))
    refused(project, "preferred_id", teammate, claim.token, Verdict("prefer", 10**12, 1))


@pytest.mark.parametrize(
    ("field", "verdict"),
    [
        ("verdict", Verdict("")),
        ("verdict", Verdict("best")),
        ("verdict", Verdict(None)),
        ("verdict", Verdict(["prefer"])),
        ("preferred_id", Verdict("prefer", None, 2)),
        ("preferred_id", Verdict("prefer", "1", 2)),
        ("preferred_id", Verdict("prefer", True, 2)),
        ("preferred_id", Verdict("tie", 1)),
        ("strength", Verdict("prefer", 1)),
        ("strength", Verdict("prefer", 1, 0)),
        ("strength", Verdict("prefer", 1, 4)),
        ("strength", Verdict("prefer", 1, 1.5)),
        ("strength", Verdict("prefer", 1, True)),
        ("strength", Verdict("skip", None, 2)),
        ("reasons", Verdict("tie", reasons=["no such reason"])),
        ("reasons", Verdict("tie", reasons="warmer words")),
        ("reasons", Verdict("tie", reasons=[["nested"]])),
        ("criteria", Verdict("tie", criteria={"no such": {"verdict": "tie"}})),
        ("criteria", Verdict("tie", criteria={"helpful": "left"})),
        ("criteria", Verdict("tie", criteria={"helpful": {"verdict": "prefer", "preferred_id": 1}})),
        (
            "criteria",
            Verdict("tie", criteria={"helpful": {"verdict": "prefer", "preferred_id": -1, "strength": 1}}),
        ),
        ("criteria", Verdict("tie", criteria=["helpful"])),
        ("rationale", Verdict("tie", rationale="x" * (RATIONALE_LIMIT + 1))),
        ("rationale", Verdict("tie", rationale="a\x00b")),
        ("rationale", Verdict("tie", rationale="\ud800")),
        ("rationale", Verdict("tie", rationale=7)),
    ],
)
def test_a_verdict_that_makes_no_sense_is_refused_by_its_field(project, teammate, claim, field, verdict):
    """Label Studio stores a Submit with nothing chosen as an empty verdict."""
    project.criteria = stored_aspects(["helpful"])
    project.save()
    message = refused(project, field, teammate, claim.token, verdict)
    assert message.endswith(".")
    assert len(message) < 200


# --- Revising ----------------------------------------------------------------------------------------------------


def test_an_edit_keeps_the_old_judgment_as_history(project, teammate, claim):
    old = judging.record(project, teammate, claim.token, left(claim))
    new = revising.revise(project, teammate, old.pk, right(claim))
    old.refresh_from_db()
    assert old.superseded_at is not None
    assert (new.replaces_id, new.preferred_id, new.left_id) == (old.pk, claim.right_id, claim.left_id)
    assert not broken_rules(project)


def test_the_same_edit_twice_is_one(project, teammate, claim):
    old = judging.record(project, teammate, claim.token, left(claim))
    new = revising.revise(project, teammate, old.pk, TIE)
    assert revising.revise(project, teammate, old.pk, TIE).pk == new.pk
    assert revising.revise(project, teammate, new.pk, TIE).pk == new.pk
    assert Judgment.objects.count() == 2


def test_an_edit_of_what_was_changed_meanwhile_is_refused(project, teammate, claim):
    old = judging.record(project, teammate, claim.token, left(claim))
    revising.revise(project, teammate, old.pk, TIE)
    with pytest.raises(RefusalError, match="changed meanwhile"):
        revising.revise(project, teammate, old.pk, right(claim))


def test_only_an_own_judgment_is_edited_and_only_in_its_project(project, teammate, owner, claim):
    judgment = judging.record(project, teammate, claim.token, left(claim))
    other = Project.objects.create(slug="other", name="Other")
    for user, where in ((owner, None), (teammate, other)):
        with pytest.raises(RefusalError, match="no such judgment"):
            revising.revise(where, user, judgment.pk, TIE)


def test_a_skip_edited_into_a_verdict_counts_and_is_marked_extra(project, teammate, owner, make_comparisons):
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    skipped = judging.record(project, teammate, claim.token, SKIP)
    theirs = queue.claim(project, owner)
    judging.record(project, owner, theirs.token, TIE)
    assert revising.revise(project, teammate, skipped.pk, left(claim)).late
    comparison = Comparison.objects.get()
    assert (comparison.judged, comparison.skipped) == (2, 0)
    assert not broken_rules(project)


def test_an_edit_of_a_verdict_into_a_skip_frees_the_place(project, teammate, owner, make_comparisons):
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    judgment = judging.record(project, teammate, claim.token, TIE)
    revising.revise(project, teammate, judgment.pk, SKIP)
    assert queue.claim(project, owner) is not None
    assert not broken_rules(project)


def test_nobody_has_two_current_judgments_whatever_they_do(project, teammate, claim):
    judging.record(project, teammate, claim.token, left(claim))
    again = undoing.undo(project, teammate)
    judging.record(project, teammate, again.token, right(claim))
    current = Judgment.objects.filter(superseded_at=None).values("comparison", "annotator")
    assert max(current.annotate(count=Count("pk")).values_list("count", flat=True)) == 1
