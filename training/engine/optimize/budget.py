"""The token budget of rows, made smaller where memory is short."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from training.engine.errors import MemoryShortError, memory_short
from training.engine.model.logps import Scorer

T = TypeVar("T")
_TOO_LONG = (
    "Out of memory: not even the longest pair, of {tokens:,} tokens, fits beside the model; {remedy}lower max_length"
    " and remove the checkpoints, to start over."
)
_RECOMPUTE = "set gradient_checkpointing and start again, or "


@dataclass(frozen=True)
class RowBudget:
    """The token budget of a scorer's rows, which is halved where memory is short."""

    scorer: Scorer
    longest: int  # tokens of the longest pair: a row never holds less
    fixed: bool  # several processes would lose step with one another
    recomputes: bool  # gradient_checkpointing is set
    note: Callable[[str], None]  # told of each change

    def fit(self, compute: Callable[[], T]) -> T:
        """Return what `compute` does. Where memory is short, retry in shorter rows, down to those of one pair."""
        while True:
            try:
                return compute()
            except (MemoryError, RuntimeError) as error:
                if not memory_short(error) or self.fixed:
                    raise
                if self.scorer.max_tokens <= self.longest:
                    raise MemoryShortError(self._too_long()) from None
            self._halve()

    def _too_long(self) -> str:
        return _TOO_LONG.format(tokens=self.longest, remedy="" if self.recomputes else _RECOMPUTE)

    def _halve(self) -> None:
        before, scorer = self.scorer.max_tokens, self.scorer
        scorer.max_tokens = max(self.longest, before // 2)
        scorer.model.zero_grad(set_to_none=True)
        if scorer.device.type == "cuda":
            torch.cuda.empty_cache()
        self.note(f"Memory was short: rows hold {scorer.max_tokens} tokens from here on, not {before}.")
