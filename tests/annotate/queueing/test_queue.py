"""Handing out comparisons: who gets what, in which order, for how long, and what it costs."""

import itertools
import random
import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotate.judgments import drafts, judging
from annotate.models import Claim, Comparison, Completion, Judgment, Priority, Project, Prompt
from annotate.queueing import empty_queue, queue
from annotate.queueing.choosing import GOLD, RAISED, RESERVED, STANDARD
from annotate.queueing.repeats import APART
from tests.annotate.invariants import broken_rules
from tests.factories import SKIP, TIE, judge_by_word, judged_by_word, later, left

# --- One person --------------------------------------------------------------------------------------------------


def test_a_live_claim_comes_back_with_the_same_sides(project, teammate, make_comparisons):
    make_comparisons(5)
    claim = queue.claim(project, teammate)
    for _ in range(5):
        again = queue.claim(project, teammate)
        assert (again.pk, again.token, again.left_id) == (claim.pk, claim.token, claim.left_id)


def test_an_expired_claim_is_never_refused_to_its_own_holder(project, teammate, make_comparisons):
    make_comparisons(3)
    claim = queue.claim(project, teammate)
    again = queue.claim(project, teammate, now=later(60))
    assert again.pk == claim.pk
    assert again.expires_at > later(60)


def test_an_expired_comparison_returns_first_to_its_annotator(project, teammate, make_comparisons):
    make_comparisons(50)
    claim = queue.claim(project, teammate)
    drafts.save_draft(project, teammate, claim.token, {"rationale": "Half a thought"})
    assert queue.expire_claims(project, now=later(60)) == 1
    again = queue.claim(project, teammate, now=later(61))
    assert (again.pk, again.left_id, again.token) == (claim.pk, claim.left_id, claim.token)
    assert again.draft == {"rationale": "Half a thought"}


def test_nobody_gets_a_comparison_twice(project, teammate, make_comparisons):
    """Open-Assistant#833."""
    made = make_comparisons(12, needed=3)
    seen = []
    while claim := queue.claim(project, teammate):
        seen.append(claim.comparison_id)
        judging.record(project, teammate, claim.token, SKIP if len(seen) % 3 == 0 else left(claim))
    assert sorted(seen) == sorted(comparison.pk for comparison in made)


def test_judgments_of_the_factory_are_those_of_the_desk(project, teammate, make_comparisons):
    def rows(comparisons):
        of = {"comparison__in": comparisons}
        varying = {"id", "comparison_id", "left_id", "right_id", "preferred_id", "token", "seconds"}
        varying |= {"claimed_at", "seen_at", "expires_at", "first_at", "created_at"}
        for row in [*Claim.objects.filter(**of).values(), *Judgment.objects.filter(**of).values()]:
            yield {name: value for name, value in row.items() if name not in varying}
        yield from Comparison.objects.filter(pk__in=[one.pk for one in comparisons]).values_list(
            "claimed", "judged", "skipped", "open"
        )
        for judgment in Judgment.objects.filter(**of).select_related("preferred"):
            yield "splendidly" in judgment.preferred.text

    by_desk = make_comparisons(4)
    judge_by_word(project, teammate)
    at_once = make_comparisons(4)
    judged_by_word(at_once, teammate)
    assert list(rows(at_once)) == list(rows(by_desk))
    assert not broken_rules(project)


def test_sides_are_drawn_both_ways_and_per_person(project, teammate, owner, make_comparisons):
    make_comparisons(30, needed=2)
    left_first = {}
    for user in (teammate, owner):
        while claim := queue.claim(project, user):
            left_first[user.pk, claim.comparison_id] = claim.left_id == claim.comparison.first_id
            judging.record(project, user, claim.token, TIE)
    drawn = [
        [first for (who, _), first in sorted(left_first.items()) if who == user.pk]
        for user in (teammate, owner)
    ]
    assert drawn[0] != drawn[1]
    assert all(5 <= sum(draws) <= 25 for draws in drawn)  # fails by chance once in 10,000


def test_annotators_walk_the_ring_from_different_places(project, make_member, make_comparisons):
    make_comparisons(40)
    users = [make_member(f"annotator{number}", "annotator") for number in range(8)]
    assert len({queue.claim(project, user).comparison_id for user in users}) == 8


# --- Several people ----------------------------------------------------------------------------------------------


def test_a_comparison_is_handed_to_no_more_people_than_it_needs(project, make_member, make_comparisons):
    """label-studio#795."""
    make_comparisons(3, needed=2)
    users = [make_member(f"annotator{number}", "annotator") for number in range(4)]
    claims = [queue.claim(project, user) for user in users]
    claims += [queue.claim_next(project, user) for user in users]
    assert sum(claim is not None for claim in claims) == 6
    assert not broken_rules(project)


