"""Operations of the API. Each is declared once: who may do it, what it takes, and what it answers.

The declaration is what a request is checked by, and what the schema is written from (`schema.py`). The order of
the checks is: the token's scope (`access.TokenScope`), the role in the project, the query, the body.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from inspect import signature
from typing import Any, TypeVar

from django import forms
from django.http import HttpResponseBase
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer, Serializer
from rest_framework.utils.encoders import JSONEncoder
from rest_framework.views import APIView

from annotate.api.access import Scope, get_project, get_user
from annotate.api.errors import read_errors
from annotate.api.operations.repeats import answer_once
from annotate.api.parsing import refuse_unknown
from annotate.models import Membership, Project, User

PAGING = ("cursor", "page_size")
Answer = TypeVar("Answer", bound=HttpResponseBase)


@dataclass(frozen=True)
class Listing:
    """A page of a list: the serializer of its rows."""

    of: type[BaseSerializer[Any]]


@dataclass(frozen=True)
class Stream:
    """A file that is sent while it is made: what it begins with, and what else it may be than lines of JSON."""

    example: str = ""
    also: Sequence[str] = ()


Gives = type[BaseSerializer[Any]] | Listing | Stream | None


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A declaration. `details` go on where the summary ends.

    `roles` is None for what is of no project, and empty for every member of one. `takes` checks the body. `body`
    describes one that the operation checks itself. `later` is the shape of a 202, the answer where it takes long,
    and `later_at` the address below the operation's own where that is asked for again, by the fields of the shape.
    `query` is a form of filters, whose errors name their filter. An operation that `has_key` is answered once for
    each key. An answer that `has_etag` is not sent again to a client that has it. One that `keeps` an ETag of its own
    sees to that itself. `refused` is the shape of its errors in the body, if it has more to say than others.
    `refuses` are statuses of its own, beside those that every operation has.
    """

    summary: str
    details: str = ""
    scope: str = Scope.READ
    roles: Sequence[str] | None = ()
    takes: type[Serializer[Any]] | None = None
    body: type[Serializer[Any]] | None = None
    gives: Gives = None
    status: int = 200
    later: type[Serializer[Any]] | None = None
    later_at: str = ""
    query: type[forms.Form] | None = None
    has_key: bool = False
    has_etag: bool = False
    keeps: bool = False
    refused: type[BaseSerializer[Any]] | None = None
    refuses: Sequence[int] = ()

    @property
    def names(self) -> set[str]:
        """Return what its query may hold."""
        names = set(self.query.base_fields) if self.query else set()
        return names | (set(PAGING) if isinstance(self.gives, Listing) else set())


@dataclass(frozen=True)
class Call:
    """A request that was let in: who asks, for which project, and what they sent, checked."""

    request: Request
    member: Membership | None
    form: Any = None  # of its query
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def filters(self) -> Mapping[str, Any]:
        return dict(self.form.cleaned_data) if self.form else {}

    @property
    def user(self) -> User:
        return get_user(self.request)

    @property
    def membership(self) -> Membership:
        """Return the membership of the user in the project that was asked for."""
        if self.member is None:
            raise TypeError("This operation is of no project.")
        return self.member

    @property
    def project(self) -> Project:
        return self.membership.project


class Endpoint(APIView):
    """An address of the API: a method for each of its operations. `tag` is its chapter in the schema."""

    tag = ""


def operation(
    summary: str, details: str = "", **declared: Any
) -> Callable[[Callable[..., Answer]], Callable[..., Any]]:
    """Decorate a method of an Endpoint. It is called with a Call and what the address holds besides the project."""
    declaration = Operation(summary=summary, details=details, **declared)

    def decorate(handler: Callable[..., Answer]) -> Callable[..., Any]:
        @wraps(handler)
        def respond(endpoint: Endpoint, request: Request, **address: Any) -> HttpResponseBase:
            call = _admit(declaration, request, address)

            def act() -> HttpResponseBase:
                return handler(endpoint, call, **address)

            answer = answer_once(request, act) if declaration.has_key else act()
            if declaration.later_at and isinstance(answer, Response) and answer.status_code == 202:
                answer["Location"] = request.path + declaration.later_at.format_map(answer.data)
            return _with_etag(request, answer) if declaration.has_etag else answer

        respond.operation = declaration  # type: ignore[attr-defined]
        return respond

    return decorate


def declare(view: Callable[..., Any], summary: str, **declared: Any) -> Callable[..., Any]:
    """Declare the GET of a function view, which checks its query itself."""
    handler = view.cls.get  # type: ignore[attr-defined] # as `api_view` makes it
    handler.operation = Operation(summary=summary, **declared)
    return view


def _admit(declaration: Operation, request: Request, address: dict[str, Any]) -> Call:
    """Check the role, the query and the body. Raises what the framework answers."""
    membership = None
    if declaration.roles is not None:
        _project, membership = get_project(request, address.pop("slug"), *declaration.roles)
    refuse_unknown(request.query_params, declaration.names)
    form = _read_query(declaration, request, membership)
    given: Mapping[str, Any] = {}
    if declaration.takes is not None:
        serializer = declaration.takes(data=request.data)
        serializer.is_valid(raise_exception=True)
        given = serializer.validated_data
    return Call(request, membership, form, given)


def _read_query(declaration: Operation, request: Request, membership: Membership | None) -> Any:
    """Return the form of the query, valid, or None."""
    form_class: Any = declaration.query
    if form_class is None:
        return None
    asked = request.query_params.copy()
    for name in PAGING:
        asked.pop(name, None)
    needs_project = "project" in signature(form_class.__init__).parameters
    options = {"project": membership.project} if needs_project and membership else {}
    form = form_class(asked, **options)
    if not form.is_valid():
        raise ValidationError(read_errors(form))
    return form


def _with_etag(request: Request, answer: HttpResponseBase) -> HttpResponseBase:
    """Add the hash of the content as an ETag. Return 304 to a client that has it."""
    if not isinstance(answer, Response) or answer.status_code != 200:
        return answer
    content = json.dumps(answer.data, cls=JSONEncoder, sort_keys=True).encode("utf-8", "surrogatepass")
    etag = f'"{hashlib.sha256(content).hexdigest()}"'
    if client_has(request, etag):
        answer = Response(status=304)
    return mark(answer, etag)


def client_has(request: Request, etag: str) -> bool:
    """Return whether the request names this ETag as one that the client has."""
    given = request.headers.get("If-None-Match", "")
    # Compression makes an ETag a weak one, which says the same here.
    return given.strip() == "*" or etag in [one.strip().removeprefix("W/") for one in given.split(",")]


def mark(answer: Answer, etag: str) -> Answer:
    """Let the client keep an answer, and ask with its ETag whether it still holds."""
    answer.headers["ETag"] = etag
    answer.headers["Cache-Control"] = "private, no-cache"
    return answer
