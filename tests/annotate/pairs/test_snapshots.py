"""Judgments -> preference pairs: label, margin, weight, what is left out and why, and snapshots."""

import hashlib
import json
import math
from typing import Any

import pytest
from django.utils import timezone

from annotate.judgments import judging, revising, undoing
from annotate.judgments.verdicts import Verdict
from annotate.models import Comparison, Completion, Moment, Project, Prompt, Snapshot
from annotate.pairs import texts
from annotate.pairs.aggregation import Pair, aggregate
from annotate.pairs.pair_rows import pair_rows
from annotate.pairs.settings import EXCLUSIONS, PairSettings
from annotate.pairs.snapshots import take_snapshot, training_rows
from annotate.reports.reliability import weights_of_votes
from tests.factories import compare, say


def only_pair(project: Project, settings: PairSettings | None = None) -> Pair:
    (pair,) = aggregate(project, settings).pairs
    return pair


# --- One comparison ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", ["first", "second"])
@pytest.mark.parametrize("what", ["first", "second"])
def test_one_verdict_is_a_sure_pair_whatever_side_it_was_on(project, three, make_comparisons, what, left):
    (comparison,) = make_comparisons(1)
    judgment = say(three[0], comparison, what, 3, left=left)
    pair = only_pair(project)
    assert pair.chosen == getattr(comparison, what).pk
    assert {pair.chosen, pair.rejected} == {comparison.first_id, comparison.second_id}
    assert (pair.label, pair.margin, pair.weight, pair.judgments) == (1.0, 3.0, 1.0, (judgment.pk,))


@pytest.mark.parametrize(
    ("said", "settings", "label", "margin"),
    [
        # Two against one: 2/3; margin (3 + 1 - 2) / 3.
        ([("first", 3), ("first", 1), ("second", 2)], {}, 2 / 3, 2 / 3),
        # A tie is half a vote for each: 2.5 of 3; margin (2 + 2 + 0) / 3.
        ([("first", 2), ("first", 2), ("tie", None)], {}, 2.5 / 3, 4 / 3),
        # Smoothing adds votes to each side: (1 + 0.5) / (1 + 1).
        ([("second", 1)], {"smoothing": 0.5}, 0.75, 1.0),
        # Two faint votes outvote a strong one; the strengths together point the other way: no margin.
        ([("first", 1), ("first", 1), ("second", 3)], {}, 2 / 3, 0.0),
        # A skip is not a vote; both bad, in the minority, neither.
        ([("first", 2), ("skip", None), ("first", 2)], {}, 1.0, 2.0),
        ([("first", 2), ("both_bad", None), ("first", 1)], {}, 1.0, 1.5),
        ([("tie", None)], {"ties": "half"}, 0.5, 0.0),
    ],
)
def test_label_and_margin(project, three, make_comparisons, said, settings, label, margin):
    (comparison,) = make_comparisons(1, needed=3)
    for person, (what, strength) in zip(three, said, strict=False):
        say(person, comparison, what, strength)
    pair = only_pair(project, PairSettings(**settings))
    assert (pair.label, pair.margin) == pytest.approx((label, margin))


def test_reliability_makes_labels_probabilities_of_being_right(project, three, make_comparisons):
    # 12 of 12 gold right: (8 * 0.5 + 12) / (8 + 12) = 0.8 above chance, so right with probability 0.9.
    for gold in make_comparisons(12, kind="gold"):
        say(three[0], gold, "first")
    (comparison,) = make_comparisons(1, needed=2)
    say(three[0], comparison, "second")
    settings = PairSettings(votes="reliability")
    assert only_pair(project, settings).label == pytest.approx(0.9)
    # Against an unknown annotator, the odds are divided (naive Bayes); that they differ lowers both a little.
    say(three[1], comparison, "first")
    anna, bela = ((weights_of_votes(project, enough=0) or {})[person.pk] for person in three[:2])
    pair = only_pair(project, settings)
    assert pair.chosen == comparison.second_id
    odds = anna / (1 - anna) / (bela / (1 - bela))
    assert pair.label == pytest.approx(odds / (1 + odds))


