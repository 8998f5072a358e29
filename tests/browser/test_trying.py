"""A prompt that is tried: the answer grows on the page while it is written, and can be stopped."""

from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from tests.training.using.slow_writer import working
from tests.waiting import wait_for

pytestmark = pytest.mark.once
SLOWEST = 120_000  # milliseconds until the model is loaded, on a busy machine


@pytest.fixture
def page(slow_trial: Any, owner: Any, open_page: Callable[..., Page]) -> Page:
    return open_page(owner, reverse("trial", args=["reviews", slow_trial.pk]))


def test_the_answer_grows_on_the_page_without_a_reload(page: Page, slow_trial: Any) -> None:
    page.evaluate("window.same = true")
    body = page.locator(".answers .pane-body")
    texts: list[str] = []
    stop = page.get_by_role("button", name="Stop", exact=True)
    stop.focus()
    with working(slow_trial) as answer:
        expect(page.get_by_text("first words after")).to_be_visible(timeout=SLOWEST)

        def has_grown() -> bool:
            page.wait_for_timeout(50)
            texts.append(body.inner_text())
            return len(set(texts)) > 2

        wait_for(has_grown)
        expect(stop).to_be_focused()
        wait_for(lambda: not answer().is_live)
        expect(page.get_by_role("button", name="Write once more")).to_be_visible()
        expect(body).to_contain_text(answer().text)
    assert page.evaluate("window.same")
    expect(page.locator("[aria-busy]")).to_have_count(0)


def test_stopping_keeps_what_is_on_the_page(page: Page, slow_trial: Any) -> None:
    body = page.locator(".answers .pane-body")
    with working(slow_trial):
        expect(page.get_by_text("first words after")).to_be_visible(timeout=SLOWEST)
        before = body.inner_text().strip()
        page.get_by_role("button", name="Stop", exact=True).click()
        expect(page.get_by_text("It was stopped. This is what it had written.")).to_be_visible()
        expect(body).to_contain_text(before)
    assert before
