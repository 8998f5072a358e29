"""A project leaves in one file and is restored: other ids, the same content; and hostile files are refused."""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from annotate.forms.pair_settings import name_pair_settings
from annotate.judgments import revising
from annotate.models import Claim, Comparison, Import, Project, Snapshot, User
from annotate.pairs.settings import PairSettings
from annotate.pairs.snapshots import take_snapshot, training_rows
from annotate.people import external
from annotate.people.pseudonyms import pseudonym
from annotate.projects import trail
from annotate.queueing import queue
from primitives.reliability import Check
from tests import factories
from tests.annotate.invariants import broken_rules
from training.models import Round
from training.provenance.archive_format import LEFT_OUT, MANIFEST, TABLES, people_fields
from training.provenance.archive_reader import ArchiveError, ArchiveReader
from training.provenance.archiving import write_archive
from training.provenance.reproduction import can_repeat
from training.provenance.restoring import restore
from training.rounds import deciding, state_machine
from training.rounds.plan import Plan
from training.rounds.starts import RoundError, on_this_machine
from training.standings.probed import probe_checks

pytestmark = pytest.mark.django_db


def test_each_model_travels_or_says_why_not() -> None:
    known = {table.model._meta.label for table in TABLES} | set(LEFT_OUT)
    found = {
        model._meta.label
        for app in ("annotate", "training")
        for model in apps.get_app_config(app).get_models(include_auto_created=True)
    }
    assert found - known == set()


@pytest.fixture
def lived(finished: Round, owner: User, researcher: User, teammate: User) -> Project:
    """Return a project with something in each table, and a second policy that started from the first."""
    project = finished.project
    chat = [{"role": "user", "content": "Grüße, 世界 \u202e<b>"}, {"role": "assistant", "content": None}]
    upload = Import.objects.create(project=project, filename="a.csv", format="csv", size=1)
    texts = (" \u0085 one\r\n", " \U0001f600 two")
    odd = factories.compare(project, chat, *texts, batch=f"import {upload.pk}", metadata={"a": [1, {}]})
    factories.say(teammate, factories.compare(project, "poor", " c", " d"), "both_bad")
    take_snapshot(project, owner, PairSettings(both_bad="ratings"))
    said = factories.say(owner, odd, "first")
    revising.revise(
        project, owner, said.pk, factories.named(owner.claims.get(), "second", rationale="No “why”")
    )
    gold = factories.compare(project, "gold", " a", " b", kind="gold")
    factories.say(teammate, gold, "first")
    repeat = {"kind": "repeat", "repeat_of": gold, "reserved_for": teammate}
    Comparison.objects.create(
        project=project, prompt=gold.prompt, first=gold.first, second=gold.second, **repeat
    )
    odd.flags.create(annotator=teammate, note="Look")
    assert queue.claim(project, owner) is not None  # a lease, which ends with the move
    adapter = finished.run_dir / "adapter"
    (adapter / "adapter_model.safetensors").write_bytes(b"weights" * 1000)
    (adapter / "adapter_config.json").write_text("{}")
    (finished.run_dir / "done.json").write_text(
        json.dumps({"train": {"outputs": {"a": "b"}, "at": str(settings.VAR)}})
    )
    (finished.run_dir / "train.log").write_text("stays here")
    deciding.promote(finished, owner)
    chosen = {"training": {"reference": "round 1"}}
    second = state_machine.start(project, owner, chosen, begin=finished.result_policy)
    state_machine.cancel(second, owner)
    trail.record(trail.Verb.ROLE, owner, project=project, subject=teammate, role="annotator")
    trail.record(trail.Verb.INVITED, owner, project=project, target="someone@example.org")
    return Project.objects.get(pk=project.pk)


def archive_of(project: Project) -> bytes:
    file = io.BytesIO()
    write_archive(project, file)
    return file.getvalue()


