"""Acts of an admin that meet another transaction in a deadlock: each is tried again, and done once."""

from typing import Any

from annotate.models import Comparison, Policy, Prompt
from tests.deadlocks import MARKS, in_the_way
from training.models import Round
from training.provenance.consequences import prompt_target
from training.provenance.forgetting import forget
from training.rounds import state_machine

pytestmark = MARKS


def test_forgetting_is_tried_again(project: Any, make_comparisons: Any) -> None:
    make_comparisons(1)
    with in_the_way(project, Comparison.objects.all()):
        forget([prompt_target(Prompt.objects.get())])
    assert not Comparison.objects.exists()
    assert project.trail.filter(verb="forgotten").count() == 1


def test_starting_a_round_is_tried_again(ready_project: Any, owner: Any, tiny: Any) -> None:
    with in_the_way(ready_project, Policy.objects.filter(pk=ready_project.current_policy.pk)):
        state_machine.start(ready_project, owner, tiny)
    assert [round_.state for round_ in Round.objects.all()] == ["queued"]


def test_writing_is_tried_again(ready_project: Any, owner: Any) -> None:
    with in_the_way(ready_project, Policy.objects.filter(pk=ready_project.current_policy.pk)):
        state_machine.write(ready_project, owner, 1)
    assert [round_.state for round_ in Round.objects.all()] == ["queued"]


def test_retraining_is_tried_again(make_round: Any, owner: Any, settings: Any) -> None:
    original = make_round("promoted")
    (settings.VAR / original.result_policy.adapter).mkdir(parents=True)
    with in_the_way(original.project, Policy.objects.filter(pk=original.start_policy.pk)):
        again = state_machine.retrain(original, original.start_policy, owner)
    assert (again.retrains, Round.objects.count()) == (original, 2)
