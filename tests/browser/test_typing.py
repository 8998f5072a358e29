"""Input methods, such as one for Japanese: what is pressed while they compose is theirs."""

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from annotate.models import Judgment
from tests.browser.desk import Desk, ask_for_notes


def compose(page: Page, *keys: str) -> None:
    """Compose にほ in the field that has the focus, and press keys as an input method passes them on."""
    session = page.context.new_cdp_session(page)
    session.send("Input.imeSetComposition", {"text": "にほ", "selectionStart": 2, "selectionEnd": 2})
    for key in keys:
        code = f"Digit{key}" if key.isdigit() else key
        pressed = {"type": "rawKeyDown", "key": key, "code": code, "windowsVirtualKeyCode": 229}
        session.send("Input.dispatchKeyEvent", pressed)


def test_keys_of_an_input_method_neither_judge_nor_leave(
    project: Any, make_comparisons: Any, open_desk: Callable[..., Desk]
) -> None:
    ask_for_notes(project)
    make_comparisons(3)
    desk = open_desk().ready()
    before = desk.token
    for opens, field in (("n", "rationale"), ("f", "flag-note")):
        desk.press(opens)
        compose(desk.page, "1", "s", "Enter", "Escape")
        expect(desk.page.locator(f"#{field}")).to_be_focused()
        desk.page.keyboard.insert_text("日本語")
        desk.press("Escape")
        expect(desk.page.locator(f"#{field}")).not_to_be_focused()
    assert desk.token == before
    assert not Judgment.objects.exists()


def test_an_input_method_chooses_no_key(open_page: Callable[..., Page], teammate: Any) -> None:
    page = open_page(teammate, "/keys/")
    field = page.get_by_label("A is much better")
    field.focus()
    pressed = {"type": "rawKeyDown", "key": "Process", "code": "KeyQ", "windowsVirtualKeyCode": 229}
    page.context.new_cdp_session(page).send("Input.dispatchKeyEvent", pressed)
    expect(field).to_have_value("1")
