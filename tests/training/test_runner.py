"""A round from the queue to its comparisons, with a real child process on the starter model, and cut off at will."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Comparison, Completion, Policy, Project
from tests.training.elsewhere import train, unpack
from tests.training.workers import checkpoints, is_alive, trainer_pid
from tests.waiting import wait_for
from training.models import Metric, Round, Worker
from training.rounds import deciding, runner, state_machine
from training.rounds.phases.sampling import sample
from training.rounds.phases.training import MetricsTail
from training.rounds.phases.training import train as train_here
from training.rounds.phases.work import Work

pytestmark = pytest.mark.django_db

# Training alone, without sampling; and so long that it can be cut off, with a checkpoint every 5 steps.
ALONE: dict[str, Any] = {
    "training": {"epochs": 1, "batch_size": 4, "max_length": 128, "threads": 1, "kl_samples": 0},
    "fresh_comparisons": 0,
    "gate_comparisons": 0,
}
LONG = ALONE | {"training": ALONE["training"] | {"epochs": 40, "checkpoint_steps": 5}}
STEPS = 120  # 12 pairs, 4 a step, 40 epochs


@pytest.fixture
def long_round(ready_project: Project, owner: Any) -> Round:
    round_ = state_machine.start(ready_project, owner, LONG)
    found = state_machine.claim_round(round_.pk, "worker of the tests")
    assert found is not None
    return found


def once_training(run_dir: Path, act: Any) -> threading.Thread:
    """Call act(pid of the trainer) in a thread as soon as it has made a step and written a checkpoint."""

    def watch() -> None:
        act(wait_for(lambda: checkpoints(run_dir) and trainer_pid(run_dir), 90, every=0.01))

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def folders_named(client: Client, *addresses: str) -> set[str]:
    """Return the folders of the server that pages name, or the API."""
    said = "".join(client.get(address).content.decode() for address in addresses)
    return {str(folder) for folder in (settings.VAR, settings.BASE_DIR) if str(folder) in said}


@pytest.mark.once
@pytest.mark.timeout(300)
def test_a_round_ends_with_a_policy_and_comparisons(
    claimed: Round, owner: Any, client_for: Any, tmp_path: Path
) -> None:
    """The whole way; 12 training pairs in batches of 4 are 3 steps."""
    runner.run(claimed)
    round_ = Round.objects.get()
    assert (round_.state, round_.reason) == ("ready", "")
    assert [event.to_state for event in round_.events.all()] == [
        "queued",
        "training",
        "sampling",
        "ready",
    ]

    metrics = list(round_.metrics.values_list("step", "values__rewards/margins"))
    assert [step for step, _margin in metrics] == [1, 2, 3]
    assert metrics[0][1] == 0  # before the first update the policy is its own reference
    assert metrics[-1][1] > 0

    new = round_.result_policy
    assert new is not None
    assert (new.kind, new.parent, new.base_model) == ("adapter", round_.start_policy, "starter")
    assert (settings.VAR / new.adapter / "adapter_model.safetensors").is_file()

    assert round_.fresh.count() == 4
    for comparison in round_.fresh.all():
        assert not comparison.prompt.held_out
        assert (comparison.kind, comparison.batch, comparison.open) == ("standard", "round 1", True)
        assert {comparison.first.policy, comparison.second.policy} == {new}
        assert comparison.first.text.strip() != comparison.second.text.strip()
    assert round_.gate.count() == 4
    for comparison in round_.gate.all():
        assert comparison.prompt.held_out
        assert (comparison.kind, comparison.priority) == ("gate", 20)
        assert {comparison.first.policy, comparison.second.policy} == {new, round_.start_policy}
    # Four held-out prompts and four gate comparisons: each prompt once.
    assert len(set(round_.gate.values_list("prompt", flat=True))) == 4

    completion = round_.fresh.all()[0].first
    assert all((completion.token_ids, completion.prompt_token_ids))
    assert completion.logprob is not None
    assert completion.logprob < 0
    assert completion.seed is not None
    assert completion.finish_reason in ("stop", "length")
    assert completion.sampling["max_new_tokens"] == 12

    assert round_.summary["train"]["pairs"] == 12
    assert round_.summary["train"]["heldout"]["after"]["pairs"] == 4
    assert (round_.summary["fresh"], round_.summary["gate"]) == (4, 4)
    assert not (round_.run_dir / "checkpoints").exists()
    config = json.loads((round_.run_dir / "config.json").read_text())
    assert (config["base_model"], config["start_adapter"]) == (str(settings.STARTER_MODEL), None)

    assert not folders_named(
        client_for(owner), round_.get_absolute_url(), "/api/v1/projects/reviews/rounds/1/"
    )

    deciding.promote(round_, owner)
    second = state_machine.start(Project.objects.get(), owner, ALONE, begin=new)
    again = state_machine.claim_round(second.pk, "worker of the tests")
    assert again is not None
    assert again.start_policy == new
    runner.prepare(again, runner.RunDirectory(again.run_dir))
    config = json.loads((again.run_dir / "config.json").read_text())
    assert config["start_adapter"] == str(round_.run_dir / "adapter")

    # Its download trains to the same bytes in another folder.
    run = unpack(client_for(owner).get(reverse("round-archive", args=["reviews", 1])), tmp_path)
    train(run)
    weights = "adapter/adapter_model.safetensors"
    hashes = {
        json.loads((where / "done.json").read_text())["train"]["outputs"][weights]
        for where in (run, round_.run_dir)
    }
    assert hashes == {(run / "expected.sha256").read_text().split()[0]}


@pytest.mark.chaos
def test_a_killed_child_fails_the_round_and_resume_completes_it(long_round: Round, owner: Any) -> None:
    watcher = once_training(long_round.run_dir, lambda pid: os.kill(pid, signal.SIGKILL))
    runner.run(long_round)
    watcher.join()
    long_round.refresh_from_db()
    assert long_round.state == "failed"
    assert long_round.reason.startswith(
        "Training was killed (signal 9), as the system does when memory runs out"
    )
    trained = Metric.objects.count()
    assert 0 < trained < STEPS

    state_machine.resume(long_round, owner)
    again = state_machine.claim_round(long_round.pk, "worker of the tests")
    assert again is not None
    runner.run(again)
    again.refresh_from_db()
    assert (again.state, again.attempts) == ("ready", 2)
    assert list(again.metrics.values_list("step", flat=True)) == list(range(1, STEPS + 1))
    assert "Resumed from the checkpoint" in " ".join(again.summary["train"]["events"])


@pytest.mark.once
@pytest.mark.django_db(transaction=True)
def test_cancelling_ends_the_child_and_leaves_no_process(long_round: Round) -> None:
    pids: list[int] = []

    def cancel(pid: int) -> None:
        from django.db import connection

        pids.append(pid)
        state_machine.cancel(Round.objects.get(pk=long_round.pk))
        connection.close()

    watcher = once_training(long_round.run_dir, cancel)
    runner.run(long_round)
    watcher.join()
    assert Round.objects.get().state == "cancelled"
    assert not is_alive(pids[0])
    assert not Policy.objects.filter(kind="adapter").exists()


@pytest.mark.chaos
@pytest.mark.django_db(transaction=True)
def test_a_stopping_worker_returns_its_round_with_a_checkpoint(long_round: Round) -> None:
    def stop(_pid: int) -> None:
        from django.db import connection

        Worker.objects.create(
            name=long_round.worker, queues=["training"], seen_at=timezone.now(), stopping=True
        )
        connection.close()

    watcher = once_training(long_round.run_dir, stop)
    runner.run(long_round)
    watcher.join()
    long_round.refresh_from_db()
    assert (long_round.state, long_round.losses) == ("queued", 0)
    assert checkpoints(long_round.run_dir)


def test_a_log_that_was_cut_and_regrew_is_read_from_its_start(
    claimed: Round,
) -> None:
    """A resumed training may take several steps within a tick; its lines differ in length from those it repeats."""
    path = claimed.run_dir / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = [{"step": step, "loss": 0.5, "pairs_per_second": 10.0} for step in (1, 2, 3)]
    after = [before[0], *({"step": step, "loss": 0.25, "pairs_per_second": 9.87} for step in (2, 3, 4, 5))]
    tail = MetricsTail(claimed, path)
    path.write_text("".join(json.dumps(row) + "\n" for row in before) + '{"step": 4, "lo')
    tail.read()
    path.write_text("".join(json.dumps(row) + "\n" for row in after) + '{"step": 6')
    tail.read()
    with path.open("a") as file:
        file.write(', "loss": 0.25}\n')
    tail.read()
    tail.read()
    stored = dict(claimed.metrics.values_list("step", "values__loss"))
    assert stored == {1: 0.5, 2: 0.25, 3: 0.25, 4: 0.25, 5: 0.25, 6: 0.25}


def test_a_new_step_forgives_workers_that_went_silent(claimed: Round) -> None:
    """A round that gets further each time is not one that kills its workers; one that repeats its steps may be."""
    path = claimed.run_dir / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)

    def losses_after(*steps: int) -> int:
        Round.objects.update(losses=2)
        path.write_text("".join(json.dumps({"step": step}) + "\n" for step in steps))
        MetricsTail(claimed, path).read()
        return Round.objects.values_list("losses", flat=True).get()

    assert losses_after(1, 2, 3) == 0
    assert losses_after(1, 2, 3) == 2
    assert losses_after(1, 2, 3, 4) == 0


@pytest.mark.chaos
@pytest.mark.once
def test_a_child_that_outlived_its_worker_is_ended_first(long_round: Round) -> None:
    files = runner.RunDirectory(long_round.run_dir)
    runner.prepare(long_round, files)
    command = [sys.executable, "-m", "training.engine", "train", str(files.root)]
    with subprocess.Popen(
        command, cwd=settings.BASE_DIR, start_new_session=True, stderr=subprocess.DEVNULL
    ) as orphan:
        wait_for(lambda: trainer_pid(files.root) or orphan.poll() is not None)
        assert orphan.poll() is None
        # What the sweep does when the worker has gone silent.
        state_machine.move(long_round, Round.State.QUEUED)
        again = state_machine.claim_round(long_round.pk, "its successor")
        assert again is not None
        runner.run(again)
        assert orphan.wait(60) != 0
    assert Round.objects.get().state == "ready"
    assert Metric.objects.count() == STEPS


@pytest.mark.chaos
def test_a_round_cut_off_before_scaling_goes_on_with_it(
    ready_project: Project, owner: Any, client_for: Any
) -> None:
    """Training is not redone. The budget is kept, and the page shows what it came to."""
    training = ALONE["training"] | {"epochs": 30, "kl_samples": 16, "kl_budget": 0.01}
    chosen = ALONE | {"training": training, "sampling": {"max_new_tokens": 8}}
    claimed = state_machine.claim_round(
        state_machine.start(ready_project, owner, chosen).pk, "one that is killed"
    )
    assert claimed is not None
    files = runner.RunDirectory(claimed.run_dir)
    runner.prepare(claimed, files)
    train_here(Work(claimed, files))
    trained = (files.adapter / "adapter_model.safetensors").read_bytes()
    state_machine.move(Round.objects.get(), Round.State.QUEUED)
    again = state_machine.claim_round(claimed.pk, "its successor")
    assert again is not None
    runner.run(again)
    again.refresh_from_db()
    assert (again.state, again.reason) == ("ready", "")
    found = again.summary["scale"]
    assert found["trained"]["kl"]["value"] > 0.01 >= found["final"]["kl"]["low"]
    assert (files.unscaled / "adapter_model.safetensors").read_bytes() == trained
    assert (files.adapter / "adapter_model.safetensors").read_bytes() != trained
    page = client_for(owner).get(again.get_absolute_url()).content.decode()
    assert "to keep its budget of 0.01 nats" in page
    assert f"{found['final']['kl']['value']:.2f}" in page


def test_a_lost_rounds_work_is_neither_redone_nor_written_twice(
    ready_project: Project, owner: Any, tiny: Any
) -> None:
    """Cut off between the last verb and the database, and tried again: everything arrives once."""
    claimed = state_machine.claim_round(
        state_machine.start(ready_project, owner, tiny | {"gate_comparisons": 0}).pk, "a worker"
    )
    assert claimed is not None
    files = runner.RunDirectory(claimed.run_dir)
    runner.prepare(claimed, files)
    train_here(Work(claimed, files))
    state_machine.advance(claimed, Round.State.SAMPLING)
    sample(Work(claimed, files))
    written = json.loads(files.done.read_text())
    state_machine.move(Round.objects.get(), Round.State.QUEUED)
    again = state_machine.claim_round(claimed.pk, "its successor")
    assert again is not None

    completions = Completion.objects.count()
    with pytest.raises(runner.RoundLostError):
        runner.finish(claimed, files)
    assert Completion.objects.count() == completions
    assert Policy.objects.count() == 1

    runner.run(again)
    done = json.loads(files.done.read_text())
    assert {verb: done[verb] for verb in written} == written  # neither verb ran again
    round_ = Round.objects.get()
    assert round_.state == "ready"
    assert round_.fresh.count() == Comparison.objects.filter(batch="round 1").count() == 4
    assert Completion.objects.count() == completions + 8
    assert Policy.objects.count() == 2


@pytest.mark.parametrize("name", ["gone", "secret"])
def test_a_worker_refuses_what_is_no_longer_allowed(
    claimed: Round, settings: Any, tmp_path: Path, name: str
) -> None:
    settings.BASE_MODELS = [str(tmp_path / "models")]
    (tmp_path / "secret").mkdir()
    path = {"gone": tmp_path / "models" / "gone", "secret": tmp_path / "secret"}[name]
    claimed.settings["config"]["base_model"] = str(path)
    claimed.save()
    runner.run(claimed)
    claimed.refresh_from_db()
    assert claimed.state == "failed"
    assert claimed.reason.startswith("The base model “")
    assert claimed.reason.endswith(
        "does not exist, or is not among those that this site allows (WHETSTONE_MODELS)."
    )
    assert not claimed.run_dir.exists()


def test_a_worker_scores_under_no_adapter_that_a_setting_names(claimed: Round) -> None:
    claimed.settings["config"]["sampling"]["reference"] = str(settings.RUNS / "other-1" / "adapter")
    claimed.save()
    runner.run(claimed)
    claimed.refresh_from_db()
    assert (claimed.state, claimed.reason) == (
        "failed",
        "reference is not chosen for a round: Whetstone decides it.",
    )


def test_an_unwritable_run_directory_fails_the_round_in_words(claimed: Round) -> None:
    claimed.run_dir.parent.mkdir(parents=True, exist_ok=True)
    claimed.attempts = 2  # so that nothing is moved aside
    Round.objects.update(attempts=2)
    claimed.run_dir.write_text("a file where the folder should be")
    try:
        runner.run(claimed)
    finally:
        claimed.run_dir.unlink()
    claimed.refresh_from_db()
    assert claimed.state == "failed"
    assert "Traceback" not in claimed.reason
    assert f"var/{claimed.folder} " in claimed.reason.replace(settings.VAR.name, "var")
    assert str(settings.VAR) not in claimed.reason


def test_files_of_another_database_are_not_taken_for_the_rounds(claimed: Round) -> None:
    claimed.run_dir.mkdir(parents=True)
    (claimed.run_dir / "done.json").write_text('{"train": {}, "sample": {}}')
    files = runner.RunDirectory(claimed.run_dir)
    runner.prepare(claimed, files)
    assert files.read_done() == {}
    assert len(files.pairs.read_text().splitlines()) == 12
    assert len(files.heldout.read_text().splitlines()) == 4
    assert len(list(files.root.parent.glob(f"{files.root.name}.*.old"))) == 1


@pytest.mark.parametrize(
    ("loss", "margin"), [("sigmoid", 2 / 3), ("odpo", 2 / 3), ("ipo", 0.0), ("hinge", 0.0)]
)
def test_strength_becomes_a_margin_where_the_loss_knows_margins(
    ready_project: Project, owner: Any, loss: str, margin: float
) -> None:
    """Every judgment said "better", strength 2, at a third of a nat a step; the engine refuses idle margins."""
    chosen = {"training": {"loss": loss}, "pairs": {"margin_scale": 1 / 3}}
    started = state_machine.start(ready_project, owner, chosen)
    round_ = state_machine.claim_round(started.pk, "a worker")
    assert round_ is not None
    files = runner.RunDirectory(round_.run_dir)
    runner.prepare(round_, files)
    rows = [json.loads(line) for line in files.pairs.read_text().splitlines()]
    assert [row["margin"] for row in rows] == [pytest.approx(margin)] * 12


@pytest.mark.chaos
def test_a_round_without_room_for_held_out_prompts_has_no_gate(claimed: Round) -> None:
    """The trained policy is kept, and the prompts that nothing could be written for are counted."""
    for number, prompt in enumerate(claimed.project.prompts.filter(held_out=True)):
        prompt.set_content(f"Opening {number} " + "and on " * 600)
        prompt.held_out = True
        prompt.save()
    runner.run(claimed)
    round_ = Round.objects.get()
    assert (round_.state, round_.reason) == ("ready", "")
    assert (round_.fresh.count(), round_.gate.count()) == (4, 0)
    assert round_.summary["passed_over"]["too_long"] == 4
    assert round_.summary["train"]["left_out"]["dropped"] == {}
