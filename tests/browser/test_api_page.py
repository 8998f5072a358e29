"""The page of the API shows every operation, and breaks no rule of the Content-Security-Policy."""

import pytest


@pytest.mark.slow
def test_the_page_of_the_api_shows_and_sends(open_page, owner, project):
    page = open_page(owner, "/api/v1/docs/")
    page.wait_for_selector(".opblock")
    assert page.locator(".opblock").count() > 70
    page.locator("#operations-Projects-get_a_project .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_placeholder("slug").fill("reviews")
    page.get_by_role("button", name="Execute").click()
    page.wait_for_selector(".live-responses-table .response-col_status:has-text('200')")
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("html.dark-mode", state="attached")
