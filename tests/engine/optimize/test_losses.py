"""Every loss against numbers derived by hand from its paper, and no option that is accepted and ignored."""

import dataclasses
import math

import pytest
import torch

from tests.engine.conftest import make_pairs
from training.engine.config import LOSS_OPTIONS, TrainConfig
from training.engine.errors import ConfigError
from training.engine.optimize import losses


def config(**settings: object) -> TrainConfig:
    return TrainConfig.from_dict({"base_model": "m"} | settings)


def value(h: float, label: float = 1.0, margin: float = 0.0, **settings: object) -> float:
    return of_rewards((h / 2, -h / 2), label, margin, **settings)


def of_rewards(
    rewards: tuple[float, float], label: float = 1.0, margin: float = 0.0, **settings: object
) -> float:
    one = losses.make_loss(config(**settings))
    found = one(*(torch.tensor([numbers], dtype=torch.float64) for numbers in (rewards, label, margin)))
    assert found.shape == (1,)
    return float(found)


LN2, LN3 = math.log(2), math.log(3)
# sigmoid(ln 3) = 3/4, sigmoid(-ln 3) = 1/4: -log of them is ln(4/3) and ln 4.
WON, LOST = math.log(4 / 3), math.log(4)

BY_HAND = [
    # DPO: -log sigmoid(h)
    ({"h": 0.0}, LN2),
    ({"h": LN3}, WON),
    ({"h": -LN3}, LOST),
    # soft label 3/4: 3/4 ln(4/3) + 1/4 ln 4
    ({"h": LN3, "label": 0.75}, 0.75 * WON + 0.25 * LOST),
    # conservative, e = 1/4, on a certain label is the label 3/4; on the label 3/4 it is 3/4*3/4 + 1/4*1/4 = 5/8
    ({"h": LN3, "label_smoothing": 0.25}, 0.75 * WON + 0.25 * LOST),
    ({"h": LN3, "label": 0.75, "label_smoothing": 0.25}, 0.625 * WON + 0.375 * LOST),
    # margin ln 3: sigmoid(2 ln 3 - ln 3) = 3/4, and for the opposite sigmoid(-3 ln 3) = 1/28
    ({"h": 2 * LN3, "margin": LN3}, WON),
    ({"h": 2 * LN3, "margin": LN3, "label": 0.0}, math.log(28)),
    # ODPO: the offset is alpha * log(1 + m); m = 2 gives ln 3, alpha = 2 gives 2 ln 3
    ({"h": 2 * LN3, "margin": 2.0, "loss": "odpo"}, WON),
    ({"h": LN3, "margin": 2.0, "loss": "odpo", "offset_scale": 2.0}, LOST),
    # rDPO, e = 1/4: (3/4 ln(4/3) - 1/4 ln 4) / (1/2)
    ({"h": LN3, "loss": "robust", "label_smoothing": 0.25}, 1.5 * WON - 0.5 * LOST),
    ({"h": LN3, "loss": "robust"}, WON),
    # IPO, tau = 1/10: the log-ratio difference 3 against 1 / (2 tau) = 5: (3 - 5)^2; opposite (-3 - 5)^2
    ({"h": 0.3, "loss": "ipo", "beta": 0.1}, 4.0),
    ({"h": 0.3, "loss": "ipo", "beta": 0.1, "label": 0.75}, 0.75 * 4 + 0.25 * 64),
    # hinge: max(0, 1 - h)
    ({"h": 0.25, "loss": "hinge"}, 0.75),
    ({"h": 1.5, "loss": "hinge"}, 0.0),
    ({"h": 0.25, "loss": "hinge", "label": 0.0}, 1.25),
    # Rao-Kupper, nu = 3, rewards equal: win = 1/(1 + 3) = 1/4, tie = (9 - 1)/16 = 1/2, loss = 1/4
    ({"h": 0.0, "loss": "rao_kupper"}, LOST),
    ({"h": 0.0, "loss": "rao_kupper", "label": 0.5}, LN2),
    # ... h = ln 3, as strengths 3 to 1: win = 3/(3 + 3) = 1/2, loss = 1/(1 + 9) = 1/10, tie = 4/10
    ({"h": LN3, "loss": "rao_kupper"}, LN2),
    ({"h": LN3, "loss": "rao_kupper", "label": 0.0}, math.log(10)),
    ({"h": LN3, "loss": "rao_kupper", "label": 0.5}, math.log(2.5)),
    ({"h": LN3, "loss": "rao_kupper", "label": 0.75}, 0.5 * LN2 + 0.5 * math.log(2.5)),
    # ... nu = 2, equal: win = 1/3, tie = 3 / 9
    ({"h": 0.0, "loss": "rao_kupper", "label": 0.5, "tie_nu": 2.0}, LN3),
    # Davidson, nu = 1, equal: 1 / (1 + 1 + 2) = 1/4, tie = 2/4
    ({"h": 0.0, "loss": "davidson"}, LOST),
    ({"h": 0.0, "loss": "davidson", "label": 0.5}, LN2),
    # ... strengths 4 to 1: the root of their product is 2: 4 + 1 + 2 * 2 = 9
    ({"h": math.log(4), "loss": "davidson"}, math.log(9 / 4)),
    ({"h": math.log(4), "loss": "davidson", "label": 0.5}, math.log(9 / 4)),
    ({"h": math.log(4), "loss": "davidson", "label": 0.0}, math.log(9)),
    # ... nu = 2: 4 + 1 + 2 * 2 * 2 = 13
    ({"h": math.log(4), "loss": "davidson", "tie_nu": 2.0}, math.log(13 / 4)),
    # SimPO: -log sigmoid(h - gamma), gamma = ln 3
    ({"h": 2 * LN3, "loss": "simpo", "simpo_gamma": LN3}, WON),
    (
        {"h": 2 * LN3, "loss": "simpo", "simpo_gamma": LN3, "label_smoothing": 0.25},
        0.75 * WON + 0.25 * math.log(28),
    ),
    # per token, what differs is the rewards
    ({"h": LN3, "loss": "sigmoid_norm"}, WON),
    ({"h": 0.3, "loss": "ipo_norm", "beta": 0.1}, 4.0),
]
# By the rewards of both. sigmoid(ln 3) = 3/4, sigmoid(-ln 3) = 1/4, sigmoid(2 ln 3) = 9/10.
BY_HAND_OF_BOTH = [
    # DPOP: a chosen reward above 0 costs nothing; at -ln 3, lambda = 2: h = ln 3 falls to -ln 3
    ({"rewards": (LN3, 0.0), "loss": "dpop"}, WON),
    ({"rewards": (-LN3, -2 * LN3), "loss": "dpop", "dpop_lambda": 2.0}, LOST),
    # ... the opposite preference: h = -ln 3 and a reward of -2 ln 3 of what is then the chosen, lambda = 1: -3 ln 3
    ({"rewards": (-LN3, -2 * LN3), "loss": "dpop", "dpop_lambda": 1.0, "label": 0.0}, math.log(28)),
    # APO-zero: sigmoid(-ln 3) + sigmoid(-ln 3) = 1/2; the opposite 3/4 + 3/4
    ({"rewards": (LN3, -LN3), "loss": "apo_zero"}, 0.5),
    ({"rewards": (LN3, -LN3), "loss": "apo_zero", "label": 0.75}, 0.75 * 0.5 + 0.25 * 1.5),
    # APO-down: sigmoid(ln 3) + sigmoid(-2 ln 3) = 3/4 + 1/10; both at zero 1/2 + 1/2
    ({"rewards": (LN3, -LN3), "loss": "apo_down"}, 0.85),
    ({"rewards": (0.0, 0.0), "loss": "apo_down"}, 1.0),
    # KTO with z0 = 0: 1 - sigmoid(ln 3) of the desirable, 1 - sigmoid(-0) of the undesirable one; its weight 2
    ({"rewards": (LN3, 0.0), "loss": "kto"}, 0.25 + 0.5),
    ({"rewards": (LN3, 0.0), "loss": "kto", "undesirable_weight": 2.0}, 0.25 + 1.0),
    ({"rewards": (LN3, 0.0), "loss": "kto", "desirable_weight": 2.0, "label": 0.75}, 0.75 + 0.25 * 1.75),
]


