"""Recording, revising, undoing and redoing judgments: the only writer of Judgment.

A verdict arrives with the token of the claim that it answers. However often it arrives (a double click, a retry
of a slow network, a reload), it is one judgment. Counters follow a claim's state by triggers, so each function
here moves the claim and the judgment together, in one transaction.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.judgments.verdicts import (
    DRAFT_KEYS,
    Verdict,
    name_shown,
    parse_token,
    unknown_token,
)
from annotate.models import Claim, Comparison, Judgment, Project, User, has_place
from annotate.models.conflicts import RaceError, again_on_race
from annotate.queueing import queue

__all__ = [
    "Turn",
    "Verdict",
    "can_redo",
    "can_undo",
    "judge_and_next",
    "record",
    "redo",
    "revise",
    "undo",
]

SESSION = timedelta(hours=24)  # how far back undo goes; older judgments are edited on the history page


@dataclass(frozen=True)
class Turn:
    """The outcome of one submitted verdict: the judgment, the claim on screen now, and the one after it."""

    judgment: Judgment
    live: Claim | None
    next: Claim | None


@again_on_race
def record(
    project: Project,
    annotator: User,
    token: uuid.UUID | str,
    verdict: Verdict,
    *,
    seconds: float | None = None,
    age: float = 0.0,
    now: datetime | None = None,
) -> Judgment:
    """Store the verdict on the claim with this token; returns the judgment, even when it was stored before.

    `seconds` is the time from sight to verdict, as the browser measured it; without it, the server's. After an undo it
    is added to that of the looks before. `age` is how many seconds ago the verdict was given. Raises RefusalError, also
    for a token of another project.
    """
    with transaction.atomic():
        return _record(
            project, annotator, token, verdict, seconds=seconds, age=age, now=now or timezone.now()
        )


@again_on_race
def judge_and_next(
    project: Project,
    annotator: User,
    token: uuid.UUID | str,
    verdict: Verdict,
    *,
    seconds: float | None = None,
    age: float = 0.0,
    now: datetime | None = None,
) -> Turn:
    """`record`, then hand out what is next and fetch ahead what follows: five statements in the usual case.

    The usual case is that the next comparison was fetched ahead. Where it was not, it is chosen once the judgment
    is committed, so that nothing can take the judgment back.
    """
    now = now or timezone.now()
    with transaction.atomic():
        judgment = _record(project, annotator, token, verdict, seconds=seconds, age=age, now=now)
        live, following = queue.advance(project, annotator, now)
    if live is None:
        claim = queue.claim(project, annotator, now=now)
        return Turn(judgment, claim, queue.claim_next(project, annotator, now=now) if claim else None)
    claims = queue.claims_shown(live, following)
    return Turn(judgment, claims.get(live), claims.get(following) if following else None)


# --- Recording ---------------------------------------------------------------------------------------------------


def _record(
    project: Project,
    annotator: User,
    token: uuid.UUID | str,
    verdict: Verdict,
    *,
    seconds: float | None,
    age: float,
    now: datetime,
) -> Judgment:
    key = parse_token(token)
    fields = verdict.check(project)
    settled = _settle(project, annotator, key, _settled(fields["verdict"], fields["skip_reason"]), now)
    if settled is None:
        return _record_again(project, annotator, key, verdict, fields=fields, seconds=seconds, now=now)
    claim, was_late = settled
    _check_time(project, claim, now - timedelta(seconds=age))
    fields = name_shown(fields, (claim.left_id, claim.right_id))
    before = Judgment.objects.get(pk=claim.undone_id) if claim.undone_id else None
    if before is not None:
        fields = verdict.revised(fields, before)
    taken = _total(_seconds(seconds, claim, now), before)
    hasty = taken is not None and taken < project.min_seconds
    return Judgment.objects.create(
        **fields,
        project=project,
        comparison_id=claim.comparison_id,
        annotator=annotator,
        left_id=claim.left_id,
        right_id=claim.right_id,
        token=key,
        seconds=taken,
        late=claim.expires_at <= now or was_late,
        too_fast=hasty and fields["verdict"] != Judgment.Verdict.SKIP,
        replaces_id=claim.undone_id,
        first_at=min(before.first_at, now) if before else now,
        created_at=now,
    )


def _check_time(project: Project, claim: Claim, given: datetime) -> None:
    """Raise RefusalError for a verdict that was given once the project was archived, unless it was on screen then."""
    closed = project.archived_at
    if closed is None or given <= closed or (claim.seen_at and claim.seen_at <= closed):
        return
    raise RefusalError(
        _(
            "This project was archived before you judged this comparison. The verdict was not stored; what you entered "
            "stays on this device for a month, in case the project is opened again."
        ),
        "project",
    )


# The lease of a claim that was freed is over, also where the clock that freed it is ahead of this verdict's `now`.
SETTLE = """
UPDATE annotate_claim SET state = %(state)s, draft = '{}',
    expires_at = CASE WHEN state IN ('released', 'expired') AND expires_at > %(now)s THEN %(now)s ELSE expires_at END
