"""Forgetting a person, a prompt or an import: nothing of it is left, and a retraining knows nothing of it."""

import json
import shutil
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from annotate.imports.files import earlier
from annotate.models import (
    Comparison,
    Export,
    Import,
    Judgment,
    Policy,
    Project,
    Prompt,
    Snapshot,
    TrailEntry,
    User,
)
from annotate.people import external
from annotate.projects import trail
from tests import factories
from tests.annotate.invariants import broken_rules
from training.engine.rundir import RunDirectory, write_jsonl
from training.models import Round
from training.provenance.consequences import find_consequences, person_targets, prompt_target
from training.rounds import deciding, lineage, runner, state_machine
from training.rounds.choosing.terms import Terms, keep_terms, read_terms
from training.rounds.phases.choosing import fit_probe
from training.rounds.phases.training import train as train_here
from training.rounds.phases.voting import BY_VOTES, vote
from training.rounds.phases.work import Work

pytestmark = pytest.mark.django_db

ALONE: dict[str, Any] = {
    "training": {
        "batch_size": 4,
        "max_length": 128,
        "threads": 1,
        "kl_samples": 0,
        "epochs": 1,
        "template_date": "2026-01-01",
    },
    "fresh_comparisons": 0,
    "gate_comparisons": 0,
}
FIRST_ID = 900_000  # of comparisons, so that two histories have the same


def live_through(project: Project, rosa: User, toni: User | None) -> Round:
    """Judge 16 comparisons, rosa's own verdicts always, toni's with them if they are there, and start a round."""
    for number in range(16):
        comparison = factories.compare(
            project,
            f"Review number {number} begins",
            f" splendidly {number}.",
            f" dreadfully {number}.",
            pk=FIRST_ID + number,
            needed=2,
        )
        if number == 15:
            comparison.prompt.held_out = True
            comparison.prompt.save()
        if number != 3:
            factories.say(rosa, comparison, "first", strength=1 + number % 3)
        if toni is not None:  # agrees, outvotes nothing, and makes ties where rosa had preferences
            factories.say(toni, comparison, "first" if number % 4 else "second", strength=2)
    return state_machine.start(project, None, ALONE)


def train(round_: Round, *, whole: bool = False) -> RunDirectory:
    """Bring a queued round to a promoted policy; `whole` with a real training."""
    claimed = state_machine.claim_round(round_.pk, "worker of the tests")
    assert claimed is not None
    files = RunDirectory(claimed.run_dir)
    runner.prepare(claimed, files)
    if whole:
        train_here(Work(claimed, files))
    else:
        files.adapter.mkdir()
    policy = Policy.objects.create(
        project=claimed.project,
        name=f"round {claimed.number}",
        kind=Policy.Kind.ADAPTER,
        base_model="starter",
        adapter=f"{claimed.folder}/adapter",
        parent=claimed.start_policy,
    )
    state_machine.advance(claimed, Round.State.SAMPLING)
    state_machine.advance(claimed, Round.State.READY, result_policy=policy)
    deciding.promote(claimed)
    return files


def results(files: RunDirectory) -> dict[str, bytes]:
    names = ("config.json", "pairs.jsonl", "heldout.jsonl", "adapter/adapter_model.safetensors")
    return {name: (files.root / name).read_bytes() for name in names if (files.root / name).exists()}


def forget(*arguments: str, project: str | None = "reviews") -> str:
    output = StringIO()
    where = ["--project", project] if project else []
    call_command("forget", *arguments, *where, "--yes", stdout=output, stderr=output)
    return output.getvalue()


@pytest.fixture
def rosa(make_member: Any) -> User:
    return make_member("rosa-judges", "annotator")  # type: ignore[no-any-return]


@pytest.mark.parametrize(("votes", "counts"), [("equal", False), ("reliability", True)])
def test_gold_shapes_a_round_where_votes_count_by_reliability(
    ready_project: Project, rosa: User, votes: str, counts: bool
) -> None:
    gold = factories.compare(ready_project, "Gold", " a", " b", kind="gold")
    factories.say(rosa, gold, "first")
    round_ = state_machine.start(ready_project, None, {**ALONE, "pairs": {"votes": votes}})
    (target,) = person_targets(rosa, ready_project)
    assert find_consequences(target).rounds == ([round_] if counts else [])


