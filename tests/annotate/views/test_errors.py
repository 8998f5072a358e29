"""Error messages, on a page and in a fragment."""

import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client, override_settings
from django.urls import path

pytestmark = pytest.mark.once  # forms and pages, whatever the database


def broken(request: Any) -> None:
    raise RuntimeError("a secret detail")


class Broken:
    """The site with one view that fails."""

    from config.urls import handler400, handler403, handler404, handler500, urlpatterns

    urlpatterns = [*urlpatterns, path("broken/", broken)]


@override_settings(ROOT_URLCONF=Broken)
@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}], ids=["page", "fragment"])
def test_a_failure_says_what_was_kept_and_no_detail(db: None, headers: dict[str, str]) -> None:
    client = Client(raise_request_exception=False)
    response = client.get("/broken/", headers=headers)
    html = response.content.decode()
    assert response.status_code == 500
    assert "What was saved before is safe" in html
    assert "secret" not in html
    assert ("<html" in html) is not bool(headers)
    assert response.headers.get("HX-Retarget") == ("#notices" if headers else None)


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}], ids=["page", "fragment"])
def test_a_missing_page_says_where_to_go(client_for: Any, teammate: Any, headers: dict[str, str]) -> None:
    response = client_for(teammate).get("/nowhere/", headers=headers)
    assert response.status_code == 404
    assert "Nothing was changed" in response.content.decode()
    assert response.headers.get("HX-Retarget") == ("#notices" if headers else None)


@pytest.mark.parametrize("kind", ["import", "rounds", "policies", "comparisons", "snapshots"])
def test_a_page_that_is_missing_names_no_model(client_for: Any, owner: Any, kind: str) -> None:
    response = client_for(owner).get(f"/p/reviews/{kind}/999/")
    assert response.status_code == 404
    assert "There is nothing at this address" in response.content.decode()


@pytest.mark.parametrize("kind", ["imports", "rounds", "policies", "comparisons", "snapshots"])
def test_what_the_api_misses_is_told_without_a_model(client_for: Any, owner: Any, kind: str) -> None:
    response = client_for(owner).get(f"/api/v1/projects/reviews/{kind}/999/")
    assert response.status_code == 404
    assert response.json() == {
        "error": "There is nothing at this address, or it is not for you.",
        "field": None,
    }


def test_an_error_page_keeps_the_projects_navigation(client_for: Any, teammate: Any, outsider: Any) -> None:
    for address, status in (("/p/reviews/rounds/", 403), ("/p/reviews/history/99/", 404)):
        response = client_for(teammate).get(address)
        assert response.status_code == status
        assert 'class="navigation"' in response.content.decode()
    page = client_for(outsider).get("/p/reviews/rounds/").content.decode()
    assert 'class="navigation"' not in page
    assert "Film reviews" not in page


def test_too_large_a_form_is_refused_in_words(client_for: Any, teammate: Any) -> None:
    response = client_for(teammate).post("/keys/", {"a3": "x" * 3_000_000})
    assert response.status_code in (400, 413)
    assert "larger than this site takes" in response.content.decode()


def test_a_form_without_cookies_is_told_about_cookies() -> None:
    answer = Client(enforce_csrf_checks=True).post("/theme/")
    assert answer.status_code == 403
    assert "needs cookies" in answer.content.decode()


# --- Mistakes in the site's settings -----------------------------------------------------------------------------


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Return what the site's own handler writes."""
    (console,) = (one for one in logging.getLogger().handlers if type(one) is logging.StreamHandler)
    written = io.StringIO()
    before = console.setStream(written)
    yield written
    console.setStream(before)


def lines(log: io.StringIO) -> list[str]:
    return log.getvalue().splitlines()