@pytest.mark.parametrize(("arguments", "expected"), BY_HAND)
def test_a_loss_has_the_value_derived_by_hand(arguments: dict, expected: float) -> None:
    assert value(**arguments) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("arguments", "expected"), BY_HAND_OF_BOTH)
def test_a_loss_of_both_rewards_has_the_value_derived_by_hand(arguments: dict, expected: float) -> None:
    assert of_rewards(**arguments) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("sigmoid", [0.5 * (-10 + 12), 0.5 * (-30 + 24)]),
        ("dpop", [0.5 * (-10 + 12), 0.5 * (-30 + 24)]),
        ("sigmoid_norm", [0.5 * (-10 + 12) / 4, 0.5 * (-30 + 24) / 6]),
        ("ipo_norm", [0.5 * (-10 + 12) / 4, 0.5 * (-30 + 24) / 6]),
        ("simpo", [0.5 * -10 / 4, 0.5 * -30 / 6]),
    ],
)
def test_rewards_are_those_of_the_losss_paper(loss: str, expected: list[float]) -> None:
    policy, reference, lengths = (torch.tensor([pair]) for pair in ([-10.0, -30], [-12.0, -24], [4, 6]))
    found = losses.rewards(config(loss=loss, beta=0.5), policy, reference, lengths)
    assert found.tolist() == [pytest.approx(expected)]


@pytest.mark.parametrize("loss", LOSS_OPTIONS)
def test_swapping_completions_and_label_changes_nothing(loss: str) -> None:
    margin = 0.7 if "margin" in LOSS_OPTIONS[loss] else 0.0
    for h, label in ((1.3, 1.0), (-0.4, 0.8), (0.2, 0.5)):
        assert value(h, label, margin, loss=loss) == pytest.approx(value(-h, 1 - label, margin, loss=loss))