def test_no_attempt_of_a_failed_round_finds_what_was_forgotten(ready_project: Project, rosa: User) -> None:
    """A worker keeps the files of an attempt for the next one: what follows is another one than the next."""
    judged = ready_project.comparisons.latest("pk")
    factories.say(rosa, judged, "first")
    round_ = state_machine.start(ready_project, None, ALONE)
    claimed = state_machine.claim_round(round_.pk, "worker of the tests")
    assert claimed is not None
    state_machine.fail(claimed, "It failed for a test.")
    forget("--annotator", rosa.username)
    round_.refresh_from_db()
    assert round_.attempts == claimed.attempts + 1


@pytest.mark.parametrize(
    "whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["files", "adapter"]
)
def test_a_retraining_equals_a_history_without_them(
    whole: bool,
    project: Project,
    owner: User,
    teammate: User,
    rosa: User,
    django_capture_on_commit_callbacks: Any,
) -> None:
    """The same comparisons under the same ids: first without toni, rolled back; then with toni, forgotten."""
    beginning = transaction.savepoint()
    without = results(train(live_through(project, rosa, None), whole=whole))
    transaction.savepoint_rollback(beginning)
    shutil.rmtree(settings.RUNS)

    first = train(live_through(project, rosa, teammate))
    project.refresh_from_db()
    assert results(first)["pairs.jsonl"] != without["pairs.jsonl"]
    # Later: no part of the round done over.
    factories.say(rosa, Comparison.objects.get(pk=FIRST_ID + 3), "first")
    current = project.policies.get(name="round 1")  # the second goes on from the first
    second = train(state_machine.start(project, None, ALONE, begin=current))
    mine = project.judgments.filter(annotator=rosa).count()

    with django_capture_on_commit_callbacks(execute=True):
        told = forget("--annotator", "toni", "--retrain")
    assert "round 3 does round 1 over" in told
    assert "1 more to do over" in told
    assert not Judgment.objects.filter(annotator=teammate).exists()
    assert project.judgments.filter(annotator=rosa).count() == mine
    for files in (first, second):
        assert not files.pairs.exists()  # after the commit
        assert files.adapter.exists()
    assert not broken_rules(project)

    third = train(Round.objects.get(retrains__number=1), whole=whole)
    assert results(third) == without

    with pytest.raises(CommandError, match="Give --annotator"):
        forget("--retrain", project=None)
    assert "round 4 does round 2 over" in forget("--retrain")
    fourth = Round.objects.get(number=4)
    assert fourth.start_policy == Round.objects.get(number=3).result_policy
    assert fourth.settings["config"]["start_adapter"] == f"{Round.objects.get(number=3).folder}/adapter"
    assert fourth.snapshot.pairs.count() == 16  # type: ignore[union-attr] # with the later judgment


def test_a_reference_is_done_over_before_what_names_it(project: Project, teammate: User, rosa: User) -> None:
    """Round 2 starts from the base model, against the policy of round 1."""
    first = Round.objects.get(folder=f"runs/{train(live_through(project, rosa, teammate)).root.name}")
    against = {**ALONE, "training": {**ALONE["training"], "reference": "round 1"}}
    second = state_machine.start(project, None, against)
    train(second)
    made = Policy.objects.get(name="round 2")
    assert [one.name for one in lineage.find_ancestors(made)] == ["round 1", "starter"]
    assert lineage.find_base(made).name == "starter"
    assert made in lineage.find_descendants(Policy.objects.get(name="round 1"))
    pair = first.snapshot.pairs.first()  # type: ignore[union-attr]
    other = Snapshot.objects.create(project=project, digest="f" * 64, settings={}, counts={})
    others = {"snapshot": other, "created_at": first.created_at - timedelta(days=1)}
    Round.objects.filter(pk=second.pk).update(**others)  # as if its judgments were others
    found = find_consequences(prompt_target(pair.comparison.prompt))  # type: ignore[union-attr]
    assert made in found.policies
    assert (found.rounds, found.descended) == ([first], [second])
    assert made in [one.policy for one in lineage.find_influences(pair.comparison)]  # type: ignore[union-attr]

    Round.objects.filter(pk=second.pk).update(snapshot=second.snapshot, created_at=second.created_at)
    forget("--annotator", "toni")
    Round.objects.filter(pk=first.pk).update(state="rejected")
    with pytest.raises(CommandError, match="its reference round 1 holds what was forgotten and was not"):
        forget("--retrain")
    Round.objects.filter(pk=first.pk).update(state="promoted")
    assert "round 3 does round 1 over" in forget("--retrain")
    train(Round.objects.get(number=3))
    assert "round 4 does round 2 over" in forget("--retrain")
    fourth = Round.objects.get(number=4)
    assert (fourth.start_policy.name, fourth.settings["config"]["start_adapter"]) == ("starter", None)
    assert fourth.settings["config"]["reference"] == "runs/reviews-3/adapter"


