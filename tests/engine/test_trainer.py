"""One optimizer step: the gradient is the paper's, however the step is cut into rows."""

import dataclasses
import math

import pytest
import torch

from tests.engine.conftest import make_model, make_pairs, tiny_llama
from training.engine.adapters.loading import recompute_activations, wrap
from training.engine.config import TrainConfig
from training.engine.model.logps import Scorer
from training.engine.optimize.distributed import Processes
from training.engine.optimize.trainer import Trainer, accuracy

PAIRS = [
    dataclasses.replace(pair, label=(1.0, 0.8, 0.5)[at % 3], weight=(1.0, 0.25, 2.0)[at % 3])
    for at, pair in enumerate(make_pairs(11))
]


def make_trainer(pairs=PAIRS, *, moved: bool = True, max_tokens: int = 4096, **settings: object) -> Trainer:
    """A trainer of a tiny Llama; `moved`, its policy is already away from the reference."""
    config = TrainConfig.from_dict(
        {"base_model": "m", "lora": {"r": 4, "alpha": 8}, "batch_size": 4, "beta": 0.3} | settings
    )
    model = wrap(make_model(tiny_llama()), config)
    base = model.get_base_model()
    scorer = Scorer(model, base, max_tokens=max_tokens, device=torch.device("cpu"))
    scorer.use("packed")
    trainer = Trainer(config, model, scorer, pairs, Processes())
    reference = torch.empty(len(pairs), 2, dtype=torch.float64)
    for step in range(trainer.steps_per_epoch):  # on the very rows that are trained on, to the last bit
        for row in trainer.rows(step):
            reference[list(row.pairs)] = scorer.score(row)
    trainer.set_reference(reference)
    if moved:
        torch.manual_seed(3)
        for name, weight in trainer.parameters.items():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    return trainer


def gradients(trainer: Trainer, step: int = 0) -> dict[str, torch.Tensor]:
    trainer.gradients(step)
    return {name: weight.grad.clone() for name, weight in trainer.parameters.items()}


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=1e-6, rtol=1e-4, msg=name)


def test_the_gradient_is_equation_7_of_the_paper() -> None:
    """-beta E[ w sigmoid(-h) (grad log pi(y_w) - grad log pi(y_l)) ] for certain labels, built term by term."""
    pairs = [dataclasses.replace(pair, label=1.0) for pair in PAIRS[:4]]
    trainer = make_trainer(pairs)
    ours = gradients(trainer)
    beta, scorer = trainer.config.beta, trainer.scorer
    expected = {name: torch.zeros_like(weight) for name, weight in trainer.parameters.items()}
    for at, pair in enumerate(pairs):
        (row,) = scorer.rows(pairs, [[at]])
        chosen, rejected = (sums[0] for sums in scorer.pair_logps(row))
        gain = (chosen - trainer.reference[at, 0]) - (rejected - trainer.reference[at, 1])
        weight = float(torch.sigmoid(-beta * gain.detach()))
        slopes = torch.autograd.grad(chosen - rejected, list(trainer.parameters.values()))
        for total, slope in zip(expected.values(), slopes, strict=True):
            total.sub_(beta * weight * pair.weight * slope / len(pairs))
    assert_same(ours, expected)


def test_the_reported_weights_are_quantiles_of_sigmoid_of_minus_h() -> None:
    trainer = make_trainer()
    metrics = trainer.step(0)
    h = []
    with torch.no_grad():
        for at in trainer.batch(0):
            (row,) = trainer.scorer.rows(PAIRS, [[at]])
            chosen, rejected = trainer.scorer.pair_logps(row)
            gain = (chosen - trainer.reference[at, 0]) - (rejected - trainer.reference[at, 1])
            h.append(trainer.config.beta * gain[0])
    weights = torch.sigmoid(-torch.stack(h))
    for key, share in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9)):
        assert metrics[f"weights/{key}"] == pytest.approx(float(weights.quantile(share)), abs=1e-5)


