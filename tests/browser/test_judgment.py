"""Changing a judgment in a real browser: what was written is not lost by leaving."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Dialog, Page, expect

from annotate.judgments import judging
from annotate.judgments.verdicts import Verdict
from annotate.models import Judgment
from annotate.queueing import queue
from tests.browser.desk import ask_for_notes


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
    judgment_page.wait_for_timeout(300)
    assert asked == ["beforeunload"]
    expect(judgment_page.get_by_label("Rationale", exact=True)).to_have_value("After")


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
