"""The losses: pure functions of (B,) tensors, each with its paper and equation, in one table.

Throughout, r_w and r_l, (B,), are the implicit rewards of the chosen and the rejected completion (`rewards`), usually
beta * (log pi(y|x) - log ref(y|x)), and h = r_w - r_l. `label`, (B,), is the probability that the chosen completion is
better. Unless its docstring says otherwise, a loss l(r_w, r_l) of a certain preference becomes, for a label p, its
expectation p * l(r_w, r_l) + (1 - p) * l(r_l, r_w).

`training.engine.config.LOSS_OPTIONS` lists the settings that each loss honours. Any other setting is refused
there, never ignored.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from training.engine.config import LOSS_OPTIONS, OF_RATINGS, TrainConfig
from training.engine.data.tokens import EncodedPair
from training.engine.errors import ConfigError

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

# Losses that divide log-probabilities by lengths.
PER_TOKEN = frozenset({"sigmoid_norm", "ipo_norm", "simpo"})
WITHOUT_REFERENCE = frozenset({"simpo"})


def rewards(
    config: TrainConfig, policy: torch.Tensor, reference: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """Return the implicit rewards (B, 2) of chosen and rejected completions, as the configured loss measures them.

    `policy` and `reference` are summed log-probabilities (B, 2), `lengths` the tokens (B, 2) that they sum. Rewards are
    beta * (policy - reference); per token for the losses in PER_TOKEN, and without the reference for SimPO.
    """
    gains = policy if config.loss in WITHOUT_REFERENCE else policy - reference
    return config.beta * (gains / lengths if config.loss in PER_TOKEN else gains)


def settle(rewards: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return rewards (B, 2) in which a completion that a rating lacks has one that costs nothing."""
    best = torch.tensor([torch.inf, -torch.inf], dtype=rewards.dtype, device=rewards.device)
    return torch.where(lengths == 0, best, rewards)


def count_terms(config: TrainConfig, pairs: Sequence[EncodedPair]) -> int:
    """Return how many losses the pairs have, which their sum is divided by: of KTO one for each completion."""
    return sum(len(pair.completions) for pair in pairs) if config.loss in OF_RATINGS else len(pairs)


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


def simpo(
    h: torch.Tensor,
    label: torch.Tensor,
    margin: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
    simpo_gamma: float = 0.5,
) -> torch.Tensor:
    """Compute SimPO (Meng et al., 2405.14734, equation 6): -log sigmoid(h - gamma).

    Its rewards are beta / |y| * log pi(y|x), without a reference.
    """
    return sigmoid(h, label, torch.full_like(h, simpo_gamma), label_smoothing=label_smoothing)


def dpop(
    chosen: torch.Tensor, rejected: torch.Tensor, margin: torch.Tensor, *, dpop_lambda: float = 50.0
) -> torch.Tensor:
    """Compute DPO-Positive (Pal et al., 2402.13228, equation 3): -log sigmoid(h - lambda * max(0, -r_w)).

    A chosen completion that has become less likely than under the reference costs lambda times its loss.
    """
    return -logsigmoid(chosen - rejected - margin - dpop_lambda * torch.relu(-chosen))


