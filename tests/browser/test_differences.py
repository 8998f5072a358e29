"""The marked differences of two completions: the way from one to the next, and scrolling both together."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from annotate.models import Comparison
from tests.browser.desk import Desk, opened

WORDS = [f"word{number}" for number in range(4_000)]
EDITED = [
    *WORDS[:1_000],
    *["more"] * 600,
    *WORDS[1_000:2_500],
    "other",
    *WORDS[2_501:3_500],
    "last",
    *WORDS[3_501:],
]


def test_differences_open_at_the_first_one(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    words = [f"word{number}" for number in range(4_000)]
    compare("Repeat this.", " ".join(words), " ".join([*words[:3_000], "other", *words[3_001:]]))
    desk = opened(open_desk)
    desk.press("d")
    for side in "ab":
        expect(desk.page.locator(f"#pane-{side} mark")).to_be_in_viewport()
    desk.press("d")
    desk.wait_for("!document.querySelector('#pane-a mark')")
    assert desk.page.evaluate("document.getElementById('pane-a').scrollTop") == 0


def height_in_pane(desk: Desk, side: str, selector: str) -> float:
    """Return how far below the top of a completion's pane something is."""
    script = (
        "([side, selector]) => { const pane = document.getElementById(`pane-${side}`);"
        " return pane.querySelector(selector).getBoundingClientRect().top - pane.getBoundingClientRect().top }"
    )
    return float(desk.page.evaluate(script, [side, selector]))


def test_each_difference_is_shown_at_one_height_in_both(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    compare("Repeat this.", " ".join(WORDS), " ".join(EDITED))
    desk = opened(open_desk)
    desk.page.wait_for_load_state("networkidle")
    desk.press("d")
    expect(desk.page.locator("#pane-a mark.here")).to_be_in_viewport()
    for number in (0, 1, 2, 0):  # after the last one, the first one again
        here = f'mark[data-at="{number}"].here'
        expect(desk.page.locator(f"#pane-a {here}")).to_have_count(1)
        heights = [height_in_pane(desk, side, here) for side in "ab"]
        assert heights[0] == pytest.approx(heights[1], abs=3)
        assert 0 < heights[0] < 400
        desk.press("e")


def test_a_mark_of_what_lacks_moves_no_line(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    compare("Repeat this.", "It was cold. The wind turned west. Stay in.", "It is cold. Stay in.")
    desk = opened(open_desk)
    desk.page.wait_for_load_state("networkidle")
    desk.press("d")
    expect(desk.page.locator("mark.gap")).to_have_count(1)
    one, other = (height_in_pane(desk, side, ".prose") for side in "ab")
    tall, taller = (desk.page.locator(f"#pane-{side} .prose").bounding_box() or {} for side in "ab")
    assert (one, tall["height"]) == (other, taller["height"])


def test_scrolling_together_keeps_the_same_difference_level(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    compare("Repeat this.", " ".join(WORDS), " ".join(EDITED))
    desk = opened(open_desk)
    desk.page.wait_for_load_state("networkidle")
    desk.press("d")
    expect(desk.page.locator("#pane-a mark.here")).to_be_in_viewport()
    desk.page.locator("#pane-a").hover()
    mark = 'mark[data-at="1"]'
    desk.page.mouse.wheel(0, height_in_pane(desk, "a", mark) - 150)
    heights = (
        "mark => [...'ab'].map(side => document.getElementById(`pane-${side}`)).map(pane =>"
        " pane.querySelector(mark).getBoundingClientRect().top - pane.getBoundingClientRect().top)"
    )
    desk.wait_for(f"mark => Math.abs(({heights})(mark)[0] - 150) <= 80", mark)
    desk.wait_for(f"mark => {{ const [a, b] = ({heights})(mark); return Math.abs(a - b) <= 40 }}", mark)


def sort_by_length(desk: Desk) -> list[str]:
    """Return the ids of both completions' panes, the longer one first."""
    panes = "[...'ab'].map(side => document.getElementById(`pane-${side}`))"
    ids = desk.page.evaluate(f"{panes}.sort((a, b) => b.scrollHeight - a.scrollHeight).map(pane => pane.id)")
    return list(ids)


def scroll_by_wheel(desk: Desk, pane: str, times: int) -> None:
    desk.page.locator(f"#{pane}").hover()
    for turn in range(1, times + 1):
        desk.page.mouse.wheel(0, 500)
        desk.wait_for(
            "([pane, top]) => document.getElementById(pane).scrollTop >= top", [pane, 500 * turn - 100]
        )


def test_a_longer_completion_scrolls_on_past_the_shorter_one(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    compare("Repeat this.", " ".join(WORDS[:400]), " ".join(WORDS))
    desk = opened(open_desk)
    longer, shorter = sort_by_length(desk)
    desk.page.locator(f"#{shorter}").focus()
    scroll_by_wheel(desk, longer, 4)
