"""The rows that depend on what is forgotten, found at a cost that a large project can bear."""

import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.imports import uploads
from annotate.models import Comparison, Completion, Flag, Import
from tests.factories import compare, say
from training.provenance.consequences import find_consequences, import_target, person_targets
from training.provenance.forgetting import forget
from training.rounds import lineage

ASKED_OF_EACH_ROW = re.compile(r'(?: OR | NOT )\(*(?:"\w+"\.)?"\w+" IN \(+SELECT ')


def test_dependents_are_found_by_indexes(project: Any, teammate: Any) -> None:
    """An OR of two subqueries is asked of each row of a table: of a million, PostgreSQL never came to an end."""
    [target] = person_targets(teammate, project)
    for rows in (target.judgments, target.pairs, target.ratings, lineage.held_judgments([1])):
        assert " OR " not in str(rows.query)
        assert list(rows) == []


@pytest.fixture
def upload(project: Any) -> Import:
    """Return an import of one comparison, beside another that shares one of its completions."""
    upload = Import.objects.create(project=project, filename="a.csv", format="csv", size=1, state="done")
    brought = compare(project, "Once", " upon", " more", batch=uploads.batch(upload))
    third = Completion.objects.create(prompt=brought.prompt, policy=brought.first.policy, text=" again")
    Comparison.objects.create(project=project, prompt=brought.prompt, first=third, second=brought.second)
    return upload


def test_no_statement_compares_whole_tables(project: Any, upload: Import, teammate: Any) -> None:
    """PostgreSQL reads all of a subquery for each row, unless its rows fit in memory."""
    say(teammate, Comparison.objects.earliest("pk"), "first")
    with CaptureQueriesContext(connection) as asked:
        [target] = person_targets(teammate, None)
        find_consequences(target)
        forget([import_target(upload)])
    assert len(asked) > 20
    assert not [query["sql"] for query in asked if ASKED_OF_EACH_ROW.search(query["sql"])]
    assert sorted(Completion.objects.values_list("text", flat=True)) == [" again", " more"]


def test_the_projects_that_know_a_person_are_found(project: Any, owner: Any, make_member: Any) -> None:
    flagging, judging, member = (make_member(name, "annotator") for name in ("anna", "bela", "cleo"))
    comparison = compare(project, "Once", " upon", " more")
    Flag.objects.create(comparison=comparison, annotator=flagging)
    say(judging, comparison, "first")
    for person in (flagging, judging):
        person.memberships.all().delete()
    for person in (flagging, judging, member):
        assert [one.project for one in person_targets(person, None)] == [project]
    member.memberships.all().delete()
    assert person_targets(member, None) == []
