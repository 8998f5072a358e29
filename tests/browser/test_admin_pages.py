"""The pages of admins and researchers in a real browser: by mouse and keyboard, in both themes, on a phone."""

import json
import re

import pytest
from django.core.files.base import ContentFile
from playwright.sync_api import expect

from annotate.imports import uploads
from annotate.imports.files import checking, reception
from annotate.judgments import judging
from annotate.models import ApiToken, Comparison, Flag, Import, Project
from annotate.pairs.snapshots import take_snapshot
from annotate.queueing import queue
from annotate.views import imports
from tests.browser.accessibility import violations
from tests.browser.desk import PHONE
from tests.factories import compare


@pytest.fixture
def busy(project, owner, teammate, make_comparisons):
    """Return a project in the middle of its work, so that every part of every page has something to show."""
    make_comparisons(4, needed=2)
    [gold] = make_comparisons(1, kind="gold")
    for person, share in ((owner, 3), (teammate, 2)):
        for _ in range(share):
            claim = queue.claim(project, person)
            judging.record(
                project, person, claim.token, judging.Verdict("prefer", claim.left_id, 2, rationale="Vivid.")
            )
    Flag.objects.create(comparison=gold, annotator=teammate, note="Is this right?")
    ApiToken.issue(owner, "nightly")
    take_snapshot(project, owner)
    Import.objects.create(
        project=project, filename="broken.jsonl", format="jsonl", size=9, state="refused", errors=[[2, "No."]],
        counts={"wrong": 1},
    )  # fmt: skip
    return project


def pages(project):
    comparison = Comparison.objects.filter(judged=2).first() or Comparison.objects.first()
    names = [
        "", "settings/", "members/", "import/", f"import/{Import.objects.first().pk}/", "export/", "snapshots/",
        f"snapshots/{project.snapshots.first().digest}/", "quality/", "comparisons/", f"comparisons/{comparison.pk}/",
        "flags/", "trail/", "prompts/", "prompts/?order=ties&least=1", f"prompts/{comparison.prompt_id}/",
    ]  # fmt: skip
    return ["/tokens/", "/account/", *(f"/p/{project.slug}/{name}" for name in names)]


def test_every_page_is_accessible(busy, owner, open_page):
    empty = Project.objects.create(slug="empty", name="Empty")
    empty.memberships.create(user=owner, role="admin")
    page = open_page(owner, "/tokens/")
    for address in [*pages(busy), *(f"/p/empty/{name}/" for name in ("comparisons", "quality", "flags"))]:
        assert page.goto(address).status == 200, address
        assert not violations(page), address


def test_every_page_fits_a_phone_and_can_be_read_in_the_dark(busy, owner, open_page):
    page = open_page(owner, "/tokens/", width=390, color_scheme="dark")
    for address in pages(busy):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        assert not violations(page, runOnly=["color-contrast", "target-size"]), address


@pytest.mark.parametrize("name", ["prompts", "comparisons"])
def test_a_long_word_does_not_widen_a_list(project, owner, open_page, name):
    compare(project, "https://example.com/" + "a" * 200, "x", "y")
    page = open_page(owner, f"/p/reviews/{name}/", width=1400)
    assert page.locator(".table-frame").evaluate("frame => frame.scrollWidth <= frame.clientWidth")


def test_a_file_is_imported_with_its_progress_shown(project, owner, open_page, tmp_path, monkeypatch):
    for module in (uploads, checking):
        monkeypatch.setattr(module, "ROWS_AT_A_TIME", 2)
    monkeypatch.setattr(imports, "STEP_SECONDS", 0)  # a step a request, so that the page has to ask for more
    rows = [{"prompt": f"Review {n}:", "completion_a": "Good.", "completion_b": "Bad."} for n in range(7)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    page = open_page(owner, "/p/reviews/import/")
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Check the file").click()
    expect(page.get_by_text("Nothing has been changed yet.")).to_be_visible()
    expect(page.get_by_role("row", name="Review 0:")).to_be_visible()
    page.get_by_role("button", name="Import it").click()
    expect(page.get_by_text("7 pairs to judge")).to_be_visible()
    page.get_by_role("link", name="See the comparisons").click()
    expect(page.get_by_role("link", name="Review 6:")).to_be_visible()


@pytest.mark.parametrize("width", [1400, 390])
def test_the_first_rows_of_a_file_are_shown_whole(project, owner, open_page, tmp_path, width):
    row = {"prompt": "word " * 200, "completion_a": "x" * 500, "completion_b": "Bad.", "gold": "a"}
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(row))
    page = open_page(owner, "/p/reviews/import/", width=width)
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Check the file").click()
    frame = page.locator("section:has(#preview) .table-frame")
    expect(frame.get_by_text("Bad.")).to_be_visible()
    assert frame.evaluate("frame => frame.scrollWidth <= frame.clientWidth")


