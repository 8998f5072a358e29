"""Judgments that were given elsewhere, recorded for annotators that a file names.

As with people's, each has its claim, so that counters equal rows, and a corrected verdict keeps the old one as history.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from secrets import token_bytes
from types import MappingProxyType
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Greatest
from django.utils import timezone

from annotate.judgments.places import keep_imports_waiting
from annotate.models import Claim, Comparison, Judgment, Project, is_current
from annotate.models.bulk.storing import Columns, store_rows
from annotate.models.conflicts import again_on_race

Verdict = Judgment.Verdict
TAKEN_BACK_AT_A_TIME = 2_000
TOKEN_BYTES = 16


class ImportedJudgment(NamedTuple):
    """A judgment to record. Annotator, comparison and completions by id.

    `claim` and `replaces` are the rows of an earlier one of this annotator on this comparison, current or not.
    """

    comparison: int
    annotator: int
    verdict: str
    left: int
    right: int
    preferred: int | None = None
    strength: int | None = None
    sides_known: bool = False
    rationale: str = ""
    seconds: float | None = None
    at: datetime | None = None
    claim: int | None = None
    replaces: int | None = None
    first_at: datetime | None = None
    too_fast: bool = False
    late: bool = False
    reasons: Sequence[str] = ()
    criteria: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    @property
    def state(self) -> Claim.State:
        return Claim.State.SKIPPED if self.verdict == Verdict.SKIP else Claim.State.JUDGED


def record_imported(project: Project, given: Sequence[ImportedJudgment], batch: str) -> None:
    """Record judgments, each in the place of the one that it `replaces`. In the caller's transaction.

    The caller counts what a comparison needs: `needed` is neither read nor changed here.
    """
    now = timezone.now()
    replaced = [one.replaces for one in given if one.replaces]
    Judgment.objects.current().filter(pk__in=replaced).update(superseded_at=now)
    by_state: dict[str, list[int]] = defaultdict(list)
    for one in given:
        if one.claim:
            by_state[one.state].append(one.claim)
    for state, claims in by_state.items():
        Claim.objects.filter(pk__in=claims).exclude(state=state).update(state=state)
    theirs = {"project_id": project.pk}
    new = [one for one in given if not one.claim]
    rows = [_claim(one, token, one.at or now) for one, token in zip(new, _draw_tokens(len(new)), strict=True)]
    store_rows(Claim, rows, shared=theirs)
    rows = [_judgment(one, token, now) for one, token in zip(given, _draw_tokens(len(given)), strict=True)]
    store_rows(Judgment, rows, shared={**theirs, "import_batch": batch})


def _draw_tokens(count: int) -> Iterator[str]:
    """Yield so many tokens, for all of which the system is asked once."""
    drawn = token_bytes(TOKEN_BYTES * count)
    return (drawn[at : at + TOKEN_BYTES].hex() for at in range(0, len(drawn), TOKEN_BYTES))


def _claim(given: ImportedJudgment, token: str, at: datetime) -> Columns:
    return {
        "comparison_id": given.comparison,
        "annotator_id": given.annotator,
        "left_id": given.left,
        "right_id": given.right,
        "token": token,
        "state": given.state.value,
        "claimed_at": at,
        "seen_at": at,
        "expires_at": at,
    }


def _judgment(given: ImportedJudgment, token: str, now: datetime) -> Columns:
    at = given.at or now
    return {
        "comparison_id": given.comparison,
        "annotator_id": given.annotator,
        "left_id": given.left,
        "right_id": given.right,
        "sides_known": given.sides_known,
        "token": token,
        "verdict": given.verdict,
        "preferred_id": given.preferred,
        "strength": given.strength,
        "rationale": given.rationale,
        "seconds": given.seconds,
        "too_fast": given.too_fast,
        "late": given.late,
        "reasons": list(given.reasons),
        "criteria": dict(given.criteria),
        "replaces_id": given.replaces,
        "first_at": min(given.first_at or at, at),
        "created_at": at,
    }


def change_needed(changes: Mapping[int, int]) -> None:
    """Let comparisons need more judgments, or fewer, by as many as were imported: people's places stay theirs."""
    by_change: dict[int, list[int]] = defaultdict(list)
    for comparison, change in changes.items():
        by_change[change].append(comparison)
    for change, comparisons in by_change.items():
        Comparison.objects.filter(pk__in=comparisons).update(
            needed=Greatest(F("needed") + change, 1),
            # Each needs a judgment: one that no judgment is left of is like any other again.
            closed_to_people=Q(closed_to_people=True, needed__gt=-change),
        )


def count_places(judgments: QuerySet[Judgment]) -> Counter[int]:
    """Return how many judgments the comparisons of some need for the imported ones among them."""
    latest = judgments.exclude(import_batch="").exclude(verdict=Verdict.SKIP).filter(replaced_by=None)
    return Counter(latest.filter(holds_place()).values_list("comparison", flat=True))


def holds_place() -> Q:
    """Return the condition that a comparison needs a judgment more for an annotator's latest one, if it is no skip.

    One that was taken back once its comparison was withdrawn left it needing as many as before.
    """
    return is_current() | Q(superseded_at__gte=F("comparison__withdrawn_at"))


def take_back(project: Project, judgments: QuerySet[Judgment]) -> int:
    """Supersede a project's current imported judgments and give their places back, in chunks. Return how many.

    A comparison in use then needs as many judgments less. Importing the file again brings them back.
    """
    taken = 0
    while some := _take_back_some(project, judgments.filter(is_current()).exclude(import_batch="")):
        taken += some
    return taken


@again_on_race
def _take_back_some(project: Project, judgments: QuerySet[Judgment]) -> int:
    with transaction.atomic():
        keep_imports_waiting(project)  # and another withdrawal: each judgment gives its place back once
        rows = list(judgments.order_by("pk").values("pk", "comparison", "verdict")[:TAKEN_BACK_AT_A_TIME])
        some = Judgment.objects.filter(pk__in=[row["pk"] for row in rows])
        theirs = some.filter(comparison=OuterRef("comparison"), annotator=OuterRef("annotator"))
        comparisons = {row["comparison"] for row in rows}
        # Triggers count their comparisons, which locks them: none is withdrawn or restored from here on.
        Claim.objects.filter(Exists(theirs), comparison__in=comparisons).update(state=Claim.State.RELEASED)
        some.update(superseded_at=timezone.now())
        in_use = Comparison.objects.filter(pk__in=comparisons, withdrawn_at=None).values_list("pk", flat=True)
        kept = set(in_use)
        needed = Counter(
            row["comparison"] for row in rows if row["verdict"] != Verdict.SKIP and row["comparison"] in kept
        )
        change_needed({comparison: -count for comparison, count in needed.items()})
    return len(rows)
