"""Beside the verdict at the desk: criteria and reasons by key, notices, guidelines, and what cannot be sent."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from annotate.models import Claim, Judgment, stored_aspects
from annotate.projects import lifecycle
from tests.browser.accessibility import violations
from tests.browser.desk import JUDGE, Desk, ask_for_notes

PHONE: dict[str, Any] = {"width": 390, "height": 844, "has_touch": True, "is_mobile": True}


def test_a_redo_takes_the_notes_typed_just_before_it(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    make_comparisons(3)
    desk = open_desk().ready()
    desk.judge("4")
    before = desk.token
    desk.press("u")
    desk.moved_on(before)
    undone = desk.token
    desk.page.locator("#rationale").fill("Typed since.")
    desk.page.locator("#redo").click()
    desk.moved_on(undone)
    assert Judgment.objects.get(superseded_at=None).rationale == "Typed since."


# --- Criteria and reasons --------------------------------------------------------------------------------------------


def test_criteria_and_reasons_are_answered_by_keys(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    project.criteria = stored_aspects(["Helpful", "Honest"])
    project.save()
    make_comparisons(3)
    desk = open_desk().ready()
    before = desk.token
    desk.press("c")
    expect(desk.page.get_by_role("group", name="Helpful").locator(".key").first).to_be_visible()
    for key in "28121c":  # two criteria, both reasons, the first one taken back, out again
        desk.press(key)
    assert desk.token == before
    assert not Judgment.objects.exists()
    desk.judge("4")
    judgment = Judgment.objects.get()
    assert judgment.verdict == "tie"
    assert [said["strength"] for said in judgment.criteria.values()] == [2, 3]
    assert judgment.reasons == ["shorter"]


def test_a_criterion_chosen_by_mouse_leaves_the_keys_alone(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    make_comparisons(2)
    desk = open_desk().ready()
    desk.page.get_by_role("radio", name="Tie").check(force=True)
    desk.judge("2")
    judgment = Judgment.objects.get()
    assert (judgment.verdict, [said["verdict"] for said in judgment.criteria.values()]) == ("prefer", ["tie"])


def test_escape_leaves_a_criterion_unanswered(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    make_comparisons(2)
    desk = open_desk().ready()
    desk.press("c")
    desk.press("Escape")
    desk.judge("2")
    assert Judgment.objects.get().criteria == {}


def test_each_step_of_a_criterion_has_a_label(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    make_comparisons(1)
    steps = open_desk().page.get_by_role("group", name="Helpful").locator(".step > span")
    assert [step.inner_text().split("\n")[0].strip() for step in steps.all()] == [
        "A+++",
        "A++",
        "A+",
        "Tie",
        "Both bad",
        "B+",
        "B++",
        "B+++",
    ]


# --- Notices ---------------------------------------------------------------------------------------------------------


def flag_it(page: Page) -> None:
    page.locator("#flag > summary").click()
    page.fill("#flag-note", "Both are in Finnish.")
    page.get_by_role("button", name="Flag for an admin").click()
    expect(page.get_by_text("Flagged.")).to_be_visible()


@pytest.mark.parametrize("options", [{}, {"width": 1000}, PHONE], ids=["wide", "tablet", "phone"])
def test_a_notice_covers_no_completion_and_goes_away(
    make_comparisons: Any, open_context: Callable[..., Any], teammate: Any, options: dict[str, Any]
) -> None:
    make_comparisons(2)
    page = open_context(teammate, **options).new_page()
    page.clock.install()
    page.goto(JUDGE)
    page.clock.run_for(1_000)
    flag_it(page)
    notice = page.locator("#notices").bounding_box()
    assert notice
    for text in page.locator(".panes .pane, #prompt-body").all():
        box = text.bounding_box()
        assert box
        assert notice["y"] + notice["height"] <= box["y"] or notice["y"] >= box["y"] + box["height"]
    page.mouse.move(1, 1)
    page.clock.run_for(9_000)
    expect(page.get_by_text("Flagged.")).to_have_count(0)


def test_an_error_goes_once_it_no_longer_holds(desk: Desk, teammate: Any) -> None:
    teammate.memberships.update(role="researcher")
    desk.press("2")
    expect(desk.page.locator("#notices .error")).to_have_count(1)
    teammate.memberships.update(role="annotator")
    desk.saved()
    expect(desk.page.locator("#notices .error")).to_have_count(0)


# --- Guidelines ------------------------------------------------------------------------------------------------------


def test_new_guidelines_show_before_the_next_comparison(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    make_comparisons(8)
    desk = open_desk().ready()
    project.guidelines = "Prefer **truth** to style."
    project.save()
    desk.press("2")
    desk.saved().looked()
    expect(desk.page.locator("#comparison[data-token]")).to_be_visible()  # it was on screen already
    desk.press("4")
    expect(desk.page.get_by_role("heading", name="Before you judge: the guidelines")).to_be_visible()
    expect(desk.page.get_by_role("button", name="Tie")).to_be_disabled()
    assert not violations(desk.page)
    desk.saved().page.get_by_role("button", name="Start judging").click()
    desk.ready().judge("2")
    assert Judgment.objects.count() == 3


# --- What cannot be sent ---------------------------------------------------------------------------------------------


def test_a_removed_annotator_can_drop_what_was_not_sent(desk: Desk, teammate: Any) -> None:
    discard = desk.page.get_by_role("button", name="Discard")
    expect(discard).to_be_hidden()
    teammate.memberships.all().delete()
    desk.press("2")
    expect(desk.page.locator("#saved")).to_contain_text("Kept on this device: 1")
    asked: list[str] = []
    answers = iter([False, True])

    def answer(dialog: Any) -> None:
        asked.append(dialog.message)
        dialog.accept() if next(answers) else dialog.dismiss()

    desk.page.on("dialog", answer)
    discard.click()
    assert desk.status == "waiting"
    discard.click()
    desk.saved()
    assert len(asked) == 2
    expect(discard).to_be_hidden()
    assert desk.page.evaluate("Object.keys(localStorage).filter(key => key.includes(':outbox:')).length") == 0


def test_without_a_connection_nothing_is_offered_to_be_dropped(desk: Desk) -> None:
    desk.page.context.set_offline(True)
    desk.press("2")
    desk.wait_for("document.getElementById('saved').dataset.state === 'waiting'")
    expect(desk.page.get_by_role("button", name="Discard")).to_be_hidden()
    desk.page.context.set_offline(False)
    desk.saved()


def test_an_archived_project_takes_what_was_on_screen_alone(desk: Desk, project: Any) -> None:
    given, ahead = desk.token, desk.ahead
    lifecycle.archive(project)
    desk.press("2")
    expect(desk.page.get_by_role("heading", name="This project is archived")).to_be_visible()
    desk.saved()
    assert str(Judgment.objects.get().token) == given
    assert Claim.objects.get(token=ahead).state == "next"


def test_verdicts_given_offline_before_archiving_are_stored(desk: Desk, project: Any) -> None:
    first, second = desk.token, desk.ahead
    desk.page.context.set_offline(True)
    desk.press("1")
    desk.looked().press("8")
    desk.wait_for("document.getElementById('saved').dataset.state === 'waiting'")
    desk.looked()
    lifecycle.archive(project)
    desk.page.context.set_offline(False)
    desk.saved()
    assert [str(judgment.token) for judgment in Judgment.objects.order_by("pk")] == [first, second]


def test_a_verdict_given_after_archiving_is_kept_and_said(desk: Desk, project: Any) -> None:
    second = desk.ahead
    desk.page.context.set_offline(True)
    desk.press("1")
    lifecycle.archive(project)
    desk.looked().press("8")
    desk.wait_for("document.getElementById('saved').dataset.state === 'waiting'")
    desk.page.context.set_offline(False)
    expect(
        desk.page.get_by_text("This project was archived before you judged this comparison.")
    ).to_be_visible()
    assert Judgment.objects.count() == 1
    kept = desk.page.evaluate("Object.entries(localStorage).find(([key]) => key.includes(':draft:'))")
    assert kept[0].endswith(second)
    assert "verdict=b3" in kept[1]
