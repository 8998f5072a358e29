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
from annotate.judgments.verdicts import Verdict
from annotate.models import Claim, Comparison, Completion, Flag, Judgment, Membership, stored_aspects
from annotate.queueing import queue
from tests.annotate.desk import FRAGMENT, hidden_fields, on_screen, shown, url

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


# --- The desk's script ----------------------------------------------------------------------------------------------


def test_a_verdict_brings_the_next_two_comparisons(desk: Client) -> None:
    fields = on_screen(desk)
    response = desk.post(url("judge"), {**fields, "verdict": "a2"}, headers=FRAGMENT)
    html = response.content.decode()
    assert response.status_code == 200
    assert "<html" not in html
    states = dict(Claim.objects.values_list("state", "token"))
    assert html.index(f'data-token="{states["live"]}"') < html.index('<template id="ahead">')
    assert f'data-token="{states["next"]}"' in html.split('<template id="ahead">')[1]


def test_what_is_on_screen_already_is_not_sent_again(desk: Client) -> None:
    fields = on_screen(desk)
    desk.post(url("ahead"), headers=FRAGMENT)
    shown = Claim.objects.get(state="next").token
    html = desk.post(
        url("judge"), {**fields, "verdict": "a2", "shown": shown}, headers=FRAGMENT
    ).content.decode()
    assert str(shown) not in html
    assert '<template id="ahead">' in html
    assert Claim.objects.get(state="live").token == shown


def test_nothing_is_handed_out_while_more_verdicts_are_coming(desk: Client) -> None:
    fields = on_screen(desk)
    html = desk.post(
        url("judge"), {**fields, "verdict": "a2", "more": "1"}, headers=FRAGMENT
    ).content.decode()
    assert not html.strip()
    assert Judgment.objects.count() == 1
    assert not Claim.objects.filter(state__in=["live", "next"]).exists()


def test_fetching_ahead_is_invisible_until_seen(desk: Client) -> None:
    on_screen(desk)
    desk.post(url("ahead"), headers=FRAGMENT)
    ahead = Claim.objects.get(state="next")
    assert ahead.seen_at is None


def test_drafts_are_kept_and_shown_again(desk: Client, project: Any) -> None:
    project.ask_rationale, project.reasons = True, stored_aspects(["Truer"])
    project.save()
    fields = on_screen(desk)
    draft = {"token": fields["token"], "rationale": "half a tho", "reasons": ["truer"]}
    assert desk.post(url("draft"), draft, headers=FRAGMENT).status_code == 204
    page = desk.get(url("judge")).content.decode()
    assert "half a tho</textarea>" in page
    assert 'value="truer" checked' in page


def test_a_draft_keeps_its_first_line_break(desk: Client, project: Any) -> None:
    project.ask_rationale = True
    project.save()
    draft = {"token": on_screen(desk)["token"], "rationale": "\nbelow"}
    desk.post(url("draft"), draft, headers=FRAGMENT)
    assert ">\n\nbelow</textarea>" in desk.get(url("judge")).content.decode()  # browsers swallow the first


def test_a_draft_after_an_undo_keeps_the_verdict_marked(desk: Client, project: Any) -> None:
    project.ask_rationale = True
    project.save()
    desk.post(url("judge"), {**on_screen(desk), "verdict": "b3"})
    desk.post(url("undo"))
    desk.post(
        url("draft"),
        {**on_screen(desk), "verdict": "b3", "rationale": "on second thoughts"},
        headers=FRAGMENT,
    )
    page = desk.get(url("judge")).content.decode()
    assert 'data-was="b3"' in page
    assert "on second thoughts" in page


def test_a_draft_for_what_is_judged_already_is_declined(desk: Client) -> None:
    fields = on_screen(desk)
    desk.post(url("judge"), {**fields, "verdict": "a2"})
    assert desk.post(url("draft"), {"token": fields["token"]}, headers=FRAGMENT).status_code == 410


def test_the_heartbeat_renews_and_says_when_the_place_is_gone(desk: Client) -> None:
    fields = on_screen(desk)
    before = Claim.objects.get().expires_at
    assert desk.post(url("renew"), {"token": fields["token"]}).status_code == 204
    assert Claim.objects.get().expires_at > before
    desk.post(url("judge"), {**fields, "verdict": "tie"})
    assert desk.post(url("renew"), {"token": fields["token"]}).status_code == 410


def test_leaving_gives_back_and_a_reload_is_offered_the_same(desk: Client) -> None:
    sides = shown(on_screen(desk)["token"])
    desk.post(url("ahead"), headers=FRAGMENT)
    desk.post(url("leave"))
    assert not Claim.objects.filter(state__in=["live", "next"]).exists()
    assert shown(on_screen(desk)["token"]) == sides


