"""Files that a killed process left half-way go with a sweep, and those that rows name stay."""

import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import transaction

from annotate.models import Policy, Project
from tests.training.using import adapters
from training import tasks
from training.models import Round, StoredFile
from training.provenance.archive_reader import ArchiveReader
from training.provenance.archiving import write_archive
from training.provenance.restoring import restore
from training.rounds import deciding, state_machine
from training.rounds.starts import RoundError
from training.storage import courier, folders, objects, placing
from training.usage.bringing import bring_adapter
from training.usage.places import has_adapter, keep_adapter

pytestmark = pytest.mark.django_db

PROBE = {"skill": {}, "checks": {"annotator-1": [[0.8, 3]]}, "reliability": {"annotator-1": {}}}
FILES = {"pairs.jsonl": "{}\n", "config.json": "{}", "done.json": json.dumps({"probe": PROBE})}


@pytest.fixture(params=["var", "storage"])
def var(request: Any, on_machine: Callable[[str], Path], use_place: Any, tmp_path: Path) -> Path:
    """Run the test with all files below var/, and with a storage beside it."""
    if request.param == "storage":
        use_place(f"file://{tmp_path}/shared")
    return on_machine("web")


@pytest.fixture
def trained(var: Path, make_round: Any) -> Callable[[str], Round]:
    """trained("failed"): a round in that state, with files of judgments here and in the storage."""

    def make(state: str) -> Round:
        round_: Round = make_round(state)
        round_.run_dir.mkdir(parents=True)
        for name, content in FILES.items():
            (round_.run_dir / name).write_text(content)
        folders.store(round_.folder)
        return round_

    return make


def forget_and_be_killed() -> None:
    """Forget toni up to the commit: what follows one never happens in these tests."""
    arguments = ["--annotator", "toni", "--project", "reviews", "--yes"]
    call_command("forget", *arguments, stdout=io.StringIO(), stderr=io.StringIO())


def names(round_: Round) -> set[str]:
    return {file.path for file in folders.Folder(round_.folder).files()}


def let_a_killed_process_be_old(var: Path) -> None:
    """Let folders aside and marks seem as old as the sweep wants them."""
    before = time.time() - placing.KEPT_SECONDS - 60
    for path in [*var.glob("runs/.*"), *var.glob(f"runs/*/{placing.MARK}")]:
        os.utime(path, (before, before))


def write_adapter(folder: Path) -> None:
    for name, content in adapters.files().items():
        (folder / name).write_bytes(content)


# --- Forgetting --------------------------------------------------------------------------------------------------


def test_the_next_sweep_deletes_what_was_forgotten(trained: Any) -> None:
    round_ = trained("rejected")
    forget_and_be_killed()
    tasks.sweep()
    assert names(round_) == {"config.json", "done.json"}
    assert not (round_.run_dir / "pairs.jsonl").exists()
    assert "annotator-1" not in json.dumps(folders.Folder(round_.folder).read_done())
    rows = StoredFile.objects.all()
    assert set(objects.list_keys(round_.folder)) == {row.key for row in rows}


def test_no_page_finds_a_forgotten_file_in_the_storage(trained: Any) -> None:
    round_ = trained("rejected")
    forget_and_be_killed()
    assert "pairs.jsonl" not in folders.Folder(round_.folder).rows


def test_a_forgetting_rolled_back_deletes_nothing(trained: Any, owner: Any) -> None:
    round_ = trained("rejected")
    owner.is_superuser = True
    owner.save()
    with pytest.raises(Exception, match="superuser"):
        call_command("forget", "--annotator", owner.username, "--yes", stdout=io.StringIO())
    tasks.sweep()
    assert names(round_) == set(FILES)


def test_a_resumed_round_finds_no_forgotten_file(trained: Any) -> None:
    round_ = trained("failed")
    forget_and_be_killed()
    state_machine.resume(Round.objects.get(pk=round_.pk))
    assert not (round_.run_dir / "pairs.jsonl").exists()
    (round_.run_dir / "pairs.jsonl").write_text("of the next attempt")
    tasks.sweep()
    assert (round_.run_dir / "pairs.jsonl").exists()


def test_no_round_is_resumed_on_what_cannot_be_deleted(trained: Any, monkeypatch: Any) -> None:
    round_ = trained("failed")
    forget_and_be_killed()
    monkeypatch.setattr(folders, "forget", lambda folder, paths: [f"{folder}/pairs.jsonl"])
    with pytest.raises(RoundError, match=r"forgotten could not be deleted: runs/reviews-1/pairs\.jsonl\.$"):
        state_machine.resume(Round.objects.get(pk=round_.pk))
    assert Round.objects.get(pk=round_.pk).state == "failed"


