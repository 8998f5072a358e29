"""Judgments -> preference pairs.

A comparison becomes one pair. Each annotator's current verdict is a vote: for one completion, or half for each in a
tie. A skip is not a vote. The label is the probability that the chosen completion is the better one, the margin how
much better people found it on average. Comparisons that become no pair are counted by reason, so that nothing goes
missing.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple

from django.db.models import Case, Expression, F, Func, Q, QuerySet, TextField, Value, When
from django.db.models.functions import Cast
from django.db.models.lookups import Contains, Exact

from annotate.models import Comparison, Judgment, Moment, Project
from annotate.pairs.ballots import Columns, Outcome, outcomes
from annotate.pairs.settings import PairSettings
from annotate.pairs.streams import stream_rows
from annotate.reports.recalled import recall_evidence
from annotate.reports.reliability import ENOUGH_CHECKS, weights_of_votes

LOOK_EVERY = 1_000  # comparisons
EQUAL_TEXTS = Q(comparison__first__text=F("comparison__second__text"))


class Pair(NamedTuple):
    """A comparison's judgments in one preference. Completions by id; `label` is at least 0.5."""

    comparison: int
    chosen: int
    rejected: int
    label: float
    margin: float
    weight: float
    held_out: bool
    judgments: tuple[int, ...]


class Rating(NamedTuple):
    """A completion that is desirable by itself, or not, with the judgments that say so."""

    comparison: int
    completion: int
    desirable: bool
    weight: float
    held_out: bool
    judgments: tuple[int, ...]


@dataclass(frozen=True)
class Aggregation:
    """`pairs` and `ratings` in the order of their comparisons, and `counts`:

    `judgments` and `comparisons` looked at, `pairs` made, of these `train` and `held_out`, and `excluded`:
    comparisons by reason. `rated`, if any are, are the comparisons of which both completions were rated.
    `comparisons` is always `pairs`, `rated` and all `excluded` together.
    """

    pairs: list[Pair]
    counts: dict[str, Any]
    ratings: list[Rating]


class Vote(NamedTuple):
    """A current judgment, with what is asked of its comparison: completions by id, and why it can be no pair."""

    comparison: int
    pk: int
    annotator: int
    verdict: str
    preferred: int | None
    strength: int | None
    too_fast: bool
    left: int
    sides_known: bool
    import_batch: str
    first: int
    second: int
    held_out: bool
    unfit: str


class Decision(NamedTuple):
    """A judged comparison as its pair, or the reason why it is none, with all its votes."""

    comparison: int
    first: int
    made: Pair | str
    votes: list[Vote]
    held_out: bool


def aggregate(
    project: Project,
    settings: PairSettings | None = None,
    only: Q | None = None,
    *,
    at: Moment | None = None,
    look: Callable[[], None] = lambda: None,
) -> Aggregation:
    """Return the project's current judgments, or those of the moment `at`, as preference pairs.

    `only` narrows the judgments. No text is loaded. `look` is called now and then. What it raises ends the aggregation.
    """
    pairs: list[Pair] = []
    ratings: list[Rating] = []
    settings = settings or PairSettings()
    tally = Tally(settings)
    for decision in decide(project, settings, only, at=at):
        if tally.comparisons % LOOK_EVERY == 0:
            look()
        tally.add(decision.made, decision.held_out, 1, len(decision.votes))
        if isinstance(decision.made, Pair):
            pairs.append(decision.made)
        elif tally.gives_ratings(decision.made):
            ratings += _rate_both_bad(decision.votes, by_judgments=settings.weights == "judgments")
    return Aggregation(pairs, tally.counts, ratings)


class Tally:
    """The counts of an aggregation, as they grow."""

    def __init__(self, settings: PairSettings) -> None:
        self._rates = settings.both_bad == "ratings"
        self.judgments = self.comparisons = self.rated = 0
        self._pairs: Counter[bool] = Counter()  # by whether they are held out
        self._excluded: Counter[str] = Counter()

    def add(self, made: object, held_out: bool, comparisons: int, judgments: int) -> None:
        """Count comparisons of which `made` was made: a pair, or none for the reason that it names."""
        self.comparisons += comparisons
        self.judgments += judgments
        if not isinstance(made, str):
            self._pairs[held_out] += comparisons
        elif self.gives_ratings(made):
            self.rated += comparisons
        else:
            self._excluded[made] += comparisons

    def gives_ratings(self, made: str) -> bool:
        """Return whether both completions of a comparison that is no pair for this reason are rated."""
        return self._rates and made == "both_bad"

    @property
    def counts(self) -> dict[str, Any]:
        return {
            "judgments": self.judgments,
            "comparisons": self.comparisons,
            "pairs": self._pairs.total(),
            "train": self._pairs[False],
            "held_out": self._pairs[True],
            **({"rated": self.rated} if self.rated else {}),
            "excluded": dict(sorted(self._excluded.items())),
        }


