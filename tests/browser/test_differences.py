"""The marked differences of two completions: the way from one to the next, and scrolling both together."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from annotate.models import Comparison
from tests.browser.accessibility import violations
from tests.browser.desk import PHONE, Desk, opened

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
PASSAGES = [
    " ".join(f"{word}{number}" if number % 200 == 0 else f"word{number}" for number in range(4_000))
    for word in ("one", "other")
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


def opened_at_differences(open_desk: Callable[..., Desk]) -> Desk:
    """Return a desk that shows the differences."""
    desk = opened(open_desk)
    desk.page.wait_for_load_state("networkidle")
    desk.press("d")
    return desk


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
    desk = opened_at_differences(open_desk)
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
    desk = opened_at_differences(open_desk)
    expect(desk.page.locator("mark.gap")).to_have_count(1)
    one, other = (height_in_pane(desk, side, ".prose") for side in "ab")
    tall, taller = (desk.page.locator(f"#pane-{side} .prose").bounding_box() or {} for side in "ab")
    assert (one, tall["height"]) == (other, taller["height"])


def test_scrolling_together_keeps_the_same_difference_level(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    compare("Repeat this.", " ".join(WORDS), " ".join(EDITED))
    desk = opened_at_differences(open_desk)
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


@pytest.mark.parametrize("cause", ["window", "divider", "prompt"])
def test_a_longer_completion_stays_where_it_is_as_panes_grow(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk], cause: str
) -> None:
    prompt = "\n\n".join(f"Line {number} of a prompt." for number in range(40))
    compare(prompt, " ".join(WORDS), "Quite another text. " * 260)
    desk = opened(open_desk)
    if cause == "prompt":
        desk.press("p")
        expect(desk.page.locator("#whole-prompt")).to_have_attribute("aria-expanded", "true")
    longer, shorter = sort_by_length(desk)
    scroll_by_wheel(desk, longer, 6)
    at_end = "({scrollTop, clientHeight, scrollHeight}) => scrollTop + clientHeight >= scrollHeight - 1"
    desk.wait_for(f"pane => ({at_end})(document.getElementById(pane))", shorter)
    top, height = desk.page.evaluate(
        "ids => { const [longer, shorter] = ids.map(id => document.getElementById(id));"
        " return [longer.scrollTop, shorter.clientHeight] }",
        [longer, shorter],
    )
    if cause == "window":
        desk.page.set_viewport_size({"width": 1400, "height": 1000})
    elif cause == "divider":
        desk.page.locator("#divider").focus()
        desk.press("ArrowUp")
    else:
        desk.press("p")
    desk.wait_for(
        "([pane, height]) => document.getElementById(pane).clientHeight > height", [shorter, height]
    )
    desk.drawn()
    assert desk.page.evaluate("pane => document.getElementById(pane).scrollTop", longer) == top


def test_differences_close_to_each_other_are_visited_together(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    same = "one two three four five six"
    compare("Repeat this.", f"red {same} blue {same} end", f"pink {same} green {same} fin")
    desk = opened(open_desk)
    desk.press("d")
    expect(desk.page.locator("#pane-a mark")).to_have_count(3)
    desk.press("e")
    for side in "ab":
        expect(desk.page.locator(f"#pane-{side} mark.here")).to_have_count(3)


def test_the_next_difference_is_that_after_what_is_in_sight(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    compare("Repeat this.", *PASSAGES)
    desk = opened(open_desk)
    desk.press("d")
    expect(desk.page.locator("#pane-a mark")).to_have_count(20)
    for number in (0, 1):
        desk.press("e")
        expect(desk.page.locator(f'#pane-a mark[data-at="{number}"].here')).to_be_in_viewport()
    desk.page.locator("#pane-a").evaluate("pane => pane.scrollTop = pane.scrollHeight * 0.58")
    desk.wait_for("document.getElementById('pane-b').scrollTop > 1000")
    for number in (12, 13):
        desk.press("e")
        expect(desk.page.locator(f'#pane-a mark[data-at="{number}"].here')).to_be_in_viewport()


def test_a_small_turn_of_the_wheel_skips_no_difference(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    compare("Repeat this.", *PASSAGES)
    desk = opened(open_desk)
    desk.press("d")
    expect(desk.page.locator("#pane-a mark")).to_have_count(20)
    pane = desk.page.locator("#pane-a")
    for number in range(20):
        desk.press("e")
        expect(desk.page.locator(f'#pane-a mark[data-at="{number}"].here')).to_be_in_viewport()
        pane.evaluate("pane => pane.scrollTop += 40")
        desk.drawn()


def test_the_next_difference_is_announced(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    compare("Repeat this.", " ".join(WORDS), " ".join(EDITED))
    desk = opened(open_desk)
    desk.press("d")
    expect(desk.page.locator("#pane-a mark.here")).to_be_in_viewport()
    for number in (2, 3, 1):
        desk.press("e")
        expect(desk.page.locator("#announcer")).to_have_text(f"Difference {number} of 3")


def test_a_mark_of_what_lacks_has_a_name_and_no_text(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    compare("Repeat this.", "It was cold. Stay in.", "It was cold. The wind turned west. Stay in.")
    desk = opened(open_desk)
    desk.press("d")
    gap = desk.page.get_by_role("img", name="The other completion has more here")
    expect(gap).to_have_count(1)
    expect(gap).to_have_text("")
    assert not violations(desk.page)


def test_on_a_phone_each_difference_is_shown_in_both(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    """The completion that only lacks something is left out."""
    compare("Repeat this.", " ".join(WORDS), " ".join(EDITED))
    page = opened(open_desk, **PHONE).page
    page.get_by_role("button", name="Differences").tap()
    expect(page.locator("mark.gap")).to_have_count(1)
    holder = "b" if page.locator("#pane-a mark.gap").count() else "a"
    for side, number in [(holder, 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2), (holder, 0)]:
        page.get_by_role("button", name="Next difference").tap()
        expect(page.locator("#announcer")).to_have_text(f"{side.upper()}: Difference {number + 1} of 3")
        mark = page.locator(f'#pane-{side} mark[data-at="{number}"].here')
        expect(mark).to_be_in_viewport()
        assert (mark.bounding_box() or {})["y"] > 40
        expect(page.get_by_role("button", name="Next difference")).to_be_in_viewport(ratio=1)


def test_on_a_phone_the_next_difference_follows_what_is_in_sight(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    compare("Repeat this.", *PASSAGES)
    page = opened(open_desk, **PHONE).page
    page.get_by_role("button", name="Differences").tap()
    expect(page.locator("#pane-b mark")).to_have_count(20)
    page.locator('#pane-b mark[data-at="9"]').scroll_into_view_if_needed()
    page.evaluate("window.scrollBy(0, 900)")  # past it
    mark = page.locator('#pane-b mark[data-at="10"].here')
    button = page.get_by_role("button", name="Next difference")
    expect(button).to_be_in_viewport(ratio=1)
    button.tap()
    expect(mark).to_be_in_viewport()
