"""Every address, every method, everybody: who has no business there gets nothing and changes nothing."""

import hashlib

import pytest
from django.apps import apps
from django.test import Client

from tests.security.addresses import Address, addresses
from tests.security.conftest import Tally
from tests.security.site import Site, Tenant

KIND = "roles: addresses x people x methods x sign-ins"
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
PEOPLE = [
    *(f"{whose} {role}" for whose in ("our", "their") for role in ("admin", "annotator", "researcher")),
    *("both", "outsider", "staff", "keeper", "anonymous"),
]
# Tables that any request may write to.
INCIDENTAL = {"last_login", "last_used_at", "password"}


def fingerprint() -> dict[str, str]:
    """Return a digest of each table's rows, without sessions and counts of attempts."""
    found = {}
    for model in apps.get_models():
        if model.__name__ in ("Session", "Attempts"):
            continue
        names = [one.attname for one in model._meta.concrete_fields if one.attname not in INCIDENTAL]
        rows = list(model._default_manager.order_by("pk").values_list(*names))
        found[model.__name__] = hashlib.sha256(repr(rows).encode()).hexdigest()
    return found


def is_refused(answer, address: Address) -> bool:
    if answer.status_code in (302, 200) and "HX-Redirect" in answer.headers:
        return answer["HX-Redirect"].startswith("/login/")
    if answer.status_code == 302:
        return answer.url.startswith("/login/") and not address.is_api
    return answer.status_code in (401, 403, 404, 405, 415)


def may(address: Address, method: str, role: str) -> bool:
    # A page answers a PUT as it does a GET: what it shows is for its readers.
    return role in (address.writers if method == "POST" else address.readers)


def attack(tally: Tally, client: Client, address: Address, tenant: Tenant, method: str, who: str) -> None:
    path = address.path(tenant.values)
    answer = client.generic(method, path, b"{}", content_type="application/json")
    tally.refuse(is_refused(answer, address), (who, method, path, answer.status_code))


@pytest.mark.parametrize("person", PEOPLE)
def test_nobody_passes_a_role_they_do_not_have(site: Site, tally: Tally, person: str) -> None:
    before = fingerprint()
    callers = [site.browser(person), site.script(person)]
    for address in addresses():
        for tenant in site.tenants() if address.of_project else ():
            role = site.role(person, tenant)
            for method in METHODS:
                if not may(address, method, role):
                    for client in callers:
                        attack(tally, client, address, tenant, method, person)
    assert fingerprint() == before


def test_pages_of_an_account_need_a_sign_in(site: Site, tally: Tally) -> None:
    before = fingerprint()
    for address in addresses():
        if not address.of_project and address.needs_sign_in:
            for method in METHODS:
                attack(tally, Client(), address, site.ours, method, "anonymous")
    assert fingerprint() == before


@pytest.mark.parametrize("person", PEOPLE)
def test_no_look_at_an_address_is_a_server_error(site: Site, person: str) -> None:
    client = site.browser(person)
    for address in addresses():
        for tenant in site.tenants():
            path = address.path(tenant.values)
            answer = client.get(path)
            b"".join(answer)  # to the end of what is streamed, where a file is closed
            assert answer.status_code < 500, path


def test_every_address_has_its_readers() -> None:
    found = addresses()
    assert len(found) > 60
    assert all(address.readers and address.writers for address in found)
