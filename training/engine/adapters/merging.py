"""The verb `merge`: a base model with its adapter as one model, in the precision that the base is stored in or another.

Each layer is widened to float32, changed by its adapter, and rounded once. So the memory is that of the weights as they
are written and one layer, and the result is as close to base and adapter as its precision can be.
"""

import copy
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora.layer import Embedding, LoraLayer, ParamWrapper
from torch import nn

from training.engine.adapters.loading import attach_adapter
from training.engine.adapters.rounding import Rounding
from training.engine.adapters.settings import BASE
from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, EngineError, ModelError, first_line, memory_short
from training.engine.model import hub, narrow
from training.engine.model.base import is_quantized, set_threads
from training.engine.model.files import ModelFiles, adapter_digests, find_model
from training.engine.model.wrappers import model_class
from training.engine.rundir import RunDirectory, check_new, storing, whole_directory

SHARD = "5GB"  # the most that one file of weights holds
_REPORT_SECONDS = 0.5
_ENOUGH = 0.9  # of an adapter's change
_AT_ONCE = 1 << 24  # values that are compared at once
_LOST = (
    "Rounding to {dtype} leaves {kept:.0%} of what the adapter changes. Merge in {wider}, or use the adapter beside its"
    " base model."
)
_WIDER = {torch.bfloat16: "float16 or float32", torch.float16: "float32"}
_UNPACKED = torch.float16  # in which the weights of a GGUF file are written


