"""The best adapter by held-out loss, and stopping early: both by the same evaluations, kept across a stop."""

import math

import pytest
import safetensors.torch
import torch

from tests.engine.conftest import pair_lines, read_metrics
from training.engine.config import TrainConfig
from training.engine.errors import ConfigError
from training.engine.optimize.state import Best, State
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.train import train

LINES = pair_lines(8)
# What was preferred in training is what is not preferred here, so every step makes the loss worse.
OPPOSITE = [{**line, "chosen": line["rejected"], "rejected": line["chosen"]} for line in LINES]


def trained(make_run, name: str, **settings: object) -> RunDirectory:
    run = make_run(name, pairs=LINES, eval_steps=2, **settings)
    write_jsonl(run.heldout, OPPOSITE)
    train(run)
    return run


def weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run.adapter / "adapter_model.safetensors")


def test_the_best_adapter_is_that_of_its_step(make_run) -> None:
    """Two steps of a constant schedule are the same, however many follow."""
    short = trained(make_run, "short", epochs=1)
    best = trained(make_run, "best", epochs=4, keep="best")
    last = trained(make_run, "last", epochs=4)
    assert all(torch.equal(one, weights(short)[name]) for name, one in weights(best).items())
    assert not all(torch.equal(one, weights(short)[name]) for name, one in weights(last).items())
    done, shorter = (run.read_done()["train"] for run in (best, short))
    assert (done["steps"], done["kept_step"]) == (8, 2)
    assert done["heldout"]["after"] == pytest.approx(shorter["heldout"]["after"])
    assert "The adapter of step 2 is kept, of the lowest held-out loss." in done["events"]


def test_training_stops_when_the_held_out_loss_does_not_fall(make_run) -> None:
    run = trained(make_run, "early", epochs=10, early_stop=2)
    done = run.read_done()["train"]
    assert len(read_metrics(run)) == done["steps"] == done["kept_step"] == 6
    assert "Stopped early, after step 6 of 20: the held-out loss was best at step 2." in done["events"]


def test_a_checkpoint_keeps_the_best_adapter(make_run) -> None:
    config = make_run("run", eval_steps=2, early_stop=3).read_config()
    model = torch.nn.Linear(2, 2)
    before, after = State.initial(config, model), State.initial(config, model)
    assert before.best
    assert after.best
    before.best.consider(0.5, 2, before.parameters)
    kept = before.parameters["weight"].detach().clone()
    with torch.no_grad():
        before.parameters["weight"].add_(1.0)
    before.best.consider(math.nan, 4, before.parameters)
    after.load({name: tensor.clone() for name, tensor in before.tensors().items()})
    assert (after.best.loss, after.best.step, after.best.waited) == (0.5, 2, 1)
    assert torch.equal(after.best.weights["weight"], kept)
    assert State.initial(TrainConfig(base_model="-"), model).best is None
    assert Best().step == 0


@pytest.mark.parametrize(("name", "value"), [("keep", "best"), ("early_stop", 2)])
def test_both_need_evaluations_and_held_out_pairs(make_run, name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{name} needs eval_steps"):
        make_run("run", **{name: value})
    run = make_run("run", eval_steps=2, **{name: value})
    write_jsonl(run.heldout, [])
    with pytest.raises(ConfigError, match=f"^{name} goes by the loss of held-out pairs"):
        train(run)
