"""The settings of a run: `config.json`, read, checked and filled in.

One frozen dataclass is the whole list. Each option carries its own explanation, which `--help` prints and
`docs/engine.md` repeats. Unknown keys, bad values, and options that the chosen loss would ignore are refused by
name. No option is accepted and ignored.

Imports nothing heavy, so that the web application can write configurations without PyTorch.
"""

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from types import NoneType, UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

from primitives.text import marked as _
from training.engine.errors import ConfigError

# What each loss honours beyond beta, labels and weights. `training.engine.optimize.losses` holds the functions.
LOSS_OPTIONS: dict[str, frozenset[str]] = {
    "sigmoid": frozenset({"label_smoothing", "margin"}),
    "sigmoid_norm": frozenset({"label_smoothing", "margin"}),
    "odpo": frozenset({"label_smoothing", "margin", "offset_scale"}),
    "robust": frozenset({"label_smoothing"}),
    "ipo": frozenset(),
    "ipo_norm": frozenset(),
    "hinge": frozenset(),
    "simpo": frozenset({"label_smoothing", "simpo_gamma"}),
    "dpop": frozenset({"dpop_lambda", "margin"}),
    "apo_zero": frozenset(),
    "apo_down": frozenset(),
    "rao_kupper": frozenset({"tie_nu"}),
    "davidson": frozenset({"tie_nu"}),
}

# What the tokenizer's apply_chat_template does with these names is not the template's affair, nor the caller's.
TEMPLATE_PARAMETERS = frozenset(
    {
        *("conversation", "messages", "tools", "documents", "chat_template"),
        *("add_generation_prompt", "continue_final_message", "sanitize_control_tokens"),
        *("tokenize", "tokenizer_kwargs", "padding", "truncation", "max_length"),
        *("return_tensors", "return_dict", "return_assistant_tokens_mask"),
    }
)
ALL_LINEAR = "all-linear"
_LARGEST = 2**53  # of whole numbers: what every reader of JSON keeps exactly
_MOST_NAMES, _LONGEST_NAME, _LONGEST_OBJECT = 1000, 200, 10_000  # of a list of names; an object as JSON


def _about(
    text: str,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
    longest: int = 4096,
) -> dict[str, Any]:
    """Return an option's metadata: its explanation and its bounds. `longest` is in characters."""
    return {
        "text": text,
        "low": low,
        "above": above,
        "high": high,
        "below": below,
        "choices": choices,
        "longest": longest,
    }


