"""LoRA layers computed as one product with a short update, in the base model's precision.

PEFT's own forward widens the input to the adapter's float32, and scales and adds in passes of their own over the
layer's whole output, which on a CPU takes longer than the frozen product itself. Here the adapter's product is
accumulated into that of the frozen weight (y = x W^T + s (x A^T) B^T), or for long rows in float32 the adapter
into the weight (y = x (W + s B A)^T); backward keeps x alone.
The adapter's weights stay float32, as do their gradients; they are multiplied in the precision of x. In a gated
feed-forward block the last layer's x, the widest of all, is computed again from what it is the product of.

What this does not cover is left to PEFT: dropping inputs, quantized or transposed base weights, variants such as DoRA.
"""

import types
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import Linear
from torch import nn
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaMLP


class _Layer(NamedTuple):
    """A frozen weight (O, I) and bias (O,) with its adapter a (r, I), b (O, r), in the precision of the input.

    A weight that is narrower (`training.engine.stored`) is widened in each pass anew.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    a: torch.Tensor
    b: torch.Tensor
    scale: float

    def cast(self, dtype: torch.dtype) -> "_Layer":
        """The same with the adapter in `dtype`."""
        return self._replace(a=self.a.to(dtype), b=self.b.to(dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(T, O): x W^T + bias + scale (x A^T) B^T."""
        if self._merges(x):
            return functional.linear(x, self._merged(x), self.bias)
        y = functional.linear(x, self.weight.to(x.dtype), self.bias)
        return y.addmm_(x @ self.a.t(), self.b.t(), alpha=self.scale)

    def backward(
        self, dy: torch.Tensor, x: torch.Tensor, wants_dx: bool
    ) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Gradients of x (None unless `wants_dx`), a and b, the last two float32."""
        dlow = (dy @ self.b).mul_(self.scale)
        da = (dlow.t() @ x).float()
        db = (dy.t() @ (x @ self.a.t())).float().mul_(self.scale)
        if not wants_dx:
            return None, da, db
        if self._merges(x):
            return dy @ self._merged(x), da, db
        return (dy @ self.weight.to(dy.dtype)).addmm_(dlow, self.a), da, db

    def _merges(self, x: torch.Tensor) -> bool:
        """Whether to add B A to W, not its product to that of W: exact in float32, and here fewer operations."""
        return x.dtype == torch.float32 and len(x) * sum(self.weight.shape) > self.weight.numel()

    def _merged(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight.to(x.dtype, copy=True).addmm_(self.b, self.a, alpha=self.scale)


class _Product(torch.autograd.Function):
    """x (T, I) through one layer: (T, O)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *layer: Any) -> torch.Tensor:
        """`layer` is what `_Layer` holds, the adapter in float32."""
        cast = _Layer(*layer).cast(x.dtype)
        ctx.save_for_backward(x, cast.weight, cast.a, cast.b)
        ctx.scale = cast.scale
        return cast.forward(x)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, a and b."""
        x, weight, a, b = ctx.saved_tensors
        layer = _Layer(weight, None, a, b, ctx.scale)
        dx, da, db = layer.backward(upstream[0], x, ctx.needs_input_grad[0])
        return dx, None, None, da, db, None


class _GatedProduct(torch.autograd.Function):
    """act(gate) * up, both (T, I), through one layer: (T, O). Keeps gate and up, and computes the rest again."""

    @staticmethod
    def forward(
        ctx: Any,
        gate: torch.Tensor,
        up: torch.Tensor,
        act: Callable[[torch.Tensor], torch.Tensor],
        *layer: Any,
    ) -> torch.Tensor:
        """`layer` is what `_Layer` holds, the adapter in float32."""
        cast = _Layer(*layer).cast(gate.dtype)
        ctx.save_for_backward(gate, up, cast.weight, cast.a, cast.b)
        ctx.act, ctx.scale = act, cast.scale
        return cast.forward(act(gate) * up)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of gate, up, a and b."""
        gate, up, weight, a, b = ctx.saved_tensors
        with torch.enable_grad():
            leaf = gate.detach().requires_grad_()
            opened = ctx.act(leaf)
        layer = _Layer(weight, None, a, b, ctx.scale)
        dx, da, db = layer.backward(upstream[0], opened.detach() * up, wants_dx=True)
        dup = dx * opened.detach()
        (dgate,) = torch.autograd.grad(opened, leaf, dx.mul_(up))
        return dgate, dup, None, None, None, da, db, None


def fuse(model: nn.Module) -> None:
    """Let every plain LoRA layer of a PEFT model compute this way; adapters may still be switched or disabled."""
    for module in model.modules():
        if isinstance(module, Linear) and type(module.base_layer) is nn.Linear:
            module.forward = types.MethodType(_forward, module)
    for module in model.modules():
        if _is_gated(module) and "forward" in vars(module.down_proj):
            module.forward = types.MethodType(_forward_gated, module)


def _is_gated(module: nn.Module) -> bool:
    """Whether a module computes down(act(gate(x)) * up(x)): whether its code is that of Llama's, to the byte.

    The library repeats that code in each architecture's file, so the class says little.
    """
    ours, llamas = getattr(type(module).forward, "__code__", None), LlamaMLP.forward.__code__
    return ours is not None and all(
        getattr(ours, part) == getattr(llamas, part) for part in ("co_code", "co_names", "co_consts")
    )


def _forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """The layer's forward with the one active adapter, or PEFT's where there is more to it."""
    inside = None if args or kwargs else _plain(layer, x.dtype)
    if inside is None:
        return type(layer).forward(layer, x, *args, **kwargs)
    return _Product.apply(x.flatten(0, -2), *inside).view(*x.shape[:-1], -1)


def _forward_gated(block: Any, x: torch.Tensor) -> torch.Tensor:
    """The feed-forward block's forward; with its last layer's forward as it is, where there is more to that."""
    gate, up = block.gate_proj(x), block.up_proj(x)
    inside = _plain(block.down_proj, gate.dtype)
    if inside is None:
        return block.down_proj(block.act_fn(gate) * up)
    y = _GatedProduct.apply(gate.flatten(0, -2), up.flatten(0, -2), block.act_fn, *inside)
    return y.view(*x.shape[:-1], -1)


def _plain(layer: Any, dtype: torch.dtype) -> _Layer | None:
    """What an input of `dtype` is multiplied by; None where the layer does more than this module covers."""
    if not isinstance(layer, Linear):  # the adapter was merged into the weight since
        return None
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters or layer.merged or len(active) != 1:
        return None
    name, base = active[0], layer.base_layer
    dropout = layer.lora_dropout[name]
    plain = (isinstance(dropout, nn.Identity) or not dropout.training) and not layer.lora_bias[name]
    if not plain or name in layer.lora_variant or torch.promote_types(dtype, base.weight.dtype) != dtype:
        return None
    return _Layer(
        base.weight, base.bias, layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    )
