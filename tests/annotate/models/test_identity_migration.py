"""The migration to ids of comparisons keeps what prompts were called, and comparisons as they were."""

from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tests.migrations import migrate

pytestmark = pytest.mark.chaos  # migrations that were released change no more

BEFORE = [("annotate", "0008_what_was_said")]


def values(apps: Any, name: str) -> list[dict[str, Any]]:
    return list(apps.get_model("annotate", name).objects.order_by("pk").values())


@pytest.mark.django_db(transaction=True)
def test_old_prompts_and_comparisons_stay_as_they_were():
    newest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    try:
        apps = migrate(BEFORE)
        project = apps.get_model("annotate", "Project").objects.create(slug="old", name="Old")
        policy = apps.get_model("annotate", "Policy").objects.create(
            project=project, name="x", kind="external"
        )
        prompt = apps.get_model("annotate", "Prompt").objects.create(
            project=project, content="Q", digest="0" * 64, external_id="1", metadata={"lang": "de"}
        )
        completions = apps.get_model("annotate", "Completion").objects
        first, second = (completions.create(prompt=prompt, policy=policy, text=text) for text in "ab")
        apps.get_model("annotate", "Comparison").objects.create(
            project=project, prompt=prompt, first=first, second=second, kind="gold", gold_preferred=second
        )
        before = {name: values(apps, name) for name in ("Prompt", "Comparison")}
    finally:
        migrate(newest)

    from annotate.models import Comparison, Prompt

    for model, new in (
        (Prompt, {"batch": "", "withdrawn_at": None, "tools": None, "has_images": False}),
        (
            Comparison,
            {"external_id": "", "metadata": {}, "arm": "", "propensity": None, "closed_to_people": False},
        ),
    ):
        assert list(model.objects.values()) == [{**row, **new} for row in before[model.__name__]]
    try:
        assert {name: values(migrate(BEFORE), name) for name in before} == before
    finally:
        migrate(newest)
