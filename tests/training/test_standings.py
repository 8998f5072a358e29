"""The judgments that compare policies: of pairs that neither a probe nor a person chose for what they say."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import Comparison, Policy
from tests.factories import compare, say
from training.standings.policies import find_meetings, rank_policies
from training.standings.records import records_of


@pytest.fixture
def other(project):
    return Policy.objects.create(project=project, name="outside", kind=Policy.Kind.EXTERNAL)


@pytest.fixture
def between(project, other):
    """Return a function that compares the current policy with the other one."""

    def between(**fields):
        number = Comparison.objects.count()
        writers = (project.current_policy, other)
        return compare(project, f"Review {number}:", " It sings.", " It sags.", policies=writers, **fields)

    return between


def test_a_comparison_at_random_ranks_both_policies(project, teammate, between, other):
    for fields in ({}, {"arm": "control", "propensity": 0.2}, {"kind": "gate"}):
        say(teammate, between(**fields), "first")
    assert len(find_meetings(project)) == 3
    [record] = records_of(other)
    assert (record.other, record.wins, record.losses) == (project.current_policy, 0, 3)


def test_what_a_probe_chose_ranks_no_policy(project, teammate, between, other):
    say(teammate, between(arm="probe", propensity=0.8), "first")
    assert find_meetings(project) == records_of(other) == []


def test_gold_and_repeats_rank_no_policy(project, teammate, between, other):
    say(teammate, between(kind="gold"), "first")
    original = between()
    Comparison.objects.filter(pk=original.pk).update(
        kind="repeat", repeat_of=between().pk, reserved_for=teammate
    )
    say(teammate, original, "first")
    assert find_meetings(project) == records_of(other) == []


def test_two_completions_of_one_policy_rank_it_against_none(project, teammate, make_comparisons):
    say(teammate, make_comparisons()[0], "first")
    assert find_meetings(project) == records_of(project.current_policy) == []


def test_standings_are_measured_once_for_the_same_judgments(project, teammate, between, other):
    def look():
        with CaptureQueriesContext(connection) as asked:
            found = rank_policies(project), records_of(other)
        return found, any("annotate_completion" in query["sql"] for query in asked)

    say(teammate, between(), "first")
    before, is_measured = look()
    assert is_measured
    assert look() == (before, False)
    say(teammate, between(), "second")
    (_ranked, [record]), is_measured = look()
    assert is_measured
    assert record.total == 2
