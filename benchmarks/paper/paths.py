"""A method's path: its adapter at the scales where its KL is near each budget, from the smallest to the whole."""

import math
from collections.abc import Callable, Mapping

from benchmarks.paper.actor import Measurement

BUDGETS = (1, 2, 5)  # nats, from the smallest
_NEAR = 1.25  # times the budget, or one over it: near enough to read the reward between two points
_LOOKS = 2  # for a budget


def find_path(measure: Callable[[float], Measurement]) -> list[tuple[float, Measurement]]:
    """Return scales with their measurements: the whole adapter, and one near each budget that it exceeds."""
    path = {1.0: measure(1.0)}
    for budget in reversed(BUDGETS):
        for _ in range(_LOOKS):
            if path[1.0].kl <= budget or any(_is_near(one.kl, budget) for one in path.values()):
                break
            scale = _scale_for(budget, {scale: one.kl for scale, one in path.items()})
            path[scale] = measure(scale)
    return sorted(path.items(), key=lambda item: item[0])


def _is_near(kl: float, budget: float) -> bool:
    return budget / _NEAR <= kl <= budget * _NEAR


def _scale_for(budget: float, kls: Mapping[float, float]) -> float:
    """Return at which scale the KL is about `budget`, between the nearest scales that are known.

    The KL is taken as a power of the scale, and as its square where no smaller scale is known.
    """
    above = min((scale for scale, kl in kls.items() if kl > budget), key=lambda scale: kls[scale])
    below = max(
        (scale for scale, kl in kls.items() if 0 < kl <= budget), key=lambda scale: kls[scale], default=0
    )
    if not below:
        return above * math.sqrt(budget / kls[above])
    power = math.log(kls[above] / kls[below]) / math.log(above / below)
    return below * (budget / kls[below]) ** (1 / power)
