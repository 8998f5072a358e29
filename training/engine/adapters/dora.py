"""DoRA layers (Liu et al., 2402.09353): a LoRA layer whose weight has a magnitude of its own for each output.

With V = W + s B A, whose rows have the norms n, and the magnitudes m:

    y = (m / n) * (x V^T) + bias

The norms are a constant to the gradient, as in section 4.3 of the paper and in PEFT. The product is kept in float32
until it is scaled, so that a small change of a magnitude is not rounded away, and y is rounded once. Backward keeps x
alone.
PEFT computes layers with dropout, which reaches its magnitudes, too.
"""

from typing import Any

import torch
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.lora.variants import DoraLinearVariant

from training.engine.adapters.factors import Factors


class DoraProduct(torch.autograd.Function):
    """x (T, I) through one layer: (T, O)."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, magnitude: torch.Tensor, norms: torch.Tensor, *layer: Any
    ) -> torch.Tensor:
        """Return the layer's output; `layer` is what `Factors` holds, the adapter in float32, without dropout."""
        cast = Factors(*layer).cast(x.dtype)
        ctx.save_for_backward(x, magnitude, norms, cast.weight, cast.a, cast.b)
        ctx.rest, ctx.rank = cast[4:], len(layer[2])
        y = cast.wide(x).mul_(magnitude / norms)
        return (y if cast.bias is None else y.add_(cast.bias)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, the magnitudes, a and b."""
        x, magnitude, norms, weight, a, b = ctx.saved_tensors
        layer = Factors(weight, None, a, b, *ctx.rest)
        dy = upstream[0].float()
        dmagnitude = (dy * layer.wide(x)).sum(dim=0).div_(norms)
        dv = (dy * (magnitude / norms)).to(x.dtype)
        dx, da, db = layer.backward(dv, x, None, ctx.needs_input_grad[0])
        return dx, dmagnitude, None, None, None, da[: ctx.rank], db[:, : ctx.rank], None, None, None


def dora_layer(layer: Any, name: str) -> Any:
    """Return the magnitudes of the adapter `name` beside a linear layer, or None if it is of another kind."""
    if not isinstance(layer.lora_variant.get(name), DoraLinearVariant):
        return None
    found = layer.lora_magnitude_vector[name]
    return found if type(found) is DoraLinearLayer else None
