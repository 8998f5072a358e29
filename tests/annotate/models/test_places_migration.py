"""The migration of places marks the pairs that an admin closed, and no others; and it goes back."""

from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from tests.migrations import migrate

pytestmark = pytest.mark.chaos  # as the other migrations that were released

BEFORE = [("annotate", "0019_ratings_in_snapshots"), ("training", "0009_using_policies")]


def judge_elsewhere(apps: Any, project: Any, name: str, *, needed: int, by_toni: bool = False) -> None:
    """Add a pair under the external id `name` that an annotator of a file judged, and perhaps Toni."""
    model = lambda kind: apps.get_model("annotate", kind).objects  # noqa: E731
    policy, _ = model("Policy").get_or_create(project=project, name="x", kind="external")
    prompt = model("Prompt").create(project=project, content=name, digest=name.ljust(64, "0"))
    one, other = (model("Completion").create(prompt=prompt, policy=policy, text=text) for text in "ab")
    pair = model("Comparison").create(
        project=project, prompt=prompt, first=one, second=other, external_id=name, needed=needed
    )
    batches = {"toni": ""} if by_toni else {}
    for username, batch in {f"of-{project.slug}": "file", **batches}.items():
        person = model("User").get(username=username)
        shared = {"project": project, "comparison": pair, "annotator": person, "left": one, "right": other}
        model("Claim").create(**shared, state="judged", expires_at=timezone.now())
        model("Judgment").create(**shared, verdict="tie", token=uuid4(), import_batch=batch)


def test_pairs_that_were_closed_are_marked(newest: list[Any]) -> None:
    apps = migrate(BEFORE)
    model = lambda kind: apps.get_model("annotate", kind).objects  # noqa: E731
    asked, silent = (
        model("Project").create(slug=slug, name=slug, judgments_needed=2) for slug in ("asked", "silent")
    )
    model("User").create(username="toni", username_key="toni")
    for project in (asked, silent):
        name = f"of-{project.slug}"
        barred = {"imported_into": project, "external_name": name, "is_active": False, "password": "!"}
        model("User").create(username=name, username_key=name, **barred)
    model("TrailEntry").create(project=asked, verb="asked_no_more")
    judge_elsewhere(apps, asked, "closed", needed=1)
    judge_elsewhere(apps, asked, "closed-after-one", needed=2, by_toni=True)
    judge_elsewhere(apps, asked, "waiting", needed=3)
    judge_elsewhere(apps, silent, "never-asked", needed=1)
    migrate(newest)
    from annotate.models import Comparison

    closed = Comparison.objects.filter(closed_to_people=True)
    assert sorted(closed.values_list("external_id", flat=True)) == ["closed", "closed-after-one"]
    needed = dict(Comparison.objects.values_list("external_id", "needed"))
    assert needed == {"closed": 1, "closed-after-one": 2, "waiting": 3, "never-asked": 1}
    migrate(BEFORE)