def test_before_the_first_step_the_loss_is_ln_2_and_ties_count_half() -> None:
    metrics = make_trainer(moved=False).step(0)
    weights = [PAIRS[at].weight for at in make_trainer().batch(0)]
    assert metrics["loss"] == pytest.approx(math.log(2) * sum(weights) / len(weights), abs=1e-12)
    assert metrics["rewards/margins"] == 0
    assert metrics["rewards/accuracies"] == 0.5
    assert metrics["weights/p10"] == metrics["weights/p90"] == 0.5


def test_a_tie_counts_half_in_the_accuracy() -> None:
    assert accuracy(torch.tensor([1.0, 0.0, -1.0, 2.0])) == 0.625


@pytest.mark.parametrize("max_tokens", [8, 40, 4096], ids=["8x1", "few", "1x8"])
@pytest.mark.parametrize("step", [0, 1], ids=["full batch", "short last batch"])
def test_cutting_a_step_into_rows_changes_no_gradient_and_no_metric(max_tokens: int, step: int) -> None:
    whole, cut = make_trainer(batch_size=8), make_trainer(batch_size=8, max_tokens=max_tokens)
    assert len(whole.batch(1)) == 3  # the last batch of eleven pairs is short
    assert_same(gradients(cut, step), gradients(whole, step))
    ours, theirs = cut.step(step), whole.step(step)
    if max_tokens == 8:
        assert len(cut.rows(step)) == len(whole.batch(step))
    assert {key: ours[key] for key in ours} == pytest.approx(theirs, abs=1e-4)


def test_rows_shared_out_to_two_processes_add_up_to_the_gradient_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The sum over processes itself is tested under torchrun.
    monkeypatch.setattr(Processes, "add_up", lambda self, tensors: None)
    whole = gradients(make_trainer(batch_size=8))
    halves = []
    for rank in (0, 1):
        trainer = make_trainer(batch_size=8)
        trainer.processes = Processes(rank=rank, world=2)
        halves.append(gradients(trainer))
    assert_same({name: halves[0][name] + halves[1][name] for name in whole}, whole)
    assert all((halves[rank][name] != 0).any() for rank in (0, 1) for name in whole)


def test_every_epoch_takes_each_pair_once_in_an_order_of_its_own() -> None:
    trainer = make_trainer(epochs=2)
    epochs = [[at for step in range(3) for at in trainer.batch(first + step)] for first in (0, 3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(11))
    assert epochs[0] != epochs[1]
    assert make_trainer(epochs=2).batch(4) == trainer.batch(4)
    assert make_trainer(seed=1).batch(0) != trainer.batch(0)


def test_the_nll_term_is_the_chosen_completions_mean_negative_log_likelihood() -> None:
    (pair,) = pairs = [dataclasses.replace(PAIRS[1], weight=2.0)]
    plain, with_nll = make_trainer(pairs).step(0), make_trainer(pairs, nll_weight=0.5).step(0)
    nll = -plain["logps/chosen"] / len(pair.chosen)
    assert with_nll["loss"] == pytest.approx(plain["loss"] + 2.0 * 0.5 * nll)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_each_pairs_label_margin_and_weight_reach_its_loss(step: int) -> None:
    """w (-p log sigmoid(h - m) - (1 - p) log sigmoid(-h - m)), from figures that know of none of the three."""
    pairs = [dataclasses.replace(pair, margin=(0.0, 0.5, 2.0, 1.0)[at % 4]) for at, pair in enumerate(PAIRS)]
    trainer = make_trainer(pairs)
    figures, _ = trainer.gradients(step)
    members = [at for row in trainer.rows(step) for at in row.pairs]
    for at, (loss, _, _, chosen_gain, rejected_gain) in zip(members, figures.T.tolist(), strict=True):
        h, pair = 0.3 * (chosen_gain - rejected_gain), pairs[at]
        held = [math.log1p(math.exp(-(sign * h - pair.margin))) for sign in (1, -1)]
        expected = pair.weight * (pair.label * held[0] + (1 - pair.label) * held[1])
        assert loss == pytest.approx(expected, rel=1e-9)


def test_training_changes_the_adapter_and_not_one_bit_of_the_base_model() -> None:
    trainer = make_trainer(moved=False, learning_rate=0.01, weight_decay=0.1, epochs=2)
    held = trainer.scorer.model.state_dict()
    before = {name: tensor.clone() for name, tensor in held.items()}
    for step in range(trainer.total_steps):
        trainer.step(step)
        trainer.apply()
    changed = {name for name, tensor in held.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in held if "lora_" in name}


def test_a_pair_of_weight_0_is_counted_and_teaches_nothing() -> None:
    kept = PAIRS[0]
    with_mute = [kept, dataclasses.replace(PAIRS[1], weight=0.0)]
    alone, both = gradients(make_trainer([kept])), gradients(make_trainer(with_mute))
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
    trainer = make_trainer(PAIRS[:8], batch_size=2, learning_rate=1.0, **settings)
    assert [trainer.learning_rate(step) for step in range(4)] == pytest.approx(rates, abs=1e-6)


def test_gradients_are_scaled_down_to_the_set_norm() -> None:
    trainer = make_trainer(max_grad_norm=0.01, optimizer="rmsprop")
    metrics = trainer.step(0)
    assert metrics["grad_norm"] > 0.01  # reported as it was
    trainer.apply()
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in trainer.parameters.values()])
    assert float(norm) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_steps_raise_the_margin(optimizer: str) -> None:
    trainer = make_trainer(moved=False, learning_rate=0.001, optimizer=optimizer, batch_size=11)
    margins = []
    for _ in range(4):
        margins.append(trainer.step(0)["rewards/margins"])
        trainer.apply()
    assert margins == sorted(margins)
    assert margins[0] < margins[-1]


