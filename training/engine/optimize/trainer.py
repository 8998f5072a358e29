"""One optimizer step: rows of pairs to losses, gradients, and new adapter weights.

Knows nothing of files. A `step` is one update over `batch_size` pairs; each of its rows is one forward and
backward. Gradients are sums over pairs divided by the number of pairs in the step, whatever the rows,
processes, or a short last batch, so that none of them changes the update.
"""

import math
import random
from collections.abc import Sequence
from typing import Any

import torch

from training.engine.adapters.loading import trainable_parameters
from training.engine.config import TrainConfig
from training.engine.data.packing import Row
from training.engine.data.tokens import EncodedPair
from training.engine.errors import StaleCheckpointError
from training.engine.model.logps import Scorer
from training.engine.optimize.distributed import Processes
from training.engine.optimize.losses import make_loss

# Per pair, in this order: what a step's metrics are averaged from.
_COLUMNS = ("loss", "chosen", "rejected", "chosen_gain", "rejected_gain")


class Trainer:
    """Owns the adapter's optimizer, and turns steps into metrics."""

    def __init__(
        self,
        config: TrainConfig,
        model: Any,
        scorer: Scorer,
        pairs: Sequence[EncodedPair],
        processes: Processes,
    ) -> None:
        self.config, self.scorer, self.pairs, self.processes = config, scorer, pairs, processes
        self.parameters = trainable_parameters(model)
        self.optimizer = _optimizer(config, list(self.parameters.values()))
        self.loss = make_loss(config)
        self.steps_per_epoch = math.ceil(len(pairs) / config.batch_size)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.skipped = 0
        self._epoch, self._order = -1, list[int]()
        device = scorer.device
        self.labels = torch.tensor([pair.label for pair in pairs], dtype=torch.float64, device=device)
        self.margins = torch.tensor([pair.margin for pair in pairs], dtype=torch.float64, device=device)
        self.weights = torch.tensor([pair.weight for pair in pairs], dtype=torch.float64, device=device)
        self.reference = torch.empty(0)

    def set_reference(self, logps: torch.Tensor) -> None:
        """Measure against these log-probabilities (pairs, 2) of chosen and rejected completions."""
        self.reference = logps.to(self.scorer.device)

    def batch(self, step: int) -> list[int]:
        """Positions of the pairs of optimizer step `step`, from 0: each epoch in an order of its own."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = epoch_order(self.config.seed, epoch, len(self.pairs))
            self._epoch = epoch
        return self._order[within * self.config.batch_size : (within + 1) * self.config.batch_size]

    def groups(self, step: int) -> list[list[int]]:
        """Which pairs of optimizer step `step` share a row, the same in every process."""
        return self.scorer.groups(self.pairs, self.batch(step), at_least=self.processes.world)

    def rows(self, step: int) -> list[Row]:
        """The rows of optimizer step `step`."""
        return list(self.scorer.rows(self.pairs, self.groups(step)))

    def learning_rate(self, step: int) -> float:
        """Learning rate of step `step`, from 0: linear warm-up, then the schedule down to 0 at the end."""
        peak, warmup = self.config.learning_rate, self.config.warmup_steps
        if step < warmup:
            return peak * (step + 1) / warmup
        left = (self.total_steps - step) / max(1, self.total_steps - warmup)
        if self.config.schedule == "linear":
            return peak * left
        if self.config.schedule == "cosine":
            return peak * (1 - math.cos(math.pi * left)) / 2
        return peak

    def pair_losses(self, row: Row) -> tuple[torch.Tensor, torch.Tensor]:
        """Weighted losses (B,) of a row's pairs, and what the metrics need of them, (5, B), detached."""
        at = torch.tensor(row.pairs, device=self.scorer.device)
        chosen, rejected = self.scorer.pair_logps(row)
        chosen_gain = chosen - self.reference[at, 0]
        rejected_gain = rejected - self.reference[at, 1]
        h = self.config.beta * (chosen_gain - rejected_gain)
        losses = self.loss(h, self.labels[at], self.margins[at])
        if self.config.nll_weight:
            lengths = row.lengths[0::2].to(self.scorer.device)
            losses = losses - self.config.nll_weight * chosen / lengths
        losses = self.weights[at] * losses
        kept = torch.stack([losses, chosen, rejected, chosen_gain, rejected_gain])
        return losses, kept.detach()

    def gradients(self, step: int) -> tuple[torch.Tensor, int]:
        """Set every parameter's gradient for `step`. Returns figures (5, pairs of the step) and tokens fed."""
        self.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(_step_seed(self.config.seed, step, self.processes.rank))  # for dropout
        rows = self.rows(step)
        count = sum(len(row.pairs) for row in rows)
        place = {pair: at for at, pair in enumerate(pair for row in rows for pair in row.pairs)}
        figures = torch.zeros(len(_COLUMNS), count, dtype=torch.float64, device=self.scorer.device)
        with self.scorer.dropout():
            for row, counts in self.processes.mine(rows):
                losses, kept = self.pair_losses(row)
                (losses.sum() / count * counts).backward()
                if counts:
                    figures[:, [place[pair] for pair in row.pairs]] = kept
        for weight in self.parameters.values():
            if weight.grad is None:  # this process had no row
                weight.grad = torch.zeros_like(weight)
        self.processes.add_up(weight.grad for weight in self.parameters.values() if weight.grad is not None)
        self.processes.add_up([figures])
        return figures, sum(row.tokens for row in rows)

    def step(self, step: int) -> dict[str, Any]:
        """Compute optimizer step `step` up to its gradient, and its metrics; `apply` then makes the update."""
        figures, tokens = self.gradients(step)
        rate = self.learning_rate(step)
        norm = torch.nn.utils.get_total_norm(
            [weight.grad for weight in self.parameters.values() if weight.grad is not None]
        )
        finite = bool(torch.isfinite(norm)) and bool(torch.isfinite(figures).all())
        self._pending = finite, norm, rate
        return self._metrics(step, figures) | {
            "grad_norm": float(norm) if finite else None,
            "learning_rate": rate,
            "skipped": self.skipped + (not finite),
            "tokens": tokens,
        }

    def apply(self) -> None:
        """Update the weights with the gradient of the last `step`, or count it as skipped."""
        finite, norm, rate = self._pending
        if not finite:
            self.skipped += 1
            return
        limit = self.config.max_grad_norm
        if limit:
            torch.nn.utils.clip_grads_with_norm_(self.parameters.values(), limit, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()

    def _metrics(self, step: int, figures: torch.Tensor) -> dict[str, Any]:
        """Means over the pairs of a step, under TRL's keys where it has them; null where not finite."""
        figures = figures.cpu()
        loss, chosen, rejected, chosen_gain, rejected_gain = figures.mean(dim=1).tolist()
        beta = self.config.beta
        h = beta * (figures[3] - figures[4])
        weights = torch.sigmoid(-h)
        quantiles = weights.nan_to_num().quantile(torch.tensor([0.1, 0.5, 0.9], dtype=weights.dtype)).tolist()
        batch = [self.pairs[at] for at in self.batch(step)]
        metrics = {
            "step": step + 1,
            "epoch": (step + 1) / self.steps_per_epoch,
            "loss": loss,
            "rewards/chosen": beta * chosen_gain,
            "rewards/rejected": beta * rejected_gain,
            "rewards/margins": beta * (chosen_gain - rejected_gain),
            "rewards/accuracies": accuracy(h),
            "logps/chosen": chosen,
            "logps/rejected": rejected,
            "displacement": chosen_gain,
            "kl": -(chosen_gain + rejected_gain) / 2,
            "weights/p10": quantiles[0],
            "weights/p50": quantiles[1],
            "weights/p90": quantiles[2],
            "lengths/chosen": sum(len(pair.chosen) for pair in batch) / len(batch),
            "lengths/rejected": sum(len(pair.rejected) for pair in batch) / len(batch),
        }
        return {key: value if math.isfinite(value) else None for key, value in metrics.items()}

    def state(self) -> dict[str, torch.Tensor]:
        """Adapter and optimizer as tensors by name, and the number of skipped steps."""
        tensors = {f"adapter.{name}": weight.detach().cpu() for name, weight in self.parameters.items()}
        for name, weight in self.parameters.items():
            for key, value in self.optimizer.state[weight].items():
                tensors[f"optimizer.{key}.{name}"] = value.detach().cpu()
        tensors["skipped"] = torch.tensor(self.skipped)
        return {name: tensor.contiguous() for name, tensor in tensors.items()}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go on from what `state` returned. Raises StaleCheckpointError if it is that of another adapter."""
        names = {name.removeprefix("adapter.") for name in tensors if name.startswith("adapter.")}
        if names != self.parameters.keys():
            raise StaleCheckpointError(
                "The checkpoints belong to an adapter of other layers; remove them to start over."
            )
        self.skipped = int(tensors["skipped"])
        with torch.no_grad():
            for name, weight in self.parameters.items():
                weight.copy_(tensors[f"adapter.{name}"])
        for name, weight in self.parameters.items():
            held = {
                key.split(".", 2)[1]: value
                for key, value in tensors.items()
                if key.startswith("optimizer.") and key.split(".", 2)[2] == name
            }
            if held:
                self.optimizer.state[weight] = {
                    key: value.clone() if key == "step" else value.to(weight.device)
                    for key, value in held.items()
                }


def epoch_order(seed: int, epoch: int, count: int) -> list[int]:
    """The order in which `count` pairs are trained on in `epoch`, from 0."""
    order = list(range(count))
    random.Random(f"{seed}:{epoch}").shuffle(order)
    return order


def accuracy(h: torch.Tensor) -> float:
    """Share of margins (B,) above 0; a tie counts half."""
    return float(((h > 0).double() + 0.5 * (h == 0).double()).mean())


def _optimizer(config: TrainConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    # On CUDA the usual form is as fast, and keeps its count of steps on the CPU, as a checkpoint does.
    fused = all(weight.device.type == "cpu" for weight in parameters)
    return torch.optim.AdamW(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused
    )


def _step_seed(seed: int, step: int, rank: int) -> int:
    """A seed for one step of one process, so that a resumed run draws the numbers it would have drawn."""
    return random.Random(f"{seed}:{step}:{rank}").getrandbits(63)