def content(archive: bytes) -> dict[str, Any]:
    """Return what an archive says, with each id counted from the first of its table, and people by their order."""
    zipped = zipfile.ZipFile(io.BytesIO(archive))
    tables = json.loads(zipped.read(MANIFEST))["tables"]
    people = [json.loads(line)["id"] for line in zipped.read("tables/people.jsonl").splitlines()]
    of_model: dict[Any, str] = {table.model: table.name for table in TABLES}
    found: dict[str, Any] = {"people": len(people)}
    for table in TABLES:
        rows = [json.loads(line) for line in zipped.read(table.member).splitlines()]
        users = {one.name for one in people_fields(table)}
        for row in rows:
            for one in table.fields:
                value = row[one.name]
                if one.name in users:
                    row[one.name] = None if value is None else people.index(value)
                elif value is not None and (one.primary_key or one.related_model in of_model):
                    of = of_model[table.model if one.primary_key else one.related_model]
                    row[one.name] = value - tables[of]["first"]
                elif one.name == "last_judgment":
                    row[one.name] = value - tables["judgments"]["first"]
                elif one.name == "batch":
                    row["batch"] = re.sub(
                        r"\d+", lambda m: str(int(m[0]) - tables["imports"]["first"]), value
                    )
                elif isinstance(value, str):
                    row[one.name] = re.sub(
                        r"annotator-(\d+)", lambda m: f"person {people.index(int(m[1]))}", value
                    )
            if table.name == "snapshots":
                del row["comparison_shift"], row["judgment_shift"]
        found[table.name] = rows
    found["project"][0].pop("slug")
    found |= {
        name: zipped.read(name) for name in zipped.namelist() if name.startswith(("rounds/", "policies/"))
    }
    return found


def test_a_restored_project_is_the_same_but_for_its_ids(lived: Project, teammate: User) -> None:
    sent = archive_of(lived)
    names = zipfile.ZipFile(io.BytesIO(sent)).namelist()
    everything = b"".join(zipfile.ZipFile(io.BytesIO(sent)).read(name) for name in names)
    for secret in ("toni", "olive", "example.org", str(settings.VAR), "stays here"):
        assert secret.encode() not in everything
    moved = restore(ArchiveReader(io.BytesIO(sent)), slug="moved")
    assert broken_rules(moved) == []
    assert not User.objects.filter(username__endswith=".moved", is_active=True).exists()
    assert not User.objects.get(username=f"annotator-{teammate.pk}.moved").has_usable_password()

    first, again = content(sent), content(archive_of(moved))
    assert again["trail"].pop()["verb"] == "moved_in"
    for name in first.keys() | again.keys():
        assert again[name] == first[name], name

    here, there = (Snapshot.objects.filter(project=one).order_by("pk") for one in (moved, lived))
    assert [one.digest for one in here] == [one.digest for one in there]
    assert [list(training_rows(one)) for one in here] == [list(training_rows(one)) for one in there]
    round_ = moved.rounds.get(number=1)
    assert (round_.run_dir / "adapter/adapter_model.safetensors").read_bytes() == b"weights" * 1000
    assert moved.current_policy == round_.result_policy
    config = moved.rounds.get(number=2).settings["config"]
    assert config["start_adapter"] == config["reference"] == "runs/moved-1/adapter"


def test_what_was_under_way_is_over_in_a_restored_project(lived: Project) -> None:
    """Its file and its page stay on the server that it left."""
    assert lived.imports.get().state == Import.State.CHECKING
    moved = restore(ArchiveReader(io.BytesIO(archive_of(lived))), slug="moved")
    assert moved.imports.get().state == Import.State.CANCELLED
    assert not Claim.objects.filter(project=moved).holding().exists()


def test_all_whom_an_entry_lists_leave_under_pseudonyms(finished: Round, owner: User, teammate: User) -> None:
    project = finished.project
    maria = User.objects.get(pk=external.find_or_make(project, ["Doe, Maria"])["Doe, Maria"])
    comparison = factories.compare(project, "more", "a", "b")
    comparison.flags.create(annotator=maria)
    everyone = f"{owner.username}, Doe, Maria, {teammate.username}"
    for annotator in (everyone, None, "someone who left"):
        trail.record(
            trail.Verb.EXPORTED, owner, project=project, target="kto", annotator=annotator, votes="Doe, Maria"
        )
    zipped = zipfile.ZipFile(io.BytesIO(archive_of(project)))
    rows = [json.loads(line)["details"] for line in zipped.read("tables/trail.jsonl").splitlines()[-3:]]
    names = ", ".join(pseudonym(one.pk) for one in (owner, maria, teammate))
    assert [row["annotator"] for row in rows] == [names, None, "(removed)"]
    assert rows[0]["votes"] == "Doe, Maria"  # no name there