WHERE token = %(token)s AND annotator_id = %(annotator)s AND project_id = %(project)s
AND state NOT IN ('judged', 'skipped', 'passed')
RETURNING id, comparison_id, left_id, right_id, claimed_at, seen_at, expires_at, undone_id,
    (SELECT late FROM annotate_judgment WHERE id = undone_id) AS was_late
"""


def _settle(
    project: Project, annotator: User, token: uuid.UUID, state: Claim.State, now: datetime
) -> tuple[Claim, bool] | None:
    """Settle the claim with this token, in one statement: of several submissions at once, one gets the row.

    Also says whether an undo of a late judgment had opened it: then it holds no place of its own.
    """
    parameters = {
        "state": state.value,
        "now": connection.ops.adapt_datetimefield_value(now),
        "token": Claim._meta.get_field("token").get_db_prep_value(token, connection),
        "annotator": annotator.pk,
        "project": project.pk,
    }
    settled: list[Any] = list(Claim.objects.raw(SETTLE, parameters))
    return (settled[0], bool(settled[0].was_late)) if settled else None


def _settled(verdict: str, skip_reason: str) -> Claim.State:
    if verdict != Judgment.Verdict.SKIP:
        return Claim.State.JUDGED
    return Claim.State.PASSED if skip_reason else Claim.State.SKIPPED


def _seconds(measured: float | None, claim: Claim, now: datetime) -> float | None:
    """Seconds to the verdict: the browser's where they are possible, else the server's since first sight."""
    longest = max((now - claim.claimed_at).total_seconds(), 0.0)
    if measured is not None and measured >= 0:  # false for NaN too
        return min(float(measured), longest)
    return max((now - claim.seen_at).total_seconds(), 0.0) if claim.seen_at else None


def _total(seconds: float | None, before: Judgment | None) -> float | None:
    """Return the seconds of reading, those of the looks before this one too. None if no look was measured."""
    looks = [seconds, before.seconds if before else None]
    measured = [look for look in looks if look is not None]
    return sum(measured) if measured else None


def _record_again(
    project: Project,
    annotator: User,
    token: uuid.UUID,
    verdict: Verdict,
    *,
    fields: Mapping[str, Any],
    seconds: float | None,
    now: datetime,
) -> Judgment:
    """Take a verdict on a settled claim: a replay changes nothing, a second opinion revises the first."""
    mine = Judgment.objects.filter(annotator=annotator, project=project)
    judgment = mine.filter(token=token).first()
    if judgment is not None:
        return judgment
    claim = Claim.objects.filter(token=token, annotator=annotator, project=project).first()
    if claim is None:
        raise unknown_token()
    # An undo opened the claim under this token, and a redo, or a verdict in another tab, settled it.
    current = mine.current().select_for_update().get(comparison=claim.comparison_id)
    fields = verdict.revised(name_shown(fields, (claim.left_id, claim.right_id)), current)
    look = _seconds(seconds, claim, now) if seconds is not None else None
    return _replace(current, fields, token, now, look)


# --- Changing one's mind -----------------------------------------------------------------------------------------


@again_on_race
def revise(
    project: Project,
    annotator: User,
    judgment_id: int,
    verdict: Verdict,
    *,
    now: datetime | None = None,
) -> Judgment:
    """Replace the annotator's earlier verdict, which stays as history. What the new one is not asked about stays as it
    was. The same verdict again changes nothing. Raises RefusalError."""
    with transaction.atomic():
        mine = Judgment.objects.select_for_update().filter(project=project, annotator=annotator)
        judgment = mine.filter(pk=judgment_id).first()
        if judgment is None:
            raise RefusalError(_("There is no such judgment of yours."), "judgment")
        fields = name_shown(verdict.check(project), (judgment.left_id, judgment.right_id))
        fields = verdict.revised(fields, judgment)
        if judgment.superseded_at is not None:
            judgment = _successor(judgment, fields)
        return _replace(judgment, fields, uuid.uuid4(), now or timezone.now())


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


def _replace(
    judgment: Judgment, fields: Mapping[str, Any], token: uuid.UUID, now: datetime, look: float | None = None
) -> Judgment:
    """Put what `fields` say in the place of a judgment. `look` are the seconds of another look at the comparison."""
    if _says(judgment, fields):
        return judgment
    claim = Claim.objects.select_for_update().get(
        comparison=judgment.comparison_id, annotator=judgment.annotator_id
    )
    Comparison.objects.select_for_update().get(pk=judgment.comparison_id)
    state = _settled(fields["verdict"], fields["skip_reason"])
    is_taken_up = claim.state != Claim.State.JUDGED and state == Claim.State.JUDGED
    late = judgment.late or (is_taken_up and not _has_place(claim))
    Judgment.objects.filter(pk=judgment.pk).update(superseded_at=now)
    Claim.objects.filter(pk=claim.pk).update(state=state)
    return Judgment.objects.create(
        **fields,
        project_id=judgment.project_id,
        comparison_id=judgment.comparison_id,
        annotator_id=judgment.annotator_id,
        left_id=judgment.left_id,
        right_id=judgment.right_id,
        token=token,
        seconds=_total(look, judgment),
        too_fast=judgment.too_fast,
        late=late,
        replaces=judgment,
        first_at=min(judgment.first_at, now),
        created_at=now,
    )


def _has_place(claim: Claim) -> bool:
    """Return whether the claim's comparison, which is locked, has a place for one more annotator."""
    return Comparison.objects.filter(has_place(), pk=claim.comparison_id).exists()


