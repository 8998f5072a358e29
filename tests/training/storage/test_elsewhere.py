"""A web server that shares nothing with the worker but the database and the storage."""

import copy
import io
import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import transaction
from django.urls import reverse

from annotate.exports import jobs
from annotate.exports.prepared import store_file
from annotate.forms.exports import read_selection
from annotate.imports import uploads
from annotate.imports.files import reception
from annotate.models import Export, Import, Project, Prompt, User
from annotate.storage_errors import StorageError
from tests.training.elsewhere import unpack
from tests.training.pages import text
from tests.training.storage.conftest import BUCKET
from tests.training.storage.faulty_server import Fault, faulty_server
from training.models import MergedWeights, Round, StoredFile
from training.provenance.archive_reader import ArchiveReader
from training.provenance.archiving import write_archive
from training.provenance.restoring import restore
from training.rounds import deciding, estimates
from training.rounds.plan import Plan
from training.rounds.starts import check_policy, on_this_machine
from training.storage import folders, objects
from training.usage import merging, trials

pytestmark = [pytest.mark.once, pytest.mark.django_db]

WEIGHTS = "adapter/adapter_model.safetensors"
FILES = {
    "config.json": "{}",
    "pairs.jsonl": '{"id": "1"}\n',
    "metrics.jsonl": "{}\n",
    "samples.jsonl": "{}\n",
    "reference.safetensors": "r",
    "train.log": "said",
    WEIGHTS: "weights",
    "adapter/adapter_config.json": json.dumps({"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}),
}


@pytest.fixture
def ready(on_machine: Callable[[str], Path], request: Any) -> Round:
    """Return a round that is ready, with files on the machine `worker`."""
    var = on_machine("worker")
    round_: Round = request.getfixturevalue("finished")
    done = {"train": {"outputs": {WEIGHTS: "ab"}, "events": [f"Read {round_.run_dir}/pairs.jsonl, {var}/x."]}}
    for name, content in (FILES | {"done.json": json.dumps(done)}).items():
        path = round_.run_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return round_


@pytest.fixture
def elsewhere(place: str, ready: Round, on_machine: Callable[[str], Path]) -> Round:
    """Return the same round as a web server sees it that has nothing of its own."""
    folders.store(ready.folder)
    on_machine("web")
    return ready


@pytest.fixture
def in_folder(use_place: Any, ready: Round, on_machine: Callable[[str], Path], tmp_path: Path) -> Round:
    use_place(f"file://{tmp_path}/shared")
    folders.store(ready.folder)
    on_machine("web")
    return ready


def test_files_are_listed_and_sent_to_those_who_may_read(
    elsewhere: Round, owner: Any, teammate: Any, outsider: Any, client_for: Any, tmp_path: Path
) -> None:
    page = text(client_for(owner).get(elsewhere.get_absolute_url()))
    assert "does not see" not in page
    where = reverse("round_file", args=["reviews", 1, "x"]).removesuffix("x")
    for name in ("pairs.jsonl", "train.log", WEIGHTS):
        assert where + name in page
        answer = client_for(owner).get(where + name)
        assert b"".join(answer.streaming_content).decode() == FILES[name]
        assert name == "train.log" or answer["Content-Length"] == str(len(FILES[name]))
    for user, status in ((teammate, 403), (outsider, 404), (None, 302)):
        assert client_for(user).get(where + WEIGHTS).status_code == status
    assert client_for(owner).get(f"{where}reference.safetensors").status_code == 404  # not of the list
    run = unpack(client_for(owner).get(reverse("round-archive", args=["reviews", 1])), tmp_path / "copy")
    assert (run / "result" / WEIGHTS).read_text() == "weights"
    assert "Read ./pairs.jsonl" in (run / "result/done.json").read_text()
    default_storage.delete(StoredFile.objects.get(path="pairs.jsonl").key)
    answer = client_for(owner).get(f"{where}pairs.jsonl")
    assert (answer.status_code, "does not give this file now" in text(answer)) == (404, True)


def test_the_next_round_starts_from_the_stored_adapter(
    in_folder: Round, owner: Any, tiny: Any, on_machine: Any
) -> None:
    deciding.promote(in_folder, owner)
    project = Project.objects.get(pk=in_folder.project_id)
    assert check_policy(project.current_policy) is not None
    plan = Plan.for_project(project, project.current_policy, tiny)
    assert (plan.config.lora.r, plan.config.lora.alpha) == (4, 8)
    on_machine("third")
    start = Path(str(on_this_machine(plan.config).start_adapter))
    assert (start / "adapter_model.safetensors").read_text() == "weights"
    default_storage.delete(StoredFile.objects.get(path=WEIGHTS).key)
    assert on_this_machine(plan.config).start_adapter == str(start)  # kept here, under its hash


def test_what_the_storage_lacks_is_named_to_those_who_wait(
    in_folder: Round, owner: Any, tiny: dict[str, Any], on_machine: Any
) -> None:
    policy = in_folder.result_policy
    assert policy is not None
    default_storage.delete(StoredFile.objects.get(path=WEIGHTS).key)
    merge = merging.request(policy, owner)
    trial = trials.request(in_folder.project, owner, "Why?", [policy], {"max_new_tokens": 2})
    deciding.promote(in_folder, owner)
    project = Project.objects.get(pk=in_folder.project_id)
    estimate = estimates.ask_round(project, owner, copy.deepcopy(tiny), begin=policy)
    on_machine("third")
    merging.run(str(merge.pk), "worker")
    trials.answer(str(trial.pk), "worker")
    claimed = estimates.claim(estimate.pk, "worker")
    assert claimed is not None
    estimates.answer(claimed)
    for row in (merge, estimate):
        row.refresh_from_db()
    for told in (merge.error, trial.answers.get().error, estimate.reason):
        assert told.startswith(f"The file runs/reviews-1/{WEIGHTS} is missing in the storage")


def test_what_is_forgotten_leaves_the_storage_too(
    in_folder: Round, django_capture_on_commit_callbacks: Any
) -> None:
    deciding.reject(in_folder)
    probe = {"skill": {}, "checks": {"annotator-1": [[0.8, 3]]}, "reliability": {"annotator-1": {}}}
    Round.objects.filter(pk=in_folder.pk).update(summary={"probe": probe, "fresh": 2})
    done = folders.Folder(in_folder.folder).read_done()
    folders.rewrite(in_folder.folder, "done.json", json.dumps(done | {"probe": probe}).encode())
    stray = f"{in_folder.folder}/of-a-worker-thought-dead"
    default_storage.save(stray, ContentFile(b"pairs"))
    kept = {
        "config.json",
        "metrics.jsonl",
        "samples.jsonl",
        "done.json",
        WEIGHTS,
        "adapter/adapter_config.json",
    }
    with django_capture_on_commit_callbacks(execute=True):
        arguments = ["--annotator", "toni", "--project", "reviews", "--yes"]
        call_command("forget", *arguments, stdout=io.StringIO(), stderr=io.StringIO())
    rows = StoredFile.objects.filter(folder=in_folder.folder)
    assert {row.path for row in rows} == kept
    assert set(objects.list_keys(in_folder.folder)) == {row.key for row in rows}
    without = {"skill": {}, "checks": {}, "reliability": {}}
    assert Round.objects.get(pk=in_folder.pk).summary == {"probe": without, "fresh": 2}
    assert folders.Folder(in_folder.folder).read_done() == done | {"probe": without}


@pytest.mark.parametrize("is_rolled_back", [False, True])
def test_no_page_finds_what_was_forgotten_from_the_commit_on(in_folder: Round, is_rolled_back: bool) -> None:
    """As in a process that is killed at the commit: what follows one never happens here."""
    deciding.reject(in_folder)
    before, keys = set(folders.Folder(in_folder.folder).rows), objects.list_keys(in_folder.folder)
    with transaction.atomic():
        arguments = ["--annotator", "toni", "--project", "reviews", "--yes"]
        call_command("forget", *arguments, stdout=io.StringIO(), stderr=io.StringIO())
        transaction.set_rollback(is_rolled_back)
    rows = set(folders.Folder(in_folder.folder).rows)
    assert "pairs.jsonl" in before
    assert rows == before if is_rolled_back else "pairs.jsonl" not in rows
    assert "done.json" in rows
    assert objects.list_keys(in_folder.folder) == keys


def test_a_file_that_stays_keeps_no_other_from_being_forgotten(
    in_folder: Round, monkeypatch: Any, django_capture_on_commit_callbacks: Any, caplog: Any
) -> None:
    deciding.reject(in_folder)
    Export.objects.create(
        project=in_folder.project,
        query={},
        file=default_storage.save("exports/one", ContentFile(b"pairs")),
        filename="x",
    )
    delete = type(default_storage._wrapped).delete

    def refuse(storage: Any, name: str) -> None:
        if name.startswith("exports/"):
            raise OSError(5, "the storage cannot be reached", name)
        delete(storage, name)

    monkeypatch.setattr(type(default_storage._wrapped), "delete", refuse)
    with django_capture_on_commit_callbacks(execute=True):
        arguments = ["--annotator", "toni", "--project", "reviews", "--yes"]
        call_command("forget", *arguments, stdout=io.StringIO(), stderr=io.StringIO())
    assert "exports/one" in caplog.text
    left = StoredFile.objects.filter(folder=in_folder.folder).values_list("path", flat=True)
    assert "pairs.jsonl" not in left
    assert set(objects.list_keys(in_folder.folder)) == {
        row.key for row in StoredFile.objects.filter(folder=in_folder.folder)
    }


def test_a_project_is_restored_into_the_storage(in_folder: Round, on_machine: Any) -> None:
    file = io.BytesIO()
    write_archive(in_folder.project, file)
    on_machine("other")
    project = restore(ArchiveReader(file), slug="copy")
    shutil.rmtree(on_machine("other"))
    [round_] = project.rounds.all()
    found = folders.Folder(round_.folder).find(WEIGHTS)
    assert found is not None
    assert found.read_bytes() == b"weights"


def test_files_of_before_are_moved_and_found_again(
    ready: Round, owner: Any, client_for: Any, use_place: Any, settings: Any, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = tmp_path / "files"
    upload = reception.receive(ready.project, owner, ContentFile(b'{"prompt": "a"}\n', "a.jsonl"))
    with pytest.raises(CommandError, match="names no storage"):
        call_command("move_files")
    use_place(f"file://{tmp_path}/shared")
    where = reverse("round_file", args=["reviews", 1, WEIGHTS])
    for arguments, expected in (
        ([], "Moved 10 files. The storage had 0 already; 0 are missing."),
        (["--delete"], "Moved 0 files. The storage had 10 already; 0 are missing."),
        ([], "Moved 0 files. The storage had 1 already; 0 are missing."),
    ):
        output = io.StringIO()
        call_command("move_files", *arguments, stdout=output)
        assert output.getvalue().splitlines()[-1] == expected
        assert b"".join(client_for(owner).get(where).streaming_content) == b"weights"
    assert not ready.run_dir.exists()
    assert not (settings.MEDIA_ROOT / upload.file.name).exists()
    assert default_storage.exists(upload.file.name)


def test_what_the_storage_has_damaged_is_not_removed_here(
    ready: Round, use_place: Any, tmp_path: Path
) -> None:
    use_place(f"file://{tmp_path}/shared")
    folders.store(ready.folder)
    stored = tmp_path / "shared" / StoredFile.objects.get(path=WEIGHTS).key
    stored.unlink()  # which may be a link to the file here
    stored.write_text("half")
    output = io.StringIO()
    call_command("move_files", "--delete", stdout=output)
    assert "stays here too, as the storage does not have the very same files." in output.getvalue()
    assert (ready.run_dir / WEIGHTS).read_text() == "weights"


FULL = (Fault(507, "QuotaExceeded"), "the storage refused it (QuotaExceeded; it is full)")
PAGE = (Fault(200, body=b"<html>Sign in</html>"), "the storage has no such file")


@pytest.mark.parametrize(("fault", "reason"), [FULL, PAGE], ids=["full", "page"])
def test_a_file_that_cannot_be_stored_says_why(
    finished: Round, owner: User, s3_server: str, s3_variables: Any, monkeypatch: Any, use_place: Any,
    fault: Fault, reason: str,
) -> None:  # fmt: skip
    job = Export.objects.create(project=finished.project, query={}, filename="x")
    merge = MergedWeights.objects.create(policy=finished.result_policy, created_by=owner, filename="x.tar")
    assert merge.take(worker="worker")
    with faulty_server(s3_server) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.address)
        use_place(f"s3://{BUCKET}/{uuid.uuid4().hex}")
        server.choose = lambda method, _path: fault if method == "PUT" else None
        jobs.write(str(job.pk), read_selection)
        with pytest.raises(StorageError) as refused:
            store_file(merge, "merged/x", io.BytesIO(b"weights"), lambda: None)
    job.refresh_from_db()
    said = f"The server could not store the file: {reason}. Ask who runs this site, then try again."
    assert (job.state, job.error) == ("failed", said)
    assert refused.value.message == said


def test_uploads_and_exports_are_written_and_read_elsewhere(
    project: Project,
    owner: Any,
    researcher: Any,
    client_for: Any,
    use_place: Any,
    bucket: str,
    on_machine: Any,
) -> None:
    use_place(bucket)
    on_machine("web")
    content = "".join(f'{{"prompt": "Prompt {number}"}}\n' for number in range(30))
    upload = reception.receive(project, owner, ContentFile(content.encode(), "a.jsonl"))
    User.objects.filter(pk=owner.pk).update(is_staff=True, is_superuser=True)
    page = client_for(owner).get(f"/admin/annotate/import/{upload.pk}/change/")
    assert (page.status_code, upload.file.name in text(page)) == (200, False)
    on_machine("worker")
    assert uploads.work(upload.pk, 60).state == Import.State.READY
    assert uploads.start(upload)
    assert uploads.work(upload.pk, 60).state == Import.State.DONE
    assert Prompt.objects.filter(project=project).count() == 30
    assert not default_storage.exists(upload.file.name)

    on_machine("web")
    client = client_for(researcher)
    client.post("/p/reviews/export/prepare/", {})
    job = Export.objects.get()
    on_machine("worker")
    jobs.write(str(job.pk), read_selection)
    on_machine("web")
    answer = client.get(f"/p/reviews/export/jobs/{job.pk}/file/")
    job.refresh_from_db()
    assert len(b"".join(answer.streaming_content)) == job.size


def test_the_page_of_rounds_lists_what_workers_compute_with(
    ready_project: Project, owner: Any, client_for: Any, worker: Any
) -> None:
    address = reverse("rounds", args=["reviews"])
    assert "Not known yet" in text(client_for(owner).get(address))
    gpu = {"name": "NVIDIA <H100>", "memory": 80 << 30, "bfloat16": True}
    worker.devices = {"cpu": {"threads": 16, "memory": 128 << 30, "bfloat16": False}, "gpus": [gpu]}
    worker.save()
    page = text(client_for(owner).get(address))
    assert "16 threads, 128 GiB" in page
    assert "NVIDIA &lt;H100&gt;, 80 GiB, bfloat16" in page
    [listed] = client_for(owner).get("/api/v1/projects/reviews/workers/").json()["results"]
    assert listed["devices"] == worker.devices
