"""Tokens of every scope, project and state at every address of the API: no more is opened than docs/api.md says.

The addresses are the router's, so that a new one without a stated scope fails here.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from annotate.models import ApiToken, Membership, Project, User
from tests.security.addresses import Address, addresses
from tests.security.conftest import Tally
from tests.security.site import Site, Tenant
from tests.security.test_roles import METHODS, fingerprint

KIND = "tokens: addresses x methods x scopes, projects and states"
SCOPES = ("read", "judge", "admin")
OPEN = {"api/v1/schema/", "api/v1/docs/"}  # to all: they hold what the code does
REST = "api/v1/<path:path>"  # answers that there is no such address
LINE = re.compile(r"^\| ([A-Z]+) \| `(.*?)` \| .*? \| (\w+) \|$", re.MULTILINE)


class Act(NamedTuple):
    """A method of an address, with the scope that it needs."""

    method: str
    address: Address
    scope: str


def routed() -> Iterator[tuple[Address, Any]]:
    """Yield each address of the API with its class of operations."""
    from django.urls import URLPattern, get_resolver

    def walk(patterns: list[Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for pattern in patterns:
            route = prefix + str(pattern.pattern)
            if isinstance(pattern, URLPattern):
                yield route, pattern.callback
            else:
                yield from walk(pattern.url_patterns, route)

    found = {address.route: address for address in addresses()}
    for route, view in walk(get_resolver().url_patterns, ""):
        if route.startswith("api/") and route not in OPEN:
            yield found[route], view.cls  # type: ignore[attr-defined] # as the framework's `as_view` makes it


def acts() -> list[Act]:
    """Return all that the API's router answers, with the scope that each operation states."""
    return [
        Act(method.upper(), address, str(getattr(view, method).operation.scope))
        for address, view in routed()
        if address.route != REST
        for method in view.http_method_names
        if method != "options" and hasattr(view, method)
    ]


def written(address: Address) -> str:
    """Return an address as docs/api.md writes it."""
    short = address.route.removeprefix("api/v1/").removeprefix("projects/<slug:slug>/") or "projects/SLUG/"
    return re.sub(r"<\w+:\w*?(id|token|digest|number)>", lambda match: match[1].upper(), short)


def ask(token: str, method: str, address: Address, tenant: Tenant) -> Any:
    client = Client(headers={"Authorization": f"Bearer {token}"})
    answer = client.generic(method, address.path(tenant.values), b"{}", content_type="application/json")
    if answer.streaming:
        b"".join(answer.streaming_content)
    return answer


def issue(user: User, scope: str = "admin", **limits: Any) -> str:
    return ApiToken.issue(user, "under attack", scope, **limits)[1]


def test_every_operation_states_the_scope_that_the_docs_list() -> None:
    page = (Path(settings.BASE_DIR) / "docs" / "api.md").read_text()
    stated = {(act.method, written(act.address), act.scope) for act in acts()}
    assert stated == set(LINE.findall(page))
    assert {act.scope for act in acts()} == set(SCOPES)


@pytest.mark.parametrize("scope", ["read", "judge"])
def test_a_token_opens_no_more_than_its_scope(site: Site, tally: Tally, scope: str) -> None:
    token = issue(site.ours.people["admin"], scope)
    before = fingerprint()
    for act in acts():
        if SCOPES.index(act.scope) > SCOPES.index(scope):
            answer = ask(token, act.method, act.address, site.ours)
            what = (scope, act.method, act.address.route, answer.status_code)
            tally.refuse(answer.status_code == 403 and f"“{act.scope}”" in answer.json()["error"], what)
    assert fingerprint() == before


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_opens_all_that_its_scope_and_role_allow(site: Site, scope: str) -> None:
    token = issue(site.ours.people["admin"], scope)
    for act in acts():
        if SCOPES.index(act.scope) <= SCOPES.index(scope):
            answer = ask(token, act.method, act.address, site.ours)
            assert answer.status_code not in (401, 403), (scope, act.method, act.address.route)


