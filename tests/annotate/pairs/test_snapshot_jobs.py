"""Snapshots of large projects: taken by a worker, once, however often they are asked for."""

import io
import threading
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import IntegrityError
from django.utils import timezone

from annotate import attempts, tasks
from annotate.models import Snapshot, SnapshotJob
from annotate.models.snapshots import SnapshotPair
from annotate.pairs import aggregation, snapshots
from annotate.pairs.frozen import jobs as snapshot_jobs
from annotate.pairs.settings import PairSettings
from annotate.pairs.snapshots import take_snapshot
from annotate.projects import sizes
from tests.factories import judge_all
from tests.waiting import wait_for

PAGE, API = "/p/reviews/snapshots/", "/api/v1/projects/reviews/snapshots/"


@pytest.fixture
def judged(project, teammate, make_comparisons):
    comparisons = make_comparisons(4)
    judge_all(project, teammate, default="first")
    return comparisons


@pytest.fixture
def large(judged, monkeypatch):
    """Let a project with any judgment be a large one."""
    monkeypatch.setattr(sizes, "LARGE", 0)
    return judged


def ask(client):
    answer = client.post(PAGE)
    assert (answer.status_code, "/jobs/" in answer.url) == (302, True)
    return SnapshotJob.objects.get(pk=answer.url.rstrip("/").rpartition("/")[2])


def test_a_worker_takes_the_snapshot_of_a_large_project(large, project, researcher, client_for):
    client = client_for(researcher)
    job = ask(client)
    page = f"{PAGE}jobs/{job.pk}/"
    assert "Waiting for a worker" in client.get(page).content.decode()
    assert page in client.get(PAGE).content.decode()
    assert not Snapshot.objects.exists()
    tasks.take_snapshot(str(job.pk))
    tasks.take_snapshot(str(job.pk))  # a message that arrives twice
    job.refresh_from_db()
    snapshot = Snapshot.objects.get()
    assert (job.state, job.attempt, job.share, job.snapshot) == ("done", 1, 1, snapshot)
    assert (snapshot.created_by, snapshot) == (researcher, take_snapshot(project, None))
    assert client.get(page).url == f"{PAGE}{snapshot.digest}/"
    assert snapshot.digest[:12] in client.get(page, headers={"HX-Request": "true"}).content.decode()


def test_the_api_answers_with_a_job_and_then_its_digest(large, researcher, client_for):
    client = client_for(researcher)
    made = client.post(API, {"ties": "half"}, content_type="application/json")
    assert (made.status_code, made.json()["state"], made.json()["snapshot"]) == (202, "queued", None)
    assert made.json()["settings"]["ties"] == "half"
    path = f"{API}jobs/{made.json()['id']}/"
    assert made.headers["Location"] == path
    assert client.get(path).json() == made.json()
    assert client.get(f"{API}jobs/").json()["results"] == [made.json()]
    tasks.take_snapshot(made.json()["id"])
    found = client.get(path).json()
    assert (found["state"], found["share"]) == ("done", 1.0)
    assert client.get(f"{API}{found['snapshot']}/").json()["settings"]["ties"] == "half"
    refused = client.post(f"{path}cancel/")
    assert refused.status_code == 409
    assert refused.json()["error"] == "This snapshot is already taken, was cancelled or failed."


def test_an_answer_that_is_replayed_says_where_its_job_is(large, researcher, client_for):
    client, key = client_for(researcher), {"Idempotency-Key": "one"}
    made, again = (client.post(API, {}, content_type="application/json", headers=key) for _ in range(2))
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.status_code, again.json()) == (202, made.json())
    assert again.headers["Location"] == made.headers["Location"] == f"{API}jobs/{made.json()['id']}/"


def test_a_small_project_gets_its_snapshot_at_once(judged, researcher, client_for):
    client = client_for(researcher)
    made = client.post(API, {}, content_type="application/json")
    assert (made.status_code, len(made.json()["digest"])) == (201, 64)
    assert client.post(PAGE).url == f"{PAGE}{made.json()['digest']}/"
    assert not SnapshotJob.objects.exists()


