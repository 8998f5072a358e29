"""The pairs that several rated completions of a prompt become, and how sure the probe is of each.

Of each few completions the best and the worst become a pair, then the second best and the second worst, and so on: each
is used once. Those of close scores teach as much as those far apart, namely what does not matter (measured in
docs/learning.md). Imports nothing heavy.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rated:
    """A completion as a line of samples.jsonl, with the probe's score and its standard deviation."""

    line: dict[str, Any]
    score: float
    deviation: float

    @property
    def text(self) -> str:
        """The completion's text, blanks around it apart."""
        return str(self.line["completion"]).strip()


@dataclass(frozen=True, slots=True)
class Choice:
    """Two completions, the better first. `label` is the chance that the best one is better."""

    best: Rated
    worst: Rated
    label: float


def choose_pairs(rated: Sequence[Rated], candidates: int) -> Iterator[Choice]:
    """Yield the pairs of every `candidates` completions of one prompt, the widest of each group first.

    A completion that was cut is taken only where fewer than two of its group ended. Two completions with one score, or
    one text, give no pair.
    """
    for start in range(0, len(rated), candidates):
        group = rated[start : start + candidates]
        ended = [one for one in group if one.line["finish_reason"] == "stop"]
        ranked = sorted(ended if len(ended) > 1 else group, key=lambda one: -one.score)
        for place in range(len(ranked) // 2):
            best, worst = ranked[place], ranked[-1 - place]
            if best.score > worst.score and best.text != worst.text:
                yield Choice(best, worst, chance_of(best, worst))


def chance_of(first: Rated, second: Rated) -> float:
    """Return the chance that the first is better: sigmoid(kappa * difference), kappa = (1 + pi s^2 / 8)^(-1/2).

    MacKay, The Evidence Framework Applied to Classification Networks, 1992, equation 9. s^2 is the variance of the
    difference, taken as the sum of both: the less the probe knows of either, the nearer the label is to one half.
    """
    variance = first.deviation**2 + second.deviation**2
    odds = (first.score - second.score) / math.sqrt(1 + math.pi * variance / 8)
    return 1 / (1 + math.exp(-odds)) if odds > 0 else math.exp(odds) / (1 + math.exp(odds))
