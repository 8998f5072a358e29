"""Archiving stops a project at once: what was on screen may be judged, what was given before it arrives, no more."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from annotate.errors import RefusalError
from annotate.judgments import judging
from annotate.models import Claim, Judgment
from annotate.projects import lifecycle
from annotate.queueing import queue
from tests.annotate.desk import FRAGMENT, on_screen, url
from tests.factories import TIE


@pytest.fixture
def ahead(claim: Claim, project: Any, teammate: Any) -> Claim:
    """Return what was fetched ahead when the project was archived, with `claim` on screen."""
    fetched = queue.claim_next(project, teammate)
    assert fetched is not None
    lifecycle.archive(project)
    return fetched


def test_what_was_on_screen_is_stored(claim: Claim, ahead: Claim, project: Any, teammate: Any) -> None:
    assert queue.claim(project, teammate) == claim
    turn = judging.judge_and_next(project, teammate, claim.token, TIE)
    assert (turn.judgment.verdict, turn.live, turn.next) == ("tie", None, None)
    assert queue.claim(project, teammate) is None


def test_what_was_fetched_ahead_is_not_stored(
    claim: Claim, ahead: Claim, project: Any, teammate: Any
) -> None:
    judging.judge_and_next(project, teammate, claim.token, TIE)
    with pytest.raises(RefusalError, match="archived before you judged"):
        judging.judge_and_next(project, teammate, ahead.token, TIE)
    assert Judgment.objects.count() == 1
    assert Claim.objects.get(pk=ahead.pk).state == "next"
    lifecycle.restore(project)
    assert judging.record(project, teammate, ahead.token, TIE)


def test_a_verdict_given_before_and_sent_after_is_stored(
    claim: Claim, ahead: Claim, project: Any, teammate: Any
) -> None:
    later = timezone.now() + timedelta(hours=1)
    judging.record(project, teammate, claim.token, TIE, age=3_700, now=later)
    judging.record(project, teammate, ahead.token, TIE, age=3_650, now=later)
    assert Judgment.objects.count() == 2


def test_nothing_more_is_fetched_ahead(claim: Claim, ahead: Claim, project: Any, teammate: Any) -> None:
    assert queue.claim_next(project, teammate) is None


def test_the_desk_says_that_it_is_archived(
    claim: Claim, ahead: Claim, teammate: Any, client_for: Any
) -> None:
    desk = client_for(teammate)
    fields = {**on_screen(desk), "verdict": "tie", "shown": str(ahead.token)}
    assert "This project is archived" in desk.post(url("judge"), fields, headers=FRAGMENT).content.decode()
    fields = {"token": str(ahead.token), "verdict": "tie", "rationale": "Kept?", "age": "nonsense"}
    refused = desk.post(url("judge"), fields, headers=FRAGMENT)
    assert refused.status_code == 422
    assert "was not stored" in refused.content.decode()
    undone = desk.post(url("undo"), headers=FRAGMENT).content.decode()
    assert "its judgments stay as they are" in undone
    assert Judgment.objects.get().superseded_at is None
