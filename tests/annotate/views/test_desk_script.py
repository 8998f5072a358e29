"""The desk's script over HTTP: what it sends, and the fragments that it is answered with."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from annotate.models import Claim, Comparison, Completion, Flag, Judgment, Membership, stored_aspects
from tests.annotate.desk import FRAGMENT, hidden_fields, on_screen, shown, url

pytestmark = pytest.mark.once  # forms and pages, whatever the database


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
    assert ("<mark " in html) == (view == "differences")
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
    assert "<mark" not in html


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("color", "color "), "Only white space differs."),
        (("a b\n\nc", "a b\nc"), "Only white space differs."),
        (("colour", "color"), ""),
        (("ab", "a b"), ""),
        (("same", "same"), "Both completions are the same."),
        (("one two " * 200 + "red", "one two " * 200 + "blue"), "Both begin with the same 400 words."),
        (("one two " * 60 + "red", "one two " * 60 + "blue"), ""),
        (("one two " * 200 + "redder", "one two " * 200 + "rebuilt"), "Both begin with the same 400 words."),
        (("one two " * 200 + "colour", "one two " * 200 + "color"), "Both begin with the same 400 words."),
        (("one, two. " * 200 + "a", "one, two. " * 200 + "a b"), "Both begin with the same 401 words."),
        (
            ("很长的开头。" * 200 + "红", "很长的开头。" * 200 + "蓝"),
            "Both begin with the same 1,200 characters.",
        ),
        (("สวัสดี" * 300 + "ดี", "สวัสดี" * 300 + "ดา"), "Both begin with the same 1,200 characters."),
        (("نص طويل " * 200 + "أحمر", "نص طويل " * 200 + "أحمد"), "Both begin with the same 400 words."),
        (("x" * 1200 + "a", "x" * 1200 + "b"), "Both have the same long beginning."),
        ((" \n" * 600 + "a", " \n" * 600 + "b"), "Both have the same long beginning."),
    ],
)
def test_texts_that_look_the_same_say_how_they_differ(
    client_for: Any, teammate: Any, project: Any, make_comparisons: Any, texts: tuple[str, str], said: str
) -> None:
    [made] = make_comparisons(1)
    first, second = (
        Completion.objects.create(prompt=made.prompt, policy=made.first.policy, text=text) for text in texts
    )
    Comparison.objects.create(project=project, prompt=made.prompt, first=first, second=second)
    made.delete()
    client = client_for(teammate)
    token = on_screen(client)["token"]
    for view, expected in (("rendered", said), ("raw", said), ("differences", "")):
        html = client.get(url("texts", token), {"view": view}, headers=FRAGMENT).content.decode()
        assert re.findall(r"Only white space differs\.|Both (?:completions|begin|have)[^<]*", html) == (
            [expected] if expected else []
        )


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
    monkeypatch.setattr("annotate.text.differences.WORD_LIMIT", 0)
    make_comparisons(1)
    client = client_for(teammate)
    token = on_screen(client)["token"]
    for view, words in (("differences", 2), ("rendered", 0)):
        html = client.get(url("texts", token), {"view": view}, headers=FRAGMENT).content.decode()
        assert html.count("from the first difference on") == words


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
