"""KTO: its reference point, single ratings, and both beside TRL's formula, computed one sequence at a time."""

import dataclasses
import json

import pytest
import torch

from tests.engine.conftest import make_pairs, read_metrics
from tests.engine.optimize.test_steps import gradients, make_training
from training.engine.errors import ConfigError, DataError
from training.engine.optimize.mismatching import mismatch, reference_point
from training.engine.optimize.steps import backward, step_metrics
from training.engine.optimize.task import Task
from training.engine.records import read_pairs
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.score import score
from training.engine.train import train

PAIRS = make_pairs(6)
# Two pairs, two desirable completions and two undesirable ones.
RATED = [
    *PAIRS[:2],
    *(dataclasses.replace(pair, rejected=()) for pair in PAIRS[2:4]),
    *(dataclasses.replace(pair, chosen=(), weight=2.0) for pair in PAIRS[4:]),
]


def make_kto(**settings: object) -> tuple[Task, object]:
    """Return a task whose policy has moved from a reference that differs for each completion."""
    task, state = make_training(
        RATED, loss="kto", desirable_weight=1.5, **{"batch_size": 6, "beta": 0.3} | settings
    )
    others = mismatch(RATED, [], range(6), 128)
    lengths = torch.tensor([[len(one.chosen), len(one.rejected)] for one in others])
    reference = torch.where(lengths > 0, -9.0 * lengths.double(), 0.0)
    return dataclasses.replace(task, mismatched=others, mismatched_reference=reference), state


def test_a_prompt_gets_the_next_completions_of_another_one() -> None:
    a, b, c = PAIRS[:3]
    same = dataclasses.replace(b, prompt=a.prompt)
    found = mismatch([a, same, c], [dataclasses.replace(c, prompt=a.prompt), b], [1, 0, 2], 128)
    # in the order same, a, c: the first two have one prompt, so both take those of c, and c takes those of `same`
    assert [one.chosen for one in found] == [c.chosen, c.chosen, same.chosen, c.chosen, a.chosen]
    assert [one.prompt for one in found] == [a.prompt, a.prompt, c.prompt, a.prompt, b.prompt]
    short = mismatch([a, c], [], [0, 1], len(a.prompt) + 1)
    assert short[0].chosen == c.chosen[:1]
    with pytest.raises(ConfigError, match="two prompts"):
        mismatch([a, same], [], [0, 1], 128)


@pytest.mark.parametrize("form", ["packed", "padded", "alone"])
def test_loss_and_gradient_are_those_of_trls_formula(form: str) -> None:
    task, state = make_kto(max_tokens=40)
    task.scorer.use(form)
    ours = gradients(task, state)
    figures = backward(task, state)
    state.step = 1
    metrics = step_metrics(task, state, figures)

    def gains(pairs: list, reference: torch.Tensor) -> dict[tuple[int, int], torch.Tensor]:
        found = {}
        for at, pair in enumerate(pairs):
            (row,) = task.scorer.rows(pairs, [[at]])
            for side, logp in enumerate(task.scorer.pair_logps(row)):
                if (pair.chosen, pair.rejected)[side]:
                    found[at, side] = logp[0] - reference[at, side]
        return found

    beta = task.config.beta
    with torch.no_grad():
        kl = torch.stack([*gains(list(task.mismatched), task.mismatched_reference).values()])
        kl = kl.mean().clamp(min=0)
    assert float(kl) > 0
    losses = [
        RATED[at].weight
        * (
            1.0 * (1 - torch.sigmoid(beta * (kl - gain)))
            if side
            else 1.5 * (1 - torch.sigmoid(beta * (gain - kl)))
        )
        for (at, side), gain in gains(RATED, task.reference).items()
    ]
    assert len(losses) == 8
    loss = torch.stack(losses).mean()
    assert metrics["loss"] == pytest.approx(loss.item(), abs=1e-6)
    assert metrics["z0"] == pytest.approx(float(kl), abs=1e-4)
    slopes = torch.autograd.grad(loss, list(state.parameters.values()))
    for name, slope in zip(state.parameters, slopes, strict=True):
        torch.testing.assert_close(ours[name], slope, atol=1e-6, rtol=1e-3)


def test_z0_is_never_below_zero() -> None:
    task, _state = make_kto()
    far = dataclasses.replace(task, mismatched_reference=0 * task.mismatched_reference)
    assert reference_point(far, range(6)) == 0.0


LINES = [
    {"id": 1, "prompt": "the film", "completion": " was good", "label": True},
    {"id": 2, "prompt": "it was", "completion": " dull", "label": False, "weight": 2},
    {"id": 3, "prompt": "the cost", "chosen": " was short", "rejected": " was long"},
]


def test_ratings_train_and_resume_to_the_same_bytes(make_run) -> None:
    whole = make_run(pairs=LINES, loss="kto", epochs=3, batch_size=2, checkpoint_steps=1)
    write_jsonl(whole.heldout, LINES[:2])
    train(whole)
    first = read_metrics(whole)[0]
    assert first["z0"] == 0.0
    assert {first["rewards/chosen"], first["rewards/rejected"]} <= {0.0, None}
    done = whole.read_done()["train"]["heldout"]
    assert done["before"]["logp_accuracy"] is None
    assert done["after"]["loss"] < done["before"]["loss"] == 0.5
    adapter = (whole.adapter / "adapter_model.safetensors").read_bytes()
    whole.done.unlink()
    (whole.checkpoints / "step-00000005.json").unlink()  # resumed from the step before
    train(whole)
    assert (whole.adapter / "adapter_model.safetensors").read_bytes() == adapter
    score(whole)
    scores = [json.loads(line) for line in whole.scores.read_text().splitlines()]
    assert scores[0]["policy_rejected_logp"] is None
    gain = scores[1]["policy_rejected_logp"] - scores[1]["reference_rejected_logp"]
    assert scores[1]["margin"] == pytest.approx(-0.1 * gain)


def test_a_loss_of_pairs_refuses_a_rating_by_name(make_run) -> None:
    with pytest.raises(ConfigError, match=r"Pair 1 is a single rated completion.*use kto"):
        train(make_run(pairs=LINES))


@pytest.mark.parametrize("label", [None, 1, 0.5, "true"])
def test_a_rating_without_true_or_false_is_refused(label: object, tmp_path) -> None:
    run = RunDirectory(tmp_path)
    write_jsonl(run.pairs, [LINES[0] | {"label": label}])
    with pytest.raises(DataError, match="line 1: label must be true or false"):
        read_pairs(run.pairs)