@pytest.mark.parametrize("path", ["/login/", "/api/v1/projects/"])
def test_an_unknown_host_is_told_with_its_variable(log: io.StringIO, path: str) -> None:
    answer = Client().get(path, headers={"Host": "judge.example.org"})
    assert answer.status_code == 400
    assert "judge.example.org" in answer.content.decode()
    assert "WHETSTONE_HOSTS" in answer.content.decode()
    assert "ALLOWED_HOSTS" not in log.getvalue()
    (line,) = lines(log)
    assert "Unknown host “judge.example.org”: if it is this site's, add it to WHETSTONE_HOSTS." in line


def test_a_hostile_host_breaks_neither_page_nor_log(log: io.StringIO) -> None:
    answer = Client().get("/login/", headers={"Host": "<i>\x1b[1m\u2028" + "x" * 5_000})
    assert answer.status_code == 400
    assert b"<i>" not in answer.content
    (line,) = lines(log)
    assert (len(line) < 400, "\x1b" in line) == (True, False)


@pytest.mark.parametrize(
    ("origin", "variables"),
    [
        ("https://testserver", ["WHETSTONE_HTTPS=on", "X-Forwarded-Proto"]),
        ("https://judge.example.org:8165", ["WHETSTONE_ORIGINS"]),
        ("http://testserver:8000", ["WHETSTONE_ORIGINS"]),
    ],
)
def test_a_wrong_origin_is_told_with_its_variable(
    log: io.StringIO, origin: str, variables: list[str]
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.get("/login/")
    answer = client.post("/theme/", headers={"Origin": origin})
    page = answer.content.decode()
    assert answer.status_code == 403
    (line,) = lines(log)
    for told in (page, line):
        assert f"{origin}, and th" in told
        assert "takes itself for http://testserver" in told
        assert all(variable in told for variable in variables)
    assert "Nothing was changed." in page


@override_settings(CSRF_TRUSTED_ORIGINS=["https://judge.example.org", "https://*.example.net"])
@pytest.mark.parametrize(
    "origin", ["http://testserver", "https://judge.example.org", "https://a.example.net", "null", "http://["]
)
def test_a_stale_form_is_not_taken_for_a_wrong_origin(log: io.StringIO, origin: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.get("/login/")
    answer = client.post("/theme/", headers={"Origin": origin})
    assert answer.status_code == 403
    assert "older than your present sign-in" in answer.content.decode()
    assert len(lines(log)) == 1


BEHIND_HTTPS = override_settings(
    SECURE_SSL_REDIRECT=True, SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")
)


@BEHIND_HTTPS
def test_a_proxy_that_says_no_protocol_is_told(db: None, log: io.StringIO) -> None:
    answer = Client().get("/login/")
    assert answer.status_code == 400
    for variable in ("X-Forwarded-Proto", "WHETSTONE_HTTPS=off"):
        assert variable in answer.content.decode()
    (line,) = lines(log)
    assert "WHETSTONE_HTTPS is on, and a request came without X-Forwarded-Proto" in line


@BEHIND_HTTPS
def test_a_proxy_that_says_the_protocol_is_believed(db: None) -> None:
    plain = Client().get("/login/", headers={"X-Forwarded-Proto": "http"})
    assert (plain.status_code, plain["Location"]) == (301, "https://testserver/login/")
    assert Client().get("/login/", headers={"X-Forwarded-Proto": "https"}).status_code == 200
    assert Client().get("/login/", secure=True).status_code == 200


def test_a_refused_page_is_one_line_in_the_log(client_for: Any, teammate: Any, log: io.StringIO) -> None:
    assert client_for(teammate).get("/p/reviews/members/").status_code == 403
    (line,) = lines(log)
    assert "/p/reviews/members/" in line


@override_settings(ROOT_URLCONF=Broken)
def test_a_failure_keeps_its_traceback_in_the_log(db: None, log: io.StringIO) -> None:
    Client(raise_request_exception=False).get("/broken/")
    assert "Traceback" in log.getvalue()
    assert "a secret detail" in log.getvalue()
