"""The two of several rated completions that become a pair, and how sure the probe is of it.

Of each few completions of a prompt the best and the worst are taken, by the probe's score. A DPO step is their
difference, in which all that is alike is noise, so a large difference teaches more than many small ones (measured in
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
    """The best and the worst of a few completions. `label` is the chance that the best one is better."""

    best: Rated
    worst: Rated
    label: float


def choose_pairs(rated: Sequence[Rated], candidates: int) -> Iterator[Choice]:
    """Yield the best and the worst of every `candidates` completions of one prompt, in their order.

    A completion that was cut is taken only where fewer than two of its group ended. A group whose completions all
    have one score, or one text, gives no pair.
    """
    for start in range(0, len(rated), candidates):
        group = rated[start : start + candidates]
        ended = [one for one in group if one.line["finish_reason"] == "stop"]
        some = ended if len(ended) > 1 else group
        best = max(some, key=lambda one: one.score)
        worst = min(some, key=lambda one: one.score)
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
