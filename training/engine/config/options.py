"""The declaration of an option: a dataclass field with its explanation and bounds."""

from dataclasses import field
from typing import Any


def about(
    text: str,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
    longest: int = 4096,
) -> dict[str, Any]:
    """Return an option's metadata: its explanation and its bounds. `longest` is in characters."""
    return {
        "text": text,
        "low": low,
        "above": above,
        "high": high,
        "below": below,
        "choices": choices,
        "longest": longest,
    }


def option(default: Any, text: str, **bounds: Any) -> Any:
    """Return a field of a dataclass of options."""
    return field(default=default, metadata=about(text, **bounds))
