"""A GGUF file made into a folder in transformers' format, once, so that no run has to unpack it again."""

from pathlib import Path

import torch
import transformers

from training.engine.errors import ConfigError, first_line, memory_short
from training.engine.model.files import find_model
from training.engine.rundir import check_new, storing, whole_directory


def unpack(name: str, folder: Path) -> None:
    """Write the model of a GGUF file, with its tokenizer and chat template, to a folder that does not exist yet.

    The weights are stored in bfloat16. The folder appears whole or not at all. Raises ConfigError, ModelError or
    StorageError.
    """
    check_new(folder)
    files = find_model(name, None)
    if files.gguf is None:
        raise ConfigError(None, f"{name} is not a GGUF file, nor a folder with one.")
    tokenizer = files.read_tokenizer()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            files.source, dtype=torch.bfloat16, **files.where, **files.format
        )
    except Exception as error:  # a model's files can make the libraries raise anything
        if memory_short(error):
            raise
        raise files.refusal(first_line(error).rstrip(".")) from error
    with storing(folder), whole_directory(folder, replaces=False) as part:
        tokenizer.save_pretrained(part)
        model.save_pretrained(part)
