"""The declaration of an option: a dataclass field with its explanation and bounds."""

from dataclasses import field
from typing import Any

MOST_LENGTH = 10_000_000  # tokens of a text: no model reads more
MOST_HELD = 100_000_000  # tokens in memory at once: no machine holds more


def about(
    text: str,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
    longest: int = 4096,
    most: int = 1000,
    longest_item: int = 200,
    may_be_empty: bool = False,
) -> dict[str, Any]:
    """Return an option's metadata: its explanation and its bounds. `longest` is in characters.

    Of a list, `most` and `longest_item` are the number and the characters of its texts.
    """
    return {
        "text": text,
        "low": low,
        "above": above,
        "high": high,
        "below": below,
        "choices": choices,
        "longest": longest,
        "most": most,
        "longest_item": longest_item,
        "may_be_empty": may_be_empty,
    }


def option(default: Any, text: str, **bounds: Any) -> Any:
    """Return a field of a dataclass of options."""
    return field(default=default, metadata=about(text, **bounds))
