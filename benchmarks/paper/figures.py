"""Line charts as hand-written SVG, small, and readable on light and dark pages."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 216, 36, 44
# Okabe and Ito's colours, which people who see fewer can tell apart, and four more.
_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#8f6fd1",
    "#a0522d",
    "#8c8c8c",
    "#a6a61f",
)
_NEAR_0 = 0.3
_STYLE = (
    "text{fill:#333}.page{fill:#fff}.grid{stroke:#ddd}.exact{stroke:#555}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.page{fill:#161b22}.grid{stroke:#30363d}.exact{stroke:#bbb}}"
)

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """Points that belong together, joined in their order. Those of `marks` get a dot, and an interval if known."""

    name: str
    points: Sequence[Point]
    marks: Mapping[int, tuple[float, float] | None] = field(default_factory=dict)
    exact: bool = False  # drawn in grey: known, not measured
    colour: int | None = None  # its place in the palette, where figures share their colours

    @property
    def heights(self) -> list[float]:
        """The numbers that the upright axis has to hold."""
        return [height for _, height in self.points] + [
            end for both in self.marks.values() if both for end in both
        ]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The ticks of an axis, first and last being its ends, and how numbers become places."""

    title: str
    ticks: Sequence[float]
    bend: Callable[[float], float] = float

    def share(self, value: float) -> float:
        """Return how far along the axis a value is, from 0 to 1."""
        low, high = self.bend(self.ticks[0]), self.bend(self.ticks[-1])
        return (self.bend(min(max(value, self.ticks[0]), self.ticks[-1])) - low) / (high - low)


def logarithm(value: float) -> float:
    """Return a place that grows as the logarithm far from 0, and in proportion near it."""
    return math.log1p(max(0.0, value) / _NEAR_0)


def chart(title: str, across: Axis, up: Axis, lines: Sequence[Line], *, apart: float = 0) -> str:
    """Return an SVG of lines. Those of one name share a colour and a line of the legend.

    Neighbouring lines are drawn `apart` pixels from each other, so that intervals at one place can be told apart.
    """
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    inset = apart * len(lines)

    def place(point: Point) -> Point:
        x = _LEFT + inset + (wide - 2 * inset) * across.share(point[0])
        return x, _TOP + high * (1 - up.share(point[1]))

    places = {line.name: line.colour for line in lines if not line.exact}
    colours = {
        name: _COLOURS[(at if chosen is None else chosen) % len(_COLOURS)]
        for at, (name, chosen) in enumerate(places.items())
    }
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        ' font-family="system-ui, sans-serif" font-size="12">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}"/>',
        _text((_LEFT, 20), title),
    ]
    for tick in up.ticks:
        _, y = place((across.ticks[0], tick))
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + wide}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text((_LEFT - 6, y + 4), f"{tick:g}", "end"))
    for tick in across.ticks:
        x, y = place((tick, up.ticks[0]))
        parts.append(_text((x, y + 17), f"{tick:g}", "middle"))
    parts.append(_text((_LEFT + wide / 2, _HEIGHT - 8), across.title, "middle"))
    parts.append(
        f'<g transform="translate(14,{_TOP + high / 2:.0f}) rotate(-90)">{_text((0, 0), up.title, "middle")}</g>'
    )
    for at, line in enumerate(lines):
        aside = apart * (at - (len(lines) - 1) / 2)

        def moved(point: Point, aside: float = aside) -> Point:
            x, y = place(point)
            return x + aside, y

        parts.extend(_line(line, moved, colours))
    legend = list(dict.fromkeys((line.name, line.exact) for line in lines))
    for at, (name, exact) in enumerate(legend):
        x, y = _WIDTH - _RIGHT + 14, _TOP + 10 + 20 * at
        look = 'class="exact" stroke-dasharray="5 3"' if exact else f'stroke="{colours[name]}"'
        parts.append(f'<line x1="{x}" x2="{x + 20}" y1="{y}" y2="{y}" {look} stroke-width="2"/>')
        parts.append(_text((x + 26, y + 4), name))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(line: Line, place: Callable[[Point], Point], colours: dict[str, str]) -> list[str]:
    look = 'class="exact" stroke-dasharray="5 3"' if line.exact else f'stroke="{colours[line.name]}"'
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, line.points))
    found = [f'<polyline points="{drawn}" fill="none" stroke-width="1.6" stroke-linejoin="round" {look}/>']
    for at, interval in line.marks.items():
        x, y = place(line.points[at])
        found.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colours.get(line.name, "#888")}"/>')
        if interval:
            low, high = (place((line.points[at][0], end))[1] for end in interval)
            found.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" {look}/>')
    return found


def _text(at: Point, words: str, anchor: str = "start") -> str:
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
