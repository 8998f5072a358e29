"""Access to projects, by the rules of the pages (`annotate.people.access`). The framework refuses anonymous callers."""

from typing import cast

from django.http import HttpRequest
from rest_framework.request import Request

from annotate.models import Membership, Project, User
from annotate.people import access


def get_project(request: Request, slug: str, *roles: str) -> tuple[Project, Membership]:
    return access.get_project(cast(HttpRequest, request), slug, *roles)


def get_user(request: Request) -> User:
    """Return the user who asks."""
    return cast(User, request.user)