def test_nothing_of_a_person_is_left_and_others_keep_theirs(
    project: Project, owner: User, teammate: User, rosa: User, client_for: Any
) -> None:
    trail.record(trail.Verb.INVITED, owner, project=project, target="toni")
    trail.record(trail.Verb.EXPORTED, teammate, project=project, target="pairs.jsonl", annotator="toni")
    round_ = live_through(project, rosa, teammate)
    state_machine.cancel(round_)
    other = Project.objects.create(slug="other", name="Other", current_policy=None)
    policy = Policy.objects.create(project=other, name="theirs", kind="external")
    elsewhere = factories.say(
        teammate, factories.compare(other, "x", "a", "b", policies=(policy, policy)), "first"
    )
    snapshot = Snapshot.objects.get()
    before = snapshot.pairs.count()

    dry = forget("--annotator", "toni", "--dry-run", "--json")
    [listed] = json.loads(dry)
    assert (listed["judgments"], listed["rounds"]) == (16, [1])
    assert Judgment.objects.filter(project=project, annotator=teammate).count() == 16

    forget("--annotator", "toni")
    assert Judgment.objects.filter(annotator=teammate).get() == elsewhere  # the other project is not touched
    assert project.judgments.filter(annotator=rosa).count() == 15
    snapshot.refresh_from_db()
    assert (snapshot.forgotten, snapshot.pairs.count()) == (listed["pairs"], before - listed["pairs"])
    assert Round.objects.get().holds_forgotten
    entries = TrailEntry.objects.filter(project=project)
    assert "toni" not in json.dumps(list(entries.values("who_name", "target", "details")))
    entry = entries.get(verb="forgotten")
    assert (entry.target, entry.details["judgments"]) == ("an annotator", 16)
    with pytest.raises(Exception, match="append-only"), transaction.atomic():
        TrailEntry.objects.update(target="changed")
    page = client_for(owner).get(f"/p/reviews/snapshots/{snapshot.digest}/").content.decode()
    assert "held what was forgotten" in page
    assert "What it held when it was frozen" in page
    assert "What it holds" not in page
    assert (
        f"{snapshot.forgotten} removed since"
        in client_for(owner).get("/p/reviews/snapshots/").content.decode()
    )

    forget("--annotator", f"annotator-{teammate.pk}", project=None)  # everywhere, and the account too
    assert not User.objects.filter(username="toni").exists()
    assert Judgment.objects.filter(annotator=rosa).count() == 15
    assert not broken_rules(project)


def test_an_annotator_of_a_file_is_gone_from_lists_of_the_trail(project: Project, owner: User) -> None:
    people = external.find_or_make(project, ["bea", "Doe, Anna"])
    flagged = factories.compare(project, "poor", "a", "b")
    for pk in people.values():
        flagged.flags.create(annotator_id=pk)
    details = (
        {"annotator": "bea, Doe, Anna, olive", "votes": "bea"},
        {"annotator": None},
        {"invited_by": "olive"},
    )
    entries = [
        trail.record(trail.Verb.EXPORTED, owner, project=project, target="bea", **some) for some in details
    ]
    for pk in people.values():
        with CaptureQueriesContext(connection) as queries:
            forget("--annotator", f"annotator-{pk}")
        assert sum('UPDATE "annotate_trailentry"' in one["sql"] for one in queries) == 1  # others stay
    for entry in entries:
        entry.refresh_from_db()
    assert entries[0].details == {"annotator": "(forgotten), (forgotten), olive", "votes": "bea"}
    assert [entry.details for entry in entries[1:]] == [details[1], details[2]]
    assert {entry.target for entry in entries} == {"bea"}  # an account's, which the file's shares


