"""The audit of choosing: how many judgments at random a judgment of a comparison that the probe chose is worth.

What a judgment tells is how much better its annotator calls the one completion: a third for each step of strength, and
nothing for a tie or for both bad. DPO learns from the difference of two completions, with all that differs by accident
as noise. So the number of judgments that show a direction goes with one over the square of that signal, and a chosen
judgment is worth the squared ratio of both arms' means (docs/learning.md has what was measured). It asks neither the
probe nor a policy: a probe that knows nothing chooses like chance, and the ratio is 1.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from django.db.models import Avg, Case, Count, F, FloatField, Max, Q, QuerySet, Value, When
from django.utils.translation import gettext as _

from annotate.models import Comparison, Judgment, Project
from annotate.reports.recalled import recall
from primitives import evidence
from primitives.statistics import Estimate
from training.standings.gates import opinions

LEAST_SAVED = 1.1  # judgments at random: what is worth less is not chosen any more
ENOUGH_BLOCKS = 60  # of which the estimate itself is believed, and not its interval alone
MOST_BLOCKS = 1_000  # the newest: more would keep a page waiting
ALPHA = 0.025  # the chance, over all moments, that the worth lies below the interval; and above it

Arm = Comparison.Arm


@dataclass(frozen=True)
class Audit:
    """The standing of choosing in a project. `worth` counts blocks: comparisons of both arms, judged side by side.

    `tells_strength` is whether annotators say how much better one is: without it, only ties tell the arms apart.
    """

    chosen: int = 0
    control: int = 0
    worth: Estimate | None = None
    tells_strength: bool = False

    @property
    def is_proven(self) -> bool:
        """Return whether choosing saves judgments: its interval lies above LEAST_SAVED."""
        return self.worth is not None and self.worth.low >= LEAST_SAVED

    @property
    def is_refuted(self) -> bool:
        """Return whether choosing saves too little to go on with it.

        Its interval lies below LEAST_SAVED, or after ENOUGH_BLOCKS its estimate does.
        """
        if self.worth is None or self.is_proven:
            return False
        is_known = self.tells_strength and self.worth.count >= ENOUGH_BLOCKS
        return self.worth.high < LEAST_SAVED or (is_known and self.worth.value < LEAST_SAVED)

    def in_words(self) -> str:
        """Return the worth in a sentence for an event or a page; empty before there is one."""
        if self.worth is None:
            return ""
        if math.isinf(self.worth.high):
            sentence = _(
                "A chosen judgment was worth about %(value).1f judgments at random so far (95 %%: %(low).1f or more)."
            )
        else:
            sentence = _(
                "A chosen judgment was worth about %(value).1f judgments at random so far "
                "(95 %%: %(low).1f to %(high).1f)."
            )
        return sentence % {"value": self.worth.value, "low": self.worth.low, "high": self.worth.high}


@dataclass(frozen=True)
class Observation:
    """A comparison that is judged in full: its round, arm and signal, and when its last judgment came."""

    batch: str
    arm: str
    signal: float
    at: datetime


def measure_audit(project: Project) -> Audit:
    """Return the standing of choosing in a project, which holds however often it is looked at."""
    sizes = _count_arms(project)
    if not any(arm == Arm.PROBE for _batch, arm in sizes):
        return Audit()
    observations = _observe(project)
    strengths = _judgments(project).filter(strength__isnull=False).values("strength").distinct()
    return Audit(
        chosen=sum(one.arm == Arm.PROBE for one in observations),
        control=sum(one.arm == Arm.CONTROL for one in observations),
        worth=estimate_worth(pair_up(observations, sizes)),
        tells_strength=strengths.count() > 1,
    )


def recall_audit(project: Project) -> Audit:
    """Return the same for a page, measured at most once for the same judgments."""
    return recall(project, "audit", lambda: measure_audit(project))


def estimate_worth(blocks: Sequence[tuple[float, float]]) -> Estimate | None:
    """Return the squared ratio of signals, chosen to control, with an interval that holds at every moment."""
    found = evidence.ratio_interval(blocks[-MOST_BLOCKS:], ALPHA, ALPHA)
    if found is None:
        return None
    return Estimate(found.value**2, found.low**2, found.high**2, found.count)


Sizes = dict[tuple[str, str], int]  # comparisons by batch and arm


def pair_up(observations: Iterable[Observation], sizes: Sizes) -> list[tuple[float, float]]:
    """Return blocks of (mean signal of chosen, of control), in the order in which they were complete.

    A round with three chosen to one in control has blocks of three and one, each arm in the order in which it was
    judged. Rounds are not mixed, as a later policy writes other completions.
    """
    by_batch: dict[str, dict[str, list[Observation]]] = defaultdict(lambda: defaultdict(list))
    for one in sorted(observations, key=lambda one: one.at):
        by_batch[one.batch][one.arm].append(one)
    blocks: list[tuple[datetime, float, float]] = []
    for batch, arms in by_batch.items():
        chosen = _parts(arms[Arm.PROBE], sizes, batch, Arm.PROBE)
        control = _parts(arms[Arm.CONTROL], sizes, batch, Arm.CONTROL)
        blocks += [
            (max(one.at for one in (*some, *others)), _mean(some), _mean(others))
            for some, others in zip(chosen, control, strict=False)
        ]
    return [(one, other) for _at, one, other in sorted(blocks)]


def _parts(of_arm: Sequence[Observation], sizes: Sizes, batch: str, arm: str) -> list[Sequence[Observation]]:
    """Return an arm's part of each block that is complete."""
    total = sizes.get((batch, arm), 0)
    count = min(sizes.get((batch, one), 0) for one in Arm.values)
    ends = [number * total // count for number in range(count + 1)] if count else [0]
    return [of_arm[start:end] for start, end in pairwise(ends) if start < end <= len(of_arm)]


def _mean(observations: Sequence[Observation]) -> float:
    return math.fsum(one.signal for one in observations) / len(observations)


# --- The judgments behind it -------------------------------------------------------------------------------------


def _count_arms(project: Project) -> Sizes:
    rows = Comparison.objects.filter(project=project, arm__in=Arm.values, kind=Comparison.Kind.STANDARD)
    counted = rows.values("batch", "arm").annotate(count=Count("pk")).order_by()
    return {(row["batch"], row["arm"]): row["count"] for row in counted}


def _judgments(project: Project) -> QuerySet[Judgment]:
    return opinions().filter(
        project=project, comparison__arm__in=Arm.values, comparison__kind=Comparison.Kind.STANDARD
    )


def _observe(project: Project) -> list[Observation]:
    """Return the comparisons of both arms that are judged in full."""
    signal = Case(
        When(Q(verdict=Judgment.Verdict.PREFER, strength__isnull=False), then=F("strength") / Value(3.0)),
        When(verdict=Judgment.Verdict.PREFER, then=Value(1.0)),
        default=Value(0.0),
        output_field=FloatField(),
    )
    rows = (
        _judgments(project)
        .filter(comparison__judged__gte=F("comparison__needed"))
        .values("comparison", "comparison__batch", "comparison__arm")
        .annotate(signal=Avg(signal), at=Max("created_at"))
        .order_by("at", "comparison")
    )
    return [
        Observation(row["comparison__batch"], row["comparison__arm"], row["signal"], row["at"])
        for row in rows
    ]