def test_few_judgments_that_take_long_become_a_job(judged, researcher, client_for, monkeypatch):
    monkeypatch.setattr(snapshot_jobs, "SECONDS_AT_ONCE", -1.0)
    made = client_for(researcher).post(API, {}, content_type="application/json")
    assert (made.status_code, Snapshot.objects.exists()) == (202, False)


def test_who_asks_again_is_given_the_job_under_way(large, owner, researcher, client_for):
    assert ask(client_for(owner)) == ask(client_for(researcher))
    other = client_for(owner).post(API, {"ties": "half"}, content_type="application/json")
    assert SnapshotJob.objects.count() == 2
    tasks.take_snapshot(other.json()["id"])
    again = client_for(owner).post(API, {"ties": "half"}, content_type="application/json")
    tasks.take_snapshot(again.json()["id"])
    assert other.json()["id"] != again.json()["id"]
    assert Snapshot.objects.count() == 1


def test_no_more_than_a_few_snapshots_wait(large, owner, client_for):
    client = client_for(owner)
    for smoothing in range(1, 1 + snapshot_jobs.LIVE_AT_MOST):
        body = {"smoothing": smoothing}
        assert client.post(API, body, content_type="application/json").status_code == 202
    refused = client.post(API, {"smoothing": 50}, content_type="application/json")
    assert (refused.status_code, "Other snapshots" in refused.json()["error"]) == (409, True)
    page = client.post(PAGE)
    assert (page.status_code, "Other snapshots" in page.content.decode()) == (422, True)


def test_a_cancelled_job_stores_nothing(large, project, owner, client_for, monkeypatch):
    client = client_for(owner)
    job = ask(client)
    digest = snapshots._digest

    def digest_and_cancel(found, watch):
        client.post(f"{PAGE}jobs/{job.pk}/cancel/")
        return digest(found, watch)

    monkeypatch.setattr(snapshots, "_digest", digest_and_cancel)
    tasks.take_snapshot(str(job.pk))
    job.refresh_from_db()
    assert (job.state, Snapshot.objects.exists(), SnapshotPair.objects.exists()) == (
        "cancelled",
        False,
        False,
    )
    assert not project.trail.filter(verb="snapshot").exists()
    assert "Cancelled." in client.get(f"{PAGE}jobs/{job.pk}/").content.decode()


def test_an_error_is_a_sentence_on_the_page(large, owner, client_for, monkeypatch):
    client = client_for(owner)
    job = ask(client)

    def fail(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshots, "store_pairs", fail)
    tasks.take_snapshot(str(job.pk))
    page = client.get(f"{PAGE}jobs/{job.pk}/").content.decode()
    assert "The server’s disk is full." in page
    assert client.get(f"{API}jobs/{job.pk}/").json()["state"] == "failed"
    monkeypatch.undo()
    assert not Snapshot.objects.exists()


def test_a_worker_that_was_killed_is_replaced(large, owner, client_for, django_capture_on_commit_callbacks):
    job = ask(client_for(owner))
    long_ago = timezone.now() - 2 * attempts.SILENCE
    SnapshotJob.objects.update(state="running", attempt=1, heard_at=long_ago)
    SnapshotJob.objects.update(share=0.6)
    sent = []
    with django_capture_on_commit_callbacks(execute=True):
        snapshot_jobs.look_after_all(sent.append)
    assert (sent, SnapshotJob.objects.get().share) == ([str(job.pk)], 0)
    tasks.take_snapshot(*sent)
    job.refresh_from_db()
    assert (job.state, job.attempt, Snapshot.objects.count()) == ("done", 2, 1)


