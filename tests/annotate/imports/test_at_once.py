"""Two acts of admins on imported judgments at the same moment: what a comparison needs stays what its rows say."""

import pytest
from django.core.files.base import ContentFile
from django.db import connection
from django.http import Http404

from annotate.imports import uploads
from annotate.imports.expansion import Choices, expand
from annotate.imports.files import reception
from annotate.imports.writing import compare, write
from annotate.judgments import places
from annotate.models import Claim, Comparison, Import, Judgment, Project
from annotate.projects import lifecycle
from annotate.sources.candidates import Answer, Candidate, Opinion
from tests.annotate.invariants import broken_rules

pytestmark = pytest.mark.django_db(transaction=True)


def bring_in(project, batch, *, update=False, **orders):
    said = tuple(Opinion(order, "", name) for name, order in orders.items())
    row = Candidate("Once", (Answer("upon"), Answer("more")), said)
    return write(
        Project.objects.get(pk=project.pk),
        list(enumerate(expand(row, Choices("judged")))),
        batch,
        update=update,
    )


@pytest.fixture
def upload(project, owner):
    """Bring in a pair that two judged elsewhere, and ask three people about it too."""
    upload = Import.objects.create(project=project, filename="a.csv", format="csv", size=1, state="done")
    bring_in(project, "first file", lena=(1, 0))
    bring_in(project, uploads.batch(upload), maria=(1, 0), jan=(1, 0))
    project.judgments_needed = 3
    project.save()
    places.ask_people(project)
    assert Comparison.objects.get().needed == 6
    return upload


def test_two_withdrawals_at_once_give_places_back_once(project, owner, upload, commits_first):
    other = commits_first(lambda: uploads.withdraw(upload, owner))
    uploads.withdraw(upload, owner)
    other.result()
    assert Comparison.objects.get().needed == 4
    assert broken_rules(project) == []


@pytest.mark.parametrize("withdrawal_first", [True, False])
def test_asking_no_more_beside_a_withdrawal_keeps_counters(
    project, owner, upload, commits_first, withdrawal_first
):
    acts = [lambda: uploads.withdraw(upload, owner), lambda: places.ask_no_more(project)]
    first, second = acts if withdrawal_first else reversed(acts)
    other = commits_first(first)
    second()
    other.result()
    kept = Comparison.objects.get()
    assert (kept.needed, kept.judged) == (1, 1)  # that of the other import
    assert broken_rules(project) == []


def test_what_is_corrected_meanwhile_is_not_withdrawn(project, owner, upload, commits_first):
    other = commits_first(lambda: bring_in(project, "another file", update=True, maria=(0, 1)))
    uploads.withdraw(upload, owner)
    other.result()
    current = Judgment.objects.filter(superseded_at=None).values_list("annotator__external_name", flat=True)
    assert sorted(current) == ["lena", "maria"]
    assert Claim.objects.filter(state="judged").count() == 2
    assert Comparison.objects.get().needed == 5
    assert broken_rules(project) == []


def test_more_are_asked_for_beside_those_that_arrive(project, owner, upload, commits_first):
    other = commits_first(lambda: bring_in(project, "another file", piet=(0, 1)))
    lifecycle.change_needed(project, 4)
    other.result()
    assert Comparison.objects.get().needed == 8
    assert broken_rules(project) == []


def test_a_check_goes_on_while_another_import_brings_verdicts(project, upload):
    arrived = []

    def meanwhile(execute, sql, parameters, many, context):
        if 'FROM "annotate_judgment"' in sql and not arrived:  # once the claims were looked at
            arrived.append("piet")
            bring_in(project, "another file", piet=(0, 1))
        return execute(sql, parameters, many, context)

    row = Candidate("Once", (Answer("upon"), Answer("more")), (Opinion((1, 0), "", "ada"),))
    with connection.execute_wrapper(meanwhile):
        outcome = compare(project, enumerate(expand(row, Choices("judged"))))
    assert (arrived, outcome.counts["judgments"]) == (["piet"], 1)


def test_a_step_of_an_import_that_is_forgotten_finds_none(project, owner):
    file = ContentFile(b'{"prompt": "Once"}\n', "rows.jsonl")
    upload = reception.receive(project, owner, file)

    def meanwhile(execute, sql, parameters, many, context):
        found = execute(sql, parameters, many, context)
        if sql.startswith("UPDATE") and '"annotate_import"' in sql:
            Import.objects.filter(pk=upload.pk).delete()
        return found

    with connection.execute_wrapper(meanwhile), pytest.raises(Http404):
        uploads.work(upload.pk, 1)
