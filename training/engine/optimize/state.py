"""The state of a training: all that a step changes, and all that a checkpoint keeps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from training.engine.adapters.loading import trainable_parameters
from training.engine.config import TrainConfig
from training.engine.errors import StaleCheckpointError

_STEADY = 1000  # steps after which a larger loss scale is tried
_MAGNITUDE = "lora_magnitude_vector"


@dataclass
class LossScale:
    """The factor on the loss in float16, so that small gradients are not rounded to 0.

    It is a power of two, which changes no digit. Where the gradient overflows it is halved and the step computed again.
    After many steps that did not, it is doubled.
    """

    value: float = 2.0**16
    steady: int = 0  # steps since it changed

    def lower(self) -> bool:
        """Halve the scale, and return whether that was possible."""
        if self.value <= 1:
            return False
        self.value, self.steady = self.value / 2, 0
        return True

    def hold(self) -> None:
        """Count a step that did not overflow."""
        self.steady += 1
        if self.steady == _STEADY:
            self.value, self.steady = self.value * 2, 0


@dataclass
class Best:
    """The best held-out loss so far, its step, and the adapter that had it."""

    loss: float = math.inf
    step: int = 0
    waited: int = 0  # evaluations since
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def consider(self, loss: float, step: int, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        """Take note of an evaluation. One that is not finite is none."""
        if loss < self.loss:
            copies = {name: weight.detach().cpu().clone() for name, weight in parameters.items()}
            self.loss, self.step, self.waited, self.weights = loss, step, 0, copies
        else:
            self.waited += 1


@dataclass
class State:
    """The adapter's weights, their optimizer, and the steps so far."""

    parameters: dict[str, torch.nn.Parameter]  # the adapter's, by name
    optimizer: torch.optim.Optimizer
    step: int = 0  # optimizer steps done, skipped ones among them
    skipped: int = 0  # steps whose loss or gradient was not finite
    evaluated: int = 0  # the step of the last line of evals.jsonl
    scale: LossScale | None = None  # in float16 alone
    best: Best | None = None  # where the held-out loss decides what is kept, or when to stop

    @classmethod
    def initial(cls, config: TrainConfig, model: Any, dtype: torch.dtype = torch.float32) -> Self:
        """Return the state before the first step of a model that computes in `dtype`."""
        parameters = trainable_parameters(model)
        scale = LossScale() if dtype == torch.float16 else None
        best = Best() if config.keep == "best" or config.early_stop else None
        return cls(parameters, _optimizer(config, parameters), scale=scale, best=best)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return adapter and optimizer as tensors by name, and the number of skipped steps."""
        found = {f"adapter.{name}": weight.detach().cpu() for name, weight in self.parameters.items()}
        for name, weight in self.parameters.items():
            for key, value in self.optimizer.state[weight].items():
                found[f"optimizer.{key}.{name}"] = value.detach().cpu()
        found["skipped"] = torch.tensor(self.skipped)
        if self.scale:
            found["scale"] = torch.tensor([self.scale.value, self.scale.steady], dtype=torch.float64)
        if self.best:
            known = [self.best.loss, self.best.step, self.best.waited]
            found["best"] = torch.tensor(known, dtype=torch.float64)
            found |= {f"best.{name}": weight for name, weight in self.best.weights.items()}
        return {name: tensor.contiguous() for name, tensor in found.items()}

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over what `tensors` returned. Raises StaleCheckpointError if it is that of another adapter."""
        names = {name.removeprefix("adapter.") for name in tensors if name.startswith("adapter.")}
        if names != self.parameters.keys():
            raise StaleCheckpointError(
                "The checkpoints belong to an adapter of other layers; remove them to start over."
            )
        self.skipped = int(tensors["skipped"])
        if self.scale:
            value, steady = tensors["scale"].tolist()
            self.scale = LossScale(value, int(steady))
        if self.best:
            loss, step, waited = tensors["best"].tolist()
            weights = {
                name.removeprefix("best."): one for name, one in tensors.items() if name.startswith("best.")
            }
            self.best = Best(loss, int(step), int(waited), weights)
        self.place({name: tensors[f"adapter.{name}"] for name in self.parameters})
        for name, weight in self.parameters.items():
            held = {
                key.split(".", 2)[1]: value
                for key, value in tensors.items()
                if key.startswith("optimizer.") and key.split(".", 2)[2] == name
            }
            if held:
                counter = weight.device if self.optimizer.defaults.get("fused") else torch.device("cpu")
                self.optimizer.state[weight] = {
                    key: value.to(counter if key == "step" else weight.device, copy=True)
                    for key, value in held.items()
                }

    def place(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Put weights by name into the adapter."""
        with torch.no_grad():
            for name, weight in self.parameters.items():
                weight.copy_(weights[name])


def _optimizer(config: TrainConfig, parameters: dict[str, torch.nn.Parameter]) -> torch.optim.Optimizer:
    # A magnitude (DoRA) is as large as the weights that it scales: decay would shrink the model itself.
    decaying = [weight for name, weight in parameters.items() if _MAGNITUDE not in name]
    others = [weight for name, weight in parameters.items() if _MAGNITUDE in name]
    groups: list[dict[str, Any]] = [{"params": decaying, "weight_decay": config.weight_decay}]
    groups += [{"params": others, "weight_decay": 0.0}] if others else []
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=config.learning_rate)
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)  # a few kernels for all weights
