"""A real Chromium, driven by Playwright; the site runs in the same process (live_server)."""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from annotate.models import Comparison
from tests import factories
from tests.browser.desk import JUDGE, Desk
from tests.training.using.slow_writer import slow_model, slow_trial  # noqa: F401 - fixtures

LAUNCH = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# Only what never comes is waited for so long: a busy machine takes more than the five seconds that are usual.
expect.set_options(timeout=30_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in item.nodeid:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    # The shell is the same engine without a desktop's parts: it takes two thirds of the processor time.
    names = ("chromium-headless-shell", "chromium", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not path:
        pytest.fail("Browser tests need Chromium: install it, or set CHROMIUM to its path.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=LAUNCH)
        yield browser
        browser.close()


@pytest.fixture
def open_context(browser: Browser, live_server: Any) -> Iterator[Callable[..., BrowserContext]]:
    """open_context(user, width=1400, dark=False): a browser window of its own, logged in as `user`."""
    from django.test import Client

    contexts: list[BrowserContext] = []

    def open_context(
        user: Any = None, *, width: int = 1400, height: int = 900, **options: Any
    ) -> BrowserContext:
        context = browser.new_context(
            base_url=live_server.url, viewport={"width": width, "height": height}, **options
        )
        contexts.append(context)
        if user is not None:
            client = Client()
            client.force_login(user)
            value = client.cookies["sessionid"].value
            context.add_cookies([{"name": "sessionid", "value": value, "url": live_server.url}])
        return context

    yield open_context
    for context in contexts:
        context.close()


@pytest.fixture
def open_page(open_context: Callable[..., BrowserContext]) -> Iterator[Callable[..., Page]]:
    """open_page(user, path): a page, with a check at the end that nothing broke the Content-Security-Policy."""
    complaints: list[str] = []

    def open_page(user: Any = None, path: str = "/", **options: Any) -> Page:
        page = open_context(user, **options).new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text) if "Content Security Policy" in message.text else None
            ),
        )
        page.goto(path)
        return page

    yield open_page
    assert not complaints


@pytest.fixture
def open_desk(open_page: Callable[..., Page], teammate: Any) -> Callable[..., Desk]:
    def open_desk(**options: Any) -> Desk:
        return Desk(open_page(teammate, JUDGE, **options))

    return open_desk


@pytest.fixture
def desk(open_desk: Callable[..., Desk], make_comparisons: Any) -> Desk:
    make_comparisons(8)
    return open_desk().ready()


@pytest.fixture
def compare(project: Any) -> Callable[..., Comparison]:
    """compare(prompt, first, second): a comparison, shown before those made later."""
    return partial(factories.compare, project)
