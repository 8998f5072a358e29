"""The pages of a round and of a policy: while it runs, how it ended, and where a policy comes from."""

import random
from typing import Any

import pytest
from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from annotate.models import Policy, Project
from tests.training.pages import FRAGMENT, address, text
from training.models import Round, Worker
from training.rounds import deciding, state_machine
from training.standings.gates import Gate

pytestmark = [pytest.mark.django_db, pytest.mark.once]  # forms and pages, whatever the database


# --- While it runs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["queued", "training", "sampling"])
def test_without_a_worker_the_page_says_so_and_how_to_start_one(
    make_round: Any, owner: Any, client_for: Any, state: str
) -> None:
    """Even in the middle of a round: without any worker, the loss of this one's goes unnoticed."""
    round_ = make_round(state)
    page = text(client_for(owner).get(round_.get_absolute_url()))
    assert "No training worker is running." in page
    assert "celery -A config worker" in page


def test_with_a_worker_the_page_says_that_it_waits(
    make_round: Any, worker: Worker, owner: Any, client_for: Any
) -> None:
    round_ = make_round("queued")
    Round.objects.update(enqueued_at=timezone.now())
    page = text(client_for(owner).get(round_.get_absolute_url()))
    assert "No training worker is running." not in page
    assert "Waiting for a worker to take it." in page


@pytest.mark.parametrize("fault", ["stopping", "silent", "other queue"])
def test_a_worker_that_cannot_take_the_round_does_not_count(
    fault: str, make_round: Any, worker: Worker, owner: Any, client_for: Any
) -> None:
    if fault == "stopping":
        worker.stopping = True
    elif fault == "silent":
        worker.seen_at -= timezone.timedelta(seconds=4 * settings.HEARTBEAT_SECONDS)
    else:
        worker.queues = ["default"]
    worker.save()
    page = text(client_for(owner).get(make_round("queued").get_absolute_url()))
    assert "No training worker is running." in page


def test_a_broker_that_is_away_is_said_and_the_round_is_kept(
    make_round: Any, worker: Worker, owner: Any, client_for: Any
) -> None:
    round_ = make_round("queued")  # its message was never sent: the test's transaction does not commit
    page = text(client_for(owner).get(round_.get_absolute_url()))
    assert "The message broker cannot be reached. The round is kept" in page


def test_progress_is_shown_with_phase_step_and_time_left(
    make_round: Any, owner: Any, client_for: Any
) -> None:
    round_ = make_round("training")
    state_machine.heartbeat(round_, phase="training", step=30, total_steps=120, seconds_left=75.2)
    page = text(client_for(owner).get(round_.get_absolute_url()))
    assert "Training" in page
    assert "30 of 120" in page
    assert "about 1 min 15 s left" in page
    assert 'value="30" max="120"' in page
    assert f'hx-get="{address("round_live", round_)}?state=training"' in page


def test_the_live_fragment_is_a_page_only_on_a_new_state(
    make_round: Any, owner: Any, client_for: Any
) -> None:
    round_ = make_round("training")
    client = client_for(owner)
    same = client.get(address("round_live", round_), {"state": "training"}, headers=FRAGMENT)
    assert "HX-Retarget" not in same.headers
    assert "<h1" not in text(same)
    moved = client.get(address("round_live", round_), {"state": "queued"}, headers=FRAGMENT)
    assert (moved.headers["HX-Retarget"], moved.headers["HX-Reswap"]) == ("#main", "innerMorph")
    assert "<h1" in text(moved)
    assert "<html" not in text(moved)
    assert "?state=training" in text(moved)


@pytest.mark.parametrize("state", ["ready", "promoted", "failed", "cancelled"])
def test_a_round_that_is_over_is_not_polled(make_round: Any, owner: Any, client_for: Any, state: str) -> None:
    page = text(client_for(owner).get(make_round(state).get_absolute_url()))
    assert "hx-trigger" not in page
    assert 'http-equiv="refresh"' not in page


