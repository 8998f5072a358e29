"""Alarms about annotators: simulated ones, honest and not."""

import random
from collections import Counter

import pytest

from annotate.models import Policy
from annotate.reports.agreement import Meeting
from annotate.reports.alarms import find_alarms
from annotate.reports.quality import assess
from annotate.reports.reliability import Evidence, gate_checks, weights_of_votes
from primitives.reliability import Check
from primitives.statistics import Share
from tests.factories import compare, say


def evidence_of(accuracy: list[float], count: int, rng: random.Random) -> Evidence:
    """Return what `count` comparisons tell, each judged by two of these annotators."""
    met: Counter[tuple[int, int, str, str]] = Counter()
    for _ in range(count):
        said = {
            one: "first" if rng.random() < accuracy[one] else "second"
            for one in rng.sample(range(len(accuracy)), 2)
        }
        (one, first), (other, second) = sorted(said.items())
        met[one, other, first, second] += 1
    return Evidence([Meeting(*key, judged=2, count=times) for key, times in met.items()])


def test_a_spammer_is_found_and_nobody_else() -> None:
    (alarm,) = find_alarms(evidence_of([0.9, 0.9, 0.5], 400, random.Random(0)))
    assert alarm.annotator == 2
    assert alarm.low <= 0.5 < alarm.high < 0.7
    assert alarm.colleagues == 2
    assert "2 colleagues" in alarm.sentence


@pytest.mark.parametrize("accuracy", [[0.9, 0.9, 0.9], [0.75] * 5, [0.7] * 4])
def test_honest_annotators_hardly_ever_raise_an_alarm(accuracy: list[float]) -> None:
    rng = random.Random(1)
    false = sum(bool(find_alarms(evidence_of(accuracy, 150, rng))) for _ in range(40))
    assert false <= 2


def test_who_only_contradicts_spammers_raises_no_alarm() -> None:
    assert not find_alarms(evidence_of([0.9, 0.5], 400, random.Random(2)))
    assert not find_alarms(evidence_of([0.9, 0.5, 0.5], 600, random.Random(3)))


def test_gold_and_a_probe_are_evidence_too() -> None:
    (alarm,) = find_alarms(
        Evidence(
            gold={1: Share(40, 80), 2: Share(70, 80)}, added={"probe": {1: [Check(0.8, 50), Check(0.2, 50)]}}
        )
    )
    assert alarm.annotator == 1
    assert "40 of 80 gold" in alarm.sentence
    assert "probe says something of 100" in alarm.sentence


def test_among_more_annotators_an_alarm_needs_more_evidence() -> None:
    """The chance of any false alarm is that of the project, however many annotators it has."""
    like_chance, others = {1: Share(17, 40)}, {one: Share(40, 40) for one in range(2, 22)}
    assert [alarm.annotator for alarm in find_alarms(Evidence(gold=like_chance))] == [1]
    assert not find_alarms(Evidence(gold=like_chance | others))


def test_votes_are_weighted_once_colleagues_are_known(project, three, make_comparisons):
    assert weights_of_votes(project) is None
    for place, comparison in enumerate(make_comparisons(30, needed=3)):
        for person in three[:2]:
            say(person, comparison, "first")
        say(three[2], comparison, "first" if place % 2 else "second")
    anna, _, cleo = (person.pk for person in three)
    found = weights_of_votes(project)
    assert found is not None
    assert found[anna] > 0.9
    assert found[cleo] < 0.7
    assert assess(project).alarms == []  # 30 verdicts are too few


def test_a_gate_tells_who_votes_against_most(project, three):
    """Votes on comparisons that a colleague judged are left out: agreement tells of them already."""
    new = Policy.objects.create(project=project, name="new", kind=Policy.Kind.BASE, base_model="starter")
    anna, bela, cleo = three
    for number in range(14):
        comparison = compare(
            project, f"Film {number}", " good", " bad", policies=(new, project.current_policy),
            kind="gate", batch="round 1", needed=3,
        )  # fmt: skip
        if number < 2:
            say(cleo, comparison, "second")
        for person in (anna, bela) if number >= 2 else ():
            say(person, comparison, "first")
    say(cleo, comparison, "second")
    assert gate_checks(project) == {cleo.pk: [Check(1 / 26, 2)]}
