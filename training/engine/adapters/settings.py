"""The settings in an adapter's `adapter_config.json`: the kinds of values that PEFT takes, and what is honoured here.

PEFT copies whatever the file holds into its configuration, and stumbles over it later. A web server asks here too, so
nothing of PEFT is imported.
"""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from primitives.text import marked as _
from training.engine.config.checks import shortened
from training.engine.errors import ModelError
from training.engine.rundir import read_object

CONFIG_NAME = "adapter_config.json"
BASE = "base"  # the precision that a base model is stored in
PRECISIONS = (BASE, "float16", "float32")  # that an adapter can be merged in
# What the engine computes as PEFT does, and what does not change what an adapter computes.
HONOURED = frozenset(
    {
        *(
            "r",
            "lora_alpha",
            "use_rslora",
            "rank_pattern",
            "alpha_pattern",
            "use_dora",
            "lora_bias",
            "lora_dropout",
        ),
        *("target_modules", "target_parameters", "exclude_modules", "layers_to_transform", "layers_pattern"),
        *("fan_in_fan_out", "trainable_token_indices"),
        *("peft_type", "peft_version", "task_type", "auto_mapping", "base_model_name_or_path", "revision"),
        *("inference_mode", "megatron_core", "runtime_config", "eva_config"),
    }
)
USUAL = {"bias": "none", "qalora_group_size": 16}  # of the others, where PEFT's own value is not empty
# Ways to begin that leave the base model as it is. The others take what the adapter begins with out of its weights.
_BEGINNINGS = (True, False, "gaussian", "orthogonal", "eva")
_LARGEST_RANK = 1 << 16  # more than a layer has rows or columns


def read_settings(adapter: str | Path, file: Path) -> dict[str, Any]:
    """Return the settings that `file` holds of an adapter, each of a kind that PEFT takes. Raises ModelError."""
    try:
        settings = read_object(file)
    except ValueError as error:
        raise ModelError(
            f"Adapter {adapter} cannot be loaded: {CONFIG_NAME} is not JSON ({error})."
        ) from None
    except OSError as error:
        raise ModelError(
            f"Adapter {adapter} cannot be loaded: {CONFIG_NAME} cannot be read ({error.strerror})."
        ) from None
    for name, (is_kind, kind) in _KINDS.items():
        if name in settings and not is_kind(settings[name]):
            raise ModelError(
                f"Adapter {adapter} cannot be loaded: {name} in {CONFIG_NAME} must be {kind}, not"
                f" {shortened(settings[name])}."
            )
    return settings


def find_unhonoured(settings: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what an adapter's settings ask for that cannot be computed here, to follow its name; None if nothing.

    It is a text that is marked for translation, and the `value` in it.
    """
    for name, value in sorted(settings.items()):
        if name not in HONOURED and name != "init_lora_weights" and value and value != USUAL.get(name):
            return _UNCOMPUTED, name
    begun = settings.get("init_lora_weights", True)
    return None if begun in _BEGINNINGS else (_BEGUN_OTHERWISE, shortened(begun))


_UNCOMPUTED = _(
    "sets %(value)s, which cannot be trained or computed here; merge the adapter into its base model and start from"
    " that"
)
_BEGUN_OTHERWISE = _(
    "begins with init_lora_weights %(value)s, which changes the base model's weights; convert it to a plain LoRA"
    " adapter"
)


def _is_rank(value: Any) -> bool:
    return type(value) is int and 0 < value <= _LARGEST_RANK


def _is_place(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max


def _is_switch(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except (re.error, OverflowError, RecursionError):
        return False


def _is_list(value: Any, of: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(of(one) for one in value)


def _is_names(value: Any) -> bool:
    return value is None or _is_pattern(value) or _is_list(value, lambda one: isinstance(one, str))


def _is_places(value: Any) -> bool:
    return value is None or _is_place(value) or _is_list(value, _is_place)


def _is_tokens(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_list(one, _is_place) for one in value.values())
    return value is None or _is_list(value, _is_place)


def _is_by_pattern(value: Any, of: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(_is_pattern(key) and of(one) for key, one in value.items())


_NAMES = (_is_names, "a list of names or a regular expression")
_SWITCH = (_is_switch, "true or false")
_TEXT = (_is_text, "a text")
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "r": (_is_rank, f"a whole number from 1 to {_LARGEST_RANK}"),
    "lora_alpha": (_is_number, "a number"),
    "lora_dropout": (_is_number, "a number"),
    "rank_pattern": (lambda value: _is_by_pattern(value, _is_rank), "an object of ranks by pattern"),
    "alpha_pattern": (lambda value: _is_by_pattern(value, _is_number), "an object of numbers by pattern"),
    **dict.fromkeys(("use_rslora", "use_dora", "lora_bias", "fan_in_fan_out", "inference_mode"), _SWITCH),
    **dict.fromkeys(("target_modules", "exclude_modules", "layers_pattern"), _NAMES),
    "target_parameters": (
        lambda value: value is None or _is_list(value, lambda one: isinstance(one, str)),
        "a list of names",
    ),
    "layers_to_transform": (_is_places, "a number or a list of numbers"),
    "trainable_token_indices": (_is_tokens, "a list of token ids, or an object of such lists"),
    **dict.fromkeys(("task_type", "base_model_name_or_path", "revision", "peft_version"), _TEXT),
}
