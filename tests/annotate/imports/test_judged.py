"""Judgments that were given elsewhere: stored with their annotators, once, and apart from people's."""

from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, transaction
from django.db.models import RestrictedError

from annotate.imports.expansion import Choices, expand
from annotate.imports.records import ImportRefusedError
from annotate.imports.writing import write
from annotate.judgments.imported import take_back
from annotate.models import Claim, Comparison, Completion, Judgment, Membership, Prompt, User
from annotate.people import external
from annotate.projects.lifecycle import change_needed
from annotate.queueing import queue
from annotate.sources.candidates import Answer, Candidate, Opinion
from tests.annotate.invariants import broken_rules
from tests.factories import compare

AT = datetime(2024, 5, 1, tzinfo=UTC)
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look_up"}}]}


def candidate(*opinions, prompt="Once", answers=("a", "b"), **more):
    return Candidate(prompt, tuple(Answer(text) for text in answers), opinions, **more)


def bring_in(project, *candidates, batch="import 1", update=False, becomes="judged"):
    items = [item for one in candidates for item in expand(one, Choices(becomes))]
    outcome = write(project, list(enumerate(items, start=1)), batch, update=update)
    assert broken_rules(project) == []
    return dict(outcome.counts)


def verdicts(**filters):
    rows = Judgment.objects.current().filter(**filters).select_related("annotator", "preferred")
    return sorted(
        (row.annotator.shown_name, row.verdict, row.preferred.text if row.preferred else "", row.strength)
        for row in rows
    )


THREE_VERDICTS = candidate(
    Opinion((1, 0), annotator="maria", strength=3, rationale="Because", seconds=4.5, at=AT),
    Opinion((1, 1), annotator="jan"),
    Opinion(verdict="skip", annotator="eve"),
    external_id="7",
)


def test_each_annotator_of_a_file_has_a_judgment(project, make_member):
    assert bring_in(project, THREE_VERDICTS) == {"prompts": 1, "judged": 1, "judgments": 3}
    assert verdicts() == [("eve", "skip", "", None), ("jan", "tie", "", None), ("maria", "prefer", "a", 3)]
    comparison = Comparison.objects.get()
    assert (comparison.judged, comparison.skipped, comparison.needed, comparison.open) == (2, 1, 2, False)
    maria = Judgment.objects.get(annotator__external_name="maria")
    assert (maria.rationale, maria.seconds, maria.first_at, maria.created_at) == ("Because", 4.5, AT, AT)
    assert (maria.import_batch, maria.sides_known, maria.late, maria.too_fast) == (
        "import 1",
        False,
        False,
        False,
    )
    assert queue.claim(project, make_member("anna", "annotator")) is None


def test_an_empty_completion_may_be_the_preferred_one(project):
    said = candidate(Opinion((1, 0), annotator="maria"), answers=("", "b"))
    items = expand(said, Choices("judged", empty_completions=True))
    for expected in ({"prompts": 1, "judged": 1, "judgments": 1}, {"duplicates": 1}):
        assert dict(write(project, list(enumerate(items, start=1)), "import 1").counts) == expected
    [judgment] = Judgment.objects.select_related("preferred")
    assert (judgment.verdict, judgment.preferred.text) == ("prefer", "")
    gold = expand(candidate(Opinion((1, 0)), answers=("", "c")), Choices("gold", empty_completions=True))
    write(project, list(enumerate(gold, start=1)), "import 2")
    assert Comparison.objects.get(kind="gold").gold_preferred.text == ""


def test_the_same_file_again_doubles_nothing(project):
    bring_in(project, THREE_VERDICTS)
    before = list(Judgment.objects.values()), list(Claim.objects.values()), list(Comparison.objects.values())
    assert bring_in(project, THREE_VERDICTS, batch="import 2", update=True) == {"duplicates": 1}
    assert before == (
        list(Judgment.objects.values()),
        list(Claim.objects.values()),
        list(Comparison.objects.values()),
    )