def test_a_token_of_an_admin_does_what_an_admin_does(site: Site) -> None:
    token, prompt = issue(site.ours.people["admin"], "admin"), site.ours.project.prompts.in_use().first()
    assert prompt is not None
    withdrawal = next(one for one in addresses() if one.route.endswith("prompts/<int:prompt_id>/withdrawal/"))
    tenant = replace(site.ours, values=site.ours.values | {"prompt_id": prompt.pk})
    assert ask(token, "POST", withdrawal, tenant).status_code in (200, 201, 204)
    prompt.refresh_from_db()
    assert prompt.withdrawn_at is not None


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_of_one_project_opens_no_other(site: Site, tally: Tally, scope: str) -> None:
    both = site.people["both"]
    assert both is not None
    Membership.objects.filter(user=both).update(role="admin")
    token = issue(both, scope, project=site.theirs.project)
    before = fingerprint()
    for act in acts():
        if act.address.of_project or act.scope != "read":
            answer = ask(token, act.method, act.address, site.ours)
            tally.refuse(answer.status_code == 403, (scope, act.method, act.address.route))
    assert fingerprint() == before
    listed = ask(token, "GET", next(one for one in addresses() if one.route == "api/v1/projects/"), site.ours)
    assert [one["slug"] for one in listed.json()["projects"]] == ["theirs"]


def ended(site: Site, how: str) -> str:
    """Return a token of our admin's that was good, and is not."""
    person = site.ours.people["admin"]
    token = issue(person, expires_at=timezone.now() - timedelta(seconds=1) if how == "expired" else None)
    if how == "revoked":
        ApiToken.objects.filter(user=person).delete()
    elif how == "deactivated":
        User.objects.filter(pk=person.pk).update(is_active=False)
    elif how == "a new password":
        person.set_password("another password")
        person.save()
    elif how == "altered":
        token = token[:-1] + ("a" if token[-1] != "a" else "b")
    return token


@pytest.mark.parametrize("how", ["expired", "revoked", "deactivated", "a new password", "altered"])
def test_a_token_that_ended_opens_nothing(site: Site, tally: Tally, how: str) -> None:
    token = ended(site, how)
    before = fingerprint()
    for address, _view in routed():
        for method in METHODS:
            answer = ask(token, method, address, site.ours)
            tally.refuse(answer.status_code == 401, (how, method, address.route, answer.status_code))
    assert fingerprint() == before


@pytest.mark.parametrize("project", ["one project", "all projects"])
def test_a_token_opens_nothing_once_its_owner_is_no_member(site: Site, tally: Tally, project: str) -> None:
    person = site.ours.people["admin"]
    token = issue(person, project=site.ours.project if project == "one project" else None)
    Membership.objects.filter(user=person).delete()
    before = fingerprint()
    for act in acts():
        if act.address.of_project:
            answer = ask(token, act.method, act.address, site.ours)
            tally.refuse(answer.status_code == 404, (project, act.method, act.address.route))
    assert fingerprint() == before


@pytest.mark.parametrize("role", ["annotator", "researcher"])
def test_a_token_does_no_more_once_its_owners_role_is_lowered(site: Site, tally: Tally, role: str) -> None:
    person = site.ours.people["admin"]
    token = issue(person)
    Membership.objects.filter(user=person).update(role=role)
    before = fingerprint()
    for act in acts():
        allowed = act.address.writers if act.method == "POST" else act.address.readers
        if act.address.of_project and role not in allowed:
            answer = ask(token, act.method, act.address, site.ours)
            tally.refuse(answer.status_code == 403, (role, act.method, act.address.route))
    assert fingerprint() == before


def test_a_token_of_a_project_that_is_deleted_is_deleted_with_it(site: Site) -> None:
    issue(site.ours.people["admin"], project=Project.objects.create(slug="gone", name="Gone"))
    Project.objects.get(slug="gone").delete()
    assert not ApiToken.objects.filter(name="under attack").exists()