@pytest.mark.parametrize("script", [True, False])
def test_an_import_without_scripts_is_continued_by_hand(project, owner, open_page, script):
    made = reception.receive(project, owner, ContentFile(b'{"prompt": "a"}\n', "rows.jsonl"), "jsonl")
    page = open_page(owner, "/keys/", java_script_enabled=script)
    page.route("**/import/*/", lambda route: route.fallback() if route.request.method == "GET" else None)
    page.goto(f"/p/reviews/import/{made.pk}/")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.get_by_role("button", name="Continue")).to_be_visible(visible=not script)


def test_an_import_is_withdrawn_after_a_question(project, owner, open_page, tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"prompt": "A", "completion_a": "Good.", "completion_b": "Bad."}))
    page = open_page(owner, "/p/reviews/import/")
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Check the file").click()
    page.get_by_role("button", name="Import it").click()
    withdraw = page.get_by_role("button", name="Withdraw the 1 unjudged comparison of this import")
    page.once("dialog", lambda dialog: dialog.dismiss())
    withdraw.click()
    assert Comparison.objects.get().withdrawn_at is None
    page.once("dialog", lambda dialog: dialog.accept())
    withdraw.click()
    expect(page.get_by_text("1 comparison withdrawn")).to_be_visible()
    assert Comparison.objects.get().withdrawn_at


def test_errors_in_a_file_are_listed_by_line(project, owner, open_page, tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "fine"}\n{broken\n')
    page = open_page(owner, "/p/reviews/import/")
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Check the file").click()
    expect(page.get_by_text("1 of 2 rows can be imported.")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("^2 This is not valid JSON at column 2"))).to_be_visible()


def test_guidelines_are_previewed_without_leaving_the_form(project, owner, open_page):
    page = open_page(owner, "/p/reviews/settings/")
    page.get_by_label("Guidelines").fill("Prefer the **vivid** one.")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#guidelines-preview strong")).to_have_text("vivid")
    page.get_by_role("button", name="Save settings").click()
    expect(page.get_by_text("Settings saved.")).to_be_visible()
    project.refresh_from_db()
    assert project.guidelines == "Prefer the **vivid** one."


def test_enter_in_a_field_of_the_settings_saves_them(project, owner, open_page):
    page = open_page(owner, "/p/reviews/settings/")
    page.get_by_label("Name").fill("Shorter reviews")
    page.get_by_label("Name").press("Enter")
    expect(page.get_by_text("Settings saved.")).to_be_visible()
    project.refresh_from_db()
    assert project.name == "Shorter reviews"


def test_the_account_of_pairs_and_the_download_match_the_filters(busy, researcher, open_page):
    page = open_page(researcher, "/p/reviews/export/")
    account = page.locator("#account")
    expect(account.locator("dt.total").first).to_have_text(re.compile(r"= \d+"))
    promised = int(account.locator("dt.total").first.inner_text().removeprefix("= "))
    with page.expect_download() as download:
        page.get_by_role("button", name="Download", exact=True).click()
    assert len(download.value.path().read_text().splitlines()) == promised > 0
    page.get_by_label("Kind").select_option("Gate")
    expect(account.locator("dt.total").first).to_have_text("= 0")


def test_an_export_that_cannot_be_is_not_counted_as_before(busy, researcher, open_page):
    page = open_page(researcher, "/p/reviews/export/")
    account = page.locator("#account")
    expect(account.get_by_text("Prepare a file")).to_be_visible()
    page.get_by_text("Which rows").click()
    page.get_by_label("Least mean strength").fill("9")
    page.get_by_label("Least mean strength").blur()
    expect(account).to_contain_text("Least mean strength")
    # It would be the file of the filters before.
    expect(account.get_by_text("Prepare a file")).to_have_count(0)
    page.get_by_role("button", name="Download").click()
    expect(page.locator("#export-form").get_by_role("alert").first).to_be_visible()
    expect(page.get_by_label("Least mean strength")).to_have_value("9")


