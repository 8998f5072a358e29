"""The skill of a probe: how well its chances foretell votes on prompts that it was not fitted to."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from primitives.reliability import PRIOR_ACCURACY, Reliability, logit, sigmoid
from primitives.statistics import Estimate, wilson
from training.engine.probe.votes import VotedPair

_BINS = 10
_STEPS = 50


@dataclass(frozen=True)
class Skill:
    """Held-out figures over `comparisons` with a preference.

    `accuracy` is how often the likelier completion is the preferred one, a comparison counting once. Its interval is
    Wilson's at 95 %, widened where comparisons of the same prompt go together. Of a vote, `log_loss` and `brier` take
    its chance by the probe's and its annotator's reliability; without skill they are 0.693 and 0.25. `slope` is what
    the probe's log odds are best multiplied by (1 if they are right, below if they are too bold), and
    `calibration_error` the mean distance of chances and shares over ten bins of as many comparisons.
    """

    comparisons: int
    accuracy: float | None = None
    low: float = 0.0
    high: float = 1.0
    log_loss: float | None = None
    brier: float | None = None
    slope: float | None = None
    calibration_error: float | None = None

    @property
    def has_skill(self) -> bool:
        """Return whether the probe is better than chance: its accuracy's interval lies above one half."""
        return self.low > 0.5

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self) | {"has_skill": self.has_skill}


@dataclass(frozen=True)
class _Vote:
    """A vote as the probe foretold it: the chance that the side it is for is better, and that of such a vote."""

    chance: float
    voted: float


def measure(voted: Sequence[VotedPair], chances: Sequence[float], people: Mapping[str, Reliability]) -> Skill:
    """Return the skill of cross-fitted chances, by the votes that they did not learn from."""
    hits: dict[str, list[float]] = defaultdict(list)  # by prompt
    votes: list[_Vote] = []
    for one, chance in zip(voted, chances, strict=True):
        balance = sum(1 if prefers_first else -1 for _, prefers_first in one.votes)
        if balance and chance != 0.5:
            hits[one.prompt_key].append(float((balance > 0) == (chance > 0.5)))
        for annotator, prefers_first in one.votes:
            right = chance if prefers_first else 1 - chance
            trust = people[annotator].value if annotator in people else PRIOR_ACCURACY
            votes.append(_Vote(right, trust * right + (1 - trust) * (1 - right)))
    flat = [hit for some in hits.values() for hit in some]
    if not flat:
        return Skill(0)
    share = math.fsum(flat) / len(flat)
    worth = len(flat) / _design_effect(list(hits.values()), share)
    found = wilson(share * worth, worth) or Estimate(share, 0.0, 1.0, worth)
    return Skill(
        comparisons=len(flat),
        accuracy=share,
        low=found.low,
        high=found.high,
        log_loss=-math.fsum(math.log(max(vote.voted, 1e-12)) for vote in votes) / len(votes),
        brier=math.fsum((1 - vote.voted) ** 2 for vote in votes) / len(votes),
        slope=_slope(votes),
        calibration_error=_calibration_error(votes),
    )


def _design_effect(groups: Sequence[Sequence[float]], share: float) -> float:
    """Return how many times as wide a variance clusters make, at least 1: that of their sums to that of single hits."""
    single = share * (1 - share) * sum(map(len, groups))
    return (
        max(1.0, math.fsum(math.fsum(hit - share for hit in some) ** 2 for some in groups) / single)
        if single
        else 1.0
    )


def _slope(votes: Sequence[_Vote]) -> float:
    """Return the likeliest factor on the log odds that the probe gives to votes, by Newton's method."""
    odds = [logit(vote.voted) for vote in votes]
    factor = 1.0
    for _ in range(_STEPS):
        chances = [sigmoid(factor * one) for one in odds]
        slope = math.fsum(one * (1 - chance) for one, chance in zip(odds, chances, strict=True))
        bend = math.fsum(one * one * chance * (1 - chance) for one, chance in zip(odds, chances, strict=True))
        if bend < 1e-9:
            break
        step = max(-1.0, min(1.0, slope / bend))
        factor += step
        if abs(step) < 1e-6:
            break
    return max(-10.0, min(10.0, factor))


def _calibration_error(votes: Sequence[_Vote]) -> float:
    """Return the expected calibration error of votes' chances, each vote seen from its likelier side."""
    seen = sorted((max(vote.voted, 1 - vote.voted), float(vote.voted > 0.5)) for vote in votes)
    size = max(1, math.ceil(len(seen) / _BINS))
    bins = [seen[at : at + size] for at in range(0, len(seen), size)]
    return math.fsum(
        abs(math.fsum(chance for chance, _ in some) - math.fsum(hit for _, hit in some)) for some in bins
    ) / len(seen)
