"""A prompt that is tried: the answer grows on the page while it is written, and can be stopped."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, Request, expect

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


def test_the_form_is_sent_as_it_stands(slow_trial: Any, owner: Any, open_page: Callable[..., Page]) -> None:
    policy = slow_trial.project.current_policy
    page = open_page(owner, reverse("try-policy", args=["reviews", policy.pk]))
    page.get_by_label("Prompt", exact=True).fill("The film")
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page).to_have_url(re.compile("/trials/"))


def test_stopping_keeps_what_is_on_the_page(page: Page, slow_trial: Any) -> None:
    body = page.locator(".answers .pane-body")
    with working(slow_trial):
        expect(page.get_by_text("first words after")).to_be_visible(timeout=SLOWEST)
        before = body.inner_text().strip()
        page.get_by_role("button", name="Stop", exact=True).click()
        expect(page.get_by_text("It was stopped. This is what it had written.")).to_be_visible()
        expect(body).to_contain_text(before)
    assert before


def count_polls(page: Page, seconds: int) -> int:
    """Return how many requests the page sends in this time by its own clock."""
    sent: list[str] = []

    def note(request: Request) -> None:
        sent.append(request.url)

    page.on("request", note)
    for _tick in range(seconds * 10):
        page.clock.run_for(100)
        page.evaluate("new Promise((done) => queueMicrotask(done))")
    page.remove_listener("request", note)
    return len(sent)


def wait_with_clock(page: Page) -> None:
    page.clock.install()
    page.reload()
    page.wait_for_function("document.querySelector('[hx-get]')?._htmx")


def test_polling_ends_once_the_prompt_is_gone(page: Page, slow_trial: Any) -> None:
    wait_with_clock(page)
    slow_trial.delete()
    page.clock.run_for(1_000)
    expect(page.locator("#notices .error")).to_have_count(1)
    assert count_polls(page, 5) == 0
    expect(page.locator("#notices .error")).to_have_count(1)


def test_failures_in_a_row_are_told_once_and_polling_goes_on(page: Page, slow_trial: Any) -> None:
    wait_with_clock(page)
    notice = '<div class="notice error" data-notice><span>It failed.</span></div>'
    headers = {"HX-Retarget": "#notices", "HX-Reswap": "beforeend", "Content-Type": "text/html"}
    page.route("**/*", lambda route: route.fulfill(status=500, headers=headers, body=notice))
    for _time in range(3):
        with page.expect_response("**/*"):
            page.clock.run_for(1_000)
    expect(page.locator("#notices .error")).to_have_count(1)
    page.unroute("**/*")
    slow_trial.answers.update(state="failed", error="No such thing.")
    with page.expect_response("**/*"):
        page.clock.run_for(1_000)
    expect(page.get_by_text("No such thing.")).to_be_visible()


def test_a_long_draft_is_asked_for_less_often(page: Page, slow_trial: Any) -> None:
    slow_trial.answers.update(state="running", attempt=1, heard_at=timezone.now(), text="so far " * 10_000)
    wait_with_clock(page)
    assert count_polls(page, 7) <= 2