def merge(run: RunDirectory, out: Path, precision: str = BASE) -> None:
    """Write base model and adapter of a run directory as one model into `out`, which is new, then done.json.

    The adapter is adapter/ where it exists, else start_adapter. `precision` is one of PRECISIONS. Raises EngineError
    subclasses; there is no `out` then. After a kill there may be one, which a new try refuses to replace.
    """
    config = run.read_config()
    check_new(out)
    set_threads(config)
    with run.locked():
        started = time.monotonic()
        run.progress("loading")
        adapter = _adapter(run, config)
        files = find_model(config.base_model, config.revision)
        inputs = run.hashes([run.config_file]) | files.digests | adapter_digests(str(adapter), "adapter")
        asked = None if precision == BASE else getattr(torch, precision)
        model = _load_stored(files, asked)
        stored = next(model.parameters()).dtype
        dtype = asked or stored
        rounding = Rounding(model, stored, dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            merged, layers, kept = _merge_layers(run, model, adapter, rounding)
        if asked is not None or files.gguf:
            rounding.round_rest(merged)
        tokenizer = files.read_tokenizer()
        if config.chat_template is not None:
            tokenizer.chat_template = config.chat_template
        run.progress("saving", layers, layers)
        with storing(out), whole_directory(out, replaces=False) as aside, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _save(merged, aside)
            tokenizer.save_pretrained(aside)
        name = str(dtype).removeprefix("torch.")
        is_lost = kept < _ENOUGH and dtype in _WIDER
        events = [_LOST.format(dtype=name, kept=kept, wider=_WIDER[dtype])] if is_lost else []
        summary = {
            "status": "merged",
            "policy": str(adapter),
            "layers": layers,
            "dtype": name,
            "kept": round(kept, 4),
            "events": events,
            "seconds": round(time.monotonic() - started, 3),
        }
        try:
            run.finish("merge", summary, inputs, [out])
        except BaseException:
            shutil.rmtree(out)
            raise
        run.progress("done", layers, layers)
    for event in events:
        print(event, file=sys.stderr)


def _adapter(run: RunDirectory, config: TrainConfig) -> Path:
    if run.has_adapter:
        return run.adapter
    if not config.start_adapter:
        raise ConfigError("start_adapter", f"is not set, and {run.adapter} holds no adapter to merge.")
    return Path(config.start_adapter)


def _load_stored(files: ModelFiles, asked: torch.dtype | None) -> Any:
    """Return the base model on the CPU in the precision that its weights are stored in. Raises ModelError.

    A GGUF file is stored in none, and is unpacked to the one that is asked for.
    """
    config = files.read_config()
    if getattr(config, "quantization_config", None):
        raise files.refusal(
            "its weights are quantized, and an adapter cannot be merged into them without loss; "
            "merge it into the model before quantization"
        )
    config._attn_implementation = config._experts_implementation = None
    unpacked = asked or _UNPACKED
    dtype = unpacked if files.gguf else narrow.stored_dtype(files.safetensors) or torch.float32
    try:
        with hub.offline():
            model = model_class(config).from_pretrained(
                files.source, config=copy.deepcopy(config), dtype=dtype, **files.where, **files.format
            )
    except Exception as error:  # a model's files can make the libraries raise anything
        if isinstance(error, EngineError) or memory_short(error):
            raise
        raise files.refusal(first_line(error).rstrip(".")) from error
    model.requires_grad_(False)
    return model.eval()


def _merge_layers(run: RunDirectory, model: Any, adapter: Path, rounding: Rounding) -> tuple[Any, int, float]:
    """Return the model with the adapter merged into its weights, the number of layers that it changed, and a share.

    The share is how much of the adapter's change is left after rounding: the projection of what is stored on it.
    """
    wrapped = attach_adapter(model, adapter)
    layers = [layer for layer in wrapped.modules() if isinstance(layer, LoraLayer)]
    base = wrapped.get_base_model()
    if is_quantized(base):
        raise ModelError("An adapter cannot be merged into quantized weights without loss.")
    tied = bool(getattr(base.config.get_text_config(), "tie_word_embeddings", False))
    if tied and any(isinstance(layer, Embedding) for layer in layers):
        raise ModelError(
            f"Adapter {adapter} adapts the embeddings, and the vocabulary head shares their weights: merged, it would "
            "change the head too. Use it beside the base model."
        )
    told = left = whole = 0.0
    for number, layer in enumerate(layers):
        for kept, asked in _merge_layer(layer, rounding):
            left, whole = left + kept, whole + asked
        if time.monotonic() - told > _REPORT_SECONDS:
            told = time.monotonic()
            run.progress("merging", number + 1, len(layers))
    return wrapped.unload(), len(layers), left / whole if whole else 1.0


def _merge_layer(layer: Any, rounding: Rounding) -> Iterator[tuple[float, float]]:
    """Add the adapter to the weights of one layer in float32, and round the sum once.

    Yields two products of each of its weights: of the change that is stored, and of the change that was asked for, with
    the latter. Raises ModelError.
    """
    inner = layer.get_base_layer()
    has_bias = any(layer.lora_bias.values())
    if has_bias and getattr(inner, "bias", None) is None:
        raise ModelError(
            "The adapter has a bias for a layer that has none in the base model, so it cannot be merged. Use it beside"
            " the base model."
        )
    weights: list[nn.Parameter] = [
        layer.get_param() if isinstance(layer, ParamWrapper) else inner.weight,
        *([inner.bias] if has_bias else []),
    ]
    before = [weight.data for weight in weights]
    for weight in weights:
        weight.data = weight.data.to(torch.float32, copy=True)
    layer.merge()
    for weight, base in zip(weights, before, strict=True):
        if not bool(weight.isfinite().all()):
            raise ModelError("The adapter makes weights that are not finite; it cannot be merged.")
        exact = weight.data
        rounding.round(weight, base.dtype)
        yield _products(base, weight.data, exact)


def _products(base: torch.Tensor, stored: torch.Tensor, exact: torch.Tensor) -> tuple[float, float]:
    """Return the products of two changes of `base` with that to `exact`: to `stored`, and to `exact` itself.

    Some values at a time: the experts of a layer are one tensor of gigabytes.
    """
    kept = asked = 0.0
    parts = (one.flatten().split(_AT_ONCE) for one in (base, stored, exact))
    for before, after, wanted in zip(*parts, strict=True):
        change = wanted - before
        asked += float(change.square().sum())
        kept += float((change * (after - before.float())).sum())
    return kept, asked


def _save(model: Any, folder: Path) -> None:
    """Write weights in safetensors, configuration and generation configuration."""
    model.config.use_cache = True
    model.config._name_or_path = ""  # a path of this machine
    if (generation := getattr(model, "generation_config", None)) is not None:
        generation._from_model_config = False
        if not generation.do_sample:  # transformers refuses to save settings of sampling without it
            generation.do_sample = bool(
                generation.temperature not in (None, 1.0) or generation.top_p not in (None, 1.0)
            )
    model.save_pretrained(folder, max_shard_size=SHARD)
