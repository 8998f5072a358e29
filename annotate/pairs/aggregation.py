"""Judgments -> preference pairs.

A comparison becomes one pair. Each annotator's current verdict is a vote: for one completion, or half for each in a
tie. A skip is no vote. The label is the probability that the chosen completion is the better one, the margin how
much better people found it on average. Comparisons that become no pair are counted by reason, so that nothing goes
missing.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from django.db.models import Case, F, Q, TextField, Value, When
from django.db.models.functions import Cast
from django.db.models.lookups import Contains
from django.utils.translation import gettext_lazy as _

from annotate.models import Comparison, Judgment, Project
from annotate.reports import agreement

EXCLUSIONS = {
    "skipped": _("skipped by everybody"),
    "both_bad": _("both bad"),
    "tie": _("ties"),
    "equal": _("equal completions"),
    "gold": _("gold"),
    "repeat": _("repeats"),
    "withdrawn": _("withdrawn"),
    "too_few": _("too few judgments"),
    "too_fast": _("judged too fast"),
    "untrainable": _("completions of several messages, or images"),
}


class PairSettingsError(ValueError):
    """A value without meaning. `field` names the setting, and `message` says what is wrong with it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field, self.message = field, message

    def __str__(self) -> str:
        return f"{self.field} {self.message}"


@dataclass(frozen=True)
class PairSettings:
    """Settings by which judgments become pairs. Raises PairSettingsError for a value that has no meaning.

    `ties`: "drop" a comparison that ends even, or keep it with the label 0.5 ("half").
    `votes`: "equal" gives the label as the share of votes; "reliability" as the probability that the chosen
    completion is better given each voter's estimated chance to be right (naive Bayes with an even prior).
    `smoothing`: votes added to each side before the share is taken (Laplace); 0.5 makes one vote the label 0.75.
    `weights`: every pair counts the same ("equal") or as often as it was judged ("judgments").
    `policies`: only completions of these policies (ids); empty for all.
    `include_untrainable`: keep pairs that the engine cannot train on: images, and completions of several messages.
    `margin_scale`: the difference of implicit reward, in nats, that training asks for per step of strength (a pair's
    margin); 0 leaves strength out. A third gives the margins 1/3, 2/3 and 1 of Llama 2 (Touvron et al., 2307.09288).
    """

    ties: str = "drop"
    votes: str = "equal"
    smoothing: float = 0.0
    weights: str = "equal"
    min_judgments: int = 1
    include_gold: bool = False
    include_too_fast: bool = True
    policies: Sequence[int] = ()
    include_untrainable: bool = False
    margin_scale: float = 1 / 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", tuple(self.policies))
        for name, choices in (
            ("ties", ("drop", "half")),
            ("votes", ("equal", "reliability")),
            ("weights", ("equal", "judgments")),
        ):
            if getattr(self, name) not in choices:
                message = f"must be one of {', '.join(choices)}, not {getattr(self, name)!r}."
                raise PairSettingsError(name, message)
        if not 0 <= self.smoothing <= 100:
            raise PairSettingsError("smoothing", f"must be from 0 to 100, not {self.smoothing!r}.")
        if not 0 <= self.margin_scale <= 10:
            raise PairSettingsError("margin_scale", f"must be from 0 to 10, not {self.margin_scale!r}.")
        if not 1 <= self.min_judgments <= 50:
            raise PairSettingsError("min_judgments", f"must be from 1 to 50, not {self.min_judgments!r}.")


@dataclass(frozen=True, slots=True)
class Pair:
    """A comparison's judgments in one preference. Completions by id; `label` is at least 0.5."""

    comparison: int
    chosen: int
    rejected: int
    label: float
    margin: float
    weight: float
    held_out: bool
    judgments: tuple[int, ...]
    verdicts: Mapping[str, int] = field(compare=False)


