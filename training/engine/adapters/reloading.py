"""A check before training: can the adapter be loaded again once it is trained?

PEFT renames the weights of some architectures when it loads them, and then finds no place for them. So names and
shapes are taken through plain PEFT once, on an empty model of the same class: no weight of the base model is copied.
"""

import copy
import json
from typing import Any

import peft
import torch
from peft.tuners.lora.layer import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn
from transformers.initialization import no_init_weights


def lost_weight(base: Any, settings: dict[str, Any], weights: dict[str, torch.Tensor], model: Any) -> str:
    """Return the name of a weight that plain PEFT would not put where it was, or "".

    `settings` and `weights` are what is written of the adapter of the PeftModel `model` on the transformers model
    `base`. Each weight is stood for by a number of its own.
    """
    empty = _empty_model(base)
    config = peft.PeftConfig.from_peft_type(**json.loads(json.dumps(settings)))
    again = peft.PeftModelForCausalLM(empty, config, low_cpu_mem_usage=True)
    marked = {
        name: torch.full((), number).expand(weight.shape)
        for number, (name, weight) in enumerate(weights.items())
    }
    result = set_peft_model_state_dict(again, marked, low_cpu_mem_usage=True)
    found = get_peft_model_state_dict(again, save_embedding_layers=False)
    for name, mark in marked.items():
        if name not in found or not _same(found[name], mark):
            return name
    return next(iter([*result.unexpected_keys, *found.keys() - marked.keys(), *_differing(model, again)]), "")


def _empty_model(base: Any) -> Any:
    """Return a model of the class of `base` whose weights are one zero each, seen as often as their shape has it."""
    with torch.device("meta"), no_init_weights():
        empty = type(base)(copy.deepcopy(base.config))
    for module in empty.modules():
        for name, weight in module.named_parameters(recurse=False):
            zeros = torch.zeros((), dtype=weight.dtype).expand(weight.shape)
            setattr(module, name, nn.Parameter(zeros, requires_grad=False))
    return empty


def _same(found: torch.Tensor, mark: torch.Tensor) -> bool:
    return not found.is_meta and found.shape == mark.shape and torch.equal(found, mark.to(found.dtype))


def _differing(model: Any, again: Any) -> list[str]:
    """Return the names of layers that are adapted in one model alone, or with another rank or scale."""
    one, other = (
        {
            (name, *sorted(layer.r.items()), *sorted(layer.scaling.items()))
            for name, layer in peft_model.get_base_model().named_modules()
            if isinstance(layer, LoraLayer)
        }
        for peft_model in (model, again)
    )
    return sorted(layer[0] for layer in one ^ other)
