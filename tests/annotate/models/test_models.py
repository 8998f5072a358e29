"""Rules that the database enforces by itself, against every writer."""

from typing import Any

import pytest
from django.db import connection
from django.db.models import RestrictedError
from django.utils import timezone

from annotate.models import (
    Claim,
    Comparison,
    Completion,
    Flag,
    Judgment,
    Policy,
    Project,
    Prompt,
    Snapshot,
    SnapshotPair,
    is_held_out,
    prompt_digest,
)
from annotate.pairs import snapshots
from annotate.queueing import queue
from tests.annotate.invariants import broken_rules
from tests.annotate.models.refusals import refuses


@pytest.fixture
def snapshot(project: Project, owner: Any, judged: Judgment) -> Snapshot:
    return snapshots.take_snapshot(project, owner)


# --- What never changes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"text": "Another."}, {"token_ids": [1]}, {"finish_reason": "stop"}, {"seed": 3}]
)
def test_a_completion_never_changes(judged, change):
    completions = Completion.objects.filter(pk=judged.preferred_id)
    before = completions.values().get()
    assert refuses(lambda: completions.update(**change))
    assert completions.values().get() == before


@pytest.mark.parametrize("change", [{"digest": "0" * 64}, {"settings": {}}, {"counts": {}}])
def test_a_snapshot_never_changes(snapshot, change):
    assert refuses(lambda: Snapshot.objects.update(**change))


@pytest.mark.parametrize("change", [{"label": 0.6}, {"margin": 1.0}, {"weight": 2.0}, {"held_out": True}])
def test_a_pair_of_a_snapshot_never_changes(snapshot, change):
    assert snapshot.pairs.exists()
    assert refuses(lambda: SnapshotPair.objects.update(**change))


def test_the_judgments_behind_a_pair_never_change(snapshot, judged):
    through = SnapshotPair.judgments.through
    assert through.objects.filter(judgment_id=judged.pk).exists()
    assert refuses(lambda: through.objects.update(judgment_id=judged.pk))


def test_a_snapshot_outlives_the_account_that_took_it(snapshot, owner):
    owner.delete()
    snapshot.refresh_from_db()
    assert snapshot.created_by is None


def test_what_a_snapshot_rests_on_cannot_be_deleted(snapshot, judged):
    for row in (judged.comparison, judged.preferred):
        with pytest.raises(Exception, match=r"(?i)restrict|protect"):
            row.delete()


# --- Counters ----------------------------------------------------------------------------------------------------


def test_counters_follow_claims_whoever_writes_them(project, teammate, owner, make_comparisons):
    (comparison,) = make_comparisons(1, needed=3)

    def counters() -> tuple[int, int, int]:
        comparison.refresh_from_db()
        return comparison.claimed, comparison.judged, comparison.skipped

    def claim(user: Any, state: str) -> Claim:
        return Claim.objects.create(
            project=project,
            comparison=comparison,
            annotator=user,
            left=comparison.first,
            right=comparison.second,
            state=state,
            expires_at=timezone.now(),
        )

    one, other = claim(teammate, "live"), claim(owner, "judged")
    assert counters() == (1, 1, 0)
    for state, expected in (
        ("next", (1, 1, 0)),
        ("skipped", (0, 1, 1)),
        ("expired", (0, 1, 0)),
        ("judged", (0, 2, 0)),
        ("live", (1, 1, 0)),
    ):
        Claim.objects.filter(pk=one.pk).update(state=state)
        assert counters() == expected
    Claim.objects.all().delete()
    assert counters() == (0, 0, 0)
    assert other.pk


@pytest.mark.parametrize(
    ("fields", "is_open"),
    [
        ({}, True),
        ({"kind": "gate"}, True),
        ({"withdrawn_at": timezone.now()}, False),
        ({"judged": 1}, False),
        ({"claimed": 1}, False),
        ({"needed": 2, "judged": 1}, True),
        ({"skipped": 2}, True),
        ({"skipped": 3}, False),
        ({"judged": 2}, False),  # a late one came on top
    ],
)
def test_a_comparison_is_open_while_one_more_person_may_have_it(make_comparisons, fields, is_open):
    (comparison,) = make_comparisons(1)
    Comparison.objects.update(**fields)
    comparison.refresh_from_db()
    assert comparison.open is is_open


