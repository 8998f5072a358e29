"""The forms of a project's pages. Every error names its field and says what would be accepted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time
from typing import Any

from django import forms
from django.conf import settings as site
from django.core.files.base import ContentFile, File
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.forms.fields import LinesField, ObjectField
from annotate.imports.records import guess_format
from annotate.models import Comparison, Judgment, Policy, Project, User
from annotate.pairs.exports import Filters
from annotate.pairs.snapshots import PairSettings
from annotate.projects import base_models
from annotate.projects.lifecycle import may_choose_base_model

BASE_MODEL_HELP = _(
    "“starter” is the small model that comes with Whetstone; else a hub id or a folder that this site allows. "
    "Leave it empty to judge completions that you import."
)


def check_base_model(name: str) -> str:
    """Return the name of a base model that this site allows, or none at all. Raises ValidationError."""
    if name and base_models.locate(name) is None:
        raise forms.ValidationError(base_models.refusal(name))
    return name


class NewProjectForm(forms.Form):
    name = forms.CharField(max_length=120)
    base_model = forms.CharField(
        max_length=500, required=False, initial="starter", label=_("Base model"), help_text=BASE_MODEL_HELP
    )
    judgments_needed = forms.IntegerField(
        min_value=1,
        max_value=50,
        initial=1,
        label=_("Judgments per comparison"),
        help_text=_("How many annotators judge each comparison, independently."),
    )

    def clean_base_model(self) -> str:
        return check_base_model(self.cleaned_data["base_model"])


class ProjectForm(forms.ModelForm):  # type: ignore[type-arg] # no subscript at run time
    """Every setting of a project. `groups` gives the page its order."""

    reasons = LinesField(
        most=20, help_text=_("One short phrase a line. Annotators pick any that apply, after their verdict.")
    )
    criteria = LinesField(
        most=8,
        longest=40,
        help_text=_(
            "One a line, such as helpful, honest, harmless. Each is judged the same way as the whole."
        ),
    )
    training_settings = ObjectField(
        label=_("Training defaults"),
        help_text=_("A JSON object with keys of a round's config.json. Each round can still change them."),
    )
    sampling_settings = ObjectField(
        label=_("Sampling defaults"),
        help_text=_('A JSON object, such as {"temperature": 0.9, "max_new_tokens": 64}.'),
    )
    base_model = forms.CharField(
        max_length=500, required=False, label=_("Base model"), help_text=BASE_MODEL_HELP
    )
    apply_needed = forms.BooleanField(
        required=False,
        label=_("Also change the comparisons made so far"),
        help_text=_("Otherwise a new number counts for comparisons made from now on."),
    )

    class Meta:
        model = Project
        fields = [
            "name", "guidelines", "judgments_needed", "lease_minutes", "gold_rate", "gold_feedback",
            "repeat_rate", "qualification_size", "qualification_pass", "min_seconds", "reasons", "criteria",
            "ask_rationale", "show_agreement", "held_out_share", "training_settings", "sampling_settings",
        ]  # fmt: skip
        labels = {
            "lease_minutes": _("Minutes a claim lasts"),
            "gold_rate": _("Share of gold comparisons"),
            "gold_feedback": _("Feedback on gold comparisons"),
            "repeat_rate": _("Share of repeats"),
            "qualification_size": _("Gold comparisons to qualify"),
            "qualification_pass": _("Accuracy to qualify"),
            "min_seconds": _("Fewest seconds for a verdict"),
            "ask_rationale": _("Ask for a rationale"),
            "show_agreement": _("Show annotators how they do"),
            "held_out_share": _("Share of prompts held out"),
        }
        help_texts = {
            "ask_rationale": _("A free text beside the verdict. It is never required."),
            "gold_rate": _("From 0 to 0.5. Comparisons with a known verdict, mixed in to measure accuracy."),
            "repeat_rate": _(
                "From 0 to 0.2. Shown to the same annotator a second time, sides swapped half of the time."
            ),
            "qualification_pass": _(
                "From 0 to 1. Reached on the gold comparisons above, it opens the real work."
            ),
            "held_out_share": _(
                "From 0 to 0.5. Chosen by a hash of their text; training never sees them. A new share counts for "
                "prompts imported from now on, so that a prompt never changes sides."
            ),
        }
        widgets = {
            "guidelines": forms.Textarea(attrs={"rows": 14, "spellcheck": "true"}),
            "gold_rate": forms.NumberInput(attrs={"step": "0.01"}),
            "repeat_rate": forms.NumberInput(attrs={"step": "0.01"}),
            "qualification_pass": forms.NumberInput(attrs={"step": "0.01"}),
            "held_out_share": forms.NumberInput(attrs={"step": "0.01"}),
            "min_seconds": forms.NumberInput(attrs={"step": "0.1", "min": "0"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if may_choose_base_model(self.instance):
            current = self.instance.current_policy
            self.fields["base_model"].initial = current.base_model if current else ""
        else:
            del self.fields["base_model"]

    def save(self, commit: bool = True) -> Project:
        """Write the form's own columns alone: what else changed meanwhile, as by a promotion, stays."""
        project: Project = super().save(commit=False)
        if commit:
            project.save(update_fields=self._meta.fields)
        return project

    def clean_base_model(self) -> str:
        name: str = self.cleaned_data["base_model"]
        # One that was allowed when it was chosen does not keep the other settings from being saved.
        return name if name == self.fields["base_model"].initial else check_base_model(name)

    def clean_min_seconds(self) -> float:
        seconds: float = self.cleaned_data["min_seconds"]
        if not 0 <= seconds <= 600:
            raise forms.ValidationError(_("Give a number of seconds from 0 to 600."))
        return seconds

    def clean_guidelines(self) -> str:
        text: str = self.cleaned_data["guidelines"]
        if len(text) > 100_000:
            raise forms.ValidationError(_("At most 100,000 characters."))
        return text


