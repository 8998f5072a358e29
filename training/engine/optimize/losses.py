"""The losses: pure functions of (B,) tensors, each with its paper and equation, in one table.

Throughout, h = beta * ((log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x))), (B,), is the
implicit-reward margin, and `label`, (B,), is the probability that the chosen completion is better.
Unless its docstring says otherwise, a loss l(h) of a certain preference becomes, for a label p, its
expectation p * l(h) + (1 - p) * l(-h).

`training.engine.config.LOSS_OPTIONS` lists the settings that each loss honours. Any other setting is refused
there, never ignored.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from training.engine.config import LOSS_OPTIONS, TrainConfig
from training.engine.data.tokens import EncodedPair
from training.engine.errors import ConfigError

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def sigmoid(
    h: torch.Tensor, label: torch.Tensor, margin: torch.Tensor, *, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Compute DPO (Rafailov et al., 2305.18290, equation 7): -log sigmoid(h); its derivative by h is -sigmoid(-h).

    `label_smoothing` e is conservative DPO: the label p becomes (1 - e) p + e (1 - p). A margin m asks for a
    reward difference of at least m: log sigmoid(h - m) for the chosen, log sigmoid(-h - m) for the rejected.
    """
    p = label * (1 - label_smoothing) + (1 - label) * label_smoothing
    return -p * logsigmoid(h - margin) - (1 - p) * logsigmoid(-h - margin)


def odpo(
    h: torch.Tensor,
    label: torch.Tensor,
    margin: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
    offset_scale: float = 1.0,
) -> torch.Tensor:
    """Compute DPO with an offset (Amini et al., 2402.10571, equation 8): -log sigmoid(h - alpha * f(strength)).

    The strength is the pair's margin and f(m) = log(1 + m), so that no stated strength means no offset.
    """
    return sigmoid(h, label, offset_scale * torch.log1p(margin), label_smoothing=label_smoothing)


def robust(
    h: torch.Tensor, label: torch.Tensor, margin: torch.Tensor, *, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Compute robust DPO (Chowdhury et al., 2403.00409, equation 12): unbiased when a share e of labels is flipped.

    l(h) = (-(1 - e) log sigmoid(h) + e log sigmoid(-h)) / (1 - 2 e).
    """
    e = label_smoothing
    kept, flipped = -logsigmoid(h), -logsigmoid(-h)
    certain = ((1 - e) * kept - e * flipped) / (1 - 2 * e)
    opposite = ((1 - e) * flipped - e * kept) / (1 - 2 * e)
    return label * certain + (1 - label) * opposite


def ipo(h: torch.Tensor, label: torch.Tensor, margin: torch.Tensor, *, beta: float) -> torch.Tensor:
    """Compute IPO (Azar et al., 2310.12036, equation 17): (h / beta - 1 / (2 beta))^2, beta being the paper's tau."""
    target = 1 / (2 * beta)
    return label * (h / beta - target) ** 2 + (1 - label) * (-h / beta - target) ** 2


def hinge(h: torch.Tensor, label: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """Compute SLiC-HF's hinge (Zhao et al., 2305.10425, equation 2; with DPO's margin 2309.06657): max(0, 1 - h)."""
    return label * torch.relu(1 - h) + (1 - label) * torch.relu(1 + h)


def rao_kupper(
    h: torch.Tensor, label: torch.Tensor, margin: torch.Tensor, *, tie_nu: float = 3.0
) -> torch.Tensor:
    """Compute DPO-RK (Chen et al., 2409.17431, section 3; Rao and Kupper, 1967), which learns from ties.

    With a = log(nu): p(win) = sigmoid(h - a), p(tie) = (nu^2 - 1) sigmoid(h - a) sigmoid(-h - a).
    A label of 1 is a win, 1/2 a tie, 0 a loss; between them it is the mixture with that expectation.
    """
    a = math.log(tie_nu)
    win, loss = logsigmoid(h - a), logsigmoid(-h - a)
    return _expected(label, win, win + loss + math.log(tie_nu**2 - 1), loss)


def davidson(
    h: torch.Tensor, label: torch.Tensor, margin: torch.Tensor, *, tie_nu: float = 1.0
) -> torch.Tensor:
    """Compute DPO-D (Chen et al., 2409.17431, section 3; Davidson, 1970), which learns from ties.

    p(win) = 1 / (1 + exp(-h) + 2 nu exp(-h / 2)), p(tie) = 2 nu exp(-h / 2) p(win). Labels as in Rao-Kupper.
    """
    parts = torch.stack([torch.zeros_like(h), math.log(2 * tie_nu) - h / 2, -h])
    win, tie, loss = parts.log_softmax(dim=0)
    return _expected(label, win, tie, loss)


def _expected(label: torch.Tensor, win: torch.Tensor, tie: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
    """Return the negative log-likelihood (B,) of a label between loss (0), tie (1/2) and win (1)."""
    wins, losses = torch.relu(2 * label - 1), torch.relu(1 - 2 * label)
    return -(wins * win + (1 - wins - losses) * tie + losses * loss)


LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "sigmoid": sigmoid,
    "odpo": odpo,
    "robust": robust,
    "ipo": ipo,
    "hinge": hinge,
    "rao_kupper": rao_kupper,
    "davidson": davidson,
}


def make_loss(config: TrainConfig) -> Loss:
    """Return the configured loss as a function of (h, label, margin), each (B,). Raises ConfigError if unknown."""
    function = LOSSES.get(config.loss)
    if function is None:
        sentence = f"Unknown loss {config.loss!r}; it must be one of {', '.join(LOSSES)}."
        raise ConfigError("loss", sentence, separator=None)
    options: dict[str, Any] = {
        name: value
        for name in sorted(LOSS_OPTIONS[config.loss] - {"margin"})
        if (value := getattr(config, name)) is not None
    }
    if config.loss == "ipo":
        options["beta"] = config.beta

    def loss(h: torch.Tensor, label: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
        return function(h, label, margin, **options)

    return loss


def accuracy(h: torch.Tensor) -> float:
    """Return the share of margins (B,) above 0; a tie counts half."""
    return float(((h > 0).double() + 0.5 * (h == 0).double()).mean())


def check_honoured(config: TrainConfig, pairs: Sequence[EncodedPair]) -> None:
    """Refuse pairs with a margin that the loss would ignore. Raises ConfigError naming the pair."""
    if "margin" in LOSS_OPTIONS[config.loss]:
        return
    stated = next((pair for pair in pairs if pair.margin), None)
    if stated is not None:
        able = " or ".join(loss for loss, options in LOSS_OPTIONS.items() if "margin" in options)
        raise ConfigError(
            "loss",
            f"Pair {stated.id} states a margin, which loss {config.loss!r} would ignore; use {able}.",
            separator=None,
        )
