"""One optimizer step: the gradient is the paper's, however the step is cut into rows."""

import copy
import dataclasses
import math

import pytest
import torch

from tests.engine.conftest import make_model, make_pairs, make_task, take_step, tiny_llama
from training.engine.adapters.loading import recompute_activations, wrap
from training.engine.config import TrainConfig
from training.engine.model.logps import Scorer
from training.engine.optimize.distributed import Processes
from training.engine.optimize.losses import accuracy
from training.engine.optimize.state import State
from training.engine.optimize.steps import backward, learning_rate, update
from training.engine.optimize.task import Task

PAIRS = [
    dataclasses.replace(pair, label=(1.0, 0.8, 0.5)[at % 3], weight=(1.0, 0.25, 2.0)[at % 3])
    for at, pair in enumerate(make_pairs(11))
]


def make_training(
    pairs=PAIRS, *, moved: bool = True, max_tokens: int = 4096, **settings: object
) -> tuple[Task, State]:
    """Return a task of a tiny Llama and its state; `moved`, the policy is already away from the reference."""
    config = TrainConfig.from_dict(
        {"base_model": "m", "lora": {"r": 4, "alpha": 8}, "batch_size": 4, "beta": 0.3} | settings
    )
    model = wrap(make_model(tiny_llama()), config)
    scorer = Scorer(model, model.get_base_model(), max_tokens=max_tokens, device=torch.device("cpu"))
    scorer.use("packed")
    task, state = make_task(config, scorer, pairs), State.initial(config, model)
    if moved:
        torch.manual_seed(3)
        for name, weight in state.parameters.items():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    return task, state


def gradients(task: Task, state: State, step: int = 0) -> dict[str, torch.Tensor]:
    state.step = step
    backward(task, state)
    return {name: weight.grad.clone() for name, weight in state.parameters.items()}


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=1e-6, rtol=1e-4, msg=name)


def test_the_gradient_is_equation_7_of_the_paper() -> None:
    """-beta E[ w sigmoid(-h) (grad log pi(y_w) - grad log pi(y_l)) ] for certain labels, built term by term."""
    pairs = [dataclasses.replace(pair, label=1.0) for pair in PAIRS[:4]]
    task, state = make_training(pairs)
    ours = gradients(task, state)
    beta, scorer = task.config.beta, task.scorer
    expected = {name: torch.zeros_like(weight) for name, weight in state.parameters.items()}
    for at, pair in enumerate(pairs):
        (row,) = scorer.rows(pairs, [[at]])
        chosen, rejected = (sums[0] for sums in scorer.pair_logps(row))
        gain = (chosen - task.reference[at, 0]) - (rejected - task.reference[at, 1])
        weight = float(torch.sigmoid(-beta * gain.detach()))
        slopes = torch.autograd.grad(chosen - rejected, list(state.parameters.values()))
        for total, slope in zip(expected.values(), slopes, strict=True):
            total.sub_(beta * weight * pair.weight * slope / len(pairs))
    assert_same(ours, expected)


def test_float16_gradients_are_those_of_float32() -> None:
    """Even those that the scale of the loss makes overflow first, and those that would be rounded to 0 without it."""
    task, state = make_training(weight_decay=0.0)
    expected = gradients(task, state)
    half = copy.deepcopy(task.scorer.model)
    for name, weight in half.named_parameters():
        if "lora" not in name:
            weight.data = weight.data.half()
    scorer = Scorer(half, half.get_base_model(), max_tokens=4096, device=torch.device("cpu"))
    scorer.use("packed")
    narrow = State.initial(task.config, half, torch.float16)
    assert narrow.scale is not None
    narrow.scale.value = 2.0**40
    narrow_task = dataclasses.replace(task, scorer=scorer)
    found = gradients(narrow_task, narrow)
    assert 1 < narrow.scale.value < 2.0**40
    for name, gradient in expected.items():
        apart = (found[name] - gradient).norm() / gradient.norm()
        assert apart < 0.03, name
    narrow.scale.steady = 999
    value = narrow.scale.value
    update(narrow_task, narrow, backward(narrow_task, narrow))
    assert (narrow.scale.value, narrow.scale.steady) == (2 * value, 0)
    again = State.initial(task.config, half, torch.float16)
    again.load(narrow.tensors())
    assert again.scale == narrow.scale


def test_reported_weights_are_quantiles_of_sigmoid_of_minus_h() -> None:
    task, state = make_training()
    h = []
    with torch.no_grad():
        for at in task.batch(0):
            (row,) = task.scorer.rows(PAIRS, [[at]])
            chosen, rejected = task.scorer.pair_logps(row)
            gain = (chosen - task.reference[at, 0]) - (rejected - task.reference[at, 1])
            h.append(task.config.beta * gain[0])
    metrics = take_step(task, state)
    weights = torch.sigmoid(-torch.stack(h))
    for key, share in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9)):
        assert metrics[f"weights/{key}"] == pytest.approx(float(weights.quantile(share)), abs=1e-5)


