"""Forgetting what files brought: what people are asked for, and what other files said, stays as it was."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from annotate.errors import RefusalError
from annotate.imports import uploads
from annotate.imports.records import Item, PairOpinion
from annotate.imports.writing import write
from annotate.judgments import places
from annotate.models import Claim, Comparison, Import, Judgment, User
from annotate.pairs.snapshots import exact_lines, take_snapshot
from annotate.projects import withdrawals
from annotate.sources.candidates import CriterionOpinion
from tests.annotate.invariants import broken_rules
from tests.factories import say
from training.provenance import forgetting
from training.provenance.consequences import import_target, person_targets
from training.provenance.forgetting import forget


@pytest.fixture
def bring_in(project):
    def bring(update=False, at=None, upload=None, **sides):
        """Import what annotators said: a side, or None for a skip."""
        upload = upload or Import.objects.create(
            project=project, filename="a.csv", format="csv", size=1, state="done"
        )
        said = tuple(
            PairOpinion(name, "skip" if side is None else "prefer", side, None if side is None else 2, at=at)
            for name, side in sides.items()
        )
        item = Item("Once", completions=("upon", "more"), opinions=said)
        upload.out = write(project, [(1, item)], uploads.batch(upload), update=update)
        return upload

    return bring


def current():
    rows = Judgment.objects.current().select_related("preferred", "annotator")
    return {row.annotator.external_name: ("upon", "more").index(row.preferred.text) for row in rows}


def state(project):
    """Return all that is stored of judgments."""
    assert broken_rules(project) == []
    claims = Claim.objects.order_by("pk").values()
    return list(Comparison.objects.values()), list(claims), list(Judgment.objects.order_by("pk").values())


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


def test_what_a_forgotten_file_corrected_stands_again(project, bring_in):
    bring_in(maria=0, jan=1)
    before = state(project)
    forget([import_target(bring_in(update=True, maria=1))])
    assert state(project) == before
    assert bring_in(maria=0).out.counts["duplicates"] == 1


def test_what_was_taken_back_before_stays_so(project, owner, bring_in):
    bring_in(jan=1)
    taken_back = bring_in(maria=0)
    uploads.withdraw(taken_back, owner)
    before = state(project)
    forget([import_target(bring_in(maria=1))])
    assert state(project) == before
    bring_in(maria=0)  # whose file brings it back
    assert current() == {"jan": 1, "maria": 0}
    assert (Comparison.objects.get().needed, broken_rules(project)) == (2, [])


@pytest.mark.parametrize("at_a_time", [1, 1_000])
@pytest.mark.parametrize("forgotten", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (2, 0)])
def test_a_history_is_one_without_the_forgotten_files(project, bring_in, monkeypatch, forgotten, at_a_time):
    monkeypatch.setattr(forgetting, "AT_A_TIME", at_a_time)
    bring_in(jan=1)
    times = [datetime(2020 + year, 1, 1, tzinfo=UTC) for year in range(3)]
    files = [
        bring_in(update=True, at=at, maria=side, rosa=side) for at, side in zip(times, (0, 1, 0), strict=True)
    ]
    for number in forgotten:
        forget([import_target(files[number])])
    kept = [number for number in range(3) if number not in forgotten]
    for name in ("maria", "rosa"):
        history = list(Judgment.objects.filter(annotator__external_name=name).order_by("pk"))
        assert [one.created_at for one in history] == [times[number] for number in kept]
        assert [one.replaces for one in history] == [None, *history[:-1]]
        assert {one.first_at for one in history} == {times[kept[0]]}
        assert [one.superseded_at is None for one in history] == [*[False] * (len(kept) - 1), True]
        claim = Claim.objects.get(annotator__external_name=name)
        assert (claim.state, claim.claimed_at) == ("judged", times[kept[0]])
    assert (Comparison.objects.get().needed, broken_rules(project)) == (3, [])
    side = (0, 1, 0)[kept[-1]]
    assert bring_in(update=True, maria=1 - side).out.counts["updated"] == 1
    assert current() == {"jan": 1, "maria": 1 - side, "rosa": side}
    assert (Comparison.objects.get().needed, broken_rules(project)) == (3, [])


@pytest.mark.parametrize("said_again", [False, True])
def test_a_file_that_said_two_things_is_forgotten_with_both(project, bring_in, said_again):
    bring_in(maria=0)
    before = state(project)
    file = bring_in(update=True, maria=1)
    bring_in(update=True, upload=file, maria=0)
    if said_again:
        bring_in(update=True, maria=1)
    forget([import_target(file)])
    assert said_again or state(project) == before
    assert current() == {"maria": int(said_again)}
    assert (Judgment.objects.filter(replaced_by=None).count(), broken_rules(project)) == (1, [])


@pytest.mark.parametrize("forgotten", ["first", "second"])
def test_a_skip_takes_no_place_whichever_is_forgotten(project, bring_in, forgotten):
    bring_in(jan=1)
    first, second = bring_in(maria=None), bring_in(update=True, maria=1)
    forget([import_target(first if forgotten == "first" else second)])
    comparison = Comparison.objects.get()
    counted = int(forgotten == "first")
    assert (comparison.needed, comparison.judged, comparison.skipped) == (
        1 + counted,
        1 + counted,
        1 - counted,
    )
    assert broken_rules(project) == []


# --- Comparisons that were withdrawn meanwhile --------------------------------------------------------------------


@pytest.fixture
def asked(project):
    def ask():
        project.judgments_needed = 2
        project.save()
        places.ask_people(project)

    return ask


def put_back_needs(owner):
    withdrawals.put_back(Comparison.objects.get(), owner)
    comparison = Comparison.objects.get()
    assert broken_rules(comparison.project) == []
    return comparison.needed


@pytest.mark.parametrize(("forgotten", "needed"), [("first", 4), ("second", 4), ("both", 3)])
def test_a_correction_that_was_withdrawn_keeps_its_place(project, owner, bring_in, asked, forgotten, needed):
    bring_in(jan=1)
    first, second = bring_in(maria=0), bring_in(update=True, maria=1)
    asked()
    withdrawals.withdraw(Comparison.objects.get(), owner)
    files = {"first": [first], "second": [second], "both": [first, second]}[forgotten]
    forget([import_target(file) for file in files])
    assert put_back_needs(owner) == needed


def test_a_person_with_corrections_gives_one_place_back(project, owner, bring_in, asked):
    bring_in(jan=1)
    bring_in(maria=0)
    second = bring_in(update=True, maria=1)
    bring_in(update=True, maria=0)
    asked()
    forget([import_target(second)])
    withdrawals.withdraw(Comparison.objects.get(), owner)
    forget_person("maria")
    assert put_back_needs(owner) == 3


@pytest.mark.parametrize("forgotten", ["person", "import"])
def test_a_place_is_given_back_once(project, owner, bring_in, asked, forgotten):
    bring_in(jan=1)
    file = bring_in(maria=0)
    asked()
    uploads.withdraw(file, owner)
    withdrawals.withdraw(Comparison.objects.get(), owner)
    if forgotten == "person":
        forget_person("maria")
    else:
        forget([import_target(file)])
    assert put_back_needs(owner) == 3


def test_a_verdict_without_a_place_comes_back_with_one(project, owner, bring_in, asked):
    bring_in(jan=1)
    file = bring_in(maria=0)
    asked()
    uploads.withdraw(file, owner)
    withdrawals.withdraw(Comparison.objects.get(), owner)
    bring_in(update=True, maria=0)
    comparison = Comparison.objects.get()
    assert (comparison.withdrawn_at, comparison.needed, comparison.judged) == (None, 4, 2)


def test_who_judges_while_they_are_forgotten_is_told(project, bring_in):
    targets = []  # as they were found before the file came
    bring_in(maria=0)
    person = User.objects.get(external_name="maria")
    with pytest.raises(RefusalError, match=r"^maria judged something meanwhile"):
        forget(targets, account=person)
    assert current() == {"maria": 0}


def test_no_title_of_a_forgotten_file_stays(project, bring_in):
    """A title that another file names is kept with it."""
    project.reasons = [{"key": "own", "title": "Own"}]
    project.save()
    item = Item("Twice", completions=("upon", "more"))
    reasons, tie = ("Own", "Of both", "Mrs Smith of Leeds"), CriterionOpinion("", "Mr Jones", "tie")

    def bring(name, **said):
        upload = Import.objects.create(project=project, filename="a.csv", format="csv", size=1, state="done")
        opinion = PairOpinion(name, "prefer", 0, 2, **said)
        write(project, [(1, replace(item, opinions=(opinion,)))], uploads.batch(upload))
        return upload

    bring("rosa")  # which brought the pair
    first = bring("maria", reasons=reasons, criteria=(tie,))
    bring("jan", reasons=("Of both",))
    uploads.withdraw(first, None)
    forget([import_target(first)])
    project.refresh_from_db()
    assert [(one.title, one.is_imported) for one in project.all_reasons] == [
        ("Own", False),
        ("Of both", True),
    ]
    assert project.criteria == []
    assert broken_rules(project) == []