def test_gold_is_never_open_to_the_ordinary_queue(make_comparisons):
    (comparison,) = make_comparisons(1, kind="gold")
    comparison.refresh_from_db()
    assert not comparison.open


# --- What is refused ---------------------------------------------------------------------------------------------


def test_a_comparison_has_two_completions_of_its_own_prompt(project, make_comparisons):
    one, other = make_comparisons(2)
    common = {"project": project, "prompt": one.prompt}
    assert refuses(lambda: Comparison.objects.create(**common, first=one.first, second=other.second))
    assert refuses(lambda: Comparison.objects.create(**common, first=one.first, second=one.first))
    stranger = Project.objects.create(slug="stranger", name="Stranger")
    third = Completion.objects.create(prompt=one.prompt, policy=project.current_policy, text="Third.")
    fields = {"prompt": one.prompt, "first": one.first, "second": third}
    assert refuses(lambda: Comparison.objects.create(project=stranger, **fields))
    Comparison.objects.create(project=project, **fields)


def test_two_completions_are_compared_once_in_either_order(project, make_comparisons):
    (one,) = make_comparisons(1)
    again = {"project": project, "prompt": one.prompt, "first": one.second, "second": one.first}
    assert refuses(lambda: Comparison.objects.create(**again))


def test_gold_names_its_completion_and_a_repeat_its_original(project, teammate, make_comparisons):
    one, other = make_comparisons(2)
    assert refuses(lambda: Comparison.objects.filter(pk=one.pk).update(kind="gold"))
    assert refuses(
        lambda: Comparison.objects.filter(pk=one.pk).update(kind="gold", gold_preferred=other.first)
    )
    assert refuses(lambda: Comparison.objects.filter(pk=one.pk).update(kind="repeat"))
    assert refuses(lambda: Comparison.objects.filter(pk=one.pk).update(reserved_for=teammate))


def test_an_annotator_has_one_live_claim_and_one_next(project, teammate, make_comparisons):
    one, other, third = make_comparisons(3, needed=5)

    def claim(comparison: Comparison, state: str) -> Claim:
        return Claim.objects.create(
            project=project,
            comparison=comparison,
            annotator=teammate,
            left=comparison.first,
            right=comparison.second,
            state=state,
            expires_at=timezone.now(),
        )

    claim(one, "live")
    assert refuses(lambda: claim(one, "judged"))
    assert refuses(lambda: claim(other, "live"))
    claim(other, "next")
    assert refuses(lambda: claim(third, "next"))


@pytest.mark.parametrize(
    "change",
    [
        {"preferred": None},
        {"strength": None},
        {"strength": 4},
        {"verdict": "tie"},
        {"verdict": "skip", "preferred": None},
    ],
)
def test_only_a_preference_names_a_completion_and_a_strength(judged, change):
    assert refuses(lambda: Judgment.objects.filter(pk=judged.pk).update(**change))


def test_a_preference_is_for_a_completion_that_was_shown(project, judged):
    stranger = Comparison.objects.exclude(pk=judged.comparison_id).get().first
    assert refuses(lambda: Judgment.objects.filter(pk=judged.pk).update(preferred=stranger))


def test_one_person_has_one_current_judgment_of_a_comparison(judged):
    def second() -> None:
        judged.pk, judged.token = None, "01234567-89ab-4cde-8f01-23456789abcd"
        judged.save(force_insert=True)

    assert refuses(second)


def test_one_open_flag_per_person(judged, teammate):
    Flag.objects.create(comparison=judged.comparison, annotator=teammate)
    assert refuses(lambda: Flag.objects.create(comparison=judged.comparison, annotator=teammate))


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "adapter", "base_model": "starter"},
        {"kind": "base", "base_model": ""},
        {"kind": "base", "base_model": "starter", "name": "starter"},
    ],
)
def test_a_policy_has_its_own_name_and_says_its_parts(project, fields):
    assert refuses(lambda: Policy.objects.create(**{"project": project, "name": "new", **fields}))


def test_labels_are_probabilities_and_pairs_have_two_sides(snapshot):
    values = snapshot.pairs.values("snapshot_id", "comparison_id", "chosen_id", "rejected_id").get()
    snapshot.pairs.all().delete()
    for change in ({"label": 1.2}, {"label": -0.1}, {"weight": 0.0}, {"rejected_id": values["chosen_id"]}):
        assert refuses(lambda change=change: SnapshotPair.objects.create(**{**values, **change}))


