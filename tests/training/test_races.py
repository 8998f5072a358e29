"""Acts of an admin and a worker at the same moment: nothing is taken back, doubled or attributed wrongly."""

import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.urls import reverse
from django.utils import timezone

from annotate.forms.projects import ProjectForm
from annotate.judgments import judging
from annotate.models import Comparison, Policy, Project, Prompt, Snapshot
from annotate.pairs import snapshots
from annotate.projects import lifecycle
from annotate.queueing import queue
from tests.factories import TIE, say
from tests.meetings import wait_for_the_other
from tests.training.pages import as_sent
from training.engine.errors import LockedError
from training.engine.rundir import RunDirectory, write_jsonl
from training.models import Round
from training.provenance import forgetting
from training.provenance.consequences import person_targets, prompt_target
from training.rounds import child_process, deciding, results, runner, state_machine, sweeping
from training.rounds.state_machine import State


@pytest.fixture
def writing(project: Project, owner: Any) -> Round:
    """Return a first round that a worker has claimed, with the samples it wrote: two for one prompt."""
    prompt = Prompt(project=project)
    prompt.set_content("A review begins")
    prompt.save()
    claimed = state_machine.claim_round(state_machine.write(project, owner, 1).pk, "a worker")
    assert claimed is not None
    sample = {"id": f"fresh/{claimed.number}/{prompt.pk}", "token_ids": [1], "logprob": -1.0, "seed": 1}
    files = RunDirectory(claimed.run_dir)
    files.root.mkdir(parents=True)
    texts = [{"completion": text, "finish_reason": "stop"} for text in ("good", "bad")]
    write_jsonl(files.samples, [sample | text for text in texts])
    return claimed


@pytest.mark.django_db
def test_a_policy_that_a_round_writes_with_keeps_its_base_model(writing, owner, client_for, settings):
    settings.BASE_MODELS = ["hub/*"]
    address = reverse("settings", args=["reviews"])
    client = client_for(owner)
    data = as_sent(client.get(address).context["form"]) | {"base_model": "hub/other"}
    assert client.post(address, data).status_code == 302
    assert Project.objects.get().current_policy.base_model == "hub/other"
    runner.finish(writing, RunDirectory(writing.run_dir))
    comparison = Comparison.objects.get()
    assert comparison.first.policy == comparison.second.policy == writing.start_policy
    assert Policy.objects.get(pk=writing.start_policy.pk).base_model == "starter"


@pytest.mark.django_db
def test_saving_the_settings_takes_no_promotion_back(make_round, owner, client_for, monkeypatch):
    round_ = make_round("ready")
    address = reverse("settings", args=["reviews"])
    data = as_sent(client_for(owner).get(address).context["form"])
    check = ProjectForm.full_clean

    def meanwhile(form: Any) -> None:
        check(form)
        if form.is_bound and deciding.promote(Round.objects.get(), owner):
            lifecycle.archive(Project.objects.get())

    monkeypatch.setattr(ProjectForm, "full_clean", meanwhile)
    assert client_for(owner).post(address, data).status_code == 302
    project = Project.objects.get()
    assert project.current_policy == round_.result_policy
    assert project.archived_at