def test_a_name_that_two_people_share_leaves_as_none_of_them(
    finished: Round, owner: User, teammate: User
) -> None:
    """A file may call someone by the username of another: nothing tells which of them an entry lists."""
    project, name = finished.project, teammate.username
    namesake = User.objects.get(pk=external.find_or_make(project, [name])[name])
    factories.compare(project, "more", "a", "b").flags.create(annotator=namesake)
    trail.record(trail.Verb.EXPORTED, owner, project=project, target="kto", annotator=name)
    zipped = zipfile.ZipFile(io.BytesIO(archive_of(project)))
    entry = json.loads(zipped.read("tables/trail.jsonl").splitlines()[-1])
    assert entry["details"]["annotator"] == "(removed)"


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite stores comparisons first")
def test_a_restored_comparison_is_stored_once_with_its_counters(lived: Project) -> None:
    restored = restore(ArchiveReader(io.BytesIO(archive_of(lived))))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(DISTINCT cmin::text), SUM(judged) FROM annotate_comparison WHERE project_id = %s",
            [restored.pk],
        )
        commands, judged = cursor.fetchone()
    assert judged
    assert commands == 1  # a trigger that counts a claim writes its comparison again


def test_a_probes_word_follows_the_people_it_is_of(finished: Round, teammate: User) -> None:
    checks = {pseudonym(teammate.pk): [[0.8, 3]], "annotator-999999": [[0.9, 9]]}
    probe = {"skill": {"has_skill": True}, "checks": checks, "reliability": {name: {} for name in checks}}
    Round.objects.filter(pk=finished.pk).update(summary={"probe": probe})
    (finished.run_dir / "done.json").write_text(json.dumps({"probe": probe}))
    archive = archive_of(finished.project)
    bad = in_rows("rounds", summary={"probe": {"checks": {pseudonym(teammate.pk): 5}}})
    assert "cannot be read" in refusal(changed(archive, bad))
    moved = restore(ArchiveReader(io.BytesIO(archive)), slug="moved")
    person = User.objects.get(username=f"annotator-{teammate.pk}.moved")
    assert probe_checks(moved) == {person.pk: [Check(0.8, 3)]}
    round_ = moved.rounds.get()
    told = json.loads((round_.run_dir / "done.json").read_text())
    for report in (round_.summary["probe"], told["probe"]):
        assert report["checks"] == {pseudonym(person.pk): [[0.8, 3]]}
        assert report["reliability"] == {pseudonym(person.pk): {}}
        assert report["skill"] == {"has_skill": True}


def test_a_reference_that_is_not_in_an_archive_is_missed(finished: Round) -> None:
    finished.settings["config"]["reference"] = "runs/other-7/adapter"  # perhaps another project's, elsewhere
    finished.save()
    moved = restore(ArchiveReader(io.BytesIO(archive_of(finished.project))), slug="moved").rounds.get()
    assert not can_repeat(moved)
    with pytest.raises(RoundError, match="neither on this machine nor in the storage") as refused:
        on_this_machine(Plan.from_dict(moved.settings).config)
    assert refused.value.field == "reference"


def test_settings_of_pairs_name_the_same_policies_after_a_move(finished: Round) -> None:
    project, there = finished.project, finished.start_policy
    chosen = finished.snapshot.settings | {"policies": [there.pk, 987_654_321]}
    finished.settings["pairs"]["policies"] = [there.pk]
    finished.save()
    sent = changed(archive_of(project), in_rows("snapshots", settings=chosen))
    moved = restore(ArchiveReader(io.BytesIO(sent)), slug="moved")
    here = moved.policies.get(name=there.name)
    assert here.pk != there.pk
    snapshot, round_ = moved.snapshots.get(), moved.rounds.get()
    assert snapshot.settings["policies"] == [here.pk, 2**63 - 1]
    assert ("Completions of", f"{here.name}, #{2**63 - 1}") in name_pair_settings(snapshot.settings, moved)
    assert Plan.from_dict(round_.settings).pairs.policies == (here.pk,)


