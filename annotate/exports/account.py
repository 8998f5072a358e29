"""The account of an export: how many rows leave, and how many comparisons stay, by reason."""

from collections import Counter
from dataclasses import replace
from typing import Any

from django.db.models import Count, Q, QuerySet

from annotate.exports.formats import Source
from annotate.exports.selection import Selection
from annotate.models import Judgment, Project, Snapshot
from annotate.pairs.filters import Filters, sift
from annotate.pairs.settings import PairSettings
from annotate.reports.recalled import recall_equal

LARGE = 20_000  # judgments, from which on a file is better prepared than waited for


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


def is_large(project: Project) -> bool:
    """Return whether an export of the project takes more than a moment."""
    return Judgment.objects.filter(project=project).order_by()[LARGE : LARGE + 1].exists()


def _judged_comparisons(judgments: QuerySet[Judgment]) -> int:
    return int(judgments.aggregate(found=Count("comparison", distinct=True))["found"])


def _of_snapshot(snapshot: Snapshot, filters: Filters) -> dict[str, Any]:
    pairs = snapshot.pairs.all()
    stays = {
        "tie": pairs.filter(label=0.5) if filters.ties == "leave" else pairs.none(),
        "decided": pairs.exclude(label=0.5) if filters.ties == "only" else pairs.none(),
    }
    for some in stays.values():
        pairs = pairs.exclude(pk__in=some.values("pk"))
    for reason, unwanted in filters.unwanted().items():
        stays[reason] = pairs.filter(unwanted)
        pairs = pairs.exclude(pk__in=stays[reason].values("pk"))
    if filters.side is not None:
        stays["not_held_out" if filters.side else "held_out"] = pairs.filter(held_out=not filters.side)
        pairs = pairs.filter(held_out=filters.side)
    excluded = Counter(snapshot.counts.get("excluded", {}))
    excluded.update({reason: some.count() for reason, some in stays.items()})
    by_side = dict(pairs.order_by().values_list("held_out").annotate(found=Count("pk")))
    return {
        **snapshot.counts,
        "pairs": sum(by_side.values()),
        "train": by_side.get(False, 0),
        "held_out": by_side.get(True, 0),
        "excluded": {reason: number for reason, number in sorted(excluded.items()) if number},
    }