def test_gradient_of_sigmoid_is_the_weight_of_equation_7() -> None:
    h = torch.linspace(-4, 4, 9, dtype=torch.float64, requires_grad=True)
    one = torch.ones_like(h)
    (slope,) = torch.autograd.grad(losses.sigmoid(h, one, 0 * one).sum(), h)
    torch.testing.assert_close(slope, -torch.sigmoid(-h.detach()))


def test_the_robust_loss_is_unbiased_under_the_flips_it_assumes() -> None:
    # Averaged over labels of which a share e is flipped, it is the sigmoid loss of the true label.
    e, h = 0.2, 0.9
    noisy = (1 - e) * value(h, loss="robust", label_smoothing=e) + e * value(
        -h, loss="robust", label_smoothing=e
    )
    assert noisy == pytest.approx(value(h))


@pytest.mark.parametrize("loss", LOSS_OPTIONS)
def test_extreme_margins_give_finite_losses_and_gradients(loss: str) -> None:
    h = torch.tensor([-800.0, -40.0, 40.0, 800.0], dtype=torch.float64, requires_grad=True)
    for label in (1.0, 0.5, 0.0):
        both = torch.stack([h / 2, -h / 2], dim=1)
        found = losses.make_loss(config(loss=loss))(both, torch.full_like(h, label), torch.zeros_like(h))
        (slope,) = torch.autograd.grad(found.sum(), h)
        assert torch.isfinite(found).all()
        assert torch.isfinite(slope).all()


def test_regression_on_gaps_finds_the_tilted_reference() -> None:
    """Over all pairs of four outcomes, ref * exp(score / beta) / Z has no loss, and gradient descent gets there."""
    reference, scores = (
        torch.tensor([0.1, 0.2, 0.3, 0.4]).double(),
        torch.tensor([2.0, 0.0, 1.0, -1.0]).double(),
    )
    first, second = torch.combinations(torch.arange(4)).T
    gaps = scores[first] - scores[second]
    logits = reference.log().requires_grad_()
    for _ in range(500):
        gains = logits.log_softmax(0) - reference.log()
        loss = losses.regress(gains[first] - gains[second], gaps).sum()
        (slope,) = torch.autograd.grad(loss, logits)
        logits = (logits - 0.5 * slope).detach().requires_grad_()
    tilted = reference * scores.exp()
    assert torch.allclose(logits.softmax(0), tilted / tilted.sum(), atol=1e-6)
    assert float(loss.detach()) < 1e-9


def test_regression_bends_like_dpo_where_it_starts() -> None:
    h = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    bends = []
    for loss in (losses.regress(h, torch.ones(1)), losses.sigmoid(h, torch.ones(1), torch.zeros(1))):
        (slope,) = torch.autograd.grad(loss.sum(), h, create_graph=True)
        bends.append(float(torch.autograd.grad(slope.sum(), h)[0]))
    assert bends == pytest.approx([0.25, 0.25])


def test_the_table_and_the_options_name_the_same_losses() -> None:
    assert (losses.OF_DIFFERENCE | losses.OF_BOTH).keys() == LOSS_OPTIONS.keys()


def test_an_unknown_loss_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"loss must be one of sigmoid, .*'sigmod'"):
        config(loss="sigmod")
    with pytest.raises(ConfigError, match="Unknown loss 'sigmod'"):
        losses.make_loss(_renamed("sigmod"))


def _renamed(loss: str) -> TrainConfig:
    """Return a configuration that did not come through `from_dict`."""
    one = config()
    object.__setattr__(one, "loss", loss)
    return one


OPTION_VALUES = {
    "label_smoothing": 0.1,
    "offset_scale": 2.0,
    "tie_nu": 2.5,
    "simpo_gamma": 0.3,
    "dpop_lambda": 3.0,
    "desirable_weight": 2.0,
    "undesirable_weight": 2.0,
}


@pytest.mark.parametrize("option", OPTION_VALUES)
@pytest.mark.parametrize("loss", LOSS_OPTIONS)
def test_an_option_either_changes_the_loss_or_is_refused(loss: str, option: str) -> None:
    settings = {"loss": loss, option: OPTION_VALUES[option]}
    if option in LOSS_OPTIONS[loss]:
        label = 0.5 if option == "tie_nu" else 1.0
        margin = 1.0 if "margin" in LOSS_OPTIONS[loss] else 0.0
        h = -0.4  # a chosen completion that has become less likely
        assert value(h, label, margin, **settings) != value(h, label, margin, loss=loss)
    else:
        with pytest.raises(ConfigError, match=f"{option} has no effect with loss '{loss}'"):
            config(**settings)


@pytest.mark.parametrize("loss", LOSS_OPTIONS)
def test_a_margin_either_changes_the_loss_or_is_refused_by_pair(loss: str) -> None:
    stated = [*make_pairs(1), dataclasses.replace(make_pairs(1)[0], id="b", margin=1.0)]
    if "margin" in LOSS_OPTIONS[loss]:
        losses.check_honoured(config(loss=loss), stated)
        assert value(0.4, margin=1.0, loss=loss) != value(0.4, loss=loss)
    else:
        with pytest.raises(ConfigError, match=f"Pair b states a margin, which loss '{loss}' would ignore"):
            losses.check_honoured(config(loss=loss), stated)