def test_an_archive_from_before_ratings_is_restored(finished: Round) -> None:
    def without_ratings(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
        for name in ("snapshot_ratings", "rating_judgments"):
            del members[f"tables/{name}.jsonl"], manifest["tables"][name]

    old = changed(archive_of(finished.project), without_ratings)
    moved = restore(ArchiveReader(io.BytesIO(old)), slug="moved")
    assert moved.snapshots.get().digest == finished.project.snapshots.get().digest


def test_a_moved_project_goes_on(
    lived: Project,
    owner: User,
    teammate: User,
    tmp_path: Path,
    make_comparisons: Any,
    judge: Any,
    client_for: Any,
) -> None:
    file = tmp_path / "reviews.zip"
    call_command("archive", "reviews", str(file))
    person = f"annotator-{teammate.pk}=toni"
    call_command("restore", str(file), "--admin", "olive", "--person", person)
    moved = Project.objects.get(slug="reviews-2")
    make_comparisons(1, in_project=moved)  # under ids that are free
    judge(moved, teammate)
    assert (
        moved.judgments.filter(annotator=teammate).count()
        > lived.judgments.filter(annotator=teammate).count()
    )
    assert state_machine.start(moved, owner, {}).number == 3
    for page in ("", "rounds/1/", "comparisons/", "trail/", "snapshots/", "import/", "quality/"):
        assert client_for(owner).get(f"/p/reviews-2/{page}").status_code == 200, page
    for arguments, told in (
        ((str(file), "--slug", "reviews"), "is taken here"),
        ((str(file), "--slug", "../x"), "is not a slug"),
        ((str(file), "--person", "annotator-999999=toni"), "knows no annotator-999999"),
        ((str(file), "--admin", "none"), "There is no account"),
        ((str(tmp_path / "no.zip"),), "cannot be read"),
    ):
        with pytest.raises(CommandError, match=told):
            call_command("restore", *arguments)
    with pytest.raises(CommandError, match="Round 3 is queued"):
        call_command("archive", "reviews-2", str(tmp_path / "other.zip"))
    assert not (tmp_path / "other.zip").exists()


Change = Callable[[dict[str, bytes], dict[str, Any]], None]


def changed(archive: bytes, change: Change, *, sealed: bool = True) -> bytes:
    """Return the archive with its members and its manifest changed; `sealed` with the hashes of what is in it."""
    zipped = zipfile.ZipFile(io.BytesIO(archive))
    members = {name: zipped.read(name) for name in zipped.namelist() if name != MANIFEST}
    manifest = json.loads(zipped.read(MANIFEST))
    change(members, manifest)
    if sealed:
        manifest["members"] = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in members.items()
        }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as output:
        for name, data in members.items():
            output.writestr(name, data)
        output.writestr(MANIFEST, json.dumps(manifest))
    return file.getvalue()


