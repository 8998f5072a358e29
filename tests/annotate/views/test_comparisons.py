"""Looking through comparisons, one comparison's page, what an admin does there, and flags."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.judgments import judging, undoing
from annotate.models import Comparison, Flag, Policy, Prompt
from annotate.pairs.snapshots import take_snapshot
from annotate.queueing import queue
from annotate.reports import search
from tests.factories import TIE, judge_all

URL = "/p/reviews/comparisons/"


def numbers(page):
    return [comparison.pk for comparison in page.context["page"].rows]


@pytest.mark.parametrize("page", ["comparisons/", "comparisons/{}/"])
@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 200), ("researcher", 200), ("teammate", 403), ("outsider", 404), (None, 302)],
)
def test_annotators_see_no_list_and_no_comparison(request, make_comparisons, client_for, page, who, status):
    """They must not learn policies, kinds, gold, or what others said."""
    [comparison] = make_comparisons()
    client = client_for(request.getfixturevalue(who) if who else None)
    assert client.get(f"/p/reviews/{page.format(comparison.pk)}").status_code == status


@pytest.mark.parametrize(
    ("who", "status"),
    [("owner", 200), ("researcher", 403), ("teammate", 403), ("outsider", 404), (None, 302)],
)
def test_flags_are_for_admins(request, project, client_for, who, status):
    client = client_for(request.getfixturevalue(who) if who else None)
    assert client.get("/p/reviews/flags/").status_code == status


def test_the_newest_come_first_a_page_at_a_time(owner, make_comparisons, client_for, monkeypatch):
    monkeypatch.setattr(search, "PAGE", 2)
    made = [comparison.pk for comparison in make_comparisons(5)]
    client, seen, address = client_for(owner), [], URL
    while address:
        page = client.get(address)
        seen.append(numbers(page))
        following = re.search(r'href="(\?[^"]+)" rel="next"', page.content.decode())
        address = URL + following[1] if following else None
    assert [pk for some in seen for pk in some] == sorted(made, reverse=True)
    assert [len(some) for some in seen] == [2, 2, 1]


def test_each_filter_narrows_the_list(project, owner, teammate, make_comparisons, client_for):
    other_policy = Policy.objects.create(project=project, name="outside", kind="external")
    waiting, split, agreed, gold, foreign = [
        *make_comparisons(3, needed=2),
        *make_comparisons(1, kind="gold"),
        *make_comparisons(1, policy=other_policy, needed=3),
    ]
    Comparison.objects.filter(pk=waiting.pk).update(withdrawn_at="2026-01-01T00:00Z")
    judge_all(project, owner, {split.pk: "first", agreed.pk: "second", foreign.pk: "skip"})
    judge_all(project, teammate, {split.pk: "second", agreed.pk: "second"})
    Flag.objects.create(comparison=agreed, annotator=teammate, note="Look")
    Prompt.objects.filter(pk=split.prompt_id).update(held_out=True)
    Prompt.objects.filter(pk=gold.prompt_id).update(external_id="t3_x")
    client = client_for(owner)
    for query, expected in {
        "": {waiting, split, agreed, gold, foreign},
        "state=withdrawn": {waiting},
        "state=waiting": {gold},
        "state=partly": {foreign},
        "state=finished": {split, agreed},
        "kind=gold": {gold},
        "verdict=skip": {foreign},
        f"annotator={teammate.pk}": {split, agreed, foreign},
        f"annotator={owner.pk}&verdict=prefer": {split, agreed},
        "disagreement=on": {split},
        f"policy={other_policy.pk}": {foreign},
        "held_out=yes": {split},
        "flagged=on": {agreed},
        f"q=%23{gold.pk}": {gold},
        "q=t3_x": {gold},
        f"q=review+number+{split.prompt.text.split()[2]}+BEGINS": {split},
        "q=no+such+text": set(),
    }.items():
        assert set(numbers(client.get(f"{URL}?{query}"))) == {one.pk for one in expected}, query


def test_the_list_of_one_prompt_says_so_and_leads_back(owner, make_comparisons, client_for):
    made, _other = make_comparisons(2)
    page = client_for(owner).get(f"{URL}?prompt={made.prompt_id}").content.decode()
    assert f"Only comparisons of prompt #{made.prompt_id} are shown." in page
    assert f'<a class="button small" href="{URL}">Show all</a>' in page


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("annotator=999999", "Annotator: “999999” is not, and was not, an annotator of this project."),
        ("policy=999999", "Policy: “999999” is not a policy of this project."),
        ("policy=x", "“x” is not a policy"),
        ("batch=import+9", "“import 9” is not a batch of this project."),
        ("state=often", "often is not one of the available choices."),
        ("verdict=nonsense", "nonsense is not"),
        ("kind=x", "x is not"),
        ("held_out=maybe", "maybe is not"),
        ("prompt=x", "Enter a whole number."),
        ("q=" + "x" * 201, "at most 200 characters"),
        ("verdct=tie", "There is no filter “verdct”."),
    ],
)
def test_a_filter_without_meaning_is_refused(project, owner, make_comparisons, client_for, query, says):
    """Beside another filter too, which alone would find something."""
    make_comparisons(1)
    answer = client_for(owner).get(f"{URL}?kind=standard&{query}")
    assert says in answer.content.decode()
    assert answer.status_code == 422
    assert not numbers(answer)
    assert 'role="alert"' in answer.content.decode()


@pytest.mark.parametrize("text", ["naïve “quotes” \\ 日本語", 'a "quoted" word', "50%", "under_score"])
def test_search_finds_any_character_in_prompts_and_completions(
    project, owner, make_comparisons, client_for, text
):
    """Prompts are JSON in the database: SQLite keeps it escaped, PostgreSQL does not."""
    found, _other = make_comparisons(2)
    prompt = Prompt.objects.get(pk=found.prompt_id)
    prompt.set_content([{"role": "user", "content": f"before {text} after"}])
    prompt.save()
    page = client_for(owner).get(URL, {"q": text})
    assert numbers(page) == [found.pk]


def test_a_long_search_says_how_far_it_got_and_can_go_on(
    project, owner, make_comparisons, client_for, monkeypatch
):
    monkeypatch.setattr(search, "FIRST_WINDOW", 2)
    monkeypatch.setattr(search, "LARGEST_WINDOW", 2)
    first, *_others = make_comparisons(6)
    Comparison.objects.filter(pk=first.pk).update(withdrawn_at="2026-01-01T00:00Z")
    page = search.browse(project, {"state": "withdrawn"}, seconds=0)
    assert (page.rows, page.cut) == ([], True)
    found = []
    # PostgreSQL goes on counting ids from test to test: there may be far to look.
    while page.cut and not found:
        page = search.browse(project, {"state": "withdrawn"}, page.older, seconds=0)
        found += page.rows
    assert found == [first]


def test_the_list_of_comparisons_costs_the_same_for_any_length(
    project, owner, teammate, make_comparisons, client_for, monkeypatch
):
    # PostgreSQL goes on counting ids from test to test: without this, a look back over them takes a query more.
    monkeypatch.setattr(search, "FIRST_WINDOW", 10**6)

    def queries():
        with CaptureQueriesContext(
            connection,
        ) as captured:
            client.get(URL)
        return len(captured)

    client = client_for(owner)
    make_comparisons(2)
    judge_all(project, teammate)
    few = queries()
    make_comparisons(10)
    judge_all(project, teammate)
    assert queries() == few <= 12


def test_the_list_neither_counts_nor_skips_rows(project, owner, make_comparisons, client_for):
    make_comparisons(3)
    with CaptureQueriesContext(connection) as captured:
        client_for(owner).get(f"{URL}?state=finished&before=1000")
    for query in captured:
        assert "COUNT(*)" not in query["sql"]
        assert "OFFSET" not in query["sql"]


def test_no_older_comparison_is_told_from_none_at_all(make_comparisons, owner, client_for):
    found, _newer = make_comparisons(2)
    page = client_for(owner).get(f"{URL}?state=waiting&before={found.pk}").content.decode()
    assert f"No comparison older than #{found.pk} matches" in page
    assert "No comparison of this project matches" not in page


@pytest.mark.parametrize("before", ["x", "-1", "0", "9" * 30])
def test_a_mangled_page_address_is_the_first_page(owner, make_comparisons, client_for, before):
    make_comparisons(2)
    page = client_for(owner).get(f"{URL}?before={before}")
    assert page.status_code == 200
    assert len(numbers(page)) == 2


def test_a_comparison_tells_everything(project, owner, teammate, researcher, make_comparisons, client_for):
    [comparison] = make_comparisons(needed=2)
    judge_all(project, teammate, {comparison.pk: "first"})
    undoing.undo(project, teammate)
    judge_all(project, teammate, {comparison.pk: "second"})
    snapshot = take_snapshot(project, owner)
    claim = queue.claim(project, owner)
    page = client_for(researcher).get(f"{URL}{comparison.pk}/").content.decode()
    assert "toni" in page
    assert "replaced" in page  # the history
    assert snapshot.digest[:12] in page
    assert "It is on olive’s screen" in page
    assert comparison.first.policy.name in page
    left = "A" if claim.comparison.judgments.first().left_id == comparison.first_id else "B"
    assert re.search(rf'data-label="Left">\s*{left}\s*</td>', page)
    assert "Withdraw" not in page  # a researcher only reads


def test_hostile_completions_are_shown_harmlessly(project, owner, make_comparisons, client_for):
    from annotate.models import Completion

    [made] = make_comparisons()
    hostile = Completion.objects.create(
        prompt=made.prompt,
        policy=made.first.policy,
        text="<script>alert(1)</script><img src=x onerror=alert(1)>",
    )
    comparison = Comparison.objects.create(
        project=project, prompt=made.prompt, first=hostile, second=made.second
    )
    page = client_for(owner).get(f"{URL}{comparison.pk}/").content.decode()
    assert "<script>alert" not in page
    assert "<img" not in page


def test_withdrawing_and_restoring(project, owner, teammate, make_comparisons, client_for):
    [comparison] = make_comparisons()
    client, url = client_for(owner), f"{URL}{comparison.pk}/change/"
    client.post(url, {"action": "withdraw"})
    assert queue.claim(project, teammate) is None
    client.post(url, {"action": "restore"})
    assert queue.claim(project, teammate).comparison_id == comparison.pk


def test_making_a_comparison_gold(owner, make_comparisons, client_for):
    comparison, gate = [*make_comparisons(), *make_comparisons(kind="gate")]
    client, url = client_for(owner), f"{URL}{comparison.pk}/change/"
    refused = client.post(url, {"action": "gold", "preferred": gate.first_id}, follow=True)
    assert b"Choose which completion" in refused.content
    client.post(url, {"action": "gold", "preferred": comparison.second_id})
    comparison.refresh_from_db()
    assert (comparison.kind, comparison.gold_preferred_id) == ("gold", comparison.second_id)
    client.post(f"{URL}{gate.pk}/change/", {"action": "gold", "preferred": gate.first_id})
    gate.refresh_from_db()
    assert gate.kind == "gate"


@pytest.mark.parametrize("who", ["researcher", "teammate", "outsider"])
def test_nobody_else_changes_a_comparison_or_a_flag(request, teammate, make_comparisons, client_for, who):
    [comparison] = make_comparisons()
    flag = Flag.objects.create(comparison=comparison, annotator=teammate)
    client = client_for(request.getfixturevalue(who))
    for data in ({"action": "withdraw"}, {"action": "gold", "preferred": comparison.first_id}):
        assert client.post(f"{URL}{comparison.pk}/change/", data).status_code in (403, 404)
    assert client.post(f"/p/reviews/flags/{flag.pk}/resolve/").status_code in (403, 404)
    comparison.refresh_from_db()
    flag.refresh_from_db()
    assert (comparison.withdrawn_at, comparison.kind, flag.resolved_at) == (None, "standard", None)


def test_another_projects_comparison_is_not_found(owner, make_comparisons, make_member, client_for):
    from annotate.models import Project

    [comparison] = make_comparisons()
    other = Project.objects.create(slug="other", name="Other")
    stranger = client_for(make_member("sam", "admin", in_project=other))
    assert stranger.get(f"/p/other/comparisons/{comparison.pk}/").status_code == 404
    assert (
        stranger.post(f"/p/other/comparisons/{comparison.pk}/change/", {"action": "withdraw"}).status_code
        == 404
    )
    comparison.refresh_from_db()
    assert comparison.withdrawn_at is None


def test_flags_are_listed_with_their_note_and_resolved(owner, teammate, make_comparisons, client_for):
    [comparison] = make_comparisons()
    flag = Flag.objects.create(comparison=comparison, annotator=teammate, note="Both are in Finnish.")
    client = client_for(owner)
    assert b"Both are in Finnish." in client.get("/p/reviews/flags/").content
    after = client.post(f"/p/reviews/flags/{flag.pk}/resolve/", follow=True)
    assert b"No open flags" in after.content
    flag.refresh_from_db()
    assert flag.resolved_at


def test_a_long_text_is_said_to_be_cut(project, owner, client_for, make_comparisons):
    long, short = make_comparisons(2)
    long.prompt.set_content("word " * 13_000)
    long.prompt.save()
    page = client_for(owner).get(f"/p/reviews/comparisons/{long.pk}/").content.decode()
    assert page.count("Very long: not all of it is shown.") == 1
    page = client_for(owner).get(f"/p/reviews/comparisons/{short.pk}/").content.decode()
    assert "Very long" not in page


def test_who_left_can_still_be_chosen(project, owner, teammate, researcher, make_comparisons, client_for):
    make_comparisons(2)
    claim = queue.claim(project, teammate)
    judging.record(project, teammate, claim.token, TIE)
    project.memberships.filter(user__in=[teammate, researcher]).delete()
    page = client_for(owner).get(f"{URL}?annotator={teammate.pk}")
    assert numbers(page) == [claim.comparison_id]
    assert "toni (former member)" in page.content.decode()
    assert client_for(owner).get(f"{URL}?annotator={researcher.pk}").status_code == 422


def test_a_chats_calls_and_both_views_are_on_its_page(project, owner, client_for, make_comparisons):
    [made] = make_comparisons()
    call = {"id": "call_7", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    made.prompt.set_content(
        [
            {"role": "user", "content": "What is **new**?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_7", "content": "Nothing."},
        ]
    )
    made.prompt.save()
    client = client_for(owner)
    for view in ("rendered", "raw"):
        for query in ({"view": view}, {}):  # chosen, and kept
            page = client.get(f"{URL}{made.pk}/", query).content.decode()
            assert ("What is **new**?" in page) == (view == "raw")
            assert "Call of look_up (call_7)" in page
            assert "Result of a tool (call_7)" in page
            assert re.search(rf'data-view="{view}"[^>]*aria-current="true"', page)
