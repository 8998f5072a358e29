"""The layers of a model that an adapter changes, and their names for PEFT.

By default all linear layers of the part that reads text: neither the vocabulary head, nor what sees or hears, nor the
routers of a mixture of experts, since no gradient tells what a token would gain by another expert. Shared experts are
linear layers like any other. Routed experts, whose weights transformers stacks, are adapted only when asked for.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import peft
from peft.tuners.lora.layer import LoraLayer, ParamWrapper
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from training.engine.config import ALL_LINEAR, LoraConfig
from training.engine.errors import ConfigError
from training.engine.machine.limits import within
from training.engine.model.base import is_quantized
from training.engine.model.wrappers import head_of, text_prefix

_PATTERN_SECONDS = 5  # of processor time, for what takes a few milliseconds
# Linear layers that "all-linear" leaves out, by model type. Mamba's kernels multiply by these weights themselves, past
# any adapter, so PEFT refuses them; DeepSeek V4 multiplies by groups.
_UNADAPTED = {
    **dict.fromkeys(("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"), "out_proj"),
    "deepseek_v4": "o_a_proj",
}
_SHARED = re.compile(r"shared_(experts?|mlp)")


class Targets(NamedTuple):
    """Full names of what is adapted in a transformers model."""

    modules: frozenset[str]  # linear layers, and embeddings if they were named
    experts: frozenset[str]  # parameters (experts, ., .) that stack the weights of routed experts


def find_targets(model: Any, lora: LoraConfig) -> Targets:
    """Return what the options `lora.target_modules` and `lora.experts` stand for in a transformers model.

    Raises ConfigError, naming the option, if they fit no layer, or one that cannot be adapted.
    """
    layers = _Layers(model)
    wanted = lora.target_modules
    if wanted == ALL_LINEAR:
        found = layers.all_linear(lora.experts)
    else:
        patterns = (
            {wanted: wanted} if isinstance(wanted, str) else {name: _as_pattern(name) for name in wanted}
        )
        found = layers.matching(patterns)
    if is_quantized(model):
        found = _without_misread(model, found, named=wanted != ALL_LINEAR)
    if not any(found):
        raise ConfigError("lora.target_modules", "fits no layer of the model.")
    return found


def peft_targets(model: Any, targets: Targets) -> dict[str, Any]:
    """Return `targets` as arguments of peft.LoraConfig, in the fewest words that match nothing else.

    Some linear layers are named to PEFT by their weight, which adapts them alike: names such as gate_proj it takes for
    those of experts that transformers has stacked since, wherever they stand in a mixture of experts.
    """
    prefix = text_prefix(model)
    misread = _names_misread(model, {_last(name) for name in targets.modules})
    weights = {f"{name}.weight" for name in targets.modules if _last(name) in misread}
    modules = {name for name in targets.modules if _last(name) not in misread}
    inside = [name for name, _ in model.named_modules() if name.startswith(prefix)]
    parameters = [name for name, _ in model.named_parameters()]
    found: dict[str, Any] = {
        "target_modules": _shortened(modules, inside),
        "target_parameters": _shortened(weights | targets.experts, parameters),
    }
    if prefix:
        found["exclude_modules"] = rf"(?!{re.escape(prefix)}).*"
    return found


def adapted_layers(model: Any) -> Targets:
    """Return what the adapters of a PeftModel change."""
    modules, experts = set[str](), set[str]()
    for name, layer in model.get_base_model().named_modules():
        plain = name.replace(".base_layer", "")
        if isinstance(layer, ParamWrapper) and not isinstance(layer.get_base_layer(), nn.Linear):
            experts.add(f"{plain}.{layer.parameter_name}")
        elif isinstance(layer, LoraLayer):
            modules.add(plain)
    return Targets(frozenset(modules), frozenset(experts))


class _Layers:
    """The layers of a transformers model that an adapter may be asked for, by name."""

    def __init__(self, model: Any) -> None:
        self.head, self.unadapted = head_of(model), _UNADAPTED.get(model.config.get_text_config().model_type)
        prefix = text_prefix(model)
        modules = {name: one for name, one in model.named_modules() if name.startswith(prefix) and name}
        self.linear = {name: one for name, one in modules.items() if isinstance(one, (nn.Linear, Conv1D))}
        self.embeddings = {name: one for name, one in modules.items() if isinstance(one, nn.Embedding)}
        self.others = modules.keys() - self.linear.keys() - self.embeddings.keys()
        self.blocks = {
            _parent(name) for name in modules if "experts" in _last(name) and not _SHARED.search(name)
        }
        self.skipped = tuple(
            f"{name}." for name, one in modules.items() if "CrossAttention" in type(one).__name__
        )
        self.experts = frozenset(
            f"{name}.{parameter}"
            for name, one in modules.items()
            if "Experts" in type(one).__name__ and "Shared" not in type(one).__name__
            for parameter, weight in one.named_parameters(recurse=False)
            if weight.dim() == 3 and weight.is_floating_point()
        )

    def all_linear(self, experts: str) -> Targets:
        """Return every linear layer but the head and routers, with the experts that are asked for."""
        modules = {
            name
            for name, layer in self.linear.items()
            if not self._is_router(name)
            and layer is not self.head
            and _last(name) != self.unadapted
            and not name.startswith(self.skipped)  # without a picture they are passed over
            and (experts == "all" or not self._is_routed(name))
            and (experts != "none" or not _SHARED.search(name))
        }
        return Targets(frozenset(modules), self.experts if experts == "all" else frozenset())

    def matching(self, patterns: Mapping[str, str]) -> Targets:
        """Return what the regular expressions `patterns` match; an error calls each by its key.

        Raises ConfigError if one is none, takes for ever, or fits no layer or one that cannot be adapted.
        """
        modules, experts = set[str](), set[str]()
        for shown, pattern in patterns.items():
            names = set(_matches(pattern, [*self.linear, *self.embeddings, *self.experts]))
            if not names:
                others = _matches(pattern, self.others)
                kind = f": {others[0]} is not a linear layer" if others else ""
                raise ConfigError(
                    "lora.target_modules",
                    f"{shown} fits no layer of the model that can be adapted{kind}.",
                    separator=": ",
                )
            for name in sorted(names & self.linear.keys()):
                if self.linear[name] is self.head:
                    raise ConfigError("lora.target_modules", "must not include the vocabulary head.")
                if self._is_router(name) and type(self.linear[name]) is not nn.Linear:
                    raise ConfigError(
                        "lora.target_modules",
                        f"{name} is a router, which answers with more than a product.",
                        separator=": ",
                    )
            modules |= names - self.experts
            experts |= names & self.experts
        return Targets(frozenset(modules), frozenset(experts))

    def _is_router(self, name: str) -> bool:
        """Return whether a layer decides which experts a token goes to, or how much of one it takes."""
        block = next((block for block in self.blocks if name.startswith(f"{block}.")), None)
        inside = name.removeprefix(f"{block}.").split(".")[0]
        return "router" in name or (block is not None and inside in ("gate", "shared_expert_gate"))

    def _is_routed(self, name: str) -> bool:
        """Return whether a linear layer belongs to one of the experts that a router chooses from."""
        return ".experts." in name and not _SHARED.search(name)


def _as_pattern(name: str) -> str:
    """Return the pattern of all layers with this name, or whose name ends with it behind a dot."""
    return rf"(?:.*\.)?{re.escape(name)}"


def _matches(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that the regular expression `pattern` matches. Raises ConfigError."""
    overtime = ConfigError(
        "lora.target_modules", f"matching takes longer than {_PATTERN_SECONDS} s.", separator=": "
    )
    try:
        with within(_PATTERN_SECONDS, overtime):
            return [name for name in names if re.fullmatch(pattern, name)]
    except re.error as error:
        raise ConfigError("lora.target_modules", f"is not a regular expression: {error}.") from None


