"""A round is trained again from its download, elsewhere, to the byte."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.urls import reverse

from training.engine.rundir import RunDirectory
from training.models import Round
from training.provenance.reproduction import WEIGHTS, sha256
from training.rounds import runner, state_machine

pytestmark = pytest.mark.django_db


def test_a_download_trains_to_the_same_adapter(
    ready_project: Any,
    owner: Any,
    researcher: Any,
    teammate: Any,
    outsider: Any,
    client_for: Any,
    tmp_path: Path,
) -> None:
    options = {"batch_size": 4, "max_length": 128, "threads": 1, "epochs": 1, "learning_rate": 1e-3}
    state_machine.start(ready_project, owner, {"training": options})
    round_ = state_machine.claim_round(Round.objects.get().pk, "worker of the tests")
    assert round_ is not None
    where = reverse("round-archive", args=["reviews", 1])
    assert client_for(owner).get(where).status_code == 404  # nothing to repeat yet
    files = RunDirectory(round_.run_dir)
    runner.prepare(round_, files)
    runner.train(round_, files)
    (files.root / "secrets.log").write_text("not to be sent")

    for user, status in ((owner, 200), (teammate, 403), (outsider, 404), (None, 302)):
        assert client_for(user).get(where).status_code == status
    response = client_for(researcher).get(where)
    sent = b"".join(response)
    assert int(response["Content-Length"]) == len(sent)
    with tarfile.open(fileobj=io.BytesIO(sent)) as archive:
        archive.extractall(tmp_path, filter="data")
    run = tmp_path / "reviews-1"
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {"README.md", "config.json", "pairs.jsonl", "heldout.jsonl", "expected.sha256"} < names
    assert not {name for name in names if name.endswith(".log") or "checkpoint" in name}
    for name in ("config.json", "README.md", "result/done.json"):
        assert not {str(settings.VAR), str(settings.BASE_DIR)} & set((run / name).read_text().split('"'))
        assert str(settings.BASE_DIR) not in (run / name).read_text()

    trained = subprocess.run(
        [sys.executable, "-m", "training.engine", "train", str(run)],
        cwd=settings.BASE_DIR,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert trained.returncode == 0, trained.stderr
    here = json.loads(files.done.read_text())["train"]["outputs"][WEIGHTS]
    assert sha256(run / WEIGHTS) == here == (run / "expected.sha256").read_text().split()[0]
