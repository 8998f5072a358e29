"""Gold first: real work begins for who is right on enough of it."""

from typing import Any

import pytest
from django.utils import timezone

from annotate.judgments import judging
from annotate.judgments.judging import Verdict
from annotate.models import Comparison, Membership, Project
from annotate.queueing import empty_queue, qualification, queue


@pytest.fixture
def strict(project: Project, make_comparisons: Any) -> Project:
    project.qualification_size, project.qualification_pass = 3, 0.6
    project.save()
    make_comparisons(10)
    make_comparisons(8, kind="gold")
    return project


def judge_gold(project: Project, user: Any, right: bool) -> None:
    claim = queue.claim(project, user)
    assert claim.comparison.kind == "gold"
    gold = claim.comparison.gold_preferred_id
    wrong = claim.right_id if gold == claim.left_id else claim.left_id
    judging.record(project, user, claim.token, Verdict("prefer", gold if right else wrong, 1))


def test_real_work_begins_when_the_qualification_is_passed(strict, teammate):
    for right in (True, False, True):
        assert queue.claim_next(strict, teammate) is None
        judge_gold(strict, teammate, right)
    assert queue.claim(strict, teammate).comparison.kind == "standard"
    assert Membership.objects.get(user=teammate).qualified_at is not None


def test_an_admin_lets_a_failed_annotator_retry_or_in(strict, teammate, owner):
    for _ in range(3):
        judge_gold(strict, teammate, right=False)
    assert queue.claim(strict, teammate) is None
    found = empty_queue.explain(strict, teammate)
    assert found.reason == empty_queue.Reason.NOT_QUALIFIED
    assert (found.standing.correct, found.standing.judged, found.standing.size) == (0, 3, 3)
    qualification.try_again(strict, teammate)
    judge_gold(strict, teammate, right=True)
    qualification.admit(strict, teammate)
    assert queue.claim(strict, teammate).comparison.kind == "standard"


def test_a_qualification_with_too_little_gold_says_so(strict, teammate):
    Comparison.objects.filter(kind="gold").update(withdrawn_at=timezone.now())
    assert queue.claim(strict, teammate) is None
    assert empty_queue.explain(strict, teammate).reason == empty_queue.Reason.TOO_LITTLE_GOLD