def test_abandoned_comparisons_come_back_by_themselves(project, teammate, owner, make_comparisons):
    """potato#100; label-studio#4190, #4788: "no more tasks" because of stale locks."""
    (comparison,) = make_comparisons(1)
    queue.claim(project, teammate)
    assert queue.claim(project, owner) is None
    assert queue.claim(project, owner, now=later(11)).comparison_id == comparison.pk
    assert not broken_rules(project)


def test_leaving_gives_back_what_is_held_at_once(project, teammate, owner, make_comparisons):
    make_comparisons(2)
    queue.claim(project, teammate)
    queue.claim_next(project, teammate)
    assert queue.claim(project, owner) is not None  # taken over from what was only fetched ahead
    assert queue.leave(project, teammate) == 1
    assert queue.claim_next(project, owner) is not None


def test_a_skipped_comparison_goes_to_others_and_then_aside(project, make_member, make_comparisons):
    """argilla#5757: discarded items that never complete."""
    (comparison,) = make_comparisons(1)
    for number in range(3):
        user = make_member(f"annotator{number}", "annotator")
        claim = queue.claim(project, user)
        judging.record(project, user, claim.token, SKIP)
    comparison.refresh_from_db()
    assert (comparison.skipped, comparison.judged, comparison.open) == (3, 0, False)
    assert queue.claim(project, make_member("last", "annotator")) is None
    assert not broken_rules(project)


def test_projects_do_not_mix(project, teammate, make_comparisons):
    other = Project.objects.create(slug="other", name="Other")
    make_comparisons(1)
    assert queue.claim(other, teammate) is None


def test_an_archived_project_hands_nothing_out(project, teammate, make_comparisons):
    make_comparisons(2)
    project.archived_at = timezone.now()
    project.save()
    assert queue.claim(project, teammate) is None
    assert empty_queue.explain(project, teammate).reason == empty_queue.Reason.ARCHIVED


def test_a_withdrawn_comparison_may_only_be_finished(project, teammate, owner, make_comparisons):
    (comparison,) = make_comparisons(1, needed=2)
    claim = queue.claim(project, teammate)
    assert comparison.withdraw()
    assert queue.claim(project, owner) is None
    assert queue.claim(project, teammate).pk == claim.pk
    judging.record(project, teammate, claim.token, TIE)
    assert comparison.restore()
    assert queue.claim(project, owner).comparison_id == comparison.pk


# --- Fetching ahead ----------------------------------------------------------------------------------------------


def test_what_was_fetched_ahead_is_shown_next(project, teammate, make_comparisons):
    make_comparisons(5)
    first = queue.claim(project, teammate)
    ahead = queue.claim_next(project, teammate)
    assert ahead.pk != first.pk
    assert ahead.seen_at is None
    assert queue.claim_next(project, teammate).pk == ahead.pk
    turn = judging.judge_and_next(project, teammate, first.token, left(first))
    assert turn.live.pk == ahead.pk
    assert turn.live.seen_at is not None
    assert turn.next.pk not in (first.pk, ahead.pk)


def test_the_heartbeat_renews_the_short_lease_of_a_prefetch(project, teammate, make_comparisons):
    make_comparisons(5)
    claim = queue.claim(project, teammate)
    ahead = queue.claim_next(project, teammate)
    assert ahead.expires_at < claim.expires_at
    moment = later(1.5)
    assert queue.renew(project, teammate, claim.token, now=moment)
    ahead.refresh_from_db()
    assert ahead.expires_at == moment + queue.NEXT_LEASE


def test_asking_for_the_next_one_again_keeps_it_longer(project, teammate, make_comparisons):
    make_comparisons(2)
    queue.claim(project, teammate)
    queue.claim_next(project, teammate)
    moment = later(1.5)
    assert queue.claim_next(project, teammate, now=moment).expires_at == moment + queue.NEXT_LEASE


def test_an_unseen_claim_gives_way_before_the_queue_is_empty(project, teammate, owner, make_comparisons):
    make_comparisons(2)
    live = queue.claim(project, teammate)
    ahead = queue.claim_next(project, teammate)
    taken = queue.claim(project, owner)
    assert taken.comparison_id == ahead.comparison_id
    assert not broken_rules(project)
    turn = judging.judge_and_next(project, teammate, live.token, left(live))
    assert (turn.live, turn.next) == (None, None)


