"""Figures of a plan: distributions of lengths, and lines through what was measured."""

import bisect
import math
from collections.abc import Sequence
from typing import Any

_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_WAYS_APART = 0.05  # of two sizes: closer ones draw no line


def spread(lengths: Sequence[int]) -> dict[str, Any]:
    """Return smallest, largest, mean and quantiles of lengths, and their counts by powers of two."""
    order = sorted(lengths)
    if not order:
        return {}
    counts: dict[str, int] = {}
    for length in order:
        bound = 1 << max(4, math.ceil(math.log2(max(1, length))))
        counts[str(bound)] = counts.get(str(bound), 0) + 1
    quantiles = {name: order[min(len(order) - 1, int(share * len(order)))] for name, share in _SHARES.items()}
    mean = round(sum(order) / len(order), 1)
    return {"min": order[0], **quantiles, "max": order[-1], "mean": mean, "histogram": counts}


def sample_places(count: int) -> list[int]:
    """Return a few places in a sorted list of `count`: its middle first, then its ends and what is between."""
    if not count:
        return []
    shares = (0.5, 0.0, 0.25, 0.75, 0.95, 1.0)
    return list(dict.fromkeys(round(share * (count - 1)) for share in shares))


def line_at(points: Sequence[tuple[float, float]], at: float) -> float:
    """Return the value at `at` on the line through measured points (size, value), sorted by size.

    Between two points it is straight. Beyond them it grows with size as the last two do, at least not down. It is 0
    where nothing was measured.
    """
    if not points:
        return 0.0
    if len(points) == 1:
        size, value = points[0]
        return value * at / size if size else value
    place = min(max(bisect.bisect([size for size, _ in points], at), 1), len(points) - 1)
    (low, first), (high, second) = points[place - 1], points[place]
    if high - low < _WAYS_APART * high:
        return second * at / high if high else second
    slope = (second - first) / (high - low)
    if at > high or at < low:
        slope = max(0.0, slope)
    return max(0.0, second + slope * (at - high))