def test_first_loss_is_ln_2_and_ties_count_half() -> None:
    task, state = make_training(moved=False)
    metrics = take_step(task, state)
    weights = [PAIRS[at].weight for at in task.batch(0)]
    assert metrics["loss"] == pytest.approx(math.log(2) * sum(weights) / len(weights), abs=1e-12)
    assert metrics["rewards/margins"] == 0
    assert metrics["rewards/accuracies"] == 0.5
    assert metrics["weights/p10"] == metrics["weights/p90"] == 0.5


def test_a_tie_counts_half_in_the_accuracy() -> None:
    assert accuracy(torch.tensor([1.0, 0.0, -1.0, 2.0])) == 0.625


@pytest.mark.parametrize("max_tokens", [8, 40, 4096], ids=["8x1", "few", "1x8"])
@pytest.mark.parametrize("step", [0, 1], ids=["full batch", "short last batch"])
def test_cutting_a_step_into_rows_changes_nothing(max_tokens: int, step: int) -> None:
    (whole, state), (cut, cut_state) = (
        make_training(batch_size=8, max_tokens=tokens) for tokens in (4096, max_tokens)
    )
    assert len(whole.batch(1)) == 3  # the last batch of eleven pairs is short
    assert_same(gradients(cut, cut_state, step), gradients(whole, state, step))
    ours, theirs = take_step(cut, cut_state, step), take_step(whole, state, step)
    if max_tokens == 8:
        assert len(cut.rows(step)) == len(whole.batch(step))
    assert {key: ours[key] for key in ours} == pytest.approx(theirs, abs=1e-4)


def test_gradients_of_two_processes_add_up_to_that_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The sum over processes itself is tested under torchrun.
    monkeypatch.setattr(Processes, "add_up", lambda self, tensors: None)
    whole = gradients(*make_training(batch_size=8))
    halves = []
    for rank in (0, 1):
        task, state = make_training(batch_size=8)
        halves.append(gradients(dataclasses.replace(task, processes=Processes(rank=rank, world=2)), state))
    assert_same({name: halves[0][name] + halves[1][name] for name in whole}, whole)
    assert all((halves[rank][name] != 0).any() for rank in (0, 1) for name in whole)


def test_every_epoch_takes_each_pair_once_in_an_order_of_its_own() -> None:
    task, _ = make_training(epochs=2)
    epochs = [[at for step in range(3) for at in task.batch(first + step)] for first in (0, 3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(11))
    assert epochs[0] != epochs[1]
    assert make_training(epochs=2)[0].batch(4) == task.batch(4)
    assert make_training(seed=1)[0].batch(0) != task.batch(0)


def test_nll_term_is_the_chosen_completions_mean_nll() -> None:
    (pair,) = pairs = [dataclasses.replace(PAIRS[1], weight=2.0)]
    plain, with_nll = (take_step(*make_training(pairs, nll_weight=weight)) for weight in (0.0, 0.5))
    nll = -plain["logps/chosen"] / len(pair.chosen)
    assert with_nll["loss"] == pytest.approx(plain["loss"] + 2.0 * 0.5 * nll)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_each_pairs_label_margin_and_weight_reach_its_loss(step: int) -> None:
    """w (-p log sigmoid(h - m) - (1 - p) log sigmoid(-h - m)), from figures that know of none of the three."""
    pairs = [dataclasses.replace(pair, margin=(0.0, 0.5, 2.0, 1.0)[at % 4]) for at, pair in enumerate(PAIRS)]
    task, state = make_training(pairs)
    state.step = step
    figures = backward(task, state).pairs
    members = [at for row in task.rows(step) for at in row.pairs]
    for at, (loss, _, _, chosen_gain, rejected_gain, *_rewards) in zip(
        members, figures.T.tolist(), strict=True
    ):
        h, pair = 0.3 * (chosen_gain - rejected_gain), pairs[at]
        held = [math.log1p(math.exp(-(sign * h - pair.margin))) for sign in (1, -1)]
        expected = pair.weight * (pair.label * held[0] + (1 - pair.label) * held[1])
        assert loss == pytest.approx(expected, rel=1e-9)


def test_a_gap_is_regressed_on_and_other_pairs_keep_their_loss() -> None:
    """w (gain - gap)^2 / 8, whatever beta, label and margin are."""
    pairs = [dataclasses.replace(pair, gap=None if at % 2 else 0.25 * at) for at, pair in enumerate(PAIRS)]
    (task, state), (plain, plain_state) = make_training(pairs), make_training(PAIRS)
    figures, others = backward(task, state).pairs, backward(plain, plain_state).pairs
    members = [at for row in task.rows(0) for at in row.pairs]
    assert any(pairs[at].gap for at in members)
    for at, (loss, _, _, chosen_gain, rejected_gain, *_rewards), other in zip(
        members, figures.T.tolist(), others[0].tolist(), strict=True
    ):
        gap = pairs[at].gap
        gain = chosen_gain - rejected_gain
        expected = other if gap is None else pairs[at].weight * (gain - gap) ** 2 / 8
        assert loss == pytest.approx(expected, rel=1e-9)


def test_training_changes_the_adapter_and_not_the_base() -> None:
    task, state = make_training(moved=False, learning_rate=0.01, weight_decay=0.1, epochs=2)
    held = task.scorer.model.state_dict()
    before = {name: tensor.clone() for name, tensor in held.items()}
    for _ in range(task.total_steps):
        take_step(task, state)
    changed = {name for name, tensor in held.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in held if "lora_" in name}


def test_a_pair_of_weight_0_is_counted_and_teaches_nothing() -> None:
    kept = PAIRS[0]
    with_mute = [kept, dataclasses.replace(PAIRS[1], weight=0.0)]
    alone, both = gradients(*make_training([kept])), gradients(*make_training(with_mute))
    assert_same(both, {name: slope / 2 for name, slope in alone.items()})


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({}, [1, 1, 1, 1]),
        ({"warmup_steps": 2}, [0.5, 1, 1, 1]),
        ({"schedule": "linear"}, [1, 0.75, 0.5, 0.25]),
        ({"schedule": "linear", "warmup_steps": 2}, [0.5, 1, 1, 0.5]),
        # (1 - cos(pi * left)) / 2 with left = 1, 3/4, 1/2, 1/4
        ({"schedule": "cosine"}, [1, 0.853553, 0.5, 0.146447]),
    ],
)
def test_the_learning_rate_follows_its_schedule(settings: dict, rates: list[float]) -> None:
    task, _ = make_training(PAIRS[:8], batch_size=2, learning_rate=1.0, **settings)
    assert [learning_rate(task, step) for step in range(4)] == pytest.approx(rates, abs=1e-6)