def test_a_claim_on_somebodys_screen_does_not_give_way(project, teammate, owner, make_comparisons):
    make_comparisons(1)
    queue.claim(project, teammate)
    assert queue.claim(project, owner) is None
    found = empty_queue.explain(project, owner)
    assert found.reason == empty_queue.Reason.HELD
    assert found.back_at > timezone.now()


def test_fetching_ahead_never_takes_over(project, teammate, owner, make_comparisons):
    make_comparisons(3)
    queue.claim(project, teammate)
    ahead = queue.claim_next(project, teammate)
    queue.claim(project, owner)
    assert queue.claim_next(project, owner) is None
    ahead.refresh_from_db()
    assert ahead.state == Claim.State.NEXT


# --- Heartbeat ---------------------------------------------------------------------------------------------------


def test_the_heartbeat_keeps_a_claim_and_is_the_holders_alone(project, teammate, owner, make_comparisons):
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    assert queue.renew(project, teammate, claim.token, now=later(9))
    assert not queue.renew(project, owner, claim.token)
    assert not queue.renew(project, teammate, "no token")
    assert queue.expire_claims(project, now=later(15)) == 0
    claim.refresh_from_db()
    assert later(9) < claim.expires_at <= later(9) + queue.get_lease(project)
    assert queue.expire_claims(project, now=claim.expires_at) == 1


def test_expired_claims_all_come_back_a_few_at_a_time(
    project, teammate, owner, make_member, make_comparisons, monkeypatch
):
    monkeypatch.setattr(queue, "REAPED_AT_A_TIME", 2)
    make_comparisons(3)
    for person in (teammate, owner, make_member("tina", "annotator")):
        queue.claim(project, person)
    assert queue.expire_claims(project, now=later(60)) == 3


def test_a_machine_that_slept_takes_back_its_claim(project, teammate, owner, make_comparisons):
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    queue.expire_claims(project, now=later(11))
    seen_at = claim.seen_at
    assert queue.renew(project, teammate, claim.token, now=later(12))
    claim.refresh_from_db()
    assert claim.seen_at == seen_at
    queue.expire_claims(project, now=later(30))
    assert queue.claim(project, owner, now=later(31)) is not None
    assert not queue.renew(project, teammate, claim.token, now=later(32))
    assert not broken_rules(project)


def test_what_is_on_screen_comes_back_even_when_prefetched_since(project, teammate, make_comparisons):
    """On a reload, the old page's farewell can arrive after the new page's request, and before it fetches ahead."""
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    queue.leave(project, teammate)
    assert queue.claim_next(project, teammate) == claim
    assert queue.renew(project, teammate, claim.token)
    claim.refresh_from_db()
    assert claim.state == "live"


def test_what_was_on_screen_comes_first_after_leaving(project, teammate, make_comparisons):
    make_comparisons(3)
    live, _ahead = queue.claim(project, teammate), queue.claim_next(project, teammate)
    queue.leave(project, teammate)
    assert queue.claim(project, teammate) == live


def test_what_was_given_back_last_comes_first(project, teammate, make_comparisons):
    """However long each was to be held."""
    make_comparisons(3)
    live, ahead = queue.claim(project, teammate), queue.claim_next(project, teammate)
    assert live.expires_at > ahead.expires_at
    queue.release(live, now=later(1))
    queue.release(ahead, now=later(2))
    assert queue.claim(project, teammate, now=later(3)) == ahead


def test_a_claim_is_not_taken_back_beside_another_live_one(project, teammate, make_comparisons):
    make_comparisons(2)
    first = queue.claim(project, teammate)
    assert queue.release(first)
    assert not queue.release(first)
    other = Comparison.objects.exclude(pk=first.comparison_id)
    other.update(priority=1)
    Claim.objects.filter(pk=first.pk).update(expires_at=later(-2000))  # too long ago to be offered first
    assert queue.claim(project, teammate).comparison_id == other.get().pk
    assert not queue.renew(project, teammate, first.token)


# --- Priorities, gold, repeats -----------------------------------------------------------------------------------


def test_raised_priorities_go_first_the_highest_before_others(project, teammate, make_comparisons):
    make_comparisons(10)
    (chosen,) = make_comparisons(1, priority=10)
    (gate,) = make_comparisons(1, priority=Priority.GATE, kind="gate")
    order = []
    for _ in range(3):
        claim = queue.claim(project, teammate)
        order.append(claim.comparison_id)
        judging.record(project, teammate, claim.token, TIE)
    assert order[:2] == [gate.pk, chosen.pk]


