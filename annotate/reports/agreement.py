"""Agreement of annotators with each other, with gold and with themselves, and what it says of each of them.

Counting is done by the database; what comes back is a small table, whatever the size of the project. Repeats count
for self-consistency alone. Categories name completions, never sides: first, second, tie, both_bad.
"""

import operator
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

from django.db.models import (
    BigIntegerField,
    Case,
    CharField,
    Count,
    F,
    IntegerField,
    OuterRef,
    Q,
    Subquery,
    Sum,
    Value,
    When,
)
from django.db.models.expressions import Combinable
from django.db.models.functions import Round
from django.db.models.lookups import GreaterThan

from annotate.models import Comparison, Judgment, Moment, Project, is_current
from annotate.models.judgments import JudgmentQuerySet
from annotate.queueing.qualification import find_gold_judgments
from primitives.reliability import PRIOR_ACCURACY, Item, Reliability, estimate
from primitives.statistics import UNMEASURED, Share, UnitSums, median_of_counts

Verdict = Judgment.Verdict
CATEGORIES = ("first", "second", Verdict.TIE.value, Verdict.BOTH_BAD.value)
MOST_KAPPAS = 20
LONGEST_SECONDS = 600  # an annotator who took longer was away


@dataclass(frozen=True)
class Meeting:
    """A count of two annotators' categories on the same comparison, among comparisons of `judged` judgments.

    `by_probe` is whether a probe chose the comparisons, for a difference that is easy to see.
    """

    one: int
    other: int
    one_said: str
    other_said: str
    judged: int
    count: int
    by_probe: bool = False


@dataclass
class AnnotatorFigures:
    """The figures of one annotator. `agreement` counts each colleague's verdict on the same comparison.

    `left` is the share of preferences for the left side: about one half, unless the person favours a side. Judgments
    from elsewhere count in it only where it is known which side was left.
    `reliability` estimates how often their preference is right.
    """

    annotator: int
    verdicts: Counter[str] = field(default_factory=Counter)
    left: Share = UNMEASURED
    gold: Share = UNMEASURED
    agreement: Share = UNMEASURED
    repeats: Share = UNMEASURED
    reliability: float = PRIOR_ACCURACY
    mean_seconds: float | None = None
    median_seconds: float | None = None
    too_fast: int = 0
    late: int = 0
    not_mine: int = 0


# --- Counting ----------------------------------------------------------------------------------------------------


def _current(project: Project, at: Moment | None = None) -> JudgmentQuerySet:
    judgments = Judgment.objects.standing_at(at) if at else Judgment.objects.current()
    return judgments.filter(project=project)


def _said(path: str = "") -> Case:
    """Return a judgment's category, by completion. `path` leads to the judgment."""
    return Case(
        When(
            **{f"{path}verdict": Verdict.PREFER, f"{path}preferred": F("comparison__first")},
            then=Value("first"),
        ),
        When(**{f"{path}verdict": Verdict.PREFER}, then=Value("second")),
        default=F(f"{path}verdict"),
        output_field=CharField(),
    )


def meetings(project: Project, at: Moment | None = None) -> list[Meeting]:
    """Count each pair of annotators' categories per comparison, now or at a moment. Ignores skips and repeats."""
    others = "comparison__judgments__"
    # The counter says where none can meet now.
    stands = at.stood(others) if at else is_current(others) & Q(comparison__judged__gte=2)
    rows = (
        _current(project, at)
        .opinions()
        .exclude(comparison__kind=Comparison.Kind.REPEAT)
        .filter(
            stands,
            comparison__judgments__annotator__gt=F("annotator"),
            comparison__judgments__verdict__in=Judgment.OPINIONS,
        )
        .annotate(
            other=F("comparison__judgments__annotator"),
            one_said=_said(),
            other_said=_said("comparison__judgments__"),
            judged=_count_opinions_at(at) if at else F("comparison__judged"),
            by_probe=Q(comparison__arm=Comparison.Arm.PROBE),
        )
        .values("annotator", "other", "one_said", "other_said", "judged", "by_probe")
        .annotate(count=Count("pk"))
        .order_by()
    )
    return [
        Meeting(
            row["annotator"],
            row["other"],
            row["one_said"],
            row["other_said"],
            row["judged"],
            row["count"],
            bool(row["by_probe"]),
        )
        for row in rows
    ]


