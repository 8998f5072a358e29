"""The desk and the network: ahead of it, without it, and nothing lost or recorded twice."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from annotate.models import Claim, Judgment, stored_aspects
from tests.browser.desk import JUDGE, Desk, ask_for_notes


def test_the_next_comparison_shows_before_the_server_answers(desk: Desk) -> None:
    held: list[Route] = []
    desk.intercept(lambda route: held.append(route) if route.request.method == "POST" else route.continue_())
    ahead = desk.ahead
    desk.press("2")
    assert desk.token == ahead  # at once: nothing was awaited
    desk.wait_for("document.getElementById('saved').dataset.state === 'saving'")
    assert not Judgment.objects.exists()
    desk.page.wait_for_timeout(50)
    held.pop().continue_()
    desk.saved()
    assert Judgment.objects.count() == 1
    assert desk.token == ahead


def test_verdicts_faster_than_the_network_all_arrive_in_order(desk: Desk) -> None:
    held: list[Route] = []
    slow = True

    def hold(route: Route) -> None:
        if slow and route.request.method == "POST":
            held.append(route)
        else:
            route.continue_()

    desk.intercept(hold)
    first, second = desk.token, desk.ahead
    desk.press("1")
    desk.looked().press("8")
    desk.wait_for("document.getElementById('saved').dataset.state === 'saving'")
    slow = False
    held.pop().continue_()
    desk.saved()
    assert [str(judgment.token) for judgment in Judgment.objects.order_by("pk")] == [first, second]
    assert desk.token not in (first, second, "")


def test_without_a_connection_verdicts_wait_and_are_sent_once(desk: Desk) -> None:
    first, second = desk.token, desk.ahead
    desk.page.context.set_offline(True)
    desk.press("1")
    desk.looked().press("8")
    desk.wait_for("document.getElementById('saved').dataset.state === 'waiting'")
    expect(desk.page.locator("#saved")).to_contain_text("2")
    assert not Judgment.objects.exists()
    desk.page.context.set_offline(False)
    desk.saved()
    assert [str(judgment.token) for judgment in Judgment.objects.order_by("pk")] == [first, second]
    desk.moved_on(second).ready().judge("4")
    assert Judgment.objects.count() == 3


def test_what_waits_survives_closing_the_tab(desk: Desk) -> None:
    given = desk.token
    desk.intercept(lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    desk.press("1")
    desk.wait_for("document.getElementById('saved').dataset.state === 'waiting'")
    context = desk.page.context
    desk.page.close()
    assert not Judgment.objects.exists()
    page = context.new_page()
    page.goto(JUDGE)
    Desk(page).moved_on(given).saved()
    assert str(Judgment.objects.get().token) == given


def test_an_answer_lost_on_the_way_is_recorded_once(desk: Desk) -> None:
    lost = 0

    def lose_the_first(route: Route) -> None:
        nonlocal lost
        if route.request.method != "POST" or lost:
            return route.continue_()
        lost += 1
        route.fetch()  # it arrives, and its answer does not
        return route.abort()

    desk.intercept(lose_the_first)
    desk.press("1")
    desk.wait_for("document.getElementById('saved').dataset.state === 'waiting'")
    desk.saved()
    assert lost == 1
    assert Judgment.objects.count() == 1


def test_a_failing_server_is_tried_again(desk: Desk) -> None:
    failures = 0

    def fail_once(route: Route) -> None:
        nonlocal failures
        if route.request.method == "POST" and not failures:
            failures += 1
            route.fulfill(status=503, body="<h1>Bad gateway of a proxy</h1>")
        else:
            route.continue_()

    desk.intercept(fail_once)
    desk.press("1")
    desk.wait_for("document.getElementById('saved').dataset.state === 'waiting'")
    desk.saved()
    assert Judgment.objects.count() == 1
    expect(desk.page.get_by_text("Bad gateway")).to_have_count(0)


def test_an_expired_sign_in_returns_to_the_comparison_and_draft(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    make_comparisons(3)
    desk = open_desk().ready()
    before, sides = desk.token, desk.page.locator(".pane-body").all_text_contents()
    desk.page.context.clear_cookies()
    desk.page.fill("#rationale", "written after the session ended")
    desk.page.wait_for_timeout(1_000)  # the draft's own request is refused; the page stays
    assert desk.token == before
    desk.press("Escape")
    desk.press("u")  # an act: leads to the sign-in page
    desk.page.wait_for_url("**/login/?next=**")
    desk.page.fill("[name=username]", "toni")
    desk.page.fill("[name=password]", "password")
    desk.page.get_by_role("main").get_by_role("button", name="Sign in", exact=True).click()
    desk.page.wait_for_url("**/judge/")
    assert desk.page.locator(".pane-body").all_text_contents() == sides
    expect(desk.page.locator("#rationale")).to_have_value("written after the session ended")


def test_a_verdict_after_an_expired_sign_in_is_sent_later(desk: Desk) -> None:
    given = desk.token
    desk.page.context.clear_cookies()
    desk.press("2")
    desk.page.wait_for_url("**/login/?next=**")
    desk.page.fill("[name=username]", "toni")
    desk.page.fill("[name=password]", "password")
    desk.page.get_by_role("main").get_by_role("button", name="Sign in", exact=True).click()
    desk.page.wait_for_url("**/judge/")
    desk.saved()
    desk.wait_for("!document.querySelector('#comparison[aria-busy]')")
    assert str(Judgment.objects.get().token) == given
    assert desk.token != given


def test_a_verdict_refused_for_now_stays_in_the_browser(desk: Desk, teammate: Any) -> None:
    given = desk.token
    teammate.memberships.update(role="researcher")
    desk.press("2")
    expect(
        desk.page.get_by_text("Your role in this project (Researcher) does not allow this.")
    ).to_be_visible()
    assert desk.status == "waiting"
    teammate.memberships.update(role="annotator")
    desk.saved()
    assert str(Judgment.objects.get().token) == given


def test_a_form_token_older_than_the_sign_in_is_renewed(desk: Desk) -> None:
    session = [cookie for cookie in desk.page.context.cookies() if cookie["name"] == "sessionid"]
    desk.page.context.clear_cookies()
    desk.page.context.add_cookies(session)  # type: ignore[arg-type]
    desk.judge("2")
    assert Judgment.objects.count() == 1


def test_at_the_end_the_page_says_so_and_looks_again_by_itself(
    make_comparisons: Any, open_page: Callable[..., Page], teammate: Any, open_context: Any
) -> None:
    make_comparisons(1)
    page = open_context(teammate).new_page()
    page.clock.install()
    page.goto(JUDGE)
    desk = Desk(page)
    page.clock.run_for(1_000)
    desk.press("4")
    expect(page.get_by_role("heading", name="All judged")).to_be_visible()
    expect(page.get_by_role("button", name="Tie")).to_be_disabled()
    make_comparisons(1)
    page.clock.run_for(21_000)
    expect(page.locator("#comparison[data-token]")).to_be_visible()
    expect(page.get_by_role("button", name="Tie")).to_be_enabled()
    page.clock.run_for(1_000)
    desk.press("u")
    expect(page.locator(".verdict.was")).to_have_attribute("value", "tie")


def test_the_heartbeat_keeps_the_claim_of_somebody_who_reads(
    make_comparisons: Any, teammate: Any, open_context: Any
) -> None:
    make_comparisons(2)
    page = open_context(teammate).new_page()
    page.clock.install()
    page.goto(JUDGE)
    page.clock.run_for(2_000)
    page.mouse.move(300, 300)
    with page.expect_request("**/judge/renew/"):
        page.clock.run_for(61_000)


def test_a_comparison_lost_to_others_is_not_said_to_be_judged(desk: Desk) -> None:
    before = desk.token
    Claim.objects.get(token=before).comparison.withdraw()
    Claim.objects.filter(token=before).update(state="expired")
    desk.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # back from another window
    expect(desk.page.get_by_text("judged in another window, or its time ran out")).to_be_visible()
    desk.moved_on(before)


def test_leaving_the_page_gives_the_comparison_back(desk: Desk) -> None:
    desk.page.goto("/p/reviews/me/")
    held = Claim.objects.filter(state__in=["live", "next"])
    for _ in range(100):
        if not held.exists():
            return
        desk.page.wait_for_timeout(50)
    pytest.fail("The comparison is still held.")


def test_a_verdicts_refusal_outlasts_later_verdicts_answers(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    make_comparisons(4)
    desk = open_desk().ready()
    held: list[Route] = []
    desk.intercept(lambda route: held.append(route) if route.request.method == "POST" else route.continue_())
    refused = desk.token
    desk.page.get_by_label("A is slightly better").first.check()  # on the one criterion
    project.criteria = stored_aspects(["Honest"])
    project.save()
    desk.press("Escape")
    desk.press("2")
    desk.moved_on(refused).looked().press("8")
    desk.wait_until(lambda: bool(held))
    held.pop().continue_()
    refusal = desk.page.get_by_text("This project does not know the criterion “helpful”")
    expect(refusal).to_be_visible()
    desk.wait_until(lambda: bool(held))
    held.pop().continue_()
    desk.saved()
    expect(refusal).to_be_visible()
    desk.page.unroute("**/judge/")
    desk.shows(refused).looked().judge("2")
    expect(refusal).to_have_count(0)


def test_a_refusal_of_what_is_gone_ends_with_the_next_verdict(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    make_comparisons(4)
    desk = open_desk().ready()
    lost = desk.token
    desk.page.get_by_label("A is slightly better").first.check()  # on the one criterion
    project.criteria = stored_aspects(["Honest"])
    project.save()
    Claim.objects.get(token=lost).comparison.withdraw()
    Claim.objects.filter(token=lost).update(state="expired")
    desk.press("Escape")
    desk.press("2")
    refusal = desk.page.get_by_text("This project does not know the criterion “helpful”")
    expect(refusal).to_be_visible()
    desk.moved_on(lost).saved().looked().judge("2")
    expect(refusal).to_have_count(0)


def test_a_view_that_failed_says_so_until_its_annotator_acts(desk: Desk) -> None:
    first = desk.token
    held: list[Route] = []
    desk.intercept(lambda route: held.append(route) if route.request.method == "POST" else route.continue_())
    desk.page.route("**/judge/*/?view=*", lambda route: route.abort())
    desk.press("4")
    desk.moved_on(first)
    desk.wait_until(lambda: bool(held))
    desk.press("d")
    failure = desk.page.get_by_text("The server cannot be reached.")
    expect(failure).to_be_visible()
    held.pop().continue_()
    desk.saved()
    expect(failure).to_be_visible()
    desk.page.unroute("**/judge/")
    desk.page.unroute("**/judge/*/?view=*")
    desk.press("d")
    expect(failure).to_have_count(0)
