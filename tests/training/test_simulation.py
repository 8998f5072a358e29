"""Simulated annotators, and what the loop computes from what they and the policies did."""

import itertools
import json
import math
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from annotate.judgments.judging import Verdict
from annotate.models import Completion, Judgment, Policy, Snapshot
from tests import factories
from training.demo import simulation
from training.demo.loop import GATE, LoopError, Options, wait_for
from training.demo.measurements import Measurement, kl_interval, reward_at, rewards_at_kl, scale_adapter
from training.demo.simulation import NothingLeftError, SimulatedAnnotator
from training.demo.subjects import SUBJECTS, sentiment
from training.models import Round

pytestmark = pytest.mark.once

GOOD = " It is a wonderful film. The acting is superb."  # reward 1
# Its reward is (3 - 1) / 4.
MIXED = " It is a wonderful film. The acting is superb. The plot is clever. The music is awful."
BAD = " It is a dreadful film. The acting is wooden."  # reward -1
PLAIN = " It runs for two hours."  # reward 0
ALSO_PLAIN = " Most of it happens at night."


def annotator(user=None, seed=0, sharpness=simulation.FILMS.sharpness) -> SimulatedAnnotator:
    return SimulatedAnnotator(user, random.Random(seed), replace(simulation.FILMS, sharpness=sharpness))


def completions(*texts: str) -> list[Completion]:
    return [Completion(pk=number, text=text) for number, text in enumerate(texts, start=1)]


@pytest.fixture
def compare(project):
    """compare(GOOD, BAD): a comparison of two completions; `policies` wrote them."""
    numbers = itertools.count(1)
    return lambda first, second, **fields: factories.compare(
        project, f"Opening number {next(numbers)}", first, second, **fields
    )


def test_noise_is_bradley_terry():
    # Rewards 1 and 1/2 differ by 1/2: sigmoid(4 * 1/2) = 0.8808. Of 4,000 draws the standard error is 0.005.
    simulated = annotator(sharpness=4.0)
    good, mixed = completions(GOOD, MIXED)
    right = sum(simulated.choose(good, mixed).preferred_id == good.pk for _ in range(4000))
    assert right / 4000 == pytest.approx(1 / (1 + math.exp(-2)), abs=0.02)


def test_order_does_not_matter():
    good, mixed = completions(GOOD, MIXED)
    one = [annotator(seed=seed).choose(good, mixed) for seed in range(50)]
    other = [annotator(seed=seed).choose(mixed, good) for seed in range(50)]
    assert one == other


def test_equal_rewards_are_a_tie():
    assert annotator().choose(*completions(PLAIN, ALSO_PLAIN)) == Verdict(Judgment.Verdict.TIE)


@pytest.mark.parametrize(
    ("second", "strength"),
    [(BAD, Judgment.Strength.MUCH), (MIXED, Judgment.Strength.BETTER)],
)
def test_strength_follows_the_difference_in_reward(second, strength):
    verdict = annotator(sharpness=100.0).choose(*completions(GOOD, second))
    assert verdict == Verdict(Judgment.Verdict.PREFER, preferred_id=1, strength=strength)


def test_annotators_go_through_the_queue_and_stop_at_the_count(project, teammate, make_member, compare):
    for _ in range(6):
        compare(GOOD, BAD, needed=2)
    people = [annotator(teammate, 1), annotator(make_member("tess", "annotator"), 2)]
    simulation.judge(project, people, 9)
    judgments = Judgment.objects.filter(project=project)
    assert judgments.count() == 9
    assert {judgment.annotator for judgment in judgments} == {person.user for person in people}
    assert all(comparison.judged == comparison.judgments.count() for comparison in project.comparisons.all())
    assert all(judgment.left_id for judgment in judgments)  # drawn by the queue


def test_running_out_of_comparisons_is_told(project, teammate, compare):
    compare(GOOD, BAD)
    with pytest.raises(NothingLeftError):
        simulation.judge(project, [annotator(teammate)], 2)


@pytest.mark.parametrize(
    ("new_writes", "state", "judged"),
    [(GOOD, Round.State.PROMOTED, 9), (BAD, Round.State.REJECTED, 7)],
    ids=["better", "worse"],
)
def test_the_gate_decides_whether_a_policy_is_promoted(
    project, owner, teammate, compare, new_writes, state, judged
):
    old = project.current_policy
    new = Policy.objects.create(
        project=project,
        name="round 1",
        kind="adapter",
        base_model="starter",
        adapter="runs/x/adapter",
        parent=old,
    )
    round_ = Round.objects.create(
        project=project,
        number=1,
        state=Round.State.READY,
        snapshot=Snapshot.objects.create(project=project, digest="0" * 64),
        start_policy=old,
        result_policy=new,
        folder="runs/reviews-1",
    )
    old_writes = BAD if new_writes == GOOD else GOOD
    gate = [compare(old_writes, new_writes, policies=(old, new), kind="gate", priority=20) for _ in range(12)]
    compare(GOOD, BAD)  # is not needed to decide
    round_.gate.set(gate)
    verdict = simulation.decide(round_, [annotator(teammate)], owner).verdict
    assert verdict == ("better" if state == Round.State.PROMOTED else "worse")
    round_.refresh_from_db()
    project.refresh_from_db()
    assert round_.state == state
    assert project.current_policy == (new if state == Round.State.PROMOTED else old)
    assert Judgment.objects.filter(project=project).count() == judged  # then its gate is settled