def test_gradients_are_scaled_down_to_the_set_norm() -> None:
    task, state = make_training(max_grad_norm=0.01, optimizer="rmsprop")
    metrics = take_step(task, state)
    assert metrics["grad_norm"] > 0.01  # reported as it was
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in state.parameters.values()])
    assert float(norm) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_steps_raise_the_margin(optimizer: str) -> None:
    task, state = make_training(moved=False, learning_rate=0.001, optimizer=optimizer, batch_size=11)
    margins = [take_step(task, state, 0)["rewards/margins"] for _ in range(4)]
    assert margins == sorted(margins)
    assert margins[0] < margins[-1]


def test_non_finite_step_changes_no_weight_and_is_counted() -> None:
    task, state = make_training()
    task.reference[task.batch(0)[0]] = math.nan
    before = {name: weight.detach().clone() for name, weight in state.parameters.items()}
    metrics = take_step(task, state)
    assert metrics["skipped"] == state.skipped == 1
    assert metrics["loss"] is None
    assert metrics["grad_norm"] is None
    assert_same({name: weight.detach() for name, weight in state.parameters.items()}, before)
    assert take_step(task, state)["skipped"] == 1


def test_non_finite_gradient_of_a_finite_loss_is_skipped() -> None:
    task, state = make_training()
    weight = next(iter(state.parameters.values()))
    hook = weight.register_hook(lambda slope: slope * math.inf)
    before = {name: weight.detach().clone() for name, weight in state.parameters.items()}
    metrics = take_step(task, state)
    assert math.isfinite(metrics["loss"])
    assert metrics["grad_norm"] is None
    assert metrics["skipped"] == state.skipped == 1
    assert_same({name: weight.detach() for name, weight in state.parameters.items()}, before)
    hook.remove()
    assert take_step(task, state)["grad_norm"] > 0
    assert state.skipped == 1


def test_dropout_draws_the_same_numbers_for_the_same_step() -> None:
    settings = {"lora": {"r": 4, "alpha": 8, "dropout": 0.5}}
    task, state = make_training(**settings)
    first = gradients(task, state, 1)
    torch.rand(7)
    assert_same(gradients(task, state, 1), first)
    without = gradients(*make_training(), 1)
    assert any((without[name] != first[name]).any() for name in first)


def test_recomputing_activations_changes_no_gradient() -> None:
    task, state = make_training()
    expected = gradients(task, state)
    recompute_activations(task.scorer.base)
    calls = []
    task.scorer.base.model.layers[0].input_layernorm.register_forward_hook(lambda *_: calls.append(1))
    assert_same(gradients(task, state), expected)
    assert len(calls) == 2  # forward, and again for the backward pass