@dataclass(frozen=True)
class Aggregation:
    """`pairs` in the order of their comparisons, and `counts`:

    `judgments` and `comparisons` looked at, `pairs` made, of these `train` and `held_out`, and `excluded`:
    comparisons by reason. `comparisons` is always `pairs` plus all `excluded`.
    """

    pairs: list[Pair]
    counts: dict[str, Any]


class Decision(NamedTuple):
    """A judged comparison as its pair, or the reason why it is none."""

    comparison: int
    first: int
    made: Pair | str
    judgments: int
    held_out: bool


class _Vote(NamedTuple):
    """A current judgment, with what is asked of its comparison: rows and texts by id."""

    pk: int
    annotator: int
    verdict: str
    preferred: int | None
    strength: int | None
    too_fast: bool
    comparison: int
    first: int
    second: int
    kind: str
    withdrawn_at: datetime | None
    held_out: bool
    equal: bool
    trainable: bool


# --- Aggregating -------------------------------------------------------------------------------------------------


def aggregate(
    project: Project,
    settings: PairSettings | None = None,
    only: Q | None = None,
    *,
    at: datetime | None = None,
) -> Aggregation:
    """Return the project's current judgments, or those of the moment `at`, as preference pairs.

    `only` narrows the judgments. No text is loaded.
    """
    pairs: list[Pair] = []
    excluded: Counter[str] = Counter()
    judgments = comparisons = 0
    for decision in decide(project, settings, only, at=at):
        judgments += decision.judgments
        comparisons += 1
        if isinstance(decision.made, Pair):
            pairs.append(decision.made)
        else:
            excluded[decision.made] += 1
    held_out = sum(pair.held_out for pair in pairs)
    counts = {
        "judgments": judgments,
        "comparisons": comparisons,
        "pairs": len(pairs),
        "train": len(pairs) - held_out,
        "held_out": held_out,
        "excluded": dict(sorted(excluded.items())),
    }
    return Aggregation(pairs, counts)


def decide(
    project: Project,
    settings: PairSettings | None = None,
    only: Q | None = None,
    *,
    at: datetime | None = None,
) -> Iterator[Decision]:
    """Yield each judged comparison as its pair, or as the reason why it is none; streamed."""
    settings = settings or PairSettings()
    reliability = agreement.reliability(project) if settings.votes == "reliability" else {}
    for votes in _judged(project, settings, only or Q(), at):
        row = votes[0]
        made = _pair(votes, settings, reliability)
        yield Decision(row.comparison, row.first, made, len(votes), row.held_out)


def _judged(project: Project, settings: PairSettings, only: Q, at: datetime | None) -> Iterator[list[_Vote]]:
    """Yield the votes of each judged comparison, in the order of the comparisons."""
    all_of_them = Judgment.objects.standing_at(at) if at else Judgment.objects.current()
    withdrawn = F("comparison__withdrawn_at")
    judgments = all_of_them.filter(only, project=project)
    if settings.policies:
        judgments = judgments.filter(
            comparison__first__policy__in=settings.policies, comparison__second__policy__in=settings.policies
        )
    same_text = Q(comparison__first__text=F("comparison__second__text"))
    rows = (
        judgments.annotate(
            first=F("comparison__first_id"),
            second=F("comparison__second_id"),
            kind=F("comparison__kind"),
            withdrawn_at=Case(When(comparison__withdrawn_at__lte=at, then=withdrawn)) if at else withdrawn,
            held_out=F("comparison__prompt__held_out"),
            equal=Case(When(same_text, then=Value(True)), default=Value(False)),
            trainable=Case(When(_untrainable(), then=Value(False)), default=Value(True)),
        )
        .order_by("comparison_id", "pk")
        .values_list(*_Vote._fields)
        .iterator(chunk_size=2_000)
    )
    for _comparison, votes in groupby(map(_Vote._make, rows), key=attrgetter("comparison")):
        yield list(votes)


