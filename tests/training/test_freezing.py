"""Rounds of large projects: started at once, on the pairs of that moment, which their worker freezes."""

from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotate.imports import uploads
from annotate.imports.expansion import Choices, expand
from annotate.imports.writing import write
from annotate.judgments import revising
from annotate.judgments.verdicts import Verdict
from annotate.models import Comparison, Import, Judgment, Project, Snapshot, SnapshotPair, User
from annotate.pairs import snapshots
from annotate.pairs.frozen import jobs
from annotate.pairs.settings import PairSettings
from annotate.pairs.snapshots import take_snapshot
from annotate.projects import sizes
from annotate.sources.candidates import Answer, Candidate, Opinion
from tests import factories
from tests.waiting import wait_for
from training.engine.rundir import RunDirectory, read_jsonl
from training.models import Round, Worker
from training.provenance.consequences import find_consequences, import_target, prompt_target
from training.provenance.forgetting import forget
from training.rounds import runner, state_machine, sweeping
from training.rounds.phases.freezing import freeze
from training.rounds.starts import RoundError

pytestmark = pytest.mark.django_db

PAGE, API = "/p/reviews/rounds/", "/api/v1/projects/reviews/rounds/"
TOLD = "It trains on what was judged until"


@pytest.fixture
def large(ready_project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Let a project with any judgment be a large one."""
    monkeypatch.setattr(sizes, "LARGE", 0)
    return ready_project


@pytest.fixture
def claim(large: Project, owner: User, tiny: Any) -> Any:
    """claim(): the round that is open, or a new one, as a worker takes it."""

    def take(name: str = "worker of the tests") -> Round:
        round_ = large.rounds.open().first() or state_machine.start(large, owner, tiny)
        claimed = state_machine.claim_round(round_.pk, name)
        assert claimed is not None
        return claimed

    return take


def during(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Call act(watch) once, while a snapshot is being taken."""
    digest, acts = snapshots._digest, [act]

    def digest_and_act(found: Any, watch: Any) -> str:
        while acts:
            acts.pop()(watch)
        return digest(found, watch)

    monkeypatch.setattr(snapshots, "_digest", digest_and_act)


def bring(project: Project, annotator: str, said: tuple[int, int]) -> None:
    """Import what someone said of 20 comparisons, which several may have judged, long ago."""
    opinion = Opinion(said, annotator=annotator, strength=3, at=datetime(2024, 5, 1, tzinfo=UTC))
    answers = (Answer("a", "theirs"), Answer("b", "theirs"))
    items = [
        item
        for place in range(20)
        for item in expand(Candidate(f"Prompt {place}", answers, (opinion,)), Choices("judged"))
    ]
    write(project, list(enumerate(items, start=1)), f"import of {annotator}")


def nothing_is_frozen() -> bool:
    return not (Snapshot.objects.exists() or SnapshotPair.objects.exists())


# --- The start ---------------------------------------------------------------------------------------------------


def test_a_large_project_is_answered_at_once(large: Project, owner: User, client_for: Any) -> None:
    client: Client = client_for(owner)
    made = client.post(API, {}, content_type="application/json", headers={"Idempotency-Key": "one"})
    assert (made.status_code, made.json()["state"], made.json()["snapshot"]) == (201, "queued", None)
    assert nothing_is_frozen()
    again = client.post(API, {}, content_type="application/json", headers={"Idempotency-Key": "one"})
    assert (again.json(), Round.objects.count()) == (made.json(), 1)
    assert TOLD in client.get(f"{PAGE}1/").content.decode()
    for address in (PAGE, f"{PAGE}1/live/?state=queued", "/p/reviews/snapshots/", f"{API}1/", API):
        assert client.get(address).status_code == 200


def test_few_judgments_that_take_long_are_left_to_the_worker(
    ready_project: Project, owner: User, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SECONDS_AT_ONCE", -1.0)
    round_ = state_machine.start(ready_project, owner, tiny)
    assert (round_.state, round_.lacks_snapshot, nothing_is_frozen()) == ("queued", True, True)


# --- The worker --------------------------------------------------------------------------------------------------


def test_a_worker_freezes_the_pairs_and_writes_them(claim: Any, owner: User, client_for: Any) -> None:
    round_ = claim()
    assert (round_.state, round_.phase, round_.snapshot) == ("training", "freezing", None)
    Round.objects.update(step=7, total_steps=32)
    page = client_for(owner).get(f"{PAGE}1/").content.decode()
    assert ("Freezing the pairs" in page, "7 of 32" in page, TOLD in page) == (True, True, True)
    files = RunDirectory(round_.run_dir)
    runner.prepare(round_, files)
    kept = Round.objects.get()
    assert kept.snapshot == round_.snapshot == Snapshot.objects.get()
    assert (kept.phase, kept.snapshot.created_by) == ("", kept.created_by)
    assert (len(list(read_jsonl(files.pairs))), len(list(read_jsonl(files.heldout)))) == (12, 4)
    assert [event.message for event in kept.events.all()] == [
        "It trains on pairs that its worker is to freeze.",
        "Attempt 1, by worker of the tests.",
        "12 pairs to train on.",
    ]


@pytest.mark.once
@pytest.mark.timeout(300)
def test_a_round_that_its_worker_freezes_ends_like_others(claim: Any, client_for: Any, owner: User) -> None:
    runner.run(claim())
    round_ = Round.objects.get()
    assert (round_.state, round_.reason) == ("ready", "")
    assert round_.summary["train"]["pairs"] == 12
    assert TOLD not in client_for(owner).get(f"{PAGE}1/").content.decode()


def test_what_is_judged_after_the_start_does_not_count(
    claim: Any, large: Project, owner: User, teammate: User, make_comparisons: Any, tiny: Any
) -> None:
    before = take_snapshot(large, owner)
    state_machine.start(large, owner, tiny)
    edited, withdrawn, undone = Judgment.objects.order_by("pk")[:3]
    revising.revise(large, teammate, edited.pk, Verdict("tie"))
    Comparison.objects.filter(pk=withdrawn.comparison_id).update(withdrawn_at=timezone.now())
    Judgment.objects.filter(pk=undone.pk).update(superseded_at=timezone.now())
    make_comparisons(3)
    factories.judge_by_word(large, teammate)
    assert take_snapshot(large, owner) != before
    round_ = claim()
    freeze(round_)
    assert round_.snapshot == before


def test_an_import_of_older_judgments_does_not_count(
    claim: Any, large: Project, owner: User, tiny: Any
) -> None:
    """Neither as votes, nor as evidence of how reliable those are that stood."""
    bring(large, "anna", (1, 0))
    reliable = PairSettings(votes="reliability")
    state_machine.start(large, owner, tiny | {"pairs": {"votes": "reliability"}})
    before = take_snapshot(large, owner, reliable)
    bring(large, "maria", (0, 1))
    assert take_snapshot(large, owner, reliable) != before
    round_ = claim()
    freeze(round_)
    assert round_.snapshot == before


def test_what_a_person_gave_at_the_moment_of_the_start_counts(
    claim: Any, large: Project, owner: User, teammate: User, make_comparisons: Any, tiny: Any
) -> None:
    """A verdict has its time before it has its id, and the round may be started in between."""
    round_ = state_machine.start(large, owner, tiny)
    make_comparisons(1)
    factories.judge_by_word(large, teammate)
    Judgment.objects.filter(pk__gt=round_.last_judgment).update(created_at=round_.created_at)
    at_the_start = take_snapshot(large, owner)
    claimed = claim()
    freeze(claimed)
    assert (claimed.snapshot, at_the_start.counts["train"]) == (at_the_start, 13)


def test_too_few_pairs_fail_the_round_and_freeze_nothing(claim: Any, owner: User, client_for: Any) -> None:
    Judgment.objects.filter(comparison__prompt__held_out=False).delete()
    runner.run(claim())
    failed = Round.objects.get()
    assert (failed.state, "there are 0 to train on" in failed.reason) == ("failed", True)
    assert nothing_is_frozen()
    page = client_for(owner).get(f"{PAGE}{failed.number}/").content.decode()
    assert ("Its settings are kept." in page, "Start again with these settings" in page) == (True, True)
    assert ("does not see" in page, 'value="resume' in page) == (False, False)


def test_a_round_with_too_few_pairs_is_not_resumed(claim: Any, large: Project, client_for: Any) -> None:
    """Another attempt would find as few: later judgments do not count in it."""
    judged = Judgment.objects.filter(comparison__prompt__held_out=False)
    Judgment.objects.filter(pk__in=judged.values("pk")[7:]).delete()
    runner.run(claim())
    failed = Round.objects.get()
    assert "there are 7 to train on" in failed.reason
    assert failed.reason.endswith("Later judgments do not count in this round: start another one then.")
    answer = client_for(failed.created_by).post(f"{API}1/resume/", {}, content_type="application/json")
    assert (answer.status_code, Round.objects.get().state) == (400, "failed")
    assert "is too little. Start another." in answer.content.decode()


def test_a_round_that_stops_by_loss_needs_held_out_pairs(large: Project, owner: User, tiny: Any) -> None:
    large.held_out_share = 0
    large.save()
    large.prompts.update(held_out=False)
    chosen = {**tiny, "training": tiny["training"] | {"early_stop": 2, "eval_steps": 1}}
    round_ = state_machine.start(large, owner, chosen)
    claimed = state_machine.claim_round(round_.pk, "worker of the tests")
    assert claimed is not None
    with pytest.raises(RoundError, match="held-out prompts, and there are none yet"):
        freeze(claimed)
    assert nothing_is_frozen()


# --- The heartbeat ---------------------------------------------------------------------------------------------


def test_a_late_beat_writes_no_progress_of_the_freezing(claim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have waited for the row, which was locked while the round was given its snapshot."""
    held: list[Any] = []
    during(monkeypatch, lambda watch: held.append(watch._progress.job))
    round_ = claim()
    freeze(round_)
    assert held[0].tell(step=31, total_steps=32) is False
    assert Round.objects.values_list("phase", "step", "total_steps").get() == ("", 0, 0)


def test_another_attempt_begins_its_progress_anew(claim: Any) -> None:
    lost = claim()
    state_machine.heartbeat(lost, step=31, total_steps=32)
    state_machine.hand_back(lost)
    again = claim("another worker")
    assert (again.phase, again.step, again.total_steps) == ("freezing", 0, 0)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite checks each key at once")
def test_keys_are_checked_before_the_round_is_locked(claim: Any) -> None:
    """At a commit of millions of pairs it would take so long that the round is thought to be silent."""
    round_ = claim()
    with CaptureQueriesContext(connection) as queries:
        freeze(round_)
    said = [one["sql"] for one in queries]
    checked = next(place for place, sql in enumerate(said) if "CONSTRAINTS ALL IMMEDIATE" in sql)
    locked = next(place for place, sql in enumerate(said) if '"snapshot_id" =' in sql and "UPDATE" in sql)
    assert checked < locked


# --- Cut off -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_cancel_ends_the_freezing_and_keeps_nothing(
    claim: Any, owner: User, client_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_ = claim()

    def cancel(watch: Any) -> None:
        assert state_machine.cancel(Round.objects.get(), owner)
        wait_for(lambda: watch._progress.is_lost)  # as its heartbeat tells, in a thread

    during(monkeypatch, cancel)
    runner.run(round_)
    assert (Round.objects.get().state, nothing_is_frozen()) == ("cancelled", True)
    assert "Its settings are kept." in client_for(owner).get(f"{PAGE}1/").content.decode()


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_stops_hands_the_round_back(claim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    round_ = claim()

    def stop(watch: Any) -> None:
        Worker.objects.create(name=round_.worker, queues=[], seen_at=timezone.now(), stopping=True)
        wait_for(lambda: watch._progress.is_lost)

    during(monkeypatch, stop)
    runner.run(round_)
    assert (Round.objects.get().state, nothing_is_frozen()) == ("queued", True)
    again = claim("another worker")
    freeze(again)
    assert (again.attempts, again.snapshot.counts["train"]) == (2, 12)


def test_a_worker_thought_dead_does_not_give_the_snapshot(
    claim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = claim()

    def take_over(_watch: Any) -> None:
        Round.objects.update(heartbeat_at="2020-01-01T00:00Z")
        sweeping.sweep_rounds()
        claim("another worker")

    during(monkeypatch, take_over)
    runner.run(lost)
    round_ = Round.objects.get()
    assert (round_.state, round_.phase, round_.attempts, round_.worker) == (
        "training", "freezing", 2, "another worker"
    )  # fmt: skip
    assert nothing_is_frozen()


# --- What meets a round without a snapshot -----------------------------------------------------------------------


def test_a_worker_of_the_version_before_is_refused_the_round(large: Project, owner: User, tiny: Any) -> None:
    """It would train without pairs. It leaves the round to a newer one, as it does when the database refuses."""
    state_machine.start(large, owner, tiny)
    for state, phase in (("training", ""), ("training", "fetching"), ("sampling", "")):
        with pytest.raises(IntegrityError), transaction.atomic():
            Round.objects.update(state=state, phase=phase)
    assert Round.objects.get().state == "queued"


def test_a_resumed_round_knows_nothing_that_was_forgotten(
    claim: Any, large: Project, owner: User, client_for: Any
) -> None:
    prompt = large.prompts.filter(held_out=False).first()
    target = prompt_target(prompt)
    state_machine.fail(claim(), "It failed for a test.")
    forget([target])
    assert not Round.objects.get().holds_forgotten
    client_for(owner).post(f"{PAGE}1/", {"action": "resume"})
    round_ = claim()
    freeze(round_)
    assert round_.snapshot.pairs.filter(held_out=False).count() == 11


def test_a_round_done_over_is_frozen_as_it_first_was(
    large: Project, owner: User, teammate: User, make_round: Any, make_comparisons: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sizes, "LARGE", 20_000)
    original = make_round("promoted")
    (original.run_dir / "adapter").mkdir(parents=True)
    monkeypatch.setattr(sizes, "LARGE", 0)
    make_comparisons(3)
    factories.judge_by_word(large, teammate)
    again = state_machine.retrain(original, original.start_policy, owner)
    assert (again.lacks_snapshot, again.judged_until) == (True, original.created_at)
    assert Round(retrains=again, last_judgment=again.last_judgment).judged_until == original.created_at
    assert Round(retrains=again).judged_until == again.created_at  # as a version before took them
    claimed = state_machine.claim_round(again.pk, "worker of the tests")
    assert claimed is not None
    freeze(claimed)
    assert claimed.snapshot == original.snapshot


def test_an_archive_holds_a_round_whose_pairs_were_not_frozen(
    claim: Any, large: Project, tmp_path: Path
) -> None:
    """Elsewhere, too, it trains on what was there at its start, under whatever ids."""
    bring(large, "anna", (1, 0))
    state_machine.fail(claim(), "It failed for a test.")
    file = tmp_path / "project.zip"
    call_command("archive", "reviews", str(file), stdout=StringIO())
    call_command("restore", str(file), "--slug", "moved", stdout=StringIO())
    moved = Round.objects.get(project__slug="moved")
    assert (moved.state, moved.can_resume, moved.lacks_snapshot) == ("failed", True, True)
    bring(moved.project, "maria", (0, 1))
    state_machine.resume(moved)
    resumed = state_machine.claim_round(moved.pk, "worker of the tests")
    assert resumed is not None
    freeze(resumed)
    assert (resumed.snapshot.counts["judgments"], moved.project.judgments.count()) == (36, 56)


def test_a_later_import_did_not_count_in_a_round_before(make_round: Any, ready_project: Project) -> None:
    """Its judgments are older than the round, and none of those that the round may have looked at."""
    make_round("failed")
    upload = Import.objects.create(project=ready_project, filename="a.csv", format="csv", size=1)
    said = Opinion(verdict="both_bad", annotator="maria", at=datetime(2024, 5, 1, tzinfo=UTC))
    given = Candidate("Once", (Answer("a"), Answer("b")), (said,))
    write(ready_project, list(enumerate(expand(given, Choices("judged")), start=1)), uploads.batch(upload))
    found = find_consequences(import_target(upload))
    assert (found.judgments, found.rounds) == (1, [])
