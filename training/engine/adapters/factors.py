"""The products of a frozen weight with a low-rank adapter beside it, forward and backward.

`training.engine.adapters.lora` says how they are summed and rounded.
"""

from typing import Any, NamedTuple

import torch
from torch.nn import functional

ALIGNED = 16  # a multiple of this many columns is what tensor cores are fast with
_BLOCK = 1 << 24  # weights that are widened at once


class Factors(NamedTuple):
    """A frozen weight (O, I) and bias (O,) with its adapter a (r, I), b (O, r), in the precision of the input.

    A weight that is narrower (`training.engine.model.narrow`), or in 4 bits with the `packing` that unpacks it, is
    widened in each pass.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    a: torch.Tensor
    b: torch.Tensor
    scale: float
    dropout: float = 0.0
    packing: Any = None

    def cast(self, dtype: torch.dtype) -> "Factors":
        """Return the same layer with the adapter in `dtype`, its rank filled up with zeros where columns are joined."""
        missing = 0 if adds_inside(self.a) or dtype == torch.float32 else -len(self.a) % ALIGNED
        a, b = self.a.to(dtype), self.b.to(dtype)
        if missing:
            a, b = functional.pad(a, (0, 0, 0, missing)), functional.pad(b, (0, missing))
        return self._replace(a=a, b=b)

    def drop(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return x as the adapter sees it, (T, I), and which of it was kept; None where nothing is dropped."""
        return torch.native_dropout(x, self.dropout, True) if self.dropout else (x, None)

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Return (T, O): scale (seen A^T) B^T + x W^T + bias, where `seen` is x as the adapter sees it."""
        if self._merges(x):
            return functional.linear(x, self._merged(x.dtype), self.bias)
        low = seen @ self.a.t()
        if x.dtype == torch.float32:
            y = functional.linear(x, self._dense(x.dtype), self.bias)
            return y.addmm_(low, self.b.t(), alpha=self.scale)
        if not adds_inside(x):
            if self.scale != 1:
                low.mul_(self.scale)
            joined = torch.cat([self._dense(x.dtype), self.b], dim=1)
            return functional.linear(torch.cat([x, low], dim=1), joined, self.bias)
        y = x.new_empty(len(x), len(self.b))
        y.addmm_(low, self.b.t(), beta=0, alpha=self.scale).addmm_(x, self._dense(x.dtype).t())
        return y if self.bias is None else y.add_(self.bias)

    def wide(self, x: torch.Tensor) -> torch.Tensor:
        """Return (T, O) in float32: x (W + scale B A)^T, without the bias."""
        if x.dtype == torch.float32:
            return self._replace(bias=None).forward(x, x)
        low = (x @ self.a.t()).mul_(self.scale)
        joined = torch.cat([self._dense(x.dtype), self.b], dim=1)
        return _wide_product(torch.cat([x, low], dim=1), joined.t())

    def norms(self) -> torch.Tensor:
        """Return the norms (O,) of the rows of W + scale B A, float32."""
        weight = self._dense(self.weight.dtype if self.packing is None else torch.float32)
        rows = max(1, _BLOCK // weight.shape[1])
        a = self.a.float()
        parts = [
            torch.addmm(some.float(), b.float(), a, alpha=self.scale).norm(dim=1)
            for some, b in zip(weight.split(rows), self.b.split(rows), strict=True)
        ]
        return torch.cat(parts)

    def backward(
        self, dy: torch.Tensor, seen: torch.Tensor, kept: torch.Tensor | None, wants_dx: bool
    ) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Return the gradients of x (None unless `wants_dx`), a and b, the last two float32."""
        dlow = (dy @ self.b).mul_(self.scale)
        da = _wide_sum(dlow.t(), seen)
        db = _wide_sum(dy.t(), seen @ self.a.t()).mul_(self.scale)
        return self._slope(dy, dlow, kept) if wants_dx else None, da, db

    def _slope(self, dy: torch.Tensor, dlow: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """Return the gradient of x: dy W + dlow A, the latter where the adapter saw x."""
        if self._merges(dy):
            return dy @ self._merged(dy.dtype)
        weight = self._dense(dy.dtype)
        if adds_inside(dy) or dy.dtype == torch.float32:
            part = self._undrop(dlow @ self.a, kept)
            return part.addmm_(dy, weight)
        if kept is None:
            return torch.cat([dy, dlow], dim=1) @ torch.cat([weight, self.a])
        part = self._undrop(dlow @ self.a, kept)
        return _wide_product(dy, weight).add_(part).to(dy.dtype)

    def _undrop(self, slope: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        return slope if kept is None else slope.mul_(kept).div_(1 - self.dropout)

    def _merges(self, x: torch.Tensor) -> bool:
        """Return whether to add B A to W, not its product to that of W: exact in float32, and here fewer operations."""
        outputs, inputs = len(self.b), self.a.shape[1]
        shorter = len(x) * (outputs + inputs) > outputs * inputs
        return x.dtype == torch.float32 and not self.dropout and shorter

    def _merged(self, dtype: torch.dtype) -> torch.Tensor:
        weight = self._dense(dtype)
        if weight is self.weight:
            weight = weight.clone()
        return weight.addmm_(self.b, self.a, alpha=self.scale)

    def _dense(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the weight as a matrix of `dtype`: itself, if that is what it is."""
        if self.packing is None:
            return self.weight.to(dtype)
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(self.weight, self.packing).to(dtype)


def adds_inside(x: torch.Tensor) -> bool:
    """Return whether a product that is added to a matrix is rounded after the sum: on CPUs, and not by cuBLAS."""
    return not x.is_cuda


def _wide_sum(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the product of two matrices in float32, on a CPU rounded to their precision first."""
    if x.is_cuda and x.dtype != torch.float32:
        return _wide_product(x, y)
    return (x @ y).float()


def _wide_product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the product of two matrices below float32 in float32."""
    if not x.is_cuda:
        return x.float() @ y.float()
    wide: torch.Tensor = torch.mm(x, y, out_dtype=torch.float32)
    return wide
