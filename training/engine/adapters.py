"""LoRA adapters on a frozen base model, by PEFT: loaded, trained, switched off for the reference, saved, merged.

No second model is ever loaded: the reference is the same base weights with the starting adapter, or none. Adapter
weights are kept in float32, so that small steps are not rounded away.
"""

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import safetensors.torch
import torch
import transformers
from peft.tuners.lora.layer import LoraLayer
from safetensors import SafetensorError
from torch import nn

from training.engine import lora
from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, ModelError, first_line, memory_short
from training.engine.files import find_adapter
from training.engine.limits import within
from training.engine.model import Loaded, is_quantized, load_base
from training.engine.rundir import whole_directory, write_json, write_whole

POLICY, REFERENCE = "default", "reference"  # names of the adapters inside a PeftModel
_PATTERN_SECONDS = 5  # of processor time, for what takes a few milliseconds


def load_policy(config: TrainConfig) -> Loaded:
    """The base model with one trainable adapter: the start adapter's weights, or fresh ones that change nothing.

    Raises ModelError if the start adapter cannot be loaded, ConfigError if its shape is not the configured one.
    """
    loaded = load_base(config, placed=not config.shard)
    if config.start_adapter:
        adapter_config = _adapter_config(config.start_adapter)
        _check_same_shape(config, adapter_config)
        adapter_config.lora_dropout = config.lora.dropout
        loaded.model = _attach(loaded.model, config.start_adapter, POLICY, adapter_config, trainable=True)
    else:
        loaded.model = wrap(loaded.model, config)
    lora.fuse(loaded.model)
    if config.gradient_checkpointing:
        recompute_activations(loaded.base)
    return loaded


def wrap(model: Any, config: TrainConfig) -> Any:
    """`model` with a fresh adapter that changes nothing yet. Raises ConfigError if its targets fit no layer."""
    target = config.lora.target_modules
    if isinstance(target, str):
        _check_pattern(target, model)
    conv = any(isinstance(module, transformers.pytorch_utils.Conv1D) for module in model.modules())
    torch.manual_seed(config.seed)
    with warnings.catch_warnings():
        # PEFT still asks for transformers' older name of gradient checkpointing.
        warnings.filterwarnings("ignore", ".*gradient_checkpointing.*", FutureWarning)
        try:
            return peft.get_peft_model(
                model,
                peft.LoraConfig(
                    r=config.lora.r,
                    lora_alpha=config.lora.alpha,
                    lora_dropout=config.lora.dropout,
                    target_modules=target if isinstance(target, str) else list(target),
                    fan_in_fan_out=conv,
                    task_type="CAUSAL_LM",
                ),
            )
        except ValueError as error:
            raise ConfigError(f"lora.target_modules fits no layer of the model: {error}.") from None


def _check_pattern(pattern: str, model: Any) -> None:
    """Refuse a regular expression that is none, or that takes for ever on the names of the model's layers."""
    overtime = ConfigError(f"lora.target_modules: matching takes longer than {_PATTERN_SECONDS} s.")
    try:
        with within(_PATTERN_SECONDS, overtime):
            for name, _ in model.named_modules():
                re.fullmatch(pattern, name)
    except re.error as error:
        raise ConfigError(f"lora.target_modules is not a regular expression: {error}.") from None


def recompute_activations(base: Any) -> None:
    """Keep only each decoder layer's input for the backward pass, and compute the rest again.

    Raises ConfigError if the architecture cannot.
    """
    try:
        base.activation_checkpointing_enable()
    except ValueError as error:
        raise ConfigError(f"gradient_checkpointing: {error}") from None
    for layer in base.modules():
        if isinstance(layer, transformers.modeling_layers.GradientCheckpointingLayer):
            # A layer recomputes only in training mode, in which some add dropout of their own.
            layer.training = True
            for name, value in vars(layer).items():
                if "dropout" in name and isinstance(value, float):
                    setattr(layer, name, 0.0)


def load_scored(config: TrainConfig, policy: Path | None, *, beside_start: bool) -> Loaded:
    """The base model with adapter `policy` and, with `beside_start`, the start adapter as its reference."""
    loaded = load_base(config)
    if policy:
        loaded.model = _attach(loaded.model, str(policy), POLICY)
    if config.start_adapter and beside_start:
        loaded.model = _attach(loaded.model, config.start_adapter, REFERENCE)
    lora.fuse(loaded.model)
    return loaded


def load_sampled(config: TrainConfig, adapter: Path | str | None) -> Loaded:
    """The base model as `adapter` changes it, ready to generate from, not trainable."""
    loaded = load_base(config, merging=True)
    if adapter:
        loaded.model = for_sampling(_attach(loaded.model, str(adapter), POLICY), loaded.dtype)
    return loaded


