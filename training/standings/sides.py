"""The share of preferences for the completion on the left, of what a round wrote."""

from django.db.models import Count, F, Q

from annotate.models import Judgment
from primitives.statistics import Share
from training.models import Round


def measure_left(round_: Round) -> Share:
    """Return the share of the left side among the preferences that people gave on a round's comparisons.

    Sides are drawn at random for each annotator and comparison, so that one half is no bias, whatever the texts are.
    Imported judgments do not count: their sides were not drawn here.
    """
    given = (
        Judgment.objects.current()
        .by_people()
        .filter(verdict=Judgment.Verdict.PREFER, project=round_.project_id)
    )
    # Asked for one after the other, each is found by its index; a comparison is in one of the two alone.
    counts = [
        given.filter(**{f"comparison__{rounds}": round_}).aggregate(
            left=Count("pk", filter=Q(preferred=F("left"))), total=Count("pk")
        )
        for rounds in ("fresh_in_rounds", "gate_of_rounds")
    ]
    return Share(sum(one["left"] for one in counts), sum(one["total"] for one in counts))
