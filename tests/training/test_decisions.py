"""Decisions on a round: what promoting, rejecting and rolling back do to policies and open work."""

from typing import Any

import pytest

from annotate.models import Comparison, Completion, Policy, Project
from training.models import Round
from training.rounds import deciding, state_machine
from training.rounds.starts import RoundError

pytestmark = pytest.mark.django_db


@pytest.fixture
def sampled(make_round: Any, ready_project: Project) -> Round:
    """Return a ready round with one judged and one open fresh comparison, and one open one of the gate."""
    round_: Round = make_round("ready")
    prompt = ready_project.prompts.get(pk=ready_project.prompts.first().pk)

    def comparison(kind: str, priority: int, **fields: Any) -> Comparison:
        first, second = (
            Completion.objects.create(
                prompt=prompt, policy=policy, text=f" {kind} {policy.pk} {priority} {i}"
            )
            for i, policy in enumerate((round_.result_policy, round_.start_policy))
        )
        return Comparison.objects.create(
            project=ready_project,
            prompt=prompt,
            first=first,
            second=second,
            kind=kind,
            priority=priority,
            **fields,
        )

    round_.fresh.set([comparison("standard", state_machine.FRESH_PRIORITY)])
    round_.gate.set([comparison("gate", 20)])
    return round_


def test_promoting_makes_the_new_policy_current(sampled: Round, ready_project: Project, owner: Any) -> None:
    assert deciding.promote(sampled, owner)
    ready_project.refresh_from_db()
    assert ready_project.current_policy == sampled.result_policy
    assert sampled.gate.get().priority == 0
    assert sampled.fresh.get().withdrawn_at is None


def test_rejecting_keeps_the_policy_and_withdraws_open_work(
    sampled: Round, ready_project: Project, owner: Any
) -> None:
    assert deciding.reject(sampled, owner)
    ready_project.refresh_from_db()
    assert ready_project.current_policy == sampled.start_policy
    assert sampled.fresh.get().withdrawn_at is not None
    assert sampled.gate.get().withdrawn_at is not None


@pytest.mark.once
def test_rejecting_keeps_what_was_judged(
    sampled: Round, ready_project: Project, teammate: Any, judge: Any
) -> None:
    judge(ready_project, teammate)
    deciding.reject(sampled)
    assert sampled.fresh.get().withdrawn_at is None


def test_a_decision_is_made_once(sampled: Round, ready_project: Project) -> None:
    stale = Round.objects.get(pk=sampled.pk)
    assert deciding.promote(sampled)
    assert not deciding.reject(stale)
    assert not deciding.promote(Round.objects.get(pk=sampled.pk))
    ready_project.refresh_from_db()
    assert ready_project.current_policy == sampled.result_policy


def test_rolling_back_and_forward_again(sampled: Round, ready_project: Project, owner: Any) -> None:
    deciding.promote(sampled, owner)
    ready_project.refresh_from_db()
    deciding.roll_back(ready_project, sampled.start_policy, owner)
    ready_project.refresh_from_db()
    assert ready_project.current_policy == sampled.start_policy
    assert sampled.state == "promoted"
    assert sampled.fresh.get().priority == 0
    assert sampled.events.last().message == "Rolled back from round 1 to starter."
    assert sampled.result_policy is not None
    deciding.roll_back(ready_project, sampled.result_policy, owner)
    assert sampled.fresh.get().priority == state_machine.FRESH_PRIORITY


def test_samples_of_a_policys_ancestors_keep_their_turn(
    make_round: Any, ready_project: Project, owner: Any, make_comparisons: Any
) -> None:
    """Rolled back to the second of three policies: the first is its parent, and the third is no longer in use."""
    rounds = []
    for comparison in make_comparisons(3):
        # The next round compares with it.
        Project.objects.update(current_policy=ready_project.current_policy)
        rounds.append(make_round("promoted"))
        rounds[-1].fresh.set([comparison])
        rounds[-1].fresh.update(priority=state_machine.FRESH_PRIORITY)
    first, second, third = rounds
    Policy.objects.filter(pk=second.result_policy_id).update(parent=first.result_policy)
    deciding.roll_back(ready_project, Policy.objects.get(pk=second.result_policy_id), owner)
    kept = state_machine.FRESH_PRIORITY
    assert [one.fresh.get().priority for one in (first, second, third)] == [kept, kept, 0]


@pytest.mark.once
def test_one_cannot_roll_back_to_a_policy_that_never_was_current(
    sampled: Round, ready_project: Project, owner: Any
) -> None:
    deciding.reject(sampled, owner)
    assert sampled.result_policy is not None
    with pytest.raises(RoundError, match="Policy round 1 never was current"):
        deciding.roll_back(ready_project, sampled.result_policy, owner)
