"""The migration of what is shown keeps claims and judgments as they were, and what each of their rows names."""

from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from tests.migrations import migrate

pytestmark = pytest.mark.chaos  # as the other migrations that were released

BEFORE = [("annotate", "0021_trail_of_withdrawals"), ("training", "0009_using_policies")]


def test_rows_outlive_the_foreign_keys_that_go(newest: list[Any]) -> None:
    apps = migrate(BEFORE)
    model = lambda kind: apps.get_model("annotate", kind).objects  # noqa: E731
    project = model("Project").create(slug="one", name="One")
    person = model("User").create(username="toni", username_key="toni")
    policy = model("Policy").create(project=project, name="x", kind="external")
    prompt = model("Prompt").create(project=project, content="Why?", digest="0" * 64)
    one, other = (model("Completion").create(prompt=prompt, policy=policy, text=text) for text in "ab")
    pair = model("Comparison").create(project=project, prompt=prompt, first=one, second=other)
    shared = {"project": project, "comparison": pair, "annotator": person, "left": other, "right": one}
    model("Claim").create(**shared, state="judged", expires_at=timezone.now())
    verdict = {"verdict": "prefer", "preferred": other, "strength": 2}
    model("Judgment").create(**shared, **verdict, token=uuid4())
    rows = {kind: model(kind).values().get() for kind in ("Claim", "Judgment", "Comparison")}
    migrate(newest)
    from annotate.models import Claim, Comparison, Judgment

    assert {found.__name__: found.objects.values().get() for found in (Claim, Judgment, Comparison)} == rows
    with pytest.raises(IntegrityError), transaction.atomic():
        Judgment.objects.update(preferred=one.pk)
    migrate(BEFORE)
    assert {kind: model(kind).values().get() for kind in rows} == rows
