"""The base model and its adapters: loaded by memory map, frozen, with one trainable LoRA adapter by PEFT.

No second model is ever loaded: the reference is the same base weights with the starting adapter, or none.
Adapter weights are kept in float32, so that small steps are not rounded away; the base model computes in
the chosen precision.
"""

import contextlib
import copy
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import safetensors.torch
import torch
import transformers
from safetensors import SafetensorError
from torch import nn

from training.engine import lora, stored
from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, EngineError, ModelError, first_line, memory_short
from training.engine.rundir import digest, whole_directory, write_json, write_whole
from training.engine.threads import SMALL_HIDDEN
from training.engine.tokens import Encoder

POLICY, REFERENCE = "default", "reference"  # names of the adapters inside a PeftModel
DEFAULT_MAX_LENGTH = 2048

transformers.utils.logging.disable_progress_bar()


@dataclass
class Loaded:
    """A model ready to compute, with what is needed to encode text for it."""

    model: Any  # PeftModel, or the bare base model where there is no adapter
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    eos_ids: frozenset[int]
    max_positions: int  # longest sequence the model can place

    @property
    def base(self) -> Any:
        """The transformers model; its linear layers are PEFT's where there is an adapter."""
        return self.model.get_base_model() if isinstance(self.model, peft.PeftModel) else self.model

    def encoder(self, config: TrainConfig) -> Encoder:
        """The encoder for this model. Raises ConfigError if max_length is more than the model can place."""
        if config.max_length is not None and config.max_length > self.max_positions:
            raise ConfigError(
                f"max_length is {config.max_length}, but the model places at most {self.max_positions} tokens."
            )
        return Encoder(
            self.tokenizer,
            eos_ids=self.eos_ids,
            vocab_size=self.base.get_input_embeddings().num_embeddings,
            max_length=config.max_length or min(DEFAULT_MAX_LENGTH, self.max_positions),
            chat_template_kwargs=config.chat_template_kwargs,
        )


