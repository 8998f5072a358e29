"""The account of an export: how many rows leave, and how many comparisons stay, by reason."""

from collections import Counter
from dataclasses import replace
from typing import Any

from django.db.models import Case, Count, Q, QuerySet, Value, When

from annotate.exports.formats import Source
from annotate.exports.selection import Selection
from annotate.models import Judgment, Project, Snapshot
from annotate.pairs.filters import Filters, sift
from annotate.pairs.settings import PairSettings
from annotate.reports.recalled import recall_equal


def count(
    project: Project, filters: Filters, settings: PairSettings | None = None, snapshot: Snapshot | None = None
) -> dict[str, Any]:
    """Return the account of the pairs that are chosen.

    `everything` is all judged comparisons. `filtered` of them are not what the filters ask for, and each of the
    others is a pair or has its reason in `excluded`: what is left out by default is counted too.
    """
    if snapshot is not None:
        return _of_snapshot(snapshot, filters)
    pairs: Counter[bool] = Counter()
    excluded: Counter[str] = Counter()
    judgments = comparisons = 0
    # Held-out prompts are looked at, and then counted as left out.
    equal = recall_equal(project)
    for decision, _reason in sift(project, replace(filters, held_out="include"), settings, equal=equal):
        judgments += len(decision.votes)
        comparisons += 1
        if reason := filters.why_not(decision):
            excluded[reason] += 1
        else:
            pairs[decision.held_out] += 1
    everything = _judged_comparisons(Judgment.objects.current().filter(project=project))
    return {
        "everything": everything,
        "filtered": everything - comparisons,
        "judgments": judgments,
        "comparisons": comparisons,
        "pairs": pairs.total(),
        "train": pairs[False],
        "held_out": pairs[True],
        "excluded": dict(sorted(excluded.items())),
    }


def count_judgments(project: Project, filters: Filters) -> dict[str, int]:
    """Count the rows of judgments, with their history, and those of them on held-out prompts."""
    rows = Judgment.objects.filter(filters.judgments(), project=project)
    return rows.aggregate(
        judgment_rows=Count("pk"), held_out_rows=Count("pk", filter=Q(comparison__prompt__held_out=True))
    )


def estimate(selection: Selection) -> int:
    """Return about how many rows will be written, to tell how far it is."""
    project, filters = selection.project, selection.filters
    if selection.format.source is Source.JUDGMENTS:
        return count_judgments(project, filters)["judgment_rows"]
    if selection.format.source is Source.COMPARISONS:
        return _judged_comparisons(Judgment.objects.current().filter(filters.judgments(), project=project))
    found = count(project, filters, selection.settings, selection.snapshot)
    bad = found.get("rated", 0) if selection.snapshot else found["excluded"].get("both_bad", 0)
    return int(2 * (found["pairs"] + bad) if selection.format.both_bad else found["pairs"])


def _judged_comparisons(judgments: QuerySet[Judgment]) -> int:
    return int(judgments.aggregate(found=Count("comparison", distinct=True))["found"])


def _of_snapshot(snapshot: Snapshot, filters: Filters) -> dict[str, Any]:
    why_not = dict(filters.unwanted())
    if filters.ties == "leave":
        why_not = {"tie": Q(label=0.5), **why_not}
    elif filters.ties == "only":
        why_not = {"decided": ~Q(label=0.5), **why_not}
    if filters.side is not None:
        why_not["not_held_out" if filters.side else "held_out"] = Q(held_out=not filters.side)
    reason = Case(*(When(met, then=Value(name)) for name, met in why_not.items()), default=Value(""))
    found = snapshot.pairs.order_by().annotate(reason=reason).values_list("reason", "held_out")
    excluded, by_side = Counter(snapshot.counts.get("excluded", {})), Counter[bool]()
    for name, held_out, count in found.annotate(count=Count("pk")):
        counter, key = (excluded, name) if name else (by_side, held_out)
        counter[key] += count
    return {
        **snapshot.counts,
        "pairs": sum(by_side.values()),
        "train": by_side[False],
        "held_out": by_side[True],
        "excluded": {reason: number for reason, number in sorted(excluded.items()) if number},
    }
