"""Gates: what counts as evidence, how its level is spent over a project's life, and when a gate ends."""

import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from annotate.models import Policy, Priority, Project, Prompt, Snapshot
from annotate.projects.prompts import hold_out_enough
from annotate.queueing import queue
from primitives.evidence import more_needed
from tests import factories
from tests.training.pages import FRAGMENT, text
from training.models import Round
from training.rounds import sweeping
from training.standings.gates import Forecast, Gate, forecast, measure_gate, next_level

pytestmark = pytest.mark.django_db

COUNTS = {"judgments": 9, "comparisons": 9, "train": 9, "held_out": 0, "excluded": {}}
ALPHA = 0.05 * 6 / math.pi**2


@pytest.fixture
def gated(project: Project) -> Callable[..., Round]:
    """gated({"a": 2, "b": 1}): a round that waits, with so many gate comparisons of each prompt."""

    def make(comparisons: dict[str, int], state: str = "ready") -> Round:
        number = project.rounds.count() + 1
        start = project.policies.earliest("pk")
        new = Policy.objects.create(
            project=project,
            name=f"round {number}",
            kind="adapter",
            base_model="starter",
            adapter=f"runs/{number}/adapter",
        )
        round_ = Round.objects.create(
            project=project, number=number, state=state, start_policy=start, result_policy=new,
            snapshot=Snapshot.objects.create(project=project, digest=f"{number:064x}", counts=COUNTS),
            folder=f"runs/{number}", gate_level=next_level(project),
        )  # fmt: skip
        for content, count in comparisons.items():
            for _ in range(count):
                prompt = Prompt.objects.filter(project=project).get_or_create(
                    project=project, content=content, digest=content, held_out=True
                )[0]
                round_.gate.add(
                    factories.pair(
                        prompt, (" old.", " new."), policies=(start, new), kind="gate", priority=Priority.GATE
                    )
                )
        return round_

    return make


def judge_new(project: Project, user: Any, count: int, *, wins: bool = True) -> None:
    for _ in range(count):
        factories.judge(project, user, "second" if wins else "first")


def test_a_prompt_counts_once_all_its_comparisons_are_judged(
    gated: Any, project: Project, teammate: Any
) -> None:
    round_ = gated({"a": 3, "b": 1})
    judge_new(project, teammate, 3)
    gate = measure_gate(round_)
    assert (gate.judged, gate.wins, gate.pending) == (3, 3, 1)
    assert len(gate.prompts) == 1
    factories.judge(project, teammate, "first")
    assert sorted(measure_gate(round_).prompts) in ([-1.0, 1.0], [1 / 3, 1.0])  # whichever came last


def test_prompts_count_in_the_order_in_which_they_were_finished(
    gated: Any, project: Project, teammate: Any
) -> None:
    """Evidence by betting depends on the order: by ids, what was judged last might count as the first."""
    round_ = gated({"a": 2, "b": 1, "c": 1})
    first, last, second, third = round_.gate.order_by("pk")
    for comparison, side in ((third, "first"), (first, "second"), (second, "tie"), (last, "second")):
        factories.say(teammate, comparison, side)
    assert measure_gate(round_).prompts == (-1.0, 0.0, 1.0)


def test_a_comparison_is_finished_by_its_last_annotator(
    gated: Any, project: Project, teammate: Any, owner: Any
) -> None:
    round_ = gated({"a": 1, "b": 1})
    round_.gate.update(needed=2)
    first, second = round_.gate.order_by("pk")
    said = [(owner, first, "second"), (owner, second, "first")]
    said += [(teammate, second, "first"), (teammate, first, "second")]
    for person, comparison, side in said:
        factories.say(person, comparison, side)
    assert measure_gate(round_).prompts == (-1.0, 1.0)


def test_a_comparison_on_a_desk_is_still_to_come(gated: Any, project: Project, teammate: Any) -> None:
    """A prompt that counted without it would count its lucky comparisons before the others."""
    round_ = gated({"a": 2})
    factories.judge(project, teammate, "second")
    claim = queue.claim(project, teammate)
    assert claim is not None
    gate = measure_gate(round_)
    assert (gate.prompts, gate.pending) == ((), 1)
    round_.gate.filter(judged=0).update(withdrawn_at=timezone.now())  # the verdict on the desk still counts
    assert measure_gate(round_).pending == 1
    queue.release(claim)
    gate = measure_gate(round_)
    assert (gate.prompts, gate.pending) == ((1.0,), 0)


