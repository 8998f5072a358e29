"""The policy that a probe's scores describe: ref(y|x) exp(s(y) / beta) / Z, with the beta that gives it a KL.

It is the optimum of rewards with a KL penalty (Rafailov et al., 2305.18290, equation 4). Of two completions of a
prompt, it prefers one by (s - s') / beta nats more than the reference does. Imports nothing heavy.
"""

import math
import statistics
from collections.abc import Iterable, Sequence

_DOUBLINGS, _HALVINGS = 60, 30
_SHARPEST = 1000.0  # nats between the average and the best completion
_TIED = 0.99  # of the best completion's score: as good as the best


def find_strength(scores: Iterable[Sequence[float]], kl: float) -> float:
    """Return 1 / beta such that the tilt has a KL of `kl` nats; 0 where no score differs.

    `scores` are those of the reference's completions, by prompt. Their differences from the prompt's mean are taken
    together, since the few of one prompt cannot show a large KL. Where even the sharpest tilt has less, it is returned.
    """
    apart = _differences(scores)
    largest = max(apart, default=0.0)
    if largest <= 0:
        return 0.0
    low, high = 0.0, 1 / largest
    for _ in range(_DOUBLINGS):
        if tilted_kl(apart, high) >= kl:
            break
        if high * largest > _SHARPEST:
            return high
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if tilted_kl(apart, middle) < kl else (low, middle)
    return low


def largest_kl(scores: Iterable[Sequence[float]]) -> float:
    """Return the largest KL in nats whose tilt the completions with these scores, by prompt, can show; 0 for none.

    Of n completions of which m are as good as the best, no tilt shows more than ln(n / m) nats, and near that its
    strength hangs on the few best alone: it grows without end. So it is half of ln(n / (m + 1)).
    """
    apart = _differences(scores)
    largest = max(apart, default=0.0)
    if largest <= 0:
        return 0.0
    tied = sum(one >= _TIED * largest for one in apart)
    return max(0.0, math.log(len(apart) / (tied + 1)) / 2)


def _differences(scores: Iterable[Sequence[float]]) -> list[float]:
    """Return the differences of all scores from the mean of their prompt's."""
    differences: list[float] = []
    for some in filter(None, scores):
        mean = statistics.fmean(some)
        differences += [score - mean for score in some]
    return differences


def tilted_kl(scores: Sequence[float], strength: float) -> float:
    """Return the KL in nats of the distribution over samples with odds exp(strength * score) from the even one."""
    largest = max(scores)
    odds = [math.exp(strength * (score - largest)) for score in scores]
    total = math.fsum(odds)
    mean = math.fsum(one * (score - largest) for one, score in zip(odds, scores, strict=True)) / total
    return strength * mean - math.log(total / len(odds))