def test_one_unknown_annotator_is_believed_as_the_prior_says(project, three, make_comparisons):
    (comparison,) = make_comparisons(1)
    say(three[0], comparison, "first")
    assert only_pair(project, PairSettings(votes="reliability")).label == pytest.approx(0.75)


def test_weights_may_count_judgments(project, three, make_comparisons):
    (comparison,) = make_comparisons(1, needed=3)
    for person in three:
        say(person, comparison, "first")
    assert only_pair(project, PairSettings(weights="judgments")).weight == 3.0


# --- What is left out --------------------------------------------------------------------------------------------


def make_everything(project: Project, people: list[Any], make_comparisons: Any) -> None:
    """One comparison for each way to become no pair, and two pairs, one of them held out."""
    anna, bela, _cleo = people
    good, skipped, bad, tie, even, equal, withdrawn, held_out = make_comparisons(8, needed=2)
    say(anna, good, "first")
    say(anna, skipped, "skip")
    say(anna, bad, "both_bad")
    say(anna, tie, "tie")
    say(anna, even, "first")
    say(bela, even, "second")
    Comparison.objects.filter(pk=equal.pk).delete()
    same = [
        Completion.objects.create(prompt=equal.prompt, policy=project.current_policy, text="The same.")
        for _ in "ab"
    ]
    equal = Comparison.objects.create(project=project, prompt=equal.prompt, first=same[0], second=same[1])
    say(anna, equal, "first")
    say(anna, withdrawn, "first")
    withdrawn.withdraw()
    say(anna, held_out, "second")
    Prompt.objects.filter(pk=held_out.prompt_id).update(held_out=True)
    (gold,) = make_comparisons(1, kind="gold")
    say(anna, gold, "first")
    repeat = Comparison.objects.create(
        project=project,
        prompt=good.prompt,
        first=good.first,
        second=good.second,
        kind="repeat",
        repeat_of=good,
        reserved_for=anna,
    )
    say(anna, repeat, "second")


def test_each_judged_comparison_is_a_pair_or_counted_by_reason(project, three, make_comparisons):
    make_everything(project, three, make_comparisons)
    counts = aggregate(project).counts
    assert counts == {
        "judgments": 11,
        "comparisons": 10,
        "pairs": 2,
        "train": 1,
        "held_out": 1,
        "excluded": {
            "both_bad": 1,
            "equal": 1,
            "gold": 1,
            "repeat": 1,
            "skipped": 1,
            "tie": 2,
            "withdrawn": 1,
        },
    }
    assert counts["comparisons"] == counts["pairs"] + sum(counts["excluded"].values())
    assert set(counts["excluded"]) <= set(EXCLUSIONS)


def test_settings_bring_back_what_they_name(project, three, make_comparisons):
    make_everything(project, three, make_comparisons)
    counts = aggregate(project, PairSettings(ties="half", include_gold=True)).counts
    assert counts["pairs"] == 5
    assert set(counts["excluded"]) == {"both_bad", "equal", "repeat", "skipped", "withdrawn"}
    assert aggregate(project, PairSettings(min_judgments=2)).counts["excluded"]["too_few"] == 4


def test_verdicts_that_came_too_fast_may_be_left_out(project, three, make_comparisons):
    (comparison,) = make_comparisons(1)
    say(three[0], comparison, "first", seconds=0.1)
    assert aggregate(project).counts["pairs"] == 1
    found = aggregate(project, PairSettings(include_too_fast=False))
    assert found.counts["excluded"] == {"too_fast": 1}


def test_a_rating_names_the_judgments_that_found_it_bad(project, three, make_comparisons):
    (comparison,) = make_comparisons(1, needed=3)
    said = [
        say(person, comparison, what)
        for person, what in zip(three, ("both_bad", "first", "both_bad"), strict=True)
    ]
    ratings = aggregate(project, PairSettings(both_bad="ratings", weights="judgments")).ratings
    assert {rating.judgments for rating in ratings} == {(said[0].pk, said[2].pk)}
    assert {rating.weight for rating in ratings} == {2.0}


