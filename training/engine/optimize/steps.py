"""One optimizer step: rows of pairs to losses, gradients, and new adapter weights.

Knows nothing of files. A step is one update over `batch_size` pairs. Each of its rows is one forward and
backward. Gradients are sums over pairs divided by the number of pairs in the step, whatever the rows,
processes, or a short last batch. So none of them changes the update.
"""

import math
import random
from dataclasses import dataclass
from typing import Any

import torch

from training.engine.data.packing import PairRow
from training.engine.optimize.losses import accuracy, count_terms, make_loss, regress, rewards, settle
from training.engine.optimize.mismatching import reference_point
from training.engine.optimize.state import State
from training.engine.optimize.task import Task


@dataclass(frozen=True)
class StepFigures:
    """Measurements of one step's batch, under the weights before its update."""

    # Per pair, (7, B): weighted loss, log-probabilities of chosen and rejected, their gains over the reference, and
    # their rewards as the loss measures them.
    pairs: torch.Tensor
    norm: torch.Tensor  # of the whole gradient, before it is scaled down
    tokens: int  # fed, padding included
    z0: float | None = None  # KTO's reference point

    @property
    def is_finite(self) -> bool:
        """True if the weights may be updated with this gradient."""
        return bool(torch.isfinite(self.norm)) and bool(torch.isfinite(self.pairs).all())


def backward(task: Task, state: State) -> StepFigures:
    """Set the gradient of every adapter weight for the next step, the same in every process.

    Where it overflows in float16, it is computed again with a lower scale.
    """
    while True:
        figures = _scaled_backward(task, state)
        overflows = not figures.is_finite and bool(torch.isfinite(figures.pairs).all())
        if not (overflows and state.scale and state.scale.lower()):
            return figures


def _scaled_backward(task: Task, state: State) -> StepFigures:
    state.optimizer.zero_grad(set_to_none=True)
    torch.manual_seed(_step_seed(task.config.seed, state.step, task.processes.rank))  # for dropout
    rows = task.rows(state.step)
    batch = [pair for row in rows for pair in row.pairs]
    place = {pair: at for at, pair in enumerate(batch)}
    figures = torch.zeros(7, len(batch), dtype=torch.float64, device=task.scorer.device)
    z0 = reference_point(task, task.batch(state.step)) if task.mismatched else None
    scale = state.scale.value if state.scale else 1.0
    terms = count_terms(task.config, [task.pairs[at] for at in batch])
    with task.scorer.dropout():
        for row, counts in task.processes.mine(rows):
            losses, found = pair_losses(task, row, z0 or 0.0)
            (losses.sum() / terms * counts * scale).backward()
            if counts:
                figures[:, [place[pair] for pair in row.pairs]] = found
    gradients = [_gradient(weight) for weight in state.parameters.values()]
    task.processes.add_up(gradients)
    if state.scale:
        torch._foreach_div_(gradients, scale)
    task.processes.add_up([figures])
    norm = torch.nn.utils.get_total_norm(gradients)
    return StepFigures(figures, norm, tokens=sum(row.tokens for row in rows), z0=z0)


