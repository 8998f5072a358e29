"""Judgments from elsewhere on the pages: marked as imported, and left out of people's own figures."""

import re

import pytest

from annotate.imports.expansion import Choices, expand
from annotate.imports.uploads import batch, judgments, withdraw
from annotate.imports.writing import write
from annotate.judgments import places
from annotate.models import Comparison, Import, Judgment, User
from annotate.projects import lifecycle
from annotate.queueing import queue
from annotate.reports import agreement, days
from annotate.reports.my_work import measure_work
from annotate.reports.quality import assess
from annotate.sources.candidates import Answer, Candidate, Opinion
from tests.annotate.invariants import broken_rules
from tests.factories import judge_all, later, say
from training.views.overview import overview

pytestmark = pytest.mark.once

CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look_up"}}]}


@pytest.fixture
def upload(project, owner):
    """Return a finished import: two judged pairs, of plain text and of a chat with an empty completion."""
    found = Import.objects.create(
        project=project, created_by=owner, filename="pairs.jsonl", format="jsonl", size=1, state="done"
    )
    plain = (Answer("upon"), Answer("more")), (Opinion((1, 0), "", "maria"), Opinion((1, 0), "", "jan"))
    chat = (Answer([CALL]), Answer("")), (Opinion((1, 0), annotator="maria", strength=2),)
    rows = [Candidate(prompt, *said) for prompt, said in (("Once", plain), ("Is it cold?", chat))]
    items = [item for row in rows for item in expand(row, Choices("judged", empty_completions=True))]
    write(project, list(enumerate(items)), batch(found))
    return found


def page(client, path):
    return client.get(f"/p/reviews/{path}").content.decode()


def test_pages_mark_what_is_imported(project, upload, owner, client_for):
    client = client_for(owner)
    maria = User.objects.get(external_name="maria")
    chat = Comparison.objects.latest("pk")
    one = page(client, f"comparisons/{chat.pk}/")
    assert re.search(r'data-label="Left">\s*—', one)
    for said in ("maria", "imported", "(empty)", "Call of look_up", "better"):
        assert said in one
    for path in (
        "comparisons/?judged_by=imported",
        f"comparisons/?annotator={maria.pk}",
        "quality/",
        "export/",
    ):
        assert "maria" in page(client, path)
    for path in (f"comparisons/?annotator={maria.pk}", "export/"):
        assert '<span class="badge">imported</span>' in page(client, path)
    assert "Nothing matches" in page(client, "comparisons/?judged_by=people")
    assert "maria" not in page(client, "members/")


def test_figures_of_people_leave_it_out(project, upload, teammate, make_comparisons):
    make_comparisons(2)
    judge_all(project, teammate)
    found = overview(project)
    assert (found.total, found.finished, found.judgments, found.judgments_needed) == (2, 2, 2, 2)
    assert (found.imported, found.judged_elsewhere, found.active) == (3, 2, 1)
    assert sum(day.count for day in days.days_of(project)) == 2
    assert agreement.pairwise_agreement(project).everyone.total == 1
    assert {one.left.total for one in agreement.annotators(project)} == {0}


def test_own_agreement_is_with_people_alone(project, upload, teammate, researcher):
    project.show_agreement = True
    for comparison in project.comparisons.all():
        say(teammate, comparison, "first", now=later(-2 * 24 * 60))
    assert measure_work(project, teammate).agreement.total == 0
    say(researcher, comparison, "second")
    assert measure_work(project, teammate).agreement.total == 1


def test_an_import_is_taken_back_with_its_judgments(project, upload, owner, client_for):
    client = client_for(owner)
    assert "Withdraw this import with its 3 judgments" in page(client, f"import/{upload.pk}/")
    client.post(f"/p/reviews/import/{upload.pk}/withdraw/")
    assert Comparison.objects.filter(withdrawn_at=None).count() == 0
    assert not Judgment.objects.current().exists()
    assert "3 judgments from elsewhere taken back" in page(client, f"import/{upload.pk}/")


def test_people_judge_imported_pairs_too_and_no_more(
    project, upload, owner, teammate, researcher, client_for
):
    """Each pair is handed out as often as the project asks for, once, and keeps what it has when that is undone."""
    project.judgments_needed = 2
    project.save()
    client = client_for(owner)
    for other in (teammate, researcher):
        assert client_for(other).post(f"/p/reviews/import/{upload.pk}/people/").status_code == 403
    assert places.count_places(project) == {"to_ask": 2, "asked": 0}
    assert "Have people judge 2 imported pairs, too" in page(client, f"import/{upload.pk}/")
    for _again in range(2):
        client.post(f"/p/reviews/import/{upload.pk}/people/")
        assert list(Comparison.objects.order_by("pk").values_list("needed", "judged")) == [(4, 2), (3, 1)]
    assert project.trail.filter(verb="asked").count() == 1
    judge_all(project, teammate)
    assert overview(project).judgments == 2
    lifecycle.change_needed(project, 3)
    assert sorted(Comparison.objects.values_list("needed", flat=True)) == [4, 5]

    client.post(f"/p/reviews/import/{upload.pk}/people/", {"action": "stop"})
    assert sorted(Comparison.objects.values_list("needed", "judged")) == [(2, 2), (3, 3)]
    assert queue.claim(project, owner) is None
    assert places.count_places(project, batch(upload)) == {"to_ask": 2, "asked": 0}
    assert assess(project).with_external.total == 3
    assert "People agree with imported verdicts" in page(client, "quality/")
    assert broken_rules(project) == []

    listed = page(client, "comparisons/?judged_by=imported")
    assert "/p/reviews/import/people/" in listed
    client.post("/p/reviews/import/people/")
    assert queue.claim(project, owner) is not None
    assert "Ask people no more about" in page(client, "comparisons/?judged_by=imported")


def test_what_a_person_judged_too_stays(project, upload, teammate):
    Comparison.objects.update(needed=5)
    judge_all(project, teammate)
    assert (withdraw(upload, upload.created_by), judgments(upload).count()) == ((0, 0), 0)
    assert Judgment.objects.current().count() == 5


def test_hundreds_of_annotators_from_files_fit_on_a_page(project, owner, client_for):
    """The ones with the most judgments are listed, others are found by name, and all of them are one choice."""
    found = Import.objects.create(
        project=project, created_by=owner, filename="crowd.jsonl", format="jsonl", size=1, state="done"
    )
    crowd = tuple(Opinion((1, 0), "", f"worker {number:03}") for number in range(60))
    rows = [
        Candidate("Once", (Answer("upon"), Answer("more")), crowd),
        Candidate("Twice", (Answer("upon"), Answer("more")), crowd[-1:]),
    ]
    items = [item for row in rows for item in expand(row, Choices("judged"))]
    write(project, list(enumerate(items)), batch(found))
    client, last = client_for(owner), User.objects.get(external_name="worker 059")
    quality = page(client, "quality/")
    assert quality.count("/comparisons/?annotator=") == 20
    assert "worker 059" in quality
    assert "Annotators: 60. Judgments: 61." in quality
    searched = page(client, "quality/?external=WORKER+033")
    assert searched.count("/comparisons/?annotator=") == 1
    assert "has this in their name" in page(client, "quality/?external=nemo")
    listed = page(client, f"comparisons/?annotator={last.pk}")
    assert f'<option value="{last.pk}" selected>' in listed
    assert listed.count("(imported)") == 21
    assert page(client, "export/").count("worker 0") == 2 * 20  # to choose from, and their numbers
