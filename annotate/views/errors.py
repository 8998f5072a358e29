"""Errors in words: what went wrong, what was kept, what to do. As a page, as a notice, and for the API."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from annotate.errors import NOTHING_HERE, MissingError
from annotate.imports.upload_limits import NoRoomError
from annotate.people.access import HtmxRequest, admit, find_membership
from annotate.people.misconfiguration import find_mistake


def bad_request(request: HtmxRequest, exception: Exception) -> HttpResponse:
    too_large = type(exception).__name__ in ("RequestDataTooBig", "TooManyFieldsSent", "TooManyFilesSent")
    if too_large:
        text = _(
            "What was sent is larger than this site takes in one form. Nothing was changed. Send less, or in parts."
        )
        user = getattr(request, "user", None)
        if user is None or not user.is_authenticated:  # a session that ended takes no file
            text = _(
                "You are not signed in, and only an admin imports a file. Nothing was changed. Sign in first."
            )
        return _answer(request, 413, _("That is too much at once"), text)
    if isinstance(exception, NoRoomError):
        return _answer(
            request,
            507,
            _("There is no room for that"),
            _(
                "The server could not store what was sent: its disk is full. Nothing was changed. Ask who runs this "
                "site to make room, then send it again."
            ),
        )
    if mistake := find_mistake(request, exception):
        return _answer(request, 400, _("This site is not set up for this address"), mistake.page)
    broken = isinstance(exception, MultiPartParserError)
    what = (
        _("The upload broke off.") if broken else _("The browser sent something that this site cannot read.")
    )
    return _answer(
        request,
        400,
        _("That could not be read"),
        what + " " + _("Nothing was changed. Go back and try again."),
    )


def forbidden(request: HtmxRequest, exception: Exception) -> HttpResponse:
    reason = str(exception) or _("Your role does not allow this.")
    return _answer(
        request,
        403,
        _("Not for your role"),
        reason + " " + _("Nothing was changed. An admin of the project can give you another role."),
    )


def not_found(request: HtmxRequest, exception: Exception) -> HttpResponse:
    is_for_user = isinstance(exception, MissingError)
    text = str(exception if is_for_user else NOTHING_HERE)
    return _answer(
        request,
        404,
        _("Not found"),
        text + " " + _("Nothing was changed. Your projects are a good place to begin again."),
    )


def server_error(request: HtmxRequest) -> HttpResponse:
    """Answer without the database and without the session, as either may be what failed."""
    text = _(
        "Something went wrong on the server, and it was written to its log. What was saved before is safe. Go "
        "back for what you had filled in; the desk keeps in your browser what it could not send, and tries again."
    )
    if _is_api(request):
        return _api_error(_("Something went wrong on the server, and it was written to its log."), 500)
    if request.htmx:
        return notice(text, 500)
    context = {"heading": _("That did not work"), "text": text, "status": 500}
    return HttpResponse(render_to_string("annotate/error.html", context), status=500)


def csrf_failure(request: HtmxRequest, reason: str = "") -> HttpResponse:
    """Explain that the form's token is not the browser's, or that it came from another site than this one."""
    if mistake := find_mistake(request):
        text = _("Nothing was changed.") + " " + mistake.page
    elif "csrftoken" in request.COOKIES:
        text = _(
            "This page is older than your present sign-in, so its form was not accepted. Nothing was changed. Go "
            "back, reload the page, and send it again; drafts at the desk are kept."
        )
    else:
        text = _(
            "This site needs cookies to know that a form is yours. Nothing was changed. Allow them and try again."
        )
    return _answer(request, 403, _("The form was not accepted"), text)


def _answer(request: HtmxRequest, status: int, heading: str, text: str) -> HttpResponse:
    if _is_api(request):
        return _api_error(text, status)
    if request.htmx:
        return notice(text, status)
    _find_project(request)
    context = {"heading": heading, "text": text, "status": status}
    return render(request, "annotate/error.html", context, status=status)


def _is_api(request: HttpRequest) -> bool:
    return f"{request.path_info}/".startswith("/api/")


def _api_error(text: str, status: int) -> HttpResponse:
    """Return an error in the API's own shape, for what went wrong outside its views."""
    return JsonResponse({"error": text, "field": None}, status=status)


def _find_project(request: HttpRequest) -> None:
    """Find the project that the address is in, so that its members keep its navigation."""
    user, match = getattr(request, "user", None), request.resolver_match
    if user is None or not user.is_authenticated or match is None or "slug" not in match.kwargs:
        return
    if membership := find_membership(user, match.kwargs["slug"]):
        admit(request, membership)


def notice(text: str, status: int = 200, level: str = "error") -> HttpResponse:
    """Answer the page's script with a notice, whatever it asked to swap. Made without the request."""
    html = render_to_string("annotate/_notice.html", {"level": level, "text": text})
    response = HttpResponse(html, status=status)
    response["HX-Retarget"], response["HX-Reswap"] = "#notices", "beforeend"
    return response