@pytest.mark.django_db
def test_an_old_admin_page_takes_no_promotion_back(make_round, owner, client_for):
    owner.is_staff = owner.is_superuser = True
    owner.save()
    round_ = make_round("ready")
    address = reverse("admin:annotate_project_change", args=[round_.project_id])
    client = client_for(owner)
    opened = as_sent(client.get(address).context["adminform"].form)
    data = opened | {"name": "Another name", "reasons": "[]", "criteria": "[]", "guidelines": "Be kind."}
    data |= {"memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0}
    assert deciding.promote(round_, owner)
    answer = client.post(address, data)
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    project = Project.objects.get()
    assert (project.name, project.current_policy) == ("Another name", round_.result_policy)


@pytest.mark.django_db
def test_a_gate_compares_with_the_policy_current_at_its_start(make_round, owner, tiny, settings):
    round_ = make_round("ready")
    (settings.VAR / round_.result_policy.adapter).mkdir(parents=True)
    project = Project.objects.get()  # as a request to start the next one read it
    assert deciding.promote(round_, owner)
    assert state_machine.start(project, owner, tiny).opponent == round_.result_policy


@pytest.mark.django_db
def test_new_comparisons_need_what_the_project_asks_by_then(writing):
    assert writing.project.judgments_needed == 1
    Project.objects.update(judgments_needed=3)
    lifecycle.change_needed(Project.objects.get(), 3)
    runner.finish(writing, RunDirectory(writing.run_dir))
    assert Comparison.objects.get().needed == 3


@pytest.mark.django_db
def test_a_worker_that_lost_its_round_leaves_the_files_alone(make_round, settings):
    slow = state_machine.claim_round(make_round("queued").pk, "slow")  # its machine sleeps from here on
    Round.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=settings.SILENT_SECONDS + 1))
    sweeping.sweep_rounds()
    quick = state_machine.claim_round(slow.pk, "quick")
    files = RunDirectory(quick.run_dir)
    runner.prepare(quick, files)
    files.checkpoints.mkdir()
    runner.run(slow)
    assert files.checkpoints.exists()


def test_a_process_of_another_machine_is_not_looked_for_here(tmp_path, monkeypatch):
    """Workers that share the files do not share the numbers of their processes."""
    monkeypatch.setattr(child_process, "GRACE_SECONDS", 0.2)
    files = RunDirectory(tmp_path)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as bystander, files.locked():
        (tmp_path / ".lock").write_text(f"{bystander.pid} elsewhere")
        with pytest.raises(LockedError, match=f"in use by process {bystander.pid} on elsewhere"):
            child_process.end_orphan(files)
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_writes_its_results_for_long_is_not_silent(writing, monkeypatch, settings):
    settings.SILENT_SECONDS = 0
    save = results.NewComparisons.save

    def slowly(batch: Any, round_: Round) -> None:
        save(batch, round_)
        sweep.start()
        wait_for_the_other(lambda: not sweep.is_alive())

    sweep = threading.Thread(target=in_another_connection, args=[sweeping.sweep_rounds])
    monkeypatch.setattr(results.NewComparisons, "save", slowly)
    runner.finish(writing, RunDirectory(writing.run_dir))
    sweep.join(60)
    assert not sweep.is_alive()
    assert Round.objects.get().state == State.WRITTEN


@pytest.mark.django_db(transaction=True)
def test_a_roll_back_and_a_verdict_do_not_wait_for_each_other(
    make_round, owner, make_member, make_comparisons
):
    round_ = make_round("promoted")
    project = Project.objects.get()
    comparison = make_comparisons(1, needed=2)[0]
    round_.fresh.set([comparison])
    person = make_member("pia", "annotator")
    claim = queue.claim(project, person)
    settled, rolled_back = threading.Event(), threading.Event()

    def judge() -> None:
        with transaction.atomic():
            judging.record(project, person, claim.token, TIE)
            settled.set()
            wait_for_the_other(rolled_back.is_set)  # it has the project, and waits for the comparison

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(in_another_connection, judge)
        assert settled.wait(60)
        deciding.roll_back(project, round_.start_policy, owner)
        rolled_back.set()
        other.result(60)
    assert Project.objects.get().current_policy == round_.start_policy


@pytest.mark.django_db(transaction=True)
def test_work_judged_during_a_rejection_is_not_withdrawn(
    make_round, owner, make_member, make_comparisons, commits_first
):
    round_ = make_round("ready")
    comparison = make_comparisons(1)[0]
    round_.fresh.set([comparison])
    person = make_member("pia", "annotator")
    claim = queue.claim(Project.objects.get(), person)
    other = commits_first(lambda: judging.record(claim.project, person, claim.token, TIE))
    assert deciding.reject(round_, owner)
    other.result()
    comparison.refresh_from_db()
    assert comparison.judged == comparison.needed
    assert comparison.withdrawn_at is None


