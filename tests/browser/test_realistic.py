"""Comparisons as real projects have them: shown whole, within the window, and judged."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from annotate.imports.files.whole import import_whole
from annotate.models import Comparison, Judgment
from docs.realistic import ROWS
from tests.browser.accessibility import violations
from tests.browser.desk import Desk

# What must be on screen for each row, of its prompt and of either completion.
SHOWN = {
    "code": ["This view is painfully slow", "three queries an order", "@lru_cache"],
    "mathematics": ["A ticket costs $5, not $6.", "By induction", "left over"],
    "table": ["Compare four databases", "4,100,000", "for monitoring"],
    "tools": ["ten minutes from the station", "you would miss the 14:02", "Enjoy your trip! 🚆"],
    "reasoning": ["A bat and a ball", "The ball costs 0.05.", "The ball costs 0.10."],
    "arabic": ["اشرح الفرق", "قابلية التعديل", "كلاهما يحفظ الترتيب"],
    "japanese": ["次のメール", "ご出席いただけますでしょうか", "よろしくお願いします"],
    "long-chat": ["So what do I write?", "not certainly by enough", "The result is significant"],
    "chinese": ["用一句话解释", "记住了训练数据", "训练准确率为"],
}


@pytest.fixture
def imported(project: Any) -> Any:
    import_whole(project, io.BytesIO("".join(json.dumps(row) + "\n" for row in ROWS).encode()), "jsonl")
    project.visible_metadata = ["source", "reference"]
    project.save()
    return project


@pytest.mark.parametrize("width", [1400, 390])
def test_every_kind_is_shown_within_the_window_and_judged(
    imported: Any, open_desk: Callable[..., Desk], width: int
) -> None:
    desk = open_desk(width=width)
    page = desk.page
    for left in range(len(ROWS), 0, -1):
        desk.wait_for("Boolean(document.querySelector('#comparison[data-token]'))")
        row = Comparison.objects.get(claims__token=desk.token)
        desk.looked()
        for text in SHOWN[row.external_id]:
            expect(page.locator("#comparison").get_by_text(text).first).to_be_visible()
        # No page is wider than the window, whatever is in it: it would push the verdicts out of sight.
        assert page.evaluate("visualViewport.width >= document.documentElement.scrollWidth"), row.external_id
        expect(page.get_by_role("button", name="Tie")).to_be_in_viewport()
        assert not violations(page, runOnly=["color-contrast", "scrollable-region-focusable"]), (
            row.external_id
        )
        desk.press("4")
        desk.saved()
        desk.wait_for("left => document.getElementById('left').textContent === String(left)", left - 1)
    assert Judgment.objects.filter(verdict="tie").count() == len(ROWS)
