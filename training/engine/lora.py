"""LoRA layers computed as one product with a short update, in the base model's precision.

PEFT's own forward widens the input to the adapter's float32, and scales and adds in passes of their own over the
layer's whole output, which on a CPU takes longer than the frozen product itself. Here the adapter's product is
accumulated into that of the frozen weight (y = x W^T + s (x A^T) B^T), and backward keeps x and x A^T alone.
The adapter's weights stay float32, as do their gradients; they are multiplied in the precision of x.

What this does not cover is left to PEFT: dropout, quantized or transposed base weights, variants such as DoRA.
"""

import types
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import nn
from torch.nn import functional


class _Product(torch.autograd.Function):
    """x (T, I), frozen weight (O, I) and bias (O,), adapter a (r, I), b (O, r): y (T, O)."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes the inputs by position
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """Return x W^T + bias + scale (x A^T) B^T."""
        narrow_a, narrow_b = a.to(x.dtype), b.to(x.dtype)
        low = x @ narrow_a.t()
        y = functional.linear(x, weight, bias)
        y.addmm_(low, narrow_b.t(), alpha=scale)
        ctx.save_for_backward(x, weight, narrow_a, narrow_b, low)
        ctx.scale, ctx.adapter_dtype = scale, a.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, a and b."""
        x, weight, a, b, low = ctx.saved_tensors
        dy = upstream[0]
        dlow = (dy @ b).mul_(ctx.scale)
        da = (dlow.t() @ x).to(ctx.adapter_dtype)
        db = (dy.t() @ low).to(ctx.adapter_dtype).mul_(ctx.scale)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = dy @ weight
            dx.addmm_(dlow, a)
        return dx, None, None, da, db, None


def fuse(model: nn.Module) -> None:
    """Let every plain LoRA layer of a PEFT model compute this way; adapters may still be switched or disabled."""
    for layer in model.modules():
        if isinstance(layer, Linear) and type(layer.base_layer) is nn.Linear:
            layer.forward = types.MethodType(_forward, layer)


def _forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """The layer's forward with the one active adapter, or PEFT's where there is more to it."""
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if args or kwargs or layer.disable_adapters or layer.merged or len(active) != 1:
        return type(layer).forward(layer, x, *args, **kwargs)
    name, base = active[0], layer.base_layer
    plain = isinstance(layer.lora_dropout[name], nn.Identity) and not layer.lora_bias[name]
    if not plain or name in layer.lora_variant or x.dtype != base.weight.dtype:
        return type(layer).forward(layer, x)
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    y = _Product.apply(x.flatten(0, -2), base.weight, base.bias, a, b, layer.scaling[name])
    return y.view(*x.shape[:-1], -1)
