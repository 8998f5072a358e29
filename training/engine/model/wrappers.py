"""Models that also see or hear: the class that is in their files, and the part of it that reads text.

An adapter is found again by the names of the layers it was trained on. Those of a wrapper such as
`Qwen3_5ForConditionalGeneration` are not those of its text model loaded alone. So the wrapper is loaded, and trained
and sampled from through its text part.
"""

from typing import Any

import transformers
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
)

from training.engine.errors import ModelError


def model_class(config: Any) -> Any:
    """Return the transformers class, or auto class, to load a model of this configuration with.

    Raises ModelError if its text is not continued by one decoder.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{config.model_type} models encode one text and write another; train a causal language model."
        )
    whole = MODEL_FOR_MULTIMODAL_LM_MAPPING.get(type(config), None)
    text = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    named = next(iter(config.architectures or []), None)
    if whole is not None and (text is None or named == whole.__name__):
        return transformers.AutoModelForMultimodalLM
    return transformers.AutoModelForCausalLM


def text_part(base: Any) -> Any:
    """Return the module of a transformers model that turns token ids into what its head takes."""
    if not is_wrapper(base):
        return base.base_model
    part = base.get_decoder()
    # That of Llama 4 is a causal language model of its own, with a head.
    return part if part.get_output_embeddings() is None else part.model


def head_of(base: Any) -> Any:
    """Return the module that turns what the text part returns into logits, None if there is none."""
    head = base.get_output_embeddings()
    return base.get_decoder().get_output_embeddings() if head is None and is_wrapper(base) else head


def copy_head_input(base: Any) -> None:
    """Let the head of a transformers model copy what it is given, where that is a slice of something larger.

    Of the last hidden states (R, 1, H) of prompts, cut out of (R, T, H), PyTorch would make a product for each row. On
    a CPU in half precision it copies the head's matrix for each. 16 rows and 49,152 words took 1.5 s and 1.3 GB, and
    take 6 ms.
    """
    if head := head_of(base):
        head.register_forward_pre_hook(_with_contiguous_input)


def _with_contiguous_input(_head: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].contiguous(), *inputs[1:]) if inputs else inputs


def is_wrapper(base: Any) -> bool:
    """Return whether a transformers model holds its text model as one of several."""
    return base.config.get_text_config(decoder=True) is not base.config


def text_prefix(base: Any) -> str:
    """Return what the names of all modules of a wrapper's text part begin with, "" for any other model."""
    if not is_wrapper(base):
        return ""
    part = text_part(base)
    return f"{next(name for name, module in base.named_modules() if module is part)}."
