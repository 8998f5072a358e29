"""Access to projects: `project_view` decorates each view of a project.

An anonymous visitor is sent to log in and back again. To an outsider a project does not exist. A member whose role
does not allow it is told so. Superusers are not special: a site's keeper joins a project like any other user.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from annotate.errors import MissingError
from annotate.models import Membership, Project, Role, User

ADMINS = (Role.ADMIN,)
JUDGES = (Role.ANNOTATOR, Role.ADMIN)
READERS = (Role.ADMIN, Role.RESEARCHER)  # of what would tell annotators which policy wrote what

# The fragment of a page whose form was sent after its user's sign-in had ended: static/unsaved.js fills it again.
UNSENT = "#unsent"

P = ParamSpec("P")
Answer = TypeVar("Answer", bound=HttpResponseBase)


class LoginNeededError(Exception):
    """Raised by a view that needs to know who asks; `LoginMiddleware` answers it."""


class HtmxRequest(HttpRequest):
    """A request behind `django_htmx`'s middleware. `htmx` is true where a fragment is asked for."""

    htmx: HtmxDetails


class ProjectRequest(HtmxRequest):
    """A request of a project's member, as a view that `project_view` decorates gets it."""

    user: User
    project: Project
    membership: Membership


def project_view(
    *roles: Role, post: Sequence[Role] = ()
) -> Callable[[Callable[Concatenate[ProjectRequest, P], Answer]], Callable[..., Answer]]:
    """Decorate a view of the project whose slug is in the address.

    The view is called for members in one of `roles`, or in any role without them; with `post`, a POST needs one of
    those. It finds `project` and `membership` on its request, and its templates find them in their context.
    """

    def decorate(
        view: Callable[Concatenate[ProjectRequest, P], Answer],
    ) -> Callable[..., Answer]:
        @wraps(view)
        def wrapper(request: HttpRequest, slug: str, *args: P.args, **kwargs: P.kwargs) -> Answer:
            needed = post if post and request.method == "POST" else roles
            _project, membership = get_project(request, slug, *needed)
            return view(admit(request, membership), *args, **kwargs)

        return wrapper

    return decorate


def admit(request: HttpRequest, membership: Membership) -> ProjectRequest:
    """Note on the request whose page it asks for, and as what."""
    admitted = cast(ProjectRequest, request)
    admitted.project, admitted.membership = membership.project, membership
    return admitted


def project_context(request: HttpRequest) -> dict[str, Any]:
    """Give the templates of a project's page `project` and `membership` (a context processor)."""
    return {name: getattr(request, name) for name in ("project", "membership") if hasattr(request, name)}


def get_user(request: HttpRequest) -> User:
    """Return the user who asks. An anonymous visitor is sent to log in and back again."""
    if not request.user.is_authenticated:
        raise LoginNeededError
    return request.user


def get_project(request: HttpRequest, slug: str, *roles: str) -> tuple[Project, Membership]:
    """Return the project and the user's membership in one query.

    With `roles`, one of them is needed. Raises LoginNeededError, PermissionDenied, or MissingError: no such project,
    or not a member, and the two cannot be told apart.
    """
    membership = find_membership(get_user(request), slug)
    if membership is None:
        raise MissingError(_("There is no such project, or you are not a member of it."))
    if roles and membership.role not in roles:
        raise PermissionDenied(
            _("Your role in this project (%(role)s) does not allow this.")
            % {"role": membership.get_role_display()}
        )
    return membership.project, membership


def find_membership(user: User, slug: str) -> Membership | None:
    """Return this user's membership, with its project, or None."""
    membership = Membership.objects.select_related("project").filter(project__slug=slug, user=user).first()
    if membership is not None:
        membership.user = user
    return membership


class LoginMiddleware:
    """Answers LoginNeededError: a page is sent to the login page, a fragment's whole page is."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HtmxRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, LoginNeededError):
            return None
        page = page_to_return_to(request)
        if request.method == "POST" and not request.htmx:
            page += UNSENT
        login = redirect_to_login(page, resolve_url(settings.LOGIN_URL))
        if request.htmx:
            return HttpResponseClientRedirect(login.url)
        return login


def page_to_return_to(request: HtmxRequest) -> str:
    """Return the page that the user was on: a fragment's or a form's, since its own address cannot be opened."""
    if page := request.htmx.current_url_abs_path:
        return page
    if request.method == "GET":
        return request.get_full_path()
    referer = request.headers.get("Referer")
    if referer and url_has_allowed_host_and_scheme(referer, {request.get_host()}, request.is_secure()):
        return urlsplit(referer)._replace(scheme="", netloc="").geturl()
    return resolve_url(settings.LOGIN_REDIRECT_URL)