def in_rows(table: str, **values: Any) -> Change:
    """Return the change of these values in the last row of a table."""

    def change(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
        name = f"tables/{table}.jsonl"
        *rest, last = members[name].splitlines()
        members[name] = b"\n".join([*rest, json.dumps(json.loads(last) | values).encode()]) + b"\n"

    return change


HOSTILE: dict[str, tuple[Change, str]] = {
    "path": (lambda m, _: m.update({"rounds/1/adapter/../../x.json": b""}), "does not belong"),
    "absolute path": (lambda m, _: m.update({"/etc/x.json": b""}), "does not belong"),
    "program": (lambda m, _: m.update({"rounds/1/adapter/model.pkl": b""}), "does not belong"),
    "no table": (lambda m, _: m.pop("tables/trail.jsonl"), "lacks tables/trail"),
    "version": (
        lambda _, manifest: manifest.update(format="whetstone-project/9"),
        "of the format whetstone-project/9",
    ),
    "no format": (lambda _, manifest: manifest.pop("format"), "no manifest"),
    "rows": (lambda _, manifest: manifest["tables"]["prompts"].update(rows=-1), "nothing usable"),
    "huge ids": (lambda _, manifest: manifest["tables"]["prompts"].update(last=2**60), "nothing usable"),
    "fewer rows": (lambda m, _: m.update({"tables/flags.jsonl": b""}), "does not have the rows"),
    "no JSON": (lambda m, _: m.update({"tables/flags.jsonl": b"{"}), "Line 1 of tables/flags"),
    "not finite": (lambda m, _: m.update({"tables/flags.jsonl": b'{"id": NaN}'}), "Line 1 of tables/flags"),
    "deep": (lambda m, _: m.update({"tables/flags.jsonl": b"[" * 100_000}), "Line 1 of tables/flags"),
    "another's row": (in_rows("flags", comparison=999_999), "does not hold"),
    "another's project": (in_rows("prompts", project=999_999), "does not hold"),
    "nobody": (in_rows("judgments", annotator=999_999), "a person whom the archive does not know"),
    "unknown column": (in_rows("prompts", password="x"), "knows no"),
    "NUL": (in_rows("completions", text="\0"), "not JSON that can be stored"),
    "no choice": (in_rows("claims", state="won"), "state cannot be"),
    "kind": (in_rows("rounds", settings=[]), "of another kind"),
    **{
        f"{table} {name} {odd}": (in_rows(table, **{name: odd}), f"tables/{table}.*{name} is of another kind")
        for table, name, kinds in (
            ("project", "reasons", ("x", {"a": 1}, 2, ["x"], [{}], [{"key": [1], "title": "t"}])),
            (
                "project",
                "criteria",
                (2, [{"key": "k", "title": {}}], [{"key": "k", "title": "t", "more": 1}]),
            ),
            ("project", "visible_metadata", (2, "abc", [1], {"a": 1})),
            ("project", "image_hosts", (2, "abc", [{}])),
            ("project", "training_settings", (2, [], "x")),
            ("project", "sampling_settings", (2, [])),
            ("snapshots", "settings", (2, [])),
            ("snapshots", "counts", (2, [], {"pairs": "x"}, {"excluded": [1]}, {"excluded": {"tie": [1]}})),
        )
        for odd in kinds
    },
    "adapter elsewhere": (in_rows("policies", adapter="runs/reviews-1/adapter"), "no adapter of the archive"),
    "changed text": (in_rows("snapshot_pairs", label=0.75), "not those that its digest names"),
    "does not fit": (in_rows("judgments", strength=None, verdict="tie"), "do not fit together"),
}


def refusal(archive: bytes) -> str:
    """Return why an archive is refused; empty if it is not."""
    try:
        restore(ArchiveReader(io.BytesIO(archive)), slug="moved")
    except ArchiveError as error:
        return str(error)
    return ""


def test_hostile_and_damaged_archives_are_refused_whole(lived: Project) -> None:
    sent = archive_of(lived)
    users, runs = User.objects.count(), sorted(settings.RUNS.iterdir())
    files = {name: (changed(sent, change), told) for name, (change, told) in HOSTILE.items()}
    files["cut off"] = (sent[: len(sent) // 2], "not a whole zip file")
    files["nothing"] = (b"", "not a whole zip file")
    files["other bytes"] = (
        changed(sent, lambda m, _: m.update({"rounds/1/done.json": b"{}"}), sealed=False),
        "damaged|does not hold",
    )
    flipped = bytearray(sent)
    at = sent.index(b"weights" * 10)  # stored as it is
    flipped[at] ^= 1
    files["flipped bit"] = (bytes(flipped), "is damaged")
    for name, (archive, told) in files.items():
        assert re.search(told, refusal(archive)), (name, refusal(archive))
    bomb = changed(sent, lambda m, _: m.update({"rounds/1/samples.jsonl": bytes(50_000_000)}))
    assert len(bomb) < 1_000_000
    with pytest.raises(ArchiveError, match="at most"):
        ArchiveReader(io.BytesIO(bomb), most_bytes=10_000_000)
    assert Project.objects.count() == 1
    assert (User.objects.count(), sorted(settings.RUNS.iterdir())) == (users, runs)
