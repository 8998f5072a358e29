"""Wrong clocks: what decides about rounds is the database's time, and nothing waits for a time told wrongly."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from celery.beat import Scheduler, Service
from django.conf import settings as site
from django.db import connection
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from annotate.models import Claim, Project
from annotate.queueing import queue
from tests.training.pages import text
from tests.training.workers import celery_worker
from tests.waiting import wait_for
from training.models import Round, Sweep, Worker
from training.rounds import state_machine, sweeping

HOURS = timedelta(hours=2)


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Any:
    """wrong(HOURS): this process's clock is ahead by so much."""

    def put(by: timedelta) -> None:
        told = timezone.now
        monkeypatch.setattr(timezone, "now", lambda: told() + by)

    return put


def silent() -> timedelta:
    return timedelta(seconds=site.SILENT_SECONDS + 1)


@pytest.mark.django_db
@pytest.mark.parametrize("by", [HOURS, -HOURS], ids=["ahead", "behind"])
def test_a_worker_with_a_wrong_clock_is_not_silent(make_round: Any, wrong: Any, by: timedelta) -> None:
    round_ = make_round("queued")
    wrong(by)
    claimed = state_machine.claim_round(round_.pk, "worker of the tests")
    assert claimed is not None
    assert state_machine.heartbeat(claimed, step=1)
    state_machine.advance(claimed, Round.State.SAMPLING)
    near = timedelta(seconds=30)
    recent = (Now() - near, Now() + near)
    assert Round.objects.filter(heartbeat_at__range=recent, started_at__range=recent).count() == 1
    assert claimed.events.filter(created_at__range=recent).count() == claimed.events.count() == 3


@pytest.mark.django_db
@pytest.mark.parametrize("by", [HOURS, -HOURS], ids=["ahead", "behind"])
def test_a_sweep_with_a_wrong_clock_takes_nothing_back(
    make_round: Any, project: Project, teammate: Any, wrong: Any, by: timedelta
) -> None:
    round_ = make_round("training")
    claim = queue.claim(project, teammate)
    wrong(by)
    sweeping.sweep("a worker")
    round_.refresh_from_db()
    assert (round_.state, round_.losses) == ("training", 0)
    assert claim is None or Claim.objects.get(pk=claim.pk).state == "live"
    Round.objects.update(heartbeat_at=Now() - silent())
    sweeping.sweep("a worker")
    round_.refresh_from_db()
    assert (round_.state, round_.losses) == ("queued", 1)


@pytest.mark.django_db
def test_a_heartbeat_of_a_clock_that_was_ahead_counts_from_now(make_round: Any) -> None:
    round_ = make_round("training")
    Round.objects.update(heartbeat_at=Now() + HOURS)
    sweeping.sweep_rounds()
    assert Round.objects.get().state == "training"
    assert Round.objects.filter(heartbeat_at__lte=Now()).exists()
    Round.objects.update(heartbeat_at=Now() - silent())
    sweeping.sweep_rounds()
    round_.refresh_from_db()
    assert round_.state == "queued"


@pytest.mark.django_db(transaction=True)
def test_sweeps_at_the_same_moment_count_one_silence(make_round: Any) -> None:
    round_ = make_round("training")
    Round.objects.update(heartbeat_at=Now() - silent())

    def sweep() -> None:
        try:
            sweeping.sweep("a worker")
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(sweep) for _ in range(4)]:
            done.result()
    round_.refresh_from_db()
    assert (round_.state, round_.losses) == ("queued", 1)
    assert round_.events.filter(to_state="queued", from_state="training").count() == 1
    assert Sweep.objects.count() == 1


@pytest.mark.django_db
def test_a_message_sent_while_the_clock_was_ahead_is_sent_again(
    make_round: Any, django_capture_on_commit_callbacks: Any
) -> None:
    make_round("queued")
    Round.objects.update(enqueued_at=Now() + HOURS)
    sweeping.sweep_rounds()
    assert Round.objects.filter(enqueued_at__lte=Now()).exists()


@pytest.mark.django_db
def test_a_worker_seen_by_a_clock_that_was_ahead_is_not_there(worker: Worker) -> None:
    assert Worker.for_training() == [worker]
    Worker.objects.update(seen_at=Now() + HOURS)
    assert Worker.for_training() == []


@pytest.mark.django_db
def test_a_sweep_is_due_again_when_the_clock_was_put_back() -> None:
    assert Sweep.is_due(15)
    sweeping.sweep("a worker")
    assert not Sweep.is_due(15)
    for at in (Now() + HOURS, Now() - HOURS):
        Sweep.objects.update(at=at)
        assert Sweep.is_due(15)
    sweeping.sweep("another")
    assert Sweep.objects.get().by == "another"


def test_beat_remembers_no_time_beyond_its_own_life() -> None:
    assert (
        type(Service(current_app, scheduler_cls=current_app.conf.beat_scheduler).get_scheduler()) is Scheduler
    )


@pytest.mark.django_db
def test_the_rounds_say_when_the_last_sweep_was(
    make_round: Any, worker: Worker, project: Project, owner: Any, client_for: Any
) -> None:
    make_round("queued")
    client, address = client_for(owner), reverse("rounds", args=[project.slug])
    assert "No sweep yet." in text(client.get(address))
    sweeping.sweep("celery@here/1")
    last = "Last sweep for silent workers and lost messages: <time [^>]*>now</time>"
    assert re.search(last, text(client.get(address)))
    Sweep.objects.update(at=Now() - HOURS)
    assert "No sweep since" in text(client.get(address))
    assert "by celery@here/1." in text(client.get(address))


@pytest.mark.chaos
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seconds", [3600, -3600], ids=["ahead", "behind"])
def test_a_worker_an_hour_off_finds_and_finishes_a_round(
    seconds: int, project: Project, owner: Any, make_comparisons: Any, tmp_path: Path
) -> None:
    """Without beat and with the round's message lost: its own sweep sends it. The sweeps here have another clock."""
    make_comparisons(1)
    round_ = state_machine.write(project, owner, 1)
    with current_app.connection_or_acquire() as broker:
        broker.default_channel.queue_purge("training")
    Round.objects.update(enqueued_at=None)
    skew = {"PYTHONPATH": str(Path(__file__).parent / "skew"), "WHETSTONE_TEST_SKEW": str(seconds)}
    with celery_worker(tmp_path / "skewed.log", beat=False, **skew) as worker:

        def over() -> bool:
            assert worker.poll() is None
            sweeping.sweep_rounds(Round.objects.filter(state__in=Round.RUNNING))
            round_.refresh_from_db()
            return round_.state not in Round.LIVE

        wait_for(over)
        assert wait_for(Worker.for_training)
    assert (round_.state, round_.reason, round_.attempts) == ("written", "", 1)
    assert Sweep.objects.get().by == round_.worker
