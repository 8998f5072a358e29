"""Judging in a real browser: by keyboard, ahead of the network, and without losing anything."""

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from annotate.models import Claim, Comparison, Completion, Flag, Judgment, Prompt, stored_aspects
from tests.browser.desk import JUDGE, Desk, ask_for_notes


def test_each_key_gives_its_verdict(desk: Desk) -> None:
    expected = [
        ("1", "prefer", 3),
        ("2", "prefer", 2),
        ("3", "prefer", 1),
        ("4", "tie", None),
        ("5", "both_bad", None),
    ]
    for key, _, _ in [*expected, ("7", "", 0)]:
        desk.judge(key)
    judged = list(Judgment.objects.order_by("pk"))
    assert [(judgment.verdict, judgment.strength) for judgment in judged[:5]] == [
        said[1:] for said in expected
    ]
    assert judged[0].preferred_id == judged[0].left_id
    assert judged[5].preferred_id == judged[5].right_id
    expect(desk.page.locator("#tally")).to_have_text("6")


def test_a_key_held_down_judges_once(desk: Desk) -> None:
    desk.page.keyboard.down("2")
    for _ in range(5):
        desk.looked()
        desk.page.keyboard.down("2")  # what a held key sends
    desk.page.keyboard.up("2")
    desk.saved()
    assert Judgment.objects.count() == 1


def test_the_number_pad_judges_only_with_num_lock(desk: Desk) -> None:
    """In Playwright's layout, Shift acts as Num Lock: without it the pad's 2 is the arrow down."""
    for key in ("Numpad2", "Numpad8", "Numpad5", "Numpad1"):
        desk.press(key)
    desk.page.wait_for_timeout(100)
    assert desk.status == "saved"
    assert not Judgment.objects.exists()
    desk.judge("Shift+Numpad2")
    assert Judgment.objects.get().strength == 2


def test_a_double_click_judges_once_and_focus_stays(desk: Desk) -> None:
    button = desk.page.get_by_role("button", name="A is better", exact=True)
    button.dblclick()
    desk.saved()
    assert Judgment.objects.count() == 1
    expect(button).to_be_focused()


