"""Adapters on disk, ours and others': what their files say, and whether all of it can be honoured.

An adapter whose configuration asks for something that the engine does not compute, or whose weights find no place in
the model, is refused in a sentence. PEFT passes over both without a word, or with a warning.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.pytorch_utils import Conv1D

from training.engine.adapters.settings import CONFIG_NAME, HONOURED, find_unhonoured, read_settings
from training.engine.errors import ModelError, sentence
from training.engine.machine.limits import within
from training.engine.model.files import find_adapter
from training.engine.model.wrappers import text_prefix

_PREFIX = "base_model.model."  # of every name in an adapter's file
_LAYERS = (nn.Linear, nn.Embedding, Conv1D)
# Of processor time, for what takes seconds at most: thousands of layers, and a pattern for each.
_PATTERN_SECONDS = 30


class AdapterFiles:
    """The files of one adapter, in a folder or on the hub."""

    def __init__(self, path: str) -> None:
        """Read the configuration at `path`. Raises ModelError."""
        self.path = path
        self._settings = read_settings(path, self._find(CONFIG_NAME))
        kind = self._settings.get("peft_type")
        if kind != "LORA":
            raise ModelError(f"Adapter {path} is {str(kind)[:100]}, but only LoRA adapters are trained.")
        if unhonoured := find_unhonoured(self._settings):
            problem, named = unhonoured
            raise ModelError(f"Adapter {path} {problem % {'value': named}}.")
        # What is unset by another word than PEFT's own, PEFT stumbles over.
        self._settings = {name: value for name, value in self._settings.items() if value or name in HONOURED}
        self._settings.pop("runtime_config", None)  # of one process

    def config(self) -> Any:
        """Return a new PEFT configuration of the adapter. Raises ModelError."""
        try:
            return peft.PeftConfig.from_peft_type(**self._settings)
        except (ValueError, TypeError, ImportError) as error:
            raise ModelError(f"Adapter {self.path} cannot be loaded: {sentence(error)}") from None

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the adapter's tensors by their names in the file. Raises ModelError."""
        with self._open() as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict

    def replaces_weights(self) -> bool:
        """Return whether the file holds whole matrices of the base model. Raises ModelError."""
        with self._open() as file:
            return any(is_whole(name) for name in file.keys())  # noqa: SIM118

    def fitted(self, base: Any) -> tuple[Any, dict[str, torch.Tensor]]:
        """Return configuration and weights as the class of the transformers model `base` has its names.

        An adapter that was trained on the text model alone names the layers of that. Raises ModelError.
        """
        config, weights = self.config(), self.weights()
        self._check_patterns(config, base)
        prefix = text_prefix(base)
        if not prefix:
            return config, weights
        modules = dict(base.named_modules())
        fitted = {_renamed(name, modules, prefix): weight for name, weight in weights.items()}
        if fitted.keys() != weights.keys():
            # By its last part alone a name may fit what sees, too.
            adapted = {name.removeprefix(_PREFIX).partition(".lora_")[0] for name in fitted}
            config.target_modules = {name for name in adapted if _is_layer(modules.get(name))}
        return config, fitted

    def _check_patterns(self, config: Any, base: Any) -> None:
        """Match the adapter's patterns as PEFT will, which has no limit of its own. Raises ModelError."""
        problem = f"Adapter {self.path} cannot be loaded: matching its patterns takes longer than"
        whole = [one for one in (config.target_modules, config.exclude_modules) if isinstance(one, str)]
        places = config.layers_pattern or []
        places = [places] if isinstance(places, str) else places
        names = [name for name, _module in base.named_modules()]
        if config.target_parameters:
            names += [name for name, _weight in base.named_parameters()]
        with within(_PATTERN_SECONDS, ModelError(f"{problem} {_PATTERN_SECONDS} s.")):
            # Compiled once each: there may be more than `re` remembers.
            searches = [[re.compile(one).fullmatch] for one in whole]
            searches += [[re.compile(rf"(?:^|.*?\.){one}\.(?P<idx>\d+)\.").match] for one in places]
            for patterns in (config.rank_pattern, config.alpha_pattern):
                searches.append([re.compile(rf"(.*\.)?({one})$").match for one in patterns])
            for name in names:
                for matches in searches:
                    any(match(name) for match in matches)  # to the first one

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            with safe_open(self._find(SAFETENSORS_WEIGHTS_NAME), framework="pt") as file:
                yield file
        except (OSError, SafetensorError) as error:
            raise ModelError(f"Adapter {self.path} cannot be loaded: {sentence(error)}") from None

    def _find(self, name: str) -> Path:
        folder = find_adapter(self.path)
        if not folder.is_dir():
            raise ModelError(f"Adapter {self.path} cannot be loaded: there is no such folder.")
        file = folder / name
        if not file.is_file():
            raise ModelError(f"Adapter {self.path} has no {name}.")
        return file


def is_whole(name: str) -> bool:
    """Return whether a name in an adapter's file is that of a whole matrix of the base model."""
    return "lora_" not in name and "trainable_tokens" not in name


def weight_name(name: str) -> str:
    """Return the base model's name of a matrix that is called `name` in an adapter's file, or once it is adapted."""
    plain = name.removeprefix(_PREFIX)
    return plain.replace(".base_layer.", ".").replace(".original_module.", ".")


def _is_layer(module: Any) -> bool:
    """Return whether a module is a layer that an adapter may be beside, or one that has one already."""
    return isinstance(module.get_base_layer() if isinstance(module, BaseTunerLayer) else module, _LAYERS)


def _renamed(name: str, modules: dict[str, Any], prefix: str) -> str:
    """Return an adapter's name of a weight, or that of the same weight in a wrapper's text part if only that exists."""
    plain = name.removeprefix(_PREFIX)
    inside = f"{prefix}{plain.removeprefix('model.')}"
    layer, other = (one.partition(".lora_")[0].removesuffix(".weight") for one in (plain, inside))
    layer, other = (one.removesuffix(".base_layer") for one in (layer, other))
    return f"{_PREFIX}{inside}" if layer not in modules and other in modules else name