def test_a_replaced_worker_stores_nothing(large, owner, client_for, monkeypatch):
    job = ask(client_for(owner))
    store = snapshots.store_pairs

    def lose_and_store(snapshot, pairs):
        store(snapshot, pairs)
        SnapshotJob.objects.update(attempt=2)

    monkeypatch.setattr(snapshots, "store_pairs", lose_and_store)
    tasks.take_snapshot(str(job.pk))
    assert not Snapshot.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_heartbeat_tells_how_far_it_is(large, owner, client_for, monkeypatch):
    job = ask(client_for(owner))
    monkeypatch.setattr(attempts, "QUIET_HEARTBEAT", 0.02)
    digest, shares = snapshots._digest, []

    def look_and_digest(found, watch):
        sha = digest(found, watch)
        wait_for(lambda: SnapshotJob.objects.get().share == 0.5, 30)
        shares.append(SnapshotJob.objects.get().share)
        return sha

    monkeypatch.setattr(snapshots, "_digest", look_and_digest)
    snapshot_jobs.take(str(job.pk))
    assert shares == [0.5]
    assert SnapshotJob.objects.get().state == "done"


@pytest.mark.django_db(transaction=True)
def test_without_a_worker_the_page_has_it_taken(large, owner, client_for):
    client = client_for(owner)
    job = ask(client)
    SnapshotJob.objects.update(heard_at=timezone.now() - 2 * attempts.PATIENCE)
    client.get(f"{PAGE}jobs/{job.pk}/", headers={"HX-Request": "true"})
    wait_for(lambda: SnapshotJob.objects.get().state == "done")
    wait_for(lambda: not [t for t in threading.enumerate() if str(job.pk) in t.name])


def test_only_readers_of_the_project_see_and_stop_a_job(
    large, owner, researcher, teammate, outsider, client_for
):
    job = ask(client_for(owner))
    page = f"{PAGE}jobs/{job.pk}/"
    for user, status in ((researcher, 200), (teammate, 403), (outsider, 404), (None, 302)):
        client = client_for(user)
        assert client.get(page).status_code == status
        if status != 200:
            assert client.post(f"{page}cancel/").status_code == status
            job.refresh_from_db()
            assert job.state == "queued"


def test_old_jobs_that_are_over_are_deleted(project):
    now, kept = timezone.now(), snapshot_jobs.KEPT
    for state, ended in (("queued", None), ("done", 2 * kept), ("failed", 2 * kept), ("cancelled", kept / 2)):
        SnapshotJob.objects.create(
            project=project,
            settings_key=state,
            state=state,
            created_at=now - 20 * kept,
            finished_at=ended and now - ended,
        )
    tasks.sweep_exports()
    assert {job.state for job in SnapshotJob.objects.all()} == {"queued", "cancelled"}


def test_a_job_keeps_every_setting(large, project, owner):
    settings = PairSettings(ties="half", policies=(project.current_policy_id,), smoothing=0.5)
    job = snapshot_jobs.freeze(project, owner, settings, lambda _key: None)
    snapshot_jobs.take(str(job.pk))
    assert PairSettings(**Snapshot.objects.get().settings) == settings
    assert timedelta() <= timezone.now() - Snapshot.objects.get().created_at


def forget(user):
    call_command(
        "forget", "--annotator", user.username, "--project", "reviews", "--yes", stderr=io.StringIO()
    )


def test_a_forgotten_person_asked_for_no_snapshot(large, owner, researcher, client_for):
    client = client_for(researcher)
    assert client.post(f"{PAGE}jobs/{ask(client).pk}/cancel/").status_code == 302
    waiting = ask(client)
    forget(researcher)
    assert set(SnapshotJob.objects.values_list("state", "created_by")) == {("cancelled", None)}
    assert researcher.username not in client_for(owner).get(PAGE).content.decode()
    tasks.take_snapshot(str(waiting.pk))
    assert not Snapshot.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keeps_account", [True, False])
