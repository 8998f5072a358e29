"""The pages around the work: one's projects, the theme, the keyboard."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.models import Role
from annotate.people import invitations
from annotate.people import keyboard as key_choices
from annotate.people.access import get_project, get_user
from annotate.reports.my_work import MOST_LEFT, memberships_of
from annotate.reports.overview import open_rounds
from annotate.views.overview import overview_page

THEME_SECONDS = 60 * 60 * 24 * 365


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """The projects of the person who asks."""
    memberships = list(memberships_of(get_user(request)))
    rounds = open_rounds([one.project for one in memberships if one.role != Role.ANNOTATOR])
    context = {
        "memberships": [
            (one, rounds.get(one.project_id)) for one in memberships if not one.project.archived_at
        ],
        "most_left": MOST_LEFT,
        "archived": [one for one in memberships if one.project.archived_at and one.role != Role.ANNOTATOR],
        "invitations": invitations.open_invitations(get_user(request)),
    }
    return render(request, "annotate/home.html", context)


@require_POST
def answer_invitation(request: HttpRequest, invitation_id: int) -> HttpResponse:
    """Join the project, or decline."""
    user = get_user(request)
    if "decline" in request.POST:
        if declined := invitations.decline(user, invitation_id):
            messages.success(request, _("You declined to join %(project)s.") % {"project": declined.project})
            return redirect("home")
    elif joined := invitations.accept(user, invitation_id):
        messages.success(
            request,
            _("You are a member of %(project)s now (%(role)s).")
            % {"project": joined.project, "role": joined.get_role_display()},
        )
        return redirect("project", joined.project.slug)
    messages.info(request, _("That invitation was withdrawn, or has ended."))
    return redirect("home")


@require_GET
def project(request: HttpRequest, slug: str) -> HttpResponse:
    """Where a project begins: annotators at the desk, the others where it stands."""
    found, membership = get_project(request, slug)
    if membership.role == Role.ANNOTATOR:
        return redirect("judge", found.slug)
    return overview_page(request, found, membership)


@require_GET
def guidelines(request: HttpRequest, slug: str) -> HttpResponse:
    found, membership = get_project(request, slug)
    return render(request, "annotate/guidelines.html", {"project": found, "membership": membership})


@require_http_methods(["GET", "POST"])
def keys(request: HttpRequest) -> HttpResponse:
    """Choose the keys of the desk."""
    user = get_user(request)
    given: dict[str, str] = key_choices.keys_of({**user.preferences, "keys_off": False})
    error = ""
    if request.method == "POST":
        given |= {act.name: request.POST[act.name] for act in key_choices.ACTS if act.name in request.POST}
        try:
            chosen = {} if "defaults" in request.POST else key_choices.choose(given)
        except key_choices.BadKeys as bad:
            error = str(bad)
        else:
            user.preferences = {**user.preferences, "keys": chosen, "keys_off": "off" in request.POST}
            user.save(update_fields=["preferences"])
            messages.success(request, _("Keys saved."))
            return redirect(f"{reverse('keys')}?{urlencode({'next': _safe_next(request)})}")
    context = {
        "rows": [(act, given[act.name]) for act in key_choices.ACTS],
        "off": bool(user.preferences.get("keys_off")),
        "next": _safe_next(request),
        "error": error,
    }
    return render(request, "annotate/keys.html", context, status=422 if error else 200)


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Flip between light and dark for this browser; a script does the same without a request."""
    response = redirect(_safe_next(request))
    chosen = "light" if request.COOKIES.get("theme") == "dark" else "dark"
    response.set_cookie("theme", chosen, max_age=THEME_SECONDS, samesite="Lax", secure=request.is_secure())
    return response


def _safe_next(request: HttpRequest) -> str:
    url = request.POST.get("next", "") or request.GET.get("next", "")
    # A bare word is a name of a view to `redirect`, and leads nowhere as an address.
    is_safe = url.startswith("/") and url_has_allowed_host_and_scheme(url, {request.get_host()})
    return url if is_safe else "/"
