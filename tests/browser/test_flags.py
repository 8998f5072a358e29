"""Flags: each reaches the admins, with its own comparison, whatever the annotator does meanwhile."""

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Route, expect

from annotate.models import Claim, Flag
from tests.browser.desk import JUDGE, Desk, ask_for_notes


def flag(desk: Desk, note: str) -> None:
    desk.press("f")
    desk.page.keyboard.type(note)
    desk.press("Tab")
    desk.press("Enter")


def comparison_of(token: str) -> int:
    return Claim.objects.get(token=token).comparison_id


def test_a_late_answer_to_a_flag_leaves_the_next_one_alone(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    make_comparisons(3)
    desk = open_desk().ready()
    flagged = desk.token
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    desk.intercept(hold, "**/judge/flag/")
    flag(desk, "names its model")
    desk.wait_for("document.getElementById('saved').dataset.state === 'saving'")
    desk.press("4")
    desk.moved_on(flagged)
    desk.press("f")
    desk.page.keyboard.type("about the second")
    held.pop().continue_()
    expect(desk.page.get_by_text("Flagged: an earlier comparison.")).to_be_visible()
    expect(desk.page.get_by_text("you can judge it")).to_have_count(0)
    expect(desk.page.locator("#flag-note")).to_be_focused()
    expect(desk.page.locator("#flag-note")).to_have_value("about the second")
    assert Flag.objects.get().comparison_id == comparison_of(flagged)


def test_a_flag_without_a_connection_is_sent_later(desk: Desk) -> None:
    flagged = desk.token
    desk.page.context.set_offline(True)
    flag(desk, "both are in Finnish")
    desk.press("4")
    desk.moved_on(flagged)
    desk.wait_for("document.getElementById('saved').dataset.state === 'waiting'")
    expect(desk.page.locator("#saved")).to_contain_text("2")
    desk.page.context.set_offline(False)
    desk.saved()
    assert Flag.objects.get().note == "both are in Finnish"
    assert Flag.objects.get().comparison_id == comparison_of(flagged)


def test_a_flag_that_waits_survives_closing_the_tab(desk: Desk) -> None:
    flagged = desk.token
    desk.intercept(lambda route: route.abort(), "**/judge/flag/")
    flag(desk, "names its model")
    desk.wait_for("document.getElementById('saved').dataset.state === 'waiting'")
    context = desk.page.context
    desk.page.close()
    page = context.new_page()
    page.goto(JUDGE)
    Desk(page).ready().saved()
    assert Flag.objects.get().comparison_id == comparison_of(flagged)


def test_a_note_goes_to_the_comparison_that_it_is_about(desk: Desk) -> None:
    flagged = desk.token
    desk.press("f")
    desk.page.keyboard.type("names its model")
    other = desk.page.context.new_page()
    other.goto(JUDGE)
    Desk(other).shows(flagged).looked().judge("4")
    desk.moved_on(flagged)
    desk.press("Tab")
    desk.press("Enter")
    expect(desk.page.get_by_text("Flagged: an earlier comparison.")).to_be_visible()
    assert Flag.objects.get().comparison_id == comparison_of(flagged)


def test_a_refused_note_stays_to_be_mended(desk: Desk) -> None:
    desk.page.evaluate("document.getElementById('flag-note').removeAttribute('maxlength')")
    desk.press("f")
    desk.page.fill("#flag-note", "x" * 20_000)
    desk.page.get_by_role("button", name="Flag for an admin").click()
    expect(desk.page.locator("#notices .error")).to_have_count(1)
    expect(desk.page.locator("#flag-note")).to_have_value("x" * 20_000)
    desk.page.fill("#flag-note", "shorter")
    desk.page.get_by_role("button", name="Flag for an admin").click()
    expect(desk.page.get_by_text("Flagged.")).to_be_visible()
    assert Flag.objects.get().note == "shorter"


def test_a_note_begun_on_another_comparison_waits_for_it(desk: Desk) -> None:
    first = desk.token
    flagged = comparison_of(first)  # an undo draws another token
    desk.press("4")
    desk.moved_on(first).saved()
    second = desk.token
    desk.press("f")
    desk.page.keyboard.type("about the second")
    desk.press("Escape")
    desk.press("u")
    desk.moved_on(second)
    desk.press("f")
    expect(desk.page.locator("#flag-note")).to_have_value("")
    desk.page.keyboard.type("about the first")
    desk.press("Tab")
    desk.press("Enter")
    expect(desk.page.get_by_text("Flagged.")).to_be_visible()
    desk.looked().press("4")
    desk.shows(second)
    desk.press("f")
    expect(desk.page.locator("#flag-note")).to_have_value("about the second")
    desk.saved()
    assert Flag.objects.get().comparison_id == flagged


def test_a_note_is_about_what_was_shown_when_it_was_begun(desk: Desk) -> None:
    first = desk.token
    desk.press("f")
    other = desk.page.context.new_page()
    other.goto(JUDGE)
    Desk(other).shows(first).looked().judge("4")
    desk.moved_on(first)
    desk.page.locator("#flag-note").press_sequentially("about the second")
    desk.press("Tab")
    desk.press("Enter")
    expect(desk.page.get_by_text("Flagged.")).to_be_visible()
    assert Flag.objects.get().comparison_id == comparison_of(desk.token)


def test_a_refused_note_waits_for_its_comparison(desk: Desk) -> None:
    first = desk.token
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    desk.intercept(hold, "**/judge/flag/")
    desk.page.evaluate("document.getElementById('flag-note').removeAttribute('maxlength')")
    desk.press("f")
    desk.page.fill("#flag-note", "x" * 20_000)
    desk.page.get_by_role("button", name="Flag for an admin").click()
    desk.wait_for("document.getElementById('saved').dataset.state === 'saving'")
    desk.looked().press("4")
    desk.moved_on(first)
    desk.wait_for("!Object.keys(localStorage).some(key => key.startsWith('whetstone:outbox:'))")
    desk.press("f")
    desk.page.keyboard.type("about the second")
    held.pop().continue_()
    expect(desk.page.locator("#notices .error")).to_have_count(1)
    expect(desk.page.locator("#flag-note")).to_have_value("about the second")
    desk.press("Escape")
    second = desk.token
    desk.saved().press("u")
    desk.moved_on(second)
    desk.press("f")
    expect(desk.page.locator("#flag-note")).to_have_value("x" * 20_000)


def test_a_refusal_stays_when_a_slow_verdict_is_saved(desk: Desk) -> None:
    first = desk.token
    held: list[Route] = []
    desk.intercept(lambda route: held.append(route) if route.request.method == "POST" else route.continue_())
    desk.page.evaluate("document.getElementById('flag-note').removeAttribute('maxlength')")
    desk.press("f")
    desk.page.fill("#flag-note", "x" * 20_000)
    desk.press("Escape")
    desk.looked().press("4")
    desk.moved_on(first)
    desk.wait_until(lambda: bool(held))
    desk.press("f")
    desk.page.fill("#flag-note", "y" * 20_000)
    desk.page.get_by_role("button", name="Flag for an admin").click()
    refusal = desk.page.locator("#notices .error")
    expect(refusal).to_have_count(1)
    held.pop().continue_()
    desk.saved()
    expect(refusal).to_have_count(1)
    desk.page.fill("#flag-note", "shorter")
    desk.page.get_by_role("button", name="Flag for an admin").click()
    expect(desk.page.get_by_text("Flagged.")).to_be_visible()
    expect(refusal).to_have_count(0)


def test_flags_refused_for_now_say_so_until_one_is_taken(desk: Desk) -> None:
    first = desk.token
    held: list[Route] = []
    desk.intercept(lambda route: held.append(route) if route.request.method == "POST" else route.continue_())
    refuse = {"status": 403, "body": "<div data-notice><span>Not allowed for now.</span></div>"}
    is_refusing = True
    desk.page.route(
        "**/judge/flag/", lambda route: route.fulfill(**refuse) if is_refusing else route.continue_()
    )
    desk.press("4")
    desk.moved_on(first)
    desk.wait_until(lambda: bool(held))
    flag(desk, "names its model")
    refusal = desk.page.get_by_text("Not allowed for now.")
    expect(refusal).to_be_visible()
    held.pop().continue_()
    desk.wait_for("!Object.keys(localStorage).some(key => key.startsWith('whetstone:outbox:'))")
    expect(refusal).to_be_visible()
    expect(desk.page.locator("#discard")).to_be_visible()  # the flag waits, and is refused
    is_refusing = False
    desk.saved()
    expect(refusal).to_have_count(0)
