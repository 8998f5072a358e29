"""Histories of what annotators from files said, without what one import said: as if it had never come.

A later verdict follows what the forgotten one replaced, which stands again where nothing else took its place.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.db.models import Exists, OuterRef, QuerySet

from annotate.models import Claim, Import, Judgment


@dataclass
class _History:
    """The verdicts of one annotator on one comparison, in their order, and those of them that changed."""

    verdicts: list[Judgment] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)


def find_histories(judgments: QuerySet[Judgment]) -> QuerySet[Judgment]:
    """Return these judgments with all that the same annotators said of the same comparisons, as they are now."""
    same = judgments.filter(comparison=OuterRef("comparison"), annotator=OuterRef("annotator"))
    comparisons = set(judgments.values_list("comparison", flat=True))
    found = Judgment.objects.filter(Exists(same), comparison__in=comparisons).values_list("pk", flat=True)
    return Judgment.objects.filter(pk__in=list(found))


def drop_from_histories(histories: QuerySet[Judgment], gone: Iterable[int], upload: Import) -> None:
    """Delete the judgments `gone` of an import. The claim of an annotator who said nothing else goes with them."""
    begun, forgotten = _begin(upload), set(gone)
    found: dict[tuple[int, int], list[Judgment]] = defaultdict(list)
    columns = "comparison", "annotator", "verdict", "replaces", "superseded_at", "first_at", "created_at"
    # Each came after what it replaces.
    for judgment in histories.only(*columns).order_by("pk"):
        found[judgment.comparison_id, judgment.annotator_id].append(judgment)
    left = {key: _without(verdicts, forgotten, begun) for key, verdicts in found.items()}
    _change_claims(left)
    # What replaced one of them would be deleted with it.
    Judgment.objects.filter(replaces__in=forgotten).exclude(pk__in=forgotten).update(replaces=None)
    Judgment.objects.filter(pk__in=forgotten).delete()
    changed = [one for kept in left.values() for one in kept.verdicts if one.pk in kept.changed]
    Judgment.objects.bulk_update(changed, ["replaces", "superseded_at", "first_at"], batch_size=200)


def _begin(upload: Import) -> datetime:
    """Return when an import began to bring in. What it replaced stood until then."""
    since = upload.counts.get("since")
    return datetime.fromtimestamp(since, UTC) if since else upload.created_at


def _without(verdicts: list[Judgment], forgotten: set[int], begun: datetime) -> _History:
    history = _History()
    for verdict in verdicts:
        before = history.verdicts[-1] if history.verdicts else None
        if verdict.pk in forgotten:
            # What had been taken back by then stays so.
            if before and before.superseded_at and before.superseded_at >= begun:
                before.superseded_at = verdict.superseded_at
                history.changed.add(before.pk)
            continue
        first_at = min(before.first_at, verdict.created_at) if before else verdict.created_at
        link = before.pk if before else None
        if (verdict.replaces_id, verdict.first_at) != (link, first_at):
            verdict.replaces_id, verdict.first_at = link, first_at
            history.changed.add(verdict.pk)
        history.verdicts.append(verdict)
    return history


def _change_claims(left: dict[tuple[int, int], _History]) -> None:
    """Give each claim the state and the time of what is left, which the triggers count."""
    claims, gone = [], []
    comparisons = {comparison for comparison, _annotator in left}
    for claim in Claim.objects.filter(comparison__in=comparisons).order_by("pk"):
        history = left.get((claim.comparison_id, claim.annotator_id))
        if history is None:
            continue
        verdicts = history.verdicts
        if not verdicts:
            gone.append(claim.pk)
            continue
        before = claim.state, claim.claimed_at
        claim.state = _state(verdicts[-1])
        claim.claimed_at = claim.seen_at = claim.expires_at = verdicts[0].created_at
        if before != (claim.state, claim.claimed_at):
            claims.append(claim)
    Claim.objects.filter(pk__in=gone).delete()
    Claim.objects.bulk_update(claims, ["state", "claimed_at", "seen_at", "expires_at"], batch_size=200)


def _state(latest: Judgment) -> Claim.State:
    if latest.superseded_at is not None:
        # As one that was taken back: importing its file again brings it back.
        return Claim.State.RELEASED
    return Claim.State.SKIPPED if latest.verdict == Judgment.Verdict.SKIP else Claim.State.JUDGED
