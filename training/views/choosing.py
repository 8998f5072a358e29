"""The fields of a round's form by which its comparisons are chosen, and what an admin decides about the audit."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from annotate.models import Project
from annotate.people.access import ADMINS, ProjectRequest, project_view
from training.rounds.choosing.defaults import chooses_regardless, set_default
from training.rounds.choosing.settings import (
    ALWAYS,
    BY,
    LEAST_CANDIDATES,
    LEAST_CONTROL,
    MOST_CANDIDATES,
    PROBE,
    Choosing,
)
from training.standings.audit import recall_audit

TITLE = _("Choice of comparisons")
NAMES = ("choosing.by", "choosing.candidates", "choosing.control")


def choosing_fields(defaults: Mapping[str, Any]) -> dict[str, forms.Field]:
    """Return the fields by dotted name. They begin as `defaults` has them, by the same names."""
    fields = (
        forms.ChoiceField(
            label=_("Choose comparisons"),
            choices=list(BY.items()),
            help_text=_(
                "A probe is fitted to all judgments so far. Once it predicts held-out ones, it shows annotators the "
                "best and the worst of several candidates, which teach more."
            ),
        ),
        forms.IntegerField(
            label=_("Candidates"),
            min_value=LEAST_CANDIDATES,
            max_value=MOST_CANDIDATES,
            help_text=_(
                "Completions that are written for each comparison. At random, or without such a probe: two."
            ),
        ),
        forms.FloatField(
            label=_("Share of control"),
            min_value=LEAST_CONTROL,
            max_value=1,
            help_text=_(
                "Comparisons drawn at random beside the chosen ones, which show what choosing saves."
            ),
        ),
    )
    found = dict(zip(NAMES, fields, strict=True))
    for name, field in found.items():
        field.required = False  # a request that names none takes the project's
        field.initial = defaults.get(name, getattr(Choosing, name.partition(".")[2]))
    return found


def without_open(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a form says, without the fields of choosing that it leaves open."""
    return {name: value for name, value in given.items() if name not in NAMES or value not in (None, "")}


def audit_context(project: Project) -> dict[str, Any]:
    """Return what choosing saves in a project, and whether it goes on whatever that is, for a template."""
    return {"audit": recall_audit(project), "regardless": chooses_regardless(project)}


@require_POST
@project_view(*ADMINS)
def choose_regardless(request: ProjectRequest) -> HttpResponse:
    """Go on choosing comparisons whatever the audit says, or only while it saves judgments."""
    by = request.POST.get("by")
    if by in (PROBE, ALWAYS):
        set_default(request.project, request.user, by)
        messages.success(request, _("Comparisons of the next rounds are chosen %(by)s.") % {"by": BY[by]})
    else:
        messages.error(request, _("Choose whether it goes on."))
    return redirect("rounds", request.project.slug)
