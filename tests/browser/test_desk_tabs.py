"""The desk in several tabs, by several people in one browser, and on several devices: nothing lost or mixed up."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from annotate.models import Claim, Judgment, stored_aspects
from tests.browser.desk import JUDGE, Desk, ask_for_notes


def another_tab(desk: Desk) -> Desk:
    tab = Desk(desk.page.context.new_page())
    tab.page.goto(JUDGE)
    return tab


def drafts_kept(desk: Desk) -> int:
    return int(
        desk.page.evaluate(
            "Object.keys(localStorage).filter(key => key.startsWith('whetstone:draft:')).length"
        )
    )


@pytest.fixture
def notes(project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]) -> Desk:
    """Let the desk ask for a rationale."""
    ask_for_notes(project)
    make_comparisons(3)
    return open_desk().ready()


# --- Tabs ------------------------------------------------------------------------------------------------------------


def test_two_tabs_agree(desk: Desk) -> None:
    other = another_tab(desk).ready()
    assert other.token == desk.token
    desk.judge("4")
    other.shows(desk.token)
    expect(other.page.locator("#tally")).to_have_text("1")
    other.looked().judge("1")
    desk.shows(other.token)
    expect(desk.page.locator("#tally")).to_have_text("2")
    assert Judgment.objects.count() == 2
    assert Claim.objects.filter(state="live").count() == 1


def test_notes_go_on_where_they_were_typed_last(notes: Desk) -> None:
    other = another_tab(notes).ready()
    notes.page.fill("#rationale", "first words")
    expect(other.page.locator("#rationale")).to_have_value("first words")
    other.page.fill("#rationale", "first words, and more")
    expect(notes.page.locator("#rationale")).to_be_focused()
    expect(notes.page.locator("#rationale")).to_have_value("first words, and more")
    token = notes.token
    notes.page.locator(".verdict").first.click()
    notes.moved_on(token).saved()
    assert Judgment.objects.get().rationale == "first words, and more"


def test_a_tab_that_is_sending_keeps_another_tabs_verdict(desk: Desk) -> None:
    other = another_tab(desk).ready()
    held: list[Route] = []
    desk.intercept(
        lambda route: (
            held.append(route) if route.request.method == "POST" and not held else route.continue_()
        ),
    )
    other.intercept(lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    second = other.ahead
    desk.press("1")
    desk.wait_for("document.getElementById('saved').dataset.state === 'saving'")
    other.press("1")
    other.looked().press("8")
    # Two of its own, one of the first tab.
    other.wait_for("document.getElementById('saved').innerText.includes('3')")
    other.page.close()
    held[0].continue_()
    desk.saved()
    assert str(Judgment.objects.latest("pk").token) == second
    assert Judgment.objects.latest("pk").strength == 3
    assert Judgment.objects.count() == 2


def test_a_verdict_is_sent_by_the_tab_that_is_left(desk: Desk) -> None:
    other = another_tab(desk).ready()
    given = other.token
    other.intercept(lambda route: route.abort())
    other.press("1")
    other.wait_for("document.getElementById('saved').dataset.state === 'waiting'")
    other.page.close()
    desk.saved()
    assert str(Judgment.objects.get().token) == given


def test_closing_one_of_two_tabs_leaves_the_other_its_work(desk: Desk) -> None:
    other = another_tab(desk).ready()
    live = Claim.objects.filter(state="live", token=desk.token)
    for tab in (desk, other):  # each looks after its claim once after it was opened
        tab.wait_for("performance.getEntriesByType('resource').some(({ name }) => name.endsWith('/renew/'))")
    other.page.goto("/p/reviews/me/")
    desk.wait_until(lambda: not live.exists(), "the one has given it back")
    desk.wait_until(live.exists, "the other has taken it back")


def test_where_the_browser_keeps_nothing_the_page_still_sends(
    make_comparisons: Any, teammate: Any, open_context: Any
) -> None:
    make_comparisons(3)
    context = open_context(teammate)
    context.add_init_script("Storage.prototype.setItem = () => { throw new Error('refused') }")
    desk = Desk(context.new_page())
    desk.page.goto(JUDGE)
    desk.ready().judge("1")
    assert Judgment.objects.count() == 1


# --- People ----------------------------------------------------------------------------------------------------------


def sign_in(page: Page, username: str) -> None:
    page.goto("/login/")
    page.fill("[name=username]", username)
    page.fill("[name=password]", "password")
    page.get_by_role("main").get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(lambda url: "/login/" not in url)


def test_a_verdict_on_another_users_page_waits_for_its_user(desk: Desk, owner: Any, teammate: Any) -> None:
    given = desk.token
    # A request on its way during a sign-in would undo the sign-in: Django forgets the old session's cookie.
    desk.intercept(lambda route: route.abort(), "**/renew/")
    tab = desk.page.context.new_page()
    sign_in(tab, "olive")
    desk.press("2")
    expect(desk.page.get_by_text("olive is signed in now")).to_be_visible()
    assert desk.status == "waiting"
    assert not Judgment.objects.exists()
    # Sent with olive's cookie while toni signs in, it would be anonymous, and lead to the sign-in page.
    desk.intercept(lambda route: route.abort())
    sign_in(tab, "toni")
    desk.page.unroute("**/judge/")
    desk.saved()
    judgment = Judgment.objects.get()
    assert (str(judgment.token), judgment.annotator) == (given, teammate)
    assert not Claim.objects.exclude(annotator=teammate).exists()


# --- Drafts ----------------------------------------------------------------------------------------------------------


def test_a_draft_survives_a_reload_and_reaches_other_browsers(notes: Desk) -> None:
    sides = notes.page.locator(".pane-body").all_text_contents()
    notes.page.fill("#rationale", "half a thought")
    notes.page.get_by_label("Shorter").check(force=True)
    notes.page.get_by_label("A is slightly better").first.check()
    notes.saved()
    notes.page.evaluate("localStorage.clear()")
    notes.page.reload()
    expect(notes.page.locator("#rationale")).to_have_value("half a thought")
    expect(notes.page.get_by_label("Shorter")).to_be_checked()
    expect(notes.page.get_by_label("A is slightly better").first).to_be_checked()
    assert notes.page.locator(".pane-body").all_text_contents() == sides


def test_a_draft_is_saved_only_once_the_server_has_it(notes: Desk) -> None:
    notes.page.context.set_offline(True)
    notes.page.evaluate(
        "() => { const saved = document.getElementById('saved'); window.states = [];"
        " new MutationObserver(() => states.push(saved.dataset.state))"
        ".observe(saved, { attributeFilter: ['data-state'] }) }"
    )
    notes.page.fill("#rationale", "half a thought")
    notes.wait_for("document.getElementById('saved').dataset.state === 'waiting'")
    assert notes.page.evaluate("states")[0] == "saving"
    assert "saved" not in notes.page.evaluate("states")
    assert drafts_kept(notes) == 1
    notes.page.context.set_offline(False)
    notes.saved()
    assert Claim.objects.get(state="live").draft["rationale"] == "half a thought"
    assert drafts_kept(notes) == 0


def test_the_latest_text_wins_over_what_was_sent_before(notes: Desk) -> None:
    notes.page.fill("#rationale", "on the laptop")
    notes.saved()
    Claim.objects.filter(state="live").update(draft={"rationale": "later, on the phone"})
    notes.page.reload()
    expect(notes.page.locator("#rationale")).to_have_value("later, on the phone")


def test_what_was_not_sent_is_there_after_a_reload_and_is_sent(notes: Desk) -> None:
    notes.intercept(lambda route: route.abort(), "**/draft/")
    notes.page.fill("#rationale", "never sent")
    notes.wait_for("document.getElementById('saved').dataset.state === 'waiting'")
    notes.page.unroute("**/draft/")
    notes.page.reload()
    expect(notes.page.locator("#rationale")).to_have_value("never sent")
    notes.saved()
    assert Claim.objects.get(token=notes.token).draft["rationale"] == "never sent"


def test_an_older_draft_does_not_undo_what_was_written(notes: Desk) -> None:
    old: list[tuple[Route, APIResponse]] = []
    notes.page.route("**/judge/*/?view=raw", lambda route: old.append((route, route.fetch())))
    notes.page.get_by_role("button", name="Raw").click()
    notes.wait_until(lambda: bool(old), "the view is fetched")
    notes.page.fill("#rationale", "written meanwhile")
    notes.saved()
    old[0][0].fulfill(response=old[0][1])
    expect(notes.page.locator("#comparison")).to_have_attribute("data-view", "raw")
    expect(notes.page.locator("#rationale")).to_have_value("written meanwhile")


def test_a_local_draft_finds_its_criterion_by_key(notes: Desk, project: Any) -> None:
    notes.intercept(lambda route: route.abort(), "**/draft/")
    notes.page.get_by_label("A is slightly better").first.check()
    notes.wait_for("document.getElementById('saved').dataset.state === 'waiting'")
    project.criteria = stored_aspects(["Honest"])
    project.save()
    notes.page.reload()
    expect(notes.page.locator("#notes legend").first).to_have_text("Honest")
    expect(notes.page.locator(".criterion input:checked")).to_have_count(0)
