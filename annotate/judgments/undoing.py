"""Undo and redo: the annotator's latest judgment taken back, and put back."""

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from annotate.judgments.places import give_up_place, take_place_again
from annotate.judgments.revising import get_settled_state, has_place_left, replace_judgment
from annotate.judgments.verdicts import DRAFT_KEYS, NOTE_KEYS, Verdict, name_shown
from annotate.models import Claim, Comparison, Judgment, Project, User, has_place
from annotate.models.conflicts import RaceError, again_on_race
from annotate.queueing import queue

SESSION = timedelta(hours=24)  # how far back undo goes; older judgments are edited on the history page


@again_on_race
def undo(project: Project, annotator: User, *, now: datetime | None = None) -> Claim | None:
    """Undo the annotator's latest judgment and reopen its comparison, with the verdict as the draft. Return None if
    there is none. The comparison on screen comes next, and the one fetched ahead is given back.

    The claim gets a new token, so that the old verdict sent again changes nothing. A token that no verdict has used
    stays good, for the tab that still shows it. A skip whose place others have taken since cannot be taken back,
    and is passed over.
    """
    now = now or timezone.now()
    with transaction.atomic():
        undoable = _undoable(project, annotator, now)
        locked = undoable.select_for_update(of=("self",))
        latest = locked.order_by("-pk").first()  # clocks are set now and then, ids only grow
        # One that was revised while the lock was awaited is passed over, with what is there in its place.
        if undoable.filter(pk__gt=latest.pk if latest else 0).exists():
            raise RaceError("A newer judgment came between the look and the lock.")
        if latest is None:
            return None
        claim = _make_way(latest, now)
        if latest.verdict == Judgment.Verdict.SKIP and not has_place_left(claim):
            raise RaceError("Its place was taken between the look and the lock.")
        Judgment.objects.filter(pk=latest.pk).update(superseded_at=now)
        Claim.objects.filter(pk=claim.pk).update(
            state=Claim.State.LIVE,
            token=uuid.uuid4() if Judgment.objects.filter(token=claim.token).exists() else claim.token,
            undone=latest,
            claimed_at=now,
            seen_at=now,
            expires_at=now + queue.get_lease(project),
            draft={name: getattr(latest, name) for name in DRAFT_KEYS},
        )
        give_up_place(latest)
    return queue.show_claims(claim.pk)[claim.pk]


@again_on_race
def redo(project: Project, annotator: User, *, now: datetime | None = None) -> Judgment | None:
    """Put back the judgment that was undone last. Return None if there is none, or if something was judged since.

    Notes that were changed since the undo revise it, and the judgment with the old ones stays as history. Raises
    RefusalError where the draft holds notes that cannot be stored.
    """
    now = now or timezone.now()
    judgments = Judgment.objects.filter(project=project, annotator=annotator)
    with transaction.atomic():
        claim = (
            _undone(project, annotator)
            .select_for_update(of=("self",))
            .select_related("undone")
            .order_by("-undone__superseded_at", "-undone__created_at")
            .first()
        )
        if claim is None or claim.undone is None:
            return None
        # A skip that could not be undone was passed over, and is newer than what was undone in its place.
        since = ~Q(verdict=Judgment.Verdict.SKIP) | Q(created_at__gt=claim.undone.superseded_at)
        if judgments.current().filter(since, pk__gt=claim.undone.pk).exists():
            return None
        Comparison.objects.select_for_update().get(pk=claim.comparison_id)
        judgment = claim.undone
        state = get_settled_state(judgment.verdict, judgment.skip_reason)
        if claim.state in Claim.FREED and state == Claim.State.JUDGED and not has_place_left(claim):
            judgment.late = True
        judgment.superseded_at = None
        judgment.save(update_fields=["superseded_at", "late"])
        Claim.objects.filter(pk=claim.pk).update(state=state, undone=None, draft={})
        take_place_again(judgment)
        return _revise_notes(project, judgment, claim.draft, now)


def _revise_notes(project: Project, judgment: Judgment, draft: Mapping[str, Any], now: datetime) -> Judgment:
    """Replace a judgment whose notes differ from those of the draft. The undo has put all of its notes there."""
    notes = {name: draft[name] for name in NOTE_KEYS if name in draft}
    if all(getattr(judgment, name) == said for name, said in notes.items()):
        return judgment
    said = {name: getattr(judgment, name) for name in DRAFT_KEYS if name not in NOTE_KEYS}
    verdict = Verdict(**said, **notes)
    fields = name_shown(verdict.check(project), (judgment.left_id, judgment.right_id))
    return replace_judgment(judgment, verdict.revised(fields, judgment), uuid.uuid4(), now)


def can_undo(project: Project, annotator: User) -> bool:
    """Return whether `undo` would currently find something."""
    return _undoable(project, annotator, timezone.now()).exists()


def can_redo(project: Project, annotator: User) -> bool:
    """Return whether `redo` may find something. Later judgments are not looked at."""
    return _undone(project, annotator).exists()


def _make_way(judgment: Judgment, now: datetime) -> Claim:
    """Return the claim that `judgment` settled. Lock its comparison, and move the annotator's other claims back so that
    it can be live."""
    claims = (
        Claim.objects.select_for_update()
        .filter(
            Q(comparison=judgment.comparison_id) | Q(state__in=Claim.HOLDING),
            project=judgment.project_id,
            annotator=judgment.annotator_id,
        )
        .order_by("state")  # the live one before the next one, as `judge_and_next` takes them
    )
    by_state = {claim.state: claim for claim in claims}
    touched = [claim.comparison_id for claim in by_state.values()]
    # Both comparisons whose counters change are locked before either is written, in one order.
    list(Comparison.objects.select_for_update().filter(pk__in=touched).order_by("pk"))
    if ahead := by_state.get(Claim.State.NEXT):
        queue.release(ahead, now=now)
    if live := by_state.get(Claim.State.LIVE):
        Claim.objects.filter(pk=live.pk).update(state=Claim.State.NEXT, expires_at=now + queue.NEXT_LEASE)
    return by_state[get_settled_state(judgment.verdict, judgment.skip_reason)]


def _undoable(project: Project, annotator: User, now: datetime) -> QuerySet[Judgment]:
    recent = Judgment.objects.current().filter(
        project=project, annotator=annotator, created_at__gt=now - SESSION
    )
    return recent.filter(~Q(verdict=Judgment.Verdict.SKIP) | has_place("comparison__"))


def _undone(project: Project, annotator: User) -> QuerySet[Claim]:
    opened = Claim.objects.filter(project=project, annotator=annotator, undone__isnull=False)
    return opened.unsettled()
