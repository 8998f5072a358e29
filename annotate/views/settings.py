"""A project's settings, its guidelines, and making a new project."""

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from annotate.errors import RefusalError
from annotate.forms.projects import NewProjectForm, ProjectForm
from annotate.judgments.aspects import count_holders
from annotate.models.aspects import read_aspects
from annotate.people import reading
from annotate.people.access import ADMINS, JUDGES, ProjectRequest, get_user, project_view
from annotate.projects import lifecycle, trail
from annotate.text.rendering import render_markdown


def new_project(request: HttpRequest) -> HttpResponse:
    """Make a project: for site administrators, and users with the permission annotate.add_project."""
    user = get_user(request)
    if not user.has_perm("annotate.add_project"):
        raise PermissionDenied(_("Ask an administrator of this site for the permission to add projects."))
    form = NewProjectForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        project = lifecycle.create_project(user, **form.cleaned_data)
        messages.success(request, _("Project created. Import prompts or pairs to judge next."))
        if unchecked := lifecycle.unchecked_base_model(project):
            messages.warning(
                request,
                _(
                    "The base model “%(name)s” is not on this server and could not be checked. See the settings."
                )
                % {"name": unchecked},
            )
        return redirect("import", project.slug)
    return render(request, "annotate/new_project.html", {"form": form}, status=422 if form.errors else 200)


@project_view(*ADMINS)
def project_settings(request: ProjectRequest) -> HttpResponse:
    project = request.project
    form = ProjectForm(request.POST or None, instance=project)
    if request.method == "POST" and form.is_valid():
        chosen = {
            name: form.cleaned_data[name] for name in ("base_model", "apply_needed") if name in form.fields
        }
        try:
            lifecycle.change_settings(
                project, request.user, ProjectForm.Meta.fields, changed=form.changed_data, **chosen
            )
        except RefusalError as error:
            form.add_error(error.field or None, error.message)
        else:
            if "guidelines" in form.changed_data:  # who wrote them has read them
                reading.mark_guidelines_read(request.membership, reading.version_of(project.guidelines))
            messages.success(request, _("Settings saved."))
            _tell_removed(request, form)
            return redirect("settings", project.slug)
    if form.errors:
        project.refresh_from_db()  # validation has written what was refused into the instance
    context = {
        "form": form,
        "unchecked_model": lifecycle.unchecked_base_model(project),
    }
    return render(request, "annotate/settings.html", context, status=422 if form.errors else 200)


def _tell_removed(request: ProjectRequest, form: ProjectForm) -> None:
    """Say how many judgments hold what was taken away. They keep it."""
    held = count_holders(request.project)
    for name, holders in held.items():
        were_asked = {one.key for one in read_aspects(form.initial[name]) if not one.is_removed}
        for one in read_aspects(form.cleaned_data[name]):
            if one.is_removed and one.key in were_asked and (count := holders[one.key]):
                text = ngettext(
                    "“%(title)s” is no longer asked for. %(count)d judgment holds it, and keeps it.",
                    "“%(title)s” is no longer asked for. %(count)d judgments hold it, and keep it.",
                    count,
                )
                messages.info(request, text % {"title": one.title, "count": count})


@require_POST
@project_view(*ADMINS)
def guidelines_preview(request: ProjectRequest) -> HttpResponse:
    context = {
        "section": "settings",
        "text": render_markdown(request.POST.get("guidelines", ""), request.project.image_hosts),
    }
    template = "annotate/_preview.html" if request.htmx else "annotate/preview.html"
    return render(request, template, context)


@require_POST
@project_view(*ADMINS)
def archive(request: ProjectRequest) -> HttpResponse:
    """Put a project away, or (`restore` in the form) take it out again."""
    project = request.project
    if "restore" in request.POST:
        with transaction.atomic():
            lifecycle.restore(project)
            trail.record(trail.Verb.RESTORED, request.user, project=project)
        messages.success(request, _("%(project)s is open again.") % {"project": project})
    else:
        with transaction.atomic():
            lifecycle.archive(project)
            trail.record(trail.Verb.ARCHIVED, request.user, project=project)
        messages.success(
            request,
            _("%(project)s is archived: it hands nothing out. Everything in it is kept.")
            % {"project": project},
        )
    return redirect("settings", project.slug)


@require_http_methods(["GET", "POST"])
@project_view()
def guidelines(request: ProjectRequest) -> HttpResponse:
    """Show the guidelines. A POST says that the user has read the `version` that they were shown before judging."""
    if request.method == "POST":
        reading.mark_guidelines_read(request.membership, request.POST.get("version", ""))
        return redirect("judge" if request.membership.role in JUDGES else "guidelines", request.project.slug)
    return render(request, "annotate/guidelines.html")
