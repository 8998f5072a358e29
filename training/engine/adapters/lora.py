"""LoRA layers computed as one product with a short one inside, in the base model's precision.

PEFT's own forward widens the input to the adapter's float32. It scales and adds in passes of their own over the
layer's whole output, which on a CPU takes longer than the frozen product itself. It also rounds the frozen product
before the adapter's part is added. In bfloat16 the sum is then on a grid whose steps are larger than what a small
adapter adds, so nothing of it arrives. Here the two are summed in float32 inside one product and rounded once:

- on CUDA as [x, s x A^T] [W, B]^T, with the bias: cuBLAS rounds a product before it adds a matrix to it
- on a CPU as s (x A^T) B^T, to which x W^T is added inside the product; a bias is added last
- in float32, where nothing is lost, as x W^T + s (x A^T) B^T, or for long rows as x (W + s B A)^T

Backward does the same for the gradient of x, and keeps x alone. A layer whose adapter is switched off computes with
one of zeros, so that an adapter that changes nothing gives the base model's numbers to the bit.
The adapter's weights stay float32, as do their gradients; they are multiplied in the precision of x. In a gated
feed-forward block the last layer's x, the widest of all, is recomputed from its factors.

DoRA's layers are `training.engine.adapters.dora`. Other variants are left to PEFT, which is given the input in float32.
`rounding_events` names the layers whose adapter is added in half precision all the same.
"""

import types
from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora import Linear
from peft.tuners.lora.layer import LoraLayer, ParamWrapper
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from training.engine.adapters.dora import DoraProduct, dora_layer
from training.engine.adapters.factors import ALIGNED, Factors, adds_inside
from training.engine.adapters.gated import is_gated
from training.engine.model import narrow


