"""The precision that merged weights are written in: each weight is rounded to it once, and must fit."""

from typing import Any

import torch
from torch import nn

from training.engine.errors import ModelError

_AT_ONCE = 1 << 24  # weights that are compared at once
_COARSEST = 2.0**-9  # of a weight's norm: what rounding to bfloat16 can cost


class Rounding:
    """Rounds the weights of a model that are `stored` in one precision to the one that is `wanted`.

    A weight that its architecture keeps in another precision than `stored` stays in it.
    """

    def __init__(self, model: nn.Module, stored: torch.dtype, wanted: torch.dtype) -> None:
        self.stored, self.wanted = stored, wanted
        self.names = {id(weight): name for name, weight in model.named_parameters()}

    def round(self, weight: nn.Parameter, before: torch.dtype) -> None:
        """Round a merged weight, which was in the precision `before`. Raises ModelError, naming the weight."""
        wanted = self.wanted if before == self.stored else before
        rounded = weight.data.to(wanted)
        if wanted == torch.float16:
            self._check_fit(weight, rounded, is_narrower=wanted != before)
        weight.data = rounded

    def round_rest(self, model: Any) -> None:
        """Round what no adapter changed, and write the precision into the configuration. Raises ModelError."""
        for weight in model.parameters():
            self.round(weight, weight.dtype)
        parts = [model.config, *(getattr(model.config, name, None) for name in model.config.sub_configs)]
        for part in parts:
            if part is not None:
                part.dtype = self.wanted

    def _check_fit(self, weight: nn.Parameter, rounded: torch.Tensor, *, is_narrower: bool) -> None:
        """Refuse what float16 cannot hold: values that become infinite, or so small that bfloat16 is the finer one."""
        lost = whole = 0.0
        parts = zip(*(one.flatten().split(_AT_ONCE) for one in (weight.data, rounded)), strict=True)
        for before, after in parts:
            if not bool(after.isfinite().all()):
                raise self._refusal(
                    weight, f"beyond {torch.finfo(torch.float16).max:,.0f}, the largest of float16"
                )
            if is_narrower:
                lost += float((after.float() - before).square().sum())
                whole += float(before.float().square().sum())
        if lost > whole * _COARSEST**2:
            raise self._refusal(weight, "too small for float16, which would round them away")

    def _refusal(self, weight: nn.Parameter, why: str) -> ModelError:
        return ModelError(
            f"Weight {self.names.get(id(weight), 'of the model')} has values {why}. Merge in float32."
        )
