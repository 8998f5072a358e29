"""Comparisons set aside as too many annotators skipped them, handed out again; and the skip that does not count."""

import json

import pytest
from django.test import Client

from annotate.errors import RefusalError
from annotate.judgments import judging, revising, undoing
from annotate.judgments.judging import Verdict
from annotate.models import ApiToken, Claim, Comparison, Judgment
from annotate.pairs.judgment_rows import judgment_rows
from annotate.people.keyboard import read_keys
from annotate.queueing import empty_queue, queue
from annotate.reports.quality import assess
from tests.annotate.desk import FRAGMENT, on_screen, url
from tests.annotate.invariants import broken_rules
from tests.factories import SKIP, TIE, say
from training.views.overview import overview

NOT_MINE = Verdict("skip", skip_reason="not_mine")
LIST = "/p/reviews/comparisons/"


@pytest.fixture
def crowd(make_member):
    return [make_member(f"annotator-{number}", "annotator") for number in range(4)]


@pytest.fixture(params=["standard", "gate"])
def skipped(request, project, crowd, make_comparisons):
    """Return a comparison that three annotators skipped."""
    [found] = make_comparisons(1, kind=request.param)
    for person in crowd[:3]:
        claim = queue.claim(project, person)
        judging.record(project, person, claim.token, SKIP)
    found.refresh_from_db()
    return found


def test_it_is_set_aside_and_handed_out_again(project, owner, crowd, skipped, client_for):
    assert (skipped.open, skipped.is_set_aside) == (False, True)
    assert queue.claim(project, crowd[3]) is None
    client = client_for(owner)
    page = client.get(f"{LIST}{skipped.pk}/").content.decode()
    assert "Set aside" in page
    answer = client.post(f"{LIST}{skipped.pk}/change/", {"action": "again"}, follow=True)
    assert "to the 2 members who have not had it" in answer.content.decode()
    skipped.refresh_from_db()
    assert (skipped.open, skipped.is_set_aside, skipped.skipped) == (True, False, 3)
    assert queue.claim(project, crowd[3]).comparison_id == skipped.pk


def test_it_is_set_aside_again_by_as_many_skips(project, owner, skipped, make_member):
    skipped.hand_out_again()
    for number in range(3):
        assert not Comparison.objects.get().is_set_aside
        say(make_member(f"later-{number}", "annotator"), skipped, "skip")
    assert Comparison.objects.get().is_set_aside


def test_no_annotator_waits_for_one_that_is_held(project, owner, crowd, make_comparisons):
    [held] = make_comparisons(1)
    assert queue.claim(project, owner)
    assert empty_queue.explain(project, crowd[3]).reason == empty_queue.Reason.HELD
    for person in crowd[:3]:
        say(person, held, "skip")
    assert empty_queue.explain(project, crowd[3]).reason == empty_queue.Reason.DONE


def test_putting_back_what_was_withdrawn_shows_it_set_aside(skipped):
    skipped.withdraw()
    assert not skipped.is_set_aside
    skipped.restore()
    assert skipped.is_set_aside


def test_the_overview_reaches_all_without_it(project, owner, teammate, skipped, make_comparisons, client_for):
    [other] = make_comparisons(1)
    say(teammate, other, "first")
    found = overview(project)
    assert (found.total, found.finished, found.percent, found.set_aside) == (1, 1, 100, 1)
    assert found.step == "round"
    page = client_for(owner).get("/p/reviews/").content.decode()
    assert "1 comparison is set aside" in page
    assert "100 % judged" in page


def test_the_list_has_it_as_a_state_of_its_own(owner, crowd, skipped, client_for):
    client = client_for(owner)

    def listed(state):
        return [one.pk for one in client.get(LIST, {"state": state}).context["page"].rows]

    assert (listed("set_aside"), listed("waiting"), listed("partly")) == ([skipped.pk], [], [])
    assert "Hand all out again" in client.get(LIST, {"state": "set_aside"}).content.decode()
    client.post(f"{LIST}again/")
    assert (listed("set_aside"), listed("waiting")) == ([], [skipped.pk])