def test_superseded_judgments_never_count(project, three, make_comparisons):
    (comparison,) = make_comparisons(1)
    judgment = say(three[0], comparison, "first")
    revising.revise(project, three[0], judgment.pk, judging.Verdict("prefer", comparison.second_id, 1))
    assert only_pair(project).chosen == comparison.second_id
    undoing.undo(project, three[0])
    assert aggregate(project).counts["judgments"] == 0


def test_pairs_of_a_moment_know_nothing_that_came_later(project, three, make_comparisons):
    (kept,) = make_comparisons(1)
    first = say(three[0], kept, "first")
    moment = timezone.now()
    revising.revise(project, three[0], first.pk, Verdict("prefer", kept.second_id, 2))
    Comparison.objects.filter(pk=kept.pk).update(withdrawn_at=timezone.now())
    assert aggregate(project).counts["excluded"] == {"withdrawn": 1}
    [pair] = aggregate(project, at=Moment(moment)).pairs
    assert (pair.chosen, pair.judgments) == (kept.first_id, (first.pk,))


def test_pairs_of_chosen_policies_alone(project, three, make_comparisons):
    """Both completions are by one of them, whichever side they are on."""
    other, ours = project.policies.create(name="other", kind="external"), project.current_policy
    (theirs,) = make_comparisons(1, policy=other)
    mixed = [
        compare(project, f"Mixed {number}", "one", "two", policies=policies)
        for number, policies in enumerate([(other, ours), (ours, other)])
    ]
    for comparison in (theirs, *make_comparisons(1), *mixed):
        say(three[0], comparison, "first")
    found = aggregate(project, PairSettings(policies=[other.pk]))
    assert [pair.comparison for pair in found.pairs] == [theirs.pk]


@pytest.mark.parametrize(
    "wrong",
    [
        {"ties": "keep"},
        {"votes": "all"},
        {"weights": 2},
        {"smoothing": -1},
        {"smoothing": math.nan},
        {"min_judgments": 0},
    ],
)
def test_a_setting_without_meaning_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PairSettings(**wrong)


# --- Snapshots ---------------------------------------------------------------------------------------------------


def test_the_same_pairs_give_the_same_snapshot(project, owner, three, make_comparisons):
    make_everything(project, three, make_comparisons)
    snapshot = take_snapshot(project, owner)
    assert take_snapshot(project, None) == snapshot
    assert snapshot.counts == aggregate(project).counts
    assert snapshot.pairs.count() == 2


def test_a_new_verdict_gives_a_new_snapshot_beside_the_old_one(project, owner, three, make_comparisons):
    first, second = make_comparisons(2)
    judgment = say(three[0], first, "first")
    old = take_snapshot(project, owner)
    rows = list(training_rows(old))
    revising.revise(project, three[0], judgment.pk, judging.Verdict("prefer", first.second_id, 1))
    say(three[0], second, "first")
    new = take_snapshot(project, owner)
    assert new.digest != old.digest
    assert list(training_rows(old)) == rows
    assert Snapshot.objects.count() == 2


def test_the_digest_is_the_hash_of_the_canonical_lines(project, owner, three, make_comparisons):
    """As docs/formats.md describes it, so that a researcher can check a snapshot."""
    (comparison,) = make_comparisons(1)
    judgment = say(three[0], comparison, "second", 1)
    line = {
        "comparison": comparison.pk,
        "prompt": comparison.prompt.content,
        "chosen": comparison.second.text,
        "rejected": comparison.first.text,
        "label": 1.0,
        "margin": 1.0,
        "weight": 1.0,
        "held_out": False,
        "judgments": [judgment.pk],
    }
    text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    assert take_snapshot(project, owner).digest == hashlib.sha256(text.encode()).hexdigest()


