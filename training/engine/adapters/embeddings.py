"""Whole embedding and head matrices that an adapter's file holds, in the place of the base model's.

PEFT writes them where the vocabulary grew before training, and loads them into the base model for good. Here each
adapter's are in place while that adapter is computed with, and the base model's own while none is.
"""

from typing import Any

import peft
import torch
from torch import nn

from training.engine.adapters.foreign import is_whole, weight_name
from training.engine.errors import ModelError
from training.engine.model.wrappers import head_of

_ATTRIBUTE = "whole_matrices"  # of a transformers model


class WholeMatrices:
    """Matrices of each adapter that replace the model's own while it is used."""

    def __init__(self) -> None:
        self._own: dict[nn.Parameter, torch.Tensor] = {}
        self._replacing: dict[str, dict[nn.Parameter, torch.Tensor]] = {}
        self._files: dict[str, dict[str, torch.Tensor]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "WholeMatrices":
        """Return the same matrices: copies of a model share its weights."""
        return self

    def add(self, base: Any, adapter: str, path: str, weights: dict[str, torch.Tensor]) -> None:
        """Take the matrices out of `weights`, those of the file at `path`, for `adapter` of a transformers model.

        Raises ModelError if one is not the model's embedding or head, or of another shape.
        """
        self._files[adapter] = {name: weights.pop(name) for name in list(weights) if is_whole(name)}
        ends = [one.weight for one in (base.get_input_embeddings(), head_of(base)) if one is not None]
        own = {weight_name(name): weight for name, weight in base.named_parameters(remove_duplicate=False)}
        found = self._replacing.setdefault(adapter, {})
        for name, matrix in self._files[adapter].items():
            weight = own.get(weight_name(name))
            if weight is None or not any(weight is end for end in ends):
                raise ModelError(
                    f"Adapter {path} does not fit the base model: {weight_name(name)} is not a matrix of it."
                )
            if weight.shape != matrix.shape:
                raise ModelError(
                    f"Adapter {path} does not fit the base model: its {weight_name(name)} is {_size(matrix)},"
                    f" the model's {_size(weight)}."
                )
            placed = matrix.to(weight.device, weight.dtype)
            if not torch.equal(found.setdefault(weight, placed), placed):
                raise ModelError(
                    f"Adapter {path} does not fit the base model: it holds an embedding and a head that differ,"
                    " and the model has one for both."
                )
            self._own.setdefault(weight, weight.data)

    def use(self, adapter: str | None) -> None:
        """Put the matrices of `adapter` into their place, and the model's own everywhere else."""
        replacing = self._replacing.get(adapter, {}) if adapter else {}
        for weight, own in self._own.items():
            weight.data = replacing.get(weight, own)

    def held_by(self, adapter: str) -> dict[str, torch.Tensor]:
        """Return the matrices of `adapter` as its file has them."""
        return self._files.get(adapter, {})


def whole_matrices(model: Any) -> WholeMatrices:
    """Return those of a transformers model or of the PeftModel around it, none at first."""
    base = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    if _ATTRIBUTE not in vars(base):
        setattr(base, _ATTRIBUTE, WholeMatrices())
    found: WholeMatrices = getattr(base, _ATTRIBUTE)
    return found


def _size(matrix: torch.Tensor) -> str:
    return " x ".join(map(str, matrix.shape))
