"""Verdicts given by name, for tests of what is made of them."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from annotate.judgments import judging
from annotate.judgments.judging import Verdict
from annotate.models import Claim, Comparison, Judgment, User


def say(
    user: User, comparison: Comparison, what: str, strength: int = 2, *, left: str = "first", **kwargs: Any
) -> Judgment:
    """Let `user` judge `comparison`: "first", "second", or a verdict's name. `left` is the side of `first`."""
    shown = [comparison.first, comparison.second]
    if left == "second":
        shown.reverse()
    claim = Claim.objects.create(
        project=comparison.project,
        comparison=comparison,
        annotator=user,
        left=shown[0],
        right=shown[1],
        expires_at=timezone.now() + timedelta(minutes=10),
    )
    preferred = {"first": comparison.first_id, "second": comparison.second_id}.get(what)
    verdict = Verdict("prefer", preferred, strength) if preferred else Verdict(what)
    return judging.record(comparison.project, user, claim.token, verdict, **kwargs)
