"""Recorded judgments: one for each claim, however often its verdict arrives.

A verdict arrives with the token of the claim that it answers. A double click, a retry of a slow network and a reload
send it again, and it stays one judgment. Counters follow a claim's state by triggers. So each function here, in
`revising.py` and in `undoing.py` moves the claim and the judgment together, in one transaction. Only these modules and
`imported.py` write judgments.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.judgments.places import take_place_again
from annotate.judgments.revising import add_seconds, get_settled_state, replace_judgment
from annotate.judgments.verdicts import Verdict, name_shown, parse_token, unknown_token
from annotate.models import Claim, Judgment, Project, User
from annotate.models.conflicts import RaceError, again_on_race
from annotate.queueing import queue

__all__ = ["Turn", "Verdict", "judge_and_next", "record"]


@dataclass(frozen=True)
class Submission:
    """A verdict as it arrived, with the token of the claim that it answers. `given` is when its annotator gave it."""

    project: Project
    annotator: User
    token: uuid.UUID
    verdict: Verdict
    seconds: float | None
    given: datetime
    now: datetime


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
    submission = _submission(project, annotator, token, verdict, seconds=seconds, age=age, now=now)
    with transaction.atomic():
        return _record(submission)


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

    The usual case is that the next comparison was fetched ahead. Otherwise it is chosen once the judgment is
    committed, so that nothing can take the judgment back.
    """
    submission = _submission(project, annotator, token, verdict, seconds=seconds, age=age, now=now)
    now = submission.now

    @again_on_race
    def record_and_advance() -> tuple[Judgment, tuple[int | None, int | None]]:
        with transaction.atomic():
            return _record(submission), queue.advance(project, annotator, now)

    judgment, (live, following) = record_and_advance()
    if live is None:
        claim = queue.claim(project, annotator, now=now)
        return Turn(judgment, claim, queue.claim_next(project, annotator, now=now) if claim else None)
    claims = queue.show_claims(live, following)
    return Turn(judgment, claims.get(live), claims.get(following) if following else None)


# --- Recording ---------------------------------------------------------------------------------------------------


def _submission(
    project: Project,
    annotator: User,
    token: uuid.UUID | str,
    verdict: Verdict,
    *,
    seconds: float | None,
    age: float,
    now: datetime | None,
) -> Submission:
    now = now or timezone.now()
    given = now - timedelta(seconds=age)
    return Submission(project, annotator, parse_token(token), verdict, seconds, given, now)


def _record(sent: Submission) -> Judgment:
    fields = sent.verdict.check(sent.project)
    settled = _settle(sent, get_settled_state(fields["verdict"], fields["skip_reason"]))
    if settled is None:
        return _record_again(sent, fields)
    claim, was_late = settled
    _check_time(sent, claim)
    fields = name_shown(fields, (claim.left_id, claim.right_id))
    before = Judgment.objects.get(pk=claim.undone_id) if claim.undone_id else None
    if before is not None:
        fields = sent.verdict.revised(fields, before)
    taken = add_seconds(_seconds(sent, claim), before)
    hasty = taken is not None and taken < sent.project.min_seconds
    judgment = Judgment.objects.create(
        **fields,
        project=sent.project,
        comparison_id=claim.comparison_id,
        annotator=sent.annotator,
        left_id=claim.left_id,
        right_id=claim.right_id,
        token=sent.token,
        seconds=taken,
        late=was_late or claim.expires_at <= sent.now,
        too_fast=hasty and fields["verdict"] != Judgment.Verdict.SKIP,
        replaces_id=claim.undone_id,
        first_at=min(before.first_at, sent.now) if before else sent.now,
        created_at=sent.now,
    )
    if before is not None:
        take_place_again(judgment)
    return judgment


def _check_time(sent: Submission, claim: Claim) -> None:
    """Raise RefusalError for a verdict that was given once the project was archived, unless it was on screen then."""
    closed = sent.project.archived_at
    if closed is None or sent.given <= closed or (claim.seen_at and claim.seen_at <= closed):
        return
    raise RefusalError(
        _(
            "This project was archived before you judged this comparison. The verdict was not stored; what you entered "
            "stays on this device for a month, in case the project is opened again."
        ),
        "project",
    )


# The lease of a claim that was freed is over, even where the clock that freed it is ahead of this verdict's `now`.
SETTLE = """
UPDATE annotate_claim SET state = %(state)s, draft = '{}',
    expires_at = CASE WHEN state IN ('released', 'expired') AND expires_at > %(now)s THEN %(now)s ELSE expires_at END
WHERE token = %(token)s AND annotator_id = %(annotator)s AND project_id = %(project)s
AND state NOT IN ('judged', 'skipped', 'passed')
RETURNING id, comparison_id, left_id, right_id, claimed_at, seen_at, expires_at, undone_id,
    (SELECT late FROM annotate_judgment WHERE id = undone_id) AS was_late
"""


def _settle(sent: Submission, state: Claim.State) -> tuple[Claim, bool] | None:
    """Settle the claim with this token, in one statement: of several submissions at once, one gets the row.

    Also says whether an undo of a late judgment had opened it: then it holds no place of its own.
    """
    parameters = {
        "state": state.value,
        "now": connection.ops.adapt_datetimefield_value(sent.now),
        "token": Claim._meta.get_field("token").get_db_prep_value(sent.token, connection),
        "annotator": sent.annotator.pk,
        "project": sent.project.pk,
    }
    settled: list[Any] = list(Claim.objects.raw(SETTLE, parameters))
    return (settled[0], bool(settled[0].was_late)) if settled else None


def _seconds(sent: Submission, claim: Claim) -> float | None:
    """Return the seconds to the verdict: the browser's where they are possible, else the server's since first sight."""
    longest = max((sent.now - claim.claimed_at).total_seconds(), 0.0)
    if sent.seconds is not None and sent.seconds >= 0:  # false for NaN too
        return min(float(sent.seconds), longest)
    return max((sent.now - claim.seen_at).total_seconds(), 0.0) if claim.seen_at else None


def _record_again(sent: Submission, fields: Mapping[str, Any]) -> Judgment:
    """Take a verdict on a settled claim: a replay changes nothing, a second opinion revises the first."""
    own = {"annotator": sent.annotator, "project": sent.project}
    mine = Judgment.objects.filter(**own)
    judgment = mine.filter(token=sent.token).first()
    if judgment is not None:
        return judgment
    claim = Claim.objects.filter(**own, token=sent.token).first()
    if claim is None:
        raise unknown_token()
    # An undo opened the claim under this token, and a redo, or a verdict in another tab, settled it.
    current = mine.current().select_for_update().filter(comparison=claim.comparison_id).first()
    if current is None:
        raise RaceError("It was undone between the two looks.")
    fields = sent.verdict.revised(name_shown(fields, (claim.left_id, claim.right_id)), current)
    look = _seconds(sent, claim) if sent.seconds is not None else None
    return replace_judgment(current, fields, sent.token, sent.now, look)
