"""Changing a judgment in a real browser: what was written is not lost by leaving."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Dialog, Page, expect

from annotate.judgments import judging
from annotate.judgments.verdicts import Verdict
from annotate.models import Judgment, Prompt, prompt_columns
from annotate.queueing import queue
from tests.browser.desk import Desk, ask_for_notes


@pytest.fixture
def judgment_page(project: Any, teammate: Any, make_comparisons: Any, open_page: Callable[..., Page]) -> Page:
    ask_for_notes(project)
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    assert claim is not None
    mine = judging.record(project, teammate, claim.token, Verdict("tie", rationale="Before"))
    return open_page(teammate, f"/p/reviews/history/{mine.pk}/")


def test_leaving_with_something_changed_asks_first(judgment_page: Page) -> None:
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    judgment_page.on("dialog", stay)
    judgment_page.get_by_label("Rationale", exact=True).fill("After")
    judgment_page.get_by_role("link", name="All judgments").click(no_wait_after=True)
    Desk(judgment_page).wait_until(lambda: bool(asked), "the browser asks")
    assert asked == ["beforeunload"]
    expect(judgment_page.get_by_label("Rationale", exact=True)).to_have_value("After")


def sign_in(page: Page, user: Any) -> None:
    user.set_password("a long password")
    user.save()
    page.get_by_label("Username").fill(user.username)
    page.get_by_label("Password").fill("a long password")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/login/" not in url)


def send_without_a_sign_in(page: Page) -> None:
    page.get_by_label("Rationale", exact=True).fill("After")
    page.context.clear_cookies(name="sessionid")
    page.get_by_role("button", name="Save reasons and rationale").click()
    expect(page.get_by_text("What you sent was not stored")).to_be_visible()


def test_what_was_sent_after_a_sign_in_ended_is_there_again(judgment_page: Page, teammate: Any) -> None:
    send_without_a_sign_in(judgment_page)
    assert Judgment.objects.get().rationale == "Before"
    sign_in(judgment_page, teammate)
    expect(judgment_page.get_by_label("Rationale", exact=True)).to_have_value("After")
    expect(judgment_page.get_by_text("this is not saved yet")).to_be_visible()
    judgment_page.get_by_role("button", name="Save reasons and rationale").click()
    expect(judgment_page.get_by_text("Changed.")).to_be_visible()
    assert Judgment.objects.get(superseded_at=None).rationale == "After"
    judgment_page.reload()
    expect(judgment_page.get_by_text("this is not saved yet")).to_have_count(0)


def test_what_was_sent_is_not_shown_to_another_user(
    project: Any, owner: Any, outsider: Any, open_page: Callable[..., Page]
) -> None:
    project.memberships.create(user=outsider, role="admin")
    page = open_page(owner, f"/p/{project.slug}/settings/")
    page.get_by_label("Guidelines").fill("Written by the owner")
    page.context.clear_cookies(name="sessionid")
    page.get_by_role("button", name="Save settings").click()
    page.wait_for_url("**/login/?next=**")
    sign_in(page, outsider)
    expect(page.get_by_role("heading", level=1)).to_have_text("Settings")
    expect(page.get_by_label("Guidelines")).not_to_have_value("Written by the owner")


def test_what_was_stored_is_not_kept_in_the_browser(
    project: Any, owner: Any, open_page: Callable[..., Page]
) -> None:
    """The page after it has no form that would take it."""
    text = "A prompt with a secret"
    old = Prompt.objects.create(**prompt_columns(project, "A prompt"), project=project)
    page = open_page(owner, f"/p/{project.slug}/prompts/{old.pk}/correct/")
    page.get_by_label("Prompt").fill(text)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Prompt ")
    assert Prompt.objects.filter(content=text).exists()
    assert page.evaluate("sessionStorage.length") == 0


def test_saving_and_leaving_unchanged_ask_nothing(judgment_page: Page) -> None:
    asked: list[str] = []
    judgment_page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    judgment_page.get_by_label("Rationale", exact=True).fill("After")
    judgment_page.get_by_role("button", name="Save reasons and rationale").click()
    expect(judgment_page.get_by_text("Changed.")).to_be_visible()
    judgment_page.get_by_role("link", name="All judgments").click()
    expect(judgment_page.get_by_role("heading", level=1)).not_to_have_text("Your judgment")
    assert not asked
    current = Judgment.objects.get(superseded_at=None)
    assert (current.verdict, current.rationale) == ("tie", "After")
