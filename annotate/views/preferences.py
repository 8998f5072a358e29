"""A user's preferences: the keys of the desk, and the theme."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from annotate.errors import RefusalError
from annotate.people import keyboard
from annotate.people.access import get_user

THEME_SECONDS = 60 * 60 * 24 * 365


@require_http_methods(["GET", "POST"])
def keys(request: HttpRequest) -> HttpResponse:
    """Choose the keys of the desk."""
    user = get_user(request)
    given: dict[str, str] = keyboard.read_keys({**user.preferences, "keys_off": False})
    error = ""
    if request.method == "POST":
        given |= {act.name: request.POST[act.name] for act in keyboard.ACTS if act.name in request.POST}
        try:
            chosen = {} if "defaults" in request.POST else keyboard.check_keys(given)
        except RefusalError as bad:
            error = str(bad)
        else:
            user.preferences = {**user.preferences, "keys": chosen, "keys_off": "off" in request.POST}
            user.save(update_fields=["preferences"])
            messages.success(request, _("Keys saved."))
            return redirect(f"{reverse('keys')}?{urlencode({'next': _safe_next(request)})}")
    context = {
        "rows": [(act, given[act.name]) for act in keyboard.ACTS],
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
