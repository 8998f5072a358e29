"""The task of a training: what its steps compute with, and never change."""

import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from training.engine.config import TrainConfig
from training.engine.data.packing import PairRow
from training.engine.data.tokens import EncodedPair
from training.engine.model.logps import Scorer
from training.engine.optimize.budget import RowBudget
from training.engine.optimize.distributed import Processes


def _no_logps() -> torch.Tensor:
    return torch.empty(0, 2, dtype=torch.float64)


@dataclass(frozen=True)
class Task:
    """Pairs to learn from, the model that scores them, and the reference to measure against."""

    config: TrainConfig
    scorer: Scorer
    budget: RowBudget  # what a row may hold; less where memory is short
    processes: Processes
    pairs: Sequence[EncodedPair]
    heldout: Sequence[EncodedPair] = ()  # scored, never trained on
    # Reference log-probabilities (pairs, 2) of chosen and rejected completions, float64, on the scorer's device.
    reference: torch.Tensor = field(default_factory=_no_logps)
    heldout_reference: torch.Tensor = field(default_factory=_no_logps)  # the same of `heldout`, on the CPU
    # For KTO: the prompts of `pairs`, then of `heldout`, with completions of others, and their reference, on the CPU.
    mismatched: Sequence[EncodedPair] = ()
    mismatched_reference: torch.Tensor = field(default_factory=_no_logps)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per pass over the pairs; the last may be short."""
        return math.ceil(len(self.pairs) / self.config.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimizer steps from the first to the last."""
        return self.steps_per_epoch * self.config.epochs

    def batch(self, step: int) -> Sequence[int]:
        """Return the positions of the pairs of optimizer step `step`, from 0. Each epoch has its own order."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = epoch_order(self.config.seed, epoch, len(self.pairs))
        return order[within * self.config.batch_size : (within + 1) * self.config.batch_size]

    def groups(self, step: int) -> list[list[int]]:
        """Return which pairs of optimizer step `step` share a row, the same in every process."""
        return self.scorer.groups(self.pairs, self.batch(step), at_least=self.processes.world)

    def heldout_groups(self) -> list[list[int]]:
        """Return which held-out pairs share a row, the same in every process."""
        return self.scorer.groups(self.heldout, range(len(self.heldout)), at_least=self.processes.world)

    def rows(self, step: int) -> list[PairRow]:
        """Return the rows of optimizer step `step`."""
        return list(self.scorer.rows(self.pairs, self.groups(step)))


@functools.lru_cache(maxsize=1)
def epoch_order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    """Return the order in which `count` pairs are trained on in `epoch`, from 0."""
    order = list(range(count))
    random.Random(f"{seed}:{epoch}").shuffle(order)
    return tuple(order)