class FilterForm(forms.Form):
    """What the list of comparisons is narrowed by."""

    STATES = [
        ("", _("Any state")),
        ("waiting", _("Waiting")),
        ("partly", _("Partly judged")),
        ("finished", _("Finished")),
        ("set_aside", _("Set aside (often skipped)")),
        ("withdrawn", _("Withdrawn")),
    ]
    IN_SIGHT = ("state", "verdict")
    # Folded, unless one is in use.
    MORE = ("kind", "annotator", "policy", "held_out", "disagreement", "flagged")
    HELD_OUT = [("", _("Any prompt")), ("yes", _("Held out")), ("no", _("For training"))]

    q = forms.CharField(required=False, max_length=200, label=_("Search"))
    state = forms.ChoiceField(required=False, choices=STATES, label=_("State"))
    kind = forms.ChoiceField(
        required=False, choices=[("", _("Any kind")), *Comparison.Kind.choices], label=_("Kind")
    )
    verdict = forms.ChoiceField(
        required=False, choices=[("", _("Any verdict")), *Judgment.Verdict.choices], label=_("Verdict")
    )
    annotator = forms.ModelChoiceField(
        User.objects.none(), required=False, empty_label=_("Any annotator"), label=_("Annotator")
    )
    policy = forms.ModelChoiceField(
        Policy.objects.none(), required=False, empty_label=_("Any policy"), label=_("Policy")
    )
    held_out = forms.ChoiceField(required=False, choices=HELD_OUT, label=_("Prompts"))
    disagreement = forms.BooleanField(required=False, label=_("Annotators disagree"))
    flagged = forms.BooleanField(required=False, label=_("Flagged"))

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        people, policies = self.fields["annotator"], self.fields["policy"]
        people.queryset = User.objects.filter(memberships__project=project).order_by("username")  # type: ignore[attr-defined]
        policies.queryset = Policy.objects.filter(project=project).order_by("-pk")  # type: ignore[attr-defined]


