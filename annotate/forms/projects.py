"""The forms of a project: making one, and its settings."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.forms.aspects import AspectRow, AspectsField, current_aspects
from annotate.forms.fields import LinesField, ObjectField, ProseField
from annotate.judgments.aspects import count_holders
from annotate.models import Project
from annotate.projects import base_models, settings_checks
from annotate.projects.lifecycle import may_choose_base_model
from annotate.text.images import is_host

BASE_MODEL_HELP = _(
    "“starter” is the small model that comes with Whetstone; else a hub id, a folder or a GGUF file that this site "
    "allows. "
    "Leave it empty to judge completions that you import."
)


def check_base_model(name: str) -> str:
    """Return the name of a base model that this site allows, or none at all. Raises ValidationError."""
    if name and base_models.locate(name) is None:
        raise forms.ValidationError(base_models.explain_refusal(name))
    if problem := base_models.files_problem(name):
        raise forms.ValidationError(problem)
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


def name_settings(columns: str) -> str:
    """Return the settings that an entry of the trail lists, called as on their page."""
    fields = ProjectForm.base_fields
    named = ((column, fields[column].label if column in fields else None) for column in columns.split(", "))
    return ", ".join(str(label or column.replace("_", " ").capitalize()) for column, label in named)


class ProjectForm(forms.ModelForm):  # type: ignore[type-arg] # no subscript at run time
    """Every setting of a project. `groups` gives the page its order."""

    reasons = AspectsField(
        most=20, help_text=_("One short phrase a line. Annotators pick any that apply, after their verdict.")
    )
    criteria = AspectsField(
        most=8,
        longest=40,
        help_text=_(
            "One a line, such as helpful, honest, harmless. Each is judged the same way as the whole."
        ),
    )
    visible_metadata = LinesField(
        most=20,
        longest=200,
        label=_("Metadata shown to annotators"),
        help_text=_(
            "Keys, one a line, such as reference or source. They appear beside the prompt. Keys that tell which "
            "policy wrote what do not belong here."
        ),
    )
    image_hosts = LinesField(
        most=10,
        longest=253,
        label=_("Hosts of images"),
        help_text=_(
            "One a line, such as images.example.org. Images in texts are loaded from these hosts alone, by https. "
            "Each host sees who looks at its images, and when."
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
            "name", "guidelines", "licence", "judgments_needed", "lease_minutes", "gold_rate", "gold_feedback",
            "repeat_rate", "qualification_size", "qualification_pass", "min_seconds", "reasons", "criteria",
            "ask_rationale", "default_view", "visible_metadata", "image_hosts", "show_agreement", "held_out_share",
            "training_settings", "sampling_settings",
        ]  # fmt: skip
        labels = {
            "licence": _("Licence of the data"),
            "lease_minutes": _("Minutes a claim lasts"),
            "gold_rate": _("Share of gold comparisons"),
            "gold_feedback": _("Feedback on gold comparisons"),
            "repeat_rate": _("Share of repeats"),
            "qualification_size": _("Gold comparisons to qualify"),
            "qualification_pass": _("Accuracy to qualify"),
            "min_seconds": _("Fewest seconds for a verdict"),
            "ask_rationale": _("Ask for a rationale"),
            "default_view": _("View of texts"),
            "show_agreement": _("Show annotators how they do"),
            "held_out_share": _("Share of prompts held out"),
        }
        help_texts = {
            "ask_rationale": _("A free text beside the verdict. It is never required."),
            "default_view": _("How texts are shown until a member chooses another view."),
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
        field_classes = {"guidelines": ProseField}
        widgets = {
            "guidelines": forms.Textarea(attrs={"rows": 14, "spellcheck": "true"}),
            "min_seconds": forms.NumberInput(attrs={"min": "0"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["default_view"].required = False  # a form that does not name it leaves it as it is
        if may_choose_base_model(self.instance):
            current = self.instance.current_policy
            self.fields["base_model"].initial = current.base_model if current else ""
        else:
            del self.fields["base_model"]
        for name in ("reasons", "criteria"):
            field: Any = self.fields[name]
            field.current = current_aspects(getattr(self.instance, name))

    @property
    def aspects(self) -> list[tuple[str, forms.BoundField, list[tuple[AspectRow, int]]]]:
        """Return the reasons and the criteria: a label for new ones, the field, and each row with its judgments."""
        held = count_holders(self.instance)
        labels = {"reasons": _("New reasons"), "criteria": _("New criteria")}
        found = []
        for name, label in labels.items():
            field: Any = self.fields[name]
            rows = field.rows(self[name].data if self.is_bound else None)
            found.append((str(label), self[name], [(row, held[name].get(row.key, 0)) for row in rows]))
        return found

    def clean(self) -> dict[str, Any]:
        """Refuse training defaults that no round could take. Those that were saved so before may stay."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        names = ("training_settings", "sampling_settings")
        if any(name in self.changed_data for name in names) and all(name in cleaned for name in names):
            for field, sentence in settings_checks.find_problems(*(cleaned[name] for name in names)):
                self.add_error(field, sentence)
        return cleaned

    def clean_base_model(self) -> str:
        name: str = self.cleaned_data["base_model"]
        # One that was allowed when it was chosen does not keep the other settings from being saved.
        return name if name == self.fields["base_model"].initial else check_base_model(name)

    def clean_image_hosts(self) -> list[str]:
        hosts: list[str] = [host.lower() for host in self.cleaned_data["image_hosts"]]
        for host in hosts:
            if not is_host(host):
                sentence = _("“%(host)s” is not a host: write its name alone, such as images.example.org.")
                raise forms.ValidationError(sentence, params={"host": host})
        return hosts

    def clean_default_view(self) -> str:
        return self.cleaned_data["default_view"] or str(self.initial["default_view"])

    def clean_min_seconds(self) -> float:
        seconds: float = self.cleaned_data["min_seconds"]
        if not 0 <= seconds <= 600:
            raise forms.ValidationError(_("Give a number of seconds from 0 to 600."))
        return seconds

    def clean_guidelines(self) -> str:
        text: str = self.cleaned_data["guidelines"]
        if len(text) > 100_000:
            raise forms.ValidationError(_("At most 100,000 characters."))
        return text if "guidelines" in self.changed_data else str(self.initial["guidelines"])