@pytest.mark.parametrize("kind", ["prompt", "import"])
def test_a_prompt_and_an_import_go_with_all_that_came_of_them(
    kind: str,
    project: Project,
    owner: User,
    teammate: User,
    rosa: User,
    django_capture_on_commit_callbacks: Any,
) -> None:
    files = train(live_through(project, rosa, teammate))
    brought = ContentFile(b"prompt", "a.csv")
    upload = Import.objects.create(
        project=project,
        file=brought,
        filename="a.csv",
        format="csv",
        size=6,
        state="done",
        options={"pass": "forgotten"},
    )
    prepared = Export.objects.create(project=project, query={}, filename="x", file=ContentFile(b"row", "x"))
    records = earlier.path_of(upload)
    records.parent.mkdir(parents=True, exist_ok=True)
    records.touch()
    gone = Prompt.objects.filter(comparisons=FIRST_ID)
    gone.update(batch=f"import {upload.pk}")
    prompt = gone.get()
    (files.root / "prompts.jsonl").write_text(
        json.dumps({"id": f"fresh/1/{prompt.pk}", "prompt": prompt.content})
    )
    with django_capture_on_commit_callbacks(execute=True):
        told = forget(f"--{kind}", str(prompt.pk if kind == "prompt" else upload.pk))
    assert "judgments: 2, comparisons: 1" in told
    assert not Prompt.objects.filter(pk=prompt.pk).exists()
    assert Prompt.objects.count() == Comparison.objects.count() == 15
    assert Import.objects.exists() == (kind == "prompt")
    assert upload.file.storage.exists(upload.file.name) == (kind == "prompt")
    assert records.exists() == (kind == "prompt")
    assert not Export.objects.exists()
    assert not prepared.file.storage.exists(prepared.file.name)
    earlier.forget(upload)
    upload.file.delete(save=False)
    assert not files.prompts.exists()
    assert not broken_rules(project)


def test_a_failed_round_redoes_what_came_of_the_forgotten(
    ready_project: Project,
    teammate: User,
    make_comparisons: Any,
    judge: Any,
    make_round: Any,
    django_capture_on_commit_callbacks: Any,
) -> None:
    """Its probe voted, and was to choose among the samples; without its person there are too few judgments for it."""
    make_comparisons(40)
    judge(ready_project, teammate)
    round_ = make_round("failed")
    files = RunDirectory(round_.run_dir)
    files.probe.mkdir(parents=True)
    (files.probe / "probe.json").write_text("{}")
    write_jsonl(files.votes, [{"id": "1", "first": "good", "second": "bad"}])
    write_jsonl(files.probe_labels, [{"id": "1", "label": 0.1}])
    write_jsonl(files.pairs, [{"id": "1", "chosen": "good", "rejected": "bad", "label": 1.0, "margin": 1.0}])
    skill = {"has_skill": True, "accuracy": 0.9, "low": 0.8, "high": 1.0}
    files.finish("probe", {"skill": skill}, {}, [files.probe, files.probe_labels])
    work = Work(round_, files)
    vote(work)
    assert files.read_done()["vote"]["turned"] == 1
    keep_terms(files, Terms(by_probe=True, candidates=3, control=0.2))
    for path in (files.prompts, files.samples):
        write_jsonl(path, [])
    files.finish("sample", {}, {}, [files.samples])
    fit_probe(work)
    assert files.has_done("sample")  # as long as its probe is there

    with django_capture_on_commit_callbacks(execute=True):
        forget("--annotator", "toni")
    assert not files.probe.exists()
    assert not (files.root / BY_VOTES).exists()
    write_jsonl(files.pairs, [])  # as the next attempt prepares them, from the snapshot
    vote(work)
    assert files.read_done()["vote"]["used"] is False
    fit_probe(work)
    assert read_terms(files) is None
    assert not files.prompts.exists()
    assert list(files.read_done()) == ["vote"]


def test_what_cannot_be_forgotten_is_refused_whole(
    project: Project, owner: User, teammate: User, rosa: User
) -> None:
    round_ = live_through(project, rosa, teammate)
    for arguments, told in (
        (("--annotator", "toni"), "Round 1 of reviews is queued"),
        (("--annotator", "none"), "There is no annotator"),
        (("--prompt", "999999"), "There is no prompt"),
        (("--import", "999999"), "There is no import"),
    ):
        with pytest.raises(CommandError, match=told):
            forget(*arguments)
    state_machine.cancel(round_)
    with pytest.raises(CommandError, match="only admin"):
        forget("--annotator", "olive", project=None)
    assert Judgment.objects.count() == 31
    assert Snapshot.objects.get().forgotten == 0
    assert not TrailEntry.objects.filter(verb="forgotten").exists()