class ExportForm(forms.Form):
    """Which rows to take out, and how judgments become pairs. Whatever is left out is as in FIRST."""

    held_out = forms.ChoiceField(
        choices=[("leave", _("Leave out")), ("include", _("Include")), ("only", _("Only these"))],
        label=_("Held-out prompts"),
        help_text=_("Training never sees them."),
    )
    kind = forms.ChoiceField(choices=[("", _("Every kind")), *Comparison.Kind.choices], label=_("Kind"))
    policy = forms.ModelChoiceField(
        Policy.objects.none(),
        to_field_name="name",
        empty_label=_("Any policy"),
        label=_("With a completion of"),
    )
    annotator = forms.ModelChoiceField(
        User.objects.none(), to_field_name="username", empty_label=_("Everybody"), label=_("Judged by")
    )
    since = forms.DateField(label=_("Judged since"), widget=forms.DateInput(attrs={"type": "date"}))
    batch = forms.CharField(max_length=60, label=_("Batch"), help_text=_("Such as “import 3” or “round 2”."))
    votes = forms.ChoiceField(
        choices=[("equal", _("Every vote the same")), ("reliability", _("By the annotator’s reliability"))],
        label=_("Votes count"),
        help_text=_("Reliability is estimated from gold and agreement; the label becomes a probability."),
    )
    weights = forms.ChoiceField(
        choices=[("equal", _("Every pair the same")), ("judgments", _("As often as it was judged"))],
        label=_("Weights"),
    )
    min_judgments = forms.IntegerField(min_value=1, max_value=50, label=_("Fewest judgments"))
    smoothing = forms.FloatField(
        min_value=0,
        max_value=100,
        label=_("Smoothing"),
        help_text=_("Votes added to each side: 0.5 makes a single vote the label 0.75."),
        widget=forms.NumberInput(attrs={"step": "0.1"}),
    )
    too_fast = forms.ChoiceField(
        choices=[("count", _("Count")), ("leave", _("Leave out"))], label=_("Verdicts marked too fast")
    )
    gold = forms.ChoiceField(
        choices=[("leave", _("Leave out")), ("include", _("Include"))], label=_("Gold comparisons")
    )

    FIRST = {
        "held_out": "leave", "votes": "equal", "weights": "equal", "min_judgments": 1, "smoothing": 0.0,
        "too_fast": "count", "gold": "leave",
    }  # fmt: skip

    def __init__(self, data: Mapping[str, Any], *, project: Project) -> None:
        given = {name: value for name, value in data.items() if name in self.base_fields and value != ""}
        super().__init__({**self.FIRST, **given})
        for field in self.fields.values():
            field.required = False
        people, policies = self.fields["annotator"], self.fields["policy"]
        people.queryset = User.objects.filter(memberships__project=project).order_by("username")  # type: ignore[attr-defined]
        policies.queryset = Policy.objects.filter(project=project).order_by("pk")  # type: ignore[attr-defined]

    def chosen(self) -> dict[str, Any]:
        """Return what differs from FIRST, in words, for the trail."""
        return {
            name: str(value)
            for name, value in self.cleaned_data.items()
            if value not in ("", None) and value != self.FIRST.get(name)
        }

    def filters(self) -> Filters:
        """The rows that were chosen."""
        chosen = self.cleaned_data
        since = chosen["since"]
        held_out = {"leave": False, "include": True, "only": None}[chosen["held_out"]]
        return Filters(
            since=timezone.make_aware(datetime.combine(since, time())) if since else None,
            annotator=chosen["annotator"].pk if chosen["annotator"] else None,
            kind=chosen["kind"],
            policy=chosen["policy"].pk if chosen["policy"] else None,
            batch=chosen["batch"],
            held_out=held_out,
        )

    def settings(self) -> PairSettings:
        chosen = self.cleaned_data
        return PairSettings(
            votes=chosen["votes"],
            weights=chosen["weights"],
            smoothing=chosen["smoothing"],
            min_judgments=chosen["min_judgments"],
            include_too_fast=chosen["too_fast"] == "count",
            include_gold=chosen["gold"] == "include" or chosen["kind"] == Comparison.Kind.GOLD,
        )


class UploadForm(forms.Form):
    """A file of prompts or pairs, or prompts typed in."""

    FORMATS = [
        ("", _("By the file’s name")),
        ("jsonl", _("JSON Lines")),
        ("csv", _("CSV with a header")),
        ("txt", _("One prompt a line")),
    ]

    file = forms.FileField(required=False, label=_("File"), allow_empty_file=True)
    format = forms.ChoiceField(required=False, choices=FORMATS)
    text = forms.CharField(
        required=False,
        strip=False,
        label=_("Or paste prompts"),
        help_text=_("One a line."),
        widget=forms.Textarea(attrs={"rows": 5}),
    )

    def clean_file(self) -> File[Any] | None:
        file: File[Any] | None = self.cleaned_data["file"]
        if file and (file.size or 0) > site.IMPORT_LIMIT:
            raise forms.ValidationError(
                _("The file has %(size)s; at most %(limit)s are taken. Split it, and import the parts."),
                params={"size": filesizeformat(file.size or 0), "limit": filesizeformat(site.IMPORT_LIMIT)},
            )
        return file

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        file, text = cleaned.get("file"), cleaned.get("text", "")
        if "file" in self.errors:
            return cleaned
        if bool(file) == bool(text.strip()):
            self.add_error("file", _("Choose a file, or paste prompts: one of the two."))
        elif text.strip():
            cleaned["file"] = ContentFile(text.encode("utf-8", "replace"), name="")
            cleaned["format"] = "txt"
        elif file:
            cleaned["format"] = cleaned.get("format") or guess_format(file.name or "")
        return cleaned
