"""Access: first the scope of the token, then the role in the project, by the rules of the pages.

`TokenScope` is asked for each request before any view runs. The framework refuses anonymous callers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.http import HttpRequest
from django.utils.translation import gettext as _
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from annotate.models import ApiToken, Membership, Project, User
from annotate.people import access

if TYPE_CHECKING:  # which imports this module, by the settings
    from rest_framework.views import APIView

Scope = ApiToken.Scope


def get_project(request: Request, slug: str, *roles: str) -> tuple[Project, Membership]:
    return access.get_project(cast(HttpRequest, request), slug, *roles)


def get_user(request: Request) -> User:
    """Return the user who asks."""
    return cast(User, request.user)


def get_token(request: Request) -> ApiToken | None:
    """Return the token that the request was sent with. A browser's has none."""
    return request.auth if isinstance(request.auth, ApiToken) else None


def by_token(request: Request, **details: Any) -> dict[str, Any]:
    """Return the details of an entry in the trail, with the token that was used, if one was."""
    token = get_token(request)
    return {**details, "token": token.name} if token else details


class TokenScope(BasePermission):
    """Refuses what is beyond the scope of the request's token, or in a project that the token is not for."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        token = get_token(request)
        if token is None:
            return True
        needed = scope_of(view, request.method or "")
        if not token.includes(needed):
            raise PermissionDenied(
                _("This needs a token with the scope “%(needed)s”. This one has “%(scope)s”.")
                % {"needed": needed, "scope": token.scope}
            )
        slug = view.kwargs.get("slug")
        if token.project is not None and slug != token.project.slug and (slug or needed != Scope.READ):
            raise PermissionDenied(
                _("This token is for the project “%(project)s” alone.") % {"project": token.project.slug}
            )
        return True


def scope_of(view: APIView, method: str) -> str:
    """Return the scope that a method of a view needs: what its operation says, and the strictest where none does."""
    operation = getattr(getattr(view, method.lower(), None), "operation", None)
    if operation is not None:
        return str(operation.scope)
    return Scope.READ if method in SAFE_METHODS else Scope.ADMIN
