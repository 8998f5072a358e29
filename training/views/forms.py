"""The forms that start a round: the engine's own options, with their explanations, in groups."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.forms import BoundField
from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from annotate.models import Project
from annotate.pairs.snapshots import PairSettings, PairSettingsError
from training.engine.config import TrainConfig, explain
from training.engine.errors import ConfigError
from training.models import Round
from training.rounds.plan import COUNTS, MOST_COMPARISONS, Plan, RoundError, check_policy, dotted, nested
from training.views.fields import TextsField

# Group -> options of config.json; the first group is in sight, the others are folded away. What is not listed
# comes from the policy (base_model, revision, start_adapter) or from the project's settings alone.
GROUPS: dict[str | Promise, tuple[str, ...]] = {
    "": ("epochs", "learning_rate", "beta", "batch_size"),
    _("Loss"): (
        "loss",
        "reference",
        "label_smoothing",
        "offset_scale",
        "tie_nu",
        "simpo_gamma",
        "dpop_lambda",
        "desirable_weight",
        "undesirable_weight",
        "nll_weight",
    ),
    _("Adapter and optimizer"): (
        "lora.r",
        "lora.alpha",
        "lora.dropout",
        "lora.rslora",
        "lora.dora",
        "lora.experts",
        "optimizer",
        "schedule",
        "warmup_steps",
        "weight_decay",
        "max_grad_norm",
        "seed",
    ),
    _("Sampling"): (
        "sampling.temperature",
        "sampling.top_p",
        "sampling.top_k",
        "sampling.min_p",
        "sampling.repetition_penalty",
        "sampling.max_new_tokens",
        "sampling.stop",
        "sampling.distinct",
        "sampling.seed",
    ),
    _("Length, memory and hardware"): (
        "max_length",
        "unmatched_turns",
        "max_tokens",
        "dtype",
        "device",
        "quantization",
        "gradient_checkpointing",
    ),
    _("Watching and checkpoints"): (
        "eval_steps",
        "checkpoint_steps",
        "trackers",
        "max_skipped_steps",
        "displacement_bound",
    ),
}
COUNT_FIELDS = {
    "fresh_comparisons": (
        _("Fresh comparisons"),
        _("How many comparisons of its own samples the new policy writes for annotators."),
    ),
    "gate_comparisons": (
        _("Gate comparisons"),
        _("How many blind comparisons of the new policy with the one before decide about promotion."),
    ),
}


class RoundForm(forms.Form):
    """The settings of a round. They begin as the project's defaults, or as those of the round `like`.

    `state_machine.start` takes what is `chosen()`, and has the last word.
    """

    def __init__(self, project: Project, *args: Any, like: Round | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.like = like
        defaults = _like(like) if like else _defaults(project)
        for name, (label, help_text) in COUNT_FIELDS.items():
            self.fields[name] = forms.IntegerField(
                label=label,
                help_text=help_text,
                min_value=0,
                max_value=MOST_COMPARISONS,
                initial=defaults.get(name),
            )
        options = {name: (default, text, choices) for name, default, text, choices in explain()}
        for names in GROUPS.values():
            for name in names:
                default, text, choices = options[name]
                self.fields[name] = _field(name, defaults.get(name, default), default, text, choices)
        self.pair_fields = _pair_fields()
        for name, field in self.pair_fields.items() if like else ():
            field.initial = defaults.get(f"pairs.{name}", field.initial)
        self.fields |= {f"pairs.{name}": field for name, field in self.pair_fields.items()}

    def in_sight(self) -> list[BoundField]:
        return [self[name] for name in (*GROUPS[""], *COUNTS)]

    def folded(self) -> Iterator[tuple[str | Promise, list[BoundField], bool]]:
        """Yield the other groups: title, fields, and whether one of them has an error."""
        groups = {_("From judgments to pairs"): tuple(f"pairs.{name}" for name in self.pair_fields), **GROUPS}
        for title, names in groups.items():
            if title:
                bound = [self[name] for name in names]
                yield title, bound, any(field.errors for field in bound)

    def clean(self) -> dict[str, Any]:
        """Check each option by itself, so that all errors appear at once. How they go together is checked later."""
        cleaned: dict[str, Any] = dict(self.cleaned_data)
        loss = {"loss": cleaned["loss"]} if "loss" in cleaned else {}
        for name, value in cleaned.items():
            alone = nested({name: value})
            try:
                PairSettings(**alone["pairs"])
                options = {**loss, **alone["training"], "sampling": alone["sampling"]}
                TrainConfig.from_dict({"base_model": "-", **options})
            except (ConfigError, PairSettingsError) as error:
                self.add_error(name, capfirst(error.message))
        return self.cleaned_data

    def chosen(self) -> dict[str, Any]:
        """Return the settings of a valid form as `state_machine.start` takes them. An empty field is unset."""
        return nested(self.cleaned_data)

    def refuse(self, error: RoundError) -> None:
        """Show why `state_machine.start` refused, at the field that it named."""
        if error.field in self.fields:
            self.add_error(error.field, capfirst(error.message))
        else:
            self.add_error(None, str(error))


class WriteForm(forms.Form):
    """The number of comparisons that the current policy writes in a round that does not train."""

    count = forms.IntegerField(min_value=1, label=_("Comparisons"))

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        waiting = project.prompts.for_rounds().filter(comparisons=None)[:1000].count()
        self.fields["count"].initial = waiting or 100

    def refuse(self, error: RoundError) -> None:
        """Show why `state_machine.write` refused."""
        self.add_error("count" if error.field == "count" else None, error.message)


def _defaults(project: Project) -> dict[str, Any]:
    """Return the project's settings by field name; the engine's where a policy or a setting is at fault."""
    try:
        plan = Plan.for_project(project, check_policy(project.current_policy), {})
    except RoundError:
        return {name: getattr(Plan, name) for name in COUNTS}
    return dict(dotted(plan.to_dict()))


def _like(round_: Round) -> dict[str, Any]:
    """Return a round's settings by field name; the project's if an older version allowed what this one refuses."""
    try:
        return dict(dotted(Plan.from_dict(round_.settings).to_dict()))
    except ConfigError:
        return _defaults(round_.project)


def _field(name: str, initial: Any, default: Any, text: str, choices: tuple[str, ...]) -> forms.Field:
    """Return a form field for one option. `RoundForm.clean` has the engine check the bounds, in its own words."""
    key = name.rpartition(".")[2]
    label, help_text = LABELS[key], _(text)
    if isinstance(default, tuple) and choices:
        return forms.MultipleChoiceField(
            label=label,
            help_text=help_text,
            initial=initial,
            choices=[(choice, choice) for choice in choices],
            required=False,
        )
    named: list[tuple[str, str | Promise]] = CHOICES.get(name) or [(choice, choice) for choice in choices]
    if named:
        return forms.ChoiceField(label=label, help_text=help_text, initial=initial, choices=named)
    if isinstance(default, tuple):
        return TextsField(label=label, help_text=help_text, initial=initial)
    if isinstance(default, bool):
        return forms.BooleanField(label=label, help_text=help_text, initial=initial, required=False)
    kind = forms.FloatField if isinstance(default, float) or name in FRACTIONS else forms.IntegerField
    required = default is not None
    return kind(label=label, help_text=help_text, initial=initial, required=required)


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
    "max_length": _("Max length"),
    "unmatched_turns": _("Unmatched turns"),
    "max_tokens": _("Max tokens"),
    "dtype": _("Precision"),
    "device": _("Device"),
    "quantization": _("Quantization"),
    "gradient_checkpointing": _("Gradient checkpointing"),
    "eval_steps": _("Score held-out pairs every … steps"),
    "checkpoint_steps": _("Checkpoint every … steps"),
    "trackers": _("Trackers"),
    "max_skipped_steps": _("Max skipped steps"),
    "displacement_bound": _("Displacement bound"),
}
# Choices of options that may be a path elsewhere.
CHOICES: dict[str, list[tuple[str, str | Promise]]] = {
    "reference": [("start", _("the policy that it starts from")), ("base", _("the base model"))]
}
FRACTIONS = {
    "offset_scale",
    "tie_nu",
    "simpo_gamma",
    "dpop_lambda",
}  # options that may be fractional but are unset by default


def _pair_fields() -> dict[str, forms.Field]:
    """Return the fields of PairSettings that an admin chooses: how judgments become pairs."""
    return {
        "ties": forms.ChoiceField(
            label=_("Ties"),
            initial="drop",
            choices=[("drop", _("left out")), ("half", _("kept with the label one half"))],
            help_text=_("Losses that know ties (rao_kupper, davidson) learn from them."),
        ),
        "votes": forms.ChoiceField(
            label=_("Votes"),
            initial="equal",
            choices=[("equal", _("count the same")), ("reliability", _("count by reliability"))],
            help_text=_("Reliability is estimated from agreement and gold comparisons."),
        ),
        "weights": forms.ChoiceField(
            label=_("Weights"),
            initial="equal",
            choices=[
                ("equal", _("every pair counts the same")),
                ("judgments", _("as often as it was judged")),
            ],
        ),
        "smoothing": forms.FloatField(
            label=_("Smoothing"),
            initial=0.0,
            help_text=_(
                "Votes added to each side before the label is taken; 0.5 makes one vote the label 0.75."
            ),
        ),
        "margin_scale": forms.FloatField(
            label=_("Margin per step of strength"),
            initial=round(PairSettings.margin_scale, 3),
            help_text=_(
                "Nats of implicit reward that slightly better, better and much better ask for once, twice and three "
                "times; 0 leaves strength out, and so do losses without margins."
            ),
        ),
        "min_judgments": forms.IntegerField(
            label=_("Judgments at least"), initial=1, help_text=_("Comparisons with fewer are left out.")
        ),
        "include_too_fast": forms.BooleanField(
            label=_("Take verdicts that came too fast"), initial=True, required=False
        ),
    }