@pytest.mark.parametrize("who", ["researcher", "teammate", "outsider"])
def test_only_admins_hand_out_again(request, skipped, client_for, who):
    client = client_for(request.getfixturevalue(who))
    assert client.post(f"{LIST}again/").status_code in (403, 404)
    assert client.post(f"{LIST}{skipped.pk}/change/", {"action": "again"}).status_code in (403, 404)
    assert Comparison.objects.get().is_set_aside


# --- Not my language or field ------------------------------------------------------------------------------------


def test_a_skip_by_language_closes_nothing_for_others(project, crowd, make_comparisons):
    [found] = make_comparisons(1)
    for person in crowd[:3]:
        claim = queue.claim(project, person)
        judging.record(project, person, claim.token, NOT_MINE)
        assert queue.claim(project, person) is None
    found.refresh_from_db()
    assert (found.skipped, found.open) == (0, True)
    assert queue.claim(project, crowd[3]).comparison_id == found.pk
    assert not broken_rules(project)


def test_it_is_stored_exported_and_told(project, teammate, make_comparisons):
    make_comparisons(1)
    client = Client(headers={"Authorization": f"Bearer {ApiToken.issue(teammate, 'script')[1]}"})
    token = client.post("/api/v1/projects/reviews/next/").json()["claim"]["token"]
    body = {"token": token, "verdict": "skip", "skip_reason": "not_mine"}
    told = client.post("/api/v1/projects/reviews/judgments/", json.dumps(body), "application/json").json()
    assert (told["verdict"], told["skip_reason"]) == ("skip", "not_mine")
    assert [row["skip_reason"] for row in judgment_rows(project)] == ["not_mine"]


def test_it_is_undone_redone_and_changed(project, teammate, make_comparisons):
    [found] = make_comparisons(1)
    claim = queue.claim(project, teammate)
    judging.record(project, teammate, claim.token, NOT_MINE)
    again = undoing.undo(project, teammate)
    assert again.draft["skip_reason"] == "not_mine"
    assert not broken_rules(project)
    judgment = undoing.redo(project, teammate)
    assert not broken_rules(project)
    skip = revising.revise(project, teammate, judgment.pk, SKIP)
    assert (skip.skip_reason, Claim.objects.get().state) == ("", "skipped")
    revising.revise(project, teammate, skip.pk, TIE)
    found.refresh_from_db()
    assert (found.judged, found.skipped) == (1, 0)
    assert not broken_rules(project)


def test_the_desk_offers_it_with_a_key(project, teammate, make_comparisons, client_for):
    make_comparisons(2)
    client = client_for(teammate)
    page = client.get(url("judge")).content.decode()
    assert 'value="not_mine" data-key="m"' in page
    client.post(url("judge"), {**on_screen(client), "verdict": "not_mine"}, headers=FRAGMENT)
    judgment = Judgment.objects.get()
    assert (judgment.verdict, judgment.skip_reason) == ("skip", "not_mine")
    assert "Not my language or field" in client.get(url("history")).content.decode()


def test_a_new_default_key_gives_way_to_a_chosen_one():
    keys = read_keys({"keys": {"tie": "m"}})
    assert (keys["tie"], keys["not_mine"]) == ("m", "")


def test_only_a_skip_has_a_reason_to_skip(project, teammate, claim):
    for verdict in (Verdict("tie", skip_reason="not_mine"), Verdict("skip", skip_reason="tired")):
        with pytest.raises(RefusalError) as refused:
            judging.record(project, teammate, claim.token, verdict)
        assert refused.value.field == "skip_reason"


def test_it_says_nothing_of_how_an_annotator_judges(project, teammate, make_comparisons):
    for comparison in make_comparisons(20):
        say(teammate, comparison, "skip")
    Judgment.objects.update(skip_reason="not_mine")
    assert not assess(project).warnings
