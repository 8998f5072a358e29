"""Trackers show the lines of metrics.jsonl, and never cost a run."""

import importlib.util

import pytest

from tests.engine.conftest import pair_lines, read_metrics
from training.engine import trackers
from training.engine.errors import ConfigError
from training.engine.rundir import read_jsonl, write_jsonl
from training.engine.trackers import Tracking
from training.engine.train import train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorBoard's own imports


def scalars(folder) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {key: {one.step: one.value for one in found.Scalars(key)} for key in found.Tags()["scalars"]}


def test_tensorboard_holds_each_step_once_even_after_a_stop(make_run) -> None:
    run = make_run(trackers=["tensorboard"], epochs=2, eval_steps=2, checkpoint_steps=2)
    write_jsonl(run.heldout, pair_lines(2, seed=1))
    train(run)
    run.done.unlink()
    (run.checkpoints / "step-00000004.json").unlink()
    train(run)  # from step 2 on
    rows = read_metrics(run)
    found = scalars(run.root / "tensorboard")
    for key in rows[0].keys() - {"step", "pairs_per_second"}:
        expected = {row["step"]: pytest.approx(row[key], rel=1e-6) for row in rows if row[key] is not None}
        assert found[key] == expected, key
    evals = {row["step"]: pytest.approx(row["loss"], rel=1e-6) for _, row in read_jsonl(run.evals)}
    assert found["eval/loss"] == evals


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed here")
def test_a_missing_package_is_refused_before_training(make_run) -> None:
    run = make_run(trackers=["tensorboard", "wandb"])
    with pytest.raises(
        ConfigError, match=r"names wandb, which is not installed here; run pip install wandb\."
    ):
        train(run)
    assert not run.metrics.exists()
    with pytest.raises(ConfigError, match="must be names out of tensorboard, wandb, trackio"):
        make_run(trackers=["mlflow"])


def test_a_tracker_that_fails_is_left_out() -> None:
    class Broken:
        calls = 0

        def log(self, figures: dict, step: int) -> None:
            self.calls += 1
            raise OSError("no route to host")

        def close(self) -> None:
            raise AssertionError("it is not asked again")

    broken, notes = Broken(), []
    tracking = Tracking({"wandb": broken}, notes.append)
    for step in (1, 2):
        tracking.log({"step": step, "loss": 0.5})
    tracking.close()
    assert broken.calls == 1
    assert notes == ["The tracker wandb failed, and training goes on without it: no route to host."]
    assert trackers.TRACKERS.keys() == {"tensorboard", "wandb", "trackio"}
