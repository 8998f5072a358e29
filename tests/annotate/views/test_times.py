"""Times are written in the reader's own zone, with its name; the site's days are not everyone's."""

from datetime import UTC, datetime
from typing import Any

import pytest

from annotate.models import Judgment, Project
from tests.factories import say

pytestmark = pytest.mark.once  # forms and pages, whatever the database

LATE = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)


@pytest.fixture
def judged(teammate: Any, make_comparisons: Any) -> Judgment:
    judgment = say(teammate, make_comparisons(1)[0], "first")
    Judgment.objects.update(created_at=LATE)
    return judgment


@pytest.mark.parametrize(
    ("zone", "written", "attribute"),
    [
        ("", "1 Mar 2026, 23:30 UTC", "2026-03-01T23:30:00+00:00"),
        ("Asia/Tokyo", "2 Mar 2026, 08:30 JST", "2026-03-02T08:30:00+09:00"),
        ("Asia/Kolkata", "2 Mar 2026, 05:00 IST", "2026-03-02T05:00:00+05:30"),
        ("America/New_York", "1 Mar 2026, 18:30 EST", "2026-03-01T18:30:00-05:00"),
        ("../../etc/passwd", "1 Mar 2026, 23:30 UTC", "2026-03-01T23:30:00+00:00"),
        ("Mars/Olympus", "1 Mar 2026, 23:30 UTC", "2026-03-01T23:30:00+00:00"),
    ],
)
@pytest.mark.parametrize("page", ["history/", "history/{judgment}/", "comparisons/{comparison}/"])
def test_a_page_writes_the_readers_time(
    judged: Judgment,
    owner: Any,
    teammate: Any,
    client_for: Any,
    page: str,
    zone: str,
    written: str,
    attribute: str,
) -> None:
    client = client_for(owner if page.startswith("comparisons") else teammate)
    if zone:
        client.cookies["timezone"] = zone
    path = page.format(judgment=judged.pk, comparison=judged.comparison_id)
    html = client.get(f"/p/reviews/{path}").content.decode()
    assert f'<time datetime="{attribute}"' in html
    assert f">{written}</time>" in html


def test_a_day_ends_when_the_readers_day_does(
    project: Project, judged: Judgment, teammate: Any, client_for: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("django.utils.timezone.now", lambda: datetime(2026, 3, 2, 1, 0, tzinfo=UTC))
    client = client_for(teammate)
    assert '<b id="tally">0</b>' in " ".join(client.get("/p/reviews/judge/").content.decode().split())
    client.cookies["timezone"] = "Asia/Tokyo"
    assert '<b id="tally">1</b>' in " ".join(client.get("/p/reviews/judge/").content.decode().split())


def test_programs_read_the_sites_time(judged: Judgment, owner: Any, client_for: Any) -> None:
    client = client_for(owner)
    client.cookies["timezone"] = "Asia/Tokyo"
    [row] = client.get("/api/v1/projects/reviews/judgments/").json()["results"]
    assert row["created_at"] == "2026-03-01T23:30:00Z"