def test_a_flag_reaches_the_admins_with_its_note(desk: Client, teammate: Any) -> None:
    fields = on_screen(desk)
    response = desk.post(url("flag"), {**fields, "flag_note": "B names its model"}, headers=FRAGMENT)
    assert "Flagged" in response.content.decode()
    flag = Flag.objects.get()
    assert (flag.annotator, flag.note) == (teammate, "B names its model")
    assert on_screen(desk) == fields  # it stays on screen


@pytest.mark.parametrize("view", ["rendered", "raw", "differences", "nonsense"])
def test_texts_are_shown_as_asked(desk: Client, view: str) -> None:
    token = on_screen(desk)["token"]
    html = desk.get(url("texts", token), {"view": view}, headers=FRAGMENT).content.decode()
    assert ("<pre" in html) == (view == "raw")
    assert ("<mark>" in html) == (view == "differences")
    assert hidden_fields(html)["view"] == (view if view != "nonsense" else "rendered")


@pytest.mark.parametrize("view", ["rendered", "raw", "differences"])
def test_the_chosen_view_holds_for_every_answer(desk: Client, teammate: Any, view: str) -> None:
    desk.get(url("texts", on_screen(desk)["token"]), {"view": view}, headers=FRAGMENT)
    fields = on_screen(desk)
    answers = [
        desk.get(url("judge")),
        desk.post(url("ahead"), headers=FRAGMENT),
        desk.post(url("judge"), {**fields, "verdict": "tie"}, headers=FRAGMENT),
        desk.post(url("undo"), headers=FRAGMENT),
        desk.post(url("redo"), headers=FRAGMENT),
        desk.get(url("judgment", Judgment.objects.get().pk)),
    ]
    for answer in answers:
        html = answer.content.decode()
        assert set(re.findall(r'data-chosen="(\w+)"', html)) <= {view}
        assert re.search(rf'data-view="{view}"[^>]*aria-current="true"', html)
    assert Membership.objects.get(user=teammate).view == view


def test_a_page_keeps_its_own_view_beside_another_device(desk: Client, teammate: Any) -> None:
    Membership.objects.update(view="raw")  # chosen meanwhile, on the phone
    html = desk.post(url("ahead"), {"view": "differences"}, headers=FRAGMENT).content.decode()
    assert 'data-chosen="differences"' in html
    assert Membership.objects.get(user=teammate).view == "raw"


def test_a_member_without_a_choice_gets_the_projects_view(desk: Client, project: Any) -> None:
    project.default_view = "raw"
    project.save()
    assert 'data-view="raw"\n    data-chosen="raw"' in desk.get(url("judge")).content.decode()
    desk.get(url("judge"), {"view": "rendered"})
    assert on_screen(desk)["view"] == "rendered"


def test_differences_are_offered_for_similar_texts_alone(
    client_for: Any, teammate: Any, project: Any, make_comparisons: Any
) -> None:
    [made] = make_comparisons(1)
    first, second = (
        Completion.objects.create(prompt=made.prompt, policy=made.first.policy, text=" ".join(words))
        for words in ([f"one{n}" for n in range(90)], [f"two{n}" for n in range(90)])
    )
    Comparison.objects.create(project=project, prompt=made.prompt, first=first, second=second)
    made.delete()
    client = client_for(teammate)
    token = on_screen(client)["token"]
    html = client.get(url("texts", token), {"view": "differences"}, headers=FRAGMENT).content.decode()
    assert "too little in common" in html
    assert 'data-view="rendered"\n    data-chosen="differences"' in html
    assert "<mark>" not in html


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"finish_reason": "length", "sampling": {"max_new_tokens": 128}}, "Cut at 128 tokens"),
        ({"finish_reason": "length"}, "Cut at the length limit"),
        ({"finish_reason": "stop", "sampling": {"max_new_tokens": 128}}, ""),
    ],
)
def test_a_completion_that_was_cut_says_so(
    client_for: Any,
    teammate: Any,
    owner: Any,
    project: Any,
    make_comparisons: Any,
    fields: dict[str, Any],
    note: str,
) -> None:
    [made] = make_comparisons(1)
    cut = Completion.objects.create(
        prompt=made.prompt, policy=made.first.policy, text="A way to ch", **fields
    )
    comparison = Comparison.objects.create(project=project, prompt=made.prompt, first=cut, second=made.second)
    made.delete()
    desk, admin = client_for(teammate), client_for(owner)
    pages = [desk.get(url("judge")).content.decode()]
    pages.append(admin.get(url("comparison", comparison.pk)).content.decode())
    desk.post(url("judge"), {**on_screen(desk), "verdict": "tie"})
    pages.append(desk.get(url("judgment", Judgment.objects.get().pk)).content.decode())
    for html in pages:
        assert re.findall(r'class="ended">([^<]*)<', html) == ([note] if note else [])