def test_snapshots_and_their_judgments_lead_to_each_other(project, owner, three, make_comparisons):
    (comparison,) = make_comparisons(1, needed=2)
    judgments = {say(person, comparison, "first").pk for person in three[:2]}
    snapshot = take_snapshot(project, owner)
    pair = snapshot.pairs.get()
    assert set(pair.judgments.values_list("pk", flat=True)) == judgments
    assert three[0].judgments.get().snapshot_pairs.get().snapshot == snapshot


def test_many_pairs_are_stored_and_read_in_batches(project, owner, three, make_comparisons, monkeypatch):
    monkeypatch.setattr(texts, "AT_A_TIME", 3)
    for comparison in make_comparisons(8):
        say(three[0], comparison, "first")
    snapshot = take_snapshot(project, owner)
    assert [row["id"] for row in training_rows(snapshot)] == [
        str(pk) for pk in Comparison.objects.order_by("pk").values_list("pk", flat=True)
    ]


# --- The lines that training reads -------------------------------------------------------------------------------


def test_training_never_sees_held_out_prompts(project, owner, three, make_comparisons):
    make_everything(project, three, make_comparisons)
    snapshot = take_snapshot(project, owner)
    train, held_out = (list(training_rows(snapshot, held_out=flag)) for flag in (False, True))
    assert (len(train), len(held_out)) == (1, 1)
    assert {row["prompt"] for row in train}.isdisjoint(row["prompt"] for row in held_out)


def test_a_line_of_training_carries_the_sampled_tokens(project, owner, three):
    prompt = Prompt(project=project)
    prompt.set_content("Once")
    prompt.save()
    common = {"prompt": prompt, "policy": project.current_policy}
    first = Completion.objects.create(**common, text=" more", token_ids=[5, 2], finish_reason="stop")
    second = Completion.objects.create(**common, text=" again")
    comparison = Comparison.objects.create(project=project, prompt=prompt, first=first, second=second)
    say(three[0], comparison, "second", 1)
    (row,) = training_rows(take_snapshot(project, owner))
    assert row == {
        "id": str(comparison.pk),
        "prompt": "Once",
        "chosen": " again",
        "rejected": " more",
        "label": 1.0,
        "margin": 1.0,
        "weight": 1.0,
        "rejected_token_ids": [5, 2],
        "rejected_finish_reason": "stop",
    }


def test_shared_prompt_ids_are_trained_on_and_exported(project, owner, three):
    for name, ids in (("Once", ([7, 8], [7, 8])), ("Twice", ([7, 8], [7, 9])), ("Never", ([7, 8], None))):
        prompt = Prompt(project=project)
        prompt.set_content(name)
        prompt.save()
        common = {"prompt": prompt, "policy": project.current_policy}
        first, second = (
            Completion.objects.create(**common, text=f" {at}", token_ids=[5, at], prompt_token_ids=given)
            for at, given in enumerate(ids)
        )
        comparison = Comparison.objects.create(project=project, prompt=prompt, first=first, second=second)
        say(three[0], comparison, "first", 1)
    snapshot = take_snapshot(project, owner)
    expected = {"Once": [7, 8], "Twice": None, "Never": None}
    for rows in (training_rows(snapshot), pair_rows(project)):
        assert {row["prompt"]: row.get("prompt_token_ids") for row in rows} == expected
    for row in training_rows(snapshot, base_model="another"):
        assert not any(key.endswith("token_ids") for key in row)
    named = training_rows(snapshot, base_model=project.current_policy.base_model)
    assert {row["prompt"]: row.get("prompt_token_ids") for row in named} == expected


def test_a_chat_is_answered_by_an_assistants_message(project, owner, three):
    chat = [{"role": "user", "content": "Hello"}]
    prompt = Prompt(project=project)
    prompt.set_content(chat)
    prompt.save()
    first, second = (
        Completion.objects.create(prompt=prompt, policy=project.current_policy, text=text)
        for text in ("Hi", "Go")
    )
    say(
        three[0],
        Comparison.objects.create(project=project, prompt=prompt, first=first, second=second),
        "first",
    )
    (row,) = training_rows(take_snapshot(project, owner))
    assert (row["prompt"], row["chosen"]) == (chat, [{"role": "assistant", "content": "Hi"}])
