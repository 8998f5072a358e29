"""The forms of members, accounts and tokens."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.auth.forms import UsernameField
from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models import ApiToken, Project, Role, User
from annotate.text.usernames import NAME_REFUSED, RESERVED, check_visible, fold, name_key

LONGEST_NAME = 254


class AddMemberForm(forms.Form):
    person = forms.CharField(
        max_length=LONGEST_NAME,
        label=_("Username or email address"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    role = forms.ChoiceField(choices=Role.choices, initial=Role.ANNOTATOR)

    def clean_person(self) -> str:
        person: str = self.cleaned_data["person"]
        check_visible(person)
        if len(fold(person)) > LONGEST_NAME:  # folding makes some characters several
            raise forms.ValidationError(_("No username or address is so long."))
        return person


class NewAccountForm(forms.ModelForm):  # type: ignore[type-arg] # no subscript at run time
    """A new account, which cannot start as an admin. A name that is taken or reserved gets one and the same answer."""

    role = forms.ChoiceField(choices=[choice for choice in Role.choices if choice[0] != Role.ADMIN])

    class Meta:
        model = User
        fields = ["username"]
        help_texts = {"username": _("Letters, digits and . + - _ only.")}
        error_messages = {"username": {"unique": NAME_REFUSED}}
        field_classes = {"username": UsernameField}
        widgets = {"username": forms.TextInput(attrs={"autocomplete": "off"})}

    def clean_username(self) -> str:
        username: str = self.cleaned_data["username"]
        if "@" in username:  # it could pass for another person's address
            raise forms.ValidationError(_("A username here has no @."))
        if name_key(username) in RESERVED:
            raise forms.ValidationError(NAME_REFUSED)
        return username


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices)


class TokenForm(forms.Form):
    """A new API token. Without these fields it is made as tokens were before they could be narrowed."""

    EXPIRIES = [
        ("30", _("In 30 days")),
        ("90", _("In 90 days")),
        ("365", _("In a year")),
        ("never", _("Never")),
    ]
    LEFT_OUT = {"scope": ApiToken.Scope.ADMIN, "expires": "never"}

    name = forms.CharField(
        max_length=60, label=_("Name"), help_text=_("What the token is for, such as a script.")
    )
    scope = forms.ChoiceField(
        choices=ApiToken.Scope.choices,
        initial=ApiToken.Scope.READ,
        label=_("Scope"),
        help_text=_("Never more than your role in a project allows."),
    )
    project = forms.ModelChoiceField(
        Project.objects.none(),
        required=False,
        to_field_name="slug",
        label=_("Project"),
        empty_label=_("All of your projects"),
    )
    expires = forms.ChoiceField(choices=EXPIRIES, initial="90", label=_("Expires"))

    def __init__(self, data: QueryDict | None, *, person: User) -> None:
        super().__init__(data and {**self.LEFT_OUT, **data.dict()})
        projects: Any = self.fields["project"]
        projects.queryset = Project.objects.filter(memberships__user=person)

    def chosen(self) -> dict[str, Any]:
        """Return what a valid form asks for, as `ApiToken.issue` takes it."""
        cleaned = self.cleaned_data
        days = int(cleaned["expires"]) if cleaned["expires"] != "never" else 0
        return {
            "name": cleaned["name"],
            "scope": cleaned["scope"],
            "project": cleaned["project"],
            "expires_at": timezone.now() + timedelta(days=days) if days else None,
        }
