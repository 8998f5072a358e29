"""Merged weights: base model and adapter as one model in one tar file, made by a worker and kept for some days.

Rows are the truth, as for prepared exports: a worker holds an attempt of the row, tells that it is alive, and is
replaced when it goes silent. The page that waits looks after it.
"""

import hashlib
import logging
import shutil
import subprocess
import tarfile
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast

from django.conf import settings as site
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.http import FileResponse
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.exports.prepared import drop_expired, send_file, store_file
from annotate.models import Policy, User
from annotate.models.jobs import LostError
from annotate.projects import base_models
from annotate.storage_errors import explain_failure
from annotate.unnamed_files import drop_unnamed
from primitives.model_folder import list_shards
from training.engine.rundir import RunDirectory
from training.models import MergedWeights
from training.recipes.sizes import model_size
from training.rounds import child_process, workers
from training.rounds.phases.following import read_progress
from training.rounds.plan import Plan
from training.rounds.starts import check_policy, on_this_machine
from training.storage.hiding import tell_reason
from training.storage.objects import StorageFaultError
from training.usage import model_card
from training.usage.places import require_adapter
from training.usage.serving import merged_stem
from training.usage.weights_check import count_weights

logger = logging.getLogger(__name__)

TASK = "training.tasks.merge_weights"
FOLDER = "merged/"
KEPT = timedelta(days=3)
ATTEMPTS = 3
MESSAGE_LIFE = timedelta(days=1)

HALVES = {"BF16", "F16"}  # as safetensors names them

State = MergedWeights.State
Precision = MergedWeights.Precision


def request(policy: Policy, by: User | None, precision: str = Precision.BASE) -> MergedWeights:
    """Ask for the merged weights of a policy in a precision, or return those that are ready or on their way.

    Raises RefusalError if there is nothing to merge.
    """
    sweep()
    _drop_left_behind()
    if not policy.adapter:
        raise RefusalError(_("This policy has no adapter to merge."))
    check_policy(policy)
    there = MergedWeights.objects.filter(policy=policy, precision=precision).filter(
        Q(state__in=MergedWeights.LIVE) | Q(state=State.DONE, expires_at__gt=Now() + KEPT / 3)
    )
    if (found := there.first()) is not None:
        return found
    try:
        with transaction.atomic():
            made = MergedWeights.objects.create(
                policy=policy,
                precision=precision,
                created_by=by,
                filename=f"{merged_stem(policy, precision)}.tar",
            )
    except IntegrityError:  # another user asked at the same moment
        return there.get()
    transaction.on_commit(lambda: send(made))
    return made


def send(merge: MergedWeights) -> None:
    """Tell a worker. Where the broker is away, the waiting page tries again."""
    if workers.send_message(TASK, str(merge.pk), MESSAGE_LIFE):
        MergedWeights.objects.filter(pk=merge.pk).update(sent_at=Now())


def look_after(merge: MergedWeights) -> None:
    """Free a merge whose worker went silent, and send its message again if it seems to be lost."""
    silence = timedelta(seconds=site.SILENT_SECONDS)
    rows = MergedWeights.objects.filter(pk=merge.pk)
    silent = rows.silent(silence)
    silent.filter(attempt__gte=ATTEMPTS).give_up()
    freed = silent.update(state=State.QUEUED, phase="", share=0)
    is_lost = Q(sent_at=None) | Q(sent_at__lt=Now() - silence)
    if freed or rows.filter(is_lost, state=State.QUEUED).exists():
        send(merge)


def look_after_all() -> None:
    """Look after every merge that waits, whether or not its page is open."""
    for merge in MergedWeights.objects.live():
        look_after(merge)


def download(merge: MergedWeights) -> FileResponse:
    """Return the file until it expires. Raises MissingError."""
    return send_file(merge, "application/x-tar")


def sweep() -> None:
    """Delete the files that have expired, and their rows some time later."""
    drop_expired(MergedWeights.objects.all(), KEPT)


def _drop_left_behind() -> None:
    """Delete what workers left that were killed: files in the storage, and on this machine what they merged in."""
    drop_unnamed(MergedWeights, FOLDER, KEPT, live=MergedWeights.objects.live())
    folders = list(_workplace().glob("*-*"))  # before their rows are looked for, which are there first
    rows = MergedWeights.objects.filter(state=State.RUNNING).values_list("pk", "attempt")
    running = {f"{key}-{attempt}" for key, attempt in rows}
    for folder in folders:
        if folder.name not in running:
            shutil.rmtree(folder, ignore_errors=True)


def _workplace() -> Path:
    return Path(site.VAR) / "merging"