def _count_opinions_at(moment: Moment) -> Subquery:
    """Return how many opinions a judgment's comparison had then. Its own counter knows the present alone."""
    stood = Judgment.objects.standing_at(moment).opinions().filter(comparison=OuterRef("comparison"))
    counts = stood.order_by().values("comparison").annotate(count=Count("pk")).values("count")
    return Subquery(counts, output_field=IntegerField())


def on_random_pairs(met: Iterable[Meeting]) -> list[Meeting]:
    """Keep the meetings on comparisons that no probe chose: what is found of them holds for all pairs of completions.

    The agreement of a project is counted on these alone. What tells annotators apart is counted on all.
    """
    return [meeting for meeting in met if not meeting.by_probe]


def gold_accuracy(project: Project, at: Moment | None = None) -> dict[int, Share]:
    """Return each annotator's right first verdicts on gold comparisons. A tie there is wrong; a skip does not count."""
    golds = find_gold_judgments(project)
    if at:
        golds = golds.filter(at.was_there())
    right = Count("pk", filter=Q(preferred=F("comparison__gold_preferred")))
    rows = golds.values("annotator").annotate(right=right, total=Count("pk")).order_by()
    return {row["annotator"]: Share(row["right"], row["total"]) for row in rows}


def self_consistency(project: Project) -> dict[int, Share]:
    """Return each annotator's share of the same verdicts on repeats."""
    original = "comparison__repeat_of__judgments__"
    rows = (
        _current(project)
        .opinions()
        .filter(
            is_current(original),
            **{
                "comparison__kind": Comparison.Kind.REPEAT,
                f"{original}annotator": F("annotator"),
                f"{original}verdict__in": Judgment.OPINIONS,
            },
        )
        .annotate(said=_said(), said_first=_said(original))
        .values("annotator")
        .annotate(same=Count("pk", filter=Q(said=F("said_first"))), total=Count("pk"))
        .order_by()
    )
    return {row["annotator"]: Share(row["same"], row["total"]) for row in rows}


# --- Coefficients ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairwiseAgreement:
    """The share of verdict pairs on the same comparison that agree: of all annotators, and of each with one of a file.

    The unit of its interval is the comparison: three verdicts make three pairs, which tell less than three comparisons.
    """

    everyone: Share
    with_external: Share


def find_opinions_that_met(project: Project) -> JudgmentQuerySet:
    """Return the opinions on comparisons of two or more, with their `category`, where no probe chose the comparison."""
    return (
        _current(project)
        .opinions()
        .exclude(comparison__kind=Comparison.Kind.REPEAT)
        .exclude(comparison__arm=Comparison.Arm.PROBE)
        .filter(comparison__judged__gte=2)
        .annotate(category=_said())
    )


def pairwise_agreement(project: Project) -> PairwiseAgreement:
    """Count the agreement of a project on the comparisons that `on_random_pairs` keeps, in one query."""
    said = {
        f"{category}_{where}": Count(
            "pk", filter=Q(category=category, annotator__imported_into__isnull=where == "here")
        )
        for category in CATEGORIES
        for where in ("here", "elsewhere")
    }
    here, elsewhere = (
        [F(f"{category}_{where}") for category in CATEGORIES] for where in ("here", "elsewhere")
    )
    both = [one + other for one, other in zip(here, elsewhere, strict=True)]
    # Each pair of all annotators is counted from both of its ends.
    everyone = _UnitTerms(_add(one * (one - 1) for one in both), _add(both) * (_add(both) - 1))
    mixed = _UnitTerms(
        _add(one * other for one, other in zip(here, elsewhere, strict=True)), _add(here) * _add(elsewhere)
    )
    found = (
        find_opinions_that_met(project)
        .values("comparison")
        .annotate(**said)
        .order_by()
        .aggregate(**everyone.sums("everyone"), **mixed.sums("mixed"))
    )
    return PairwiseAgreement(
        _unit_sums(found, "everyone", ends=2).as_share(), _unit_sums(found, "mixed", ends=1).as_share()
    )


