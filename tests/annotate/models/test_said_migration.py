"""The migration of what was said keeps it: first times, reading times, reasons and criteria; and it goes back."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from tests.migrations import migrate

pytestmark = pytest.mark.chaos  # migrations that were released change no more

BEFORE = [("annotate", "0007_metadata_and_images")]
AT = timezone.now() - timedelta(days=20)


@pytest.fixture
def past(newest):
    """Return the apps of before, with a judgment of twenty days ago, changed today; one reason was renamed between."""
    apps = migrate(BEFORE)
    model = lambda name: apps.get_model("annotate", name).objects  # noqa: E731
    user = model("User").create(username="toni", username_key="toni")
    project = model("Project").create(
        slug="reviews", name="Reviews", reasons=["More true", "more-true"], criteria=["Helpful"]
    )
    policy = model("Policy").create(project=project, name="x", kind="external")
    prompt = model("Prompt").create(project=project, content="P", digest="d")
    one, other = (model("Completion").create(prompt=prompt, policy=policy, text=text) for text in "ab")
    comparison = model("Comparison").create(project=project, prompt=prompt, first=one, second=other)
    shared = {"project": project, "comparison": comparison, "annotator": user, "left": one, "right": other}
    said = {"verdict": "tie", "reasons": ["Truer", "More true"], "criteria": {"Helpful": {"verdict": "tie"}}}
    before = model("Judgment").create(
        **shared, **said, token=uuid4(), seconds=0.5, too_fast=True, created_at=AT, superseded_at=AT
    )
    model("Judgment").create(**shared, **said, token=uuid4(), replaces=before)
    model("Claim").create(**shared, state="judged", expires_at=AT, draft={"reasons": ["Truer"]})
    return apps


def test_what_was_said_is_kept_by_the_migration(past, newest):
    migrate(newest)
    from annotate.models import Claim, Judgment, Project

    project = Project.objects.get()
    assert [(one.key, one.title, one.is_removed) for one in project.all_reasons] == [
        ("more-true", "More true", False),
        ("more-true-2", "more-true", False),
        ("truer", "Truer", True),
    ]
    for judgment in Judgment.objects.all():
        assert (judgment.first_at, judgment.seconds, judgment.too_fast) == (AT, 0.5, True)
        assert judgment.reasons == ["truer", "more-true"]
        assert judgment.criteria == {"helpful": {"verdict": "tie"}}
    assert Claim.objects.get().draft == {"reasons": ["truer"]}


def test_what_was_said_goes_back_to_the_texts(past, newest):
    migrate(newest)
    from annotate.models import Claim, Comparison

    Claim.objects.update(state="passed")
    comparison = Comparison.objects.get()
    assert (comparison.judged, comparison.skipped, comparison.open) == (0, 0, True)  # the triggers count
    apps = migrate(BEFORE)
    assert apps.get_model("annotate", "Claim").objects.get().state == "skipped"
    assert apps.get_model("annotate", "Comparison").objects.get().skipped == 1
    project = apps.get_model("annotate", "Project").objects.get()
    assert (project.reasons, project.criteria) == (["More true", "more-true"], ["Helpful"])
    for judgment in apps.get_model("annotate", "Judgment").objects.all():
        assert judgment.reasons == ["Truer", "More true"]
        assert judgment.criteria == {"Helpful": {"verdict": "tie"}}