def test_a_step_that_is_not_finite_changes_no_weight_and_is_counted() -> None:
    trainer = make_trainer()
    trainer.reference[trainer.batch(0)[0]] = math.nan
    before = {name: weight.detach().clone() for name, weight in trainer.parameters.items()}
    metrics = trainer.step(0)
    trainer.apply()
    assert metrics["skipped"] == trainer.skipped == 1
    assert metrics["loss"] is None
    assert metrics["grad_norm"] is None
    assert_same({name: weight.detach() for name, weight in trainer.parameters.items()}, before)
    assert trainer.step(1)["skipped"] == 1


def test_a_gradient_that_is_not_finite_is_skipped_though_the_loss_is() -> None:
    trainer = make_trainer()
    weight = next(iter(trainer.parameters.values()))
    hook = weight.register_hook(lambda slope: slope * math.inf)
    before = {name: weight.detach().clone() for name, weight in trainer.parameters.items()}
    metrics = trainer.step(0)
    trainer.apply()
    assert math.isfinite(metrics["loss"])
    assert metrics["grad_norm"] is None
    assert metrics["skipped"] == trainer.skipped == 1
    assert_same({name: weight.detach() for name, weight in trainer.parameters.items()}, before)
    hook.remove()
    assert trainer.step(1)["grad_norm"] > 0
    trainer.apply()
    assert trainer.skipped == 1


def test_dropout_draws_the_same_numbers_for_the_same_step() -> None:
    settings = {"lora": {"r": 4, "alpha": 8, "dropout": 0.5}}
    trainer = make_trainer(**settings)
    first = gradients(trainer, 1)
    torch.rand(7)
    assert_same(gradients(trainer, 1), first)
    without = gradients(make_trainer(), 1)
    assert any((without[name] != first[name]).any() for name in first)


def test_recomputing_activations_changes_no_gradient() -> None:
    trainer = make_trainer()
    expected = gradients(trainer)
    recompute_activations(trainer.scorer.base)
    calls = []
    trainer.scorer.base.model.layers[0].input_layernorm.register_forward_hook(lambda *_: calls.append(1))
    assert_same(gradients(trainer), expected)
    assert len(calls) == 2  # forward, and again for the backward pass