def test_somebody_new_is_invited_and_signs_in(project, owner, open_page, open_context):
    page = open_page(owner, "/p/reviews/members/")
    page.get_by_label("Username or email address").fill("nora@example.org")
    page.get_by_role("button", name="Add member").click()
    page.get_by_role("button", name="Make the account").click()
    link = page.get_by_label("Link to set a password").input_value()
    visitor = open_context().new_page()
    visitor.goto(link)
    for label in ("New password", "New password confirmation"):
        visitor.get_by_label(label, exact=True).fill("a long phrase of hers")
    visitor.get_by_role("button", name="Set the password").click()
    expect(visitor.get_by_text("you are signed in")).to_be_visible()
    expect(visitor.get_by_role("link", name="Film reviews")).to_be_visible()


def test_a_person_with_an_account_is_invited_and_joins(project, owner, outsider, open_page, open_context):
    page = open_page(owner, "/p/reviews/members/")
    page.get_by_label("Username or email address").fill("otto")
    page.get_by_role("button", name="Add member").click()
    page.get_by_role("button", name="Invite").click()
    expect(page.get_by_role("button", name="Withdraw the invitation of otto")).to_be_visible()
    invited = open_page(outsider, "/")
    invited.get_by_role("button", name="Join Film reviews").click()
    expect(invited.get_by_text("You are a member of Film reviews now")).to_be_visible()


