"""Reasons and criteria on the settings page: a key is fixed, a title is not, and nothing that was said is lost."""

import json
import time

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.judgments import revising
from annotate.judgments.judging import Verdict
from annotate.models import Judgment, Project, TrailEntry, stored_aspects
from annotate.pairs.judgment_rows import judgment_rows
from annotate.projects import lifecycle
from tests.factories import say

pytestmark = pytest.mark.once

URL = "/p/reviews/settings/"
HELPFUL = {"helpfull": {"verdict": "tie"}}


@pytest.fixture
def page(project, owner, client_for):
    """Return the settings page of a project with two reasons and a misspelt criterion."""
    project.reasons, project.criteria = stored_aspects(["Truer", "Shorter"]), stored_aspects(["Helpfull"])
    project.save()
    return client_for(owner)


@pytest.fixture
def judged(page, project, teammate, make_comparisons):
    [comparison] = make_comparisons(1)
    judgment = say(teammate, comparison, "first")
    verdict = Verdict("prefer", judgment.preferred_id, 2, reasons=["truer"], criteria=HELPFUL)
    return revising.revise(project, teammate, judgment.pk, verdict)


def form_of(page):
    """Return what the page's form would post."""
    form = page.get(URL).context["form"]
    data = {name: "" if value is None else value for name, value in form.initial.items()}
    data |= {"training_settings": "{}", "sampling_settings": "{}", "base_model": "starter"}
    for _label, field, rows in form.aspects:
        data[field.name] = ""
        for row, _held in rows:
            data[f"{field.name}-title-{row.key}"] = row.title
            data[f"{field.name}-place-{row.key}"] = row.place
            if row.asked:
                data[f"{field.name}-asked-{row.key}"] = "on"
    return data


def save(page, **changes):
    """Save the form with these changes. None takes a field away."""
    data = form_of(page) | {name.replace("__", "-"): value for name, value in changes.items()}
    return page.post(URL, {name: value for name, value in data.items() if value is not None}, follow=True)


def test_a_form_saved_unchanged_changes_nothing(page, project):
    before = project.reasons, project.criteria
    save(page)
    project.refresh_from_db()
    assert (project.reasons, project.criteria) == before
    assert not TrailEntry.objects.filter(verb="settings").exists()


def test_a_new_title_leaves_the_key_and_what_was_said(page, project, teammate, judged):
    save(page, criteria__title__helpfull="Helpful", reasons__title__truer="More true")
    project.refresh_from_db()
    assert project.criteria == [{"key": "helpfull", "title": "Helpful"}]
    revised = revising.revise(project, teammate, judged.pk, Verdict("tie", rationale="Both are fine."))
    assert (revised.reasons, revised.criteria) == (["truer"], HELPFUL)


def test_removing_says_how_many_judgments_hold_it(page, project, judged):
    answer = save(page, reasons__asked__truer=None, criteria__asked__helpfull=None)
    html = answer.content.decode()
    assert "“Truer” is no longer asked for. 1 judgment holds it, and keeps it." in html
    assert "“Helpfull” is no longer asked for. 1 judgment holds it, and keeps it." in html
    project.refresh_from_db()
    assert {one.key: one.is_removed for one in project.all_reasons} == {"truer": True, "shorter": False}
    judged.refresh_from_db()
    assert (judged.reasons, judged.criteria) == (["truer"], HELPFUL)


def test_what_is_asked_for_again_has_its_old_key(page, project):
    save(page, reasons__asked__truer=None)
    save(page, reasons="Truer\nMore vivid")
    project.refresh_from_db()
    assert sorted((one.key, one.is_removed) for one in project.all_reasons) == [
        ("more-vivid", False),
        ("shorter", False),
        ("truer", False),
    ]


def test_a_row_that_the_page_lacked_stays(page, project):
    data = form_of(page)
    project.reasons = [*project.reasons, {"key": "newer", "title": "Newer"}]
    project.save()
    page.post(URL, data)
    project.refresh_from_db()
    assert [one.key for one in project.all_reasons] == ["truer", "shorter", "newer"]


