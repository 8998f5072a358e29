"""Error messages, on a page and in a fragment."""

from typing import Any

import pytest
from django.test import Client, override_settings
from django.urls import path


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
