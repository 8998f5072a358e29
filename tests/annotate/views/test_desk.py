"""The desk over HTTP: what a page, a form and the desk's script may do, and what each is answered."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotate.judgments import judging
from annotate.models import Claim, Judgment, stored_aspects
from annotate.queueing import queue
from tests.annotate.desk import FRAGMENT, hidden_fields, on_screen, shown, url
from tests.factories import TIE

pytestmark = pytest.mark.once

# --- Judging by plain forms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "verdict", "side", "strength"),
    [
        ("a3", "prefer", 0, 3),
        ("a2", "prefer", 0, 2),
        ("a1", "prefer", 0, 1),
        ("b1", "prefer", 1, 1),
        ("b2", "prefer", 1, 2),
        ("b3", "prefer", 1, 3),
        ("tie", "tie", None, None),
        ("both_bad", "both_bad", None, None),
        ("skip", "skip", None, None),
    ],
)
def test_a_form_records_its_verdict_and_leads_to_the_next(
    desk: Client, choice: str, verdict: str, side: int | None, strength: int | None
) -> None:
    fields = on_screen(desk)
    sides = shown(fields["token"])
    response = desk.post(url("judge"), {**fields, "verdict": choice})
    assert response.status_code == 302
    assert response.url == url("judge")
    judgment = Judgment.objects.get()
    assert (judgment.verdict, judgment.strength) == (verdict, strength)
    assert judgment.preferred_id == (None if side is None else sides[side])
    assert on_screen(desk)["token"] != fields["token"]


def test_the_same_comparison_with_the_same_sides_after_a_reload(desk: Client) -> None:
    before, after = on_screen(desk), on_screen(desk)
    assert before == after
    assert shown(before["token"]) == shown(after["token"])


def test_a_form_sent_twice_is_one_judgment(desk: Client) -> None:
    fields = on_screen(desk)
    for _ in range(2):
        desk.post(url("judge"), {**fields, "verdict": "a2"})
    assert Judgment.objects.count() == 1


def test_undo_and_redo_work_as_plain_forms(desk: Client) -> None:
    fields = on_screen(desk)
    sides = shown(fields["token"])
    desk.post(url("judge"), {**fields, "verdict": "b1"})
    assert desk.post(url("undo")).url == url("judge")
    page = desk.get(url("judge")).content.decode()
    assert shown(hidden_fields(page)["token"]) == sides
    assert re.search(r'class="verdict b was" name="verdict"\s+value="b1"', page)  # what was said before
    assert Judgment.objects.filter(superseded_at=None).count() == 0
    desk.post(url("redo"))
    assert Judgment.objects.get(superseded_at=None).preferred_id == sides[1]


def test_what_is_noted_beside_the_verdict_is_kept(desk: Client, project: Any) -> None:
    project.reasons = stored_aspects(["Shorter", "Truer"])
    project.criteria = stored_aspects(["Helpful", "Honest"])
    project.ask_rationale = True
    project.save()
    fields = on_screen(desk)
    _left, right = shown(fields["token"])
    noted = {
        "reasons": ["truer"],
        "criterion-helpful": "b2",
        "criterion-honest": "tie",
        "rationale": "It names the film.",
    }
    desk.post(url("judge"), {**fields, "verdict": "b1", **noted})
    judgment = Judgment.objects.get()
    assert judgment.reasons == ["truer"]
    assert judgment.rationale == "It names the film."
    assert judgment.criteria == {
        "helpful": {"verdict": "prefer", "preferred_id": right, "strength": 2},
        "honest": {"verdict": "tie"},
    }


@pytest.mark.parametrize("act", ["flag", "undo"])
def test_a_plain_form_keeps_the_notes_beside_its_act(desk: Client, project: Any, act: str) -> None:
    project.ask_rationale = True
    project.save()
    fields = {**on_screen(desk), "asked": "rationale", "rationale": "It names the film."}
    assert desk.post(url(act), fields).url == url("judge")
    assert Claim.objects.get(token=fields["token"]).draft["rationale"] == "It names the film."


def test_another_view_of_a_plain_form_keeps_the_notes(desk: Client, project: Any) -> None:
    project.ask_rationale = True
    project.save()
    fields = {**on_screen(desk), "asked": "rationale", "rationale": "It names the film."}
    assert re.search(r'<button name="look" value="raw"', desk.get(url("judge")).content.decode())
    assert desk.post(url("judge"), {**fields, "look": "raw"}).url == url("judge")
    page = desk.get(url("judge")).content.decode()
    assert "It names the film." in page
    assert re.search(r'data-view="raw"[^>]*aria-current="true"', page)
    assert not Judgment.objects.exists()


def test_a_plain_redo_revises_the_notes_beside_it(desk: Client, project: Any) -> None:
    project.ask_rationale = True
    project.save()
    desk.post(url("judge"), {**on_screen(desk), "verdict": "b1", "rationale": "first"})
    desk.post(url("undo"))
    fields = {**on_screen(desk), "asked": "rationale", "rationale": "first, corrected"}
    desk.post(url("redo"), fields)
    judgment = Judgment.objects.get(superseded_at=None)
    assert (judgment.rationale, judgment.verdict, judgment.strength) == ("first, corrected", "prefer", 1)
    assert judgment.replaces.rationale == "first"


@pytest.mark.parametrize("act", ["flag", "undo", "redo", "judge"])  # the last to see the texts in another way
def test_notes_that_cannot_be_kept_stay_on_the_page(desk: Client, project: Any, act: str) -> None:
    project.ask_rationale = True
    project.save()
    desk.post(url("judge"), {**on_screen(desk), "verdict": "b1", "rationale": "first"})
    desk.post(url("undo"))
    long = "It names the film. " * 600
    fields = {**on_screen(desk), "asked": "rationale", "rationale": long}
    answer = desk.post(url(act), fields | ({"look": "raw"} if act == "judge" else {}))
    assert (answer.status_code, long in answer.content.decode()) == (422, True)
    assert "The rationale has 11,400 characters" in answer.content.decode()
    assert Judgment.objects.filter(superseded_at=None).count() == 0


def test_a_flag_leaves_the_verdict_that_an_undo_restored(desk: Client, project: Any) -> None:
    project.ask_rationale = True
    project.save()
    desk.post(url("judge"), {**on_screen(desk), "verdict": "b1"})
    desk.post(url("undo"))
    fields = {**on_screen(desk), "asked": "rationale", "rationale": "It names the film."}
    desk.post(url("flag"), {**fields, "flag_note": "B names its model"})
    page = desk.get(url("judge")).content.decode()
    assert "It names the film." in page
    assert 'data-was="b1"' in page


def test_a_rationale_no_longer_asked_for_is_kept(desk: Client) -> None:
    desk.post(url("judge"), {**on_screen(desk), "verdict": "tie", "rationale": "It names the film."})
    assert Judgment.objects.get().rationale == "It names the film."


def test_when_nothing_is_left_the_page_says_why(client_for: Any, teammate: Any, project: Any) -> None:
    page = client_for(teammate).get(url("judge")).content.decode()
    assert "No comparisons yet" in page
    assert '<fieldset class="bare" id="verdicts" disabled>' in page


def test_a_qualification_shows_how_far_it_is(desk: Client, project: Any, make_comparisons: Any) -> None:
    make_comparisons(2, kind="gold")
    project.qualification_size = 2
    project.save()
    assert "qualification: 0 of 2" in desk.get(url("judge")).content.decode()
    desk.post(url("judge"), {**on_screen(desk), "verdict": "a2"})
    assert "qualification: 1 of 2" in desk.get(url("judge")).content.decode()


# --- Cost -----------------------------------------------------------------------------------------------------------


def test_judge_and_next_takes_at_most_eight_queries(desk: Client, make_comparisons: Any) -> None:
    """Session, user and membership are included. BEGIN and COMMIT are not queries."""
    make_comparisons(5)
    fields = on_screen(desk)
    desk.post(url("ahead"), headers=FRAGMENT)
    shown = str(Claim.objects.get(state="next").token)
    with CaptureQueriesContext(connection) as captured:
        desk.post(url("judge"), {**fields, "verdict": "a2", "shown": shown}, headers=FRAGMENT)
    queries = [
        query["sql"]
        for query in captured
        if not re.match(r"SAVEPOINT|RELEASE|BEGIN|COMMIT", query["sql"], re.I)
    ]
    assert len(queries) <= 8, "\n".join(queries)


def test_nothing_to_redo_is_a_word_and_no_error(desk: Client, teammate: Any) -> None:
    html = desk.post(url("redo"), headers=FRAGMENT).content.decode()
    assert '<template data-word="info">There is nothing to redo.</template>' in html
    assert 'data-word="error"' not in html


def test_the_page_says_how_much_is_left_and_what_was_undone(desk: Client) -> None:
    page = desk.get(url("judge")).content.decode()
    assert '<b id="left">3</b>' in page  # with the one on screen
    assert "Undone" not in page
    desk.post(url("judge"), {**on_screen(desk), "verdict": "b2"})
    assert '<b id="left">2</b>' in desk.get(url("judge")).content.decode()
    html = desk.post(url("undo"), headers=FRAGMENT).content.decode()
    assert "Undone: you said “B is better”. Judge again." in html.split("<template")[0]
    assert "Undone" not in html.split("<template", maxsplit=1)[1]  # the one after it


def test_gold_on_screen_counts_like_any_other(
    client_for: Any, teammate: Any, project: Any, make_comparisons: Any
) -> None:
    [gold] = make_comparisons(1, kind="gold")
    make_comparisons(2)
    Claim.objects.create(
        project=project, comparison=gold, annotator=teammate, left=gold.first, right=gold.second,
        expires_at=timezone.now() + timedelta(minutes=5),
    )  # fmt: skip
    assert '<b id="left">3</b>' in client_for(teammate).get(url("judge")).content.decode()


def test_a_replay_after_other_work_changes_nothing(desk: Client, project: Any, teammate: Any) -> None:
    first = on_screen(desk)
    desk.post(url("judge"), {**first, "verdict": "a2"})
    second = on_screen(desk)
    desk.post(url("judge"), {**second, "verdict": "tie"})
    desk.post(url("judge"), {**first, "verdict": "b3"})  # an old request that the network delivers late
    assert list(Judgment.objects.order_by("pk").values_list("verdict", "strength")) == [
        ("prefer", 2),
        ("tie", None),
    ]


def test_judging_elsewhere_is_seen_here(desk: Client, project: Any, teammate: Any) -> None:
    fields = on_screen(desk)
    judging.record(project, teammate, fields["token"], TIE)
    assert on_screen(desk)["token"] != fields["token"]


def test_an_admin_with_an_empty_queue_is_offered_the_next_round(
    project: Any, owner: Any, teammate: Any, make_comparisons: Any, client_for: Any
) -> None:
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    assert claim is not None
    judging.record(project, teammate, claim.token, TIE)
    start = 'href="/p/reviews/rounds/#start">Start a round</a>'
    assert start in client_for(owner).get("/p/reviews/judge/").content.decode()
    assert start not in client_for(teammate).get("/p/reviews/judge/").content.decode()
    project.rounds.create(
        number=1, state="sampling", trains=False, start_policy=project.current_policy, folder="runs/desk"
    )
    page = client_for(owner).get("/p/reviews/judge/").content.decode()
    assert re.search(r'href="/p/reviews/rounds/1/">\s+Open round 1', page)
    assert start not in page
