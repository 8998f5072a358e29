"""Migrations of rounds keep what there was, forwards and back."""

from typing import Any

import pytest
from django.utils import timezone

from tests.migrations import migrate

pytestmark = pytest.mark.chaos  # as the other old migrations

WITH_DRAFTS = [("training", "0003_sweeps")]
ONE_PRECISION = [("training", "0012_tools_of_trials")]
TOOLS_IN_SAMPLING = [("training", "0011_estimates_of_policies")]
TOOLS = [{"type": "function", "function": {"name": "look_up"}}]


def make_history(apps: Any) -> None:
    """Return a round's history as it was written while rounds began as drafts."""
    project = apps.get_model("annotate", "Project").objects.create(slug="reviews", name="Reviews")
    policy = apps.get_model("annotate", "Policy").objects.create(
        project=project, name="starter", kind="base", base_model="starter"
    )
    round_ = apps.get_model("training", "Round").objects.create(
        project=project, number=1, start_policy=policy, folder="runs/reviews-1", state="cancelled"
    )
    event = apps.get_model("training", "RoundEvent")
    moves = [
        ("draft", "draft", "Opened."),
        ("draft", "queued", "12 pairs to train on."),
        ("queued", "cancelled", ""),
    ]
    for old, new, message in moves:
        event.objects.create(
            round=round_, from_state=old, to_state=new, message=message, created_at=timezone.now()
        )


def read_history() -> list[tuple[str, str, str]]:
    from training.models import RoundEvent

    return list(RoundEvent.objects.values_list("from_state", "to_state", "message"))


def test_histories_begin_when_rounds_were_queued(newest: list[Any]) -> None:
    others = [node for node in newest if node[0] != "training"]
    make_history(migrate([*others, *WITH_DRAFTS]))
    migrate(newest)
    assert read_history() == [
        ("", "queued", "Opened."),
        ("queued", "queued", "12 pairs to train on."),
        ("queued", "cancelled", ""),
    ]


def test_an_older_version_can_read_histories(newest: list[Any], make_round: Any) -> None:
    make_round("cancelled")
    migrate([*(node for node in newest if node[0] != "training"), *WITH_DRAFTS])
    assert read_history() == [("draft", "queued", "12 pairs to train on."), ("queued", "cancelled", "")]


def make_trials(apps: Any, *rows: dict[str, Any]) -> None:
    project = apps.get_model("annotate", "Project").objects.create(slug="reviews", name="Reviews")
    for row in rows:
        apps.get_model("training", "Trial").objects.create(project=project, content="P", **row)


def read_trials(apps: Any, *columns: str) -> list[tuple[Any, ...]]:
    return list(
        apps.get_model("training", "Trial").objects.order_by("created_at").values_list("sampling", *columns)
    )


def test_tools_of_trials_get_a_column_and_go_back(newest: list[Any]) -> None:
    before = [*(node for node in newest if node[0] != "training"), *TOOLS_IN_SAMPLING]
    make_trials(migrate(before), {"sampling": {"seed": 1, "tools": TOOLS}}, {"sampling": {"seed": 2}})
    assert read_trials(migrate(newest), "tools") == [({"seed": 1}, TOOLS), ({"seed": 2}, None)]
    assert read_trials(migrate(before)) == [({"seed": 1, "tools": TOOLS},), ({"seed": 2},)]


def test_weights_that_are_merged_keep_the_bases_precision(newest: list[Any], project: Any) -> None:
    others = [node for node in newest if node[0] != "training"]
    apps = migrate([*others, *ONE_PRECISION])
    apps.get_model("training", "MergedWeights").objects.create(
        policy_id=project.current_policy_id, filename="x-merged.tar", dtype="bfloat16"
    )
    migrate(newest)
    from training.models import MergedWeights

    assert MergedWeights.objects.values_list("precision", "dtype").get() == ("base", "bfloat16")
