"""The files of a running round, between a worker's run directory and the storage."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from tests.waiting import wait_for
from training.engine.rundir import RunDirectory
from training.models import Round, StoredFile
from training.provenance import consequences, forgetting
from training.rounds import state_machine
from training.storage import courier as couriers
from training.storage import objects
from training.storage.courier import MARKER, Courier, FencedError
from training.storage.folders import Folder
from training.storage.objects import StorageFaultError

pytestmark = pytest.mark.django_db


def hire(round_: Round) -> Courier:
    return Courier(round_, RunDirectory(round_.run_dir), keep=lambda: state_machine.heartbeat(round_))


def begin(round_: Round) -> Courier:
    """Start an attempt on this machine."""
    courier = hire(round_)
    courier.fetch()
    return courier


def write(round_: Round, **files: str) -> None:
    for name, content in files.items():
        path = round_.run_dir / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def checkpoint(round_: Round, step: int, trained: str = "") -> None:
    folder = round_.run_dir / trained / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("safetensors", "json"):
        (folder / f"step-{step:08d}.{suffix}").write_text(f"{suffix} of {step}")


def next_attempt(round_: Round) -> Round:
    Round.objects.filter(pk=round_.pk).update(attempts=round_.attempts + 1)
    return Round.objects.get(pk=round_.pk)


def state(round_: Round) -> dict[str, str]:
    """Return what the storage has of the round."""
    folder = Folder(round_.folder)
    found = {}
    for path in folder.rows:
        with folder.find(path).open() as file:
            found[path] = file.read().decode()
    return found


def local(round_: Round) -> dict[str, str]:
    root = round_.run_dir
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name[0] != "."
    }


@pytest.fixture
def in_folder(make_round: Any, on_machine: Any, use_place: Any, tmp_path: Path) -> Round:
    use_place(f"file://{tmp_path}/shared")
    on_machine("first")
    round_: Round = make_round("training")
    return round_


def test_the_next_machine_finds_the_last_state(in_folder: Round, on_machine: Any) -> None:
    courier = begin(in_folder)
    write(in_folder, pairs_jsonl="a", metrics_jsonl="1\n", progress_json="{}", previous__config_json="{}")
    checkpoint(in_folder, 20)
    assert courier.deliver()
    checkpoint(in_folder, 40)
    write(in_folder, metrics_jsonl="1\n2\n")
    assert courier.deliver()
    courier.close()
    whole = state(in_folder)
    assert whole == {
        "pairs.jsonl": "a",
        "metrics.jsonl": "1\n2\n",
        "previous/config.json": "{}",
        "checkpoints/step-00000040.json": "json of 40",
        "checkpoints/step-00000040.safetensors": "safetensors of 40",
    }
    on_machine("second")
    successor = next_attempt(in_folder)
    begin(successor).close()
    assert local(successor) == whole
    assert (successor.run_dir / MARKER).read_text() == "2"


def test_a_worker_thought_dead_changes_nothing(in_folder: Round) -> None:
    courier = begin(in_folder)
    write(in_folder, samples_jsonl="its own")
    courier.deliver()
    before = state(in_folder)
    next_attempt(in_folder)
    write(in_folder, samples_jsonl="too late")
    with pytest.raises(FencedError):
        courier.deliver()
    courier.close()
    assert state(in_folder) == before


def test_a_link_out_of_the_run_directory_is_not_followed(in_folder: Round, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    courier = begin(in_folder)
    write(in_folder, pairs_jsonl="a")
    (in_folder.run_dir / "notes.txt").symlink_to(tmp_path / "secret.txt")
    courier.deliver()
    courier.close()
    assert state(in_folder) == {"pairs.jsonl": "a"}


def test_what_a_page_may_be_reading_stays_for_one_state_more(in_folder: Round) -> None:
    courier = begin(in_folder)
    keys = []
    for content in ("1", "12", "123"):
        write(in_folder, metrics_jsonl=content)
        courier.deliver()
        keys.append(StoredFile.objects.get(path="metrics.jsonl").key)
    courier.close()
    assert [default_storage.exists(key) for key in keys] == [False, True, True]


@pytest.mark.parametrize("was_here", [True, False])
def test_a_folder_counts_only_where_the_last_attempt_was(in_folder: Round, was_here: bool) -> None:
    courier = begin(in_folder)
    write(in_folder, metrics_jsonl="1\n")
    courier.deliver()
    courier.close()
    write(in_folder, metrics_jsonl="1\n2\n")  # not put any more
    successor = next_attempt(in_folder)
    if not was_here:
        successor = next_attempt(successor)
    begin(successor).close()
    assert local(successor) == {"metrics.jsonl": "1\n2\n" if was_here else "1\n"}


def test_what_was_fetched_in_part_replaces_nothing(in_folder: Round, on_machine: Any) -> None:
    courier = begin(in_folder)
    write(in_folder, pairs_jsonl="a", metrics_jsonl="1\n")
    courier.deliver()
    courier.close()
    before = set(StoredFile.objects.values_list("path", "sha256"))
    row = StoredFile.objects.get(path="pairs.jsonl")
    default_storage.delete(row.key)
    default_storage.save(row.key, ContentFile(b"b"))
    on_machine("second")
    successor = next_attempt(in_folder)
    courier = hire(successor)
    with pytest.raises(
        StorageFaultError, match=r"^The file runs/reviews-1/pairs.jsonl is damaged in the storage"
    ):
        courier.fetch()
    assert not courier.deliver()
    courier.close()
    assert set(StoredFile.objects.values_list("path", "sha256")) == before


@pytest.mark.parametrize("trained", ["", "assist/draft"])
def test_a_log_is_never_shorter_than_its_checkpoint(
    in_folder: Round, monkeypatch: pytest.MonkeyPatch, trained: str
) -> None:
    """The child adds to its log, and then writes a checkpoint, while the state is collected."""
    courier = begin(in_folder)
    log = in_folder.run_dir / trained / "metrics.jsonl"
    checkpoint(in_folder, 1, trained)
    log.write_text("1\n")
    in_order = Courier._in_order

    def slow(self: Courier) -> Any:
        for path in in_order(self):
            yield path
            step = len(log.read_text()) // 2 + 1
            log.write_text(log.read_text() + f"{step}\n")
            checkpoint(in_folder, step, trained)

    monkeypatch.setattr(Courier, "_in_order", slow)
    courier.deliver()
    courier.close()
    found = {path.removeprefix(f"{trained}/"): content for path, content in state(in_folder).items()}
    (step,) = (int(Path(name).stem.removeprefix("step-")) for name in found if name.endswith(".json"))
    assert f"checkpoints/step-{step:08d}.safetensors" in found
    assert len(found["metrics.jsonl"]) // 2 >= step


def test_a_trained_run_needs_no_checkpoint_and_is_tidied(in_folder: Round) -> None:
    courier = begin(in_folder)
    checkpoint(in_folder, 20)
    courier.deliver()
    write(in_folder, adapter__weights="w", done_json=json.dumps({"train": {}}))
    courier.deliver()
    assert state(in_folder).keys() == {"adapter/weights", "done.json"}
    courier.leave()
    courier.close()
    named = {row.key for row in StoredFile.objects.all()}
    assert set(objects.list_keys(in_folder.folder)) == named
    assert not in_folder.run_dir.exists()


def test_states_are_put_now_and_then_beside_the_work(in_folder: Round, settings: Any) -> None:
    settings.CHECKPOINT_SECONDS = 0
    courier = begin(in_folder)
    for content in ("1\n", "1\n2\n"):
        write(in_folder, metrics_jsonl=content)
        wanted = {"metrics.jsonl": content}
        wait_for(lambda wanted=wanted: courier.tick() or state(in_folder) == wanted)  # type: ignore[misc]
    courier.close()


def test_no_state_is_put_before_it_is_due(in_folder: Round, settings: Any) -> None:
    settings.CHECKPOINT_SECONDS = 3_600
    courier = begin(in_folder)
    write(in_folder, metrics_jsonl="1\n")
    wait_for(lambda: courier.tick() or state(in_folder))
    write(in_folder, metrics_jsonl="1\n2\n")
    courier.tick()
    courier.close()  # which lets what was begun end
    courier.tick()
    assert state(in_folder) == {"metrics.jsonl": "1\n"}


def test_without_a_storage_nothing_is_carried(make_round: Any, on_machine: Any) -> None:
    on_machine("only")
    round_ = make_round("training")
    courier = begin(round_)
    write(round_, metrics_jsonl="1\n")
    courier.tick()
    assert not courier.deliver()
    courier.leave()
    courier.close()
    assert local(round_) == {"metrics.jsonl": "1\n"}
    assert not StoredFile.objects.exists()


def test_scratch_of_rounds_that_are_over_is_removed(in_folder: Round) -> None:
    begin(in_folder).close()
    couriers.clear_leftovers()
    assert in_folder.run_dir.is_dir()
    state_machine.fail(in_folder, "A resumed round may go on from it.")
    couriers.clear_leftovers()
    assert in_folder.run_dir.is_dir()
    Round.objects.update(state=Round.State.CANCELLED)
    couriers.clear_leftovers()
    assert not in_folder.run_dir.exists()


def test_what_was_forgotten_does_not_come_back_from_a_worker(in_folder: Round) -> None:
    """A worker that failed has the files still, after they were forgotten everywhere else."""
    begin(in_folder).close()
    write(in_folder, pairs_jsonl="forgotten words")
    Round.objects.filter(pk=in_folder.pk).update(state="failed")
    prompt = in_folder.project.prompts.first()
    assert prompt is not None
    forgetting.forget([consequences.prompt_target(prompt)])
    resumed = next_attempt(Round.objects.get(pk=in_folder.pk))
    begin(resumed).close()
    assert local(resumed) == {}


def test_a_state_that_says_done_has_what_was_done(in_folder: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child writes its samples, and then that it is done, while the state is collected."""
    courier = begin(in_folder)
    write(in_folder, pairs_jsonl="a")
    others = Courier._others

    def slow(self: Courier) -> Any:
        found = list(others(self))
        write(in_folder, samples_jsonl="s", done_json="{}")
        return iter(found)

    monkeypatch.setattr(Courier, "_others", slow)
    courier.deliver()
    courier.close()
    found = state(in_folder)
    assert "done.json" not in found or "samples.jsonl" in found
