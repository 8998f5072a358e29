"""Handing out comparisons: claim, fetch ahead, renew, release, expire.

`choosing.py` finds and takes the next comparison in one statement. This module holds what surrounds it: the
annotator's own claims, which come first, what is tried before nothing is left, and how long a claim lasts.

A claim takes one of a comparison's places from the moment it is handed out, even when it is only fetched ahead.
`Comparison.claimed` counts them, by triggers. An unseen claim gives way when an annotator would otherwise get
nothing.

Locks are taken in one order, claims before comparisons, and nothing waits for a comparison while it holds another.
"""

import uuid
from datetime import datetime, timedelta

from django.db import IntegrityError, connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from annotate.models import Claim, Comparison, Project, User
from annotate.models.comparisons import ClaimQuerySet
from annotate.models.conflicts import again_on_race
from annotate.queueing import qualification
from annotate.queueing.choosing import choose
from annotate.queueing.workload import count_workload

NEXT_LEASE = timedelta(minutes=2)  # of a comparison fetched ahead
REAPED_AT_A_TIME = 200


def get_lease(project: Project) -> timedelta:
    return timedelta(minutes=project.lease_minutes)


def show_claims(*claims: int | None) -> dict[int, Claim]:
    """Return these claims by id with everything that a page shows of them, in one query."""
    return {claim.pk: claim for claim in _with_texts().filter(pk__in=[claim for claim in claims if claim])}


def find_claim(project: Project, annotator: User, token: uuid.UUID) -> Claim | None:
    """Return the annotator's claim with this token, whatever its state, with everything a page shows of it."""
    return _with_texts().filter(project=project, annotator=annotator, token=token).first()


def _with_texts() -> ClaimQuerySet:
    # The columns that the desk reads, and no more: each column costs, in every cycle.
    own = ("project", "annotator", "token", "state", "claimed_at", "seen_at", "expires_at", "draft", "undone")
    texts = ("comparison__prompt__content", "comparison__prompt__tools", "left__text", "right__text")
    ends = ("finish_reason", "sampling", "messages")
    return Claim.objects.select_related("comparison__prompt", "left", "right").only(
        *own, *texts, *(f"{side}__{name}" for side in ("left", "right") for name in ends)
    )


# --- Claiming ----------------------------------------------------------------------------------------------------


@again_on_race
def claim(project: Project, annotator: User, *, now: datetime | None = None) -> Claim | None:
    """Return the annotator's next claim: their live claim, else the one fetched ahead, else the next one chosen.

    In an archived project it is what they had on screen at that moment. None if there is nothing for them;
    `empty_queue.explain` says why, and what happens next.
    """
    now = now or timezone.now()
    if mine := _keep(project, annotator, now):
        return mine
    if project.archived_at:
        return None
    chosen = choose(project, annotator, Claim.State.LIVE, now, get_lease(project)) or _search(
        project, annotator, now
    )
    return show_claims(chosen).get(chosen) if chosen else None


def _keep(project: Project, annotator: User, now: datetime) -> Claim | None:
    """Return the annotator's live claim, else the one fetched ahead, renewed and live. None if they hold none.

    The rows are locked, the live one first, as `advance` takes them. If another tab is giving its verdict, this one
    waits for it and sees what it made live. Otherwise it would lose to it again and again.
    """
    own = _with_texts().filter(project=project, annotator=annotator).holding()
    if project.archived_at:
        own = own.filter(state=Claim.State.LIVE, seen_at__lte=project.archived_at)
    with transaction.atomic():
        mine = own.select_for_update(of=("self",)).order_by("state").first()
        if mine is not None:
            mine.state, mine.seen_at = Claim.State.LIVE, mine.seen_at or now
            mine.expires_at = now + get_lease(project)
            mine.save(update_fields=["state", "seen_at", "expires_at"])
    return mine


