"""Rounds on real judgments: small enough that a real training takes seconds."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.factories import judge_by_word, judged_by_word

# What keeps a round of the starter model short.
TINY: dict[str, Any] = {
    "training": {
        "epochs": 1,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "max_length": 128,
        "threads": 1,
        "kl_samples": 0,
    },
    "sampling": {"max_new_tokens": 12},
    "fresh_comparisons": 4,
    "gate_comparisons": 4,
}


@pytest.fixture(autouse=True)
def _run_directories_of_its_own() -> Iterator[None]:
    """Every test's rounds count from 1: what one leaves below var/runs must not meet the next."""
    from django.conf import settings

    yield
    shutil.rmtree(settings.RUNS, ignore_errors=True)


@pytest.fixture
def tiny() -> dict[str, Any]:
    return TINY


@pytest.fixture
def judge() -> Callable[..., None]:
    """judge(project, annotator): everything that is open, "splendidly" always being better."""
    return judge_by_word


@pytest.fixture
def ready_project(project: Any, teammate: Any, make_comparisons: Any) -> Any:
    """Return a project with 16 judged comparisons, four of them on held-out prompts."""
    comparisons = make_comparisons(16)
    for comparison in comparisons[:4]:
        comparison.prompt.held_out = True
        comparison.prompt.save()
    judged_by_word(comparisons, teammate)
    return project


@pytest.fixture
def make_round(ready_project: Any, owner: Any, tiny: dict[str, Any]) -> Callable[..., Any]:
    """make_round("failed"): a round brought to a state through allowed moves, without a worker."""
    from annotate.models import Policy
    from training.models import Round
    from training.rounds import deciding, state_machine

    path = {
        "queued": [],
        "training": ["training"],
        "sampling": ["training", "sampling"],
        "ready": ["training", "sampling", "ready"],
        "promoted": ["training", "sampling", "ready", "promoted"],
        "rejected": ["training", "sampling", "ready", "rejected"],
        "failed": ["training", "failed"],
        "cancelled": ["cancelled"],
    }

    def make(state: str = "queued") -> Any:
        round_ = state_machine.start(ready_project, owner, tiny)
        for step in path[state]:
            if step == "training":
                claimed = state_machine.claim_round(round_.pk, "worker of the tests")
                assert claimed is not None
                round_ = claimed
            elif step == "ready":
                policy = Policy.objects.create(
                    project=ready_project,
                    name=f"round {round_.number}",
                    kind=Policy.Kind.ADAPTER,
                    base_model="starter",
                    adapter=f"{round_.folder}/adapter",
                    parent=round_.start_policy,
                )
                state_machine.advance(round_, Round.State.READY, result_policy=policy)
            elif step == "failed":
                state_machine.fail(round_, "It failed for a test.")
            elif step in ("promoted", "rejected", "cancelled"):
                {
                    "promoted": deciding.promote,
                    "rejected": deciding.reject,
                    "cancelled": state_machine.cancel,
                }[step](round_, owner)
            else:
                state_machine.advance(round_, Round.State(step))
        return Round.objects.get(pk=round_.pk)

    return make


@pytest.fixture
def worker(db: None) -> Any:
    """Return the row of a worker that was seen just now."""
    from django.utils import timezone

    from training.models import Worker

    return Worker.objects.create(name="celery@here/1", queues=["default", "training"], seen_at=timezone.now())


def drifted(budget: float | None, scale: float) -> dict[str, Any]:
    """Return what the engine's verb `scale` tells of a policy that was scaled to `scale`."""

    def figures(at: float, kl: float) -> dict[str, Any]:
        interval = {"value": kl, "low": 0.8 * kl, "high": 1.4 * kl}
        return {"scale": at, "kl": interval, "reward": interval, "length": 40.0 + kl, "distinct_2": 0.25}

    found = {"reference": figures(0.0, 0.0), "trained": figures(1.0, 6.3), "final": figures(scale, 1.68)}
    return {"status": "scaled", "budget": budget, "completions": 128, "events": [], "tried": [], **found}


@pytest.fixture
def finished(make_round: Any, ready_project: Any) -> Any:
    """Return a ready round as the runner leaves it: metrics, a summary, fresh and gate comparisons."""
    from annotate.models import Comparison, Completion
    from training.models import Metric

    round_ = make_round("ready")
    (round_.run_dir / "adapter").mkdir(parents=True)
    Metric.objects.bulk_create(
        Metric(
            round=round_, step=step, values={"loss": 0.7 - step / 100, "rewards/accuracies": 0.5 + step / 40}
        )
        for step in range(1, 17)
    )
    after = {"pairs": 20, "accuracy": 0.8}
    round_.summary = {
        "train": {
            "pairs": 12,
            "steps": 16,
            "seconds": 75.2,
            "heldout": {"before": {"pairs": 20, "accuracy": 0.5}, "after": after},
            "health": [
                {"kind": "length", "message": "Chosen ones are longer.", "remedy": "Balance the lengths."}
            ],
            "events": ["Rows are not packed."],
        },
        "scale": drifted(budget=2.0, scale=0.64),
        "sample": {"events": ["Prompt 7 is left out: <refused>."]},
        "sample_previous": {"events": ["Prompt 7 is left out: <refused>."]},
        "passed_over": {"too_long": 3, "refused": 1, "equal": 2, "unstorable": 1},
    }
    round_.save()
    prompt = ready_project.prompts.filter(held_out=True).first()
    policies = (round_.start_policy, round_.result_policy)
    gate = []
    for i in range(3):
        first, second = (
            Completion.objects.create(
                prompt=prompt, policy=policy, text=f" <b>{policy.name}</b> wrote {i}", token_ids=[1] * n
            )
            for policy, n in zip(policies, (10, 14), strict=True)
        )
        gate.append(
            Comparison.objects.create(
                project=ready_project, prompt=prompt, first=first, second=second, kind="gate"
            )
        )
    round_.gate.set(gate)
    return round_


@pytest.fixture
def claimed(ready_project: Any, owner: Any, tiny: Any) -> Any:
    """Return a round that a worker has taken."""
    from training.rounds import state_machine

    round_ = state_machine.start(ready_project, owner, tiny)
    found = state_machine.claim_round(round_.pk, "worker of the tests")
    assert found is not None
    return found
