"""`make demo MODEL=smollm2` from the command to a promoted round, with pictures: `make test-real`, 5 to 30 minutes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_whole_loop import Instance, until
from tests.instances import ROOT, Demo, laptop
from tests.servers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.once]

PICTURES = ROOT / "var" / "real" / "pictures"
# What is photographed, by the id of its instruction, with a word of the prompt.
SHOWN = {
    "code-2": "append_to",
    "mathematics-1": "and show each step",
    "language-1": "الألواح الشمسية",
    "language-5": "过拟合",
    "language-9": "次のメール",
    "table-1": "Compare tea, coffee and cocoa",
}
LOOKS: dict[str, dict[str, Any]] = {
    "1400": {"viewport": {"width": 1400, "height": 900}},
    "390": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "dark": {"viewport": {"width": 1400, "height": 900}, "color_scheme": "dark"},
}
SLOWEST = 1_500_000  # milliseconds that a round on a busy machine may take


@pytest.fixture
def instance(tmp_path: Path, browser: Any) -> Iterator[Instance]:
    environment = laptop(tmp_path / "var")
    del environment["OMP_NUM_THREADS"]
    demo = Demo(environment, "--model", "smollm2", "--port", str(free_port()))
    try:
        demo.wait_for(r"ready at", 1_800)
        yield Instance(tmp_path / "var", demo, browser)
    finally:
        demo.stop()


@pytest.mark.timeout(7_200)
def test_a_real_model_from_the_command_to_a_promoted_round(instance: Instance) -> None:
    office = instance.sign_in("ada")
    cancel_the_writing(office)
    photograph(instance)
    train_and_promote(instance, office)


def cancel_the_writing(office: Page) -> None:
    """See that a round writes the other comparisons: minutes on two free cores, which this test does not wait for."""
    office.goto("/p/chat/rounds/1/")
    state = office.get_by_role("heading", name="Round 1").locator(".badge")
    expect(state).to_have_text("Sampling", timeout=SLOWEST)
    office.once("dialog", lambda asked: asked.accept())
    office.get_by_role("button", name="Cancel the round").click()
    expect(state).to_have_text("Cancelled", timeout=60_000)


def photograph(instance: Instance) -> None:
    """See that what a real model writes is shown whole, in every look."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    instance.change("UPDATE annotate_project SET gold_rate = 0")
    for instruction, words in SHOWN.items():
        for look, options in LOOKS.items():
            put_first(instance, instruction)  # each time: what was fetched ahead is claimed, too
            page = sign_in(instance, "chloe", options)
            expect(page.locator("#prompt-body").get_by_text(words).first).to_be_visible(timeout=30_000)
            width = page.evaluate("document.documentElement.scrollWidth - visualViewport.width")
            assert width <= 0, (instruction, look)
            page.wait_for_load_state("networkidle")
            page.screenshot(path=PICTURES / f"{instruction}-{look}.png")
            page.context.close()
    assert not written_by(instance, "<|im_")  # the template's marks never reach a page


def train_and_promote(instance: Instance, office: Page) -> None:
    """Let an annotator prefer the shorter answers, an admin train on that, and the gate be judged."""
    desk = instance.sign_in("ben")
    desk.goto("/p/chat/judge/")
    desk.get_by_role("button", name="Start judging").click()
    judge_all(instance, desk)
    office.goto("/p/chat/rounds/")
    office.get_by_label("Fresh comparisons").fill("4")
    office.get_by_label("Gate comparisons").fill("4")
    office.get_by_role("button", name="Start the round").click()
    trained = office.get_by_role("heading", name="Round 2").locator(".badge")
    expect(trained).to_have_text("Ready for a decision", timeout=SLOWEST)
    office.screenshot(path=PICTURES / "round-1400.png", full_page=True)
    desk.goto("/p/chat/judge/")
    judge_all(instance, desk)
    office.reload()
    office.once("dialog", lambda asked: asked.accept())
    office.get_by_role("button", name="Promote").click()
    expect(trained).to_have_text("Promoted")
    assert instance.query("SELECT base_model FROM annotate_policy WHERE name = 'round 2'") == [("smollm2",)]


def sign_in(instance: Instance, username: str, options: dict[str, Any]) -> Page:
    """Return the judging page of this person in a window of this look."""
    page = instance.browser.new_context(base_url=instance.address, **options).new_page()
    page.set_default_timeout(60_000)
    page.goto("/login/?next=/p/chat/judge/")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(instance.demo.logins[username])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/judge/")
    start = page.get_by_role("button", name="Start judging")
    if start.count():
        start.click()
    page.locator("#comparison[data-token]").wait_for()
    return page


def put_first(instance: Instance, instruction: str) -> None:
    """Let the comparison of an instruction be what is handed out next. Nothing is judged yet."""
    instance.change("UPDATE annotate_comparison SET priority = 0 WHERE kind = 'standard'")
    instance.change(
        """
        UPDATE annotate_comparison SET priority = 1 WHERE kind = 'standard' AND prompt_id IN
        (SELECT id FROM annotate_prompt WHERE external_id = ?)
        """,
        instruction,
    )
    instance.change("DELETE FROM annotate_claim")


def judge_all(instance: Instance, page: Page) -> None:
    """Prefer the shorter answer until nothing is left."""
    while True:
        page.locator("#comparison[data-token], #comparison .empty").first.wait_for()
        comparison = page.locator("#comparison[data-token]")
        if not comparison.count():
            break
        token = comparison.get_attribute("data-token")
        left, right = (len(page.locator(f"#pane-{side}").inner_text()) for side in ("a", "b"))
        # A key within the first 300 ms is taken for the second half of a double press.
        page.wait_for_timeout(350)
        page.keyboard.press("1" if left < right else "8")
        expect(page.locator(f'#comparison[data-token="{token}"]')).to_have_count(0)
        until(page, lambda: page.locator("#saved").get_attribute("data-state") == "saved")


def written_by(instance: Instance, text: str) -> list[tuple[Any, ...]]:
    """Return completions that hold a text."""
    return instance.query("SELECT id FROM annotate_completion WHERE instr(text, ?)", text)