def test_all_of_a_long_text_can_be_read_as_plain_text(
    client_for: Any, teammate: Any, project: Any, make_comparisons: Any
) -> None:
    from annotate.models import Prompt

    text = "<b>" + "z" * 1_000_000
    prompt = Prompt(project=project)
    prompt.set_content([{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}])
    prompt.save()
    pair = [
        Completion.objects.create(prompt=prompt, policy=project.current_policy, text=t)
        for t in (text, "short")
    ]
    Comparison.objects.create(project=project, prompt=prompt, first=pair[0], second=pair[1])
    client = client_for(teammate)
    page = client.get(url("judge"))
    assert len(page.content) < 250_000
    claim = Claim.objects.get()
    side, other = ("a", "b") if claim.left_id == pair[0].pk else ("b", "a")
    assert url("whole_text", claim.token, other) not in page.content.decode()
    for part, expected in ((side, text), ("prompt", f"system:\nBe brief.\n\nuser:\n{text}")):
        assert url("whole_text", claim.token, part) in page.content.decode()
        whole = client.get(url("whole_text", claim.token, part))
        assert whole.content.decode() == expected
        assert whole.headers["Content-Type"].startswith("text/plain")
        assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert client.get(url("whole_text", claim.token, "c")).status_code == 404


def test_differences_that_stop_early_say_so(
    client_for: Any, teammate: Any, project: Any, make_comparisons: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotate.text.differences.WORD_LIMIT", 2)
    make_comparisons(1)  # a word, a number and a stop
    client = client_for(teammate)
    token = on_screen(client)["token"]
    for view, words in (("differences", 2), ("rendered", 0)):
        html = client.get(url("texts", token), {"view": view}, headers=FRAGMENT).content.decode()
        assert html.count("Compared: its first") == words


def test_a_gold_verdict_is_told_only_where_the_project_tells(
    client_for: Any, teammate: Any, project: Any, make_comparisons: Any
) -> None:
    client = client_for(teammate)
    for feedback, tells in (("silent", False), ("shown", True)):
        project.gold_feedback, project.gold_rate = feedback, 0.5
        project.save()
        [gold] = make_comparisons(1, kind="gold")
        claim = Claim.objects.create(
            project=project,
            comparison=gold,
            annotator=teammate,
            left=gold.first,
            right=gold.second,
            expires_at="2100-01-01T00:00Z",
        )
        fields = {"token": claim.token, "left": gold.first_id, "right": gold.second_id}
        html = client.post(url("judge"), {**fields, "verdict": "b2"}, headers=FRAGMENT).content.decode()
        assert ("A is better" in html) is tells
        Claim.objects.filter(state__in=["live", "next"]).delete()


def today(response: Any) -> list[str]:
    return re.findall(r'<template id="today">(\d+)</template>', response.content.decode())


def test_undo_redo_and_a_refusal_bring_the_true_count_of_the_day(desk: Client) -> None:
    desk.post(url("judge"), {**on_screen(desk), "verdict": "a2"})
    desk.post(url("judge"), {**on_screen(desk), "verdict": "skip"})  # a skip is none
    for action, count in (("undo", "1"), ("redo", "1"), ("undo", "1"), ("undo", "0"), ("redo", "1")):
        assert today(desk.post(url(action), headers=FRAGMENT)) == [count], action
    assert today(desk.post(url("judge"), {**on_screen(desk), "verdict": "a9"}, headers=FRAGMENT)) == ["1"]
    yesterday = timezone.now() - timedelta(hours=23, minutes=59)
    Judgment.objects.filter(verdict="prefer").update(first_at=yesterday, created_at=yesterday)
    expected = str(int(timezone.localtime(yesterday).date() == timezone.localdate()))
    assert today(desk.get(url("judge"), headers=FRAGMENT)) == [expected]
    assert today(desk.post(url("undo"), headers=FRAGMENT)) == ["0"]


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
    judging.record(project, teammate, fields["token"], Verdict("tie"))
    assert on_screen(desk)["token"] != fields["token"]


def test_an_admin_with_an_empty_queue_is_offered_the_next_round(
    project: Any, owner: Any, teammate: Any, make_comparisons: Any, client_for: Any
) -> None:
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    assert claim is not None
    judging.record(project, teammate, claim.token, Verdict("tie"))
    start = 'href="/p/reviews/rounds/#start">Start a round</a>'
    assert start in client_for(owner).get("/p/reviews/judge/").content.decode()
    assert start not in client_for(teammate).get("/p/reviews/judge/").content.decode()
    project.rounds.create(
        number=1, state="sampling", trains=False, start_policy=project.current_policy, folder="runs/desk"
    )
    page = client_for(owner).get("/p/reviews/judge/").content.decode()
    assert re.search(r'href="/p/reviews/rounds/1/">\s+Open round 1', page)
    assert start not in page