def _option(default: Any, text: str, **bounds: Any) -> Any:
    return field(default=default, metadata=_about(text, **bounds))


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """The low-rank adapter that is trained (Hu et al., 2106.09685)."""

    r: int = _option(16, _("Rank of the adapter."), low=1)
    alpha: float = _option(32.0, _("The adapter's product is scaled by alpha / r."), above=0)
    dropout: float = _option(0.0, _("Dropout before the adapter while training."), low=0, below=1)
    target_modules: str | tuple[str, ...] = _option(
        ALL_LINEAR,
        _(
            'Names of the layers to adapt, "all-linear" for every linear layer but the head, or a regular expression.'
        ),
        longest=500,
    )
    experts: str = _option(
        "shared",
        _(
            'Experts of a mixture that "all-linear" adapts: none, the shared ones that every token goes to, or all.'
        ),
        choices=("none", "shared", "all"),
    )

    def __post_init__(self) -> None:
        """Refuse a choice of experts that the names of layers make already."""
        if self.target_modules != ALL_LINEAR and self.experts != "shared":
            raise ConfigError(
                "lora.experts", "has no effect with lora.target_modules; name the experts' layers there."
            )


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Settings of `sample`."""

    temperature: float = _option(1.0, _("Softmax temperature; 0 takes the likeliest token."), low=0)
    top_p: float = _option(1.0, _("Keep the smallest set of tokens with this probability."), above=0, high=1)
    top_k: int = _option(0, _("Keep this many likeliest tokens; 0 keeps all."), low=0)
    min_p: float = _option(
        0.0, _("Leave out tokens below this share of the likeliest one's probability."), low=0, below=1
    )
    repetition_penalty: float = _option(
        1.0,
        _("Divide the scores of tokens that the text holds already, prompt included; 1 is none."),
        above=0,
    )
    max_new_tokens: int = _option(128, _("Longest completion, in tokens."), low=1)
    samples_per_prompt: int = _option(2, _("Completions per prompt."), low=1)
    seed: int = _option(
        0, _("Seed; each completion derives its own from it, the prompt id and its number."), low=0
    )
    distinct: bool = _option(
        False, _("Draw again where completions of one prompt have the same text, up to seven times.")
    )
    skip_long: bool = _option(
        False,
        _(
            "Pass over prompts that leave no room to write, and name them in done.json, instead of refusing them."
        ),
    )
    policy: str = _option(
        "auto",
        _(
            "Who writes: trained is adapter/, start is start_adapter, base the base model; auto is the first there is."
        ),
        choices=("auto", "trained", "start", "base"),
    )
    reference: str | None = _option(
        None,
        _(
            'Score each completion under this policy too, as reference_logprob: "base", "start", or an adapter\'s path.'
        ),
    )
    batch_size: int = _option(256, _("Most completions that are written at once."), low=1)
    max_tokens: int | None = _option(
        None,
        _("Most tokens, prompts included, that are held at once; unset is what fits into memory."),
        low=1,
    )
    backend: str = _option(
        "auto",
        _(
            "This engine's own loop, or vLLM, which auto takes for a base model alone where it is installed with a GPU."
        ),
        choices=("auto", "native", "vllm"),
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Every setting of a run directory, defaults filled in."""

    base_model: str = _option(dataclasses.MISSING, _("Path or hub id of the base model, or of a GGUF file."))
    revision: str | None = _option(None, _("Revision of the base model, if that is a hub id."))
    start_adapter: str | None = _option(
        None,
        _(
            "Path of the adapter that training starts from and measures against; unset, the base model is both."
        ),
    )
    chat_template_kwargs: dict[str, Any] = field(
        default_factory=dict,
        metadata=_about(
            _('What the chat template is given besides the messages, such as {"enable_thinking": false}.')
        ),
    )
    chat_template: str | None = _option(
        None,
        _(
            "Jinja template of chats in place of the tokenizer's own, at most 65,536 characters, or one by name: "
            "chatml, alpaca or vicuna."
        ),
        longest=65_536,
    )
    template_date: str | None = _option(
        None,
        _("Day that chat templates are told, such as 2026-11-27; unset is that of the run's first start."),
        longest=10,
    )
    unmatched_turns: str = _option(
        "refuse",
        _(
            "A text completion after a chat whose finished turn does not begin with the template's generation prompt: "
            "refuse leaves the pair out, append puts the text right behind that prompt."
        ),
        choices=("refuse", "append"),
    )
    control_tokens_in_text: bool = _option(
        False, _("Encode control tokens, such as <|im_end|>, that stand in texts as such, not as plain text.")
    )

    loss: str = _option("sigmoid", _("The loss; see the table of losses."), choices=tuple(LOSS_OPTIONS))
    beta: float = _option(0.1, _("Strength of the pull towards the reference."), above=0)
    label_smoothing: float = _option(
        0.0,
        _("Assumed share of flipped labels (robust: unbiased; other losses: conservative)."),
        low=0,
        below=0.5,
    )
    offset_scale: float | None = _option(
        None, _("odpo: alpha of the offset alpha * log(1 + margin); unset is 1."), low=0
    )
    tie_nu: float | None = _option(
        None,
        _("rao_kupper (unset is 3), davidson (unset is 1): how readily the model expects ties."),
        above=0,
    )
    simpo_gamma: float | None = _option(
        None, _("simpo: difference of rewards per token that is asked for; unset is 0.5."), low=0
    )
    dpop_lambda: float | None = _option(
        None, _("dpop: what a chosen completion that becomes less likely costs; unset is 50."), low=0
    )
    nll_weight: float = _option(
        0.0, _("Weight of the chosen completion's mean negative log-likelihood, added to the loss."), low=0
    )

    lora: LoraConfig = field(default_factory=LoraConfig, metadata=_about(_("The adapter.")))
    learning_rate: float = _option(1e-4, _("Peak learning rate."), low=0)
    optimizer: str = _option("adamw", _("adamw, or rmsprop as in the paper."), choices=("adamw", "rmsprop"))
    weight_decay: float = _option(0.0, _("Decoupled decay (adamw), or L2 (rmsprop), of the adapter."), low=0)
    warmup_steps: int = _option(0, _("Steps over which the learning rate rises from 0."), low=0)
    schedule: str = _option(
        "constant", _("Learning rate after warm-up."), choices=("constant", "linear", "cosine")
    )
    max_grad_norm: float = _option(1.0, _("Gradients are scaled down to this norm; 0 leaves them."), low=0)
    epochs: int = _option(1, _("Passes over the pairs."), low=1)
    batch_size: int = _option(16, _("Pairs per optimizer step, over all processes."), low=1)
    seed: int = _option(0, _("Seed of the adapter's initial weights, the order of pairs and dropout."), low=0)

    max_length: int | None = _option(
        None, _("Longest prompt plus completion in tokens; unset is the model's limit, at most 2048."), low=4
    )
    max_tokens: int | None = _option(
        None,
        _(
            "Token budget of one packed forward; unset is 1024 on a CPU (2048 below hidden size 512), 16384 on a GPU."
        ),
        low=8,
    )
    packing: str = _option(
        "auto",
        _("Prompt, chosen and rejected in one row: auto checks that and falls back, on insists."),
        choices=("auto", "on", "off"),
    )
    dtype: str = _option(
        "auto", _("Precision of the matrix products."), choices=("auto", "float32", "bfloat16")
    )
    device: str = _option("auto", _("Where to compute."), choices=("auto", "cpu", "cuda"))
    threads: int = _option(0, _("CPU threads; 0 takes what the process may use."), low=0, high=1024)
    gradient_checkpointing: bool = _option(
        False, _("Recompute activations in the backward pass: less memory, about a third slower.")
    )
    quantization: str = _option(
        "none", _("4-bit base weights by bitsandbytes (QLoRA), on CUDA only."), choices=("none", "nf4")
    )
    shard: bool = _option(
        False, _("For train: spread the base weights over the processes of torchrun (FSDP).")
    )

    eval_steps: int = _option(
        0, _("Score heldout.jsonl every so many steps; 0 only before and after."), low=0
    )
    checkpoint_steps: int = _option(20, _("Write a checkpoint every so many steps."), low=1)
    max_skipped_steps: int = _option(
        10, _("Steps with a non-finite loss or gradient are skipped; more than this end the run."), low=0
    )
    displacement_bound: float = _option(
        20.0, _("Warn when logps/chosen falls this many nats below the reference."), above=0
    )

    sampling: SamplingConfig = field(
        default_factory=SamplingConfig, metadata=_about(_("How `sample` writes completions."))
    )

    def __post_init__(self) -> None:
        """Refuse what the chosen loss, device or optimizer would ignore or cannot do, and what is ours to say."""
        for name in self.chat_template_kwargs:
            if name in TEMPLATE_PARAMETERS:
                own = (
                    " has an option of its own"
                    if name == "chat_template"
                    else " is not the template's to know"
                )
                raise ConfigError("chat_template_kwargs", f"{name}{own}.", separator=": ")
        if self.template_date is not None and not _is_day(self.template_date):
            raise ConfigError(
                "template_date", f"must be a day such as 2026-11-27, not {_shortened(self.template_date)}."
            )
        honoured = LOSS_OPTIONS[self.loss]
        for name in sorted(frozenset().union(*LOSS_OPTIONS.values()) - {"margin"}):
            if getattr(self, name) != getattr(type(self), name) and name not in honoured:
                able = " and ".join(loss for loss, options in LOSS_OPTIONS.items() if name in options)
                raise ConfigError(name, f"has no effect with loss {self.loss!r}; it belongs to {able}.")
        if self.loss == "rao_kupper" and self.tie_nu is not None and self.tie_nu <= 1:
            raise ConfigError("tie_nu", "must be greater than 1 with loss 'rao_kupper'.")
        if self.quantization != "none" and self.device == "cpu":
            raise ConfigError("quantization", "needs device 'cuda'; 4-bit weights do not run on a CPU.")
        if self.quantization != "none" and self.shard:
            raise ConfigError("shard", "and quantization cannot be combined; choose one.")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Check `data` and fill in defaults.

        Raises ConfigError naming the key when it is unknown, missing, of the wrong type or out of range.
        """
        return _build(cls, data, "")

    def to_dict(self) -> dict[str, Any]:
        """Return every setting as JSON values, defaults filled in."""
        return dataclasses.asdict(self)


def explain(cls: Any = TrainConfig, prefix: str = "") -> list[tuple[str, Any, str, tuple[str, ...]]]:
    """Return every option as (dotted name, default, explanation, choices); a required one has default `...`."""
    rows: list[tuple[str, Any, str, tuple[str, ...]]] = []
    for option in dataclasses.fields(cls):
        factory: Any = option.default_factory
        if factory is dataclasses.MISSING:
            default = ... if option.default is dataclasses.MISSING else option.default
        elif dataclasses.is_dataclass(factory):
            rows += explain(factory, f"{prefix}{option.name}.")
            continue
        else:
            default = factory()
        rows.append((prefix + option.name, default, option.metadata["text"], option.metadata["choices"]))
    return rows


def _build(cls: Any, data: Any, prefix: str) -> Any:
    if not isinstance(data, Mapping):
        if not prefix:
            raise ConfigError(None, "The configuration must be an object of settings.")
        raise ConfigError(prefix.rstrip("."), "must be an object of settings.")
    options = {option.name: option for option in dataclasses.fields(cls)}
    for key in data:
        if key not in options:
            name = "".join(one if one.isprintable() else "?" for one in str(key)[:100])
            near = difflib.get_close_matches(name, options, n=1)
            hint = f" Did you mean {prefix}{near[0]}?" if near else ""
            raise ConfigError(prefix + name, f"Unknown setting {prefix}{name}.{hint}", separator=None)
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, option in options.items():
        if name in data:
            values[name] = _check(prefix + name, data[name], hints[name], option.metadata)
        elif option.default is dataclasses.MISSING and option.default_factory is dataclasses.MISSING:
            raise ConfigError(prefix + name, "is missing.")
    return cls(**values)


def _check(name: str, value: Any, hint: Any, bounds: Mapping[str, Any]) -> Any:
    """Return `value` as the type that `hint` names, or raise ConfigError naming `name`."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kind = get_origin(kinds[0]) or kinds[0]
    if value is None and NoneType in kinds:
        return None
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, name + ".")
    if kind in (int, float):
        return _check_number(name, value, kind is float, bounds)
    if isinstance(value, (list, tuple)) and any(get_origin(other) is tuple for other in kinds):
        if not value or not all(isinstance(item, str) and item for item in value):
            raise ConfigError(name, "must be a non-empty list of names.")
        if len(value) > _MOST_NAMES or max(map(len, value)) > _LONGEST_NAME:
            raise ConfigError(
                name, f"must be at most {_MOST_NAMES} names of at most {_LONGEST_NAME} characters."
            )
        return tuple(value)
    if not isinstance(value, kind) or value == "":
        wanted = {bool: "true or false", dict: "an object", str: "a non-empty string"}[kind]
        raise ConfigError(name, f"must be {wanted}, not {_shortened(value)}.")
    if kind is str and len(value) > bounds["longest"]:
        raise ConfigError(name, f"must be at most {bounds['longest']} characters, not {len(value)}.")
    if kind is dict and len(json.dumps(value)) > _LONGEST_OBJECT:
        raise ConfigError(name, f"must be at most {_LONGEST_OBJECT} characters of JSON.")
    if bounds["choices"] and value not in bounds["choices"]:
        raise ConfigError(name, f"must be one of {', '.join(bounds['choices'])}, not {_shortened(value)}.")
    return value


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _shortened(value: Any) -> str:
    """Return a value as Python writes it, cut to a length that fits into a sentence."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _check_number(name: str, value: Any, fractional: bool, bounds: Mapping[str, Any]) -> float | int:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(name, f"must be a number, not {_shortened(value)}.")
    if abs(value) > _LARGEST and (isinstance(value, int) or not fractional):
        raise ConfigError(name, f"must be a number of at most {_LARGEST}.")
    if not fractional and value != int(value):
        raise ConfigError(name, f"must be a whole number, not {value!r}.")
    number: float | int = float(value) if fractional else int(value)
    low, above, high, below = bounds["low"], bounds["above"], bounds["high"], bounds["below"]
    if low is not None and number < low:
        raise ConfigError(name, f"must be at least {low}, not {value}.")
    if above is not None and number <= above:
        raise ConfigError(name, f"must be greater than {above}, not {value}.")
    if high is not None and number > high:
        raise ConfigError(name, f"must be at most {high}, not {value}.")
    if below is not None and number >= below:
        raise ConfigError(name, f"must be less than {below}, not {value}.")
    return number
