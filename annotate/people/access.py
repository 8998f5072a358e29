"""Access to projects: the first line of each view of a project.

An anonymous visitor is sent to log in and back again. To an outsider a project does not exist. A member whose role
does not allow it is told so. Superusers are not special: a site's keeper joins a project like any other user.
"""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from annotate.models import Membership, Project, User


class LoginNeeded(Exception):
    """Raised by a view that needs to know who asks; `LoginMiddleware` answers it."""


def get_user(request: HttpRequest) -> User:
    """Return the user who asks. An anonymous visitor is sent to log in and back again."""
    if not request.user.is_authenticated:
        raise LoginNeeded
    return request.user


def get_project(request: HttpRequest, slug: str, *roles: str) -> tuple[Project, Membership]:
    """The project, and the membership of whoever asks, in one query.

    With `roles`, one of them is needed. Raises LoginNeeded, Http404 (no such project, or not a member: the two
    cannot be told apart) or PermissionDenied.
    """
    membership = find_membership(get_user(request), slug)
    if membership is None:
        raise Http404(_("There is no such project, or you are not a member of it."))
    if roles and membership.role not in roles:
        raise PermissionDenied(
            _("Your role in this project (%(role)s) does not allow this.")
            % {"role": membership.get_role_display()}
        )
    return membership.project, membership


def find_membership(user: User, slug: str) -> Membership | None:
    """This person's membership, with its project, or None."""
    membership = Membership.objects.select_related("project").filter(project__slug=slug, user=user).first()
    if membership is not None:
        membership.user = user
    return membership


class LoginMiddleware:
    """Answers LoginNeeded: a page is sent to the login page, a fragment's whole page is."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, LoginNeeded):
            return None
        login = redirect_to_login(page_to_return_to(request), resolve_url(settings.LOGIN_URL))
        if HtmxDetails(request):
            return HttpResponseClientRedirect(login.url)
        return login


def page_to_return_to(request: HttpRequest) -> str:
    """The page somebody was on: a fragment's or a form's page, since its own address cannot be opened."""
    if page := HtmxDetails(request).current_url_abs_path:
        return page
    if request.method == "GET":
        return request.get_full_path()
    referer = request.headers.get("Referer")
    if referer and url_has_allowed_host_and_scheme(referer, {request.get_host()}, request.is_secure()):
        return urlsplit(referer)._replace(scheme="", netloc="").geturl()
    return resolve_url(settings.LOGIN_REDIRECT_URL)