def test_the_curves_are_drawn_without_a_script(finished: Round, owner: Any, client_for: Any) -> None:
    page = text(client_for(owner).get(finished.get_absolute_url()))
    assert 'aria-label="Loss by step, now 0.54"' in page
    assert 'aria-label="Accuracy on the batch by step, now 0.9"' in page
    assert "style=" not in page


def test_awaited_curves_are_empty_frames_of_their_size(make_round: Any, owner: Any, client_for: Any) -> None:
    round_ = make_round("queued")
    client = client_for(owner)
    page = text(client.get(round_.get_absolute_url()))
    assert 'aria-label="Loss by step: nothing yet"' in page
    assert page.count('<figure class="chart">') == 4
    state_machine.cancel(round_)
    assert '<figure class="chart">' not in text(client.get(round_.get_absolute_url()))


def test_no_time_left_is_told_from_the_first_steps(make_round: Any, owner: Any, client_for: Any) -> None:
    round_ = make_round("sampling")
    client = client_for(owner)
    for step, told in ((1, False), (9, False), (10, True)):  # 5 % of 200
        state_machine.heartbeat(round_, phase="sampling", step=step, total_steps=200, seconds_left=492)
        assert ("8 min 12 s left" in text(client.get(round_.get_absolute_url()))) is told


def test_pairs_dropped_or_cut_in_training_are_counted_by_reason(
    finished: Round, owner: Any, client_for: Any
) -> None:
    finished.summary["train"]["left_out"] = {
        "dropped": {"identical_after_truncation": 2},
        "truncated": {"prompt_middle": 1200, "prompt": 3},
        "examples": {"prompt_middle": ["7"]},
    }
    finished.save()
    page = text(client_for(owner).get(finished.get_absolute_url()))
    assert "2 differed only beyond max_length" in page
    assert "1,200 lost the middle of their prompt" in page
    assert "3 lost the beginning of their prompt" in page  # trained by an earlier version


def test_cancel_from_the_page(make_round: Any, owner: Any, client_for: Any) -> None:
    round_ = make_round("training")
    response = client_for(owner).post(round_.get_absolute_url(), {"action": "cancel"}, follow=True)
    assert "Round 1 was cancelled." in text(response)
    assert Round.objects.get().events.last().by == owner


def test_a_failed_round_says_why_and_can_be_resumed(make_round: Any, owner: Any, client_for: Any) -> None:
    round_ = make_round("failed")
    client = client_for(owner)
    assert "It failed for a test." in text(client.get(round_.get_absolute_url()))
    client.post(round_.get_absolute_url(), {"action": "resume"})
    assert Round.objects.get().state == "queued"


@pytest.mark.parametrize("action", ["", "destroy"])
def test_an_unknown_action_changes_nothing(make_round: Any, owner: Any, client_for: Any, action: str) -> None:
    round_ = make_round("training")
    response = client_for(owner).post(round_.get_absolute_url(), {"action": action}, follow=True)
    assert "can be cancelled, resumed, promoted or rejected" in text(response)
    assert Round.objects.get().state == "training"


# --- Its outcome -------------------------------------------------------------------------------------------------


def test_the_outcome_shows_every_figure(finished: Round, owner: Any, client_for: Any) -> None:
    page = text(client_for(owner).get(finished.get_absolute_url()))
    assert "80 %" in page  # 16 of 20, Wilson: 58 to 92 %
    assert "58 – 92 %" in page
    assert "50 % before · 20 pairs" in page
    assert "14.0 <small>± 0.0 tokens</small>" in page
    assert "10.0 ± 0.0 before" in page
    assert "16 judgments on 16 comparisons" in page
    assert "0 of 3 gate comparisons judged" in page
    assert "Chosen ones are longer.</b> Balance the lengths." in page
    assert "3 prompts fill the model" in page
    assert "Samples that make no comparison: 2 identical, 0 empty" in page
    assert "1 sample holds a NUL character, which PostgreSQL does not store." in page
    assert "1 chat was refused by the model" in page
    assert "Rows are not packed." in page
    assert "scaled to 64 % of what was trained, to keep its budget of 2 nats" in page
    assert '1.68 <span class="muted small">1.34 to 2.35</span>' in page  # as it is kept
    assert "6.30" in page  # as it was trained
    assert "dashed: ln 2 = 0.693" in page
    assert page.count("Prompt 7 is left out: &lt;refused&gt;.") == 1