def test_what_an_import_adds_while_settings_are_saved_stays(project, owner):
    stale = Project.objects.get(pk=project.pk)
    added = {"key": "newer", "title": "Newer", "removed": True}
    Project.objects.filter(pk=project.pk).update(reasons=[added])
    stale.reasons = stored_aspects(["Truer"])
    lifecycle.change_settings(stale, owner, ["reasons"], changed=["reasons"])
    project.refresh_from_db()
    assert [one.key for one in project.all_reasons] == ["truer", "newer"]


OF_FILE = {"key": "of-file", "title": "Of a file", "removed": True, "imported": True}


def test_what_a_file_named_is_marked_until_it_is_asked_for(page, project):
    Project.objects.filter(pk=project.pk).update(reasons=[*project.reasons, OF_FILE])
    save(page)
    project.refresh_from_db()
    assert project.reasons[-1] == OF_FILE
    assert not TrailEntry.objects.filter(verb="settings").exists()
    save(page, **{"reasons__asked__of-file": "on"})
    project.refresh_from_db()
    assert {"key": "of-file", "title": "Of a file"} in project.reasons


def test_what_was_forgotten_while_settings_are_saved_stays_so(page, project, owner):
    stale = Project.objects.get(pk=project.pk)
    stale.reasons = [*stale.reasons, OF_FILE]
    lifecycle.change_settings(stale, owner, ["reasons"], changed=["reasons"])
    project.refresh_from_db()
    assert [one.key for one in project.all_reasons] == ["truer", "shorter"]


def test_a_name_is_saved_without_a_look_at_reasons(project, owner):
    project.name = "Films"
    with CaptureQueriesContext(connection) as queries:
        lifecycle.change_settings(project, owner, ["name"], changed=[])
    assert not [query["sql"] for query in queries if "reasons" in query["sql"]]


def test_places_order_the_rows(page, project):
    save(page, reasons__place__shorter="0")
    project.refresh_from_db()
    assert [one.key for one in project.all_reasons] == ["shorter", "truer"]


@pytest.mark.parametrize(
    ("title", "error"),
    [("", "needs a title"), ("Shorter", "Two are called"), ("x" * 61, "is longer than"), ("a\x00", "Null")],
)
def test_a_bad_title_is_refused_and_stays_in_its_field(page, project, title, error):
    answer = save(page, reasons__title__truer=title)
    assert answer.status_code == 422
    assert error in answer.content.decode()
    before = project.reasons
    project.refresh_from_db()
    assert project.reasons == before


def test_fifty_thousand_new_titles_are_refused_at_once(page):
    """Each that got a key looked at all others: this took two minutes of processor time."""
    started = time.process_time()
    answer = save(page, criteria="\n".join(f"Title {number}" for number in range(50_000)))
    assert time.process_time() - started < 10
    assert "At most 8: these are 50001." in answer.content.decode()


def test_titles_in_any_script_get_keys(page, project):
    save(page, reasons="أصدق\nTruer!\nاقصر")
    project.refresh_from_db()
    assert [one.key for one in project.all_reasons] == ["truer", "shorter", "key-1", "truer-2", "key-2"]


def test_people_read_titles_and_programs_keys(page, project, judged):
    save(page, reasons__title__truer="More true", reasons__asked__truer=None)
    project.refresh_from_db()
    html = page.get(f"/p/reviews/comparisons/{judged.comparison_id}/").content.decode()
    assert "More true" in html
    row = list(judgment_rows(project))[-1]
    assert (row["reasons"], row["reason_titles"]) == (["truer"], ["More true"])
    assert (json.loads(row["criteria"]).keys(), row["criterion_titles"]) == ({"helpfull"}, ["Helpfull"])
    told = page.get("/api/v1/projects/reviews/").json()
    assert told["reasons"] == [
        {"key": "truer", "title": "More true", "asked": False},
        {"key": "shorter", "title": "Shorter", "asked": True},
    ]


def test_a_title_is_understood_as_its_key(project, teammate, judged):
    project.refresh_from_db()
    verdict = Verdict("tie", reasons=["Shorter"], criteria={"Helpfull": {"verdict": "both_bad"}})
    revising.revise(project, teammate, judged.pk, verdict)
    revised = Judgment.objects.get(superseded_at=None)
    assert (revised.reasons, revised.criteria) == (["shorter"], {"helpfull": {"verdict": "both_bad"}})
