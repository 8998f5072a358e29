"""A revision keeps what it was not asked about: reading time, mark, first time, and the notes."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from annotate.judgments import judging, revising, undoing
from annotate.judgments.judging import Verdict
from annotate.models import Judgment, stored_aspects
from annotate.pairs.judgment_rows import judgment_rows
from annotate.queueing import queue
from annotate.reports import my_work
from annotate.reports.days import days_of
from tests.factories import TIE, later
from training.views.overview import overview


@pytest.fixture
def judged(project, teammate, claim):
    """Return a judgment with everything noted, read for seven seconds twenty days ago."""
    project.min_seconds = 5.0
    project.reasons, project.criteria = stored_aspects(["Clear"]), stored_aspects(["Helpful"])
    project.ask_rationale = True
    project.save()
    at = timezone.now() - timedelta(days=20)
    claim.claimed_at = at - timedelta(minutes=1)
    claim.save(update_fields=["claimed_at"])
    notes = {"reasons": ["clear"], "criteria": {"helpful": {"verdict": "tie"}}, "rationale": "Because."}
    verdict = Verdict("prefer", "a", 2, **notes)
    return judging.record(project, teammate, claim.token, verdict, seconds=7.0, now=at)


def test_a_late_judgment_stays_late(project, teammate, claim):
    late = judging.record(project, teammate, claim.token, TIE, now=later(60))
    assert late.late
    assert revising.revise(project, teammate, late.pk, Verdict("both_bad")).late


def notes_of(judgment):
    return judgment.reasons, judgment.criteria, judgment.rationale


def look_away(project):
    """Take back all that the project asks for beside the verdict."""
    for asked in [*project.reasons, *project.criteria]:
        asked["removed"] = True
    project.ask_rationale = False
    project.save()


def test_a_revision_keeps_time_and_mark(project, teammate, judged):
    judged.too_fast = True
    judged.save()
    revised = revising.revise(
        project, teammate, judged.pk, Verdict("prefer", "a", 2, rationale="Better said.")
    )
    assert (revised.seconds, revised.too_fast, revised.first_at) == (7.0, True, judged.first_at)
    assert revised.created_at > judged.created_at
    assert revised.rationale == "Better said."


def test_a_slip_put_right_is_not_too_fast(project, teammate, judged):
    Judgment.objects.update(created_at=timezone.now() - timedelta(hours=1))
    again = undoing.undo(project, teammate)
    at = again.seen_at + timedelta(seconds=2)
    right = judging.record(project, teammate, again.token, TIE, seconds=0.96, now=at)
    assert right.seconds == pytest.approx(7.96)
    assert (right.too_fast, right.first_at) == (False, judged.first_at)


def test_looks_that_stay_short_together_are_too_fast(project, teammate, claim):
    project.min_seconds = 5.0
    project.save()
    judging.record(project, teammate, claim.token, TIE, seconds=0.5, now=claim.seen_at + timedelta(seconds=1))
    again = undoing.undo(project, teammate)
    at = again.seen_at + timedelta(seconds=1)
    assert judging.record(project, teammate, again.token, Verdict("both_bad"), seconds=0.5, now=at).too_fast


def test_a_verdict_after_undo_keeps_what_it_was_not_asked(project, teammate, judged):
    Judgment.objects.update(created_at=timezone.now() - timedelta(hours=1))
    again = undoing.undo(project, teammate)
    assert notes_of(judging.record(project, teammate, again.token, TIE)) == notes_of(judged)


def test_a_note_is_taken_back_where_it_was_asked_about(project, teammate, judged):
    asked = frozenset({"reason-clear", "criterion-helpful", "rationale"})
    verdict = Verdict("tie", reasons=[], criteria={}, rationale="", asked=asked)
    assert notes_of(revising.revise(project, teammate, judged.pk, verdict)) == ([], {}, "")


def test_the_same_said_again_is_no_revision(project, teammate, judged):
    assert revising.revise(project, teammate, judged.pk, Verdict("prefer", "a", 2)) == judged


def test_a_page_that_asks_nothing_changes_no_notes(project, teammate, judged, client_for):
    """The form states what it asks about, so what it does not show stays."""
    look_away(project)
    address = reverse("judgment", args=["reviews", judged.pk])
    client_for(teammate).post(address, {"verdict": "b1", "asked": ""})
    assert notes_of(Judgment.objects.get(superseded_at=None)) == notes_of(judged)


def test_what_was_noted_is_shown_though_not_asked_now(project, teammate, judged, client_for):
    look_away(project)
    page = client_for(teammate).get(reverse("judgment", args=["reviews", judged.pk])).content.decode()
    assert "Because.</textarea>" in page
    for name in ("reason-clear", "criterion-helpful", "rationale"):
        assert f'name="asked" value="{name}"' in page


def test_a_revision_is_the_work_of_its_first_day(project, teammate, judged):
    revising.revise(project, teammate, judged.pk, TIE)
    work = my_work.measure_work(project, teammate)
    assert (work.today, work.total, work.streak, work.seconds) == (0, 1, 0, 7.0)
    assert my_work.count_today(project, teammate) == 0
    assert {day.date: day.count for day in days_of(project)}[timezone.localdate(judged.first_at)] == 1
    assert overview(project).active == 0


def test_the_export_has_both_times(project, teammate, judged):
    revising.revise(project, teammate, judged.pk, TIE)
    before, after = judgment_rows(project)
    assert before["first_at"] == after["first_at"] == before["created_at"] != after["created_at"]


def test_the_history_shows_both_times(project, teammate, owner, judged, client_for):
    revised = revising.revise(project, teammate, judged.pk, TIE)
    first = timezone.localtime(judged.first_at).isoformat()
    pages = [
        (teammate, reverse("history", args=["reviews"])),
        (teammate, reverse("judgment", args=["reviews", revised.pk])),
        (owner, reverse("comparison", args=["reviews", judged.comparison_id])),
    ]
    for person, address in pages:
        page = client_for(person).get(address).content.decode()
        assert f'datetime="{first}"' in page
        assert f'datetime="{timezone.localtime(revised.created_at).isoformat()}"' in page


def test_reading_goes_on_in_another_tab(project, teammate, owner, claim):
    """A verdict in a tab that an undo left open, after a redo, adds the look that it ends."""
    first = judging.record(project, teammate, claim.token, TIE, seconds=0.0)
    again = undoing.undo(project, teammate)
    undoing.redo(project, teammate)
    now = again.claimed_at + timedelta(seconds=9)
    revised = judging.record(project, teammate, again.token, Verdict("both_bad"), seconds=8.0, now=now)
    assert revised.seconds == pytest.approx((first.seconds or 0.0) + 8.0)
    assert queue.claim(project, teammate).pk != claim.pk