def test_another_verdict_replaces_the_old_one_when_asked(project):
    bring_in(project, THREE_VERDICTS)
    other = candidate(Opinion((0, 1), annotator="maria"), Opinion((0, 1), annotator="eve"))
    assert bring_in(project, other) == {"different": 1}
    assert ("maria", "prefer", "a", 3) in verdicts()
    assert bring_in(project, other, update=True, batch="import 2") == {"updated": 1}
    assert verdicts() == [
        ("eve", "prefer", "b", None),
        ("jan", "tie", "", None),
        ("maria", "prefer", "b", None),
    ]
    old = Judgment.objects.get(annotator__external_name="maria", superseded_at__isnull=False)
    new = old.replaced_by
    assert (new.first_at, new.rationale, new.seconds) == (AT, "Because", 4.5)
    assert (Comparison.objects.get().needed, User.objects.exclude(imported_into=None).count()) == (3, 3)


def test_a_strength_that_a_row_does_not_say_stays(project):
    bring_in(project, candidate(Opinion((1, 0), annotator="maria", strength=3)))
    assert bring_in(project, candidate(Opinion((1, 0), annotator="maria")), update=True) == {"duplicates": 1}
    assert verdicts() == [("maria", "prefer", "a", 3)]


def test_imported_judgments_leave_peoples_places_to_them(project, teammate):
    project.judgments_needed = 2
    compare(project, "Once", "a", "b", needed=2)
    Completion.objects.all()[0].policy.__class__.objects.update(kind="external")
    assert bring_in(project, candidate(Opinion((1, 0)))) == {"judgments": 1}
    comparison = Comparison.objects.get()
    assert (comparison.judged, comparison.needed, comparison.open) == (1, 3, True)
    assert queue.claim(project, teammate) is not None


def test_asking_for_more_leaves_what_was_judged_elsewhere(project):
    bring_in(project, THREE_VERDICTS)
    change_needed(project, 5)
    assert Comparison.objects.get().needed == 2


def test_sides_are_those_that_annotators_saw_where_known(project):
    bring_in(project, candidate(Opinion((1, 0), annotator="x"), answers=("b", "a"), sides_known=True))
    bring_in(project, candidate(Opinion((1, 0), annotator="y"), answers=("a", "b"), sides_known=True))
    sides = Judgment.objects.values_list(
        "annotator__external_name", "left__text", "right__text", "sides_known"
    )
    assert sorted(sides) == [("x", "b", "a", True), ("y", "a", "b", True)]


def seen():
    rows = Judgment.objects.current().order_by("annotator__external_name")
    return list(rows.values_list("annotator__external_name", "left__text", "right__text", "sides_known"))


BOTH_SIDES = candidate(
    Opinion((1, 0), annotator="x", left=0),
    Opinion((1, 0), annotator="y", left=1),
    Opinion(verdict="skip", annotator="z"),
)


def test_each_annotator_may_have_seen_another_side(project):
    bring_in(project, BOTH_SIDES)
    assert seen() == [("x", "a", "b", True), ("y", "b", "a", True), ("z", "a", "b", False)]
    assert bring_in(project, BOTH_SIDES) == {"duplicates": 1}
    assert Comparison.objects.get().first.text == "a"


def test_sides_that_were_not_known_are_taken_when_asked(project):
    unknown = candidate(*(one._replace(left=None) for one in BOTH_SIDES.opinions))
    bring_in(project, unknown)
    assert bring_in(project, BOTH_SIDES) == {"different": 1}
    assert {known for *_rest, known in seen()} == {False}
    assert bring_in(project, BOTH_SIDES, update=True) == {"updated": 1}
    assert seen()[:2] == [("x", "a", "b", True), ("y", "b", "a", True)]
    assert bring_in(project, unknown, update=True) == {"duplicates": 1}
    assert Judgment.objects.filter(replaces=None).count() == 3


def test_a_row_that_says_another_side_is_told(project):
    bring_in(project, BOTH_SIDES)
    other = candidate(*(one._replace(left=1) for one in BOTH_SIDES.opinions[:1]))
    outcome = write(project, [(1, item) for item in expand(other, Choices("judged"))])
    [(_line, remark)] = outcome.remarks
    assert remark == "the completion that “x” saw on the left is “a” here and “b” in this row."