def apo_zero(chosen: torch.Tensor, rejected: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """Compute APO-zero (D'Oosterlinck et al., 2408.06266, equation 7): -sigmoid(r_w) + sigmoid(r_l), plus 1.

    For completions better than the policy's: the chosen becomes likelier, the rejected less likely.
    """
    return torch.sigmoid(-chosen) + torch.sigmoid(rejected)


def apo_down(chosen: torch.Tensor, rejected: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """Compute APO-down (D'Oosterlinck et al., 2408.06266, equation 8): sigmoid(r_w) - sigmoid(h), plus 1.

    For completions worse than the policy's: both become less likely, the rejected more so.
    """
    return torch.sigmoid(chosen) + torch.sigmoid(rejected - chosen)


def kto(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    margin: torch.Tensor,
    *,
    point: float = 0.0,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> torch.Tensor:
    """Compute KTO (Ethayarajh et al., 2402.01306, equation 8): lambda - v(x, y), for each completion.

    lambda_D (1 - sigmoid(r_w - point)) for a desirable one, lambda_U (1 - sigmoid(point - r_l)) for an undesirable one.
    `point` is beta z0 (`training.engine.optimize.mismatching`), through which no gradient goes.
    """
    desirable, undesirable = torch.sigmoid(point - chosen), torch.sigmoid(rejected - point)
    return desirable_weight * desirable + undesirable_weight * undesirable


def regress(gain: torch.Tensor, gap: torch.Tensor) -> torch.Tensor:
    """Compute REBEL (Gao et al., 2404.16767, algorithm 1): (gain - gap)^2, here an eighth of it.

    `gain` is log pi(y_w|x) / ref(y_w|x) - log pi(y_l|x) / ref(y_l|x). Where all gaps are differences of a score over
    beta, the policy with no loss is ref * exp(score / beta) / Z. An eighth is the curvature of DPO's loss at h = 0.
    """
    return (gain - gap).square() / 8


# Losses of the difference h of the rewards ...
OF_DIFFERENCE: dict[str, Callable[..., torch.Tensor]] = {
    "sigmoid": sigmoid,
    "sigmoid_norm": sigmoid,  # of rewards per token: Tulu 3 (Lambert et al., 2411.15124, equation 6)
    "odpo": odpo,
    "robust": robust,
    "ipo": ipo,
    "ipo_norm": ipo,  # of rewards per token, as TRL computes its "ipo"
    "hinge": hinge,
    "simpo": simpo,
    "rao_kupper": rao_kupper,
    "davidson": davidson,
}
# ... and of both, for a certain preference.
OF_BOTH: dict[str, Callable[..., torch.Tensor]] = {
    "dpop": dpop,
    "apo_zero": apo_zero,
    "apo_down": apo_down,
    "kto": kto,
}


def make_loss(config: TrainConfig, z0: float = 0.0) -> Loss:
    """Return the configured loss as a function of rewards (B, 2), label (B,) and margin (B,).

    `z0` is KTO's estimate of the divergence from the reference, in nats. Raises ConfigError if the loss is unknown.
    """
    known = OF_DIFFERENCE | OF_BOTH
    function = known.get(config.loss)
    if function is None:
        sentence = f"Unknown loss {config.loss!r}; it must be one of {', '.join(known)}."
        raise ConfigError("loss", sentence, separator=None)
    options: dict[str, Any] = {
        name: value
        for name in sorted(LOSS_OPTIONS[config.loss] - {"margin"})
        if (value := getattr(config, name)) is not None
    }
    if config.loss in ("ipo", "ipo_norm"):
        options["beta"] = config.beta
    if config.loss in OF_RATINGS:
        options["point"] = config.beta * z0

    def of_difference(rewards: torch.Tensor, label: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
        return function(rewards[:, 0] - rewards[:, 1], label, margin, **options)

    def of_both(rewards: torch.Tensor, label: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
        chosen, rejected = rewards.unbind(dim=1)
        kept, flipped = (
            function(chosen, rejected, margin, **options),
            function(rejected, chosen, margin, **options),
        )
        return label * kept + (1 - label) * flipped

    return of_both if config.loss in OF_BOTH else of_difference


def accuracy(h: torch.Tensor) -> float:
    """Return the share of margins (B,) above 0; a tie counts half."""
    return float(((h > 0).double() + 0.5 * (h == 0).double()).mean())


def check_honoured(config: TrainConfig, pairs: Sequence[EncodedPair]) -> None:
    """Refuse pairs with a margin that the loss would ignore, and ratings it cannot use.

    Raises ConfigError naming the pair.
    """
    rating = next((pair for pair in pairs if len(pair.completions) == 1), None)
    if rating is not None and config.loss not in OF_RATINGS:
        able = " or ".join(sorted(OF_RATINGS))
        message = (
            f"Pair {rating.id} is a single rated completion, of which loss {config.loss!r} learns nothing;"
            f" use {able}."
        )
        raise ConfigError("loss", message, separator=None)
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
