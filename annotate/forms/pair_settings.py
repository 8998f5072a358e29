"""The settings by which a snapshot's pairs were made, in words."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.forms.exports import PairsForm
from annotate.models import Project

LEAVE_OUT, INCLUDE = gettext_lazy("Leave out"), gettext_lazy("Include")

# A label, and the words of each value that has some.
WORDS: dict[str, tuple[Any, dict[Any, Any]]] = {
    "ties": (
        gettext_lazy("Ties"),
        {"drop": LEAVE_OUT, "half": gettext_lazy("Include, with the label 0.5")},
    ),
    "both_bad": (
        gettext_lazy("Both bad"),
        {"drop": LEAVE_OUT, "ratings": gettext_lazy("Two single ratings")},
    ),
    "votes": (
        PairsForm.base_fields["votes"].label,
        {
            **dict(PairsForm.base_fields["votes"].choices),  # type: ignore[attr-defined] # a ChoiceField
            "probe": gettext_lazy("By reliability, with a probe as one more voter"),
        },
    ),
    "weights": (
        PairsForm.base_fields["weights"].label,
        dict(PairsForm.base_fields["weights"].choices),  # type: ignore[attr-defined] # a ChoiceField
    ),
    "min_judgments": (PairsForm.base_fields["min_judgments"].label, {}),
    "smoothing": (PairsForm.base_fields["smoothing"].label, {0: gettext_lazy("None")}),
    "include_too_fast": (
        PairsForm.base_fields["too_fast"].label,
        {True: gettext_lazy("Count"), False: LEAVE_OUT},
    ),
    "include_gold": (PairsForm.base_fields["gold"].label, {True: INCLUDE, False: LEAVE_OUT}),
    "include_untrainable": (
        gettext_lazy("Images, and completions of several messages"),
        {True: INCLUDE, False: LEAVE_OUT},
    ),
    "margin_scale": (gettext_lazy("Margin per step of strength"), {0: gettext_lazy("None")}),
}


def name_pair_settings(stored: Mapping[str, Any], project: Project) -> list[tuple[str, str]]:
    """Return the settings of a snapshot as labels and values. What this version does not know keeps its name."""
    named = []
    for name, value in stored.items():
        if name == "policies":
            named.append((_("Completions of"), _name_policies(value, project)))
        elif name in WORDS:
            label, words = WORDS[name]
            named.append((str(label), str(words.get(value, value))))
        else:
            named.append((name, str(value)))
    return named


def _name_policies(ids: list[int], project: Project) -> str:
    if not ids:
        return _("Every policy")
    names = dict(project.policies.filter(pk__in=ids).values_list("pk", "name"))
    return ", ".join(names.get(key, f"#{key}") for key in ids)