def test_gold_comes_at_the_projects_rate_once_per_annotator(project, teammate, owner, make_comparisons):
    random.seed(7)
    project.gold_rate = 0.3
    gold = make_comparisons(40, kind="gold")
    make_comparisons(80, needed=2)
    for user in (teammate, owner):
        kinds = []
        for _ in range(60):
            claim = queue.claim(project, user)
            kinds.append(claim.comparison.kind)
            judging.record(project, user, claim.token, TIE)
        assert 6 <= kinds.count("gold") <= 32  # 18 expected, deviation 3.5
    assert {comparison.needed for comparison in gold} == {1}
    assert max(Comparison.objects.filter(kind="gold").values_list("judged", flat=True)) == 2
    assert not broken_rules(project)


def test_gold_alone_is_not_work_left(project, teammate, make_comparisons):
    make_comparisons(3, kind="gold")
    assert queue.claim(project, teammate) is None
    assert empty_queue.explain(project, teammate).reason == empty_queue.Reason.DONE


def test_repeats_go_to_the_same_annotator_alone_and_later(project, teammate, owner, make_comparisons):
    random.seed(3)
    project.repeat_rate = 0.2
    project.save()
    make_comparisons(120)
    first_seen, distances, swapped = {}, [], []
    for turn in range(100):
        claim = queue.claim(project, teammate)
        original = claim.comparison.repeat_of_id
        if original:
            distances.append(turn - first_seen[original][0])
            swapped.append(claim.left_id != first_seen[original][1])
        else:
            first_seen[claim.comparison_id] = turn, claim.left_id
        judging.record(project, teammate, claim.token, TIE)
    assert len(distances) >= 5
    assert min(distances) >= APART
    assert len(set(swapped)) == 2
    assert len(Comparison.objects.filter(kind="repeat").values("repeat_of").distinct()) == len(distances)
    project.repeat_rate = 0.0
    while claim := queue.claim(project, owner):
        assert claim.comparison.kind == "standard"
        judging.record(project, owner, claim.token, TIE)


# --- Cost --------------------------------------------------------------------------------------------------------


def bulk_comparisons(project: Project, count: int) -> None:
    policy = project.current_policy
    prompt = Prompt(project=project)
    prompt.set_content("Many")
    prompt.save()
    base = Completion.objects.bulk_create(
        [Completion(prompt=prompt, policy=policy, text=f"text {number}") for number in range(count + 1)]
    )
    Comparison.objects.bulk_create(
        Comparison(project=project, prompt=prompt, first=one, second=other)
        for one, other in itertools.pairwise(base)
    )


def explain(step: str, project: Project, user: Any) -> str:
    values = {"project": project.pk, "annotator": user.pk, "start": 2**30}
    prefix = "EXPLAIN (COSTS OFF) " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        cursor.execute(prefix + step + " LIMIT 1", values)
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


@pytest.mark.parametrize(
    ("step", "index"),
    [
        (STANDARD.format(side=">="), "open_comparisons"),
        (STANDARD.format(side="<"), "open_comparisons"),
        (RAISED, "open_comparisons"),
        (RESERVED, "reserved_comparisons"),
        (GOLD.format(side=">="), "gold_comparisons"),
    ],
)
def test_choosing_walks_a_partial_index_without_sorting(step, index, project, teammate):
    bulk_comparisons(project, 3_000)
    plan = explain(step, project, teammate)
    assert index in plan
    assert not re.search(r"Seq Scan on annotate_comparison|SCAN c\b(?! USING)|Sort|TEMP B-TREE", plan), plan


def test_the_statement_names_no_text_column():
    for step in (STANDARD, RAISED, RESERVED, GOLD):
        assert not re.search(r"\btext\b|content|annotate_(completion|prompt)", step)


@pytest.mark.django_db(transaction=True)
def test_a_cycle_of_judge_and_next_takes_five_statements(project, teammate, make_comparisons):
    make_comparisons(5)
    claim = queue.claim(project, teammate)
    queue.claim_next(project, teammate)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        judging.judge_and_next(project, teammate, claim.token, left(claim))
    statements = [query["sql"] for query in queries if not re.match(r"BEGIN|COMMIT", query["sql"])]
    assert len(statements) == 5, statements


def test_two_tabs_of_one_person_agree(project, teammate, make_comparisons):
    """A second tab gets what the first one shows; each may send the verdict, and one judgment is stored."""
    make_comparisons(3)
    one, other = queue.claim(project, teammate), queue.claim(project, teammate)
    judging.record(project, teammate, one.token, left(one))
    judging.record(project, teammate, other.token, left(other))
    assert Judgment.objects.count() == 1
