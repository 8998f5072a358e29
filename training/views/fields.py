"""The form field of each option of a run, and fields for options that are lists."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms import BoundField
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from annotate.forms.fields import ObjectField, ProseField
from training.rounds import workers
from training.rounds.plan import MOST_PROCESSES

_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))


class TextsField(forms.CharField):
    """A list of short texts, one a line. A line break inside a text is written as backslash and n."""

    widget = forms.Textarea

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, strip=False, required=False, max_length=10_000)
        self.widget.attrs |= {"rows": 2, "spellcheck": "false"}
        self.help_text = _("%(text)s One a line; \\n is a line break.") % {"text": self.help_text}

    def prepare_value(self, value: Any) -> Any:
        """Return the text of the field for a list."""
        return value if isinstance(value, str) else "\n".join(_escaped(one) for one in value or ())

    def to_python(self, value: Any) -> Any:
        """Return the list that the field's text stands for. Lines of nothing are passed over."""
        text = super().to_python(value) or ""
        return [_unescaped(line) for line in text.replace("\r\n", "\n").split("\n") if line]


class TemplateField(ProseField):
    """A chat template, or none. Its line ends stay those that it had."""

    def __init__(self, **kwargs: Any) -> None:
        area = forms.Textarea(attrs={"rows": 4, "class": "mono", "spellcheck": "false"})
        super().__init__(**kwargs, strip=False, required=False, empty_value=None, widget=area)

    def to_python(self, value: Any) -> Any:
        """Return the text as it is, and None for white space alone."""
        text = super().to_python(value)
        if text == super().to_python(self.initial):
            text = self.initial
        return text if text and text.strip() else None


def _escaped(text: str) -> str:
    for plain, written in _ESCAPES:
        text = text.replace(plain, written)
    return text


def _unescaped(line: str) -> str:
    named = {written: plain for plain, written in _ESCAPES}
    found, rest = [], line
    while rest:
        width = 2 if rest[:2] in named else 1
        found.append(named.get(rest[:2], rest[:1]))
        rest = rest[width:]
    return "".join(found)


def option_field(name: str, initial: Any, default: Any, text: str, choices: tuple[str, ...]) -> forms.Field:
    """Return a form field for one option. `RoundForm.clean` has the engine check the bounds, in its own words."""
    key = name.rpartition(".")[2]
    label, help_text = LABELS.get(name) or LABELS[key], _(text)
    about: dict[str, Any] = {"label": label, "help_text": help_text, "initial": initial}
    named: list[tuple[str, str | Promise]] = CHOICES.get(name) or [(choice, choice) for choice in choices]
    match default:
        case dict():
            return ObjectField(**about)
        case tuple():
            several = forms.MultipleChoiceField
            return several(**about, choices=named, required=False) if choices else TextsField(**about)
        case bool():
            return forms.BooleanField(**about, required=False)
    if name == "chat_template":
        return TemplateField(**about)
    if named:
        return forms.ChoiceField(**about, choices=named)
    kind = forms.FloatField if isinstance(default, float) or name in FRACTIONS else forms.IntegerField
    return kind(**about, required=default is not None)


def has_value(shown: BoundField, value: Any) -> bool:
    """Return whether a field shows this value, which may be written otherwise: 1e-3 is 0.001."""
    field = shown.field
    try:
        return bool(field.to_python(shown.value()) == field.to_python(field.prepare_value(value)))
    except ValidationError:
        return False


class DevicesField(forms.TypedChoiceField):
    """A number of devices. What is none is named as that, and never repeated."""

    def validate(self, value: Any) -> None:
        """Refuse what no round can have, then what no running worker has."""
        is_number = value.isascii() and value.isdecimal() and len(value) < 4
        if value and not (is_number and 1 <= int(value) <= MOST_PROCESSES):
            sentence = _("Must be a whole number from 1 to %(most)d.") % {"most": MOST_PROCESSES}
            raise ValidationError(sentence)
        super().validate(value)