def measure_sizes(policy: Policy) -> dict[str, int]:
    """Return about how many bytes the merged weights of a policy have, by precision. Unknown sizes are left out."""
    found = base_models.locate(policy.base_model)
    if found is None:
        return {}
    kinds = _count_stored(Path(found))
    count = sum(kinds.values()) or model_size(found) or 0
    sizes = {Precision.FLOAT16: 2 * count, Precision.FLOAT32: 4 * count}
    if kinds:  # weights in several precisions are merged in float32, as the engine loads them
        is_half = len(kinds) == 1 and kinds.keys() <= HALVES
        sizes[Precision.BASE] = sizes[Precision.FLOAT16 if is_half else Precision.FLOAT32]
    elif found.endswith(".gguf"):
        sizes[Precision.BASE] = sizes[Precision.FLOAT16]
    return {str(precision): size for precision, size in sizes.items() if size}


def _count_stored(folder: Path) -> Counter[str]:
    """Return how many weights of each type a folder of safetensors holds, nothing where that cannot be read."""
    if not folder.is_absolute() or not folder.is_dir():
        return Counter()
    try:
        return sum((count_weights(folder / name) for name in list_shards(folder)), Counter())
    except (OSError, ValueError):
        return Counter()


# --- What a worker does ------------------------------------------------------------------------------------------


def run(merge_id: str, worker: str) -> None:
    """Merge if no other worker does. A message that arrives twice, or too late, finds nothing to do."""
    merge = MergedWeights.objects.filter(pk=merge_id).select_related("policy__project").first()
    if merge is None or not merge.take(worker=worker):
        return
    folder = _workplace() / f"{merge.pk}-{merge.attempt}"
    try:
        _drop_left_behind()
        _merge(merge, folder)
    except LostError:
        pass
    except RefusalError as refused:
        reason = tell_reason(logger, f"Merge {merge.pk}", str(refused), merge.policy.base_model)
        merge.end(State.FAILED, error=reason)
    except StorageFaultError as error:
        merge.end(State.FAILED, error=str(error))
    except Exception as error:
        logger.exception("Merge %s failed", merge.pk)
        merge.end(State.FAILED, error=explain_failure(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _beat(merge: MergedWeights, phase: str, share: float) -> None:
    """Tell how far it is. Raises LostError if it is no longer this worker's, or the worker was asked to stop."""
    if workers.is_stopping(merge.worker):
        merge.hand_back(phase="", share=0, sent_at=None)
    if not merge.tell(phase=phase, share=share):
        raise LostError


def _merge(merge: MergedWeights, folder: Path) -> None:
    """Have the engine merge into a folder, then write the folder as one file into the storage."""
    policy = merge.policy
    require_adapter(policy)
    config = on_this_machine(Plan.for_project(policy.project, policy, {}, trains=False).config)
    files, out = RunDirectory(folder / "run"), folder / "model"
    files.write_config(config)
    _follow(merge, files, out)
    done = files.read_done()["merge"]
    card = model_card.write(policy, model_card.Kind.MERGED, dtype=done["dtype"], limits=done["events"])
    (out / "README.md").write_text(card)
    with tempfile.TemporaryFile(dir=folder) as file:
        sha256, size = _pack(merge, out, Path(merge.filename).stem, cast(BinaryIO, file))
        file.seek(0)
        name = f"{FOLDER}{merge.pk}-{merge.attempt}"
        stored = store_file(merge, name, file, lambda: _beat(merge, "saving", 1))
    ended = merge.end(
        State.DONE,
        file=stored,
        size=size,
        sha256=sha256,
        dtype=done["dtype"],
        error=" ".join(done["events"]),
        share=1,
        expires_at=Now() + KEPT,
    )
    if not ended:
        merge.file.storage.delete(stored)


def _follow(merge: MergedWeights, files: RunDirectory, out: Path) -> None:
    """Run the engine's verb as a child. Raises RefusalError with its reason, or LostError, once it is gone."""
    log = files.root / "merge.log"
    with log.open("wb") as output:
        arguments = (str(out), "--dtype", merge.precision)
        child = child_process.start_child(
            "merge", files.root, *arguments, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        ended = False
        while not ended:
            ended = child_process.has_ended(child)
            progress = read_progress(files, "merge")
            _beat(merge, progress["phase"], progress["step"] / max(progress["total_steps"], 1))
    finally:
        child_process.end_child(child)
    if child.returncode:
        raise RefusalError(child_process.explain_exit("merge", child.returncode, log))


def _pack(merge: MergedWeights, out: Path, name: str, file: BinaryIO) -> tuple[str, int]:
    """Write a folder as an uncompressed tar file. Return its SHA-256 and its size."""
    digest = _Digest(merge, file)
    with tarfile.open(fileobj=cast(Any, digest), mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(out.iterdir()):
            archive.add(path, f"{name}/{path.name}", recursive=False, filter=_anonymous)
    return digest.sha256.hexdigest(), digest.size


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


class _Digest:
    """A file that is hashed as it is written, and tells that its writer is alive."""

    def __init__(self, merge: MergedWeights, file: BinaryIO) -> None:
        self.merge, self.file = merge, file
        self.sha256, self.size, self.told = hashlib.sha256(), 0, 0.0

    def write(self, content: bytes) -> int:
        self.sha256.update(content)
        self.size += len(content)
        if self.size - self.told > 256 << 20:
            self.told = self.size
            _beat(self.merge, "saving", 1)
        return self.file.write(content)