def decide(
    project: Project,
    settings: PairSettings | None = None,
    only: Q | None = None,
    *,
    at: Moment | None = None,
    equal: Container[int] | None = None,
    unwanted: Mapping[str, Q] | None = None,
) -> Iterator[Decision]:
    """Yield each judged comparison as its pair, or as the reason why it is none; streamed.

    `equal` holds the comparisons whose completions say the same, where the caller knows them. Then no text is read.
    `unwanted` are further conditions, by reason, on which a comparison becomes no pair.
    """
    settings = settings or PairSettings()
    reliability = _weigh_votes(project, settings, at)
    outcome_of = outcomes(settings, reliability)
    unfit = find_unfit(settings, at, unwanted or {}, equal=EQUAL_TEXTS if equal is None else None)
    about_form = {"", "untrainable", *(unwanted or {})}
    for comparison, some in groupby(_votes(project, settings, only or Q(), at, unfit), key=itemgetter(0)):
        votes = list(some)
        row = votes[0]
        if equal and comparison in equal and row.unfit in about_form:
            made: Pair | str = "equal"
        else:
            ballots = ballots_of(votes, by_voter=reliability is not None)
            made = row.unfit or _pair(votes, settings, outcome_of(ballots))
        yield Decision(comparison, row.first, made, votes, row.held_out)


def _weigh_votes(project: Project, settings: PairSettings, at: Moment | None) -> dict[int, float] | None:
    """Return the reliability by which votes count, None where all count the same."""
    enough = enough_checks(settings)
    return None if enough is None else weights_of_votes(project, at, enough=enough)


def enough_checks(settings: PairSettings) -> float | None:
    """Return how much is to be known of an annotator before votes are weighted, None if they never are."""
    return {"equal": None, "reliability": 0.0}.get(settings.votes, ENOUGH_CHECKS)


def _votes(
    project: Project, settings: PairSettings, only: Q, at: Moment | None, unfit: Expression
) -> Iterator[Vote]:
    """Yield the judgments, in the order of their comparisons."""
    all_of_them = Judgment.objects.standing_at(at) if at else Judgment.objects.current()
    return read_votes(all_of_them.filter(only, of_policies(settings), project=project), unfit)


def of_policies(settings: PairSettings) -> Q:
    """Return the condition that both completions of a judgment's comparison are of the policies that are asked for."""
    if not settings.policies:
        return Q()
    return Q(
        comparison__first__policy__in=settings.policies, comparison__second__policy__in=settings.policies
    )


def read_votes(judgments: QuerySet[Judgment], unfit: Expression | None = None) -> Iterator[Vote]:
    """Yield judgments as votes, in the order of their comparisons."""
    rows = judgments.annotate(
        first=F("comparison__first_id"),
        second=F("comparison__second_id"),
        held_out=F("comparison__prompt__held_out"),
        unfit=unfit or Value(""),
    ).order_by("comparison_id", "pk")
    columns = (
        "comparison_id", "pk", "annotator_id", "verdict", "preferred_id", "strength", "too_fast", "left_id",
        "sides_known", "import_batch", "first", "second", "held_out", "unfit",
    )  # fmt: skip
    return map(Vote._make, stream_rows(rows.values_list(*columns)))


def find_unfit(
    settings: PairSettings,
    at: Moment | None = None,
    unwanted: Mapping[str, Q] = MappingProxyType({}),
    *,
    equal: Q | None,
    odd: Q | None = None,
) -> Case:
    """Return the reason why a comparison becomes no pair whatever was judged, or no text.

    `equal` is the condition that its completions say the same, None where the caller looks at that. `odd` is the
    condition that it is untrainable, where the caller has a quicker one.
    """
    kind = Comparison.Kind
    reasons = {
        "withdrawn": Q(comparison__withdrawn_at__lte=at.time) if at else ~Q(comparison__withdrawn_at=None),
        "repeat": Q(comparison__kind=kind.REPEAT),
        "gold": Q(comparison__kind=kind.GOLD),
        "equal": equal or Q(),
        "untrainable": odd or untrainable(),
        **unwanted,
    }
    allowed = {
        "gold": settings.include_gold,
        "equal": equal is None,
        "untrainable": settings.include_untrainable,
    }
    found = (When(asked, then=Value(reason)) for reason, asked in reasons.items() if not allowed.get(reason))
    return Case(*found, default=Value(""))


# --- The label of one comparison ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PresentLabel:
    """The better completion by the verdicts so far, with the chance that it is.

    `evidence` names what tells how reliable annotators are; it is empty where all votes count the same.
    """

    letter: str
    chance: float
    evidence: list[str]