def test_the_score_by_a_probe_is_shown_where_there_is_one(
    finished: Round, owner: Any, client_for: Any
) -> None:
    where = finished.get_absolute_url()
    assert "Score by the probe" not in text(client_for(owner).get(where))
    measured = finished.summary["scale"]
    measured["reference"]["probe"] = {"value": -0.35, "low": -0.68, "high": -0.03}
    measured["final"]["probe"] = {"value": 0.97, "low": 0.66, "high": 1.3}
    finished.save()
    page = " ".join(text(client_for(owner).get(where)).split())
    assert page.count('data-label="Score by the probe"') == 3  # – of the one as it was trained
    assert '-0.35 <span class="muted small">-0.68 to -0.03</span>' in page
    assert '0.97 <span class="muted small">0.66 to 1.30</span>' in page


def test_the_gallery_shows_both_policies_and_runs_no_model_text(
    finished: Round, owner: Any, client_for: Any
) -> None:
    page = text(client_for(owner).get(address("gallery", finished)))
    assert page.index("Before · starter") < page.index("After · round 1")
    assert "<b>starter</b>" not in page
    assert "&lt;b&gt;starter&lt;/b&gt; wrote 0" in page


@pytest.mark.parametrize(
    ("state", "offered"),
    [
        ("ready", ["Judge</a>"]),
        ("promoted", ["Judge the fresh comparisons", "Start the next round"]),
        ("rejected", ["Start the next round"]),
    ],
)
def test_after_each_key_moment_the_page_offers_what_comes_next(
    state: str,
    offered: list[str],
    finished: Round,
    owner: Any,
    researcher: Any,
    client_for: Any,
    make_comparisons: Any,
) -> None:
    finished.fresh.add(*make_comparisons(2))
    if state != "ready":
        {"promoted": deciding.promote, "rejected": deciding.reject}[state](finished)
    page = text(client_for(owner).get(finished.get_absolute_url())).partition("<main")[2]
    look = text(client_for(researcher).get(finished.get_absolute_url())).partition("<main")[2]
    for label in offered:
        assert label in page
        assert label not in look
    assert "0 of 3 gate comparisons judged" in page  # a rejection does not make them never have been


