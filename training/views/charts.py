"""Line charts of a round's metrics, drawn on the server as SVG: no script is needed to read them.

Coordinates are in a fixed box that the stylesheet scales; colours come from the stylesheet's classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from training.engine.config.losses import LN2_LOSSES
from training.models import Round

WIDTH, HEIGHT = 520, 160
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 24  # room for the tick labels
MOST_POINTS = 400
SMOOTHED_OVER = 12  # parts of a curve; the moving mean is over one of them


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A chart, as `training/_chart.html` draws it. `line` is the series, `smooth` its moving mean: SVG paths."""

    title: str
    note: str
    latest: str
    line: str
    smooth: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    rule: float | None  # where a level worth marking lies, such as chance
    points: str  # "x,y,step,value;..." for the read-out under the pointer
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def round_charts(round_: Round) -> list[Chart]:
    """Return the curves of a round's training so far. The x axis reaches to its last step.

    While the round runs, curves without data are empty frames, so that nothing moves when the data comes.
    """
    awaited = round_.is_live and round_.trains
    metrics = list(round_.metrics.values_list("step", "values"))
    total = round_.reported_count("train.steps") or 0
    if round_.phase == "training":
        total = round_.total_steps

    def chart(title: str, key: str, **more: Any) -> Chart | None:
        kept = [(step, values[key]) for step, values in metrics if values.get(key) is not None]
        steps, curve = [step for step, _value in kept], [value for _step, value in kept]
        return line_chart(title, steps, curve, total_steps=total, awaited=awaited, **more)

    at_start = _("dashed: ln 2 = 0.693, where a policy that is its reference begins")
    charts = [
        chart(
            _("Loss"), "loss", **({"rule": math.log(2), "note": at_start} if starts_at_ln2(round_) else {})
        ),
        chart(
            _("Accuracy on the batch"),
            "rewards/accuracies",
            bounds=(0.0, 1.0),
            rule=0.5,
            note=_("pairs whose chosen completion has the higher implicit reward; dashed: chance"),
        ),
        chart(
            _("Reward margin"),
            "rewards/margins",
            rule=0.0,
            note=_("implicit reward of the chosen minus the rejected completion"),
        ),
        chart(
            _("Log-probability of the chosen"),
            "displacement",
            rule=0.0,
            note=_("change against the reference, in nats"),
        ),
    ]
    return [chart for chart in charts if chart is not None]


def starts_at_ln2(round_: Round) -> bool:
    """Return whether the loss of a round is ln 2 for a policy that is its reference: without margins or other terms."""
    config, pairs = round_.chosen("config"), round_.chosen("pairs")
    return config.get("loss") in LN2_LOSSES and not config.get("nll_weight") and not pairs.get("margin_scale")


def line_chart(
    title: str,
    steps: Sequence[int],
    values: Sequence[float],
    *,
    total_steps: int = 0,
    bounds: tuple[float, float] | None = None,
    rule: float | None = None,
    note: str = "",
    awaited: bool = False,
) -> Chart | None:
    """Return a chart of `values` over `steps`, the x axis reaching to `total_steps`.

    Without data, return None, or an empty frame of the same size where data is `awaited`.
    """
    if not steps:
        empty = Chart(
            title, note, latest="", line="", smooth="", x_ticks=[], y_ticks=[], rule=None, points=""
        )
        return empty if awaited else None
    low, high = bounds or _bounds(values, rule)
    scale = _Scale(first=min(steps[0], 1), last=max(total_steps, steps[-1]), low=low, high=high)
    shown = _thin_out(len(steps))
    means = _moving_mean(values, max(1, len(values) // SMOOTHED_OVER))
    return Chart(
        title=title,
        note=note,
        latest=f"{values[-1]:.3g}",
        line=_path([scale.place(steps[i], values[i]) for i in shown]),
        smooth=_path([scale.place(steps[i], means[i]) for i in shown]) if len(values) > SMOOTHED_OVER else "",
        x_ticks=scale.step_ticks(),
        y_ticks=scale.value_ticks(),
        rule=None if rule is None else scale.y(rule),
        points=";".join(
            f"{scale.x(steps[i])},{scale.y(values[i])},{steps[i]},{values[i]:.4g}" for i in shown
        ),
    )


@dataclass(frozen=True)
class _Scale:
    """The part of the plane that a chart shows, and where its steps and values lie in the drawing."""

    first: int
    last: int
    low: float
    high: float

    def x(self, step: float) -> float:
        share = (step - self.first) / max(1, self.last - self.first)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Return the height of a value. One outside the bounds lies on the edge."""
        share = (min(self.high, max(self.low, value)) - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def place(self, step: float, value: float) -> tuple[float, float]:
        return self.x(step), self.y(value)

    def step_ticks(self) -> list[Tick]:
        ticks = _round_numbers(self.first, self.last, 6)
        return [Tick(self.x(tick), f"{tick:g}") for tick in ticks if tick == int(tick)]

    def value_ticks(self) -> list[Tick]:
        return [Tick(self.y(tick), f"{tick:g}") for tick in _round_numbers(self.low, self.high, 4)]


def _thin_out(count: int) -> list[int]:
    """Return the places of up to MOST_POINTS of so many points, the last one among them."""
    stride = math.ceil(count / MOST_POINTS)
    return [place for place in range(count) if (count - 1 - place) % stride == 0]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def _moving_mean(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of the last `window` values at each point."""
    means, total = [], 0.0
    for i, value in enumerate(values):
        total += value - (values[i - window] if i >= window else 0.0)
        means.append(total / min(i + 1, window))
    return means


def _bounds(values: Sequence[float], rule: float | None) -> tuple[float, float]:
    """Return the range to show: all values and the rule, with air above and below."""
    among = [*values, *([rule] if rule is not None else [])]
    low, high = min(among), max(among)
    air = (high - low) * 0.08 or max(abs(high), 1.0) * 0.1
    return low - air, high + air


def _round_numbers(low: float, high: float, wanted: int) -> list[float]:
    """Return about `wanted` round numbers within the range: 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]