def test_nothing_fires_while_typing(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    make_comparisons(3)
    desk = open_desk().ready()
    before = desk.token
    desk.press("n")
    desk.page.keyboard.type("12345678 sufd")
    desk.press("Enter")
    expect(desk.page.locator("#rationale")).to_have_value("12345678 sufd\n")
    assert desk.token == before
    assert not Judgment.objects.exists()
    desk.press("Escape")
    desk.judge("2")
    assert Judgment.objects.get().rationale == "12345678 sufd"


def test_enter_on_a_choice_gives_no_verdict(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    make_comparisons(2)
    desk = open_desk().ready()
    desk.page.get_by_label("Truer").focus()
    desk.press("Space")
    desk.press("Enter")
    desk.page.wait_for_timeout(200)
    assert not Judgment.objects.exists()
    desk.judge("6")
    assert Judgment.objects.get().reasons == ["truer"]


def test_undo_and_redo_through_the_session(desk: Desk) -> None:
    first = desk.token
    desk.judge("3").judge("4")
    third = desk.token
    desk.press("u")
    desk.moved_on(third)
    second = desk.token
    desk.press("u")
    desk.moved_on(second)
    expect(desk.page.locator(".verdict.was")).to_have_attribute("value", "a1")  # what was said is shown
    expect(desk.page.locator("#tally")).to_have_text("0")
    assert not Judgment.objects.filter(superseded_at=None).exists()
    again = desk.token
    assert Claim.objects.get(token=again).comparison_id == Judgment.objects.get(token=first).comparison_id
    desk.press("r")
    desk.moved_on(again)
    desk.looked().judge("8")
    said = Judgment.objects.filter(superseded_at=None).values_list("verdict", "strength")
    assert sorted(said) == [("prefer", 1), ("prefer", 3)]


def test_the_page_counts_on_and_an_undo_names_its_verdict(desk: Desk) -> None:
    left, undone = desk.page.locator("#left"), desk.page.locator("#undone")
    expect(left).to_have_text("8")
    desk.judge("3").judge("s")
    expect(left).to_have_text("6")
    expect(undone).to_have_count(0)
    for key, said in (("u", "Skip"), ("u", "A is slightly better")):
        before = desk.token
        desk.press(key)
        desk.moved_on(before)
        expect(undone).to_have_text(f"Undone: you said “{said}”. Judge again.")
        expect(desk.page.locator("#announcer")).to_contain_text(said)
    expect(left).to_have_text("8")
    desk.looked().judge("8")
    expect(left).to_have_text("7")
    desk.page.reload()
    expect(left).to_have_text("7")


def test_undo_and_redo_look_possible_where_they_are(desk: Desk) -> None:
    undo, redo = desk.page.locator("#undo"), desk.page.locator("#redo")

    def looks() -> tuple[bool, bool]:
        undo_off, redo_off = (button.get_attribute("aria-disabled") == "true" for button in (undo, redo))
        return not undo_off, not redo_off

    assert looks() == (False, False)
    desk.judge("3")
    assert looks() == (True, False)
    before = desk.token
    desk.press("u")
    desk.moved_on(before)
    assert looks() == (True, True)
    desk.page.reload()
    assert looks() == (False, True)
    desk.ready().judge("3")
    assert looks() == (True, False)
    desk.press("r")
    expect(desk.page.locator("#notices .info span")).to_have_text("There is nothing to redo.")


def test_undoing_a_skip_does_not_change_the_count_of_verdicts(desk: Desk) -> None:
    tally = desk.page.locator("#tally")
    desk.judge("4").judge("s")
    expect(tally).to_have_text("1")
    for key in ("u", "r"):
        before = desk.token
        desk.press(key)
        desk.moved_on(before)
        expect(tally).to_have_text("1")


def test_writing_after_an_undo_keeps_the_verdict_marked(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    make_comparisons(3)
    desk = open_desk().ready().judge("8")
    before = desk.token
    desk.press("u")
    desk.moved_on(before)
    desk.page.fill("#rationale", "on second thoughts")
    desk.saved().page.reload()
    expect(desk.page.locator("#rationale")).to_have_value("on second thoughts")
    expect(desk.page.locator(".verdict.was")).to_have_attribute("value", "b3")


def test_a_verdict_by_a_removed_criterion_is_kept(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    make_comparisons(3)
    desk = open_desk().ready()
    desk.page.get_by_label("A is slightly better").first.check()  # on the one criterion
    project.criteria[0]["removed"] = True
    project.save()
    desk.judge("2")
    assert Judgment.objects.get().criteria["helpful"]["strength"] == 1


def test_a_refused_verdict_is_uncounted_and_stays_in_the_form(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    make_comparisons(3)
    desk = open_desk().ready()
    given = desk.token
    desk.page.fill("#rationale", "It names the film.")
    desk.page.get_by_label("A is slightly better").first.check()  # on the one criterion
    project.criteria = stored_aspects(["Honest"])
    project.save()
    desk.press("Escape")
    desk.press("2")
    expect(desk.page.get_by_text("This project does not know the criterion “helpful”")).to_be_visible()
    desk.shows(given)
    expect(desk.page.locator("#tally")).to_have_text("0")
    expect(desk.page.locator("#rationale")).to_have_value("It names the film.")
    expect(desk.page.locator(".verdict.was")).to_have_attribute("value", "a2")
    expect(desk.page.locator("#notes legend").first).to_have_text("Honest")
    assert not Judgment.objects.exists()
    desk.saved().looked().judge("2")
    judgment = Judgment.objects.get()
    assert (str(judgment.token), judgment.rationale) == (given, "It names the film.")
    assert judgment.criteria == {}


def test_a_chosen_key_replaces_the_old_one(
    open_page: Callable[..., Page], teammate: Any, make_comparisons: Any
) -> None:
    make_comparisons(3)
    page = open_page(teammate, "/keys/")
    page.get_by_label("A is much better").press("q")
    page.get_by_label("A is better", exact=True).press("ArrowLeft")
    page.get_by_role("button", name="Save keys").click()
    page.goto(JUDGE)
    desk = Desk(page).ready()
    desk.press("1")
    desk.page.wait_for_timeout(200)
    assert not Judgment.objects.exists()
    desk.judge("q").judge("ArrowLeft")
    assert list(Judgment.objects.order_by("pk").values_list("strength", flat=True)) == [3, 2]


def test_the_sheet_lists_every_key_and_lets_none_through(desk: Desk) -> None:
    desk.press("?")
    sheet = desk.page.get_by_role("dialog", name="Keys")
    expect(sheet).to_be_visible()
    for label in ("A is much better", "Skip", "Undo", "Flag for an admin"):
        expect(sheet.get_by_text(label, exact=True)).to_be_visible()
    desk.press("1")
    desk.page.wait_for_timeout(200)
    assert not Judgment.objects.exists()
    desk.press("Escape")
    expect(sheet).to_be_hidden()


def test_guidelines_are_at_hand(project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]) -> None:
    project.guidelines = "Prefer **truth** to style."
    project.save()
    make_comparisons(2)
    desk = open_desk()
    desk.page.get_by_role("button", name="Start judging").click()
    desk.ready()
    for _ in range(2):
        desk.press("g")
        expect(desk.page.get_by_role("dialog", name="Guidelines").get_by_text("truth")).to_be_visible()
        desk.press("Escape")


def test_enter_starts_judging_after_the_guidelines(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    project.guidelines = "Prefer **truth** to style."
    project.save()
    make_comparisons(2)
    desk = open_desk()
    keys = desk.page.get_by_role("link", name="Keys")
    keys.focus()
    desk.press("Enter")  # presses what has the focus
    desk.press("Escape")
    expect(desk.page.get_by_role("button", name="Start judging")).to_be_visible()
    desk.page.locator("#main").focus()
    desk.press("Enter")
    expect(desk.page.get_by_role("heading", name="Prompt")).to_be_visible()


def test_a_flag_is_raised_by_keyboard_and_the_comparison_stays(desk: Desk) -> None:
    before = desk.token
    desk.press("f")
    desk.page.keyboard.type("1 names its model")
    desk.press("Tab")
    desk.press("Enter")
    expect(desk.page.get_by_text("Flagged.")).to_be_visible()
    assert Flag.objects.get().note == "1 names its model"
    assert desk.token == before
    desk.judge("s")
    assert Judgment.objects.get().verdict == "skip"
    expect(desk.page.get_by_text("Flagged.")).to_have_count(0)  # it spoke of the comparison that is gone


def test_an_undo_takes_away_what_was_said_of_another_comparison(desk: Desk) -> None:
    desk.judge("4")
    desk.press("f")
    desk.press("Tab")
    desk.press("Enter")
    expect(desk.page.get_by_text("Flagged.")).to_be_visible()
    before = desk.token
    desk.press("u")
    desk.page.wait_for_function(
        "before => document.querySelector('#comparison').dataset.token !== before", arg=before
    )
    expect(desk.page.get_by_text("Flagged.")).to_have_count(0)


def test_the_same_key_shows_and_leaves_raw_text_and_differences(desk: Desk) -> None:
    comparison = desk.page.locator("#comparison")
    for key, view in (("t", "raw"), ("d", "differences")):
        desk.press(key)
        expect(comparison).to_have_attribute("data-view", view)
        desk.press(key)
        expect(comparison).to_have_attribute("data-view", "rendered")
    desk.looked().judge("4")
    assert Judgment.objects.count() == 1


def long_comparison(project: Any, texts: tuple[str, str]) -> None:
    prompt = Prompt(project=project)
    prompt.set_content(f"Prompt of {len(texts[0])}")
    prompt.save()
    pair = [
        Completion.objects.create(prompt=prompt, policy=project.current_policy, text=text) for text in texts
    ]
    Comparison.objects.create(project=project, prompt=prompt, first=pair[0], second=pair[1])


def test_long_texts_scroll_together_or_apart(project: Any, open_desk: Callable[..., Desk]) -> None:
    long_comparison(project, ("one\n\n" * 300, "two\n\n" * 300))
    desk = open_desk()
    positions = "[...document.querySelectorAll('.panes .pane-body')].map(pane => Math.round(pane.scrollTop))"

    def wheel() -> tuple[int, int]:
        desk.page.hover("#pane-a")
        desk.page.mouse.wheel(0, 400)
        desk.page.wait_for_timeout(200)
        a, b = desk.page.evaluate(positions)
        return a, b

    a, b = wheel()
    assert a == b > 0
    desk.press("l")
    apart, still = wheel()
    assert apart > a
    assert still == b
    desk.press("j")
    desk.page.wait_for_timeout(100)
    assert desk.page.evaluate(positions)[1] > b


def test_the_strip_does_not_move_whatever_is_compared(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    long_comparison(project, ("long\n\n" * 400, "short"))
    long_comparison(project, ("a" * 5_000, "b"))
    make_comparisons(2)
    desk = open_desk().ready()
    boxes = set()
    for key in "1234":
        box = desk.page.get_by_role("button", name="Tie").bounding_box()
        assert box is not None
        boxes.add((box["x"], box["y"]))
        panes = [pane.bounding_box() for pane in desk.page.locator(".panes .pane").all()]
        assert panes[0]
        assert panes[1]
        assert panes[0]["height"] == panes[1]["height"]  # length gives no hint
        prompt = desk.page.locator("#prompt-body").bounding_box()
        assert prompt is not None
        assert prompt["height"] > 20
        assert prompt["y"] + prompt["height"] <= panes[0]["y"]
        desk.press(key)
        desk.saved().looked()
    assert len(boxes) == 1


def test_a_screen_reader_hears_the_next_comparison_and_no_more(desk: Desk) -> None:
    desk.intercept(lambda route: None)  # no answer yet: nothing is saved
    desk.press("4")
    expect(desk.page.locator("#announcer")).to_have_text("Next comparison.")
    desk.page.unroute_all(behavior="ignoreErrors")


def test_without_javascript_everything_is_a_plain_form(
    make_comparisons: Any, teammate: Any, open_context: Any
) -> None:
    make_comparisons(3)
    page = open_context(teammate, java_script_enabled=False).new_page()
    page.goto(JUDGE)
    page.get_by_role("button", name="B is better", exact=True).click()
    page.get_by_role("button", name="Tie").click()
    assert list(Judgment.objects.order_by("pk").values_list("verdict", flat=True)) == ["prefer", "tie"]
    page.get_by_role("button", name="Undo").click()
    assert Judgment.objects.filter(superseded_at=None).count() == 1
    page.get_by_role("button", name="Differences").click()
    assert page.locator("mark").count() > 0
    page.get_by_role("link", name="Guidelines").first.click()
    expect(page.get_by_role("heading", name="Guidelines", exact=True)).to_be_visible()
