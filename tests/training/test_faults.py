"""Faults around a round: workers killed, stopped, absent or racing, and a broker that is away.

The workers are real processes of Celery, on the test's database and broker.
"""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from annotate.models import Policy
from tests.training.workers import (
    celery_worker,
    checkpoints,
    environment,
    is_alive,
    kill_group,
    trainer_pid,
)
from tests.waiting import wait_for
from training.models import Metric, Round, Worker
from training.rounds import state_machine, sweeping

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

# Some seconds of training and no sampling: time to break something, and to see it healed.
LONG: dict[str, Any] = {
    "training": {
        "epochs": 30,
        "batch_size": 4,
        "max_length": 128,
        "checkpoint_steps": 5,
        "threads": 1,
        "kl_samples": 0,
    },
    "fresh_comparisons": 0,
    "gate_comparisons": 0,
}
STEPS = 90  # 12 pairs, 4 a step, 30 epochs


@pytest.fixture(autouse=True)
def _empty_broker() -> None:
    current_app.control.purge()


def state(round_: Round) -> str:
    return Round.objects.values_list("state", flat=True).get(pk=round_.pk)


def assert_whole(round_: Round) -> None:
    """Whatever happened on the way, the end is that of a round without trouble."""
    round_.refresh_from_db()
    assert (round_.state, round_.reason) == ("ready", "")
    assert list(round_.metrics.values_list("step", flat=True)) == list(range(1, STEPS + 1))
    assert Policy.objects.filter(kind="adapter").count() == 1


@pytest.mark.chaos
def test_a_killed_worker_is_replaced_and_the_round_ends_whole(
    ready_project: Any, owner: Any, tmp_path: Path
) -> None:
    """The machine loses its power: worker, pool, beat and trainer are gone; what comes up again carries on."""
    round_ = state_machine.start(ready_project, owner, LONG)
    with celery_worker(tmp_path / "first.log") as worker:
        pid = wait_for(lambda: trainer_pid(round_.run_dir))
        wait_for(lambda: checkpoints(round_.run_dir))
        kill_group(worker)
        os.kill(pid, signal.SIGKILL)
    assert state(round_) == "training"
    with celery_worker(tmp_path / "second.log"):
        wait_for(lambda: state(round_) in ("ready", "failed"))
    assert_whole(round_)
    assert "silent for 4 s" in " ".join(event.message for event in round_.events.all())
    assert "Resumed from the checkpoint" in " ".join(round_.summary["train"]["events"])


@pytest.mark.chaos
def test_a_training_worker_is_present_and_hands_its_round_back(
    ready_project: Any, owner: Any, tmp_path: Path
) -> None:
    assert not Worker.for_training()
    round_ = state_machine.start(
        ready_project, owner, LONG | {"training": LONG["training"] | {"epochs": 3000}}
    )
    with celery_worker(tmp_path / "stopped.log") as worker:
        pid = wait_for(lambda: trainer_pid(round_.run_dir))
        (row,) = Worker.for_training()
        assert row.name.startswith("stopped@")
        assert row.queues == ["default", "training"]
        wait_for(lambda: Worker.objects.get(pk=row.pk).seen_at > row.seen_at)  # also while a task runs
        worker.send_signal(signal.SIGTERM)
        worker.wait(40)
        assert not is_alive(pid)
    round_.refresh_from_db()
    assert (round_.state, round_.losses) == ("queued", 0)
    assert checkpoints(round_.run_dir)
    assert not Worker.for_training()


RACER = """
    import django, sys, time
    django.setup()
    from training.rounds import state_machine
    print("ready", flush=True)
    sys.stdin.readline()
    claimed = state_machine.claim_round(int(sys.argv[1]), sys.argv[2])
    print("won" if claimed else "lost")
"""


def test_of_four_processes_that_claim_a_round_at_once_one_wins(ready_project: Any, owner: Any) -> None:
    round_ = state_machine.start(ready_project, owner, LONG)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(RACER), str(round_.pk), f"racer {i}"],
            cwd=settings.BASE_DIR,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert sorted(answers) == ["lost", "lost", "lost", "won"]
    round_.refresh_from_db()
    assert (round_.attempts, round_.worker) == (1, f"racer {answers.index('won')}")
    assert round_.events.filter(to_state="training").count() == 1


STARTS = """
    import django, sys
    django.setup()
    from annotate.models import Project
    from training.rounds import state_machine
    from training.rounds.starts import RoundError
    project = Project.objects.get()
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        print(state_machine.start(project, None).number)
    except RoundError as error:
        print("refused")
"""


def test_of_two_processes_that_start_a_round_at_once_one_does(ready_project: Any) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(STARTS)],
            cwd=settings.BASE_DIR,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    answers = sorted(racer.communicate("go\n", timeout=60)[0].strip() for racer in racers)
    assert answers == ["1", "refused"]
    assert Round.objects.count() == 1


BROKERS = {
    "redis that refuses": "redis://127.0.0.1:1/0",
    "amqp that refuses": "amqp://guest@127.0.0.1:1//",
}

POSTS = """
    import django, sys
    django.setup()
    from django.test import Client
    from annotate.models import Project, User
    from training.views.forms import RoundForm
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.get(username="olive"))
    values = {field.name: field.value() for field in RoundForm(Project.objects.get())}
    values = {name: value for name, value in values.items() if value is not None and value is not False}
    response = client.post(sys.argv[1], values, follow=True)
    assert response.status_code == 200, response.status_code
    print(response.content.decode())
"""


@pytest.mark.parametrize("broker", BROKERS.values(), ids=BROKERS.keys())
def test_a_round_is_sent_later_when_the_broker_was_away(broker: str, ready_project: Any, owner: Any) -> None:
    where = reverse("rounds", args=[ready_project.slug])
    Worker.objects.create(name="w", queues=["training"], seen_at=timezone.now())
    page = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(POSTS), where],
        cwd=settings.BASE_DIR,
        env=environment(CELERY_BROKER_URL=broker, WHETSTONE_HEARTBEAT_SECONDS="60"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert page.returncode == 0, page.stderr
    assert "The message broker cannot be reached. The round is kept" in page.stdout
    round_ = Round.objects.get()
    assert (round_.state, round_.enqueued_at) == ("queued", None)
    sweeping.sweep_rounds()  # this process has a broker that works
    round_.refresh_from_db()
    assert round_.enqueued_at is not None
    assert not Metric.objects.exists()
