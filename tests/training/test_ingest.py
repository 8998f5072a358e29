"""From samples to the rows that people judge."""

from typing import Any

from annotate.models import Comparison, Policy, Project, Prompt
from training.rounds import results

GATES = 24


def sample(prompt: Prompt, text: str) -> dict[str, Any]:
    row: dict[str, Any] = {"id": f"gate/1/{prompt.pk}", "completion": text, "token_ids": [1], "logprob": -1.0}
    return row | {"finish_reason": "stop", "seed": 1, "temperature": 1.0}


def test_order_and_ids_of_a_gate_do_not_tell_the_new_policy(make_round: Any, ready_project: Project) -> None:
    """Pages and the API name completions by id: in a blind comparison an id must say nothing."""
    round_ = make_round("sampling")
    new = Policy.objects.create(
        project=ready_project, name="round 1", kind="adapter", base_model="starter", adapter="runs/x/adapter"
    )
    prompts = []
    for number in range(GATES):
        prompt = Prompt(project=ready_project)
        prompt.set_content(f"Held-out opening {number}")
        prompt.save()
        prompts.append(prompt)
    after = [sample(prompt, f" Better {prompt.pk}.") for prompt in prompts]
    before = [sample(prompt, f" Worse {prompt.pk}.") for prompt in prompts]
    results.make_comparisons(round_, new, after, before).save(round_)

    gate = list(round_.gate.select_related("first", "second").order_by("pk"))
    assert len(gate) == GATES
    assert {comparison.kind for comparison in gate} == {Comparison.Kind.GATE}
    for comparison in gate:
        assert {comparison.first.policy_id, comparison.second.policy_id} == {new.pk, round_.start_policy_id}
    # The chance that a fair draw puts one policy first 24 times running is 1 in 8 million.
    assert len({comparison.first.policy_id for comparison in gate}) == 2
    older = {
        min(comparison.first, comparison.second, key=lambda one: one.pk).policy_id for comparison in gate
    }
    assert len(older) == 2
