"""The judgments that compare policies: of pairs that neither a probe nor a person chose for what they say."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.imports.records import Item, PairOpinion
from annotate.imports.writing import write
from annotate.models import Comparison, Policy
from tests.factories import compare, say
from training.standings.gates import Gate
from training.standings.policies import find_matches, rank_policies
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
    assert len(find_matches(project)) == 3
    [record] = records_of(other)
    assert (record.other, record.wins, record.losses) == (project.current_policy, 0, 3)


def test_what_a_probe_chose_ranks_no_policy(project, teammate, between, other):
    say(teammate, between(arm="probe", propensity=0.8), "first")
    assert find_matches(project) == records_of(other) == []


def test_gold_and_repeats_rank_no_policy(project, teammate, between, other):
    say(teammate, between(kind="gold"), "first")
    original = between()
    Comparison.objects.filter(pk=original.pk).update(
        kind="repeat", repeat_of=between().pk, reserved_for=teammate
    )
    say(teammate, original, "first")
    assert find_matches(project) == records_of(other) == []


def test_two_completions_of_one_policy_rank_it_against_none(project, teammate, make_comparisons):
    say(teammate, make_comparisons()[0], "first")
    assert find_matches(project) == records_of(project.current_policy) == []


def test_the_policy_that_was_met_most_is_the_first_record(project, teammate, between, other):
    third = Policy.objects.create(project=project, name="third", kind=Policy.Kind.EXTERNAL)
    once = compare(project, "Once:", " It sings.", " It sags.", policies=(third, other))
    for comparison in (once, between(), between()):
        say(teammate, comparison, "first")
    assert [(record.other, record.total) for record in records_of(other)] == [
        (project.current_policy, 2),
        (third, 1),
    ]


def test_a_record_has_the_interval_of_a_gate_without_a_plan(project, teammate, between, other):
    for verdict in ["first"] * 12 + ["second"] * 3:
        say(teammate, between(), verdict)
    [record] = records_of(project.current_policy)
    observations = (1.0,) * 12 + (-1.0,) * 3
    assert record.win_rate == Gate(15, 15, 12, 0, 3, prompts=observations).win_rate


def test_a_side_that_a_file_does_not_know_is_no_side(project):
    opinions = (PairOpinion("maria", "prefer", 0), PairOpinion("ivan", "prefer", 0, left=0))
    write(project, [(1, Item(prompt="P", completions=("a", "b"), policies=("x", "y"), opinions=opinions))])
    assert sorted(match.side for match in find_matches(project)) == [0, 1]


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