# --- Prompts and projects ----------------------------------------------------------------------------------------


def test_a_prompt_is_told_apart_by_its_content_alone(project):
    chat = [{"role": "user", "content": "Hello"}]
    assert prompt_digest(chat) == prompt_digest([{"content": "Hello", "role": "user"}])
    assert prompt_digest("Hello") != prompt_digest(chat)
    for content, fine in (("Hello", True), (chat, True), ("Hello", False)):
        prompt = Prompt(project=project, external_id="elsewhere")
        prompt.set_content(content)
        assert refuses(prompt.save) is not fine


def test_the_same_prompts_are_held_out_on_every_request():
    digests = [prompt_digest(f"Prompt {number}") for number in range(2_000)]
    held_out = [digest for digest in digests if is_held_out(digest, 0.1)]
    assert 150 < len(held_out) < 250  # 200 expected, deviation 13
    assert set(held_out) <= {digest for digest in digests if is_held_out(digest, 0.2)}
    assert not any(is_held_out(digest, 0.0) for digest in digests)


def test_deleting_a_whole_project_leaves_no_row_of_it(project, snapshot):
    project.delete()
    for model in (Prompt, Policy, Completion, Comparison, Claim, Judgment, Snapshot, SnapshotPair):
        assert not model.objects.exists()


def test_an_account_that_judged_cannot_be_deleted(teammate, judged):
    with pytest.raises(RestrictedError):
        teammate.delete()


def test_deleting_an_account_gives_its_claims_back(project, make_member, make_comparisons):
    (comparison,) = make_comparisons(1)
    leaver = make_member("leaver", "annotator")
    queue.claim(project, leaver)
    leaver.delete()
    comparison.refresh_from_db()
    assert comparison.claimed == 0
    assert broken_rules(project) == []


def test_a_new_comparison_counts_the_claims_that_it_has(judged):
    old = Comparison.objects.get(pk=judged.comparison_id)
    first, second = (
        Completion.objects.create(prompt=old.prompt, policy=old.first.policy, text=text) for text in "ab"
    )
    parts = {"project": old.project, "prompt": old.prompt, "first": first, "second": second}
    assert refuses(lambda: Comparison.objects.create(**parts, judged=1))
    assert not refuses(lambda: Comparison.objects.create(**parts))


@pytest.mark.parametrize(
    "change",
    [
        {"arm": "probe"},
        {"propensity": 0.5},
        {"arm": "probe", "propensity": 0.0},
        {"arm": "control", "propensity": 1.1},
        {"arm": "favourite", "propensity": 0.5},
        {"arm": "probe", "propensity": 0.5, "kind": "gate"},
    ],
)
def test_a_choice_states_its_arm_and_its_chance(judged: Judgment, change: dict[str, Any]) -> None:
    comparisons = Comparison.objects.filter(pk=judged.comparison_id)
    assert refuses(lambda: comparisons.update(**change))
    assert comparisons.update(arm="probe", propensity=0.75) == 1


@pytest.mark.django_db
def test_every_trigger_is_in_place_after_all_migrations():
    """A later migration that rebuilds a table on SQLite would lose them without a word."""
    name = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    if connection.vendor == "postgresql":
        name = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    with connection.cursor() as cursor:
        cursor.execute(name)
        found = {row[0] for row in cursor.fetchall()}
    immutable = {"keep_annotate_completion", "keep_annotate_snapshot", "keep_annotate_snapshotpair"}
    counting = {
        "count_new_claims",
        "count_lost_claims",
        "count_changed_claims",
        "comparisons_count_their_claims",
    }
    if connection.vendor == "postgresql":
        counting = {"count_claims"}
    assert found >= immutable | counting | {
        "keep_annotate_snapshotpair_judgments",
        "comparisons_fit_together",
        "show_comparison",
        "show_annotate_claim",
        "show_annotate_judgment",
        "keep_annotate_prompt",
        "keep_annotate_comparison",
        "keep_annotate_claim",
        "keep_annotate_judgment",
        "keep_trail_on_update",
        "keep_trail_on_delete",
    }