def _without_misread(model: Any, found: Targets, *, named: bool) -> Targets:
    """Return `found` without layers that PEFT must be told of by their weight, which it cannot adapt in 4 bits.

    Raises ConfigError if there are such among those that were `named`.
    """
    misread = _names_misread(model, {_last(name) for name in found.modules})
    lost = {name for name in found.modules if _last(name) in misread}
    if lost and named:
        raise ConfigError(
            "lora.target_modules",
            f"{min(lost)} cannot be adapted in a quantized mixture of experts.",
            separator=": ",
        )
    return found._replace(modules=found.modules - lost)


def _names_misread(model: Any, names: set[str]) -> set[str]:
    """Return those of `names` that PEFT takes for something else than the linear layers of that name."""
    misread = set()
    for name in names:
        trial = peft.LoraConfig(target_modules=[name])
        try:
            convert_peft_config_for_transformers(trial, model, None)
        except ValueError:  # one of two that were stacked together
            misread.add(name)
            continue
        if name not in trial.target_modules:
            misread.add(name)
    return misread


def _shortened(wanted: set[str], names: Iterable[str]) -> list[str]:
    """Return last parts of the names `wanted`, or the names themselves where others of `names` end alike."""
    for parts in (1, 2):
        ends = {".".join(name.split(".")[-parts:]) for name in wanted}
        if {name for name in names if ".".join(name.split(".")[-parts:]) in ends} == wanted:
            return sorted(ends)
    return sorted(wanted)


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _parent(name: str) -> str:
    return name.rpartition(".")[0]
