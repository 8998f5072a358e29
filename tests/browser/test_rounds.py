"""A round's page in a real browser: it follows the round without a reload, and shows the outcome by itself."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Dialog, Page, expect

from annotate.models import Completion, Policy, Project, Prompt, Snapshot
from tests.waiting import wait_for
from training.models import Metric, Round
from training.rounds import state_machine

COUNTS = {"judgments": 9, "comparisons": 9, "pairs": 9, "train": 9, "held_out": 0, "excluded": {}}


@pytest.fixture
def training_round(transactional_db: None, project: Project) -> Round:
    round_ = Round.objects.create(
        project=project,
        number=1,
        state=Round.State.TRAINING,
        snapshot=Snapshot.objects.create(project=project, digest="d", counts=COUNTS),
        start_policy=project.current_policy,
        folder="runs/browser-1",
        settings={"config": {"loss": "sigmoid", "beta": 0.1, "learning_rate": 0.001}},
        attempts=1,
        worker="celery@here/1",
        phase="training",
    )
    state_machine.heartbeat(round_, step=1, total_steps=40)
    return round_


def finish(round_: Round) -> None:
    """As the runner does at the end."""
    new = Policy.objects.create(
        project=round_.project, name="round 1", kind="adapter", base_model="starter", adapter="runs/a"
    )
    prompt = Prompt(project=round_.project)
    prompt.set_content("This film")
    prompt.save()
    for policy in (round_.start_policy, new):
        Completion.objects.create(prompt=prompt, policy=policy, text=f" pleases {policy.name}.")
    first, second = prompt.completions.order_by("pk")
    round_.gate.add(
        round_.project.comparisons.create(prompt=prompt, first=first, second=second, kind="gate", priority=20)
    )
    assert state_machine.advance(round_, Round.State.SAMPLING)
    assert state_machine.advance(
        round_, Round.State.READY, result_policy=new, summary={"train": {"pairs": 9, "steps": 40}}
    )


def test_the_page_follows_a_round_to_its_outcome(
    training_round: Round, owner: Any, open_page: Callable[..., Page]
) -> None:
    page = open_page(owner, training_round.get_absolute_url())
    live = page.locator("#live")
    expect(live).to_contain_text("1 of 40")
    page.evaluate("window.sameDocument = true")
    page.get_by_role("button", name="Cancel the round").focus()

    Metric.objects.bulk_create(
        Metric(round=training_round, step=s, values={"loss": 1 / s}) for s in range(1, 21)
    )
    state_machine.heartbeat(training_round, step=20, total_steps=40, seconds_left=61)
    expect(live).to_contain_text("20 of 40")
    expect(live).to_contain_text("about 1 min 1 s left")
    expect(live.locator(".chart svg[data-points]")).to_have_count(1)
    assert page.evaluate("window.sameDocument")
    expect(page.get_by_role("button", name="Cancel the round")).to_be_focused()

    readout = live.locator("[data-readout]").first
    for _ in range(20):  # what is read may be replaced at once: the page follows the round every second
        live.locator(".chart svg").first.hover()
        if "step " in readout.inner_text():
            break
    else:
        pytest.fail("The chart does not name the step under the pointer.")

    finish(training_round)
    expect(page.get_by_text("Ready for a decision").first).to_be_visible()
    expect(page.get_by_text("Keep judging.")).to_be_visible()
    expect(page.get_by_text("pleases round 1.")).to_be_visible()
    assert page.evaluate("window.sameDocument")
    expect(live).to_have_count(0)


def test_a_change_of_state_keeps_unfolded_parts_and_the_focus(
    training_round: Round, owner: Any, open_page: Callable[..., Page]
) -> None:
    page = open_page(owner, training_round.get_absolute_url())
    events = page.get_by_role("heading", name="Events")
    before = events.bounding_box()
    Metric.objects.create(
        round=training_round,
        step=1,
        values={"loss": 1, "rewards/accuracies": 1, "rewards/margins": 1, "displacement": 1},
    )
    expect(page.locator(".chart svg[data-points]")).to_have_count(4)
    assert events.bounding_box() == before

    page.locator("summary", has_text="Settings").click()
    page.get_by_role("button", name="Cancel the round").focus()
    assert state_machine.advance(training_round, Round.State.SAMPLING)
    expect(page.locator("h1 .badge")).to_have_text("Sampling")
    assert events.bounding_box() == before
    expect(page.get_by_role("button", name="Cancel the round")).to_be_focused()
    expect(page.get_by_text("learning_rate", exact=True)).to_be_visible()

    polls: list[str] = []
    page.on("request", lambda request: polls.append(request.url))
    page.evaluate("performance.clearResourceTimings()")
    asked = "performance.getEntriesByType('resource').map(({ startTime }) => startTime)"
    wait_for(lambda: len(page.evaluate(asked)) >= 4)
    times = page.evaluate(asked)
    assert times[3] - times[0] > 2_000  # once a second, as before: the first may be late on a busy machine
    assert min(after - before for before, after in pairwise(times)) < 2_000  # which stretches some, not all
    assert all(url.endswith("?state=sampling") for url in polls)

    state_machine.cancel(training_round)
    expect(page.locator("h1 .badge")).to_have_text("Cancelled")
    expect(page.locator("#main")).to_be_focused()  # the button is gone, and no other took its place
    expect(page.get_by_text("learning_rate", exact=True)).to_be_visible()
    polls.clear()
    page.wait_for_timeout(1500)
    assert not polls


def test_an_admin_promotes_from_the_page(
    training_round: Round, owner: Any, open_page: Callable[..., Page]
) -> None:
    finish(training_round)
    page = open_page(owner, training_round.get_absolute_url())
    page.once("dialog", lambda asked: asked.accept())
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_text("its policy is the current one now")).to_be_visible()
    assert Project.objects.get().current_policy == Policy.objects.get(name="round 1")


def test_an_irreversible_act_asks_first_and_a_no_keeps_all(
    training_round: Round, owner: Any, teammate: Any, open_page: Callable[..., Page]
) -> None:
    page = open_page(owner, training_round.get_absolute_url())
    asked: list[str] = []

    def refuse(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", refuse)
    page.get_by_role("button", name="Cancel the round").click()
    finish(training_round)
    page.reload()
    page.get_by_role("button", name="Reject").click()
    page.get_by_role("button", name="Promote").click()
    page.goto("/p/reviews/members/")
    page.get_by_role("button", name="Remove toni").click()
    page.goto("/p/reviews/settings/")
    page.get_by_role("button", name="Archive this project").click()
    assert [question.partition("?")[0] for question in asked] == [
        "Cancel round 1",
        "Reject round 1",
        "Promote round 1",
        "Remove toni from Film reviews",
        "Archive Film reviews",
    ]
    assert "1 comparison that is not judged in full is withdrawn" in asked[1]
    training_round.refresh_from_db()
    assert training_round.state == "ready"
    assert training_round.project.memberships.filter(user=teammate).exists()
    assert Project.objects.get().archived_at is None


def test_a_round_without_pairs_cannot_start_and_says_why(
    transactional_db: None,
    project: Project,
    owner: Any,
    make_comparisons: Any,
    open_page: Callable[..., Page],
) -> None:
    make_comparisons(1)
    page = open_page(owner, "/p/reviews/rounds/")
    start = page.get_by_role("button", name="Start the round")
    expect(start).to_be_disabled()
    expect(start).to_have_accessible_description("A round needs 8 pairs to train on.")
    expect(start).to_have_count(1)


@pytest.fixture
def held_out_prompts(transactional_db: None, make_comparisons: Any) -> None:
    """Hold out a quarter of the prompts."""
    for comparison in make_comparisons(40):
        comparison.prompt.held_out = comparison.pk % 4 == 0
        comparison.prompt.save()


def test_enter_in_a_field_of_a_round_does_nothing(
    transactional_db: None,
    project: Project,
    owner: Any,
    held_out_prompts: None,
    open_page: Callable[..., Page],
) -> None:
    held_out = project.prompts.filter(held_out=True).count()
    page = open_page(owner, "/p/reviews/rounds/")
    expect(page.get_by_role("button", name="Hold out")).to_be_visible()
    page.get_by_label("Gate comparisons").press("Enter")
    page.wait_for_load_state("networkidle")
    assert project.prompts.filter(held_out=True).count() == held_out
    assert not project.rounds.exists()


def test_the_start_stays_where_it_is_when_figures_change(
    transactional_db: None,
    project: Project,
    owner: Any,
    held_out_prompts: None,
    open_page: Callable[..., Page],
) -> None:
    page = open_page(owner, "/p/reviews/rounds/")
    more, start = (page.get_by_role("button", name=name) for name in ("Hold out", "Start the round"))
    expect(more).to_be_visible()
    before = start.bounding_box()
    page.get_by_label("Gate comparisons").fill("2")
    page.get_by_label("Gate comparisons").blur()
    expect(more).to_be_hidden()
    assert start.bounding_box() == before


def test_a_round_starts_without_a_look_at_its_settings(
    transactional_db: None,
    project: Project,
    owner: Any,
    make_comparisons: Any,
    open_page: Callable[..., Page],
) -> None:
    make_comparisons(1)
    page = open_page(owner, "/p/reviews/rounds/")
    page.wait_for_load_state("networkidle")
    expect(page.get_by_role("button", name="Start the round")).to_be_in_viewport()
    expect(page.get_by_label("Learning rate")).to_be_hidden()
    page.locator("summary", has_text="Settings").click()
    expect(page.get_by_label("Learning rate")).to_be_visible()
    page.get_by_label("Learning rate").fill("-1")
    page.locator("summary").get_by_text("Loss", exact=True).click()
    page.get_by_label("Label smoothing").fill("7")
    page.locator("form.start-round").first.evaluate("form => form.submit()")
    for name in ("Learning rate", "Label smoothing"):
        expect(page.get_by_label(name)).to_be_visible()


@pytest.mark.parametrize("width", [1400, 390])
def test_the_pages_of_rounds_and_policies_are_accessible_and_fit(
    width: int, training_round: Round, owner: Any, open_page: Callable[..., Page]
) -> None:
    finish(training_round)
    base = "/p/reviews/"
    paths = [
        "rounds/",
        "rounds/1/",
        "rounds/1/gallery/",
        "policies/",
        f"policies/{Policy.objects.latest('pk').pk}/",
    ]
    page = open_page(owner, base + paths[0], width=width)
    for path in paths:
        page.goto(base + path)
        for folded in page.locator("details.advanced:not([open]) > summary").all():
            folded.click()
        found = Axe().run(page).response["violations"]
        assert not [(one["id"], one["nodes"][0]["html"]) for one in found], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


@pytest.mark.parametrize("script", [True, False])
def test_no_room_is_kept_for_counts_that_no_script_brings(
    transactional_db: None, project: Any, owner: Any, make_comparisons: Any, open_page: Any, script: bool
) -> None:
    make_comparisons(1)
    page = open_page(owner, "/keys/", java_script_enabled=script)
    page.route("**/rounds/ready/**", lambda route: None)  # the counts never come
    page.goto(f"/p/{project.slug}/rounds/")
    box = page.locator(".ready").first.bounding_box()
    assert box is not None
    assert (box["height"] > 150) == script
