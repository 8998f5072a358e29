"""The outcome of a comparison's ballots: which completion they prefer, how likely, and how strongly."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from annotate.models import Judgment
from annotate.pairs.settings import PairSettings
from primitives.reliability import PRIOR_ACCURACY

REMEMBERED = 10_000  # outcomes
Columns = tuple[str, int, int | None, bool, int]  # of a ballot


class Ballot(NamedTuple):
    """All of a vote that decides: comparisons with the same ballots have the same outcome.

    `side` is 1 for the first completion, -1 for the second and 0 for neither. `voter` is 0 where all voters count the
    same.
    """

    verdict: str
    side: int
    strength: int | None
    too_fast: bool
    voter: int


class Outcome(NamedTuple):
    """A preference: its direction, label and margin, and the places of the ballots that counted."""

    first_is_chosen: bool
    label: float
    margin: float
    counted: tuple[int, ...]


def outcomes(
    settings: PairSettings, reliability: Mapping[int, float] | None
) -> Callable[[tuple[Columns, ...]], Outcome | str]:
    """Return the function from ballots to their outcome, or the reason why they have none.

    It remembers: most comparisons of a project were judged like many others.
    """

    @lru_cache(maxsize=REMEMBERED)
    def outcome_of(cast: tuple[Columns, ...]) -> Outcome | str:
        return find_outcome([Ballot._make(columns) for columns in cast], settings, reliability)

    return outcome_of


def find_outcome(
    cast: Sequence[Ballot], settings: PairSettings, reliability: Mapping[int, float] | None = None
) -> Outcome | str:
    """Count the ballots that are preferences or ties, unless skips, haste or “both bad” decide."""
    heard = [place for place, ballot in enumerate(cast) if ballot.verdict != Judgment.Verdict.SKIP]
    if not heard:
        return "skipped"
    if not settings.include_too_fast:
        heard = [place for place in heard if not cast[place].too_fast]
        if not heard:
            return "too_fast"
    if len(heard) < settings.min_judgments:
        return "too_few"
    counted = tuple(place for place in heard if cast[place].verdict != Judgment.Verdict.BOTH_BAD)
    if 2 * len(counted) < len(heard):
        return "both_bad"
    return _count([cast[place] for place in counted], counted, settings, reliability)


def _count(
    cast: list[Ballot],
    counted: tuple[int, ...],
    settings: PairSettings,
    reliability: Mapping[int, float] | None,
) -> Outcome | str:
    """Return label, direction and margin of ballots that are preferences or ties."""
    if reliability is not None:
        logits = (ballot.side * _logit(reliability.get(ballot.voter, PRIOR_ACCURACY)) for ballot in cast)
        label = 1 / (1 + math.exp(-sum(logits)))
    else:
        half_votes = sum(1 + ballot.side for ballot in cast)
        label = (half_votes / 2 + settings.smoothing) / (len(cast) + 2 * settings.smoothing)
    if math.isclose(label, 0.5, abs_tol=1e-9):
        if settings.ties == "drop":
            return "tie"
        label = 0.5
    # Of an imported preference the strength may not be known.
    strengths = [
        ballot.side * (ballot.strength or 0) for ballot in cast if ballot.strength or not ballot.side
    ]
    margin = sum(strengths) / len(strengths) if strengths else 0.0
    return Outcome(
        first_is_chosen=label >= 0.5,
        label=round(max(label, 1 - label), 9),
        # Many faint votes can outvote a strong one: the margin against the majority is then none, not negative.
        margin=round(max(margin if label >= 0.5 else -margin, 0.0), 9),
        counted=counted,
    )


def _logit(accuracy: float) -> float:
    """Return the evidence of one vote. No annotator counts as certain, and none against their own word."""
    bounded = min(max(accuracy, 0.5), 0.99)
    return math.log(bounded / (1 - bounded))