def _search(project: Project, annotator: User, now: datetime) -> int | None:
    """Look further when the first look found nothing: qualify, wait for locked rows, reap, take over.

    Each step is a transaction of its own, so that nothing waits while it holds a comparison.
    """
    if project.qualification_size:
        standing = qualification.admit_if_passed(project, annotator)
        if standing.failed:
            return None
        if not standing.passed:
            lasting = get_lease(project)
            return choose(project, annotator, Claim.State.LIVE, now, lasting, wait=True, only_gold=True)
    expire_claims(project, now=now)
    lasting = get_lease(project)
    return (
        choose(project, annotator, Claim.State.LIVE, now, lasting, wait=True)
        or _choose_due(project, annotator, Claim.State.LIVE, now, lasting)
        or _take_over(project, annotator, now)
    )


def _choose_due(
    project: Project, annotator: User, state: Claim.State, now: datetime, lasting: timedelta
) -> int | None:
    """Take the gold that is due when nothing else is open, so that what was counted as left is handed out."""
    if not project.gold_rate:
        return None
    work = count_workload(project, annotator)
    if work.open or work.repeats or not work.gold_due:
        return None
    return choose(project, annotator, state, now, lasting, only_gold=True)


def _fetch_ahead(project: Project, annotator: User, now: datetime) -> int | None:
    return choose(project, annotator, Claim.State.NEXT, now, NEXT_LEASE) or _choose_due(
        project, annotator, Claim.State.NEXT, now, NEXT_LEASE
    )


def _take_over(project: Project, annotator: User, now: datetime) -> int | None:
    """Free a comparison that another annotator has fetched ahead and not seen, and choose again."""
    over = F("comparison__judged") + F("comparison__claimed") - F("comparison__needed")
    with transaction.atomic():
        unseen = (
            Claim.objects.select_for_update(of=("self", "comparison"), skip_locked=True)
            .select_related("comparison")
            .filter(project=project, state=Claim.State.NEXT)
            .held_from(annotator)
        )
        # A late verdict may have filled a comparison: freeing one claim on it makes no place, so the next is tried.
        for claim in unseen.order_by(over, "pk"):
            _free(Claim.objects.filter(pk=claim.pk), Claim.State.RELEASED, now)
            if chosen := choose(project, annotator, Claim.State.LIVE, now, get_lease(project)):
                return chosen
        transaction.set_rollback(True)  # what was freed in vain is still theirs
    return None


@again_on_race
def claim_next(project: Project, annotator: User, *, now: datetime | None = None) -> Claim | None:
    """Return the claim after the annotator's live one, fetched ahead on a short lease of its own."""
    if project.archived_at:
        return None
    now = now or timezone.now()
    ahead = Claim.objects.filter(project=project, annotator=annotator, state=Claim.State.NEXT)
    held = ahead.values_list("pk", flat=True).first()
    if held:
        ahead.filter(pk=held).update(expires_at=now + NEXT_LEASE)
    else:
        held = _fetch_ahead(project, annotator, now)
    return show_claims(held).get(held) if held else None


def advance(project: Project, annotator: User, now: datetime) -> tuple[int | None, int | None]:
    """Make the claim fetched ahead live, and fetch another: return (live, next), in two statements.

    (None, None) if there was nothing to move up, and in an archived project. Call it in a transaction; raises
    IntegrityError on a race.
    """
    if project.archived_at:
        return None, None
    with connection.cursor() as cursor:
        adapt = connection.ops.adapt_datetimefield_value
        cursor.execute(
            """
            UPDATE annotate_claim SET state = 'live', seen_at = %(now)s, expires_at = %(expires)s
            WHERE project_id = %(project)s AND annotator_id = %(annotator)s AND state = 'next'
            AND NOT EXISTS (
                SELECT 1 FROM annotate_claim live
                WHERE live.project_id = %(project)s AND live.annotator_id = %(annotator)s AND live.state = 'live'
            )
            RETURNING id
            """,
            {
                "project": project.pk,
                "annotator": annotator.pk,
                "now": adapt(now),
                "expires": adapt(now + get_lease(project)),
            },
        )
        live = cursor.fetchone()
    if live is None:
        return None, None
    return live[0], _fetch_ahead(project, annotator, now)


# --- Keeping and giving back -------------------------------------------------------------------------------------