def can_undo(project: Project, annotator: User, *, now: datetime | None = None) -> bool:
    """Return whether `undo` would currently find something."""
    return _undoable(project, annotator, now or timezone.now()).exists()


def can_redo(project: Project, annotator: User) -> bool:
    """Return whether `redo` may find something. Later judgments are not looked at."""
    return _undone(project, annotator).exists()


def _undoable(project: Project, annotator: User, now: datetime) -> QuerySet[Judgment]:
    recent = Judgment.objects.current().filter(
        project=project, annotator=annotator, created_at__gt=now - SESSION
    )
    return recent.filter(~Q(verdict=Judgment.Verdict.SKIP) | has_place("comparison__"))


def _undone(project: Project, annotator: User) -> QuerySet[Claim]:
    opened = Claim.objects.filter(project=project, annotator=annotator, undone__isnull=False)
    return opened.unsettled()


@again_on_race
def undo(project: Project, annotator: User, *, now: datetime | None = None) -> Claim | None:
    """Take back one's latest judgment and open its comparison again, with the verdict as the draft; None if there
    is none. What was on screen comes next, what was fetched ahead is given back.

    The claim gets a new token, so that the old verdict sent again changes nothing; but one that no verdict has used
    stays good, for the tab that still shows it. A skip whose place others have taken since cannot be taken back, and
    is passed over.
    """
    now = now or timezone.now()
    with transaction.atomic():
        undoable = _undoable(project, annotator, now).select_for_update(of=("self",))
        latest = undoable.order_by("-pk").first()  # clocks are set now and then, ids only grow
        if latest is None:
            return None
        claim = _make_way(latest, now)
        if latest.verdict == Judgment.Verdict.SKIP and not _has_place(claim):
            raise RaceError("Its place was taken between the look and the lock.")
        Judgment.objects.filter(pk=latest.pk).update(superseded_at=now)
        Claim.objects.filter(pk=claim.pk).update(
            state=Claim.State.LIVE,
            token=uuid.uuid4() if Judgment.objects.filter(token=claim.token).exists() else claim.token,
            undone=latest,
            claimed_at=now,
            seen_at=now,
            expires_at=now + queue.lease(project),
            draft={name: getattr(latest, name) for name in DRAFT_KEYS},
        )
    return queue.claims_shown(claim.pk)[claim.pk]


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
    return by_state[_settled(judgment.verdict, judgment.skip_reason)]


@again_on_race
def redo(project: Project, annotator: User, *, now: datetime | None = None) -> Judgment | None:
    """Put back the judgment that was undone last; None if there is none, or if something was judged since."""
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
        state = _settled(judgment.verdict, judgment.skip_reason)
        if claim.state in Claim.FREED and state == Claim.State.JUDGED and not _has_place(claim):
            judgment.late = True
        judgment.superseded_at = None
        judgment.save(update_fields=["superseded_at", "late"])
        Claim.objects.filter(pk=claim.pk).update(state=state, undone=None, draft={})
    return judgment