def test_who_is_forgotten_meanwhile_is_not_named(
    large, project, researcher, client_for, monkeypatch, keeps_account
):
    job = ask(client_for(researcher))
    aggregate, calls = snapshots.aggregate, []

    def forget_and_aggregate(*given, **options):
        calls.append(given)
        if len(calls) == 1:
            forget(researcher) if keeps_account else researcher.delete()
        return aggregate(*given, **options)

    monkeypatch.setattr(snapshots, "aggregate", forget_and_aggregate)
    tasks.take_snapshot(str(job.pk))
    job.refresh_from_db()
    assert (job.state, job.created_by, len(calls)) == ("cancelled" if keeps_account else "done", None, 1)
    assert list(Snapshot.objects.values_list("created_by", flat=True)) == ([] if keeps_account else [None])
    assert not project.trail.filter(verb="snapshot", who_name=researcher.username).exists()


@pytest.mark.django_db(transaction=True)
def test_a_cancelled_job_ends_while_it_aggregates(large, owner, client_for, monkeypatch):
    client = client_for(owner)
    job = ask(client)
    monkeypatch.setattr(attempts, "QUIET_HEARTBEAT", 0.02)
    monkeypatch.setattr(aggregation, "LOOK_EVERY", 1)
    decide, decisions = aggregation.decide, []

    def decide_and_cancel(*given, **options):
        for decision in decide(*given, **options):
            decisions.append(decision)
            yield decision
            if len(decisions) == 1:
                assert client.post(f"{API}jobs/{job.pk}/cancel/").status_code == 200
                wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("heartbeat")])

    monkeypatch.setattr(aggregation, "decide", decide_and_cancel)
    tasks.take_snapshot(str(job.pk))
    job.refresh_from_db()
    assert (job.state, len(decisions), Snapshot.objects.exists()) == ("cancelled", 2, False)


@pytest.mark.django_db(transaction=True)
def test_pages_take_no_two_snapshots_at_once(large, owner, client_for, monkeypatch):
    aggregate, is_free, begun = snapshots.aggregate, threading.Event(), []

    def wait_and_aggregate(*given, **options):
        begun.append(given)
        assert is_free.wait(60)
        return aggregate(*given, **options)

    monkeypatch.setattr(snapshots, "aggregate", wait_and_aggregate)
    client = client_for(owner)
    bodies = ({}, {"ties": "half"})
    paths = [
        f"{API}jobs/{client.post(API, body, content_type='application/json').json()['id']}/"
        for body in bodies
    ]
    SnapshotJob.objects.update(heard_at=timezone.now() - 2 * attempts.PATIENCE)
    try:
        for path in 2 * paths:
            client.get(path)
        wait_for(lambda: begun)
        assert SnapshotJob.objects.filter(state="running").count() == len(begun) == 1
        client.post(f"{paths[0]}cancel/")
        client.get(paths[1])
        assert SnapshotJob.objects.filter(state="queued").count() == 1
    finally:
        is_free.set()

    def is_done():
        client.get(paths[1])
        return SnapshotJob.objects.filter(state="done").exists()

    wait_for(is_done)
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("Snapshot job")])
    assert [len(begun), Snapshot.objects.count()] == [2, 1]


def test_a_job_that_ends_at_the_same_moment_is_asked_for_again(large, owner, client_for, monkeypatch):
    create, refused = SnapshotJob.objects.create, []

    def be_refused_once(**columns):
        if not refused:
            refused.append(columns)
            raise IntegrityError("another was faster, and has ended")
        return create(**columns)

    monkeypatch.setattr(SnapshotJob.objects, "create", be_refused_once)
    assert ask(client_for(owner)).state == "queued"


@pytest.mark.parametrize("changes", [{"newer": 1}, {"ties": "newer"}], ids=["setting", "value"])
def test_settings_of_another_version_are_named(large, owner, client_for, changes):
    job = ask(client_for(owner))
    SnapshotJob.objects.update(settings=job.settings | changes)
    tasks.take_snapshot(str(job.pk))
    job.refresh_from_db()
    assert job.state == "failed"
    assert f"The worker does not know the setting {min(changes)}, or its value" in job.error