def processes_field(initial: int | None) -> DevicesField:
    """Return the field that says on how many devices a round trains, up to those that some running worker has."""
    most = min(MOST_PROCESSES, max([1, initial or 1, *workers.device_counts().values()]))
    return DevicesField(
        label=_("Number of devices"),
        help_text=_(
            "The processes that train side by side: one for each GPU of the worker, or where no worker has a GPU, on "
            "its processor. Automatic is what the worker is set up for."
        ),
        choices=[("", _("automatic")), *((number, number) for number in range(1, most + 1))],
        required=False,
        coerce=int,
        empty_value=None,
        initial=initial,
        error_messages={"invalid_choice": _("No worker that is running has %(value)s devices.")},
    )


LABELS = {
    "epochs": _("Epochs"),
    "learning_rate": _("Learning rate"),
    "beta": _("Beta"),
    "batch_size": _("Pairs per step"),
    "loss": _("Loss"),
    "reference": _("Reference"),
    "label_smoothing": _("Label smoothing"),
    "offset_scale": _("Offset scale"),
    "tie_nu": _("Tie readiness (nu)"),
    "simpo_gamma": _("Asked difference (gamma)"),
    "dpop_lambda": _("Cost of displacement (lambda)"),
    "desirable_weight": _("Weight of desirable completions"),
    "undesirable_weight": _("Weight of undesirable completions"),
    "nll_weight": _("NLL weight"),
    "assist.pairs": _("Pairs"),
    "assist.candidates": _("Completions ranked together"),
    "assist.kl": _("KL that the labels describe"),
    "assist.drafted": _("Share that a draft writes"),
    "assist.weight": _("Weight of each"),
    "assist.seed": _("Seed of the completions"),
    "r": _("Rank"),
    "alpha": _("Alpha"),
    "dropout": _("Dropout"),
    "rslora": _("Rank-stabilized scale (rsLoRA)"),
    "dora": _("Magnitudes (DoRA)"),
    "experts": _("Experts"),
    "optimizer": _("Optimizer"),
    "schedule": _("Schedule"),
    "warmup_steps": _("Warmup steps"),
    "weight_decay": _("Weight decay"),
    "max_grad_norm": _("Max grad norm"),
    "seed": _("Seed"),
    "temperature": _("Temperature"),
    "top_p": _("Top p"),
    "top_k": _("Top k"),
    "min_p": _("Min p"),
    "repetition_penalty": _("Repetition penalty"),
    "max_new_tokens": _("Max new tokens"),
    "stop": _("Stop at"),
    "distinct": _("Distinct"),
    "sampling.max_tokens": _("Max tokens while sampling"),
    "sampling.batch_size": _("Completions at once"),
    "threads": _("Threads"),
    "chat_template": _("Chat template"),
    "chat_template_kwargs": _("Variables of the chat template"),
    "max_length": _("Max length"),
    "unmatched_turns": _("Unmatched turns"),
    "packing": _("Packing"),
    "max_tokens": _("Max tokens"),
    "dtype": _("Precision"),
    "device": _("Device"),
    "quantization": _("Quantization"),
    "gradient_checkpointing": _("Gradient checkpointing"),
    "kl_budget": _("KL budget"),
    "kl_samples": _("Completions to measure KL on"),
    "eval_steps": _("Score held-out pairs every … steps"),
    "keep": _("Adapter to keep"),
    "early_stop": _("Stop early after … evaluations"),
    "checkpoint_steps": _("Checkpoint every … steps"),
    "trackers": _("Trackers"),
    "max_skipped_steps": _("Max skipped steps"),
    "displacement_bound": _("Displacement bound"),
}
# Options that may be fractional but are unset by default.
FRACTIONS = {"kl_budget", "offset_scale", "tie_nu", "simpo_gamma", "dpop_lambda"}

# Choices of options that may be a path elsewhere.
CHOICES: dict[str, list[tuple[str, str | Promise]]] = {
    "keep": [("last", _("of the last step")), ("best", _("of the best held-out loss"))],
    "reference": [("start", _("the policy that it starts from")), ("base", _("the base model"))],
}
