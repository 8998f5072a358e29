"""The text so far of a completion that is being written."""

from collections.abc import Sequence
from typing import Any

from training.engine.sampling.decoding import Generation
from training.engine.sampling.grouping import Request
from training.engine.sampling.stopping import decode

_BROKEN = "\ufffd"  # in place of bytes that are not, or not yet, a character


class Draft:
    """A text that only grows, up to the completion.

    Held back is what the next tokens may change: the bytes of a character that is not whole yet, and what may become a
    stop string.
    """

    def __init__(self, tokenizer: Any, request: Request, stop: Sequence[str] = ()) -> None:
        self.tokenizer, self.request, self.stop = tokenizer, request, stop
        self.text = ""

    def grow(self, ids: Sequence[int]) -> str:
        """Return the text of the ids that are written so far."""
        [text] = decode(self.tokenizer, [self.request], [Generation(tuple(ids), 0.0, "length")])
        text = self._before_stop(text.rstrip(_BROKEN))
        if text.startswith(self.text):
            self.text = text
        return self.text

    def _before_stop(self, text: str) -> str:
        """Return what no stop string takes away, whatever follows."""
        ends = [at for one in self.stop if (at := text.find(one)) >= 0]
        begun = [
            len(text) - size for one in self.stop for size in range(1, len(one)) if text.endswith(one[:size])
        ]
        return text[: min(ends + begun, default=len(text))]
