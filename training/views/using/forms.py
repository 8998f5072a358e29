"""The forms of policies in use: a prompt to try, a push to a hub, a policy from elsewhere, a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from django import forms
from django.template.defaultfilters import filesizeformat
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from annotate.errors import RefusalError
from annotate.imports.contents import check_prompt
from annotate.imports.reader import RowError
from annotate.models import Policy, Project, Prompt
from annotate.text.chats import Content
from training.models import Answer, MergedWeights
from training.rounds import lineage
from training.rounds.plan import Plan
from training.rounds.starts import check_writer
from training.usage.naming import LONGEST_NAME, writers

LONGEST_TEXT, LONGEST_SYSTEM = 64_000, 16_000  # characters
MOST_TOKENS = 4096

LONGEST_KEY = 18  # digits: SQLite refuses a whole number beyond 64 bits in a list


class MergeForm(forms.Form):
    """The precision that a policy is merged in, with the size that each takes."""

    precision = forms.ChoiceField(
        required=False,
        label=_("Precision"),
        help_text=_(
            "Most base models are in bfloat16, where a small change is rounded away. float16 keeps three bits more, and"
            " holds no value beyond 65,504. float32 keeps all."
        ),
    )

    def __init__(self, data: Mapping[str, Any] | None, sizes: Mapping[str, int]) -> None:
        super().__init__(data)
        field = cast(forms.ChoiceField, self.fields["precision"])
        field.choices = [
            (code, f"{label} ({filesizeformat(sizes[code])})" if code in sizes else label)
            for code, label in MergedWeights.Precision.choices
        ]

    def clean_precision(self) -> str:
        return str(self.cleaned_data["precision"] or MergedWeights.Precision.BASE)


class SamplingForm(forms.Form):
    """The settings of sampling that a trial has."""

    max_new_tokens = forms.IntegerField(min_value=1, max_value=MOST_TOKENS, label=_("Tokens at most"))
    temperature = forms.FloatField(
        min_value=0,
        max_value=10,
        label=_("Temperature"),
        help_text=_("0 takes the likeliest token."),
    )
    top_p = forms.FloatField(min_value=0.001, max_value=1, label=_("Top p"))
    seed = forms.IntegerField(
        min_value=0, max_value=2**31 - 1, label=_("Seed"), help_text=_("The same seed writes the same text.")
    )

    def sampling(self) -> dict[str, Any]:
        """Return the settings of a valid form."""
        return {name: self.cleaned_data[name] for name in SamplingForm.base_fields}

    def refuse(self, error: RefusalError) -> None:
        """Show why a trial was refused, at the field that is at fault."""
        name = error.field.rpartition(".")[2]
        if name in self.fields:
            self.add_error(name, capfirst(error.message))
        else:
            self.add_error(None, str(error))


class PoliciesField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg] # no subscript at run time
    """Policies by their keys. A key that no database could hold is one that no policy has."""

    def clean(self, value: Any) -> Any:
        for key in value or ():
            if len(str(key)) > LONGEST_KEY:
                raise forms.ValidationError(
                    self.error_messages["invalid_choice"],
                    code="invalid_choice",
                    params={"value": str(key)[:40]},
                )
        return super().clean(value)


class TryForm(SamplingForm):
    """A prompt for some policies: a chat with instructions, or plain text. Or one of the project's prompts."""

    policies = PoliciesField(
        Policy.objects.none(),
        label=_("Policies"),
        help_text=_("At most three. Their answers appear side by side."),
        widget=forms.CheckboxSelectMultiple,
    )
    kind = forms.ChoiceField(
        choices=[("chat", _("A chat message")), ("text", _("Plain text to continue"))], label=_("Prompt is")
    )
    system = forms.CharField(
        required=False,
        strip=False,
        max_length=LONGEST_SYSTEM,
        label=_("System message"),
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    text = forms.CharField(
        required=False,
        strip=False,
        max_length=LONGEST_TEXT,
        label=_("Prompt"),
        widget=forms.Textarea(attrs={"rows": 5}),
    )
    prompt = forms.ModelChoiceField(
        Prompt.objects.none(), required=False, widget=forms.HiddenInput, label=_("Prompt of the project")
    )

    field_order = ("policies", "kind", "system", "text", *SamplingForm.base_fields)

    def __init__(self, *args: Any, project: Project, policy: Policy, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["policies"].queryset = writers(project)  # type: ignore[attr-defined]
        self.fields["prompt"].queryset = project.prompts.for_rounds()  # type: ignore[attr-defined]
        chosen = self.data.get("prompt") if self.is_bound else self.initial.get("prompt")
        self.fields["text"].required = not chosen
        known = {one.pk for one in writers(project)}
        family = [policy.pk, *(one.pk for one in lineage.find_parents(policy)[-1:])]
        is_chat = isinstance(project.prompts.order_by("-pk").values_list("content", flat=True).first(), list)
        first = {
            "policies": [pk for pk in family if pk in known],
            "kind": "chat" if is_chat else "text",
            **usual_sampling(project, policy),
        }
        self.initial = {**first, **self.initial}

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors and not cleaned.get("prompt"):
            if cleaned["kind"] == "text" and cleaned["system"].strip():
                self.add_error("system", _("Plain text has no system message. Choose a chat message."))
            try:
                cleaned["content"] = check_prompt(self._written(cleaned))
            except RowError as error:
                self.add_error("text", capfirst(str(error)))
        return cleaned

    def content(self) -> Content:
        """Return the prompt of a valid form."""
        chosen = self.cleaned_data["prompt"]
        content: Content = chosen.content if chosen else self.cleaned_data["content"]
        return content

    def tools(self) -> list[dict[str, Any]] | None:
        """Return the tools of the project's prompt, if a valid form has one."""
        chosen = self.cleaned_data["prompt"]
        return chosen.tools if chosen else None

    @staticmethod
    def _written(cleaned: dict[str, Any]) -> Any:
        text, system = (cleaned.get(name, "").replace("\r\n", "\n") for name in ("text", "system"))
        if cleaned["kind"] == "text":
            return text
        opening = [{"role": "system", "content": system}] if system.strip() else []
        return [*opening, {"role": "user", "content": text}]


class ReplyForm(forms.Form):
    """The next message of the user, after the answer of one policy."""

    policy = forms.IntegerField(max_value=2**63 - 1, widget=forms.HiddenInput)
    text = forms.CharField(
        strip=False,
        max_length=LONGEST_TEXT,
        label=_("Reply"),
        widget=forms.Textarea(attrs={"rows": 2}),
    )

    def content(self, before: list[dict[str, Any]], answer: Answer) -> Content:
        """Return the chat with the answer and the reply. Raises RefusalError if it is too long."""
        text = self.cleaned_data["text"].replace("\r\n", "\n")
        said = answer.sample.get("messages") or [{"role": "assistant", "content": answer.text}]
        try:
            return check_prompt([*before, *said, {"role": "user", "content": text}])
        except RowError as error:
            raise RefusalError(capfirst(str(error)), "text") from error


def usual_sampling(project: Project, policy: Policy) -> dict[str, Any]:
    """Return the settings that rounds of this policy write with."""
    try:
        sampling = Plan.for_project(project, check_writer(policy), {}, trains=False).config.sampling
    except RefusalError:
        return {"max_new_tokens": 256, "temperature": 1.0, "top_p": 1.0, "seed": 0}
    return {
        "max_new_tokens": min(sampling.max_new_tokens, MOST_TOKENS),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": 0,
    }


class BringForm(forms.Form):
    """A policy that was made elsewhere. `what` says which of the fields are shown and read."""

    ADAPTER, MODEL, ENDPOINT = "adapter", "model", "endpoint"

    KINDS = (
        (ADAPTER, _("Adapter (LoRA)")),
        (MODEL, _("Model")),
        (ENDPOINT, _("Endpoint")),
    )
    GROUPS = {
        ADAPTER: ("base", "is_same_base", "file", "place"),
        MODEL: ("place", "revision"),
        ENDPOINT: ("url", "model", "max_new_tokens", "temperature", "top_p"),
    }
    NEEDED = {ENDPOINT: ("url", "model"), MODEL: ("place",), ADAPTER: ("base",)}

    what = forms.ChoiceField(choices=KINDS, label=_("What"), widget=forms.HiddenInput)
    name = forms.CharField(max_length=LONGEST_NAME, label=_("Name"))
    base = forms.ModelChoiceField(
        Policy.objects.none(), required=False, label=_("Base model"), empty_label=None
    )
    is_same_base = forms.BooleanField(
        required=False,
        label=_("The adapter’s file gives its base model another name, but it belongs to this one"),
    )
    file = forms.FileField(
        required=False,
        label=_("Archive (.zip, .tar.gz)"),
        help_text=_("With adapter_config.json and adapter_model.safetensors. Nothing else of it is read."),
    )
    place = forms.CharField(
        required=False,
        max_length=450,
        label=_("Folder on the server, or id on the hub"),
        help_text=_("One that the site allows (WHETSTONE_MODELS)."),
    )
    revision = forms.CharField(required=False, max_length=100, label=_("Revision on the hub"))
    url = forms.CharField(
        required=False,
        max_length=500,
        label=_("Address"),
        help_text=_("Up to /v1. The site’s keeper allows hosts, and holds their keys (WHETSTONE_ENDPOINTS)."),
        widget=forms.TextInput(attrs={"placeholder": "https://api.example.com/v1", "inputmode": "url"}),
    )
    model = forms.CharField(required=False, max_length=200, label=_("Model, as the endpoint calls it"))
    max_new_tokens = forms.IntegerField(
        required=False, min_value=1, max_value=1_000_000, label=_("Tokens at most")
    )
    temperature = forms.FloatField(
        required=False,
        min_value=0,
        max_value=10,
        label=_("Temperature"),
    )
    top_p = forms.FloatField(
        required=False,
        min_value=0.001,
        max_value=1,
        label=_("Top p"),
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        given = self.data.get("what") if self.is_bound else self.initial.get("what")
        self.kind = given if given in self.GROUPS else self.ADAPTER
        self.initial["what"] = self.kind
        for name in self.NEEDED[self.kind]:
            self.fields[name].required = True
        bases = project.policies.filter(kind=Policy.Kind.BASE).order_by("pk")
        self.fields["base"].queryset = bases  # type: ignore[attr-defined]
        self.fields["base"].initial = bases.first()
        self.fields["base"].label_from_instance = lambda policy: policy.base_model  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.kind == self.ADAPTER and bool(cleaned.get("file")) == bool(cleaned.get("place")):
            self.add_error("file", _("Give an archive, or a folder or id: one of the two."))
        return cleaned

    def shown(self) -> list[forms.BoundField]:
        """Return the fields of the kind that is brought in."""
        return [self[name] for name in ("name", *self.GROUPS[self.kind])]

    def refuse(self, error: RefusalError) -> None:
        """Show why a policy was refused, at the field that is at fault."""
        name = error.field if error.field in self.fields else None
        self.add_error(name, capfirst(error.message) if name else str(error))