def test_the_level_of_the_kth_gate_is_its_part_of_the_life(gated: Any, project: Project) -> None:
    assert next_level(project) == pytest.approx(ALPHA)
    gated({"a": 1}, state="rejected")
    assert next_level(project) == pytest.approx(ALPHA / 4)
    gated({"b": 1}, state="rejected")
    assert next_level(project) == pytest.approx(ALPHA / 9)


def test_a_gate_that_called_better_hands_on_its_level(gated: Any, project: Project, teammate: Any) -> None:
    round_ = gated({f"prompt {number}": 1 for number in range(12)})
    judge_new(project, teammate, 12)
    assert measure_gate(round_).verdict == "better"
    Round.objects.update(state="promoted")
    assert next_level(project) == pytest.approx(ALPHA / 4 + ALPHA)


def test_the_sweep_withdraws_what_is_left_of_a_decided_gate(
    gated: Any, project: Project, teammate: Any
) -> None:
    round_ = gated({f"prompt {number}": 1 for number in range(15)})
    other = factories.compare(project, "not of the gate", " a.", " b.")
    judge_new(project, teammate, 5)
    sweeping.stop_gates()
    assert round_.gate.open().count() == 10  # not decided yet
    judge_new(project, teammate, 5)
    sweeping.stop_gates()
    assert measure_gate(round_).verdict == "better"
    assert (round_.gate.open().count(), measure_gate(round_).judged) == (0, 10)
    other.refresh_from_db()
    assert other.open


@pytest.mark.parametrize(
    ("share", "prompts", "held_out"), [(0.1, 60, 10), (0.1, 12, 4), (0.5, 60, 30), (0.0, 60, 0)]
)
def test_enough_prompts_are_held_out_before_a_round(
    project: Project, share: float, prompts: int, held_out: int
) -> None:
    project.held_out_share = 0.0  # so that none is at first
    for number in range(prompts):
        prompt = Prompt(project=project)
        prompt.set_content(f"Prompt {number}")
        prompt.save()
    project.held_out_share = share
    hold_out_enough(project)
    held = set(project.prompts.filter(held_out=True).values_list("digest", flat=True))
    assert len(held) == held_out
    assert held == set(project.prompts.order_by("digest").values_list("digest", flat=True)[:held_out])
    assert hold_out_enough(project) == 0


def test_what_a_training_has_seen_is_never_held_out(project: Project, teammate: Any) -> None:
    seen = factories.compare(project, "seen", " a.", " b.", kind="gate").prompt
    project.held_out_share = 0.9
    assert hold_out_enough(project) == 0
    seen.refresh_from_db()
    assert not seen.held_out


def test_the_form_tells_the_chances_and_holds_more_out(
    project: Project, owner: Any, researcher: Any, client_for: Any
) -> None:
    for number in range(40):
        factories.compare(project, f"Prompt {number}", " a.", " b.")
    client = client_for(owner)
    where = reverse("ready_pairs", args=[project.slug]) + "?start"
    page = text(client.get(where))
    assert "No prompt is held out" in page
    assert "Hold out 20 more" in page
    assert "Hold out" not in text(client_for(researcher).get(where))
    assert (
        client_for(researcher)
        .post(reverse("rounds", args=[project.slug]), {"action": "hold_out"})
        .status_code
        == 403
    )
    client.post(reverse("rounds", args=[project.slug]), {"action": "hold_out", "count": "30"})
    assert project.prompts.filter(held_out=True).count() == 30
    page = text(client.get(where))
    assert "on 30 held-out prompts" in page


def test_only_the_form_offers_to_hold_out_more(project: Project, owner: Any, client_for: Any) -> None:
    """Elsewhere the button would belong to no form, and do nothing."""
    for number in range(40):
        factories.compare(project, f"Prompt {number}", " a.", " b.")
    where = reverse("ready_pairs", args=[project.slug])
    assert "<button" in text(client_for(owner).get(where + "?start", headers=FRAGMENT))
    assert "<button" not in text(client_for(owner).get(where, headers=FRAGMENT))


