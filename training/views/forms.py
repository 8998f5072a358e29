"""The forms that start a round: the engine's own options, with their explanations, in groups."""

import copy
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from django import forms
from django.forms import BoundField
from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from annotate.errors import RefusalError
from annotate.models import Project
from annotate.pairs.settings import PairSettings, PairSettingsError
from training.engine.config import TrainConfig, explain
from training.engine.errors import ConfigError
from training.models import Round
from training.recipes.recommendation import Recommendation
from training.rounds.plan import (
    COUNTS,
    MOST_COMPARISONS,
    PROCESSES,
    RESUMABLE,
    UNSETTABLE,
    Plan,
    dotted,
    nested,
    recommendation_for,
)
from training.rounds.starts import RoundError, usual_start
from training.templatetags.round_figures import setting
from training.views import choosing
from training.views.beginnings import Like
from training.views.fields import has_value, option_field, processes_field

HARDWARE = _("Length, memory and hardware")
# Group -> options of config.json. The first group, without a title, comes before the others, which are folded. What is
# not listed comes from the policy (base_model, revision, start_adapter) or from the project's settings alone.
GROUPS: dict[str | Promise, tuple[str, ...]] = {
    "": ("epochs", "learning_rate", "beta", "batch_size", "kl_budget"),
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
    _("Pairs that a probe labels"): (
        *("assist.pairs", "assist.candidates", "assist.kl"),
        *("assist.drafted", "assist.weight", "assist.seed"),
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
    HARDWARE: (
        "max_length",
        "max_tokens",
        "sampling.max_tokens",
        "sampling.batch_size",
        "threads",
        "dtype",
        "device",
        "quantization",
        "gradient_checkpointing",
    ),
    _("Chats"): ("chat_template", "chat_template_kwargs", "unmatched_turns"),
    _("Watching and checkpoints"): (
        "kl_samples",
        "eval_steps",
        "keep",
        "early_stop",
        "checkpoint_steps",
        "trackers",
        "max_skipped_steps",
        "displacement_bound",
    ),
}
# Of a round that only writes.
WRITING = (
    *("sampling.max_new_tokens", "sampling.temperature", "sampling.top_p"),
    *("sampling.top_k", "sampling.min_p", "sampling.repetition_penalty", "sampling.max_tokens"),
)
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
OPTIONS = {name: about for name, *about in explain()}  # default, text and choices of each
BOUNDED_BY = {"assist.pairs": ("assist.candidates",)}  # options that are bounded together


class PairFields(forms.Form):
    """The settings of PairSettings that an admin chooses: how judgments become pairs."""

    ties = forms.ChoiceField(
        label=_("Ties"),
        initial="drop",
        choices=[("drop", _("left out")), ("half", _("kept with the label one half"))],
        help_text=_("Losses that know ties (rao_kupper, davidson) learn from them."),
    )
    both_bad = forms.ChoiceField(
        label=_("Both bad"),
        initial="drop",
        choices=[("drop", _("left out")), ("ratings", _("two undesirable completions"))],
        help_text=_(
            "The loss kto learns from them what to avoid. Other losses need a better one to compare with."
        ),
    )
    votes = forms.ChoiceField(
        label=_("Votes"),
        initial="auto",
        choices=[
            ("auto", _("count by reliability where it is known")),
            ("equal", _("count the same")),
            ("reliability", _("count by reliability")),
            ("probe", _("count by reliability, with a probe as one more voter")),
        ],
        help_text=_(
            "Reliability is known from colleagues, gold, gates and a probe. The label becomes a chance."
        ),
    )
    weights = forms.ChoiceField(
        label=_("Weights"),
        initial="equal",
        choices=[
            ("equal", _("every pair counts the same")),
            ("judgments", _("as often as it was judged")),
        ],
    )
    smoothing = forms.FloatField(
        label=_("Smoothing"),
        initial=0.0,
        help_text=_("Votes added to each side before the label is taken; 0.5 makes one vote the label 0.75."),
    )
    margin_scale = forms.FloatField(
        label=_("Margin per step of strength"),
        initial=PairSettings.margin_scale,
        help_text=_(
            "Nats of implicit reward that slightly better, better and much better ask for once, twice and three "
            "times; 0 leaves strength out, and so do losses without margins."
        ),
    )
    min_judgments = forms.IntegerField(
        label=_("Judgments at least"), initial=1, help_text=_("Comparisons with fewer are left out.")
    )
    include_too_fast = forms.BooleanField(
        label=_("Take verdicts that came too fast"), initial=True, required=False
    )


class RoundForm(forms.Form):
    """The settings of a round. They begin as the project's defaults, or as those of `like`.

    `state_machine.start` takes what is `chosen()`, and has the last word.
    """

    def __init__(
        self,
        project: Project,
        *args: Any,
        like: Like | None = None,
        ignores_project: bool = False,
        **kwargs: Any,
    ) -> None:
        """Fill in the settings of `like`, or the project's, or with `ignores_project` what is recommended alone."""
        super().__init__(*args, **kwargs)
        self.like = like
        if ignores_project:
            project = copy.copy(project)
            project.training_settings = {}
        defaults = _like(like) if like else _defaults(project)
        self.recommended = _recommended(project)
        self.advice = dict(dotted(self.recommended.settings)) if self.recommended else {}
        self.begins_otherwise = ignores_project or bool(like)
        self.fields |= {name: _count_field(name, defaults.get(name)) for name in COUNT_FIELDS}
        self.fields |= {name: self._advised_option(name, defaults) for name in chain(*GROUPS.values())}
        self.fields[PROCESSES] = processes_field(defaults.get(PROCESSES))
        self.pair_fields = _pair_fields(defaults if like else {})
        self.fields |= {f"pairs.{name}": field for name, field in self.pair_fields.items()}
        self.fields |= choosing.choosing_fields(defaults)

    def _advised_option(self, name: str, defaults: Mapping[str, Any]) -> forms.Field:
        """Return the field of an option, which says what is recommended where it begins with something else."""
        field = _option(name, defaults)
        if name in self.advice and self.advice[name] != field.initial:
            field.help_text = _with_advice(field.help_text, self.advice[name])
        return field

    def in_sight(self) -> list[BoundField]:
        return [self[name] for name in COUNTS]

    def usual(self) -> list[BoundField]:
        """Return the settings that are shown first where all of them are unfolded."""
        return [self[name] for name in GROUPS[""]]

    def in_words(self) -> str:
        """Return the usual settings in a line: Epochs 4 · Learning rate 0.001."""
        return " · ".join(f"{self[name].label} {setting(self[name].value())}" for name in GROUPS[""])

    @property
    def is_unfolded(self) -> bool:
        """Return whether the settings begin with others than the project's, or one was changed or has an error."""
        changed = (name for name, field in self.fields.items() if not has_value(self[name], field.initial))
        return self.begins_otherwise or any(name not in COUNTS for name in chain(self.errors, changed))

    @property
    def is_recommended(self) -> bool:
        """Return whether training is set up as recommended, and as the engine does where nothing is."""
        names = (name for name in chain.from_iterable(GROUPS.values()) if not name.startswith("sampling."))
        usual = {name: OPTIONS[name][0] for name in names} | self.advice
        return bool(self.advice) and all(has_value(self[name], value) for name, value in usual.items())

    def folded(self) -> Iterator[tuple[str | Promise, list[BoundField], bool]]:
        """Yield the other groups: title, fields, and whether one of them has an error."""
        groups = {
            _("From judgments to pairs"): tuple(f"pairs.{name}" for name in self.pair_fields),
            choosing.TITLE: choosing.NAMES,
            **GROUPS,
            HARDWARE: (PROCESSES, *GROUPS[HARDWARE]),
        }
        for title, names in groups.items():
            if title:
                bound = [self[name] for name in names]
                yield title, bound, any(field.errors for field in bound)

    def clean(self) -> dict[str, Any]:
        """Check each option by itself, so that all errors appear at once. How they go together is checked later."""
        cleaned: dict[str, Any] = dict(self.cleaned_data)
        beside = {name: cleaned[name] for name in ("loss", "eval_steps", "kl_samples") if cleaned.get(name)}
        for name, value in cleaned.items():
            together = {other: cleaned[other] for other in BOUNDED_BY.get(name, ()) if cleaned.get(other)}
            alone = nested({**together, name: value})
            _check_option(self, name, alone | {"training": beside | alone["training"]})
        return self.cleaned_data

    def chosen(self) -> dict[str, Any]:
        """Return the settings of a valid form as `state_machine.start` takes them. An empty field is unset."""
        return nested(choosing.without_open(self.cleaned_data))

    def refuse(self, error: RefusalError) -> None:
        """Show why `state_machine.start` refused, at the field that it named."""
        if error.field in self.fields:
            self.add_error(error.field, capfirst(error.message))
        else:
            self.add_error(None, str(error))


class ResumeForm(forms.Form):
    """The options that may change before a failed round is resumed: how the same work fits into the machine.

    A KL budget that is set may be unset too.
    """

    def __init__(self, round_: Round, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        begun = dict(dotted(round_.settings))
        names = (*RESUMABLE, *([UNSETTABLE] if begun.get(UNSETTABLE) is not None else []))
        self.fields |= {name: _option(name, begun) for name in names}
        self.begun = {name: self.fields[name].initial for name in names}

    def clean(self) -> dict[str, Any]:
        """Have the engine check each option, in its own words."""
        for name, value in dict(self.cleaned_data).items():
            _check_option(self, name, nested({name: value}))
        return self.cleaned_data

    def changes(self) -> dict[str, Any]:
        """Return what a valid form changes, by dotted name."""
        given = {name: self.cleaned_data[name] for name in self.begun}
        return {name: value for name, value in given.items() if value != self.begun[name]}


class WriteForm(forms.Form):
    """The number of comparisons that a round writes that does not train, and how they are sampled."""

    count = forms.IntegerField(min_value=1, label=_("Comparisons"))

    def __init__(self, project: Project, *args: Any, like: Like | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.like = like
        defaults = _like(like) if like else _defaults(project)
        waiting = project.prompts.for_rounds().filter(comparisons=None)[:1000].count()
        self.fields["count"].initial = defaults.get("fresh_comparisons") if like else waiting or 100
        for name in WRITING:
            self.fields[name] = _option(name, defaults)
            self.fields[name].required = False  # a request that names none takes the project's
        self.fields |= choosing.choosing_fields(defaults)

    def in_sight(self) -> list[BoundField]:
        return [self["count"]]

    def folded(self) -> tuple[list[BoundField], bool]:
        """Return the fields that are folded away, and whether one of them has an error."""
        bound = [self[name] for name in (*WRITING, *choosing.NAMES)]
        return bound, any(field.errors for field in bound)

    def clean(self) -> dict[str, Any]:
        """Have the engine check each option, in its own words."""
        for name, value in dict(self.cleaned_data).items():
            if name in WRITING and value is not None:
                _check_option(self, name, nested({name: value}))
        return self.cleaned_data

    def sampling(self) -> dict[str, Any]:
        """Return the sampling settings of a valid form, but for those that are left open."""
        given = {name: self.cleaned_data.get(name) for name in WRITING}
        return dict(nested({name: value for name, value in given.items() if value is not None})["sampling"])

    def choosing(self) -> dict[str, Any]:
        """Return how comparisons are chosen, as a valid form says it, but for what is left open."""
        given = {name: self.cleaned_data.get(name) for name in choosing.NAMES}
        return dict(nested(choosing.without_open(given))["choosing"])

    def refuse(self, error: RefusalError) -> None:
        """Show why `state_machine.write` refused, at the field that it named."""
        self.add_error(error.field if error.field in self.fields else None, capfirst(error.message))


def _count_field(name: str, initial: Any) -> forms.Field:
    label, help_text = COUNT_FIELDS[name]
    return forms.IntegerField(
        label=label, help_text=help_text, min_value=0, max_value=MOST_COMPARISONS, initial=initial
    )


def _pair_fields(initials: Mapping[str, Any]) -> dict[str, forms.Field]:
    """Return the fields of PairFields, which begin as `initials` say by dotted name, or as they do anyway."""
    fields = PairFields().fields
    for name, field in fields.items():
        field.initial = initials.get(f"pairs.{name}", field.initial)
    return fields


def _option(name: str, initials: Mapping[str, Any]) -> forms.Field:
    """Return the field of an option, which begins as `initials` say, or as the engine does."""
    default, text, choices = OPTIONS[name]
    return option_field(name, initials.get(name, default), default, text, choices)


def _check_option(form: forms.Form, name: str, alone: Mapping[str, Any]) -> None:
    """Have the engine check one option, in its own words. `alone` are the nested settings that it is."""
    try:
        PairSettings(**alone["pairs"])
        TrainConfig.from_dict({"base_model": "-", **alone["training"], "sampling": alone["sampling"]})
    except (ConfigError, PairSettingsError) as error:
        form.add_error(name, capfirst(error.message))


def _defaults(project: Project) -> dict[str, Any]:
    """Return the project's settings by field name; the engine's where a policy or a setting is at fault."""
    try:
        plan = Plan.for_project(project, usual_start(project), {})
    except RoundError:
        return {name: getattr(Plan, name) for name in COUNTS}
    return dict(dotted(plan.to_dict()))


def _recommended(project: Project) -> Recommendation | None:
    """Return what is recommended for the project now; None where no round can start from its policy."""
    try:
        return recommendation_for(project, usual_start(project), {})
    except RoundError:
        return None


def _with_advice(help_text: str | Promise, value: Any) -> str:
    advice = _("Recommended: %(value)s.") % {"value": setting(value)}
    return f"{help_text} {advice}".strip()


def _like(like: Like) -> dict[str, Any]:
    """Return settings by field name; the project's if an older version allowed what this one refuses."""
    try:
        return dict(dotted(Plan.from_dict(like.settings).to_dict()))
    except ConfigError:
        return _defaults(like.project)
