"""Krippendorff's alpha of a project, with its interval.

The unit is the comparison: verdicts on one comparison tell less than as many on several. Comparisons on which the same
was said count together, so that neither the figure nor its interval depends on the size of the project.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from django.db import connection
from django.db.models import Count, Q

from annotate.models import Project
from annotate.reports.agreement import CATEGORIES, find_opinions_that_met
from primitives.statistics import Estimate, narrow_by_units, wilson

Said = tuple[int, ...]  # how many annotators gave each of CATEGORIES, on one comparison


def measure_alpha(project: Project) -> Estimate | None:
    """Return the alpha of the verdicts that two annotators or more gave on one comparison, where no probe chose it."""
    return estimate_alpha(count_said(project))


def count_said(project: Project) -> dict[Said, int]:
    """Count the comparisons on which the same was said, in one query."""
    said = {category: Count("pk", filter=Q(category=category)) for category in CATEGORIES}
    units = find_opinions_that_met(project).values("comparison").annotate(**said).order_by()
    sql, parameters = units.query.sql_with_params()
    names = ", ".join(map(connection.ops.quote_name, CATEGORIES))
    counted = f"SELECT {names}, COUNT(*) FROM ({sql}) AS units GROUP BY {names}"  # noqa: S608 - names of our own
    with connection.cursor() as cursor:
        cursor.execute(counted, parameters)
        return {tuple(row[:-1]): row[-1] for row in cursor.fetchall() if sum(row[:-1]) > 1}


@dataclass(frozen=True)
class _Sums:
    """Sums over units: the verdicts of each category, and the pairs of them that differ, by 1 / (verdicts - 1)."""

    categories: Said
    differing: float

    def without(self, said: Said) -> "_Sums":
        categories = tuple(one - other for one, other in zip(self.categories, said, strict=True))
        return _Sums(categories, self.differing - _differing(said))

    @property
    def verdicts(self) -> int:
        return sum(self.categories)

    @property
    def observed(self) -> float:
        return self.differing / self.verdicts

    @property
    def expected(self) -> float:
        """Return the share of pairs of all verdicts that differ: what chance would give."""
        count = self.verdicts
        return (
            (count**2 - sum(one**2 for one in self.categories)) / (count * (count - 1)) if count > 1 else 0.0
        )

    @property
    def alpha(self) -> float:
        return 1 - self.observed / self.expected


def _differing(said: Said) -> float:
    count = sum(said)
    return (count**2 - sum(one**2 for one in said)) / (count - 1)


def estimate_alpha(units: Mapping[Said, int]) -> Estimate | None:
    """Return Krippendorff's alpha (2004, chapter 11) for nominal categories, any number of annotators, gaps allowed.

    `units` counts comparisons by what was said on them. None without two verdicts on one comparison, or if everyone
    always says the same one thing.

    The interval is Wilson's of the disagreement that was observed, over the one that chance would give. It is worth as
    many comparisons as the spread of alpha without each of them in turn tells (the jackknife, Efron 1982).
    """
    columns = zip(*(tuple(count * one for one in said) for said, count in units.items()), strict=True)
    sums = _Sums(tuple(map(sum, columns)), sum(count * _differing(said) for said, count in units.items()))
    if not sums.expected:
        return None
    total = sum(units.values())
    worth = _worth(sums, units, total)
    disagreement = wilson(sums.observed * worth, worth)
    if disagreement is None:
        return Estimate(sums.alpha, -1.0, 1.0, total)
    low, high = (1 - one / sums.expected for one in (disagreement.high, disagreement.low))
    return Estimate(sums.alpha, max(-1.0, low), high, total)


def _worth(sums: _Sums, units: Mapping[Said, int], total: int) -> float:
    """Return how many comparisons would tell as much of the disagreement. Zero if they are too few to tell."""
    others = [(sums.without(said), count) for said, count in units.items()]
    if total < 2 or not all(other.expected for other, _count in others):
        return 0.0
    mean = sum(count * other.alpha for other, count in others) / total
    variance = (total - 1) / total * sum(count * (other.alpha - mean) ** 2 for other, count in others)
    spread = sums.observed * (1 - sums.observed)
    # Where all agree, or all differ, the spread tells nothing.
    worth = spread / sums.expected**2 / variance if min(variance, spread) > 1e-12 else total
    return narrow_by_units(min(worth, sums.verdicts), total)