def test_promote_asks_first_unless_the_gate_favours_the_policy(
    finished: Round, owner: Any, client_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = text(client_for(owner).get(finished.get_absolute_url()))
    assert 'data-confirm="Promote round 1? None of its gate comparisons is judged' in page

    def stands(wins: int) -> Gate:
        shares = [1.0] * wins + [-1.0] * (30 - wins)
        random.Random(0).shuffle(shares)
        return Gate(30, 30, wins, 0, 30 - wins, tuple(shares))

    monkeypatch.setattr("training.views.outcome.measure_gate", lambda _round: stands(16))
    page = text(client_for(owner).get(finished.get_absolute_url()))
    assert "it wins 53 % (interval 28 – 76 %). Comparisons judged: 30 of 30." in page
    monkeypatch.setattr("training.views.outcome.measure_gate", lambda _round: stands(27))
    assert "Promote round 1?" not in text(client_for(owner).get(finished.get_absolute_url()))


def test_promote_from_the_page(finished: Round, owner: Any, client_for: Any) -> None:
    client_for(owner).post(finished.get_absolute_url(), {"action": "promote"})
    finished.refresh_from_db()
    assert (finished.state, finished.project.current_policy) == ("promoted", finished.result_policy)


def test_a_second_decision_is_told_that_it_came_too_late(
    finished: Round, owner: Any, client_for: Any
) -> None:
    deciding.reject(finished)
    response = client_for(owner).post(finished.get_absolute_url(), {"action": "promote"}, follow=True)
    assert "was decided already" in text(response)


@pytest.mark.parametrize("name", ["../../db.sqlite3", "secret", ".lock", "adapter"])
def test_only_the_files_of_the_list_can_be_downloaded(
    finished: Round, owner: Any, client_for: Any, name: str
) -> None:
    finished.run_dir.mkdir(parents=True, exist_ok=True)
    (finished.run_dir / "secret").write_text("no")
    where = reverse("round_file", args=[finished.project.slug, 1, "x"]).removesuffix("x") + name
    assert client_for(owner).get(where).status_code == 404


# --- Policies ----------------------------------------------------------------------------------------------------


def test_policies_are_ranked_by_the_judgments_between_them(
    finished: Round, owner: Any, teammate: Any, client_for: Any
) -> None:
    from annotate.judgments import judging
    from annotate.queueing import queue

    for _ in range(3):
        claim = queue.claim(finished.project, teammate)
        assert claim is not None
        judging.record(
            claim.project, teammate, claim.token, judging.Verdict("prefer", claim.comparison.second_id, 2)
        )
    page = text(client_for(owner).get(address("policies", finished)))
    assert page.index(">round 1</a>") < page.index(">starter</a>")
    # Three wins and the prior's tie are 3.5 of 4, less what the sides explain that were drawn.
    shown = int(page.partition('data-label="Beats starter">')[2].partition("%")[0])
    assert 70 < shown <= 88


def test_a_policy_leads_back_to_the_judgments_that_shaped_it(
    finished: Round, owner: Any, client_for: Any
) -> None:
    page = text(client_for(owner).get(reverse("policy", args=["reviews", finished.result_policy_id])))
    assert f'the policy that <a href="{finished.get_absolute_url()}">round 1</a> trained' in page
    assert str(finished.snapshot) in page
    assert (
        "16 judgments in its round&#x27;s snapshot" in page or "16 judgments in its round's snapshot" in page
    )
    assert "toni" in page


def test_a_comparison_leads_on_to_the_policies_that_it_shaped(
    finished: Round, owner: Any, client_for: Any
) -> None:
    assert finished.snapshot is not None
    assert finished.result_policy is not None
    descendant = Policy.objects.create(
        project=finished.project,
        name="round 2",
        kind="adapter",
        base_model="starter",
        adapter="a",
        parent=finished.result_policy,
    )
    pair = finished.snapshot.pairs.first()
    assert pair is not None
    page = text(client_for(owner).get(reverse("shaped", args=["reviews", pair.comparison_id])))
    assert "round 1" in page
    assert "toni: Better" in page
    assert descendant.name in page
    assert "came from round 1" in page


def test_gold_is_not_said_to_go_into_the_next_round(
    project: Project, owner: Any, make_comparisons: Any, client_for: Any
) -> None:
    [gold], [plain] = make_comparisons(1, kind="gold"), make_comparisons(1)
    client = client_for(owner)

    def page(comparison: Any) -> str:
        return text(client.get(reverse("shaped", args=["reviews", comparison.pk])))

    assert "includes them" in page(plain)
    assert "includes them" not in page(gold)
    assert "Rounds never train on gold or repeats" in page(gold)


def test_roll_back_from_the_page(finished: Round, owner: Any, client_for: Any) -> None:
    deciding.promote(finished)
    client = client_for(owner)
    page = text(client.get(address("policy", finished)))
    assert "Roll back to starter" in page
    client.post(address("policy", finished))
    assert Project.objects.get(slug="reviews").current_policy == finished.start_policy


def test_a_promoted_round_names_the_policy_that_is_current_now(
    finished: Round, owner: Any, client_for: Any
) -> None:
    deciding.promote(finished)
    client = client_for(owner)
    name = finished.result_policy.name
    assert f"{name} is the current policy." in text(client.get(finished.get_absolute_url()))
    deciding.roll_back(finished.project, finished.start_policy, owner)
    page = text(client.get(finished.get_absolute_url()))
    assert f"{name} is the current policy." not in page
    assert "Since then, starter was made the current policy." in page


def test_the_current_policy_offers_no_roll_back(finished: Round, owner: Any, client_for: Any) -> None:
    assert "Roll back" not in text(client_for(owner).get(address("policy", finished)))


def test_a_summary_of_another_kind_counts_as_none(finished: Round, owner: Any, client_for: Any) -> None:
    client = client_for(owner)
    figures = {"scale": "x", "kl": None, "reward": 1, "length": 2.0, "distinct_2": None}
    scale = {"final": figures, "reference": figures, "budget": 1.0, "completions": 3}
    odd_report = {"status": "x", "pairs": "x", "events": 7, "heldout": 1, "left_out": [1]}
    for odd in (5, None, odd_report, scale):
        finished.summary = dict.fromkeys(("assist", "scale", "sample", "train", "probe"), odd)
        if odd is odd_report:
            finished.summary["train"] = {**odd, "pairs": 12}
        finished.save()
        for page in ("policy", "model-card"):
            where = reverse(page, args=["reviews", finished.result_policy_id])
            assert client.get(where).status_code == 200, (odd, page)
        assert client.get(finished.get_absolute_url()).status_code == 200, odd


# --- The page of a policy ----------------------------------------------------------------------------------------


def test_what_one_policy_does_comes_before_what_made_it(finished: Round, owner: Any, client_for: Any) -> None:
    url = reverse("policy", args=["reviews", finished.result_policy_id])
    page = text(client_for(owner).get(url))
    places = [page.index(words) for words in ("What it wrote last", "Where it came from", "Model and files")]
    assert places == sorted(places)
    assert f">round {finished.number}</a>, ready" in page
    assert '<details class="advanced" id="judgments">' in page


def test_a_page_of_its_judgments_is_unfolded(finished: Round, owner: Any, client_for: Any) -> None:
    url = reverse("policy", args=["reviews", finished.result_policy_id])
    assert '<details class="advanced" id="judgments" open>' in text(client_for(owner).get(f"{url}?page=1"))


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ((1.0,) * 60, "The gate found the new policy better"),
        ((-1.0,) * 60, "The gate found the new policy worse"),
        ((0.5, -0.5), "The gate did not show which policy is better: its interval holds one half."),
        ((), "no prompt of it is judged in full"),
    ],
)
def test_a_decided_round_says_what_its_gate_said(
    finished: Round, owner: Any, client_for: Any, monkeypatch: pytest.MonkeyPatch, shares: Any, said: str
) -> None:
    gate = Gate(total=60, judged=len(shares), wins=0, draws=0, losses=0, prompts=shares)
    monkeypatch.setattr("training.views.outcome.measure_gate", lambda _round: gate)
    deciding.reject(finished, owner)
    page = " ".join(text(client_for(owner).get(finished.get_absolute_url())).split())
    assert said in page
    assert "Reject it" not in page


@pytest.mark.parametrize("state", [Round.State.READY, Round.State.PROMOTED])
@pytest.mark.parametrize(
    ("asked", "made", "cause"),
    [
        (4, 0, ""),
        (0, 0, "The round was started without them."),
        (4, 2, "All that it was given were withdrawn or set aside."),
    ],
)
def test_an_empty_gate_names_a_cause_only_if_it_is_known(
    finished: Round,
    owner: Any,
    client_for: Any,
    make_comparisons: Any,
    state: str,
    asked: int,
    made: int,
    cause: str,
) -> None:
    finished.gate.set(make_comparisons(made))
    finished.gate.update(withdrawn_at=timezone.now())
    finished.settings["gate_comparisons"] = asked
    finished.state = state
    finished.save()
    page = " ".join(text(client_for(owner).get(finished.get_absolute_url())).split())
    assert (
        "Its gate has no comparisons." if state == Round.State.READY else "Its gate had no comparisons."
    ) in page
    causes = ["The round was started without them.", "All that it was given were withdrawn or set aside."]
    assert [one for one in causes if one in page] == [cause] * bool(cause)
    assert "held-out prompts, so" not in page
