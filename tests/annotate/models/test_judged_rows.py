"""Rows of judging: the database keeps them as they were written, and refuses what does not fit."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from annotate.models import Claim, Comparison, Completion, Judgment, Project, Prompt
from tests.annotate.models.refusals import refuses

# --- What never changes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "tie", "preferred": None, "strength": None},
        {"preferred": "other"},
        {"strength": 3},
        {"left": "other", "right": "preferred"},
        {"annotator": "owner"},
        {"comparison": "next"},
        {"project": "next"},
        {"sides_known": False, "import_batch": "import 1"},
    ],
)
def test_a_verdict_never_changes(judged: Judgment, owner: Any, change: dict[str, Any]) -> None:
    next_one = Comparison.objects.exclude(pk=judged.comparison_id).get()
    rows = {
        "other": judged.right,
        "preferred": judged.left,
        "owner": owner,
        "next": next_one if "comparison" in change else Project.objects.create(slug="next", name="Next"),
    }
    change = {column: rows.get(str(value), value) for column, value in change.items()}
    judgments = Judgment.objects.filter(pk=judged.pk)
    before = judgments.values().get()
    assert refuses(lambda: judgments.update(**change))
    assert judgments.values().get() == before


def test_a_claim_keeps_its_sides_and_its_annotator(judged: Judgment, owner: Any) -> None:
    claims = Claim.objects.filter(comparison=judged.comparison_id, annotator=judged.annotator_id)
    assert refuses(lambda: claims.update(left=judged.right, right=judged.left))
    assert refuses(lambda: claims.update(annotator=owner))
    assert claims.update(left=judged.left, draft={"rationale": "Warm."}) == 1


def test_a_comparison_keeps_its_completions(judged: Judgment) -> None:
    comparisons = Comparison.objects.filter(pk=judged.comparison_id)
    assert refuses(lambda: comparisons.update(first=judged.comparison.second, second=judged.comparison.first))
    comparison = comparisons.get()
    comparison.priority = 3
    comparison.save()  # all columns, of which one differs
    assert comparisons.get().priority == 3


def test_a_prompt_keeps_its_project(judged: Judgment) -> None:
    """The comparisons of its completions are in that project, too."""
    prompts = Prompt.objects.filter(comparisons=judged.comparison_id)
    other = Project.objects.create(slug="next", name="Next")
    assert refuses(lambda: prompts.update(project=other))
    assert prompts.update(project=judged.project_id, metadata={"a": 1}) == 1


# --- What is shown -----------------------------------------------------------------------------------------------


@pytest.fixture
def misfits(judged: Judgment, owner: Any) -> list[dict[str, Any]]:
    """Return columns of claims or judgments that do not fit the judged comparison."""
    next_one = Comparison.objects.exclude(pk=judged.comparison_id).get()
    right = {"project": judged.project, "comparison": judged.comparison, "annotator": owner}
    sides = {"left": judged.left, "right": judged.right}
    elsewhere = Project.objects.create(slug="next", name="Next")
    return [
        right | sides | {"right": next_one.second},
        right | sides | {"left": next_one.first},
        right | {"left": next_one.first, "right": next_one.second},
        right | sides | {"project": elsewhere},
    ]


def make_claim(parts: dict[str, Any]) -> Claim:
    return Claim.objects.create(**parts, expires_at=timezone.now(), state="released")


def make_judgment(parts: dict[str, Any]) -> Judgment:
    token = uuid.uuid4()
    return Judgment.objects.create(
        **parts, token=token, verdict="prefer", preferred=parts["left"], strength=2
    )


@pytest.mark.parametrize("make", [make_claim, make_judgment])
def test_a_comparison_is_shown_by_its_own_completions(
    judged: Judgment, owner: Any, misfits: list[dict[str, Any]], make: Callable[[dict[str, Any]], Any]
) -> None:
    for parts in misfits:
        assert refuses(lambda parts=parts: make(parts)), parts
    fitting = misfits[0] | {"left": judged.right, "right": judged.left}
    assert make(fitting).pk


@pytest.mark.parametrize("make", [make_claim, make_judgment])
def test_a_new_comparison_fits_what_shows_it_already(
    judged: Judgment, misfits: list[dict[str, Any]], make: Callable[[dict[str, Any]], Any]
) -> None:
    """An import stores claims and judgments before their comparison."""
    old = judged.comparison
    pk = old.pk + 1_000
    first, second = (
        Completion.objects.create(prompt=old.prompt, policy=old.first.policy, text=text) for text in "ab"
    )

    def store(parts: dict[str, Any]) -> None:
        make({key: value for key, value in parts.items() if key != "comparison"} | {"comparison_id": pk})
        Comparison.objects.create(pk=pk, project=old.project, prompt=old.prompt, first=first, second=second)

    fitting = misfits[0] | {"left": second, "right": first}
    assert refuses(lambda: store(fitting | {"left": judged.left}))
    assert refuses(lambda: store(misfits[-1] | {"left": second, "right": first}))
    assert not refuses(lambda: store(fitting))


def test_a_comparison_is_of_a_prompt_and_a_project_that_exist(judged: Judgment) -> None:
    """No foreign key says so: both follow from its completions."""
    one = judged.comparison
    new = Completion.objects.create(prompt=one.prompt, policy=one.first.policy, text="Another.")
    ids = {
        "project_id": one.project_id,
        "prompt_id": one.prompt_id,
        "first_id": one.first_id,
        "second_id": new.pk,
    }
    for column in ids:
        assert refuses(lambda column=column: Comparison.objects.create(**ids | {column: 10**9}))
    Comparison.objects.create(**ids)
