"""Whole rounds on machines that share the database and the storage, and no folder."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site
from django.urls import reverse

from annotate.models import Project
from tests.training import workers as celery_workers
from tests.training.elsewhere import train
from tests.training.pages import text
from tests.training.workers import celery_worker, kill_group, trainer_pid
from tests.waiting import wait_for
from training.engine.rundir import RunDirectory
from training.models import Round, StoredFile, Worker
from training.rounds import deciding, runner, state_machine
from training.rounds.plan import Plan
from training.rounds.starts import on_this_machine
from training.storage import objects
from training.storage.folders import Folder

WEIGHTS = "adapter/adapter_model.safetensors"
ALONE: dict[str, Any] = {
    "training": {"epochs": 1, "batch_size": 4, "max_length": 128, "threads": 1, "kl_samples": 0},
    "fresh_comparisons": 0,
    "gate_comparisons": 0,
}
LONG = ALONE | {"training": ALONE["training"] | {"epochs": 60, "checkpoint_steps": 5}}


def claim(round_: Round) -> Round:
    found = state_machine.claim_round(round_.pk, "worker of the tests")
    assert found is not None
    return found


def machine(name: str, tmp_path: Path, place: str) -> dict[str, str]:
    """Return what a worker's environment has of its own: its folder. Broker and database are the test's."""
    (tmp_path / name).mkdir(exist_ok=True)
    return {
        "WHETSTONE_TEST_VAR": str(tmp_path / name),
        "WHETSTONE_STORAGE": place,
        "WHETSTONE_CHECKPOINT_SECONDS": "1",
        "CELERY_BROKER_URL": os.environ.get("CELERY_BROKER_URL") or f"filesystem://{site.VAR}/broker",
    }


def run_dir(name: str, tmp_path: Path, round_: Round) -> Path:
    return tmp_path / name / os.environ.get("PYTEST_XDIST_WORKER", "main") / round_.folder


def weights(round_: Round) -> bytes:
    file = Folder(round_.folder).find(WEIGHTS)
    assert file is not None
    return file.read_bytes()


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.django_db
def test_a_round_of_one_machine_is_complete_on_another(
    ready_project: Project, owner: Any, client_for: Any, use_place: Any, bucket: str, on_machine: Any
) -> None:
    use_place(bucket)
    on_machine("worker")
    runner.run(claim(state_machine.start(ready_project, owner, ALONE)))
    on_machine("web")
    round_ = Round.objects.get()
    assert (round_.state, round_.reason, round_.processes) == ("ready", "", 1)
    rows = StoredFile.objects.all()
    assert {"pairs.jsonl", "metrics.jsonl", "train.log", "done.json", WEIGHTS} <= {row.path for row in rows}
    assert not [row for row in rows if "checkpoints" in row.path]
    assert set(objects.list_keys(round_.folder)) == {row.key for row in rows}
    page = text(client_for(owner).get(round_.get_absolute_url()))
    assert reverse("round_file", args=["reviews", 1, WEIGHTS]) in page
    assert not (on_machine("worker") / round_.folder).exists()


@pytest.mark.once
@pytest.mark.django_db
def test_a_round_fails_with_a_sentence_when_the_storage_is_away(
    ready_project: Project, owner: Any, use_place: Any, on_machine: Any, settings: Any, tmp_path: Path
) -> None:
    (tmp_path / "shared").write_text("a file where a folder should be")
    use_place(f"file://{tmp_path}/shared")
    settings.STORAGE_SECONDS = 0
    on_machine("worker")
    round_ = claim(state_machine.start(ready_project, owner, ALONE))
    files = RunDirectory(round_.run_dir)
    files.write_config(Plan.from_dict(round_.settings).config)
    files.adapter.mkdir()
    files.done.write_text('{"train": {}}')  # trained already
    Round.objects.update(attempts=2)
    round_.refresh_from_db()
    runner.run(round_)
    round_.refresh_from_db()
    assert round_.state == "failed"
    assert round_.reason.startswith("Storing runs/reviews-1/")
    assert round_.reason.endswith("Resume the round once the storage has what it needs.")
    assert files.adapter.is_dir()
    (tmp_path / "shared").unlink()
    state_machine.resume(round_)
    runner.run(claim(round_))
    round_.refresh_from_db()
    assert (round_.state, round_.reason) == ("ready", "")


@pytest.mark.chaos
@pytest.mark.once
@pytest.mark.timeout(600)
@pytest.mark.django_db(transaction=True)
def test_a_worker_that_shares_no_folder_leads_rounds(
    ready_project: Project,
    owner: Any,
    client_for: Any,
    tiny: Any,
    place: str,
    on_machine: Any,
    tmp_path: Path,
) -> None:
    on_machine("web")
    client = client_for(owner)
    with celery_worker(tmp_path / "worker.log", **machine("worker", tmp_path, place)):
        for number in (1, 2):
            round_ = state_machine.start(ready_project, owner, tiny)
            wait_for(lambda pk=round_.pk: Round.objects.get(pk=pk).state in ("ready", "failed"), 300)
            round_.refresh_from_db()
            assert (round_.state, round_.reason) == ("ready", "")
            for name in ("samples.jsonl", WEIGHTS, "pairs.jsonl"):
                answer = client.get(reverse("round_file", args=["reviews", number, name]))
                assert b"".join(answer.streaming_content)
            gallery = client.get(reverse("gallery", args=["reviews", number]))
            assert gallery.status_code == 200
            deciding.promote(round_, owner)
        devices = wait_for(lambda: Worker.objects.get(name__startswith="worker@").devices)
        assert devices["cpu"]["threads"] >= 1
        assert f"{devices['cpu']['threads']} thread" in text(client.get(reverse("rounds", args=["reviews"])))
    assert not (site.RUNS / "reviews-1").exists()


@pytest.mark.chaos
@pytest.mark.once
@pytest.mark.timeout(600)
@pytest.mark.django_db(transaction=True)
def test_a_third_machine_resumes_to_the_same_bytes(
    ready_project: Project, owner: Any, use_place: Any, bucket: str, on_machine: Any, tmp_path: Path
) -> None:
    use_place(bucket)
    on_machine("web")
    round_ = state_machine.start(ready_project, owner, LONG)
    stored = StoredFile.objects.filter(path__startswith="checkpoints/")
    with celery_worker(tmp_path / "first.log", **machine("first", tmp_path, bucket)) as worker:
        wait_for(stored.exists, 120)
        pid = wait_for(lambda: trainer_pid(run_dir("first", tmp_path, round_)))
        kill_group(worker)
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not celery_workers.is_alive(pid))
    shutil.rmtree(tmp_path / "first")
    with celery_worker(tmp_path / "third.log", **machine("third", tmp_path, bucket)):
        wait_for(lambda: Round.objects.get().state in ("ready", "failed"), 300)
    round_.refresh_from_db()
    assert (round_.state, round_.reason, round_.attempts) == ("ready", "", 2)
    log = Folder(round_.folder).find("train.log")
    assert log is not None
    assert b"Resumed from the checkpoint" in log.read_bytes()
    whole = RunDirectory(tmp_path / "whole")
    whole.write_config(on_this_machine(Plan.from_dict(round_.settings).config))
    for name in ("pairs.jsonl", "heldout.jsonl"):
        found = Folder(round_.folder).find(name)
        assert found is not None
        (whole.root / name).write_bytes(found.read_bytes())
    train(whole.root)
    assert (whole.root / WEIGHTS).read_bytes() == weights(round_)


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.timeout(600)
@pytest.mark.django_db(transaction=True)
def test_two_processes_train_together_and_fall_together(
    ready_project: Project, owner: Any, settings: Any, on_machine: Callable[[str], Path]
) -> None:
    from tests.training.test_runner import once_training

    settings.PROCESSES = "2"
    on_machine("worker")
    round_ = claim(state_machine.start(ready_project, owner, LONG))

    def kill_other(first: int) -> None:
        import psutil

        agent = psutil.Process(first).parent()
        [other] = [child for child in agent.children() if child.pid != first]
        other.kill()

    killer = once_training(round_.run_dir, kill_other)
    runner.run(round_)
    killer.join()
    round_.refresh_from_db()
    assert (round_.state, round_.processes) == ("failed", 2)
    assert round_.reason.startswith("Training was killed (signal 9)")
    assert not celery_workers.is_alive(int((round_.run_dir / ".lock").read_text().split()[0]))
    settings.PROCESSES = "1"  # what began in two processes goes on in two
    state_machine.resume(round_)
    runner.run(claim(round_))
    round_.refresh_from_db()
    assert (round_.state, round_.reason) == ("ready", "")
    assert round_.summary["train"]["processes"] == 2
    assert "Resumed from the checkpoint" in (round_.run_dir / "train.log").read_text()