def _untrainable() -> Q:
    """Return the condition that a comparison holds images, or a completion of several messages."""
    found = Q(comparison__prompt__has_images=True)
    for side in ("first", "second"):
        is_chat = Q(**{f"comparison__{side}__messages__isnull": False})
        several = Q(**{f"comparison__{side}__messages__1__isnull": False})
        parts = Cast(f"comparison__{side}__messages", TextField())
        found |= is_chat & (several | Q(Contains(parts, '"type": "image_url"')))
    return found


def _pair(votes: list[_Vote], settings: PairSettings, reliability: Mapping[int, float]) -> Pair | str:
    """Return the pair that a comparison becomes, or the reason why it becomes none."""
    if reason := _unfit(votes[0], settings):
        return reason
    verdicts = Counter(vote.verdict for vote in votes)
    heard = [vote for vote in votes if vote.verdict != Judgment.Verdict.SKIP]
    if not heard:
        return "skipped"
    if not settings.include_too_fast:
        heard = [vote for vote in heard if not vote.too_fast]
        if not heard:
            return "too_fast"
    if len(heard) < settings.min_judgments:
        return "too_few"
    cast = [vote for vote in heard if vote.verdict != Judgment.Verdict.BOTH_BAD]
    if 2 * len(cast) < len(heard) or not cast:
        return "both_bad"
    return _decide(cast, settings, reliability, verdicts)


def _unfit(row: _Vote, settings: PairSettings) -> str | None:
    """Return why this comparison becomes no pair whatever was judged, or None."""
    reasons = {
        "withdrawn": row.withdrawn_at is not None,
        "repeat": row.kind == Comparison.Kind.REPEAT,
        "gold": row.kind == Comparison.Kind.GOLD and not settings.include_gold,
        "equal": row.equal,
        "untrainable": not row.trainable and not settings.include_untrainable,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _decide(
    votes: list[_Vote],
    settings: PairSettings,
    reliability: Mapping[int, float],
    verdicts: Mapping[str, int],
) -> Pair | str:
    """Label, direction and margin of votes that are preferences or ties."""
    row = votes[0]
    first = row.first
    towards_first = [
        0 if vote.preferred is None else (1 if vote.preferred == first else -1) for vote in votes
    ]
    if settings.votes == "reliability":
        logits = (_logit(reliability.get(vote.annotator, agreement.PRIOR_ACCURACY)) for vote in votes)
        label = 1 / (
            1 + math.exp(-sum(side * logit for side, logit in zip(towards_first, logits, strict=True)))
        )
    else:
        half_votes = sum(1 + side for side in towards_first)
        label = (half_votes / 2 + settings.smoothing) / (len(votes) + 2 * settings.smoothing)
    if math.isclose(label, 0.5, abs_tol=1e-9):
        if settings.ties == "drop":
            return "tie"
        label = 0.5
    strengths = [
        side * (vote.strength or 0)
        for side, vote in zip(towards_first, votes, strict=True)
        if vote.strength or not side  # of an imported preference it may not be known
    ]
    margin = sum(strengths) / len(strengths) if strengths else 0.0
    chosen, rejected = (first, row.second) if label >= 0.5 else (row.second, first)
    return Pair(
        comparison=row.comparison,
        chosen=chosen,
        rejected=rejected,
        label=round(max(label, 1 - label), 9),
        # Many faint votes can outvote a strong one: the margin against the majority is then none, not negative.
        margin=round(max(margin if label >= 0.5 else -margin, 0.0), 9),
        weight=float(len(votes)) if settings.weights == "judgments" else 1.0,
        held_out=row.held_out,
        judgments=tuple(vote.pk for vote in votes),
        verdicts=dict(verdicts),
    )


def _logit(accuracy: float) -> float:
    """Evidence of one vote. No annotator counts as certain, and none against their own word."""
    bounded = min(max(accuracy, 0.5), 0.99)
    return math.log(bounded / (1 - bounded))