def test_waiting_for_a_round_takes_it_from_a_killed_worker(make_round):
    """The loop's worker has no beat: without the sweep the loop would wait for ever."""
    round_ = make_round("training")
    Round.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=settings.SILENT_SECONDS + 1))
    seen = []

    def check():
        seen.append(Round.objects.get().state)
        if seen[-1] == "queued":
            raise LoopError("seen")

    with pytest.raises(LoopError, match="seen"):
        wait_for(round_, check, print)
    assert seen == ["training", "queued"]


def test_an_interrupted_loop_leaves_no_round_to_other_workers(make_round):
    round_ = make_round("queued")

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait_for(round_, interrupt, print)
    assert Round.objects.get().state == "cancelled"


def test_win_rate_counts_a_tie_one_half():
    def measured(*rewards: float) -> Measurement:
        return Measurement(list(rewards), [], [], [])

    # Better, equal, worse, better: (1 + 1/2 + 0 + 1) / 4.
    assert measured(1.0, 0.0, -0.5, 0.2).win_rate_over(measured(0.5, 0.0, 0.5, 0.1)) == 0.625


@pytest.mark.parametrize(
    ("kl", "reward"),
    # In the root of the KL, the path is at 0, 1 and 2: 0.25 halfway to 1, 0.6 halfway from 1 to 2.
    [(0.25, 0.25), (1, 0.5), (2.25, 0.6), (4, 0.7), (4.1, None)],
)
def test_reward_at_a_kl_is_read_off_and_never_extrapolated(kl, reward):
    assert reward_at([(-0.01, 0.0), (1.0, 0.5), (4.0, 0.7)], kl) == (reward and pytest.approx(reward))


def test_intervals_of_a_path_hold_its_values():
    rng = random.Random(1)

    def measured(kl: float, reward: float) -> Measurement:
        noise = [rng.gauss(0, 0.6) for _ in range(200)]
        return Measurement([reward + one for one in noise], [], [], [kl + one for one in noise])

    path = [Measurement([0.0] * 200, [], [], [0.0] * 200), measured(1.5, 0.4), measured(3.0, 0.6)]
    found = rewards_at_kl(path, [1, 2, 5])
    assert found["5"] is None
    for value, expected in ((found["1"], 0.33), (found["2"], 0.47)):
        assert value.value == pytest.approx(expected, abs=0.1)
        assert value.low < value.value < value.high
        assert 0.02 < value.high - value.low < 0.4
    low, high = kl_interval(path[2])
    assert low < path[2].kl < high


def test_a_scaled_adapter_multiplies_its_product(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"r": 8, "lora_alpha": 16}')
    scaled = scale_adapter(tmp_path / "adapter", 0.35, tmp_path / "scaled")
    settings = json.loads((scaled / "adapter_config.json").read_text())
    assert settings == {"r": 8, "lora_alpha": pytest.approx(5.6)}


@pytest.mark.parametrize(
    ("option", "value"),
    [("rounds", 0), ("judgments", 9), ("overlap", 3), ("overlap", 0), ("fresh", 7), ("seed", -1)],
)
def test_an_option_out_of_range_is_refused_by_name(option, value):
    with pytest.raises(LoopError, match=f"--{option} must be from"):
        Options(**{option: value})


def test_prompts_that_a_model_does_not_have_are_refused():
    assert Options(model="smollm2", judgments=150, fresh=256).prompts == 188
    with pytest.raises(LoopError, match="641 prompts would be needed, and smollm2 has 640"):
        Options(model="smollm2", judgments=100, fresh=641 - 125 - GATE)


def test_chats_of_the_loop_differ_and_follow_the_seed():
    chats = SUBJECTS["smollm2"].prompts(640, 0)
    assert len({chat[0]["content"] for chat in chats}) == 640
    assert SUBJECTS["smollm2"].prompts(20, 0) == chats[:20]
    assert SUBJECTS["smollm2"].prompts(20, 1) != chats[:20]


def test_sentiment_is_the_mean_of_vaders_over_sentences():
    good, bad = "I love this place.", "The staff was rude."
    assert sentiment(good) > 0.5
    assert sentiment(bad) < -0.3
    assert sentiment(f"{good} {bad}\n") == pytest.approx((sentiment(good) + sentiment(bad)) / 2)
    assert sentiment(" \n") == 0


def test_overlap_needs_fewer_comparisons_for_the_same_judgments():
    assert Options(judgments=151, overlap=2).comparisons == 76  # 75 judged twice and one once
