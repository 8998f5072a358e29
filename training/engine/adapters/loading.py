"""LoRA adapters on a frozen base model, by PEFT: loaded, trained, switched off for the reference, saved, merged.

No second model is ever loaded: the reference is the same base weights with the starting adapter, or none. Adapter
weights are kept in float32, so that small steps are not rounded away.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import safetensors.torch
import torch
import transformers
from peft.tuners.lora.layer import Embedding, LoraLayer, ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper, get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn

from training.engine.adapters import lora
from training.engine.adapters.embeddings import whole_matrices
from training.engine.adapters.foreign import AdapterFiles, is_whole
from training.engine.adapters.reloading import lost_weight
from training.engine.adapters.targets import Targets, adapted_layers, find_targets, peft_targets
from training.engine.config import ALL_LINEAR, TrainConfig
from training.engine.errors import ConfigError, ModelError, memory_short, sentence
from training.engine.model.base import LoadedModel, is_quantized, load_base
from training.engine.model.wrappers import head_of
from training.engine.rundir import whole_directory, write_json, write_whole

POLICY, REFERENCE = "default", "reference"  # names of the adapters inside a PeftModel


def load_policy(config: TrainConfig) -> LoadedModel:
    """Return the base model with one trainable adapter: the start adapter's weights, or fresh ones that change nothing.

    Raises ModelError if the start adapter cannot be loaded. Raises ConfigError if its shape is not the configured one,
    or if the adapter could not be loaded again once it is trained.
    """
    start = AdapterFiles(config.start_adapter) if config.start_adapter else None
    other = AdapterFiles(config.reference) if config.reference not in ("start", "base") else None
    # A matrix that an adapter replaces may be kept in more than the precision of the base model's file.
    merging = any(files is not None and files.replaces_weights() for files in (start, other))
    loaded = load_base(config, placed=not config.shard, merging=merging)
    if start:
        wanted = _layers_asked_for(config, start.config(), loaded.model)
        loaded.model = _attach(loaded.model, start, POLICY, trainable=True)
        _check_same_shape(config, start.config(), wanted, loaded.model)
        _drop(loaded.model, config.lora.dropout)
    else:
        loaded.model = wrap(loaded.model, config)
    _check_loads_again(loaded.model, config)
    if other:
        loaded.model = _attach(loaded.model, other, REFERENCE)
        _switch(loaded.model, POLICY)
    lora.fuse(loaded.model)
    if config.gradient_checkpointing:
        recompute_activations(loaded.base)
    return loaded


def wrap(model: Any, config: TrainConfig) -> Any:
    """Return `model` with a fresh adapter that changes nothing yet. Raises ConfigError if its targets fit no layer."""
    targets = find_targets(model, config.lora)
    if config.lora.dora and peft_targets(model, targets).get("target_parameters"):
        raise ConfigError(
            "lora.dora",
            "cannot be trained with layers of a mixture of experts that PEFT adapts by their weights.",
        )
    conv = any(isinstance(module, transformers.pytorch_utils.Conv1D) for module in model.modules())
    torch.manual_seed(config.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tied embeddings, and of an older name of gradient checkpointing
        try:
            model = peft.get_peft_model(
                model,
                peft.LoraConfig(
                    r=config.lora.r,
                    lora_alpha=config.lora.alpha,
                    use_rslora=config.lora.rslora,
                    use_dora=config.lora.dora,
                    fan_in_fan_out=conv,
                    task_type="CAUSAL_LM",
                    **peft_targets(model, targets),
                ),
            )
        except ValueError as error:
            raise ConfigError("lora.target_modules", f"cannot be adapted: {sentence(error)}") from None
    lora.set_magnitudes(model)
    _drop(model, config.lora.dropout)
    return model


def recompute_activations(base: Any) -> None:
    """Keep only each decoder layer's input for the backward pass, and recompute the rest.

    Raises ConfigError if the architecture cannot.
    """
    # Older versions of transformers, such as 5.17, know it by the second name alone.
    enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
    try:
        enable()
    except ValueError as error:
        raise ConfigError("gradient_checkpointing", str(error), separator=": ") from None
    for layer in base.modules():
        if isinstance(layer, transformers.modeling_layers.GradientCheckpointingLayer):
            # A layer recomputes only in training mode, in which some add dropout of their own.
            layer.training = True
            for name, value in vars(layer).items():
                if "dropout" in name and isinstance(value, float):
                    setattr(layer, name, 0.0)


def load_scored(config: TrainConfig, policy: Path | None, *, beside_start: bool) -> LoadedModel:
    """Return the base model with adapter `policy` and, with `beside_start`, what it was trained against beside it."""
    named = [(POLICY, policy), (REFERENCE, reference_adapter(config) if beside_start else None)]
    adapters = {name: AdapterFiles(str(path)) for name, path in named if path}
    loaded = load_base(config, merging=any(files.replaces_weights() for files in adapters.values()))
    for name, files in adapters.items():
        loaded.model = _attach(loaded.model, files, name)
    lora.fuse(loaded.model)
    return loaded


def reference_adapter(config: TrainConfig) -> str | None:
    """Return the path of the adapter that training measures against, None for the base model."""
    return {"start": config.start_adapter, "base": None}.get(config.reference, config.reference)


def load_sampled(config: TrainConfig, adapter: Path | str | None) -> LoadedModel:
    """Return the base model as `adapter` changes it, ready to generate from, not trainable."""
    loaded = load_base(config, merging=True)
    if adapter:
        loaded.model = for_sampling(_attach(loaded.model, AdapterFiles(str(adapter)), POLICY), loaded.dtype)
    return loaded


def attach_adapter(model: Any, adapter: Path) -> Any:
    """Put an adapter beside the weights of a transformers model. Raises ModelError if it does not fit."""
    return _attach(model, AdapterFiles(str(adapter)), POLICY)


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

    Those would be rounded to their own grid, and most of a small adapter with them. Nor into embeddings, which the
    vocabulary head may share.
    """
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return not is_quantized(model.get_base_model()) and not any(
        lora.is_narrow(layer) or any(layer.lora_bias.values()) or isinstance(layer, Embedding)
        for layer in layers
    )


