"""The user's projects, one project with its settings, and how well it is judged."""

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _
from rest_framework.decorators import api_view
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.api.access import Scope, get_token
from annotate.api.errors import read_errors
from annotate.api.operations.declaration import Call, Endpoint, Listing, declare, operation
from annotate.api.pagination import NewestFirst, page_of
from annotate.api.shapes.people import TrailOut
from annotate.api.shapes.projects import (
    AgreementOut,
    NewProjectIn,
    ProjectOut,
    ProjectsOut,
    QualityOut,
    SettingsIn,
    SettingsOut,
    project_data,
    project_line,
    settings_data,
    share_data,
)
from annotate.forms.projects import NewProjectForm, ProjectForm
from annotate.forms.search import TrailFilterForm
from annotate.models import Membership, Project, User
from annotate.people import reading
from annotate.people.access import ADMINS, READERS
from annotate.people.pseudonyms import pseudonym
from annotate.projects import lifecycle, trail
from annotate.reports import agreement, quality
from annotate.reports.alpha import measure_alpha

NO_FIELD = "non_field_errors"
COLUMNS = list(ProjectForm.Meta.fields)


class Projects(Endpoint):
    tag = "Projects"

    @operation(
        "List your projects",
        "Archived ones too. A token for one project lists that one alone.",
        roles=None,
        gives=ProjectsOut,
    )
    def get(self, call: Call) -> Response:
        memberships = Membership.objects.filter(user=call.user).select_related("project")
        token = get_token(call.request)
        if token is not None and token.project is not None:
            memberships = memberships.filter(project=token.project)
        lines = [project_line(membership) for membership in memberships.order_by("project__name")]
        return Response({"user": call.user.get_username(), "projects": lines})

    @operation(
        "Make a project",
        "You become its admin. It needs the permission to add projects, which an administrator of "
        "the site gives.",
        scope=Scope.ADMIN,
        roles=None,
        takes=NewProjectIn,
        gives=ProjectOut,
        status=201,
        has_key=True,
    )
    def post(self, call: Call) -> Response:
        if not call.user.has_perm("annotate.add_project"):
            raise PermissionDenied(_("Ask an administrator of this site for the permission to add projects."))
        form = NewProjectForm({"judgments_needed": 1, **call.given})
        raise_errors(form)
        made = lifecycle.create_project(call.user, **form.cleaned_data)
        return Response(project_data(made, made.memberships.get(user=call.user)), status=201)


class OneProject(Endpoint):
    tag = "Projects"

    @operation(
        "Get a project", "How to judge, and for admins and researchers the settings too.", gives=ProjectOut
    )
    def get(self, call: Call) -> Response:
        return Response(project_data(call.project, call.membership))


class Settings(Endpoint):
    tag = "Projects"

    @operation("Get the settings", roles=ADMINS, gives=SettingsOut)
    def get(self, call: Call) -> Response:
        return Response(settings_data(call.project, COLUMNS))

    @operation(
        "Change settings",
        "What is not named stays as it is.\n\nReasons and criteria are named by their `key`. One "
        'without a key is new, and those that are left out stay as they are: `"asked": false` '
        "takes one away. `apply_needed` also changes the comparisons made so far.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        takes=SettingsIn,
        gives=SettingsOut,
    )
    def patch(self, call: Call) -> Response:
        change_settings(call.project, call.user, call.membership, call.given)
        return Response(settings_data(Project.objects.get(pk=call.project.pk), COLUMNS))


def change_settings(project: Project, by: User, membership: Membership, given: Mapping[str, Any]) -> None:
    """Change what is `given` by the form of the page. Raises ValidationError naming the field."""
    if "base_model" in given and not lifecycle.may_choose_base_model(project):
        sentence = _(
            "The base model can no longer be chosen: its completions are there, or policies from it."
        )
        raise ValidationError({"base_model": [sentence]})
    form = ProjectForm(instance=project)
    present = {name: form[name].initial for name in form.fields}
    form = ProjectForm(_as_posted(project, present, given), instance=project)
    raise_errors(form)
    named = [name for name in COLUMNS if name in given]
    chosen = {name: form.cleaned_data[name] for name in ("base_model", "apply_needed") if name in given}
    changed = [name for name in form.changed_data if name in given]
    lifecycle.change_settings(project, by, named, changed=changed, **chosen)
    if "guidelines" in changed:
        reading.mark_guidelines_read(membership, reading.version_of(project.guidelines))