def test_the_round_of_a_worker_is_not_swept(trained: Any) -> None:
    round_ = trained("failed")
    forget_and_be_killed()
    Round.objects.filter(pk=round_.pk).update(state="queued")
    tasks.sweep()
    assert (round_.run_dir / "pairs.jsonl").exists()


# --- Adapters and archives from elsewhere ------------------------------------------------------------------------


def test_an_adapter_without_its_policy_is_swept_after_days(var: Path, project: Project) -> None:
    with placing.folder_aside() as aside:
        write_adapter(aside)
        name = keep_adapter(project, aside)
    tasks.sweep_files()
    assert (var / name).is_dir()  # it may be about to be named
    let_a_killed_process_be_old(var)
    tasks.sweep_files()
    assert list(var.glob("runs/*")) == []
    assert objects.list_keys(folders.Folder(name).root) == []
    assert not StoredFile.objects.exists()


def test_an_adapter_with_its_policy_stays(var: Path, project: Project, owner: Any) -> None:
    archive = io.BytesIO(adapters.zipped(adapters.files()))
    policy = bring_adapter(project, owner, "mine", project.policies.get(name="starter"), file=archive)
    let_a_killed_process_be_old(var)  # killed between the commit and the end of the mark
    tasks.sweep_files()
    assert has_adapter(policy)
    assert not list(var.glob(f"runs/*/{placing.MARK}"))


def test_an_adapter_that_cannot_be_stored_leaves_nothing(
    var: Path, project: Project, owner: Any, monkeypatch: Any
) -> None:
    def refuse(_name: str) -> int:
        raise OSError(5, "the storage cannot be reached")

    monkeypatch.setattr(folders, "store", refuse)
    archive = io.BytesIO(adapters.zipped(adapters.files()))
    with pytest.raises(OSError, match="cannot be reached"):
        bring_adapter(project, owner, "mine", project.policies.get(name="starter"), file=archive)
    assert list(var.glob("runs/*")) == []


def test_a_folder_that_was_there_before_is_not_replaced(var: Path) -> None:
    name = "runs/reviews-9"
    (var / name).mkdir()
    (var / name / "pairs.jsonl").write_text("of another process")
    with placing.folder_aside() as aside, pytest.raises(OSError, match="not empty"):
        placing.place(aside, name)
    assert [path.name for path in (var / name).iterdir()] == ["pairs.jsonl"]


def test_folders_aside_are_swept_after_days(var: Path) -> None:
    aside = var / "runs" / f"{folders.ASIDE}killed"
    aside.mkdir()
    (aside / "weights").write_text("half of them")
    tasks.sweep_files()
    assert aside.is_dir()
    let_a_killed_process_be_old(var)
    tasks.sweep_files()
    assert not aside.exists()


def test_files_of_a_restoration_without_its_rows_are_swept(var: Path, trained: Any, tmp_path: Path) -> None:
    round_ = trained("rejected")
    with (tmp_path / "archive").open("w+b") as file:
        write_archive(round_.project, file)
        restore(ArchiveReader(file), slug="here")  # killed after the commit
        with transaction.atomic():
            restore(ArchiveReader(file), slug="nowhere")
            transaction.set_rollback(True)  # killed before it
    let_a_killed_process_be_old(var)
    tasks.sweep_files()
    assert sorted(path.name for path in var.glob("runs/*")) == ["here-1", "reviews-1"]
    assert objects.list_keys("runs/nowhere-1") == []
    assert names(Round.objects.get(folder="runs/here-1")) >= {"pairs.jsonl", "done.json"}


# --- Rounds ------------------------------------------------------------------------------------------------------


def test_a_worker_killed_at_the_end_of_a_round_leaves_no_object(
    make_round: Any, on_machine: Any, use_place: Any, tmp_path: Path, owner: Any
) -> None:
    use_place(f"file://{tmp_path}/shared")
    on_machine("worker")
    round_ = make_round("ready")
    round_.run_dir.mkdir(parents=True)
    (round_.run_dir / courier.MARKER).write_text("1")
    default_storage.save(f"{round_.folder}/an-older-state", ContentFile(b"pairs"))
    deciding.reject(round_, owner)
    courier.clear_leftovers()
    assert objects.list_keys(round_.folder) == []
    assert not round_.run_dir.exists()


def test_policies_that_no_sweep_knows_keep_their_adapters(var: Path, project: Project) -> None:
    """A database that was restored from a backup does not name what came after it."""
    folder = var / "runs" / "reviews-brought-0123456789ab" / "adapter"
    folder.mkdir(parents=True)
    write_adapter(folder)
    let_a_killed_process_be_old(var)
    tasks.sweep_files()
    assert Policy.objects.filter(adapter__contains="brought").count() == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(adapters.files())