@contextlib.contextmanager
def as_reference(model: Any) -> Iterator[None]:
    """Compute as the frozen reference: the adapter that was loaded beside the policy, else the base.

    The policy is active again afterwards, whatever happens inside.
    """
    if not isinstance(model, peft.PeftModel):
        yield
    elif REFERENCE in model.peft_config:
        active = model.active_adapter
        _switch(model, REFERENCE)
        try:
            yield
        finally:
            _switch(model, active)
    else:
        whole_matrices(model).use(None)
        try:
            with model.disable_adapter():
                yield
        finally:
            whole_matrices(model).use(model.active_adapter)


def trainable_parameters(model: Any) -> dict[str, nn.Parameter]:
    """Return the adapter's parameters by name, in a fixed order."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def save_adapter(model: Any, target: Path) -> None:
    """Write the adapter in PEFT's format; equal weights give equal bytes. Raises StorageError."""
    weights = _written_weights(model) | whole_matrices(model).held_by(POLICY)
    with whole_directory(target) as aside:
        write_json(aside / "adapter_config.json", _written_settings(model))
        ready = {name: tensor.detach().contiguous().cpu() for name, tensor in weights.items()}
        content = safetensors.torch.save(ready, metadata={"format": "pt"})
        write_whole(aside / "adapter_model.safetensors", content)


def _written_weights(model: Any) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = get_peft_model_state_dict(
        model, adapter_name=POLICY, save_embedding_layers=False
    )
    return weights


def _written_settings(model: Any) -> dict[str, Any]:
    """Return what adapter_config.json says, in the same order in every process: PEFT holds names in sets."""
    settings = model.peft_config[POLICY].to_dict() | {"inference_mode": True}
    settings = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    return dict(sorted(settings.items()))


def _attach(model: Any, files: AdapterFiles, name: str, *, trainable: bool = False) -> Any:
    """Put an adapter beside the weights of `model` under `name`. Raises ModelError."""
    base = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    config, weights = files.fitted(base)
    config.inference_mode, config.lora_dropout = not trainable, 0.0
    matrices = whole_matrices(base)
    matrices.add(base, name, files.path, weights)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say is checked here
            if isinstance(model, peft.PeftModel):
                model.add_adapter(name, config)
            else:
                model = peft.PeftModelForCausalLM(model, config, adapter_name=name)
            _check_untouched(model, files.path)
            result = set_peft_model_state_dict(model, weights, adapter_name=name)
    except KeyError as error:
        raise ModelError(
            f"Adapter {files.path} does not fit the base model: {error.args[0]} is missing."
        ) from error
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        if memory_short(error):
            raise
        raise ModelError(f"Adapter {files.path} does not fit the base model: {sentence(error)}") from error
    lost = [key for key in result.missing_keys if f".{name}" in key and not is_whole(key)]
    if lost:
        raise ModelError(
            f"Adapter {files.path} does not fit the base model: some of its weights are missing."
        )
    if result.unexpected_keys:
        raise ModelError(
            f"Adapter {files.path} does not fit the base model, which has no place for {result.unexpected_keys[0]}."
        )
    matrices.use(model.active_adapter)
    return model if trainable else model.eval()


