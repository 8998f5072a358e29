"""LongRoPE: position encodings that depend on the length of the whole sequence.

Up to its original length a model rotates every token by one set of frequencies, and beyond it by another (Ding et
al., 2402.13753, as Phi-3 and Phi-4 have it). The library transformers goes by the largest position of a forward. So
sequences of either side must not be computed together.
"""

import bisect
from typing import Any


class Sides:
    """The sides of a model's original lengths, on which a sequence may be."""

    def __init__(self, config: Any) -> None:
        settings = getattr(config.get_text_config(), "rope_parameters", None) or {}
        # Some models have settings for each type of layer.
        found = [settings, *(one for one in settings.values() if isinstance(one, dict))]
        self.limits = sorted(
            {one["original_max_position_embeddings"] for one in found if one.get("rope_type") == "longrope"}
        )

    def side_of(self, length: int) -> int:
        """Return the side of a sequence of `length` tokens: 0 for every length where the model has no LongRoPE."""
        return bisect.bisect_left(self.limits, length)

    def is_first(self, length: int) -> bool:
        """Return whether a sequence of `length` tokens is the shortest of its side, and not of the first."""
        return length - 1 in self.limits
