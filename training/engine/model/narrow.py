"""Frozen weights kept as they are stored, in half precision, and widened as they are multiplied in float32.

The numbers are those of a model loaded in float32, as widening is exact; the memory of the weights is half of it,
and mapped from the file, so that processes share it. Widening a matrix costs what multiplying some ten tokens by it
does. Small weights, and those of layers that are not known here, are widened once, when the model is loaded.
"""

import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional

_LARGE = 1 << 20  # weights of a matrix that is kept narrow
_AT_ONCE = 1 << 24  # weights that are widened at once: the head's matrix may be larger than all others
_NARROW = {"BF16": torch.bfloat16, "F16": torch.float16}


class NarrowProduct(torch.autograd.Function):
    """x (..., I) by a narrower frozen weight (O, I): y (..., O), keeping no widened copy for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Return x W^T + bias."""
        ctx.save_for_backward(weight)
        y = torch.cat([functional.linear(x, part.to(x.dtype)) for part in _parts(weight)], dim=-1)
        return y if bias is None else y.add_(bias)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return the gradient of x."""
        (weight,), dy = ctx.saved_tensors, upstream[0]
        slopes = dy.split(_rows(weight), dim=-1)
        dx = slopes[0].new_zeros(*dy.shape[:-1], weight.shape[1])
        for slope, part in zip(slopes, _parts(weight), strict=True):
            dx += slope @ part.to(dy.dtype)
        return dx, None, None


def _rows(weight: torch.Tensor) -> int:
    """Return how many rows of a matrix are widened at once."""
    return max(1, _AT_ONCE // weight.shape[1])


def _parts(weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return weight.split(_rows(weight))


def stored_dtype(files: Iterable[Path]) -> torch.dtype | None:
    """Return the half precision in which all weights in some safetensors files are stored; None if there is none."""
    kinds = set()
    for path in files:
        with safe_open(path, framework="pt") as weights:
            kinds |= {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118 - not a dict
    return _NARROW.get(kinds.pop()) if len(kinds) == 1 else None


def widen(model: nn.Module, dtype: torch.dtype) -> bool:
    """Make a frozen model that was loaded in half precision compute in `dtype`, exactly; False if it cannot.

    It cannot where the architecture made a constant in half precision, which is rounded already.
    """
    if any(buffer.is_floating_point() and buffer.dtype != dtype for buffer in model.buffers()):
        return False
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            if type(module) not in _FORWARDS or weight.numel() < _LARGE:
                weight.data = weight.data.to(dtype)
    for module in model.modules():
        forward = _FORWARDS.get(type(module))
        if forward and module.weight.dtype != dtype:
            module.forward = types.MethodType(forward(dtype), module)
    return True


def accept_wider_inputs(layer: nn.Linear) -> None:
    """Let a frozen layer multiply inputs of its own precision as it did, and wider ones in theirs."""
    layer.forward = types.MethodType(_wider, layer)  # type: ignore[method-assign]


def _wider(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    if x.dtype == layer.weight.dtype:
        return nn.Linear.forward(layer, x)
    y: torch.Tensor = NarrowProduct.apply(x, layer.weight, layer.bias)
    return y


def _linear(dtype: torch.dtype) -> Callable[..., torch.Tensor]:
    def forward(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = NarrowProduct.apply(x, layer.weight, layer.bias)
        return y

    return forward


def _embedding(dtype: torch.dtype) -> Callable[..., torch.Tensor]:
    def forward(layer: nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
        return functional.embedding(ids, layer.weight).to(dtype)

    return forward


_FORWARDS = {nn.Linear: _linear, nn.Embedding: _embedding}