def pair_losses(task: Task, row: PairRow, z0: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted losses (B,) of a row's pairs, and their `StepFigures.pairs` (7, B), detached."""
    device, pairs = task.scorer.device, [task.pairs[at] for at in row.pairs]
    facts = [[getattr(pair, name) for pair in pairs] for name in ("label", "margin", "weight")]
    label, margin, weight = torch.tensor(facts, dtype=torch.float64, device=device)
    reference = task.reference[torch.tensor(row.pairs, device=device)]
    lengths = row.lengths.to(device).reshape(-1, 2)
    logps = torch.stack(task.scorer.pair_logps(row), dim=1)
    found = rewards(task.config, logps, reference, lengths)
    losses = make_loss(task.config, z0)(settle(found, lengths), label, margin)
    if any(pair.gap is not None for pair in pairs):
        gaps = [math.nan if pair.gap is None else pair.gap for pair in pairs]
        losses = _with_gaps(losses, logps - reference, torch.tensor(gaps, dtype=torch.float64, device=device))
    if task.config.nll_weight:
        losses = losses - task.config.nll_weight * logps[:, 0] / lengths[:, 0].clamp(min=1)
    losses = weight * losses
    return losses, torch.cat([losses[None], logps.T, (logps - reference).T, found.T]).detach()


def _with_gaps(losses: torch.Tensor, gains: torch.Tensor, gaps: torch.Tensor) -> torch.Tensor:
    """Return the losses (B,), where a pair with a gap, which is not nan, has that of its gains (B, 2) instead."""
    asked = gaps.isfinite()
    return torch.where(asked, regress(gains[:, 0] - gains[:, 1], gaps.nan_to_num()), losses)


def update(task: Task, state: State, figures: StepFigures) -> None:
    """Take the step with the gradient that `backward` set, or count it as skipped if that is not finite."""
    if figures.is_finite:
        if task.config.max_grad_norm:
            weights = state.parameters.values()
            torch.nn.utils.clip_grads_with_norm_(weights, task.config.max_grad_norm, figures.norm)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(task, state.step)
        state.optimizer.step()
        if state.scale:
            state.scale.hold()
    else:
        state.skipped += 1
    state.step += 1


def learning_rate(task: Task, step: int) -> float:
    """Return the learning rate of step `step`, from 0: linear warm-up, then the schedule down to 0 at the end."""
    peak, warmup = task.config.learning_rate, task.config.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    left = (task.total_steps - step) / max(1, task.total_steps - warmup)
    if task.config.schedule == "linear":
        return peak * left
    if task.config.schedule == "cosine":
        return peak * (1 - math.cos(math.pi * left)) / 2
    return peak


def step_metrics(task: Task, state: State, figures: StepFigures) -> dict[str, Any]:
    """Return the metrics of the step that `update` took last, under TRL's keys where it has them.

    They are means over the step's pairs, or over those of its ratings that have such a completion. A number that is not
    finite is None.
    """
    pairs = figures.pairs.cpu()
    batch = [task.pairs[at] for at in task.batch(state.step - 1)]
    better, worse = sum(bool(one.chosen) for one in batch), sum(bool(one.rejected) for one in batch)
    counts = [count_terms(task.config, batch), *(better, worse) * 3]
    means = [
        total / count if count else math.nan
        for total, count in zip(pairs.sum(dim=1).tolist(), counts, strict=True)
    ]
    loss, chosen, rejected, displacement, _, chosen_reward, rejected_reward = means
    h = pairs[5] - pairs[6]
    weights = torch.sigmoid(-h)
    quantiles = weights.nan_to_num().quantile(torch.tensor([0.1, 0.5, 0.9], dtype=weights.dtype)).tolist()
    metrics = {
        "step": state.step,
        "epoch": state.step / task.steps_per_epoch,
        "loss": loss,
        "rewards/chosen": chosen_reward,
        "rewards/rejected": rejected_reward,
        "rewards/margins": chosen_reward - rejected_reward,
        "rewards/accuracies": accuracy(h),
        "logps/chosen": chosen,
        "logps/rejected": rejected,
        "displacement": displacement,
        "kl": -float(pairs[3:5].sum()) / (better + worse),
        "weights/p10": quantiles[0],
        "weights/p50": quantiles[1],
        "weights/p90": quantiles[2],
        "lengths/chosen": sum(len(pair.chosen) for pair in batch) / better if better else math.nan,
        "lengths/rejected": sum(len(pair.rejected) for pair in batch) / worse if worse else math.nan,
        "grad_norm": float(figures.norm) if figures.is_finite else math.nan,
        "learning_rate": learning_rate(task, state.step - 1),
        "skipped": state.skipped,
        "tokens": figures.tokens,
    }
    metrics |= {} if figures.z0 is None else {"z0": figures.z0}
    metrics |= {"loss_scale": state.scale.value} if state.scale else {}
    return {key: value if math.isfinite(value) else None for key, value in metrics.items()}


def _gradient(weight: torch.nn.Parameter) -> torch.Tensor:
    """Return a weight's gradient; zeros where this process had no row."""
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Return a seed for one step of one process, so that a resumed run draws the numbers it would have drawn."""
    return random.Random(f"{seed}:{step}:{rank}").getrandbits(63)
