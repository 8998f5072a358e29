"""An interval for a mean of few values with a heavy tail, by the studentized bootstrap.

Divergences of completions are skewed: most are small, and some are many times the mean. The usual interval, mean plus
and minus 1.96 standard errors, then lies too low, and so do the percentiles of a plain bootstrap. The studentized one
divides each resample's error by its own standard error, which is second-order correct (Hall, 1988, "Theoretical
comparison of bootstrap confidence intervals"; Efron and Tibshirani, 1993, section 12.5). Its upper end is farther away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

_DRAWS = 2000
_SMALLEST = 1e-12  # of a standard error, against resamples of one value alone


@dataclass(frozen=True)
class Interval:
    """A mean with a 95 % interval."""

    value: float
    low: float
    high: float


def mean_interval(values: Sequence[float], *, least: float | None = None) -> Interval:
    """Return the mean of independent values with its interval, the same for the same values.

    `least` is a bound that the mean is known to keep. A single value has no interval but itself.
    """
    data = torch.tensor(values, dtype=torch.float64)
    count, mean = len(data), data.mean()
    spread = float(data.std()) if count > 1 else 0.0
    if not spread:
        return Interval(float(mean), float(mean), float(mean))
    generator = torch.Generator().manual_seed(0)
    drawn = data[torch.randint(count, (_DRAWS, count), generator=generator)]
    errors = (drawn.mean(dim=1) - mean) / (drawn.std(dim=1) / count**0.5).clamp_min(_SMALLEST)
    below, above = torch.quantile(errors, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    step = spread / count**0.5
    low = float(mean) - above * step
    return Interval(
        float(mean), low if least is None else max(least, low), max(float(mean), float(mean) - below * step)
    )