class LoraProduct(torch.autograd.Function):
    """x (T, I) through one layer: (T, O)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *layer: Any) -> torch.Tensor:
        """Return the layer's output; `layer` is what `Factors` holds, the adapter in float32."""
        cast = Factors(*layer).cast(x.dtype)
        seen, kept = cast.drop(x)
        ctx.save_for_backward(seen, kept, cast.weight, cast.a, cast.b)
        ctx.rest, ctx.rank = cast[4:], len(layer[2])
        return cast.forward(x, seen)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, a and b."""
        seen, kept, weight, a, b = ctx.saved_tensors
        layer = Factors(weight, None, a, b, *ctx.rest)
        dx, da, db = layer.backward(upstream[0], seen, kept, ctx.needs_input_grad[0])
        return dx, None, None, da[: ctx.rank], db[:, : ctx.rank], None, None, None


class GatedProduct(torch.autograd.Function):
    """act(gate) * up, both (T, I), through one layer: (T, O). Keeps gate and up, and recomputes the rest."""

    @staticmethod
    def forward(
        ctx: Any,
        gate: torch.Tensor,
        up: torch.Tensor,
        act: Callable[[torch.Tensor], torch.Tensor],
        *layer: Any,
    ) -> torch.Tensor:
        """Return the layer's output; `layer` is what `Factors` holds, the adapter in float32, without dropout."""
        cast = Factors(*layer).cast(gate.dtype)
        ctx.save_for_backward(gate, up, cast.weight, cast.a, cast.b)
        ctx.act, ctx.rest, ctx.rank = act, cast[4:], len(layer[2])
        x = act(gate) * up
        return cast.forward(x, x)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of gate, up, a and b."""
        gate, up, weight, a, b = ctx.saved_tensors
        with torch.enable_grad():
            leaf = gate.detach().requires_grad_()
            opened = ctx.act(leaf)
        layer = Factors(weight, None, a, b, *ctx.rest)
        dx, da, db = layer.backward(upstream[0], opened.detach() * up, None, wants_dx=True)
        dup = dx * opened.detach()
        (dgate,) = torch.autograd.grad(opened, leaf, dx.mul_(up))
        return dgate, dup, None, None, None, da[: ctx.rank], db[:, : ctx.rank], None, None, None


def fuse(model: nn.Module) -> None:
    """Let every LoRA layer of a PEFT model compute this way; adapters may still be switched or disabled."""
    for module in model.modules():
        if is_covered(module):
            module.forward = types.MethodType(_forward, module)
            if type(module.base_layer) is nn.Linear and "forward" not in vars(module.base_layer):
                narrow.accept_wider_inputs(module.base_layer)
    for module in model.modules():
        if is_gated(module) and "forward" in vars(module.down_proj):
            module.forward = types.MethodType(_forward_gated, module)


def set_magnitudes(model: nn.Module) -> None:
    """Give each DoRA layer of a fresh adapter the norms of its weight as magnitudes, which then change nothing.

    PEFT takes them in the precision of the weights.
    """
    for layer in model.modules():
        for name in layer.lora_A if isinstance(layer, LoraLayer) and is_covered(layer) else ():
            scaled = _with_magnitudes(layer, torch.float32)
            if scaled is not None and name in _active(layer):
                scaled[0].data = scaled[1].clone()


def freeze(model: nn.Module, dtype: torch.dtype) -> None:
    """Prepare a fused model whose one adapter never changes again: each forward then does less, to the same effect."""
    layer: Any
    for layer in model.modules():
        if not is_covered(layer):
            continue
        (name,) = layer.lora_A.keys()
        scaled = _with_magnitudes(layer, dtype)
        if scaled is not None:
            layer.frozen_norms = scaled[1]
        if layer.lora_bias[name] or name in layer.lora_variant:
            continue
        a, b, weight = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.base_layer.weight
        a.data, b.data = (a.data * layer.scaling[name]).to(dtype), b.data.to(dtype)
        layer.scaling[name] = 1.0
        if type(layer.base_layer) is nn.Linear and weight.dtype == dtype and not adds_inside(weight):
            missing = -len(a) % ALIGNED
            a.data, b.data = functional.pad(a.data, (0, 0, 0, missing)), functional.pad(b.data, (0, missing))
            layer.joined = torch.cat([weight.data, b.data], dim=1)
            weight.data = layer.joined[:, : weight.shape[1]]  # no second copy
            layer.forward = types.MethodType(_forward_frozen, layer)


def rounding_events(model: nn.Module, dtype: torch.dtype) -> list[str]:
    """Return a sentence if some layers, computing in `dtype`, add their adapter to a product that is rounded."""
    kinds = {
        "expert" if isinstance(module, ParamWrapper) else type(module).__name__
        for module in model.modules()
        if isinstance(module, LoraLayer) and not is_covered(module) and is_narrow(module)
    }
    if not kinds or dtype == torch.float32:
        return []
    return [
        f"Adapters of {' and '.join(sorted(kinds))} layers are added in the precision of the weights, which rounds"
        " small changes away; set dtype to float32 for exact figures."
    ]


def is_narrow(layer: Any) -> bool:
    """Return whether an adapted layer holds weights below float32."""
    return any(weight.dtype != torch.float32 for weight in layer.get_base_layer().parameters())


def is_covered(module: nn.Module) -> bool:
    """Return whether a module is an adapted linear layer: dense (named by its weight, too), transposed or in 4 bits."""
    if type(module).__name__ == "Linear4bit" and isinstance(module, LoraLayer):
        return True
    if isinstance(module, ParamWrapper):
        return module.parameter_name == "weight" and type(module.base_layer) is nn.Linear
    return isinstance(module, Linear) and type(module.base_layer) in (nn.Linear, Conv1D)


def _forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Return the layer's output with the one active adapter or none, or PEFT's where there is more to it."""
    inside = None if args or kwargs else _plain(layer, x.dtype)
    if inside is not None:
        return LoraProduct.apply(x.flatten(0, -2), *inside).view(*x.shape[:-1], -1)
    scaled = None if args or kwargs else _with_magnitudes(layer, x.dtype)
    if scaled is not None:
        return DoraProduct.apply(x.flatten(0, -2), *scaled).view(*x.shape[:-1], -1)
    if type(layer.base_layer) is nn.Linear and not layer.merged:
        x, dtype = x.float(), x.dtype  # PEFT's sum is then rounded once
        return type(layer).forward(layer, x, *args, **kwargs).to(dtype)
    return type(layer).forward(layer, x, *args, **kwargs)


