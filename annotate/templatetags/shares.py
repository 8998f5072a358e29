"""Shares of a total for people to read: as percentages, and as an interval drawn to scale."""

from typing import Any

from django import template

from primitives.statistics import Share, percent

register = template.Library()
register.filter("percent", percent)


@register.filter
def interval(share: Share) -> str:
    """Write the 95 % interval of a share: 52 – 70 %."""
    low, high = share.interval
    return f"{100 * low:.0f} – {100 * high:.0f} %"


WIDTH = 96  # of the drawing, in its own units


@register.inclusion_tag("annotate/_share.html")
def share(counted: Share, reference: float | None = None) -> dict[str, Any]:
    """Draw a share with its 95 % interval, in words and on a scale from 0 to 1 with an optional mark."""
    low, high = counted.interval
    return {
        "share": counted,
        "low": percent(low),
        "high": percent(high),
        "start": round(low * WIDTH, 1),
        "length": round((high - low) * WIDTH, 1),
        "dot": round((counted.value or 0) * WIDTH, 1),
        "reference": None if reference is None else round(reference * WIDTH, 1),
        "width": WIDTH,
    }
