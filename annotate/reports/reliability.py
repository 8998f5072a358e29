"""Each annotator's reliability, by all that tells: colleagues on the same comparison, gold, gates, and what others add.

A part of the application above this one may know more, such as what a probe says of votes. It adds a source.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from django.db.models import Count, Exists, F, OuterRef
from django.utils.translation import gettext as _

from annotate.models import Comparison, Judgment, Moment, Project
from annotate.reports import agreement
from annotate.reports.agreement import Meeting
from primitives.reliability import Check, Item, Reliability, estimate
from primitives.statistics import Share

ENOUGH_CHECKS = 10  # known answers' worth of evidence on an annotator, before votes are weighted
ENOUGH_GATED = 10  # votes of others in a gate, before they say which policy is better
Source = Callable[[Project, Moment | None], Mapping[int, list[Check]]]

_SOURCES: dict[str, Source] = {}


def add_source(name: str, source: Source) -> None:
    """Let `source` say of each annotator's votes with what chance they are right, by evidence of its own.

    It is asked for what is known now, or was known at a moment.
    """
    _SOURCES[name] = source


@dataclass(frozen=True)
class Evidence:
    """All that tells how often annotators are right, by kind. Each list is of one annotator's votes."""

    met: list[Meeting] = field(default_factory=list)
    gold: Mapping[int, Share] = field(default_factory=dict)
    gate: Mapping[int, list[Check]] = field(default_factory=dict)
    added: Mapping[str, Mapping[int, list[Check]]] = field(default_factory=dict)

    def items(self) -> Iterator[Item]:
        """Yield it as votes of which something is known."""
        yield from agreement.reliability_items(self.met, self.gold)
        for checks in (self.gate, *self.added.values()):
            for annotator, some in checks.items():
                for check in some:
                    yield Item(((annotator, True),), check.chance, check.times)

    @cached_property
    def reliability(self) -> dict[int, Reliability]:
        """Return each annotator's reliability, by expectation-maximization."""
        return estimate(self.items())

    def weigh(self, enough: float) -> dict[int, float] | None:
        """Return the chance to be right of each annotator of whom anything is known, to weight their votes by.

        None if none of them is known by as much as `enough` known answers, which 0 always are.
        """
        found = self.reliability
        if enough and all(one.checks < enough for one in found.values()):
            return None
        return agreement.as_values(found)

    def kinds(self) -> list[str]:
        """Return what the evidence is of, in words."""
        there = {
            _("colleagues on the same comparisons"): self.met,
            _("gold"): self.gold,
            _("gates"): self.gate,
            _("a probe"): self.added.get("probe"),
        }
        return [kind for kind, found in there.items() if found]


def collect(project: Project, at: Moment | None = None) -> Evidence:
    """Return the evidence as it is, or as it was at a moment."""
    return Evidence(
        agreement.meetings(project, at=at),
        agreement.gold_accuracy(project, at=at),
        gate_checks(project, at),
        {name: source(project, at) for name, source in _SOURCES.items()},
    )


def weights_of_votes(
    project: Project, at: Moment | None = None, *, enough: float = ENOUGH_CHECKS
) -> dict[int, float] | None:
    """Return what to weight the votes of a project's annotators by, see `Evidence.weigh`."""
    return collect(project, at).weigh(enough)


def gate_checks(project: Project, at: Moment | None = None) -> dict[int, list[Check]]:
    """Return what gates say: a vote for the policy that most others preferred is more likely right.

    A vote that a colleague's on the same comparison tells of already counts among the others', and is not checked.
    """
    judgments = Judgment.objects.standing_at(at) if at else Judgment.objects.current()
    preferences = judgments.filter(project=project, verdict=Judgment.Verdict.PREFER)
    colleagues = preferences.filter(comparison=OuterRef("comparison")).exclude(
        annotator=OuterRef("annotator")
    )
    rows = (
        preferences.filter(comparison__kind=Comparison.Kind.GATE)
        .exclude(comparison__first__policy=F("comparison__second__policy"))
        .values_list("comparison__batch", "annotator", "preferred__policy", Exists(colleagues))
        .annotate(count=Count("pk"))
        .order_by()
    )
    votes: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    alone: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    for batch, annotator, policy, has_met, count in rows:
        votes[batch][annotator, policy] += count
        alone[batch][annotator, policy] += 0 if has_met else count
    found: dict[int, list[Check]] = defaultdict(list)
    for batch, cast in votes.items():
        total, of_policy = cast.total(), Counter[int]()
        for (_voter, policy), count in cast.items():
            of_policy[policy] += count
        for annotator in {one for one, _policy in cast}:
            own = {policy: cast[annotator, policy] for policy in of_policy}
            others = total - sum(own.values())
            if others < ENOUGH_GATED:
                continue
            for policy, count in own.items():
                if checked := alone[batch][annotator, policy]:
                    chance = (of_policy[policy] - count + 1) / (others + 2)
                    found[annotator].append(Check(chance, checked))
    return dict(found)