def test_a_page_with_a_password_link_is_sent_once(project, owner, teammate, open_page):
    page = open_page(owner, "/p/reviews/members/")
    page.get_by_role("button", name="Password link for toni").click()
    expect(page.get_by_label("Link to set a password")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Link to set a password")).to_have_count(0)
    assert teammate.password_links.count() == 1


def test_a_token_is_copied(owner, open_page):
    page = open_page(owner, "/tokens/", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_label("Name").fill("nightly export")
    page.get_by_role("button", name="Make a token").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.get_by_label("New token").input_value()
    assert copied.startswith("wst_")
    page.reload()
    expect(page.get_by_label("New token")).to_have_count(0)
    assert owner.api_tokens.count() == 1


def test_a_comparison_is_withdrawn_found_again_and_put_back(busy, owner, open_page):
    page = open_page(owner, "/p/reviews/comparisons/")
    page.get_by_role("row").nth(1).get_by_role("link").click()
    page.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_text("Withdrawn", exact=True)).to_be_visible()
    page.get_by_role("link", name="Comparisons").first.click()
    page.get_by_label("State").select_option("Withdrawn")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("tbody tr").get_by_role("link").click()
    page.get_by_role("button", name="Put it back").click()
    expect(page.get_by_role("button", name="Withdraw")).to_be_visible()


def test_a_filter_that_is_chosen_narrows_the_list_at_once(busy, owner, open_page):
    page = open_page(owner, "/p/reviews/comparisons/")
    page.get_by_text("More filters").click()
    kind, found = page.get_by_label("Kind"), page.locator("tbody tr")
    expect(found).to_have_count(5)
    kind.focus()
    kind.select_option("Gold")
    expect(found).to_have_count(1)
    expect(page.locator("#found-word")).to_have_text("1 comparison shown")
    expect(kind).to_be_focused()
    page.reload()  # the address says what is shown
    expect(found).to_have_count(1)
    expect(kind).to_be_visible()
    page.get_by_role("link", name="Clear").click()
    expect(found).to_have_count(5)
    expect(kind).to_be_hidden()


@pytest.mark.parametrize("name", ["judge", "comparisons", "members", "settings"])
def test_on_a_phone_the_row_of_pages_shows_the_one_that_is_open(busy, owner, open_page, name):
    page = open_page(owner, f"/p/{busy.slug}/{name}/", width=390)
    box = page.locator(".navigation [aria-current]").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    row = page.locator(".navigation")
    assert (row.get_attribute("data-more-left") is not None) == (name != "judge")
    assert (row.get_attribute("data-more-right") is not None) == (name in ("judge", "comparisons"))


@pytest.mark.parametrize("width", [320, 390, 800])
def test_a_long_name_of_a_project_takes_no_row_of_its_own(project, owner, open_page, width):
    project.name = "Assistant for developers, students and everyone else who asks"
    project.save()
    page = open_page(owner, "/p/reviews/settings/", width=width)
    name, menu = (page.locator(f".bar {part}").bounding_box() for part in (".bar-project", ".menu > summary"))
    assert menu["y"] < name["y"] + name["height"]
    assert name["x"] + name["width"] <= page.locator(".bar-end").bounding_box()["x"]
    assert name["width"] > 60


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_a_row_is_a_card_within_sight(busy, owner, open_page, width):
    page = open_page(owner, "/tokens/", width=width)
    for name in ("comparisons", "members", "history", "trail", "quality", "snapshots"):
        page.goto(f"/p/{busy.slug}/{name}/")
        hidden = page.evaluate(
            "[...document.querySelectorAll('table.cards tbody tr > *')]"
            ".filter(cell => cell.getBoundingClientRect().right > innerWidth || cell.scrollWidth > cell.clientWidth)"
            ".map(cell => cell.textContent.trim())"
        )
        assert page.locator("table.cards tbody tr").count() > 0, name
        assert not hidden, name
    words = page.locator("table.cards td").first.evaluate(
        "cell => getComputedStyle(cell, '::before').content"
    )
    assert words == '"Pairs"'


def test_a_notice_in_the_corner_leaves_its_button_free(busy, owner, open_page):
    for width in (390, 1400):
        page = open_page(owner, "/p/reviews/settings/", width=width)
        button = page.get_by_role("button", name="Save settings")
        button.click()
        word = page.get_by_text("Settings saved.").locator("xpath=..").bounding_box()
        assert word["y"] + word["height"] <= button.bounding_box()["y"]


def test_a_long_completion_leaves_the_verdicts_near(project, owner, open_page):
    made = compare(project, "Tell a story:", "\n\n".join(["It was long."] * 300), "Short.")
    page = open_page(owner, f"/p/reviews/comparisons/{made.pk}/")
    assert page.evaluate("document.documentElement.scrollHeight < 2 * innerHeight")
    page.locator(".bounded").first.focus()
    page.keyboard.press("End")
    expect(page.locator(".bounded").first.get_by_text("How it was written")).to_be_in_viewport()
    assert not violations(page)


def test_only_what_scrolls_is_a_stop_of_the_tab_key(project, owner, open_page):
    made = compare(project, "Tell a story:", "\n\n".join(["It was long."] * 300), "Short.")
    page = open_page(owner, f"/p/reviews/comparisons/{made.pk}/")
    long, short = (page.get_by_role("region", name=f"Text of completion {letter}") for letter in "AB")
    expect(long).to_have_attribute("tabindex", "0")
    expect(short).not_to_have_attribute("tabindex", "0")
    text, button = long.bounding_box(), page.get_by_role("button", name="Make it gold: A").bounding_box()
    assert button["y"] - (text["y"] + text["height"]) >= 8


def test_long_samples_of_a_policy_scroll_by_themselves(project, owner, open_page):
    made = compare(project, "Tell a story:", "\n\n".join(["It was long."] * 900), "Short.")
    page = open_page(owner, f"/p/reviews/policies/{made.first.policy_id}/")
    assert page.evaluate("document.documentElement.scrollHeight < 3 * innerHeight")
    long = page.get_by_role("group", name="Tell a story:").filter(has_text="It was long.")
    expect(long).to_have_attribute("tabindex", "0")
    assert not violations(page)


def test_removing_a_member_does_not_look_disabled_to_a_finger(project, owner, teammate, open_page):
    colors = []
    for options in ({}, PHONE):
        page = open_page(owner, "/p/reviews/members/", **options)
        button = page.get_by_role("button", name="Remove toni")
        colors.append(button.evaluate("element => getComputedStyle(element).color"))
    assert colors[0] != colors[1]


def test_a_card_has_no_row_without_words(project, owner, teammate, make_comparisons, open_page):
    [made] = make_comparisons(1, needed=2)
    for person, rationale in ((owner, "Vivid."), (teammate, "")):
        claim = queue.claim(project, person)
        judging.record(
            project, person, claim.token, judging.Verdict("prefer", claim.left_id, 2, rationale=rationale)
        )
    page = open_page(owner, f"/p/reviews/comparisons/{made.pk}/", **PHONE)
    rows = page.locator("#main .cards tbody tr")
    shown = [rows.nth(place).evaluate("row => row.lastElementChild.checkVisibility()") for place in range(2)]
    assert sorted(shown) == [False, True]