@again_on_race
def renew(project: Project, annotator: User, token: uuid.UUID | str, *, now: datetime | None = None) -> bool:
    """Keep the claim of an open page, its heart beating, and the one fetched after it. False if the place is gone.

    A claim that expired while the machine slept is taken back where a place is free. Without one, a verdict is
    still accepted, and marked late. An archived project takes nothing back, and what was fetched ahead stays unseen.
    """
    now = now or timezone.now()
    own = Claim.objects.filter(project=project, annotator=annotator)
    mine = _by_token(own.unsettled(), token)
    if mine is None:
        return False
    if mine.state != Claim.State.LIVE and (project.archived_at or not _take_back(project, mine, now)):
        return False
    own.filter(state=Claim.State.NEXT).update(expires_at=now + NEXT_LEASE)
    return own.filter(pk=mine.pk, state=Claim.State.LIVE).update(expires_at=now + get_lease(project)) == 1


def _by_token(claims: ClaimQuerySet, token: uuid.UUID | str) -> Claim | None:
    try:
        return claims.filter(token=uuid.UUID(str(token))).first()
    except ValueError:
        return None


def _take_back(project: Project, mine: Claim, now: datetime) -> bool:
    """Make the annotator's own claim live again, if no other is and its comparison still has a place.

    One that was given back may have been fetched ahead since: then it holds its place.
    """
    own = Claim.objects.filter(project=project, annotator=mine.annotator_id)
    try:
        with transaction.atomic():
            found = own.select_for_update().unsettled().filter(pk=mine.pk).first()
            comparison = Comparison.objects.select_for_update(skip_locked=True).filter(
                Q(open=True) | Q(kind=Comparison.Kind.GOLD), pk=mine.comparison_id
            )
            if found is None or own.filter(state=Claim.State.LIVE).exists():
                return False
            if found.state in Claim.FREED and not comparison.first():
                return False
            own.filter(pk=mine.pk).update(
                state=Claim.State.LIVE, seen_at=found.seen_at or now, expires_at=now + get_lease(project)
            )
            return True
    except IntegrityError:  # another tab went live meanwhile
        return False


def release(claim: Claim, *, now: datetime | None = None) -> bool:
    """Give a claim back. False if it was not held any more."""
    return _free(Claim.objects.filter(pk=claim.pk), Claim.State.RELEASED, now or timezone.now()) == 1


def release_all(comparisons: QuerySet[Comparison]) -> int:
    """Take comparisons back from the annotators who hold them; returns how many. A verdict that is sent all the same
    is accepted, and marked late."""
    return _free(
        Claim.objects.filter(comparison__in=comparisons.values("pk")), Claim.State.RELEASED, timezone.now()
    )


@again_on_race
def leave(project: Project, annotator: User, *, now: datetime | None = None) -> int:
    """Give back all that this person holds in the project; returns how many. They are offered it first again."""
    own = Claim.objects.filter(project=project, annotator=annotator).holding()
    # The live one last: what was given back last is offered first.
    return sum(release(claim, now=now) for claim in own.order_by("-state"))


def expire_claims(project: Project | None = None, *, now: datetime | Now | None = None) -> int:
    """Return the comparisons of claims whose lease ran out, in one project or in all; returns how many.

    A lease is given, renewed and found expired by the web server's clock. A worker, whose clock may be another,
    passes the database's, `Now()`.
    """
    now = now or timezone.now()
    expired = Claim.objects.filter(expires_at__lte=now).holding()
    if project is not None:
        expired = expired.filter(project=project)
    count = 0
    while True:
        with transaction.atomic():
            # Rows that others hold are left to them: reapers never wait for each other, nor for a verdict.
            claims = list(
                expired.select_for_update(of=("self", "comparison"), skip_locked=True)
                .order_by("pk")
                .select_related("comparison")
                .only("pk", "comparison__id")[:REAPED_AT_A_TIME]
            )
            count += _free(expired.filter(pk__in=[claim.pk for claim in claims]), Claim.State.EXPIRED, now)
        if len(claims) < REAPED_AT_A_TIME:
            return count


def _free(claims: ClaimQuerySet, state: Claim.State, now: datetime | Now) -> int:
    """Set these claims, where they are held, to a freed state. `expires_at` remembers when."""
    return claims.holding().update(state=state, expires_at=now)
