"""The facts of a base model that its files tell, before its weights are loaded."""

import copy
from typing import Any

import torch
from transformers.initialization import no_init_weights

from training.engine.config import TrainConfig
from training.engine.data.chats import uses_date
from training.engine.data.standard_templates import resolve
from training.engine.errors import EngineError, first_line, memory_short
from training.engine.machine.memory import free_memory
from training.engine.model.base import choose_device, choose_dtype
from training.engine.model.files import ModelFiles, find_model
from training.engine.model.narrow import stored_dtype
from training.engine.model.wrappers import model_class

_FOUR_BIT = 0.56  # bytes of a weight in 4 bits, its scales included


def describe(config: TrainConfig) -> dict[str, Any]:
    """Return a base model's architecture, size, context and chat template, and the device that it would use.

    Raises ModelError as loading it would, ConfigError if the device is not there.
    """
    device = choose_device(config)
    files = find_model(config.base_model, config.revision)
    try:
        settings, tokenizer = files.read_config(), files.read_tokenizer()
        empty = _empty(settings)
    except Exception as error:  # a model's files can make the libraries raise anything
        if isinstance(error, EngineError) or memory_short(error):
            raise
        raise files.refusal(first_line(error).rstrip(".")) from error
    text = settings.get_text_config()
    dtype = choose_dtype(config, device, text.hidden_size)
    template = resolve(config.chat_template) or tokenizer.chat_template
    return {
        "name": config.base_model,
        "architecture": next(iter(settings.architectures or []), settings.model_type),
        "model_type": settings.model_type,
        "parameters": sum(weight.numel() for weight in empty.parameters()),
        "layers": getattr(text, "num_hidden_layers", None),
        "hidden_size": text.hidden_size,
        "vocabulary": text.vocab_size,
        "context": _places(text),
        "chat_template": _template_source(config, tokenizer),
        "template_uses_date": bool(template) and uses_date(template),
        "device": device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "weights_bytes": _weights_bytes(config, files, empty, dtype),
        "available_bytes": free_memory(device),
    }


def is_too_large(facts: dict[str, Any]) -> bool:
    """Return whether the weights of a described model alone do not fit into memory."""
    return bool(facts["weights_bytes"] > facts["available_bytes"])


def _template_source(config: TrainConfig, tokenizer: Any) -> str:
    """Return where the chat template comes from: the settings, the model's files, or nowhere ("")."""
    if config.chat_template:
        return "settings"
    return "model" if tokenizer.chat_template else ""


def _places(text: Any) -> int | None:
    places = getattr(text, "max_position_embeddings", None)
    return places if isinstance(places, int) and places > 0 else None


def _empty(settings: Any) -> Any:
    """Return the model without its weights, those that are tied being one."""
    with torch.device("meta"), no_init_weights():
        model = model_class(settings).from_config(copy.deepcopy(settings))
    model.tie_weights()  # which comes with the initial weights
    return model


def _weights_bytes(config: TrainConfig, files: ModelFiles, empty: Any, dtype: torch.dtype) -> int:
    """Return the bytes that the weights take once they are loaded."""
    half = None if dtype != torch.float32 else stored_dtype(files.safetensors)
    size = (half or dtype).itemsize
    sizes: dict[int, float] = {}  # by weight: two layers may share one
    for module in empty.modules():
        narrow = config.quantization != "none" and isinstance(module, torch.nn.Linear)
        for weight in module.parameters(recurse=False):
            sizes[id(weight)] = weight.numel() * (_FOUR_BIT if narrow else size)
    return int(sum(sizes.values()))
