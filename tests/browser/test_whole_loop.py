"""The whole way, on a real instance: judge by keyboard, train, judge the new policy's samples, download the pairs."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.instances import ROOT, Demo, laptop
from tests.servers import free_port
from training.engine.starter.reviews import reward

PROJECT = "film-reviews"
VERDICTS = 30
SLOWEST = 200_000  # milliseconds that a round on a busy machine may take


class Instance:
    """A running demo, its database, and a browser window for each person."""

    def __init__(self, var: Path, demo: Demo, browser: Browser) -> None:
        self.var, self.demo, self.browser = var, demo, browser
        self.address = demo.wait_for(r"ready at (http://\S+)")[1]

    def sign_in(self, username: str) -> Page:
        page = self.browser.new_context(base_url=self.address, accept_downloads=True).new_page()
        page.set_default_timeout(60_000)
        page.goto("/login/")
        page.get_by_label("Username").fill(username)
        page.get_by_label("Password").fill(self.demo.logins[username])
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Sign in")).to_have_count(0)
        return page

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.var / "db.sqlite3", timeout=30)) as database:
            return database.execute(sql, values).fetchall()

    def change(self, sql: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.var / "db.sqlite3", timeout=30)) as database, database:
            database.execute(sql, values)


@pytest.fixture
def instance(tmp_path, browser) -> Iterator[Instance]:
    var = tmp_path / "var"
    demo = Demo(laptop(var), "--port", str(free_port()))
    try:
        yield Instance(var, demo, browser)
    finally:
        demo.stop()


def judge_by_keyboard(page: Page) -> tuple[str, str, str] | None:
    """Press the key of the completion that speaks better of its film, and wait for the next comparison.

    Returns prompt, chosen and rejected; None for a tie.
    """
    token = page.locator("#comparison").get_attribute("data-token")
    prompt = page.locator("#prompt-body").inner_text().strip()
    written = (
        "pane => [...pane.querySelectorAll(':scope > :not(.ended)')].map(one => one.innerText).join('\\n\\n')"
    )
    left, right = (page.locator(f"#pane-{side}").evaluate(written).strip() for side in ("a", "b"))
    better = reward(left) - reward(right)
    page.wait_for_timeout(350)  # a key within the first 300 ms is taken for the second half of a double press
    page.keyboard.press("4" if better == 0 else "1" if better > 0 else "8")
    expect(page.locator("#comparison")).not_to_have_attribute("data-token", str(token), timeout=20_000)
    if better == 0:
        return None
    return (prompt, left, right) if better > 0 else (prompt, right, left)


def policies_on_screen(instance: Instance) -> set[str]:
    """Return the policies behind what ben is looking at: the database knows, the page does not say."""
    rows = instance.query(
        """
        SELECT policy.name FROM annotate_claim AS claim
        JOIN annotate_user AS person ON person.id = claim.annotator_id AND person.username = 'ben'
        JOIN annotate_comparison AS comparison ON comparison.id = claim.comparison_id
        JOIN annotate_completion AS completion ON completion.id IN (comparison.first_id, comparison.second_id)
        JOIN annotate_policy AS policy ON policy.id = completion.policy_id
        WHERE claim.state = 'live'
        """
    )
    return {name for (name,) in rows}


def until(page: Page, happened: Callable[[], bool]) -> None:
    for _ in range(200):
        if happened():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not happen in time")


@pytest.mark.timeout(500)  # a minute on two free cores
def test_from_a_keystroke_to_a_better_policy_and_back(instance, tmp_path):
    # --- An annotator judges by keyboard -----------------------------------------------------------------------
    desk = instance.sign_in("ben")
    desk.goto(f"/p/{PROJECT}/judge/")
    desk.get_by_role("button", name="Start judging").click()
    given = [judge_by_keyboard(desk) for _ in range(VERDICTS)]
    stored = "SELECT count(*) FROM annotate_judgment WHERE superseded_at IS NULL"
    until(desk, lambda: instance.query(stored) == [(VERDICTS,)])
    assert policies_on_screen(instance) == {"starter"}

    # --- The admin starts a round and sees it finish, without a reload -----------------------------------------
    office = instance.sign_in("ada")
    office.goto(f"/p/{PROJECT}/rounds/")
    office.get_by_label("Fresh comparisons").fill("12")
    office.get_by_label("Gate comparisons").fill("6")
    office.get_by_role("button", name="Start the round").click()
    state = office.get_by_role("heading", name="Round 1").locator(".badge")
    expect(office.locator("#live")).to_be_visible()
    expect(state).to_have_text("Ready for a decision", timeout=SLOWEST)

    # --- The annotator goes on, and is handed the gate, blind, and then samples of the new policy ----------------
    seen: list[set[str]] = []
    while {"round 1"} not in seen:
        # What was on screen, what was fetched ahead, six of the gate, and twelve of gold at most.
        assert len(seen) < 24
        judge_by_keyboard(desk)
        until(desk, lambda: desk.locator("#saved").get_attribute("data-state") == "saved")
        seen.append(policies_on_screen(instance))
        assert "round 1" not in desk.content()
    assert {"starter", "round 1"} in seen
    office.once("dialog", lambda asked: asked.accept())  # the gate of six shows nothing yet
    office.get_by_role("button", name="Promote").click()
    expect(state).to_have_text("Promoted")

    # --- The researcher downloads pairs that hold the annotator's verdicts ---------------------------------------
    study = instance.sign_in("rosa")
    study.goto(f"/p/{PROJECT}/export/")
    with study.expect_download() as download:
        study.get_by_role("button", name="Download", exact=True).click()
    rows = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    pairs = {tuple(row[key].strip() for key in ("prompt", "chosen", "rejected")) for row in rows}
    training = {tuple(text) for text in given if text is not None} - not_exported(instance)
    assert len(training) >= 8
    assert training <= pairs
    assert_trl_reads(rows)

    # --- PEFT loads the adapter ----------------------------------------------------------------------------------
    [(adapter,)] = instance.query("SELECT adapter FROM annotate_policy WHERE name = 'round 1'")
    assert loads_with_peft(instance.var / adapter)


def not_exported(instance: Instance) -> set[tuple[str, ...]]:
    """Return what an export leaves out unless asked: gold and held-out prompts."""
    rows = instance.query(
        """
        SELECT prompt.content, first.text, second.text FROM annotate_comparison AS comparison
        JOIN annotate_prompt AS prompt ON prompt.id = comparison.prompt_id
        JOIN annotate_completion AS first ON first.id = comparison.first_id
        JOIN annotate_completion AS second ON second.id = comparison.second_id
        WHERE comparison.kind = 'gold' OR prompt.held_out
        """
    )
    found = set()
    for content, first, second in rows:
        prompt, one, other = json.loads(content).strip(), first.strip(), second.strip()
        found |= {(prompt, one, other), (prompt, other, one)}
    return found


def assert_trl_reads(rows: list[dict[str, Any]]) -> None:
    """TRL's standard preference format with an explicit prompt: three strings in each row, prompt not repeated."""
    for row in rows:
        assert all(isinstance(row[key], str) and row[key] for key in ("prompt", "chosen", "rejected"))
        assert row["chosen"] != row["rejected"]
        assert not row["chosen"].startswith(row["prompt"])


def loads_with_peft(adapter: Path) -> bool:
    """Return whether plain PEFT, in a process without Whetstone, loads the adapter and it changes something."""
    program = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
ids = torch.tensor([[1, 5, 9, 20]])
before = base(ids).logits
model = PeftModel.from_pretrained(base, sys.argv[2])
print("moved" if not torch.allclose(before, model(ids).logits, atol=1e-3) else "the same")
"""
    command = [sys.executable, "-c", program, str(ROOT / "training" / "starter"), str(adapter)]
    done = subprocess.run(command, cwd=adapter, capture_output=True, text=True, check=True)
    return done.stdout.strip() == "moved"