def for_sampling(model: Any, dtype: torch.dtype) -> Any:
    """Return the transformers model that computes what the PeftModel `model` does, in `dtype`.

    Where that is exact, the adapter is merged into the weights, which is fastest. Otherwise it stays beside them and
    is computed as in training.
    """
    if can_merge(model):
        return model.merge_and_unload().eval()
    lora.fuse(model)
    lora.freeze(model, dtype)
    return model.get_base_model()


def has_adapter(model: Any) -> bool:
    """Return whether a model has layers with an adapter beside their weights."""
    return any(isinstance(module, LoraLayer) for module in model.modules())


def can_merge(model: Any) -> bool:
    """Return whether merging the adapter changes no number: never into weights below float32 or quantized ones.

    Those would be rounded to their own grid, and most of a small adapter with them.
    """
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return not is_quantized(model.get_base_model()) and not any(
        lora.is_narrow(layer) or any(layer.lora_bias.values()) for layer in layers
    )


@contextlib.contextmanager
def as_reference(model: Any) -> Iterator[None]:
    """Compute as the frozen reference: the start adapter if one was loaded beside the policy, else the base.

    The policy is active again afterwards, whatever happens inside.
    """
    if not isinstance(model, peft.PeftModel):
        yield
    elif REFERENCE in model.peft_config:
        active = model.active_adapter
        model.set_adapter(REFERENCE)
        try:
            yield
        finally:
            model.set_adapter(active)
    else:
        with model.disable_adapter():
            yield


def trainable_parameters(model: Any) -> dict[str, nn.Parameter]:
    """The adapter's parameters by name, in a fixed order."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def save_adapter(model: Any, target: Path) -> None:
    """Write the adapter in PEFT's format; equal weights give equal bytes. Raises StorageError."""
    weights = peft.get_peft_model_state_dict(model, adapter_name=POLICY, save_embedding_layers=False)
    settings = model.peft_config[POLICY].to_dict() | {"inference_mode": True}
    # PEFT holds target modules in a set, whose order differs from process to process.
    settings = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    with whole_directory(target) as aside:
        write_json(aside / "adapter_config.json", dict(sorted(settings.items())))
        ready = {name: tensor.detach().contiguous().cpu() for name, tensor in weights.items()}
        content = safetensors.torch.save(ready, metadata={"format": "pt"})
        write_whole(aside / "adapter_model.safetensors", content)


def _adapter_config(path: str) -> Any:
    try:
        adapter_config = peft.PeftConfig.from_pretrained(str(find_adapter(path)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"Adapter {path} cannot be loaded: {first_line(error)}") from None
    if adapter_config.peft_type != peft.PeftType.LORA:
        raise ModelError(f"Adapter {path} is {adapter_config.peft_type}, but only LoRA adapters are trained.")
    return adapter_config


def _attach(model: Any, path: str, name: str, adapter_config: Any = None, *, trainable: bool = False) -> Any:
    """Load the adapter at `path` into `model` under `name`. Raises ModelError."""
    adapter_config = adapter_config or _adapter_config(path)
    path = str(find_adapter(path))
    if not (Path(path) / "adapter_model.safetensors").is_file() and Path(path).is_dir():
        raise ModelError(f"Adapter {path} has no adapter_model.safetensors.")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if isinstance(model, peft.PeftModel):
                adapter_config.inference_mode = not trainable
                model.load_adapter(path, adapter_name=name, is_trainable=trainable)
            else:
                model = peft.PeftModel.from_pretrained(
                    model, path, adapter_name=name, is_trainable=trainable, config=adapter_config
                )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if memory_short(error):
            raise
        raise ModelError(f"Adapter {path} does not fit the base model: {first_line(error)}") from error
    if any("missing adapter keys" in str(warning.message) for warning in caught):
        raise ModelError(f"Adapter {path} does not fit the base model: some of its weights are missing.")
    if not trainable:
        model.eval()
    return model


def _check_same_shape(config: TrainConfig, adapter_config: Any) -> None:
    """Refuse LoRA settings that the start adapter cannot honour: its shape is what goes on being trained."""
    for name, wanted, has in (
        ("lora.r", config.lora.r, adapter_config.r),
        ("lora.alpha", config.lora.alpha, adapter_config.lora_alpha),
    ):
        if wanted != has:
            raise ConfigError(
                f"{name} is {wanted}, but start_adapter was trained with {has}; set it to that."
            )
    target = config.lora.target_modules
    if not isinstance(target, str) and set(target) != set(adapter_config.target_modules):
        names = ", ".join(sorted(adapter_config.target_modules))
        raise ConfigError(f"lora.target_modules differ from those of start_adapter, which are {names}.")
