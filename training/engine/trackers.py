"""Experiment trackers, which show the figures of `metrics.jsonl` as they come, and those of `evals.jsonl` as `eval/`.

Accounts and addresses are what each tracker's own environment variables and files say. Nothing of them is in
`config.json`. A tracker that fails while training is left out from then on: it is no reason to lose a run.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Protocol

from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, sentence
from training.engine.rundir import RunDirectory

Figures = dict[str, float]


class Tracker(Protocol):
    """A place that shows figures."""

    def log(self, figures: Figures, step: int) -> None:
        """Show the figures of an optimizer step."""

    def close(self) -> None:
        """Send what is left."""


class TensorBoard:
    """Event files in the run directory, in `tensorboard/`."""

    def __init__(self, run: RunDirectory, config: TrainConfig, name: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What an interrupted run wrote beyond its checkpoint is written again.
        self._writer = SummaryWriter(str(run.root / "tensorboard"), purge_step=step + 1)

    def log(self, figures: Figures, step: int) -> None:
        """Write a scalar for each figure."""
        for key, value in figures.items():
            self._writer.add_scalar(key, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases; WANDB_MODE=offline keeps it in the run directory, in `wandb/`."""

    def __init__(self, run: RunDirectory, config: TrainConfig, name: str, step: int) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "whetstone"),
            name=run.root.resolve().name,
            id=name,
            resume="allow",
            dir=str(run.root),
            config=config.to_dict(),
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, figures: Figures, step: int) -> None:
        """Log the figures. Those of a step that was logged before are passed over by wandb."""
        self._run.log(figures, step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


class Trackio:
    """A run of trackio, in its folder (TRACKIO_DIR) or space (TRACKIO_SPACE_ID)."""

    def __init__(self, run: RunDirectory, config: TrainConfig, name: str, step: int) -> None:
        import trackio

        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", "whetstone"),
            name=f"{run.root.resolve().name}-{name}",
            space_id=os.environ.get("TRACKIO_SPACE_ID"),
            resume="allow",
            config=config.to_dict(),
            embed=False,
        )

    def log(self, figures: Figures, step: int) -> None:
        """Log the figures."""
        self._run.log(figures, step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


TRACKERS: dict[str, Callable[[RunDirectory, TrainConfig, str, int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "trackio": Trackio,
}


def check_installed(config: TrainConfig) -> None:
    """Refuse a tracker whose package is missing. Raises ConfigError naming the command that installs it."""
    for name in config.trackers:
        if find_spec(name) is None:
            raise ConfigError(
                "trackers", f"names {name}, which is not installed here; run pip install {name}."
            )


class Tracking:
    """The trackers of a run."""

    def __init__(self, trackers: dict[str, Tracker], note: Callable[[str], None]) -> None:
        self._trackers, self._note = trackers, note

    def log(self, row: dict[str, Any], prefix: str = "") -> None:
        """Show a line of metrics.jsonl or evals.jsonl. What is not finite is left out."""
        figures = {prefix + key: value for key, value in row.items() if key != "step" and value is not None}
        for name, tracker in list(self._trackers.items()):
            with self._surviving(name):
                tracker.log(figures, row["step"])

    def close(self) -> None:
        """Send what is left."""
        for name, tracker in list(self._trackers.items()):
            with self._surviving(name):
                tracker.close()

    @contextmanager
    def _surviving(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - of another's service, over a network
            del self._trackers[name]
            self._note(f"The tracker {name} failed, and training goes on without it: {sentence(error)}")


def open_trackers(
    run: RunDirectory, config: TrainConfig, content: Sequence[str], step: int, note: Callable[[str], None]
) -> Tracking:
    """Return the configured trackers of a run that goes on after optimizer step `step`.

    `content` tells this run from another in the same folder. `note` is told of a tracker that fails.
    """
    name = hashlib.sha256("\0".join([str(run.root.resolve()), *content]).encode()).hexdigest()[:16]
    opened: dict[str, Tracker] = {}
    for kind in config.trackers:
        try:
            opened[kind] = TRACKERS[kind](run, config, name, step)
        except Exception as error:  # noqa: BLE001 - of another's service, over a network
            note(f"The tracker {kind} failed, and training goes on without it: {sentence(error)}")
    return Tracking(opened, note)
