"""Measurements of a policy on fresh prompts, and the reward that it reaches within a KL.

A policy is measured at several sizes: as it is, and with its adapter scaled down. Together with the first policy they
make a path. The reward at a KL of K is read off the path where it first crosses K, linearly in the root of the KL,
which grows about as the adapter does. A path that ends before K has no reward there: nothing is extrapolated.
"""

import itertools
import json
import math
import random
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from primitives.statistics import CONFIDENCE, Estimate

KLS = (1, 2, 5)  # nats per completion
SCALES = (0.35, 0.7)  # of an adapter, besides the whole
_DRAWS = 500  # of the bootstrap

Interval = tuple[float, float]


@dataclass(frozen=True)
class Measurement:
    """The completions of a policy for the fresh prompts, in their order, and their rewards."""

    rewards: list[float]
    texts: list[str]
    tokens: list[int]
    log_ratios: list[float]  # log pi(y|x) - log pi_0(y|x)

    @cached_property
    def kl(self) -> float:
        """KL(policy || first policy) per completion, in nats, estimated without bias: it may fall below 0."""
        return statistics.fmean(self.log_ratios)

    @cached_property
    def reward(self) -> float:
        """The mean reward."""
        return statistics.fmean(self.rewards)

    def win_rate_over(self, other: Self) -> float:
        """Return the win rate against another policy on the same prompts, a tie counting one half."""
        return math.fsum(
            1.0 if mine > theirs else 0.5 if mine == theirs else 0.0
            for mine, theirs in zip(self.rewards, other.rewards, strict=True)
        ) / len(self.rewards)


def kl_interval(measurement: Measurement) -> Interval:
    """Return a 95 % interval of the KL by the bootstrap over prompts, which follows its heavy upper tail."""
    values = measurement.log_ratios
    rng = random.Random(0)
    return _middle([statistics.fmean(rng.choices(values, k=len(values))) for _ in range(_DRAWS)])


def reward_at(path: Sequence[tuple[float, float]], kl: float) -> float | None:
    """Return the reward where a path of (KL, reward) first crosses `kl`. None if it never does."""
    for (near, low), (far, high) in itertools.pairwise(path):
        start, end = math.sqrt(max(near, 0.0)), math.sqrt(max(far, 0.0))
        if start <= math.sqrt(kl) <= end and start < end:
            return low + (high - low) * (math.sqrt(kl) - start) / (end - start)
    return None


def rewards_at_kl(path: Sequence[Measurement], kls: Sequence[float] = KLS) -> dict[str, Estimate | None]:
    """Return the reward at each KL with a 95 % interval, None where the path ends before it.

    `path` holds measurements on the same prompts, from the first policy on. The interval is the bootstrap's over
    prompts. A draw whose path ends early counts with its end.
    """
    count = len(path[0].rewards)
    whole = [(point.kl, point.reward) for point in path]
    reached = {kl: reward_at(whole, kl) for kl in kls}
    drawn: dict[float, list[float]] = {kl: [] for kl in kls}
    rng = random.Random(0)
    for _ in range(_DRAWS):
        chosen = rng.choices(range(count), k=count)
        points = [
            (
                math.fsum(point.log_ratios[at] for at in chosen) / count,
                math.fsum(point.rewards[at] for at in chosen) / count,
            )
            for point in path
        ]
        for kl in kls:
            value = reward_at(points, kl)
            drawn[kl].append(points[-1][1] if value is None else value)
    return {
        str(kl): None if value is None else Estimate(value, *_middle(drawn[kl]), count)
        for kl, value in reached.items()
    }


def scale_adapter(adapter: Path, scale: float, target: Path) -> Path:
    """Write a copy of an adapter whose product is multiplied by `scale`. Return its folder."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(adapter, target)
    settings_file = target / "adapter_config.json"
    settings = json.loads(settings_file.read_text(encoding="utf-8"))
    settings["lora_alpha"] *= scale
    settings_file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return target


def _middle(draws: list[float]) -> Interval:
    """Return the interval that holds the middle 95 % of `draws`."""
    draws = sorted(draws)
    left_out = int(len(draws) * (1 - CONFIDENCE) / 2)
    return draws[left_out], draws[-1 - left_out]