def set_threads(config: TrainConfig) -> int:
    """Use the CPU threads this process may have: the configured number, OMP_NUM_THREADS, or all it is given."""
    if config.threads:
        torch.set_num_threads(config.threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(_available_cpus())
    return torch.get_num_threads()


def choose_device(config: TrainConfig) -> torch.device:
    """The device to compute on. Raises ConfigError if CUDA is asked for and absent."""
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ConfigError("device is 'cuda', but PyTorch finds no CUDA device here.")
    if config.quantization != "none" and not available:
        raise ConfigError("quantization needs a CUDA device, and PyTorch finds none here.")
    if config.device == "cpu" or not available:
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def choose_dtype(config: TrainConfig, device: torch.device, hidden_size: int) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively and the model is large enough to gain from it."""
    if config.dtype != "auto":
        return torch.float32 if config.dtype == "float32" else torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    native = torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native and hidden_size >= SMALL_HIDDEN else torch.float32


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
        model = _attach(loaded.model, str(adapter), POLICY)
        loaded.model = for_sampling(model, merged=config.quantization == "none")
    return loaded


def for_sampling(model: Any, *, merged: bool) -> Any:
    """The transformers model that computes what the PeftModel `model` does.

    `merged`, the adapter is added to the weights, which is fastest. In 4 bits they would be rounded anew, to
    another policy than was trained: there the adapter stays beside them.
    """
    return model.merge_and_unload().eval() if merged else model.get_base_model()


def load_base(config: TrainConfig, *, placed: bool = True, merging: bool = False) -> Loaded:
    """The frozen base model and its tokenizer, from safetensors, without running code that comes with it.

    Unless `placed`, the weights stay on the CPU, to be spread over devices. With `merging` they are all in the
    precision that is computed in, so that an adapter can be added to them. Raises ModelError with one sentence if
    either cannot be loaded, ConfigError if a revision of a folder is asked for.
    """
    name, revision = config.base_model, config.revision
    if Path(name).is_dir() and revision:
        raise ConfigError(f"revision has no effect on base_model {name}, which is a folder; unset it.")
    if not Path(name).is_dir() and not _is_hub_id(name):
        raise ModelError(f"base_model {name} does not exist: it is neither a directory nor a hub id.")
    device = choose_device(config)
    where: dict[str, Any] = {"revision": revision} if revision else {}
    try:
        model_config = transformers.AutoConfig.from_pretrained(name, **where)
        dtype = choose_dtype(config, device, model_config.get_text_config().hidden_size)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **where)
        model, loading = _load_weights(config, model_config, dtype, device, keep=placed and not merging)
    except Exception as error:  # a model's files can make the libraries raise anything
        if isinstance(error, EngineError) or memory_short(error):
            raise
        raise ModelError(f"base_model {name} cannot be loaded: {first_line(error)}") from error
    if loading["missing_keys"]:
        raise ModelError(f"base_model {name} lacks weights, such as {min(loading['missing_keys'])}.")
    if config.quantization == "none" and placed:
        model.to(device)
    model.eval()
    model.requires_grad_(False)
    model.config.use_cache = False
    text_config = model.config.get_text_config()
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        eos_ids=_eos_ids(tokenizer, model),
        max_positions=getattr(text_config, "max_position_embeddings", None) or 1 << 20,
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
        write_tensors(aside / "adapter_model.safetensors", weights)


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors as safetensors, whole. Raises StorageError."""
    ready = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    write_whole(path, safetensors.torch.save(ready, metadata={"format": "pt"}))


def model_files(config: TrainConfig) -> dict[str, str]:
    """Digests of the files that define the starting policy, by name, for cache keys and `done.json`.

    What comes from the hub is named by id and commit instead, which already identify its content.
    """
    found: dict[str, str] = {}
    for label, name, revision, file_name in (
        ("base_model", config.base_model, config.revision, "config.json"),
        ("start_adapter", config.start_adapter, None, "adapter_config.json"),
    ):
        if name is None:
            continue
        if not Path(name).is_dir():
            found[label] = f"{name}@{_commit(name, file_name, revision) or revision or 'main'}"
            continue
        for file in sorted(Path(name).iterdir()):
            if file.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt"):
                found[f"{label}/{file.name}"] = digest(file)
    return found


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _commit(name: str, file_name: str, revision: str | None) -> str | None:
    """The commit that a revision of a hub repository stands for now, as the place of a file in the cache tells it.

    None where that cannot be known: the hub is out of reach and the file not in the cache.
    """
    if not _is_hub_id(name):
        return None
    try:
        place = transformers.utils.hub.cached_file(name, file_name, revision=revision)
    except OSError:
        return None
    commit: str | None = transformers.utils.hub.extract_commit_hash(place, None)
    return commit


def _available_cpus() -> int:
    """CPUs this process may run on, no more than its control group's quota pays for."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cpus = min(cpus, max(1, int(quota) // int(period)))
    return cpus


def _load_weights(
    config: TrainConfig, model_config: Any, dtype: torch.dtype, device: torch.device, *, keep: bool
) -> tuple[Any, dict[str, Any]]:
    """The model, computing in `dtype`, and what transformers tells of its loading.

    With `keep`, weights that are stored in half precision stay so where the model computes in float32.
    """
    half = None
    if keep and dtype == torch.float32 and config.quantization == "none":
        half = stored.stored_dtype(config.base_model, config.revision)

    def load(dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
        model, loading = transformers.AutoModelForCausalLM.from_pretrained(
            config.base_model,
            config=copy.deepcopy(model_config),
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **({"revision": config.revision} if config.revision else {}),
            **_quantization(config, device, dtype),
        )
        return model, loading

    if half:
        model, loading = load(half)
        if stored.widen(model, dtype):
            return model, loading
    return load(dtype)


def _quantization(config: TrainConfig, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    if config.quantization == "none":
        return {}
    try:
        import bitsandbytes  # noqa: F401 - transformers imports it itself; this is to say so in a sentence
    except ImportError:
        raise ModelError("quantization needs the package bitsandbytes, which is not installed.") from None
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=config.quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": settings, "device_map": {"": device}}


def _adapter_config(path: str) -> Any:
    try:
        adapter_config = peft.PeftConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"Adapter {path} cannot be loaded: {first_line(error)}") from None
    if adapter_config.peft_type != peft.PeftType.LORA:
        raise ModelError(f"Adapter {path} is {adapter_config.peft_type}, but only LoRA adapters are trained.")
    return adapter_config


def _attach(model: Any, path: str, name: str, adapter_config: Any = None, *, trainable: bool = False) -> Any:
    """Load the adapter at `path` into `model` under `name`. Raises ModelError."""
    adapter_config = adapter_config or _adapter_config(path)
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


def _eos_ids(tokenizer: Any, model: Any) -> frozenset[int]:
    """All ids on which generation ends, as tokenizer, model and generation configuration name them."""
    found: set[int] = set()
    for value in (
        tokenizer.eos_token_id,
        model.config.get_text_config().eos_token_id,
        getattr(model.generation_config, "eos_token_id", None),
    ):
        found.update(value if isinstance(value, (list, tuple)) else [] if value is None else [value])
    return frozenset(found)
