"""Every setting of a run directory."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Self

from primitives.text import marked as _
from training.engine.config.assisting import AssistConfig
from training.engine.config.checks import build, shortened, within_bounds
from training.engine.config.lora import LoraConfig
from training.engine.config.losses import LOSS_OPTIONS
from training.engine.config.options import MOST_HELD, MOST_LENGTH, about, option
from training.engine.config.sampling import SamplingConfig
from training.engine.errors import ConfigError

MOST_STEPS = 10_000_000  # of one training
# What the tokenizer's apply_chat_template does with these names is not the template's affair, nor the caller's.
TEMPLATE_PARAMETERS = frozenset(
    {
        *("conversation", "messages", "tools", "documents", "chat_template"),
        *("add_generation_prompt", "continue_final_message", "sanitize_control_tokens"),
        *("tokenize", "tokenizer_kwargs", "padding", "truncation", "max_length"),
        *("return_tensors", "return_dict", "return_assistant_tokens_mask"),
    }
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Every setting of a run directory, defaults filled in."""

    base_model: str = option(dataclasses.MISSING, _("Path or hub id of the base model, or of a GGUF file."))
    revision: str | None = option(None, _("Revision of the base model, if that is a hub id."))
    start_adapter: str | None = option(
        None,
        _("Path of the adapter that training starts from; unset, that is the base model."),
    )
    reference: str = option(
        "start",
        _(
            "What training measures against: start is where it starts from, base the base model. A run directory may "
            "name an adapter's path, and a round a policy."
        ),
    )
    chat_template_kwargs: dict[str, Any] = field(
        default_factory=dict,
        metadata=about(
            _('What the chat template is given besides the messages, such as {"enable_thinking": false}.')
        ),
    )
    chat_template: str | None = option(
        None,
        _(
            "Jinja template of chats in place of the tokenizer's own, at most 65,536 characters, or one by name: "
            "chatml, alpaca or vicuna."
        ),
        longest=65_536,
    )
    template_date: str | None = option(
        None,
        _("Day that chat templates are told, such as 2026-11-27; unset is that of the run's first start."),
        longest=10,
    )
    unmatched_turns: str = option(
        "refuse",
        _(
            "A text completion after a chat whose finished turn does not begin with the template's generation prompt: "
            "refuse leaves the pair out, append puts the text right behind that prompt."
        ),
        choices=("refuse", "append"),
    )
    control_tokens_in_text: bool = option(
        False, _("Encode control tokens, such as <|im_end|>, that stand in texts as such, not as plain text.")
    )

    loss: str = option("sigmoid", _("The loss; see the table of losses."), choices=tuple(LOSS_OPTIONS))
    beta: float = option(0.1, _("Strength of the pull towards the reference."), above=0)
    label_smoothing: float = option(
        0.0,
        _("Assumed share of flipped labels (robust: unbiased; other losses: conservative)."),
        low=0,
        below=0.5,
    )
    offset_scale: float | None = option(
        None, _("odpo: alpha of the offset alpha * log(1 + margin); unset is 1."), low=0
    )
    tie_nu: float | None = option(
        None,
        _("rao_kupper (unset is 3), davidson (unset is 1): how readily the model expects ties."),
        above=0,
    )
    simpo_gamma: float | None = option(
        None, _("simpo: difference of rewards per token that is asked for; unset is 0.5."), low=0
    )
    dpop_lambda: float | None = option(
        None, _("dpop: what a chosen completion that becomes less likely costs; unset is 50."), low=0
    )
    desirable_weight: float = option(1.0, _("kto: weight of the loss of desirable completions."), low=0)
    undesirable_weight: float = option(1.0, _("kto: weight of the loss of undesirable completions."), low=0)
    nll_weight: float = option(
        0.0, _("Weight of the chosen completion's mean negative log-likelihood, added to the loss."), low=0
    )

    lora: LoraConfig = field(default_factory=LoraConfig, metadata=about(_("The adapter.")))
    learning_rate: float = option(1e-4, _("Peak learning rate."), low=0)
    optimizer: str = option("adamw", _("adamw, or rmsprop as in the paper."), choices=("adamw", "rmsprop"))
    weight_decay: float = option(0.0, _("Decoupled decay (adamw), or L2 (rmsprop), of the adapter."), low=0)
    warmup_steps: int = option(
        0, _("Steps over which the learning rate rises from 0."), low=0, high=MOST_STEPS
    )
    schedule: str = option(
        "constant", _("Learning rate after warm-up."), choices=("constant", "linear", "cosine")
    )
    max_grad_norm: float = option(1.0, _("Gradients are scaled down to this norm; 0 leaves them."), low=0)
    epochs: int = option(1, _("Passes over the pairs."), low=1, high=10_000)
    batch_size: int = option(16, _("Pairs per optimizer step, over all processes."), low=1, high=1_000_000)
    seed: int = option(0, _("Seed of the adapter's initial weights, the order of pairs and dropout."), low=0)

    max_length: int | None = option(
        None,
        _("Longest prompt plus completion in tokens; unset is the model's limit, at most 2048."),
        low=4,
        high=MOST_LENGTH,
    )
    max_tokens: int | None = option(
        None,
        _(
            "Token budget of one packed forward; unset is 1024 on a CPU (2048 below hidden size 512), 16384 on a GPU."
        ),
        low=8,
        high=MOST_HELD,
    )
    packing: str = option(
        "auto",
        _("Prompt, chosen and rejected in one row: auto checks that and falls back, on insists."),
        choices=("auto", "on", "off"),
    )
    dtype: str = option(
        "auto", _("Precision of the matrix products."), choices=("auto", "float32", "bfloat16", "float16")
    )
    device: str = option("auto", _("Where to compute."), choices=("auto", "cpu", "cuda"))
    threads: int = option(0, _("CPU threads; 0 takes what the process may use."), low=0, high=1024)
    gradient_checkpointing: bool = option(
        False, _("Recompute activations in the backward pass: less memory, about a third slower.")
    )
    quantization: str = option(
        "none", _("4-bit base weights by bitsandbytes (QLoRA), on CUDA only."), choices=("none", "nf4")
    )
    shard: bool = option(
        False, _("For train: spread the base weights over the processes of torchrun (FSDP).")
    )

    eval_steps: int = option(
        0, _("Score heldout.jsonl every so many steps; 0 only before and after."), low=0, high=MOST_STEPS
    )
    keep: str = option(
        "last",
        _("The adapter that is kept: that of the last step, or the best one by held-out loss."),
        choices=("last", "best"),
    )
    early_stop: int = option(
        0,
        _("Stop after so many evaluations in a row without a better held-out loss; 0 trains to the end."),
        low=0,
        high=MOST_STEPS,
    )
    checkpoint_steps: int = option(20, _("Write a checkpoint every so many steps."), low=1, high=MOST_STEPS)
    trackers: tuple[str, ...] = option(
        (),
        _("Show the metrics in these too: tensorboard, wandb, trackio. Each is a package to install."),
        choices=("tensorboard", "wandb", "trackio"),
        may_be_empty=True,
    )
    max_skipped_steps: int = option(
        10,
        _("Steps with a non-finite loss or gradient are skipped; more than this end the run."),
        low=0,
        high=MOST_STEPS,
    )
    displacement_bound: float = option(
        20.0, _("Warn when logps/chosen falls this many nats below the reference."), above=0
    )

    kl_budget: float | None = option(
        None,
        _(
            "Most nats of KL from the reference per completion: the trained adapter is scaled down to it. "
            "Unset leaves it as it was trained."
        ),
        above=0,
    )
    kl_samples: int = option(
        64,
        _(
            "Completions of the policy, and of the reference, on which KL is measured after training, at least 16. "
            "With 0 a round does not measure it."
        ),
        low=0,
        high=10_000,
    )
    probe: str | None = option(
        None, _("For rate: path of the probe's folder; unset is probe/ in the run directory.")
    )
    probe_layers: int = option(
        2, _("For probe: how many layers it reads, spread over the last third of the model."), low=1, high=8
    )
    probe_tokens: int = option(
        256,
        _("For probe: how many numbers sketch which tokens a completion is made of; 0 is none."),
        low=0,
        high=4096,
    )

    assist: AssistConfig = field(
        default_factory=AssistConfig, metadata=about(_("How `assist` makes pairs that a probe labels."))
    )
    sampling: SamplingConfig = field(
        default_factory=SamplingConfig, metadata=about(_("How `sample` writes completions."))
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
                "template_date", f"must be a day such as 2026-11-27, not {shortened(self.template_date)}."
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
        self._check_measures()
        if self.shard and self.reference not in ("start", "base"):
            raise ConfigError("reference", "must be start or base with shard.")
        if self.shard and self.assist.drafted_pairs:
            raise ConfigError("assist.drafted", "must be 0 with shard: one process trains the draft.")
        if self.quantization != "none" and self.shard:
            raise ConfigError("shard", "and quantization cannot be combined; choose one.")

    def _check_measures(self) -> None:
        """Refuse what goes by a measurement that the other settings leave out."""
        for name, asked in (("keep", self.keep == "best"), ("early_stop", self.early_stop > 0)):
            if asked and not self.eval_steps:
                raise ConfigError(
                    name, "needs eval_steps: it goes by the held-out loss, which is measured then."
                )
        if self.kl_samples < 16 and (self.kl_samples or self.kl_budget is not None):
            raise ConfigError("kl_samples", f"must be at least 16 to measure KL on, not {self.kl_samples}.")
        if self.kl_budget is not None and self.lora.dora:
            raise ConfigError(
                "kl_budget", "cannot be kept with lora.dora, whose magnitudes no scale takes back."
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Check `data` and fill in defaults.

        Raises ConfigError naming the key when it is unknown, missing, of the wrong type or out of range.
        """
        return build(cls, data, "")

    @classmethod
    def from_stored(cls, data: Any) -> Self:
        """Return the settings that were stored, perhaps before a whole number had its bound, which it then takes.

        Raises ConfigError as `from_dict` does.
        """
        return cls.from_dict(cls.within_bounds(data))

    @classmethod
    def within_bounds(cls, data: Any) -> Any:
        """Return stored settings, or some of them, with the bound in place of each whole number above it."""
        return within_bounds(cls, data)

    def to_dict(self) -> dict[str, Any]:
        """Return every setting as JSON values, defaults filled in."""
        return dataclasses.asdict(self)


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
