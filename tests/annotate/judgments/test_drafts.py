"""Drafts of a verdict, and flags for an admin."""

import pytest

from annotate.errors import RefusalError
from annotate.judgments import drafts, judging, undoing
from annotate.judgments.verdicts import RATIONALE_LIMIT
from annotate.models import Flag
from annotate.queueing import queue
from tests.factories import TIE


def test_a_draft_survives_a_reload_and_ends_with_the_verdict(project, teammate, claim):
    assert drafts.save_draft(project, teammate, claim.token, {"rationale": "So far ", "strength": 2})
    assert queue.claim(project, teammate).draft == {"rationale": "So far ", "strength": 2}
    judging.record(project, teammate, claim.token, TIE)
    claim.refresh_from_db()
    assert claim.draft == {}
    assert not drafts.save_draft(project, teammate, claim.token, {"rationale": "Too late"})


@pytest.mark.parametrize(
    "draft",
    [
        {"rationale": "x" * (RATIONALE_LIMIT + 1)},
        {"rationale": "\x00"},
        {"reasons": ["x" * RATIONALE_LIMIT]},
        {"criteria": {"a": "\x00"}},
        {"is_admin": True},
    ],
)
def test_a_draft_that_cannot_be_kept_is_refused(teammate, claim, draft):
    with pytest.raises(RefusalError):
        drafts.save_draft(claim.project, teammate, claim.token, draft)
    claim.refresh_from_db()
    assert claim.draft == {}


def test_a_draft_is_ones_own(owner, claim):
    assert not drafts.save_draft(claim.project, owner, claim.token, {"rationale": "Not mine"})


def test_a_flag_after_a_resolved_one_is_open(teammate, claim):
    first = drafts.flag(claim.project, teammate, claim.token, "Broken")
    assert drafts.resolve_flag(claim.project, first.pk)
    again = drafts.flag(claim.project, teammate, claim.token, "Still broken")
    assert list(Flag.objects.open()) == [again]
    assert Flag.objects.get(pk=first.pk).note == "Broken"


def test_a_flag_is_raised_once_and_its_note_can_be_changed(teammate, owner, claim):
    drafts.flag(claim.project, teammate, claim.token, "Broken")
    drafts.flag(claim.project, teammate, claim.token, "Broken text")
    assert Flag.objects.get().note == "Broken text"
    with pytest.raises(RefusalError):
        drafts.flag(claim.project, owner, claim.token)
    with pytest.raises(RefusalError):
        drafts.flag(claim.project, teammate, claim.token, "x" * 2001)


def test_a_flag_that_an_undo_overtook_is_taken(project, teammate, owner, claim):
    judging.record(project, teammate, claim.token, TIE)
    undone = undoing.undo(project, teammate)
    assert undone.token != claim.token
    drafts.flag(project, teammate, claim.token, "Broken")
    assert Flag.objects.get().comparison_id == claim.comparison_id
    with pytest.raises(RefusalError):
        drafts.flag(project, owner, claim.token)