@dataclass(frozen=True)
class _UnitTerms:
    """The pairs of verdicts on a comparison that agree, and all of them, as terms of a query."""

    count: Combinable
    total: Combinable

    def sums(self, prefix: str) -> dict[str, Sum | Count]:
        """Return what `UnitSums` needs, by the names of its fields."""
        terms = {
            "count": self.count,
            "total": self.total,
            "count_squared": self.count * self.count,
            "count_by_total": self.count * self.total,
            "total_squared": self.total * self.total,
        }
        sums: dict[str, Sum | Count] = {
            f"{prefix}_{name}": Sum(term, default=0, output_field=BigIntegerField())
            for name, term in terms.items()
        }
        pairs = Case(When(GreaterThan(self.total, 0), then=1), output_field=IntegerField())
        return sums | {f"{prefix}_units": Count(pairs)}


def _unit_sums(found: Mapping[str, int], prefix: str, *, ends: int) -> UnitSums:
    def read(name: str, power: int) -> int:
        return int(found[f"{prefix}_{name}"] // ends**power)  # a sum is a Decimal on PostgreSQL

    squares = (read(name, 2) for name in ("count_squared", "count_by_total", "total_squared"))
    return UnitSums(found[f"{prefix}_units"], read("count", 1), read("total", 1), *squares)


def _add(terms: Iterable[Combinable]) -> Combinable:
    return reduce(operator.add, terms)


def agreement_with_others(met: Iterable[Meeting]) -> dict[int, Share]:
    """Return the same for each annotator, worth no more than the comparisons that they met others on."""
    found: dict[int, list[Meeting]] = defaultdict(list)
    for meeting in met:
        found[meeting.one].append(meeting)
        found[meeting.other].append(meeting)
    return {annotator: _share_of_met(meetings) for annotator, meetings in found.items()}


def _share_of_met(met: Sequence[Meeting]) -> Share:
    """Return the share of an annotator's meetings that agree. Those on one comparison count as one answer."""
    total = sum(meeting.count for meeting in met)
    same = sum(meeting.count for meeting in met if meeting.one_said == meeting.other_said)
    return Share(same, total, total**2 / sum(meeting.count * (meeting.judged - 1) for meeting in met))


def cohen_kappa(met: Iterable[Meeting], one: int, other: int) -> float | None:
    """Return Cohen's kappa (1960) of two annotators: agreement beyond chance, by their own mixes of verdicts.

    None if they never met, or if chance alone would always agree.
    """
    together = [meeting for meeting in met if {meeting.one, meeting.other} == {one, other}]
    total = sum(meeting.count for meeting in together)
    if not total:
        return None
    first: Counter[str] = Counter()
    second: Counter[str] = Counter()
    for meeting in together:
        first[meeting.one_said] += meeting.count
        second[meeting.other_said] += meeting.count
    observed = sum(meeting.count for meeting in together if meeting.one_said == meeting.other_said) / total
    chance = sum(first[said] * second[said] for said in first) / total**2
    return None if chance == 1 else (observed - chance) / (1 - chance)


def kappas(met: Sequence[Meeting]) -> list[tuple[int, int, int, float | None]]:
    """Return (one, other, comparisons both judged, Cohen's kappa) of those who met most."""
    together: Counter[tuple[int, int]] = Counter()
    for meeting in met:
        together[meeting.one, meeting.other] += meeting.count
    most = together.most_common(MOST_KAPPAS)
    return [(one, other, count, cohen_kappa(met, one, other)) for (one, other), count in most]


def reliability_items(met: Iterable[Meeting], gold: Mapping[int, Share]) -> Iterator[Item]:
    """Yield meetings and gold verdicts as votes of which something is known.

    A vote on a comparison with m others counts 1 / m with each of them, so that it counts once.
    """
    for one in met:
        if {one.one_said, one.other_said} <= {"first", "second"}:
            votes = ((one.one, one.one_said == "first"), (one.other, one.other_said == "first"))
            yield Item(votes, times=one.count / (one.judged - 1))
    for annotator, share in gold.items():
        yield Item(((annotator, True),), 1.0, share.count)
        yield Item(((annotator, False),), 1.0, share.total - share.count)


def estimate_reliability(met: Iterable[Meeting], gold: Mapping[int, Share]) -> dict[int, float]:
    """Return each annotator's chance to be right, from 0.5 to 0.99, by agreement and gold alone."""
    return as_values(estimate(reliability_items(met, gold)))


def as_values(found: Mapping[int, Reliability]) -> dict[int, float]:
    """Return reliabilities as numbers. No annotator counts as certain, and none against their own word."""
    return {annotator: max(one.value, 0.5) for annotator, one in found.items()}


# --- All of it ---------------------------------------------------------------------------------------------------


def annotators(
    project: Project,
    met: Sequence[Meeting] | None = None,
    reliable: Mapping[int, float] | None = None,
) -> list[AnnotatorFigures]:
    """Return the figures of each annotator of the project, in five queries.

    `met` are its `meetings`, and `reliable` what is known of their reliability, where that is known.
    """
    found: dict[int, AnnotatorFigures] = {}
    rows = (
        _current(project)
        .values("annotator", "verdict")
        .annotate(
            count=Count("pk"),
            left=Count("pk", filter=Q(preferred=F("left"), sides_known=True)),
            on_sides=Count("pk", filter=Q(sides_known=True)),
            too_fast_ones=Count("pk", filter=Q(too_fast=True)),
            late_ones=Count("pk", filter=Q(late=True)),
            not_mine=Count("pk", filter=Q(skip_reason=Judgment.SkipReason.NOT_MINE)),
        )
        .order_by()
    )
    for row in rows:
        one = found.setdefault(row["annotator"], AnnotatorFigures(row["annotator"]))
        one.verdicts[row["verdict"]] = row["count"]
        one.too_fast += row["too_fast_ones"]
        one.late += row["late_ones"]
        one.not_mine += row["not_mine"]
        if row["verdict"] == Verdict.PREFER:
            one.left = Share(row["left"], row["on_sides"])
    met = meetings(project) if met is None else met
    gold = gold_accuracy(project)
    agreed = agreement_with_others(met)
    reliable = estimate_reliability(met, gold) if reliable is None else reliable
    consistent, seconds = self_consistency(project), _time(project)
    for one in found.values():
        one.agreement = agreed.get(one.annotator, UNMEASURED)
        one.gold = gold.get(one.annotator, UNMEASURED)
        one.repeats = consistent.get(one.annotator, UNMEASURED)
        one.reliability = reliable.get(one.annotator, PRIOR_ACCURACY)
        one.mean_seconds, one.median_seconds = seconds.get(one.annotator, (None, None))
    return sorted(found.values(), key=lambda one: one.annotator)


def _time(project: Project) -> dict[int, tuple[float, float | None]]:
    """Return the mean and the median seconds of each annotator's judgments, the median to a tenth."""
    timed = _current(project).filter(seconds__lte=LONGEST_SECONDS).annotate(tenths=Round(F("seconds") * 10))
    rows = timed.values("annotator", "tenths").annotate(count=Count("pk"), total=Sum("seconds")).order_by()
    counts: dict[int, dict[float, int]] = defaultdict(dict)
    totals: dict[int, float] = defaultdict(float)
    for row in rows.iterator():
        counts[row["annotator"]][row["tenths"] / 10] = row["count"]
        totals[row["annotator"]] += row["total"]
    return {
        annotator: (totals[annotator] / sum(found.values()), median_of_counts(found))
        for annotator, found in counts.items()
    }