def find_label(comparison: Comparison) -> PresentLabel | None:
    """Return the label that a comparison has by default settings; None where its verdicts prefer neither."""
    votes = list(read_votes(Judgment.objects.current().filter(comparison=comparison)))
    if not votes:
        return None
    evidence = recall_evidence(comparison.project)
    weights = evidence.weigh(ENOUGH_CHECKS)
    outcome = outcomes(PairSettings(), weights)(ballots_of(votes, by_voter=weights is not None))
    if isinstance(outcome, str):
        return None
    return PresentLabel(
        "A" if outcome.first_is_chosen else "B", outcome.label, evidence.kinds() if weights else []
    )


# --- What a comparison holds -------------------------------------------------------------------------------------

SIDES = ("first", "second")
BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001))))  # Python knows none beyond
IMAGE, CALLS, REASONING = '"type": "image_url"', '"tool_calls": ', '"reasoning_content": '  # as JSON has them


OF_JUDGMENT = "comparison__"  # the path from a judgment to its comparison


def untrainable(path: str = OF_JUDGMENT) -> Q:
    """Return the condition that a comparison holds images, or a completion of several messages."""
    return has_images(path) | has_several_messages(path)


def has_images(path: str = OF_JUDGMENT) -> Q:
    """Return the condition that the prompt or a completion of a comparison holds images."""
    return Q(**{f"{path}prompt__has_images": True}) | _any_completion_has(IMAGE, path)


def has_several_messages(path: str = OF_JUDGMENT) -> Q:
    """Return the condition that a completion of a comparison is several messages."""
    found = Q()
    for side in SIDES:
        found |= Q(**{f"{path}{side}__messages__1__isnull": False})
    return found


def has_calls() -> Q:
    """Return the condition that a comparison holds calls of tools."""
    return Q(Contains(Cast("comparison__prompt__content", TextField()), CALLS)) | _any_completion_has(CALLS)


def has_reasoning() -> Q:
    """Return the condition that a completion of a comparison comes with its reasoning."""
    return _any_completion_has(REASONING)


def has_empty_completion() -> Q:
    """Return the condition that a completion of a comparison is blank."""
    first, second = (Q(Exact(_Stripped(f"comparison__{side}__text"), Value(""))) for side in SIDES)
    return first | second


def differs_in_blanks() -> Q:
    """Return the condition that the completions of a comparison are equal without the blanks around them."""
    return Q(Exact(*(_Stripped(f"comparison__{side}__text") for side in SIDES)))


class _Stripped(Func):
    """A text without the blanks around it, those that Python strips: databases have classes of their own."""

    function = "TRIM"
    output_field = TextField()

    def __init__(self, text: str) -> None:
        super().__init__(F(text), Value(BLANKS))

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        return self.as_sql(compiler, connection, function="BTRIM")


def _any_completion_has(json: str, path: str = OF_JUDGMENT) -> Q:
    found = Q()
    for side in SIDES:
        is_chat = Q(**{f"{path}{side}__messages__isnull": False})
        found |= is_chat & Q(Contains(Cast(f"{path}{side}__messages", TextField()), json))
    return found


# --- Pairs and ratings -------------------------------------------------------------------------------------------


def _pair(votes: list[Vote], settings: PairSettings, outcome: Outcome | str) -> Pair | str:
    """Return the pair of these votes, or the reason why they are none."""
    if isinstance(outcome, str):
        return outcome
    row = votes[0]
    is_first, label, margin, counted = outcome
    chosen, rejected = (row.first, row.second) if is_first else (row.second, row.first)
    judgments = tuple([votes[place].pk for place in counted])
    weight = float(len(judgments)) if settings.weights == "judgments" else 1.0
    return Pair(row.comparison, chosen, rejected, label, margin, weight, row.held_out, judgments)


def _rate_both_bad(votes: list[Vote], *, by_judgments: bool) -> Iterator[Rating]:
    """Yield both completions of a comparison as undesirable, by the votes that found them bad."""
    row = votes[0]
    judgments = tuple(vote.pk for vote in votes if vote.verdict == Judgment.Verdict.BOTH_BAD)
    weight = float(len(judgments)) if by_judgments else 1.0
    for completion in sorted((row.first, row.second)):
        yield Rating(
            row.comparison,
            completion,
            desirable=False,
            weight=weight,
            held_out=row.held_out,
            judgments=judgments,
        )


def ballots_of(votes: Sequence[Vote], *, by_voter: bool) -> tuple[Columns, ...]:
    """Return what of these votes decides, as columns of ballots."""
    return tuple(
        [
            (
                vote.verdict,
                0 if vote.preferred is None else 1 if vote.preferred == vote.first else -1,
                vote.strength,
                vote.too_fast,
                vote.annotator if by_voter else 0,
            )
            for vote in votes
        ]
    )
