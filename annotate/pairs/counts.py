"""The number of pairs that a project's judgments make, without making them.

Most comparisons were judged like many others: the database counts those whose ballots are alike, and each kind of
them is decided once.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Aggregate, BigIntegerField, Case, Count, F, Max, Q, TextField, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast

from annotate.models import Judgment, Project
from annotate.pairs.aggregation import (
    EQUAL_TEXTS,
    Tally,
    enough_checks,
    find_unfit,
    of_policies,
    untrainable,
)
from annotate.pairs.ballots import Columns, outcomes
from annotate.pairs.settings import PairSettings
from annotate.reports.recalled import recall_comparisons, recall_equal, recall_evidence

FEW = 1_000  # comparisons, which are named one by one
VERDICTS = tuple(Judgment.Verdict.values)
VOTER = 1_000  # times a voter's id, to which the rest of a ballot is added


class Kind(NamedTuple):
    """Comparisons with the same ballots, on prompts that are held out or not, and why they can be no pair."""

    cast: tuple[Columns, ...]
    held_out: bool
    unfit: str
    comparisons: int
    judgments: int


class _Listed(Aggregate):
    """The numbers of a group, in one text."""

    function = "GROUP_CONCAT"
    output_field = TextField()

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        return self.as_sql(compiler, connection, template="STRING_AGG((%(expressions)s)::text, ',')")


def count_pairs(project: Project, settings: PairSettings | None = None) -> dict[str, Any]:
    """Return the counts that `aggregate` would give. They are for a page: votes count by figures that pages recall."""
    settings = settings or PairSettings()
    enough = enough_checks(settings)
    reliability = None if enough is None else recall_evidence(project).weigh(enough)
    outcome_of, tally = outcomes(settings, reliability), Tally(settings)
    for kind in _kinds(project, settings, by_voter=reliability is not None):
        made = kind.unfit or outcome_of(kind.cast)
        tally.add(made, kind.held_out, kind.comparisons, kind.judgments)
    return tally.counts


def _kinds(project: Project, settings: PairSettings, *, by_voter: bool) -> Iterator[Kind]:
    by_comparison = (
        Judgment.objects.current()
        .filter(of_policies(settings), project=project)
        .annotate(ballot=_ballot(by_voter=by_voter), reason=_unfit(project, settings))
        .values("comparison")
        .annotate(
            # Of a comparison, all judgments say the same of it.
            held_out=Max(Case(When(comparison__prompt__held_out=True, then=1), default=0)),
            unfit=Max("reason"),
            ballots=_Listed("ballot"),
            judgments=Count("pk"),
        )
        .order_by()
    )
    sql, parameters = by_comparison.query.sql_with_params()
    columns = "ballots, held_out, unfit"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns}, COUNT(*), SUM(judgments) FROM ({sql}) AS judged GROUP BY {columns}",  # noqa: S608
            parameters,
        )
        for ballots, held_out, unfit, comparisons, judgments in cursor:
            yield Kind(_read(ballots), bool(held_out), unfit, comparisons, int(judgments))


def _unfit(project: Project, settings: PairSettings) -> Case:
    """Return the reason why a comparison becomes no pair. What its texts say is recalled, as they never change."""
    equal = recall_equal(project)
    return find_unfit(
        settings,
        equal=Q(comparison__in=equal) if len(equal) <= FEW else EQUAL_TEXTS,
        odd=None if settings.include_untrainable else _odd(project),
    )


def _odd(project: Project) -> Q:
    """Return the condition that a comparison is untrainable."""
    odd = recall_comparisons(project, "untrainable pairs", untrainable(path=""), enough=FEW + 1)
    return Q(comparison__in=odd) if len(odd) <= FEW else untrainable()


def _ballot(*, by_voter: bool) -> Combinable:
    """Return what of a judgment decides, as a number: voter, verdict, side and haste.

    Its strength changes how strong a pair is, and not whether there is one.
    """
    verdict = Case(*(When(verdict=one, then=Value(place)) for place, one in enumerate(VERDICTS)))
    side = Case(
        When(preferred=None, then=Value(1)),
        When(preferred=F("comparison__first"), then=Value(2)),
        default=Value(0),
    )
    too_fast = Case(When(too_fast=True, then=Value(1)), default=Value(0))
    judged = verdict * 100 + side * 10 + too_fast
    return judged + Cast("annotator", BigIntegerField()) * VOTER if by_voter else judged


def _read(ballots: str) -> tuple[Columns, ...]:
    found = []
    for ballot in map(int, ballots.split(",")):
        voter, judged = divmod(ballot, VOTER)
        place, side, too_fast = judged // 100, judged // 10 % 10, judged % 10
        found.append((VERDICTS[place], side - 1, None, bool(too_fast), voter))
    return tuple(found)
