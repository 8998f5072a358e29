"""A loss plot as a hand-written SVG: two curves, one drawn thick under the other, so that both are seen."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 320, 56, 16, 40, 40
_THEIRS, _OURS = "#e0a458", "#1f5fa8"


def loss_plot(title: str, ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Loss per optimizer step of both sides, which must have as many steps."""
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"{len(ours)} of our steps cannot be plotted against {len(theirs)}.")
    low, high = _bounds([*ours, *theirs])
    last = max(1, len(ours) - 1)

    def x(step: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last

    def y(loss: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - loss) / (high - low)

    def curve(losses: Sequence[float], look: str) -> str:
        points = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in enumerate(losses))
        return f'<polyline points="{points}" fill="none" stroke-linejoin="round" {look}/>'

    def text(at: tuple[float, float], words: str, anchor: str = "start") -> str:
        return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}">{escape(words)}</text>'

    grid = [low + (high - low) * part / 4 for part in range(5)]
    steps = sorted({1, *(round(1 + last * part / 4) for part in range(5))})
    gap = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        ' font-family="system-ui, sans-serif" font-size="12" fill="#444">',
        f"<title>{escape(title)}: loss per step, Whetstone and TRL</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        text((_LEFT, 20), f"{title}: DPO loss; largest difference of a step {gap:.1g}"),
        *(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(loss):.1f}" y2="{y(loss):.1f}" stroke="#ddd"/>'
            + text((_LEFT - 6, y(loss) + 4), f"{loss:.3g}", "end")
            for loss in grid
        ),
        *(text((x(step - 1), _HEIGHT - _BOTTOM + 18), str(step), "middle") for step in steps),
        text((_WIDTH / 2, _HEIGHT - 6), "optimizer step", "middle"),
        curve(theirs, f'stroke="{_THEIRS}" stroke-width="6"'),
        curve(ours, f'stroke="{_OURS}" stroke-width="1.6"'),
        f'<g transform="translate({_WIDTH - 170},{_TOP + 8})">'
        f'<line x2="24" stroke="{_THEIRS}" stroke-width="6"/>{text((30, 4), "TRL")}'
        f'<line x1="70" x2="94" stroke="{_OURS}" stroke-width="1.6"/>{text((100, 4), "Whetstone")}</g>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.08 or 0.05
    return low - margin, high + margin
