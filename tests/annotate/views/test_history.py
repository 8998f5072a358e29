"""An annotator's own judgments and figures: private, searchable, editable without loss."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.judgments import judging, revising
from annotate.judgments.verdicts import Verdict
from annotate.models import Claim, Comparison, Completion, Judgment, stored_aspects
from annotate.queueing import queue
from annotate.reports import my_work
from annotate.text import rendering
from annotate.text.chats import as_completion
from tests import factories
from tests.factories import TIE, say


@pytest.fixture
def judge(project: Any) -> Callable[..., Judgment]:
    """judge(person, "left"): judge what the queue hands out."""
    return partial(factories.judge, project)


@pytest.fixture
def history(client_for: Any, teammate: Any) -> Client:
    client: Client = client_for(teammate)
    return client


def test_it_lists_ones_own_judgments_alone(
    history: Client, teammate: Any, owner: Any, judge: Any, make_comparisons: Any
) -> None:
    make_comparisons(2)
    mine, theirs = judge(teammate), judge(owner)
    html = history.get("/p/reviews/history/").content.decode()
    assert reverse("judgment", args=["reviews", mine.pk]) in html
    assert reverse("judgment", args=["reviews", theirs.pk]) not in html
    assert history.get(reverse("judgment", args=["reviews", theirs.pk])).status_code == 404
    assert (
        history.post(reverse("judgment", args=["reviews", theirs.pk]), {"verdict": "tie"}).status_code == 404
    )


def test_search_finds_words_of_prompt_completion_and_rationale(
    history: Client, teammate: Any, project: Any, judge: Any, make_comparisons: Any
) -> None:
    project.ask_rationale = True
    project.save()
    make_comparisons(2)
    first = judge(teammate, rationale="Names the héroïne")
    second = judge(teammate)

    def found(query: str) -> set[int]:
        html = history.get("/p/reviews/history/", {"q": query}).content.decode()
        return {one.pk for one in (first, second) if reverse("judgment", args=["reviews", one.pk]) in html}

    assert found("HÉROÏNE") in ({first.pk}, set())  # SQLite folds the case of ASCII letters alone
    assert found("héroïne") == {first.pk}
    assert found(first.comparison.prompt.text) == {first.pk}
    assert found(second.comparison.first.text.strip()) == {second.pk}
    assert found("nowhere") == set()
    assert found("100%_") == set()


@pytest.mark.parametrize("query", ["\x00", "a\x00b", "%", "\\", "#0", "#" + "9" * 30, "\U0001f3ac", "'\""])
def test_a_strange_search_is_answered(
    history: Client, teammate: Any, judge: Any, make_comparisons: Any, query: str
) -> None:
    make_comparisons(1)
    judge(teammate)
    assert history.get("/p/reviews/history/", {"q": query}).status_code == 200


@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite counts its steps")
def test_the_cost_of_a_search_grows_with_ones_own_work_alone(
    history: Client, teammate: Any, owner: Any, project: Any, judge: Any, make_comparisons: Any
) -> None:
    def steps() -> int:
        ticks: list[None] = []
        connection.connection.set_progress_handler(lambda: ticks.append(None), 1)
        history.get("/p/reviews/history/", {"q": "nowhere"})
        connection.connection.set_progress_handler(None, 0)
        return len(ticks)

    make_comparisons(8, needed=2)
    for _ in range(3):
        judge(teammate)
    few = steps()
    for _ in range(5):
        judge(owner)
    make_comparisons(100)
    assert steps() < 1.5 * few


def test_a_filter_keeps_one_kind_of_verdict(
    history: Client, teammate: Any, judge: Any, make_comparisons: Any
) -> None:
    make_comparisons(2)
    tie, skip = judge(teammate), judge(teammate, "skip")
    html = history.get("/p/reviews/history/", {"verdict": "skip"}).content.decode()
    assert reverse("judgment", args=["reviews", skip.pk]) in html
    assert reverse("judgment", args=["reviews", tie.pk]) not in html


@pytest.mark.parametrize("before", ["x", "-1", "99999999999999999999999", "9" * 5000, "²", ""])
def test_a_strange_page_is_the_first_page(
    history: Client, teammate: Any, judge: Any, make_comparisons: Any, before: str
) -> None:
    make_comparisons(1)
    mine = judge(teammate)
    html = history.get("/p/reviews/history/", {"before": before}).content.decode()
    assert reverse("judgment", args=["reviews", mine.pk]) in html


def test_older_judgments_are_on_older_pages(
    history: Client, teammate: Any, judge: Any, make_comparisons: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotate.views.history.PAGE", 2)
    make_comparisons(3)
    judged = [judge(teammate).pk for _ in range(3)]
    first = history.get("/p/reviews/history/")
    assert [judgment.pk for judgment, _ in first.context["judgments"]] == [judged[2], judged[1]]
    second = history.get(f"/p/reviews/history/?{first.context['older']}")
    assert [judgment.pk for judgment, _ in second.context["judgments"]] == [judged[0]]


def test_a_change_keeps_what_was_said_before(
    history: Client, teammate: Any, judge: Any, make_comparisons: Any
) -> None:
    make_comparisons(1)
    mine = judge(teammate, "left")
    address = reverse("judgment", args=["reviews", mine.pk])
    sides = {"left": mine.left_id, "right": mine.right_id}
    response = history.post(address, {**sides, "verdict": "b3"})
    current = Judgment.objects.get(superseded_at=None)
    assert response.url == reverse("judgment", args=["reviews", current.pk])
    assert (current.preferred_id, current.strength, current.replaces_id) == (mine.right_id, 3, mine.pk)
    assert "This is an earlier version" in history.get(address).content.decode()
    # The old page's form, sent again from another tab, does not overwrite what holds now.
    assert history.post(address, {**sides, "verdict": "tie"}).status_code == 422
    assert Judgment.objects.get(superseded_at=None) == current


@pytest.mark.parametrize("verdict", ["right", "tie", "skip"])
def test_reasons_and_rationale_are_saved_with_the_verdict(
    history: Client, teammate: Any, project: Any, judge: Any, make_comparisons: Any, verdict: str
) -> None:
    project.reasons, project.ask_rationale = stored_aspects(["shorter"]), True
    project.save()
    make_comparisons(1)
    mine = judge(teammate, verdict, rationale="Before")
    address = reverse("judgment", args=["reviews", mine.pk])
    button = re.search(
        r'name="verdict" value="(\w+)">\s+Save reasons and rationale', history.get(address).content.decode()
    )
    assert button is not None
    entered = {"verdict": button[1], "reasons": "shorter", "rationale": "After"}
    history.post(address, {"left": mine.left_id, "right": mine.right_id, **entered})
    current = Judgment.objects.get(superseded_at=None)
    assert (current.reasons, current.rationale) == (["shorter"], "After")
    assert (current.verdict, current.preferred_id, current.strength) == (
        mine.verdict,
        mine.preferred_id,
        mine.strength,
    )


def test_a_change_that_cannot_be_changes_nothing(
    history: Client, teammate: Any, judge: Any, make_comparisons: Any
) -> None:
    make_comparisons(1)
    mine = judge(teammate, "left")
    response = history.post(reverse("judgment", args=["reviews", mine.pk]), {"verdict": "a7"})
    assert response.status_code == 422
    assert "Nothing was changed" in response.content.decode()
    assert Judgment.objects.get() == mine


def test_a_refused_change_keeps_what_was_entered(
    history: Client, teammate: Any, project: Any, judge: Any, make_comparisons: Any
) -> None:
    project.criteria, project.ask_rationale = stored_aspects(["Helpful"]), True
    project.save()
    make_comparisons(1)
    mine = judge(teammate, "left")
    sides = {"left": mine.left_id, "right": mine.right_id}
    entered = {"verdict": "b1", "criterion-warm": "a1", "rationale": "Rather this"}
    response = history.post(reverse("judgment", args=["reviews", mine.pk]), {**sides, **entered})
    html = response.content.decode()
    assert response.status_code == 422
    assert "This project does not know the criterion “warm”" in html
    assert "Rather this</textarea>" in html
    assert re.search(r'class="verdict b was" name="verdict"\s+value="b1"', html)
    assert "A better" in html  # what holds, above
    assert Judgment.objects.get() == mine


def test_text_that_is_cut_on_a_judgments_page_opens_whole(
    history: Client, teammate: Any, judge: Any, make_comparisons: Any
) -> None:
    [made] = make_comparisons(1)
    long = Completion.objects.create(prompt=made.prompt, policy=made.first.policy, text="z" * 70_000)
    made.delete()
    comparison = Comparison.objects.create(
        project=made.project, prompt=made.prompt, first=long, second=made.second
    )
    mine = revising.revise(made.project, teammate, judge(teammate, "left").pk, TIE)
    html = history.get(reverse("judgment", args=["reviews", mine.pk])).content.decode()
    assert html.count("only its beginning is shown") == 1
    side = "a" if mine.left_id == comparison.first_id else "b"
    link = reverse("whole_text", args=["reviews", Claim.objects.get().token, side])
    assert link in html
    assert history.get(link).content == b"z" * 70_000


def test_a_completion_of_messages_says_whether_it_is_cut(
    history: Client, teammate: Any, judge: Any, make_comparisons: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    [made] = make_comparisons(1)
    both = []
    for length in (90, 110):
        call = {"type": "function", "function": {"name": "a" * 40, "arguments": "{}"}}
        messages = [{"role": "assistant", "content": "z" * (length - 2), "tool_calls": [call]}]
        text = as_completion(messages)
        both.append(
            Completion.objects.create(
                prompt=made.prompt, policy=made.first.policy, text=text, messages=messages
            )
        )
    made.delete()
    Comparison.objects.create(project=made.project, prompt=made.prompt, first=both[0], second=both[1])
    monkeypatch.setattr(rendering, "DISPLAY_LIMIT", 100)
    html = history.get(reverse("judgment", args=["reviews", judge(teammate, "left").pk])).content.decode()
    assert html.count("only its beginning is shown") == 1  # names of calls are shown in any case


# --- One's own figures ----------------------------------------------------------------------------------------------


def at(days: int = 0) -> datetime:
    return timezone.now() - timedelta(days=days)


def test_figures_count_todays_verdicts_the_streak_and_the_rest(
    teammate: Any, project: Any, judge: Any, make_comparisons: Any
) -> None:
    make_comparisons(7)
    for days in (0, 0, 1, 2, 4):
        judgment = judge(teammate)
        Judgment.objects.filter(pk=judgment.pk).update(
            first_at=at(days), created_at=at(days), seconds=10 + days
        )
    judge(teammate, "skip")
    work = my_work.measure_work(project, teammate)
    assert (work.today, work.total, work.left) == (2, 5, 1)
    assert work.streak == 3  # today, yesterday and the day before; the gap ends it
    assert work.seconds == 11  # the median of 10, 10, 11, 12, 14
    assert work.an_hour == 327
    assert [day.count for day in work.days][-5:] == [1, 0, 1, 1, 2]


def test_a_streak_lasts_until_the_day_after_is_over(
    teammate: Any, project: Any, judge: Any, make_comparisons: Any
) -> None:
    make_comparisons(1)
    Judgment.objects.filter(pk=judge(teammate).pk).update(first_at=at(1), created_at=at(1))
    assert my_work.measure_work(project, teammate).streak == 1
    Judgment.objects.update(first_at=at(2), created_at=at(2))
    assert my_work.measure_work(project, teammate).streak == 0


def test_agreement_counts_colleagues_on_the_same_comparison(
    teammate: Any, owner: Any, project: Any, make_comparisons: Any
) -> None:
    make_comparisons(3, needed=2)
    for _ in range(3):
        for person, strength in ((teammate, 1), (owner, 3)):
            claim = queue.claim(project, person)
            assert claim is not None
            preferred = claim.comparison.first_id
            judging.record(project, person, claim.token, Verdict("prefer", preferred, strength))
    Judgment.objects.update(first_at=at(1))
    work = my_work.measure_work(project, teammate)
    assert work.agreement is not None
    # Both always chose the first completion, and strength does not matter.
    assert work.agreement.count == work.agreement.total == 3
    last = Judgment.objects.filter(annotator=owner).last()
    assert last is not None
    revising.revise(project, owner, last.pk, TIE)
    work = my_work.measure_work(project, teammate)
    assert work.agreement is not None
    assert (work.agreement.count, work.agreement.total) == (2, 3)


@pytest.mark.parametrize("agreement", [True, False])
@pytest.mark.parametrize("feedback", ["silent", "shown"])
def test_gold_accuracy_is_shown_only_where_the_project_says_so(
    history: Client, teammate: Any, project: Any, make_comparisons: Any, agreement: bool, feedback: str
) -> None:
    """While gold is silent, an own figure would say after each verdict whether that was gold, and right."""
    project.show_agreement, project.gold_feedback = agreement, feedback
    project.save()
    [gold] = make_comparisons(1, kind="gold")
    say(teammate, gold, "first")
    html = history.get("/p/reviews/me/").content.decode()
    assert ("1 of 1 right" in html) == (agreement and feedback == "shown")


def test_an_unknown_verdict_is_named_in_the_filter(project, teammate, client_for):
    answer = client_for(teammate).get("/p/reviews/history/?verdict=nonsense")
    assert answer.status_code == 422
    assert "“nonsense” is unknown" in answer.content.decode()
