"""The base model: loaded by memory map, frozen, on the chosen device and computing in the chosen precision."""

import copy
import importlib
import logging
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import peft
import torch
import transformers
from peft.utils import AuxiliaryTrainingWrapper

from training.engine.config import TrainConfig
from training.engine.data.chats import uses_date
from training.engine.data.standard_templates import resolve
from training.engine.data.tokens import Encoder
from training.engine.errors import ConfigError, EngineError, ModelError, first_line, memory_short
from training.engine.machine.devices import available_cpus
from training.engine.model import hub, narrow
from training.engine.model.files import ModelFiles, adapter_digests, find_model
from training.engine.model.norms import fuse_norms
from training.engine.model.precision import bfloat16_pays
from training.engine.model.threads import SMALL_HIDDEN
from training.engine.model.wrappers import copy_head_input, model_class
from training.engine.rundir import RunDirectory

DEFAULT_MAX_LENGTH = 2048
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")  # of a layer in the name of a weight
# What a config.json calls the number of layers for multi-token prediction, which are stored after the model's own.
_MTP_LAYERS = (
    "num_nextn_predict_layers",
    "num_mtp_layers",
    "mtp_num_hidden_layers",
    "mtp_num_layers",
    "num_mtp_modules",
)

transformers.utils.logging.disable_progress_bar()


@dataclass
class LoadedModel:
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

    @property
    def vocab_size(self) -> int:
        """Number of token ids that the model knows."""
        layer = self.base.get_input_embeddings()  # PEFT's, around the model's own, where they are adapted
        layer = layer.original_module if isinstance(layer, AuxiliaryTrainingWrapper) else layer
        known: int = getattr(layer, "base_layer", layer).num_embeddings
        return known

    def make_encoder(self, config: TrainConfig, run: RunDirectory | None = None) -> Encoder:
        """Return the encoder for this model. Raises ConfigError if max_length is more than the model can place.

        A chat template that asks for the date is told `template_date`, or the day that `run` keeps.
        """
        if config.max_length is not None and config.max_length > self.max_positions:
            raise ConfigError(
                "max_length",
                f"is {config.max_length}, but the model places at most {self.max_positions} tokens.",
            )
        day, template = config.template_date, resolve(config.chat_template)
        if run and not day and uses_date(template or self.tokenizer.chat_template):
            day = run.keep_template_date()
        return Encoder(
            self.tokenizer,
            eos_ids=self.eos_ids,
            vocab_size=self.vocab_size,
            max_length=config.max_length or min(DEFAULT_MAX_LENGTH, self.max_positions),
            chat_template=template,
            chat_template_kwargs=config.chat_template_kwargs,
            template_date=day,
            unmatched_turns=config.unmatched_turns,
            control_tokens_in_text=config.control_tokens_in_text,
        )


def set_threads(config: TrainConfig) -> int:
    """Use the CPU threads this process may have: the configured number, OMP_NUM_THREADS, or all it is given."""
    if config.threads:
        torch.set_num_threads(config.threads)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(available_cpus())
    return torch.get_num_threads()


def choose_device(config: TrainConfig) -> torch.device:
    """Return the device to compute on. Raises ConfigError if CUDA is asked for and absent, or has too few GPUs."""
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ConfigError("device", "is 'cuda', but PyTorch finds no CUDA device here.")
    if config.quantization != "none" and not available:
        raise ConfigError("quantization", "needs a CUDA device, and PyTorch finds none here.")
    if config.device == "cpu" or not available:
        return torch.device("cpu")
    number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= count:
        raise ConfigError(
            "device",
            f"is a GPU for each process, and PyTorch finds {count} here: start torchrun with --nproc-per-node"
            f" {count}, or set device to 'cpu'.",
        )
    return torch.device("cuda", number)


def choose_dtype(config: TrainConfig, device: torch.device, hidden_size: int) -> torch.dtype:
    """Return bfloat16 where the hardware is faster in it and the model is large enough to gain from that.

    GPUs that have tensor cores, but none for bfloat16, take float16.
    """
    if config.dtype != "auto":
        chosen: torch.dtype = getattr(torch, config.dtype)
        return chosen
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability < (7, 0):
            return torch.float32
        return torch.bfloat16 if capability >= (8, 0) else torch.float16
    return torch.bfloat16 if hidden_size >= SMALL_HIDDEN and bfloat16_pays() else torch.float32


