"""The time that a training has left is told by its tokens, not by its steps."""

from typing import Any

import pytest

from tests.engine.conftest import pair_of_lengths
from training.engine.config import TrainConfig
from training.engine.optimize import journal
from training.engine.optimize.distributed import Processes
from training.engine.optimize.journal import Pace
from training.engine.optimize.task import Task


@pytest.mark.parametrize("first", [0, 1, 5])
def test_long_pairs_make_the_time_left_no_longer(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token takes a millisecond. The run begins, or is resumed in its first or second epoch."""
    pairs = [pair_of_lengths(size, 5, 7) for size in (10, 10_000, 30, 2_000, 10, 50, 800)]
    config = TrainConfig.from_dict({"base_model": "m", "batch_size": 2, "epochs": 3})
    nothing: Any = None
    task = Task(config, nothing, nothing, Processes(), pairs)
    now = 0.0
    monkeypatch.setattr(journal.time, "monotonic", lambda: now)
    whole = 3 * sum(pair.tokens for pair in pairs) / 1000
    done = sum(pairs[at].tokens for step in range(first) for at in task.batch(step)) / 1000
    clock = Pace(task, first)
    for step in range(first, task.total_steps):
        now += sum(pairs[at].tokens for at in task.batch(step)) / 1000
        assert clock.seconds_left(step) == pytest.approx(whole - done - now, abs=1e-6)