def _check_untouched(model: Any, path: str) -> None:
    """Refuse an adapter of what cannot be computed with one. Raises ModelError."""
    base = model.get_base_model()
    head = head_of(base)
    if isinstance(head, BaseTunerLayer | AuxiliaryTrainingWrapper):
        what = "trainable_token_indices" if isinstance(head, AuxiliaryTrainingWrapper) else "target_modules"
        raise ModelError(
            f"Adapter {path} changes the vocabulary head by {what}, which is never trained here; merge the adapter into"
            " its base model and start from that."
        )
    for name, layer in base.named_modules():
        if isinstance(layer, LoraLayer) and "Router" in type(layer.get_base_layer()).__name__:
            if isinstance(layer, ParamWrapper):
                continue
            raise ModelError(
                f"Adapter {path} adapts {name}, a router, which answers with more than a product."
            )


def _switch(model: Any, name: str) -> None:
    """Compute with the adapter `name`."""
    model.set_adapter(name)
    whole_matrices(model).use(name)


def _drop(model: Any, share: float) -> None:
    """Let the policy's adapter drop this share of its inputs while it is trained. Raises ConfigError.

    PEFT refuses to for a layer that is named by its weight, even where it is a linear layer.
    """
    if not share:
        return
    for layer in model.modules():
        if not isinstance(layer, LoraLayer) or isinstance(layer, Embedding):
            continue
        if isinstance(layer, ParamWrapper) and not lora.is_covered(layer):
            raise ConfigError(
                "lora.dropout",
                "cannot be applied to routed experts, whose weights are stacked; set it to 0, or do not"
                " adapt them.",
            )
        layer.lora_dropout.update({POLICY: nn.Dropout(share)})
    if not model.peft_config[POLICY].target_parameters:
        model.peft_config[POLICY].lora_dropout = share


def _check_loads_again(model: Any, config: TrainConfig) -> None:
    """Refuse an adapter that plain PEFT could not load when it is trained. Raises ConfigError."""
    base = model.get_base_model()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lost = lost_weight(base, _written_settings(model), _written_weights(model), model)
    except (ValueError, KeyError, RuntimeError) as error:
        if memory_short(error):
            raise
        lost = sentence(error)
    if lost:
        option = "start_adapter" if config.start_adapter else "lora.target_modules"
        raise ConfigError(
            option,
            f"PEFT could not load the trained adapter into {type(base).__name__} again"
            f" ({lost.removeprefix('base_model.model.')}); adapt other layers, by lora.experts or lora.target_modules.",
            separator=": ",
        )


def _check_same_shape(config: TrainConfig, start: Any, wanted: Targets | None, model: Any) -> None:
    """Refuse LoRA settings that the start adapter cannot honour: it is trained on in its own shape.

    `start` is its PEFT configuration, `wanted` are the layers that the settings name. Raises ConfigError.
    """
    for name, asked, has in (
        ("lora.r", config.lora.r, start.r),
        ("lora.alpha", config.lora.alpha, start.lora_alpha),
    ):
        if asked != has:
            raise ConfigError(name, f"is {asked}, but start_adapter was trained with {has}; set it to that.")
    for name, asked, has in (
        ("lora.rslora", config.lora.rslora, start.use_rslora),
        ("lora.dora", config.lora.dora, start.use_dora),
    ):
        if asked and not has:
            raise ConfigError(name, "is set, but start_adapter was trained without; unset it.")
    if wanted and wanted != adapted_layers(model):
        names = start.target_modules or start.target_parameters
        shown = names if isinstance(names, str) else ", ".join(sorted(names))
        option = "lora.experts" if config.lora.target_modules == ALL_LINEAR else "lora.target_modules"
        raise ConfigError(option, f"differ from those of start_adapter, which are {shown}.")


def _layers_asked_for(config: TrainConfig, start: Any, base: Any) -> Targets | None:
    """Return the layers that the settings name; None if they leave it to the start adapter, or say the same."""
    asked = config.lora.target_modules
    left_open = asked == ALL_LINEAR and config.lora.experts == "shared"
    same = (
        asked == start.target_modules
        if isinstance(asked, str)
        else set(asked) == set(start.target_modules or ())
    )
    return None if left_open or same else find_targets(base, config.lora)