def load_base(config: TrainConfig, *, placed: bool = True, merging: bool = False) -> LoadedModel:
    """Return the frozen base model and its tokenizer, without running code that comes with it.

    Unless `placed`, the weights stay on the CPU, to be spread over devices. With `merging` they are all in the
    precision that is computed in, so that an adapter can be added to them. Raises ModelError with one sentence if
    either cannot be loaded, ConfigError if a revision of a folder, or quantization of a GGUF file, is asked for.
    """
    name = config.base_model
    files = find_model(name, config.revision)
    if files.gguf and config.quantization != "none":
        raise ConfigError("quantization", f"has no effect on base_model {name}, a GGUF file; unset it.")
    device = choose_device(config)
    if device.type == "cuda":
        # This takes seconds, which are not part of the first step.
        importlib.import_module("torch.nn.attention.varlen")
        # Sums over parts of a product are made in float32, as those within a part are.
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    try:
        model_config = files.read_config()
        # Both are set on what is inside it too. A config.json may name a kernel of the hub, which is code.
        model_config._attn_implementation = _only_attention(model_config)
        model_config._experts_implementation = None
        dtype = choose_dtype(config, device, model_config.get_text_config().hidden_size)
        tokenizer = files.read_tokenizer()
        keep = placed and not merging
        with hub.offline():
            model, loading = _load_weights(config, files, model_config, dtype, device, keep=keep)
    except Exception as error:  # a model's files can make the libraries raise anything
        if isinstance(error, EngineError) or memory_short(error):
            raise
        raise files.refusal(first_line(error).rstrip(".")) from error
    if loading["missing_keys"]:
        missing = min(loading["missing_keys"])
        advice = "copy the whole model, or name a causal language model"
        raise ModelError(f"base_model {name} lacks weights, such as {missing}; {advice}.")
    if left_over := _further_layer(loading["unexpected_keys"], model):
        reason = f"its weights have {left_over}, for which its config.json has no place"
        raise files.refusal(f"{reason}; copy both from the same model")
    if is_quantized(model):  # in 8 bits, a line for each layer and forward
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    elif placed:
        model.to(device)
    model.eval()
    model.requires_grad_(False)
    copy_head_input(model)
    if device.type == "cuda" and placed:
        fuse_norms(model)
    model.name_or_path = name  # which an adapter names as its base: a GGUF file, and not its folder
    model.config.use_cache = False
    # XLNet has -1 for a model without a limit.
    places = getattr(model.config.get_text_config(), "max_position_embeddings", None) or -1
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        eos_ids=_eos_ids(tokenizer, model),
        max_positions=places if places > 0 else 1 << 20,
    )


def _only_attention(config: Any) -> str | None:
    """Return the attention that computes this model as it is defined, or None where the library chooses well.

    Some versions of transformers, such as 5.17, leave the cap of Gemma 2’s scores out where PyTorch computes them.
    """
    has_cap = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    return "eager" if has_cap else None


def _further_layer(unexpected: Collection[str], model: Any) -> str:
    """Return a weight that is one of the model's but for its number, or "": without it the model is cut short.

    Other weights that a model has no place for are those of heads, or of other tasks, and are not missed: so are
    layers of multi-token prediction, as many as its config.json counts.
    """
    if not unexpected:
        return ""
    shapes = {_NUMBER.sub("#", name) for name in model.state_dict()}
    config = model.config.get_text_config()
    own = getattr(config, "num_hidden_layers", 0)
    counts = [getattr(config, name, 0) for name in _MTP_LAYERS]
    spare = range(own, own + max(count if isinstance(count, int) else 0 for count in counts))

    def is_missed(name: str) -> bool:
        layer = _NUMBER.search(name)
        return _NUMBER.sub("#", name) in shapes and not (layer and int(layer[0]) in spare)

    return min(filter(is_missed, unexpected), default="")


def model_files(config: TrainConfig) -> dict[str, str]:
    """Return digests of the files that define the starting policy and the reference, by name.

    They are for cache keys and `done.json`.

    Files from the hub are named by id and commit instead, which already identify their content. Raises ModelError.
    """
    found = find_model(config.base_model, config.revision).digests
    if config.start_adapter:
        found |= adapter_digests(config.start_adapter, "start_adapter")
    if config.reference not in ("start", "base"):
        found |= adapter_digests(config.reference, "reference")
    return found


def _load_weights(
    config: TrainConfig,
    files: ModelFiles,
    model_config: Any,
    dtype: torch.dtype,
    device: torch.device,
    *,
    keep: bool,
) -> tuple[Any, dict[str, Any]]:
    """Return the model, computing in `dtype`, and what transformers tells of its loading.

    With `keep`, weights that are stored in half precision stay so where the model computes in float32.
    """
    half = None
    settings = _quantization(config, model_config, device, dtype)
    if keep and dtype == torch.float32 and not settings:
        half = narrow.stored_dtype(files.safetensors)

    def load(dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
        model, loading = model_class(model_config).from_pretrained(
            files.source,
            config=copy.deepcopy(model_config),
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            **files.where,
            **files.format,
            **settings,
        )
        if loading["mismatched_keys"]:
            weights, stored, wanted = min(loading["mismatched_keys"])
            sizes = f"{list(stored)}, and {list(wanted)} by its config.json"
            raise files.refusal(f"the matrix {weights} is {sizes}; copy both from the same model")
        return model, loading

    if half:
        model, loading = load(half)
        if narrow.widen(model, dtype):
            return model, loading
    return load(dtype)


def is_quantized(model: Any) -> bool:
    """Return whether a transformers model holds quantized weights, by our option or as they are stored."""
    return bool(getattr(model, "is_quantized", False))


def _quantization(
    config: TrainConfig, model_config: Any, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """Return how to load weights that are to be quantized, or are so already: such a model cannot be moved later."""
    if config.quantization == "none":
        stored_so = getattr(model_config, "quantization_config", None)
        return {"device_map": {"": device}} if stored_so else {}
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


def _eos_ids(tokenizer: Any, model: Any) -> frozenset[int]:
    """Return all ids on which generation ends, as tokenizer, model and generation configuration name them."""
    found: set[int] = set()
    for value in (
        tokenizer.eos_token_id,
        getattr(model.config.get_text_config(), "eos_token_id", None),
        getattr(model.generation_config, "eos_token_id", None),
    ):
        found.update(value if isinstance(value, (list, tuple)) else [] if value is None else [value])
    return frozenset(found)
