"""Forgetting what files brought: what people are asked for, and what other files said, stays as it was."""

import hashlib

import pytest

from annotate.errors import RefusalError
from annotate.imports import uploads
from annotate.imports.records import Item, PairOpinion
from annotate.imports.writing import write
from annotate.judgments import places
from annotate.models import Claim, Comparison, Import, Judgment, User
from annotate.pairs.snapshots import exact_lines, take_snapshot
from tests.annotate.invariants import broken_rules
from tests.factories import say
from training.provenance.consequences import import_target, person_targets
from training.provenance.forgetting import forget


@pytest.fixture
def bring_in(project):
    def bring(update=False, **sides):
        upload = Import.objects.create(project=project, filename="a.csv", format="csv", size=1, state="done")
        said = tuple(PairOpinion(name, "prefer", side, 2) for name, side in sides.items())
        item = Item("Once", completions=("upon", "more"), opinions=said)
        write(project, [(1, item)], uploads.batch(upload), update=update)
        return upload

    return bring


def current():
    rows = Judgment.objects.current().select_related("preferred", "annotator")
    return {row.annotator.external_name: ("upon", "more").index(row.preferred.text) for row in rows}


def forget_person(name):
    person = User.objects.get(external_name=name)
    forget(person_targets(person, None), account=person)


def test_people_are_not_asked_in_place_of_a_forgotten_annotator(project, bring_in):
    bring_in(maria=0, jan=1)
    forget_person("maria")
    comparison = Comparison.objects.get()
    assert (comparison.needed, comparison.judged, comparison.open) == (1, 1, False)
    forget_person("jan")  # one that no judgment is left of is like any other
    comparison.refresh_from_db()
    assert (comparison.needed, comparison.judged, comparison.open) == (1, 0, True)
    assert broken_rules(project) == []


@pytest.mark.parametrize("forgotten", ["maria", "teammate"])
def test_a_closed_comparison_stays_closed(project, teammate, bring_in, forgotten):
    bring_in(maria=0, jan=1)
    project.judgments_needed = 2
    project.save()
    places.ask_people(project)
    say(teammate, Comparison.objects.get(), "first")
    places.ask_no_more(project)
    if forgotten == "maria":
        forget_person("maria")
    else:
        forget(person_targets(teammate, None), account=teammate)
    comparison = Comparison.objects.get()
    assert (comparison.closed_to_people, comparison.needed, comparison.open) == (True, 2, False)
    assert broken_rules(project) == []


def test_what_another_file_corrected_outlives_the_first_file(project, bring_in):
    bring_in(jan=1)  # which brought the pair
    first = bring_in(maria=0, rosa=0)
    bring_in(update=True, maria=1)
    snapshot = take_snapshot(project, None)
    forget([import_target(first)])
    assert current() == {"jan": 1, "maria": 1}
    assert (Claim.objects.filter(state="judged").count(), Comparison.objects.get().needed) == (2, 2)
    assert broken_rules(project) == []
    snapshot.refresh_from_db()
    assert (snapshot.forgotten, snapshot.pairs.count()) == (1, 0)  # rosa was one of its judgments

    kept = take_snapshot(project, None)
    forget([import_target(bring_in(ada=0))])
    assert hashlib.sha256(b"".join(exact_lines(kept))).hexdigest() == kept.digest


def test_what_a_forgotten_file_corrected_can_be_brought_back(project, bring_in):
    bring_in(maria=0, jan=1)
    forget([import_target(bring_in(update=True, maria=1))])
    assert current() == {"jan": 1}
    assert Comparison.objects.get().needed == 1
    assert broken_rules(project) == []
    bring_in(maria=0)
    assert current() == {"jan": 1, "maria": 0}
    assert (Comparison.objects.get().needed, broken_rules(project)) == (2, [])


def test_who_judges_while_they_are_forgotten_is_told(project, bring_in):
    targets = []  # as they were found before the file came
    bring_in(maria=0)
    person = User.objects.get(external_name="maria")
    with pytest.raises(RefusalError, match="judged something meanwhile"):
        forget(targets, account=person)
    assert current() == {"maria": 0}