def _forward_frozen(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """Return the output of a layer that `freeze` prepared, in as few steps as can be."""
    (a,) = layer.lora_A.values()
    joined = torch.cat([x, functional.linear(x, a.weight)], dim=-1)
    return functional.linear(joined, layer.joined, layer.base_layer.bias)


def _forward_gated(block: Any, x: torch.Tensor) -> torch.Tensor:
    """Return the feed-forward block's output; with its last layer's forward as it is, where there is more to that."""
    gate, up = block.gate_proj(x), block.up_proj(x)
    inside = _plain(block.down_proj, gate.dtype) if torch.is_grad_enabled() else None
    if inside is None or inside.dropout:
        return block.down_proj(block.act_fn(gate) * up)
    y = GatedProduct.apply(gate.flatten(0, -2), up.flatten(0, -2), block.act_fn, *inside)
    return y.view(*x.shape[:-1], -1)


def _plain(layer: Any, dtype: torch.dtype) -> Factors | None:
    """Return what an input of `dtype` is multiplied by; None where the layer does more than a plain product."""
    frozen = _frozen(layer, dtype)
    if frozen is None:
        return None
    active = _active(layer)
    if not active:
        if dtype == torch.float32 and frozen.packing is None:
            return None
        name = next(iter(layer.lora_A))
        a, b = (torch.zeros_like(one[name].weight, dtype=dtype) for one in (layer.lora_A, layer.lora_B))
        return frozen._replace(a=a, b=b, scale=1.0)
    name = active[0]
    if len(active) > 1 or layer.lora_bias[name] or name in layer.lora_variant:
        return None
    return _adapted(layer, name, frozen)


def _with_magnitudes(layer: Any, dtype: torch.dtype) -> tuple[Any, ...] | None:
    """Return what `DoraProduct` takes besides the input; None for another layer, and where dropout is on."""
    active = _active(layer)
    if len(active) != 1 or layer.lora_bias[active[0]] or not (magnitudes := dora_layer(layer, active[0])):
        return None
    frozen = _frozen(layer, dtype)
    inside = None if frozen is None else _adapted(layer, active[0], frozen)
    if inside is None or inside.dropout:
        return None
    norms = getattr(layer, "frozen_norms", None)
    return magnitudes.weight, inside.norms().detach() if norms is None else norms, *inside


def _active(layer: Any) -> list[str]:
    if layer.disable_adapters:
        return []
    return [name for name in layer.active_adapters if name in layer.lora_A]


def _frozen(layer: Any, dtype: torch.dtype) -> Factors | None:
    """Return the layer without its adapter; None where an input of `dtype` is not multiplied by it here."""
    if not is_covered(layer) or layer.merged:  # the adapter was merged into the weight since
        return None
    base = layer.base_layer
    weight, packing = base.weight, getattr(base.weight, "quant_state", None)
    if packing is None:
        weight = weight.t() if type(base) is Conv1D else weight
        if torch.promote_types(dtype, weight.dtype) != dtype:
            return None
    return Factors(weight, base.bias, weight, weight, 1.0, packing=packing)


def _adapted(layer: Any, name: str, frozen: Factors) -> Factors:
    dropout = layer.lora_dropout[name]
    return frozen._replace(
        a=layer.lora_A[name].weight,
        b=layer.lora_B[name].weight,
        scale=layer.scaling[name],
        dropout=0.0 if isinstance(dropout, nn.Identity) or not dropout.training else dropout.p,
    )
