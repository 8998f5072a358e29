"""The frontier of reward and KL: the exact one of the starter, that of best-of-N, and a policy's place beside it."""

import math
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise

from benchmarks.controlled.policies import Measurement


def tilt(scores: Sequence[float], rewards: Sequence[float], inverse_beta: float) -> tuple[float, float]:
    """Return reward and KL of the policy proportional to starter * exp(score * inverse_beta), over its samples.

    This is the optimum of Rafailov et al., 2305.18290, equation 4. Where the scores are the rewards it is the frontier:
    no policy has more reward at its KL. The starter's distribution is that of its samples.
    """
    largest = max(inverse_beta * score for score in scores)
    odds = [math.exp(inverse_beta * score - largest) for score in scores]
    total = sum(odds)
    reward = sum(one * value for one, value in zip(odds, rewards, strict=True)) / total
    mean_score = sum(one * score for one, score in zip(odds, scores, strict=True)) / total
    kl = inverse_beta * mean_score - (math.log(total / len(odds)) + largest)
    return reward, kl


def reward_of_tilt(scores: Sequence[float], rewards: Sequence[float], budget: float) -> float:
    """Return the reward of the exact tilt by `scores` whose KL is `budget`, or that of the sharpest one below it."""
    low, high = 0.0, 1.0
    while tilt(scores, rewards, high)[1] < budget and high < 1e4:
        low, high = high, high * 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if tilt(scores, rewards, middle)[1] < budget else (low, middle)
    return tilt(scores, rewards, low)[0]


def best_of_bound(count: int) -> float:
    """Return log N - (N - 1) / N, the most KL that best-of-N costs (Beirami et al., 2401.01879, equation 2)."""
    return math.log(count) - (count - 1) / count


def reward_at(
    path: Sequence[Measurement], reward: Callable[[str], float], budget: float, start: float
) -> tuple[float, bool]:
    """Return the reward of a path at a KL of `budget`, interpolated in the root of the KL, and whether it got there.

    A path that ended before gives its best reward, which is a lower bound. `start` is the starter's own reward.
    """
    points = sorted([(0.0, start), *((math.sqrt(max(0.0, one.kl)), one.reward(reward)) for one in path)])
    wanted = math.sqrt(budget)
    for (left, low), (right, high) in pairwise(points):
        if left <= wanted <= right:
            return low + (high - low) * (wanted - left) / (right - left or 1.0), True
    # Within a tenth of the budget it has arrived, as far as a KL can be measured.
    return max(value for _, value in points), points[-1][0] ** 2 > 0.9 * budget


def starter_reward(samples: Sequence[Sequence[str]], reward: Callable[[str], float]) -> float:
    """Return the mean reward of the starter's samples, by prompt."""
    return statistics.fmean(reward(text) for texts in samples for text in texts)
