"""The state machine: the table of moves, one winner of each, and what an admin may do."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from annotate.models import Policy, Project, Snapshot
from training.models import Round, RoundEvent
from training.rounds import state_machine, sweeping
from training.rounds.starts import RoundError
from training.rounds.state_machine import MOVES, State

pytestmark = pytest.mark.django_db


def states(round_: Round) -> list[str]:
    return [event.to_state for event in round_.events.all()]


# --- Starting ----------------------------------------------------------------------------------------------------


def test_starting_freezes_a_snapshot_and_queues_the_round(
    ready_project: Project, owner: Any, tiny: Any
) -> None:
    round_ = state_machine.start(ready_project, owner, tiny)
    assert (round_.number, round_.state, round_.start_policy) == (1, "queued", ready_project.current_policy)
    assert round_.snapshot is not None
    assert round_.snapshot.pairs.filter(held_out=False).count() == 12
    assert round_.snapshot.pairs.filter(held_out=True).count() == 4
    assert states(round_) == ["queued"]
    assert round_.settings["config"]["learning_rate"] == 1e-3
    assert round_.settings["config"]["sampling"]["max_new_tokens"] == 12
    assert round_.created_by == owner


@pytest.mark.once
def test_a_round_keeps_the_alias_of_the_starter_not_a_path(ready_project: Project, owner: Any) -> None:
    round_ = state_machine.start(ready_project, owner)
    assert round_.settings["config"]["base_model"] == "starter"
    assert str(settings.BASE_DIR) not in str(round_.settings)


@pytest.mark.once
def test_project_settings_override_the_engine_and_choices_both(ready_project: Project, owner: Any) -> None:
    ready_project.training_settings = {"beta": 0.5, "epochs": 3, "lora": {"r": 4}}
    ready_project.sampling_settings = {"temperature": 0.7, "gate_comparisons": 7}
    ready_project.save()
    chosen = {"training": {"epochs": 2, "lora": {"alpha": 8.0}}}
    settings_ = state_machine.start(ready_project, owner, chosen).settings
    config = settings_["config"]
    assert (config["beta"], config["epochs"], config["batch_size"]) == (0.5, 2, 8)  # 8 is recommended
    assert (config["lora"]["r"], config["lora"]["alpha"]) == (4, 8.0)
    assert (config["sampling"]["temperature"], settings_["gate_comparisons"]) == (0.7, 7)


def test_rounds_train_from_the_base_policy(
    make_round: Any, ready_project: Project, owner: Any, tiny: Any
) -> None:
    """However many were promoted; each gate compares with the current policy. Another start may be named."""
    first = make_round("promoted")
    base, current = first.start_policy, first.result_policy
    (first.run_dir / "adapter").mkdir(parents=True)
    second = state_machine.start(ready_project, owner, tiny)
    assert (second.start_policy, second.against, second.opponent) == (base, current, current)
    assert second.settings["config"]["start_adapter"] is None
    assert second.settings["config"]["reference"] == "start"
    assert second.settings["pairs"]["margin_scale"] == 0
    assert second.snapshot is not None
    assert second.snapshot.pairs.filter(held_out=False).count() == 12
    state_machine.cancel(second, owner)
    third = state_machine.start(ready_project, owner, tiny, begin=current)
    assert (third.start_policy, third.against, third.opponent) == (current, None, current)
    assert third.settings["config"]["start_adapter"] == current.adapter
    state_machine.cancel(third, owner)
    elsewhere = Project.objects.create(slug="elsewhere", name="Elsewhere")
    foreign = Policy.objects.create(project=elsewhere, name="foreign", kind="base", base_model="starter")
    with pytest.raises(RoundError, match="Choose a policy of this project to start from") as refused:
        state_machine.start(ready_project, owner, tiny, begin=foreign)
    assert refused.value.field == "start_from"


def test_too_few_pairs_are_refused_and_change_nothing(
    project: Project, owner: Any, teammate: Any, make_comparisons: Any, judge: Any
) -> None:
    make_comparisons(3)
    judge(project, teammate)
    with pytest.raises(RoundError, match="there are 3 to train on, and a round needs 8") as refused:
        state_machine.start(project, owner)
    assert refused.value.field == "pairs"
    assert not Round.objects.exists()
    assert not Snapshot.objects.exists()
    assert not RoundEvent.objects.exists()


def test_a_second_start_while_one_is_under_way_is_refused(
    make_round: Any, ready_project: Project, owner: Any
) -> None:
    make_round("training")
    with pytest.raises(RoundError, match="Round 1 is training; wait for it to end or cancel it first"):
        state_machine.start(ready_project, owner)
    assert Round.objects.count() == 1


def test_a_ready_round_is_decided_before_the_next_one(
    make_round: Any, ready_project: Project, owner: Any
) -> None:
    make_round("ready")
    with pytest.raises(RoundError, match="Round 1 waits for your decision"):
        state_machine.start(ready_project, owner)


def test_the_database_itself_refuses_two_open_rounds(make_round: Any, ready_project: Project) -> None:
    first = make_round("queued")
    with pytest.raises(IntegrityError), transaction.atomic():
        Round.objects.create(
            project=ready_project, number=2, start_policy=first.start_policy, folder="runs/another"
        )


def test_numbers_count_up_and_a_cancelled_round_makes_room(
    make_round: Any, ready_project: Project, owner: Any
) -> None:
    make_round("cancelled")
    assert state_machine.start(ready_project, owner).number == 2


@pytest.mark.once
@pytest.mark.parametrize(
    ("chosen", "field", "message"),
    [
        ({"training": {"beta": 0}}, "beta", "beta must be greater than 0"),
        ({"training": {"beat": 1}}, "beat", "Unknown setting beat. Did you mean beta?"),
        ({"training": {"lora": {"r": 0}}}, "lora.r", "lora.r must be at least 1"),
        ({"training": {"max_length": 100_000}}, "max_length", "the base model takes at most"),
        ({"sampling": {"max_new_tokens": 100_000}}, "sampling.max_new_tokens", "leave no room for a prompt"),
        ({"gate_comparisons": -1}, "gate_comparisons", "must be a whole number"),
        ({"gate": 1}, "gate", "Unknown setting gate"),
        ({"pairs": {"smoothing": -1}}, "pairs.smoothing", r"pairs\.smoothing must be from 0 to 100"),
        ({"pairs": {"smooth": 1}}, "pairs.smooth", r"Unknown setting pairs\.smooth"),
    ],
)
def test_a_bad_setting_is_refused_by_name(
    ready_project: Project, owner: Any, chosen: Any, field: str, message: str
) -> None:
    with pytest.raises(RoundError, match=message) as refused:
        state_machine.start(ready_project, owner, chosen)
    assert refused.value.field == field
    assert not Round.objects.exists()


@pytest.mark.once
def test_a_base_model_that_does_not_exist_is_refused_by_name(ready_project: Project, owner: Any) -> None:
    Policy.objects.filter(pk=ready_project.current_policy_id).update(base_model="/nowhere/model")
    ready_project.refresh_from_db()
    with pytest.raises(RoundError, match="The base model “/nowhere/model” does not exist, or") as refused:
        state_machine.start(ready_project, owner)
    assert refused.value.field == "base_model"


@pytest.mark.once
def test_a_project_without_a_policy_says_what_to_do(ready_project: Project, owner: Any) -> None:
    Project.objects.update(current_policy=None)
    with pytest.raises(RoundError, match="no current policy; choose a base model in its settings"):
        state_machine.start(ready_project, owner)


@pytest.mark.once
def test_an_external_policy_cannot_be_trained(ready_project: Project, owner: Any) -> None:
    ready_project.current_policy = Policy.objects.create(
        project=ready_project, name="human", kind=Policy.Kind.EXTERNAL
    )
    ready_project.save()
    with pytest.raises(RoundError, match="Policy human is external"):
        state_machine.start(ready_project, owner)


# --- Moves -------------------------------------------------------------------------------------------------------


@pytest.mark.once
def test_the_table_of_moves_allows_what_the_design_allows() -> None:
    live = {State.QUEUED, State.TRAINING, State.SAMPLING}
    allowed = {(old, new) for old, news in MOVES.items() for new in news}
    forward = {("queued", "training"), ("training", "sampling"), ("sampling", "ready")}
    decided = {("ready", "promoted"), ("ready", "rejected")}
    ended = {(state, end) for state in live for end in ("failed", "cancelled")}
    again = {("failed", "queued"), ("training", "queued"), ("sampling", "queued")}
    only_writes = {("queued", "sampling"), ("sampling", "written")}
    assert allowed == forward | decided | ended | again | only_writes


@pytest.mark.once
@pytest.mark.parametrize("to", ["ready", "promoted", "written"])
def test_a_move_that_the_table_lacks_is_an_error(make_round: Any, to: str) -> None:
    round_ = make_round("queued")
    with pytest.raises(ValueError, match=f"cannot go from queued to {to}"):
        state_machine.move(round_, State(to))
    assert Round.objects.get().state == "queued"


def test_a_move_from_an_old_state_changes_nothing(make_round: Any) -> None:
    stale = make_round("queued")
    state_machine.cancel(Round.objects.get())
    before = states(stale)
    assert not state_machine.move(stale, State.TRAINING)
    assert Round.objects.get().state == "cancelled"
    assert states(stale) == before


def test_of_two_claims_one_wins(make_round: Any) -> None:
    round_ = make_round("queued")
    first, second = state_machine.claim_round(round_.pk, "a"), state_machine.claim_round(round_.pk, "b")
    assert first is not None
    assert (first.worker, first.attempts, second) == ("a", 1, None)


def test_a_worker_that_lost_its_round_can_no_longer_write_to_it(make_round: Any) -> None:
    """The fence: attempt 1 was taken back and attempt 2 works; what attempt 1 still tries has no effect."""
    old = make_round("training")
    Round.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=settings.SILENT_SECONDS + 1))
    sweeping.sweep_rounds()
    new = state_machine.claim_round(old.pk, "its successor")
    assert new is not None
    assert not state_machine.heartbeat(old, step=99)
    assert not state_machine.advance(old, State.SAMPLING)
    assert not state_machine.fail(old, "too late")
    new.refresh_from_db()
    assert (new.state, new.worker, new.step, new.reason) == ("training", "its successor", 0, "")


@pytest.mark.parametrize("state", ["queued", "training", "sampling"])
def test_cancel_works_from_every_live_state(make_round: Any, owner: Any, state: str) -> None:
    round_ = make_round(state)
    assert state_machine.cancel(round_, owner)
    event = round_.events.last()
    assert (round_.state, event.from_state, event.by) == ("cancelled", state, owner)
    assert round_.finished_at is not None


@pytest.mark.once
@pytest.mark.parametrize("state", ["ready", "promoted", "rejected", "failed", "cancelled"])
def test_cancel_leaves_what_is_over_alone(make_round: Any, state: str) -> None:
    round_ = make_round(state)
    assert not state_machine.cancel(round_)
    assert Round.objects.get(pk=round_.pk).state == state


def test_cancelling_a_round_that_moved_on_still_cancels_it(make_round: Any) -> None:
    stale = make_round("queued")
    state_machine.claim_round(stale.pk, "a worker")
    assert state_machine.cancel(stale)
    assert states(stale)[-2:] == ["training", "cancelled"]


def test_resume_queues_a_failed_round_and_keeps_its_attempts(make_round: Any, owner: Any) -> None:
    round_ = make_round("failed")
    state_machine.resume(round_, owner)
    assert (round_.state, round_.attempts, round_.reason, round_.finished_at) == ("queued", 1, "", None)


@pytest.mark.once
def test_resume_refuses_a_round_that_has_not_failed(make_round: Any) -> None:
    with pytest.raises(RoundError, match="Round 1 has not failed"):
        state_machine.resume(make_round("cancelled"))


def test_resume_refuses_while_another_round_is_open(
    make_round: Any, ready_project: Project, owner: Any
) -> None:
    failed = make_round("failed")
    state_machine.start(ready_project, owner)
    with pytest.raises(RoundError, match="Round 2 is queued"):
        state_machine.resume(failed, owner)
    assert Round.objects.get(pk=failed.pk).state == "failed"


# --- The sweep ---------------------------------------------------------------------------------------------------


def silence(round_: Round) -> None:
    Round.objects.filter(pk=round_.pk).update(
        heartbeat_at=timezone.now() - timedelta(seconds=settings.SILENT_SECONDS + 1)
    )


@pytest.mark.parametrize("state", ["training", "sampling"])
def test_a_round_of_a_silent_worker_is_queued_again_and_sent(make_round: Any, state: str) -> None:
    round_ = make_round(state)
    silence(round_)
    sweeping.sweep_rounds()
    round_.refresh_from_db()
    assert (round_.state, round_.losses) == ("queued", 1)
    assert round_.enqueued_at is not None


def test_a_round_that_its_worker_hands_back_is_sent_at_once(
    make_round: Any, django_capture_on_commit_callbacks: Any
) -> None:
    round_ = make_round("training")
    with django_capture_on_commit_callbacks(execute=True):
        assert state_machine.hand_back(round_)
    round_.refresh_from_db()
    assert (round_.state, round_.losses) == ("queued", 0)
    assert round_.enqueued_at is not None


def test_a_round_whose_worker_is_alive_is_left_alone(make_round: Any) -> None:
    round_ = make_round("training")
    sweeping.sweep_rounds()
    assert Round.objects.get(pk=round_.pk).state == "training"


def test_sweeping_twice_is_sweeping_once(make_round: Any) -> None:
    round_ = make_round("training")
    silence(round_)
    sweeping.sweep_rounds()
    first = Round.objects.values().get(pk=round_.pk)
    sweeping.sweep_rounds()
    assert Round.objects.values().get(pk=round_.pk) == first


def test_a_queued_round_whose_message_was_lost_is_sent_again(make_round: Any) -> None:
    round_ = make_round("queued")
    long_ago = timezone.now() - timedelta(seconds=settings.SILENT_SECONDS + 1)
    Round.objects.update(enqueued_at=long_ago)
    sweeping.sweep_rounds()
    round_.refresh_from_db()
    assert round_.enqueued_at > long_ago


def test_a_round_that_silences_one_worker_after_another_fails(make_round: Any) -> None:
    round_ = make_round("queued")
    for attempt in range(sweeping.MAX_LOSSES):
        assert state_machine.claim_round(round_.pk, f"worker {attempt}") is not None
        silence(round_)
        sweeping.sweep_rounds()
    round_.refresh_from_db()
    assert round_.state == "failed"
    assert "went silent 3 times in a row" in round_.reason


def test_a_resumed_round_may_silence_as_many_workers_again(make_round: Any) -> None:
    round_ = make_round("failed")
    Round.objects.filter(pk=round_.pk).update(losses=sweeping.MAX_LOSSES)
    round_.refresh_from_db()
    state_machine.resume(round_)
    assert state_machine.claim_round(round_.pk, "a worker") is not None
    silence(round_)
    sweeping.sweep_rounds()
    round_.refresh_from_db()
    assert (round_.state, round_.losses) == ("queued", 1)
