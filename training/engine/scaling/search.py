"""The largest scale of an adapter that keeps a budget of KL, found in a few measurements."""

import math
from collections.abc import Callable

CLOSE = 0.95  # of the budget: near enough from below
MOST_TRIES = 7


def find_scale(budget: float, whole: float, measure: Callable[[float], float]) -> float:
    """Return the largest scale in (0, 1) found whose KL keeps the budget. `whole` is the KL at 1, above the budget.

    KL grows with about the square of the scale, so the root is looked for in sqrt(KL), by false position between the
    largest scale known to keep the budget and the smallest known to break it.
    """
    low, high = 0.0, 1.0
    at_low, at_high, wanted = 0.0, math.sqrt(whole), math.sqrt(budget)
    for _ in range(MOST_TRIES):
        share = (wanted - at_low) / (at_high - at_low)
        tried = rounded(low + (high - low) * min(0.95, max(0.05, share)))
        if tried in (low, high):
            break
        found = math.sqrt(max(0.0, measure(tried)))
        if found <= wanted:
            low, at_low = tried, found
            if found**2 >= CLOSE * budget:
                break
        else:
            high, at_high = tried, found
    if low:
        return low
    return rounded(high * min(0.5, wanted / at_high))  # every try broke it: further down than any of them


def rounded(scale: float) -> float:
    """Return a scale of four digits: more would tell of nothing that was measured."""
    return float(f"{scale:.4g}")
