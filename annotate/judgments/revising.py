"""Revised judgments: one verdict in the place of another, which stays as history."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.judgments.places import give_up_place
from annotate.judgments.verdicts import Verdict, name_shown
from annotate.models import Claim, Comparison, Judgment, Project, User, has_place
from annotate.models.conflicts import again_on_race


@again_on_race
def revise(
    project: Project,
    annotator: User,
    judgment_id: int,
    verdict: Verdict,
    *,
    now: datetime | None = None,
) -> Judgment:
    """Replace the annotator's earlier verdict, which stays as history. Notes that the new one is not asked about
    stay as they were. The same verdict again changes nothing. Raises RefusalError."""
    with transaction.atomic():
        mine = Judgment.objects.select_for_update().filter(project=project, annotator=annotator)
        judgment = mine.filter(pk=judgment_id).first()
        if judgment is None:
            raise RefusalError(_("There is no such judgment of yours."), "judgment")
        fields = name_shown(verdict.check(project), (judgment.left_id, judgment.right_id))
        fields = verdict.revised(fields, judgment)
        if judgment.superseded_at is not None:
            judgment = _successor(judgment, fields)
        return replace_judgment(judgment, fields, uuid.uuid4(), now or timezone.now())


def replace_judgment(
    judgment: Judgment, fields: Mapping[str, Any], token: uuid.UUID, now: datetime, look: float | None = None
) -> Judgment:
    """Put what `fields` say in the place of a judgment. `look` are the seconds of another look at the comparison."""
    if _says(judgment, fields):
        return judgment
    claim = Claim.objects.select_for_update().get(
        comparison=judgment.comparison_id, annotator=judgment.annotator_id
    )
    Comparison.objects.select_for_update().get(pk=judgment.comparison_id)
    state = get_settled_state(fields["verdict"], fields["skip_reason"])
    is_taken_up = claim.state != Claim.State.JUDGED and state == Claim.State.JUDGED
    late = judgment.late or (is_taken_up and not has_place_left(claim))
    Judgment.objects.filter(pk=judgment.pk).update(superseded_at=now)
    Claim.objects.filter(pk=claim.pk).update(state=state)
    if state != Claim.State.JUDGED:
        give_up_place(judgment)
    return Judgment.objects.create(
        **fields,
        project_id=judgment.project_id,
        comparison_id=judgment.comparison_id,
        annotator_id=judgment.annotator_id,
        left_id=judgment.left_id,
        right_id=judgment.right_id,
        token=token,
        seconds=add_seconds(look, judgment),
        too_fast=judgment.too_fast,
        late=late,
        replaces=judgment,
        first_at=min(judgment.first_at, now),
        created_at=now,
    )


def add_seconds(seconds: float | None, before: Judgment | None) -> float | None:
    """Return the seconds of reading, those of the looks before this one too. None if no look was measured."""
    looks = [seconds, before.seconds if before else None]
    measured = [look for look in looks if look is not None]
    return sum(measured) if measured else None


def get_settled_state(verdict: str, skip_reason: str) -> Claim.State:
    if verdict != Judgment.Verdict.SKIP:
        return Claim.State.JUDGED
    return Claim.State.PASSED if skip_reason else Claim.State.SKIPPED


def has_place_left(claim: Claim) -> bool:
    """Return whether the claim's comparison, which is locked, has a place for one more annotator."""
    return Comparison.objects.filter(has_place(), pk=claim.comparison_id).exists()


def _successor(judgment: Judgment, fields: Mapping[str, Any]) -> Judgment:
    """Return the judgment that replaced this one, if it says the same: the edit was sent twice."""
    successor = Judgment.objects.current().filter(replaces=judgment).first()
    if successor is not None and _says(successor, fields):
        return successor
    raise RefusalError(
        _("This judgment was changed meanwhile. Reload the page to see how it stands."), "judgment"
    )


def _says(judgment: Judgment, fields: Mapping[str, Any]) -> bool:
    return all(getattr(judgment, name) == value for name, value in fields.items())