def test_a_side_that_is_new_is_told(project):
    bring_in(project, candidate(BOTH_SIDES.opinions[0]._replace(left=None)))
    outcome = write(project, [(1, item) for item in expand(BOTH_SIDES, Choices("judged"))])
    [(_line, remark)] = outcome.remarks
    assert remark == "the completion that “x” saw on the left is missing here and “a” in this row."


def test_the_better_one_does_not_always_stand_first(project):
    rows = [candidate(Opinion((1, 0)), prompt=f"P{n}", answers=(f"good {n}", f"bad {n}")) for n in range(40)]
    bring_in(project, *rows)
    first = [text.startswith("good") for text in Comparison.objects.values_list("first__text", flat=True)]
    assert 8 < sum(first) < 32


def test_what_was_taken_back_comes_back_with_its_file(project):
    bring_in(project, THREE_VERDICTS)
    Comparison.objects.get().withdraw()
    assert take_back(project, Judgment.objects.filter(import_batch="import 1")) == 3
    assert broken_rules(project) == []
    assert (verdicts(), Comparison.objects.get().judged) == ([], 0)
    assert bring_in(project, THREE_VERDICTS) == {"different": 1}
    assert bring_in(project, THREE_VERDICTS, update=True) == {"updated": 1, "judgments": 3}
    comparison = Comparison.objects.get()
    assert (comparison.judged, comparison.needed, comparison.open) == (2, 2, False)
    assert (len(verdicts()), Judgment.objects.count()) == (3, 6)


def test_chats_are_stored_whole_and_tell_completions_apart(project):
    tools = ({"name": "look_up"},)
    answers = (Answer([CALL, {"role": "tool", "content": "3"}]), Answer([CALL]), Answer("plain"))
    row = Candidate("Q", answers, (Opinion((3, 2, 1)),), tools=tools)
    assert bring_in(project, row)["judged"] == 3
    assert Prompt.objects.get().tools == [{"name": "look_up"}]
    stored = {row.text: row.messages for row in Completion.objects.all()}
    assert stored["plain"] is None
    assert [CALL, {"role": "tool", "content": "3"}] in stored.values()
    assert bring_in(project, row) == {"duplicates": 3}
    assert bring_in(project, Candidate("Q", answers, (Opinion((3, 2, 1)),)))["prompts"] == 1


def test_a_project_has_a_bounded_number_of_annotators_from_files(project, monkeypatch):
    monkeypatch.setattr(external, "MOST", 2)
    with pytest.raises(ImportRefusedError, match="more than 2 annotators from files"):
        bring_in(project, THREE_VERDICTS)
    assert not Comparison.objects.exists()


def test_a_project_is_deleted_with_the_annotators_of_its_files(project):
    bring_in(project, THREE_VERDICTS)
    project.current_policy = None
    project.save()
    project.delete()
    assert not User.objects.exclude(imported_into=None).exists()


def test_an_annotator_of_a_file_is_no_account(project, client):
    bring_in(project, THREE_VERDICTS)
    maria = User.objects.get(external_name="maria")
    for change in ({"is_active": True}, {"password": "x"}, {"email": "a@b.example"}, {"is_staff": True}):
        with pytest.raises(IntegrityError), transaction.atomic():
            User.objects.filter(pk=maria.pk).update(**change)
    with pytest.raises(IntegrityError), transaction.atomic():
        Membership.objects.create(project=project, user=maria, role="annotator")
    assert not client.login(username=maria.username, password="")
    with pytest.raises(RestrictedError):
        maria.delete()


def test_only_annotators_of_files_have_imported_judgments(project, teammate):
    bring_in(project, THREE_VERDICTS)
    row = Judgment.objects.filter(verdict="tie").values().get()
    maria = User.objects.get(external_name="maria").pk
    for changes in ({"annotator_id": teammate.pk}, {"annotator_id": maria, "import_batch": ""}):
        values = {**row, "id": None, "token": Claim.objects.first().token, **changes}
        with pytest.raises(IntegrityError), transaction.atomic():
            Judgment.objects.bulk_create([Judgment(**values)])