def _as_posted(project: Project, present: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the present settings, with what is given laid over them, as the page's form posts them."""
    posted = {**present, **given}
    for name in ("visible_metadata", "image_hosts"):
        posted[name] = "\n".join(posted[name])
    for name in ("training_settings", "sampling_settings"):
        posted[name] = json.dumps(posted[name])
    for name, aspects in (("reasons", project.all_reasons), ("criteria", project.all_criteria)):
        posted |= _aspects_posted(name, {one.key for one in aspects}, given.get(name, []))
    return posted


def _aspects_posted(name: str, keys: set[str], given: list[dict[str, Any]]) -> dict[str, Any]:
    """Return reasons or criteria as the form posts them: fields for each that there is, and a line for each new one."""
    posted = {name: "\n".join(one["title"] for one in given if "key" not in one)}
    for place, one in enumerate(given):
        if (key := one.get("key")) is None:
            continue
        if key not in keys:
            raise ValidationError({name: [_("There is none with the key “%(key)s”.") % {"key": key}]})
        posted |= {f"{name}-title-{key}": one["title"], f"{name}-place-{key}": str(place)}
        if one["asked"]:
            posted[f"{name}-asked-{key}"] = "on"
    return posted


class Archive(Endpoint):
    tag = "Projects"

    @operation(
        "Archive the project",
        "It hands nothing out, and everything in it is kept.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=ProjectOut,
    )
    def post(self, call: Call) -> Response:
        with transaction.atomic():
            lifecycle.archive(call.project)
            trail.record(trail.Verb.ARCHIVED, call.user, project=call.project)
        return Response(project_data(call.project, call.membership))

    @operation("Open the project again", scope=Scope.ADMIN, roles=ADMINS, gives=ProjectOut)
    def delete(self, call: Call) -> Response:
        with transaction.atomic():
            lifecycle.restore(call.project)
            trail.record(trail.Verb.RESTORED, call.user, project=call.project)
        return Response(project_data(call.project, call.membership))


class Trail(Endpoint):
    tag = "Members"

    @operation(
        "List the trail",
        "Who did what, the newest first.",
        roles=ADMINS,
        gives=Listing(TrailOut),
        query=TrailFilterForm,
    )
    def get(self, call: Call) -> Response:
        entries = trail.find(call.project, **call.filters)
        return page_of(call.request, entries, TrailOut, NewestFirst)


# --- Figures -----------------------------------------------------------------------------------------------------


class Quality(Endpoint):
    tag = "Quality"

    @operation(
        "Get the quality of the judging",
        "Each annotator's figures, with warnings in plain words, and judgments by day.",
        roles=READERS,
        gives=QualityOut,
    )
    def get(self, call: Call) -> Response:
        found = quality.assess(call.project)
        return Response(
            {
                "judgments": found.total,
                "people": [_person(one) for one in found.people],
                "verdicts": [
                    {"verdict": verdict, "share": share_data(share)} for verdict, share in found.verdicts
                ],
                "with_external": share_data(found.with_external),
                "gold": share_data(found.gold),
                "left": share_data(found.left),
                "days": [{"day": day.date, "count": day.count} for day in found.days],
                "leaks": found.leaks,
            }
        )


def _person(person: quality.Person) -> dict[str, Any]:
    figures = person.figures
    shares = {name: getattr(figures, name) for name in ("gold", "agreement", "repeats", "left")}
    shares |= {"too_fast": person.too_fast, "skipped": person.skipped}
    return {
        "username": person.user.username,
        "annotator": pseudonym(person.user.pk),
        "judgments": person.total,
        **{name: share_data(share) for name, share in shares.items()},
        "reliability": figures.reliability,
        "mean_seconds": figures.mean_seconds,
        "median_seconds": figures.median_seconds,
        "late": figures.late,
        "warnings": person.warnings,
    }


class Agreement(Endpoint):
    tag = "Quality"

    @operation(
        "Get the agreement of the annotators",
        "Annotators are named as in exports.",
        roles=READERS,
        gives=AgreementOut,
    )
    def get(self, call: Call) -> Response:
        met = agreement.on_random_pairs(agreement.meetings(call.project))
        alpha = measure_alpha(call.project)
        return Response(
            {
                "pairwise": share_data(agreement.pairwise_agreement(call.project).everyone),
                "alpha": None if alpha is None else alpha.value,
                "alpha_interval": None if alpha is None else [alpha.low, alpha.high],
                "kappas": [
                    {"annotators": [pseudonym(one), pseudonym(other)], "comparisons": count, "kappa": kappa}
                    for one, other, count, kappa in agreement.kappas(met)
                ],
            }
        )


def raise_errors(form: Any) -> None:
    """Raise the first error of a form, naming its field."""
    if not form.is_valid():
        name, errors = next(iter(read_errors(form).items()))
        raise ValidationError({name if name in form.fields else NO_FIELD: errors})


@api_view(["GET", "POST", "PUT", "PATCH", "DELETE"])
def unknown(request: Request, path: str) -> Response:
    """Answer every other address below the API's: an error in the API's own shape."""
    raise NotFound(
        _("The API has no address %(path)s; docs/api.md lists what there is.") % {"path": path[:200]}
    )


declare(unknown, "")