@pytest.mark.parametrize(
    ("entered", "most"),
    [
        ("20", 20),
        ("", 150),
        ("x", 150),
        ("100000", 100_000),
        ("100001", 150),
        ("9" * 30, 150),
        ("-1", 150),
        ("0", 0),
    ],
)
def test_the_chances_are_those_of_the_gate_in_the_form(
    project: Project, owner: Any, client_for: Any, entered: str, most: int
) -> None:
    Prompt.objects.create(project=project, content="held", digest="held", held_out=True)
    where = reverse("ready_pairs", args=[project.slug])
    page = text(client_for(owner).get(where, {"start": "", "gate_comparisons": entered}))
    if most:
        assert f"at most {most:,} times" in page
    else:
        assert "A gate of 0 comparisons measures nothing" in page


def test_more_held_out_prompts_decide_more_often(project: Project) -> None:
    assert forecast(project, 150) == Forecast(0, ())
    found = []
    for goal in (20, 120):
        for number in range(project.prompts.count(), goal):
            Prompt.objects.create(project=project, content=f"{number}", digest=f"{number}", held_out=True)
        found.append(dict(forecast(project, 150).chances))
    assert found[0][0.7] < 0.3
    assert found[1][0.7] > 0.8
    assert found[1][0.6] < found[1][0.65] < found[1][0.7]


@pytest.mark.parametrize(
    ("wins", "said"),
    [(False, "It leans to the policy before."), (True, "It leans to the new policy.")],
)
def test_an_undecided_gate_says_where_it_leans(
    gated: Any, project: Project, owner: Any, teammate: Any, client_for: Any, wins: bool, said: str
) -> None:
    round_ = gated({f"prompt {number}": 1 for number in range(4)})
    judge_new(project, teammate, 3, wins=wins)
    judge_new(project, teammate, 1, wins=not wins)
    page = text(client_for(owner).get(round_.get_absolute_url()))
    assert "Not decided." in page
    assert said in page
    assert "more prompts like these would decide it." in page
    assert "Nothing argues against" not in page


def test_what_is_still_needed_is_told_in_two_digits(gated: Any, project: Project, teammate: Any) -> None:
    round_ = gated({f"prompt {number}": 1 for number in range(30)})
    judge_new(project, teammate, 17)
    judge_new(project, teammate, 13, wins=False)
    exact = more_needed(measure_gate(round_).prompts, measure_gate(round_).level)
    assert exact
    assert exact > 100
    assert measure_gate(round_).more_needed == round(exact, -1)


def test_a_worse_policy_is_told_at_a_level_of_its_own() -> None:
    """It is not promoted, so nothing adds up over rounds: 5 %, whatever is left for a better one."""
    shares = (1.0,) * 13 + (-1.0,) * 17
    gate = Gate(100, 30, 13, 0, 17, prompts=shares, level=1e-6)
    exact = more_needed([-share for share in shares], 0.05)
    assert exact
    assert gate.more_needed == round(exact, 2 - len(str(exact)))


def test_a_large_gate_takes_no_long_forecast(project: Project) -> None:
    Prompt.objects.bulk_create(
        Prompt(project=project, content=f"{number}", digest=f"{number}", held_out=True)
        for number in range(1300)
    )
    started = time.process_time()
    for comparisons in (1300, 100_000):
        chances = dict(forecast(project, comparisons).chances)
        assert 0.9 < chances[0.6] <= chances[0.7] <= 1
    assert time.process_time() - started < 3


def test_many_comparisons_on_one_prompt_take_no_long_forecast(project: Project) -> None:
    Prompt.objects.create(project=project, content="one", digest="one", held_out=True)
    started = time.process_time()
    assert dict(forecast(project, 100_000).chances)[0.7] < 0.1
    assert time.process_time() - started < 3


@pytest.mark.parametrize(("held_out", "is_hopeless"), [(3, True), (80, False)])
def test_a_gate_that_can_decide_nothing_says_so(
    project: Project, owner: Any, client_for: Any, held_out: int, is_hopeless: bool
) -> None:
    names = [f"held {number}" for number in range(held_out)]
    Prompt.objects.bulk_create(
        Prompt(project=project, content=name, digest=name, held_out=True) for name in names
    )
    page = text(client_for(owner).get(reverse("ready_pairs", args=[project.slug]) + "?start"))
    assert ("hardly ever" in page, "with a chance of" in page) == (is_hopeless, not is_hopeless)
