"""The doors themselves: tokens, CSRF, redirects, hosts, and the site's administration."""

from urllib.parse import urljoin, urlsplit

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import NoReverseMatch, reverse

from tests.security.addresses import addresses
from tests.security.conftest import Tally
from tests.security.site import Site
from tests.security.test_roles import fingerprint

KIND = "doors: tokens, CSRF, redirects, hosts, administration"
ELSEWHERE = [
    "//evil.example", "https://evil.example/", "http:evil.example", "/\\evil.example", "\\\\evil.example",
    "///evil.example", "javascript:alert(1)", "data:text/html,x", "https:///evil.example", "\thttps://evil.example",
    "/%09/evil.example", "//evil.example/p/ours/", "http://localhost@evil.example/", "ftp://localhost/", "abc",
]  # fmt: skip
HOSTS = [
    "evil.example", "localhost.evil.example", "evil.example:80", "localhost@evil.example", "[::1", "", "a b",
    "127.0.0.1.evil.example", "localhost\\.evil.example",
]  # fmt: skip


def forgeries(token: str) -> list[str]:
    """Return Authorization headers that are nearly right."""
    return [
        "Bearer", "Bearer ", f"Bearer {token[:-1]}", f"Bearer {token}x", f"Bearer {token.upper()}",
        f"Bearer {token[4:]}", f"Basic {token}", f"Token {token}", token, f"Bearer {token} {token}",
        "Bearer ' OR 1=1 --", "Bearer %", "Bearer " + "a" * 5000, f"Bearer \x00{token}", f"Bearer {token[:8]}",
        "Bearer null", f"Digest {token}", f"Bearer ={token}", f"Bearer {token[::-1]}",
    ]  # fmt: skip


def test_no_forged_token_is_taken(site: Site, tally: Tally) -> None:
    token = site.tokens["our admin"]
    for header in forgeries(token):
        answer = Client().get("/api/v1/projects/", headers={"Authorization": header})
        tally.refuse(answer.status_code == 401, header)
    for path in (f"/api/v1/projects/?token={token}", f"/api/v1/projects/?access_token={token}"):
        tally.refuse(Client().get(path).status_code == 401, path)
    page = Client(headers={"Authorization": f"Bearer {token}"}).get("/p/ours/settings/")
    tally.refuse(page.status_code == 302, "a token on a page")


@pytest.mark.parametrize("person", ["our admin", "our annotator"])
def test_no_form_is_taken_without_its_token(site: Site, tally: Tally, person: str) -> None:
    before = fingerprint()
    for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        client = site.browser(person, enforce_csrf_checks=True, headers=headers)
        for address in addresses():
            # A look changes nothing, so addresses that only look need no token.
            path = address.path(site.ours.values)
            answer = client.post(path, {"verdict": "tie", "token": site.ours.values["token"]})
            tally.refuse(answer.status_code in (403, 404, 405, 415), (path, headers, answer.status_code))
    assert fingerprint() == before


@pytest.mark.parametrize("url", ELSEWHERE)
def test_no_redirect_leads_elsewhere(site: Site, tally: Tally, url: str) -> None:
    signed_in, sign_in = site.browser("our admin"), {"username": "ours-admin", "password": "password"}
    answers = [
        signed_in.post("/theme/", {"next": url}),
        signed_in.post("/theme/", headers={"Referer": url}),
        signed_in.post("/keys/", {"next": url, "defaults": "1"}),
        Client().post("/login/", sign_in | {"next": url}),
        Client().get("/p/ours/settings/", headers={"HX-Request": "true", "HX-Current-URL": url}),
        Client().post("/p/ours/settings/", headers={"Referer": url}),
    ]
    for answer in answers:
        target = answer.headers.get("Location", "") + answer.headers.get("HX-Redirect", "")
        # As browsers read it.
        place = urlsplit(urljoin("http://testserver/login/", target.replace("\\", "/")))
        is_ours = (place.scheme, place.netloc) == ("http", "testserver")
        tally.refuse(answer.status_code < 500 and is_ours, (url, target))


@pytest.mark.parametrize("host", HOSTS)
def test_no_other_host_is_answered(db: None, tally: Tally, host: str) -> None:
    for path in ("/", "/login/", "/api/v1/projects/"):
        tally.refuse(Client().get(path, headers={"host": host}).status_code == 400, (host, path))
    forwarded = Client().get("/login/", headers={"host": "localhost", "X-Forwarded-Host": host})
    tally.refuse(b"evil" not in forwarded.content, host)


def admin_addresses(site: Site) -> list[str]:
    paths = ["/admin/", "/admin/jsi18n/", "/admin/password_change/"]
    for model in admin.site._registry:
        options, row = model._meta, model._default_manager.first()
        name = f"admin:{options.app_label}_{options.model_name}"
        paths += [reverse(f"{name}_changelist"), reverse(f"{name}_add")]
        if row is not None:
            for act in ("change", "delete", "history"):
                try:
                    paths.append(reverse(f"{name}_{act}", args=[row.pk]))
                except NoReverseMatch:
                    continue
    return paths


@pytest.mark.parametrize("person", ["anonymous", "outsider", "our admin", "our researcher", "staff"])
def test_the_administration_is_for_its_keeper(site: Site, tally: Tally, person: str) -> None:
    before, client = fingerprint(), site.browser(person)
    for path in admin_addresses(site)[1:]:
        for method in ("GET", "POST"):
            answer = client.generic(method, path)
            if person == "staff" and path in ("/admin/jsi18n/", "/admin/password_change/"):
                continue  # of every member of the staff
            is_refused = answer.status_code in (302, 403, 404, 405)
            tally.refuse(is_refused and "evil" not in answer.headers.get("Location", ""), (path, method))
    assert fingerprint() == before


def test_no_look_of_the_keeper_is_a_server_error(site: Site) -> None:
    client = site.browser("keeper")
    for path in admin_addresses(site):
        assert client.get(path).status_code < 500, path
