"""Figures with their 95 % intervals, as cells of a table.

Intervals are over seeds where there are several, otherwise over prompts.
"""

import math
import random
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.controlled.intervals import bootstrap, t_interval
from benchmarks.paper.judges import TIE
from primitives.statistics import mean_estimate, wilson
from training.demo.measurements import reward_at

Values = Sequence[float]
Figures = dict[str, list[str]]
# A method's path on one seed's prompts: KLs and rewards (points, prompts), from the base model on.
RewardPath = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
Chosen = Sequence[int] | slice  # prompts
EVERY = slice(None)
_DRAWS = 500  # of the bootstrap


def points_of(path: RewardPath, chosen: Chosen = EVERY) -> list[tuple[float, float]]:
    """Return a path's mean KLs and rewards over the chosen prompts."""
    kls, rewards = (values[:, chosen].mean(axis=1).tolist() for values in path)
    return list(zip(kls, rewards, strict=True))


def reward_within(path: RewardPath, budget: float, chosen: Chosen = EVERY) -> float:
    """Return the reward where a path crosses a KL, or at its end if it ends before."""
    points = points_of(path, chosen)
    found = reward_at(points, budget)
    return points[-1][1] if found is None else found


def reaches(path: RewardPath, budget: float) -> bool:
    """Return whether a path crosses a KL."""
    return reward_at(points_of(path), budget) is not None


def reward_cell(paths: Sequence[RewardPath], budget: float) -> str:
    """Return the reward at a KL, over the seeds whose path reaches it."""
    reached = [path for path in paths if reaches(path, budget)]
    if not reached:
        return "–"
    found = _over_prompts_or_seeds(lambda seed, chosen: reward_within(reached[seed], budget, chosen), reached)
    return _signed(*found) + (f", {len(reached)} of {len(paths)}" if len(reached) < len(paths) else "")


def lead_cell(both: Sequence[tuple[RewardPath, RewardPath]], budget: float) -> str:
    """Return by how much the first path's reward at a KL exceeds the second's, in bold where that is not 0.

    The two of a seed are measured on the same prompts, so that what these share cancels.
    """
    reached = [pair for pair in both if all(reaches(path, budget) for path in pair)]
    if not reached:
        return "–"

    def lead(seed: int, chosen: Chosen) -> float:
        mine, theirs = (reward_within(path, budget, chosen) for path in reached[seed])
        return mine - theirs

    value, low, high = _over_prompts_or_seeds(lead, [path for path, _ in reached])
    return _in_bold_unless_0(value, low, high)


def _over_prompts_or_seeds(
    value: Callable[[int, Chosen], float], paths: Sequence[RewardPath]
) -> tuple[float, float, float]:
    """Return the mean of a value and its interval: Student's t over seeds, or the bootstrap over one's prompts."""
    by_seed = [value(seed, EVERY) for seed in range(len(paths))]
    mean = statistics.fmean(by_seed)
    if over_seeds := t_interval(by_seed):
        return mean, *over_seeds
    rng, count = random.Random(0), paths[0][0].shape[1]
    drawn = sorted(value(0, rng.choices(range(count), k=count)) for _ in range(_DRAWS))
    left_out = int(0.025 * _DRAWS)
    return mean, drawn[left_out], drawn[-1 - left_out]


def bounds(by_seed: Sequence[Values], *, heavy: bool = False) -> tuple[float, float, float]:
    """Return the mean and its interval. A `heavy` tail is the bootstrap's."""
    means = [statistics.fmean(values) for values in by_seed]
    mean = statistics.fmean(means)
    if over_seeds := t_interval(means):
        return mean, *over_seeds
    if heavy:
        return mean, *bootstrap(by_seed[0])
    estimate = mean_estimate(by_seed[0])
    return (mean, estimate.low, estimate.high) if estimate else (mean, math.nan, math.nan)


def cell(by_seed: Sequence[Values], *, heavy: bool = False) -> str:
    """Return a mean as a cell: of a reward, or of a KL, whose tail is `heavy` and which is never below 0."""
    mean, low, high = bounds(by_seed, heavy=heavy)
    return f"{mean:.2f} ({max(0.0, low):.2f} to {high:.2f})" if heavy else _signed(mean, low, high)


def share_bounds(by_seed: Sequence[Values]) -> tuple[float, float, float]:
    """Return a share and its interval, within 0 and 1. Of one seed it is Wilson's, a tie being half a success."""
    if len(by_seed) > 1:
        mean, low, high = bounds(by_seed)
        return mean, max(0.0, low), min(1.0, high)
    estimate = wilson(math.fsum(by_seed[0]), len(by_seed[0]))
    return (estimate.value, estimate.low, estimate.high) if estimate else (math.nan,) * 3


def share_cell(by_seed: Sequence[Values]) -> str:
    """Return a share as a cell."""
    mean, low, high = share_bounds(by_seed)
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def gap_cell(gaps: Sequence[tuple[Values, Values]]) -> str:
    """Return the difference of two means of other prompts, in bold where it is not 0."""
    differences = [_difference(*both) for both in gaps]
    means = [gap for gap, _ in differences]
    mean = statistics.fmean(means)
    low, high = t_interval(means) or (mean - 1.96 * differences[0][1], mean + 1.96 * differences[0][1])
    return _in_bold_unless_0(mean, low, high)


def _difference(one: Values, other: Values) -> tuple[float, float]:
    """Return the difference of two means and its standard error."""
    spread = sum(
        statistics.variance(values) / len(values) if len(values) > 1 else 0.0 for values in (one, other)
    )
    return statistics.fmean(one) - statistics.fmean(other), math.sqrt(spread)


def agreement(loaded: Sequence[Figures], both: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return the share of comparisons on which each of `both` say the same, and how many comparisons there were.

    Two verdicts on one comparison are not independent: their mean counts.
    """
    by_seed = []
    for figures in loaded:
        agreed = [
            [float(mine == theirs) for mine, theirs in verdicts if TIE not in (mine, theirs)]
            for verdicts in zip(
                *(zip(figures[one], figures[other], strict=True) for one, other in both), strict=True
            )
        ]
        if decided := [statistics.fmean(values) for values in agreed if values]:
            by_seed.append(decided)
    if not by_seed:
        return "–", "0"
    mean, low, high = bounds(by_seed)
    return f"{mean:.2f} ({max(0.0, low):.2f} to {min(1.0, high):.2f})", str(sum(map(len, by_seed)))


def _signed(mean: float, low: float, high: float) -> str:
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def _in_bold_unless_0(mean: float, low: float, high: float) -> str:
    text = _signed(mean, low, high)
    return f"**{text}**" if low > 0 or high < 0 else text