def in_another_connection(act: Callable[[], Any]) -> None:
    try:
        act()
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_a_models_files_are_read_before_the_lock(make_round, owner, tiny, monkeypatch):
    """A folder may lie on a slow disk, and everybody who judges waits for the project's row."""
    looked_at, check = [], state_machine.check_model

    def look(plan: Any) -> None:
        looked_at.append(connection.in_atomic_block)
        check(plan)

    monkeypatch.setattr(state_machine, "check_model", look)
    round_ = make_round("rejected")
    state_machine.cancel(state_machine.retrain(round_, round_.start_policy, owner), owner)
    state_machine.cancel(state_machine.write(round_.project, owner, 1), owner)
    assert looked_at == [False, False, False]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite locks no rows")
@pytest.mark.django_db(transaction=True)
def test_a_round_is_not_resumed_while_something_is_forgotten(make_round):
    """Its worker would freeze pairs of it. Who forgets holds the project."""
    failed = make_round("failed")
    with ThreadPoolExecutor(1) as other:
        with transaction.atomic():
            Project.objects.select_for_update(no_key=True).get()
            resuming = other.submit(in_another_connection, lambda: state_machine.resume(failed))
            wait_for_the_other(resuming.done)
            assert Round.objects.get().state == "failed"
        resuming.result()
    assert Round.objects.get().state == "queued"


@pytest.mark.django_db(transaction=True)
def test_of_two_base_models_chosen_at_once_one_is_left(project, settings, commits_first):
    """The second admin's choice replaces what the first one chose, not what both saw before."""
    settings.BASE_MODELS = ["hub/*"]
    other = commits_first(lambda: lifecycle.start_from(Project.objects.get(), "hub/first"))
    lifecycle.start_from(project, "hub/second")
    other.result()
    assert [policy.base_model for policy in Policy.objects.all()] == ["hub/second"]
    assert Project.objects.get().current_policy == Policy.objects.get()


@pytest.mark.django_db(transaction=True)
def test_settings_that_two_admins_save_at_once_are_all_kept(project, owner, settings, commits_first):
    settings.BASE_MODELS = ["hub/*"]

    def save(column: str, value: Any, base_model: str) -> None:
        mine = Project.objects.get()
        setattr(mine, column, value)
        lifecycle.change_settings(mine, owner, [column], changed=[column], base_model=base_model)

    other = commits_first(lambda: save("name", "Films", "hub/first"))
    save("lease_minutes", 7, "hub/second")
    other.result()
    saved = Project.objects.get()
    assert (saved.name, saved.lease_minutes) == ("Films", 7)
    assert saved.current_policy.base_model == "hub/second"
    assert sorted(saved.trail.filter(verb="settings").values_list("target", flat=True)) == [
        "lease_minutes",
        "name",
    ]


@pytest.mark.django_db(transaction=True)
def test_a_round_keeps_its_base_model_when_another_is_chosen(project, owner, settings, commits_first):
    """A policy that a round is about to start from is not deleted as one that was never used."""
    settings.BASE_MODELS = ["hub/*"]
    Prompt.objects.create(project=project, content="A film:", digest="1")
    other = commits_first(lambda: state_machine.write(Project.objects.get(), owner, 1))
    lifecycle.start_from(project, "hub/second")
    other.result()
    assert Round.objects.get().start_policy.base_model == "starter"
    assert Project.objects.get().current_policy.base_model == "hub/second"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["a person", "a prompt"])
def test_a_snapshot_holds_nothing_of_what_is_forgotten_meanwhile(
    project, make_member, make_comparisons, monkeypatch, what
):
    first, second = make_comparisons(2)
    leaving, staying = make_member("anna", "annotator"), make_member("bela", "annotator")
    say(leaving, first, "first")
    kept = say(staying, second, "first")
    look = snapshots.aggregate

    def meanwhile(*args: Any, **options: Any) -> Any:
        found = look(*args, **options)
        monkeypatch.setattr(snapshots, "aggregate", look)
        if what == "a person":
            forgetting.forget(person_targets(leaving, None), account=leaving)
        else:
            forgetting.forget([prompt_target(first.prompt)])
        return found

    monkeypatch.setattr(snapshots, "aggregate", meanwhile)
    snapshot = snapshots.take_snapshot(project, None)
    [pair] = snapshot.pairs.all()
    assert [judgment.pk for judgment in pair.judgments.all()] == [kept.pk]
    assert (snapshot.forgotten, Snapshot.objects.count()) == (0, 1)
