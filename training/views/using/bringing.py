"""The page on which a policy from elsewhere is brought in."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.models import Policy
from annotate.people.access import ADMINS, ProjectRequest, project_view
from training.endpoints.addresses import has_any
from training.usage import bringing
from training.views.using.forms import BringForm


@project_view(*ADMINS)
def bring_in(request: ProjectRequest) -> HttpResponse:
    """Show the form, and store what it brings once it is checked."""
    is_sent = request.method == "POST"
    form = BringForm(
        request.POST if is_sent else None,
        request.FILES if is_sent else None,
        initial={"what": request.GET.get("what")},
        project=request.project,
    )
    if form.is_valid():
        try:
            policy = _bring(request, form)
        except RefusalError as refused:
            form.refuse(refused)
        else:
            messages.success(request, _("%(policy)s is one of the policies now.") % {"policy": policy.name})
            return redirect("policy", request.project.slug, policy.pk)
    context = {"form": form, "has_endpoints": has_any(), "section": "policies"}
    return render(request, "training/using/bring.html", context, status=422 if form.errors else 200)


def _bring(request: ProjectRequest, form: BringForm) -> Policy:
    project, by, given = request.project, request.user, form.cleaned_data
    if given["what"] == BringForm.ENDPOINT:
        return bringing.bring_endpoint(
            project, by, given["name"], url=given["url"], model=given["model"], sampling=given
        )
    if given["what"] == BringForm.MODEL:
        return bringing.bring_model(project, by, given["name"], given["place"], given["revision"])
    file = given["file"]
    return bringing.bring_adapter(
        project,
        by,
        given["name"],
        given["base"],
        file=file.file if file else None,
        filename=file.name if file else "",
        place=given["place"],
        is_same_base=given["is_same_base"],
    )
