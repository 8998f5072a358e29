"""Long and wide texts: the question is in sight, nothing widens the page, and the chosen view holds."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from annotate.models import Comparison, Membership
from tests.browser.accessibility import violations
from tests.browser.desk import JUDGE, PHONE, Desk, opened
from tests.browser.questions import CHAT, DJANGO, LONG_LINE, LONG_TASK, QUESTIONS

WIDTHS: dict[str, dict[str, Any]] = {"wide": {"width": 1440}, "tablet": {"width": 1000}, "phone": PHONE}


def in_sight(text: Locator, box: Locator) -> bool:
    """Return whether the beginning of `text` is within `box`."""
    inner, outer = text.bounding_box(), box.bounding_box()
    assert inner
    assert outer
    return outer["y"] - 1 <= inner["y"] < outer["y"] + outer["height"]


# --- Views -----------------------------------------------------------------------------------------------------------


def test_raw_stays_raw_for_all_that_follows(
    make_comparisons: Any, open_desk: Callable[..., Desk], teammate: Any
) -> None:
    make_comparisons(6)
    desk = open_desk().ready()
    shown = desk.page.locator("#comparison")
    desk.press("t")
    expect(shown).to_have_attribute("data-view", "raw")
    for _ in range(3):
        desk.ready().judge("2")
        expect(shown).to_have_attribute("data-view", "raw")
    before = desk.token
    desk.press("u")
    desk.moved_on(before)
    expect(shown).to_have_attribute("data-view", "raw")
    desk.page.reload()
    expect(shown).to_have_attribute("data-view", "raw")
    assert Membership.objects.get(user=teammate).view == "raw"


def test_a_view_reaches_the_other_tabs(make_comparisons: Any, open_desk: Callable[..., Desk]) -> None:
    make_comparisons(4)
    desk = open_desk().ready()
    other = Desk(desk.page.context.new_page())
    other.page.goto(JUDGE)
    other.ready()
    for key, view in (("t", "raw"), ("t", "rendered"), ("d", "differences")):
        desk.press(key)
        for tab in (desk, other):
            expect(tab.page.locator("#comparison")).to_have_attribute("data-view", view)
    other.ready().judge("1")
    expect(other.page.locator("#comparison")).to_have_attribute("data-view", "differences")
    desk.shows(other.token)
    expect(desk.page.locator("#comparison")).to_have_attribute("data-view", "differences")


def test_leaving_differences_leads_back_to_raw(make_comparisons: Any, open_desk: Callable[..., Desk]) -> None:
    make_comparisons(2)
    desk = open_desk().ready()
    for key, view in (("t", "raw"), ("d", "differences"), ("d", "raw"), ("t", "rendered")):
        desk.press(key)
        expect(desk.page.locator("#comparison")).to_have_attribute("data-view", view)


def test_on_a_phone_the_letter_of_a_long_text_stays_in_sight(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    compare("Tell me.", "word " * 2_000, "other " * 2_000)
    page = opened(open_desk, **PHONE).page
    for side in "ab":
        page.evaluate(
            "side => window.scrollTo(0, document.getElementById(`pane-${side}`).offsetTop + 900)", side
        )
        expect(page.locator(f"#title-{side}")).to_be_in_viewport()


def test_a_view_that_cannot_be_fetched_is_not_on(
    make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    make_comparisons(3)
    desk = open_desk().ready()
    desk.page.context.set_offline(True)
    desk.press("t")
    expect(desk.page.get_by_text("The server cannot be reached")).to_be_visible()
    expect(desk.page.locator("#comparison")).to_have_attribute("data-view", "rendered")
    desk.page.context.set_offline(False)
    desk.ready().judge("2")
    expect(desk.page.locator("#comparison")).to_have_attribute("data-view", "rendered")


def test_an_answer_on_its_way_does_not_bring_the_old_view_back(
    make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    make_comparisons(4)
    desk = open_desk().ready()
    held: list[Any] = []
    desk.intercept(
        lambda route: route.continue_() if held else held.append((route, route.fetch())), "**/judge/ahead/"
    )
    desk.judge("2")
    desk.page.evaluate("document.getElementById('ahead').innerHTML = ''")
    desk.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # asks for one ahead
    desk.wait_until(lambda: bool(held))
    desk.press("t")
    expect(desk.page.locator("#comparison")).to_have_attribute("data-view", "raw")
    held[0][0].fulfill(response=held[0][1])
    desk.ready().judge("2")
    expect(desk.page.locator("#comparison")).to_have_attribute("data-view", "raw")


def test_a_view_is_drawn_once_when_it_was_asked_for_twice(
    make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    make_comparisons(4)
    desk = open_desk().ready()
    held: list[Route] = []
    texts = f"**/judge/{desk.token}/**"

    def hold(route: Route) -> None:
        held.append(route)

    desk.intercept(hold, texts)
    desk.press("t")
    desk.wait_until(lambda: len(held) == 1)
    desk.page.evaluate("document.getElementById('ahead').innerHTML = ''")
    # The answer to what this asks for finds the old view on screen.
    desk.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    desk.wait_until(lambda: len(held) == 2)
    held[0].continue_()
    shown = desk.page.locator("#comparison")
    expect(shown).to_have_attribute("data-view", "raw")
    shown.evaluate("shown => shown.dataset.kept = 'yes'")
    with desk.page.expect_response(texts):
        held[1].continue_()
    desk.drawn()
    expect(shown).to_have_attribute("data-kept", "yes")


# --- Wide texts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_widens_the_page(
    compare: Callable[..., Comparison], open_page: Callable[..., Page], owner: Any, width: str
) -> None:
    text = "\n\n".join(QUESTIONS)
    made = compare(
        [{"role": "system", "content": text}, {"role": "user", "content": text}], text, text + "\n\n!"
    )
    page = open_page(owner, JUDGE, **WIDTHS[width])
    expect(page.get_by_role("button", name="Tie")).to_be_in_viewport(ratio=1)
    for path, role in ((JUDGE, "button"), (f"/p/reviews/comparisons/{made.pk}/", "link")):
        page.goto(path)
        for view in ("Raw", "Differences", "Formatted"):
            page.get_by_role(role, name=view).click()
            expect(page.get_by_role(role, name=view)).to_have_attribute("aria-current", "true")
            assert page.evaluate("visualViewport.width") == WIDTHS[width]["width"]
            assert page.evaluate("document.documentElement.scrollWidth <= visualViewport.width"), (path, view)


def test_prose_wraps_beside_a_line_of_1000_characters(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    compare(LONG_LINE, LONG_LINE, LONG_LINE)
    page = opened(open_desk, width=1440).page
    for prose in page.locator("#comparison p", has_text="so many arguments").all():
        box = prose.bounding_box()
        assert box
        assert box["x"] + box["width"] <= 1440
        letters = prose.evaluate(
            "p => { const range = document.createRange(); range.setStart(p.firstChild, 0);"
            " const top = p.getClientRects()[0].top + 30; let at = 0;"
            " while (++at < p.firstChild.length) { range.setEnd(p.firstChild, at);"
            " if (range.getBoundingClientRect().bottom > top) break } return at }"
        )
        assert 40 <= letters <= 86


@pytest.mark.parametrize(("width", "wraps"), [(1440, True), (1700, False), (390, True)])
def test_code_wraps_in_narrow_panes_and_on_request(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk], width: int, wraps: bool
) -> None:
    compare("Fix it.", DJANGO, DJANGO)
    desk = opened(open_desk, width=width)
    code = desk.page.locator("#pane-a pre")

    def fits() -> bool:
        return bool(code.evaluate("pre => pre.scrollWidth <= pre.clientWidth"))

    assert fits() == wraps
    desk.press("w")
    assert fits() != wraps
    desk.page.reload()
    assert fits() != wraps  # remembered
    code.hover()
    desk.page.locator("#pane-a").get_by_role("button", name="Wrap").click()
    assert fits() == wraps


def test_code_is_copied_as_it_is(compare: Callable[..., Comparison], open_desk: Callable[..., Desk]) -> None:
    compare("Fix it.", DJANGO, DJANGO)
    desk = opened(open_desk)
    desk.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copy = desk.page.locator("#pane-a").get_by_role("button", name="Copy")
    copy.focus()
    expect(copy).to_have_css("opacity", "1")
    desk.press("Enter")
    expect(desk.page.locator("#pane-a").get_by_role("button", name="Copied")).to_be_visible()
    code = DJANGO.split("```python\n")[1].split("```")[0]
    assert desk.page.evaluate("navigator.clipboard.readText()") == code


# --- Long prompts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("content", [LONG_TASK, CHAT], ids=["plain", "chat"])
def test_the_question_is_in_sight_and_all_of_it_at_a_key(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk], width: str, content: Any
) -> None:
    compare(content, "One. " * 900, "Two. " * 900)
    desk = opened(open_desk, **WIDTHS[width])
    page, body = desk.page, desk.page.locator("#prompt-body")
    question, end = page.get_by_text("Summarise the minutes"), page.get_by_text("Item 36.")
    assert in_sight(question, body)
    expect(page.get_by_role("button", name="Tie")).to_be_in_viewport()
    before = body.bounding_box()
    desk.press("p")
    expect(page.get_by_role("button", name="Show all")).to_have_attribute("aria-expanded", "true")
    after = body.bounding_box()
    assert before
    assert after
    assert after["height"] > 1.5 * before["height"]
    for earlier in page.locator(".earlier").all():
        expect(earlier.get_by_text("It is 3 degrees.")).to_be_visible()
    end.scroll_into_view_if_needed()
    expect(page.get_by_role("button", name="Tie")).to_be_in_viewport()
    desk.press("p")
    assert in_sight(question, body)
    expect(page.get_by_text("It is 3 degrees.")).to_be_hidden()


def test_a_prompt_takes_the_room_that_completions_leave(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    paragraphs = "\n\n".join(f"Item {number}. The board spoke of the budget." for number in range(10))
    for number, (first, second) in enumerate([("Yes", "No"), ("Yes. " * 2_000, "No")]):
        compare(f"{number} {paragraphs}", first, second)
    desk = opened(open_desk)
    seen = {}
    for _ in range(2):
        page = desk.page
        is_long = page.locator(".pane-body", has_text="Yes. Yes.").count() == 1
        whole = page.evaluate(
            "(({scrollHeight, clientHeight}) => scrollHeight <= clientHeight)(document.getElementById('prompt-body'))"
        )
        seen[is_long] = whole
        assert page.evaluate("document.getElementById('prompt-body').clientHeight") > 150
        desk.looked().judge("2")
    assert seen == {False: True, True: False}


def test_a_prompt_has_its_room_after_one_that_was_shown_whole(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    paragraphs = "\n\n".join(f"Item {number}. The board spoke of the budget." for number in range(10))
    for number in range(2):
        compare(f"{number} {paragraphs}", "Yes", "No")
    desk = opened(open_desk, height=650)
    whole = desk.page.locator("#whole-prompt")
    expect(whole).to_be_visible()
    desk.press("p")
    expect(whole).to_have_attribute("aria-expanded", "true")
    desk.page.set_viewport_size({"width": 1_400, "height": 900})
    desk.wait_for("window.innerHeight === 900")
    desk.drawn().looked().judge("2")
    expect(whole).to_be_hidden()


@pytest.mark.parametrize("change", ["view", "window"])
def test_a_prompt_has_its_room_after_a_change_while_whole(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk], change: str
) -> None:
    paragraphs = "\n\n".join(f"Item {number}. The board spoke of the budget." for number in range(40))
    compare(paragraphs, "Yes", "No")
    desk = opened(open_desk)
    before = height_of(desk)
    desk.press("p")
    expect(desk.page.locator("#whole-prompt")).to_have_attribute("aria-expanded", "true")
    if change == "view":
        for view in ("raw", "rendered"):
            desk.press("t")
            expect(desk.page.locator("#comparison")).to_have_attribute("data-view", view)
    else:
        for height in (1_000, 900):
            desk.page.set_viewport_size({"width": 1_400, "height": height})
            desk.wait_for("height => window.innerHeight === height", height)
            desk.drawn()
    desk.press("p")
    expect(desk.page.locator("#whole-prompt")).to_have_attribute("aria-expanded", "false")
    assert height_of(desk) == pytest.approx(before, abs=2)


def test_a_short_prompt_offers_no_more(make_comparisons: Any, open_desk: Callable[..., Desk]) -> None:
    make_comparisons(2)
    desk = open_desk().ready()
    expect(desk.page.get_by_role("button", name="Show all")).to_be_hidden()


def test_earlier_messages_open_by_a_click(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    compare(CHAT, "One", "Two")
    page = opened(open_desk).page
    page.locator("#prompt-body").evaluate("body => body.scrollTo(0, 0)")
    page.get_by_text("4 earlier messages").click()
    expect(page.get_by_text("It is 3 degrees.")).to_be_visible()


@pytest.mark.parametrize("options", [{}, PHONE], ids=["wide", "phone"])
def test_boxes_of_a_chat_are_accessible(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk], options: dict[str, Any]
) -> None:
    call = {"id": "call_7", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    chat = [
        *CHAT[:-1],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_7", "content": "3 degrees"},
    ]
    compare(chat, DJANGO, DJANGO + "\n\nDone.")
    page = opened(open_desk, **options).page
    for box in page.locator(".box > summary, .earlier > summary").all():
        box.click()
    expect(page.get_by_text("3 degrees", exact=True)).to_be_visible()
    assert not violations(page)


def height_of(desk: Desk) -> float:
    box = desk.page.locator("#prompt-body").bounding_box()
    assert box
    return float(box["height"])


def test_the_prompts_height_is_dragged_and_remembered(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    for number in range(3):
        compare(f"{number} {LONG_TASK}", "One. " * 900, "Two. " * 900)
    desk = opened(open_desk)
    before = height_of(desk)
    handle = desk.page.locator("#divider")
    box = handle.bounding_box()
    assert box
    desk.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 5)
    desk.page.mouse.down()
    desk.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 155)
    desk.page.mouse.up()
    dragged = height_of(desk)
    assert dragged == pytest.approx(before + 150, abs=12)
    desk.looked().judge("2")
    assert height_of(desk) == pytest.approx(dragged, abs=2)
    desk.page.reload()
    assert height_of(desk) == pytest.approx(dragged, abs=2)
    handle.dblclick()
    assert height_of(desk) == pytest.approx(before, abs=2)


def test_the_prompts_height_is_set_by_keyboard(
    compare: Callable[..., Comparison], open_desk: Callable[..., Desk]
) -> None:
    compare(LONG_TASK, "One. " * 900, "Two. " * 900)
    desk = opened(open_desk)
    handle = desk.page.get_by_role("separator", name="Height of the prompt")
    handle.focus()
    before = height_of(desk)
    for key, value in (
        ("ArrowDown", "37"),
        ("End", "80"),
        ("Home", "10"),
        ("ArrowUp", "10"),
        ("Enter", "32"),
    ):
        desk.press(key)
        expect(handle).to_have_attribute("aria-valuenow", value)
    assert height_of(desk) == before
