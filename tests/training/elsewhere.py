"""A round's download, unpacked and trained again in another folder, as on another machine."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from django.conf import settings


def unpack(response: Any, folder: Path) -> Path:
    """Unpack a download, and return the run directory in it."""
    sent = b"".join(response)
    assert int(response["Content-Length"]) == len(sent)
    with tarfile.open(fileobj=io.BytesIO(sent)) as archive:
        archive.extractall(folder, filter="data")
    [run] = folder.iterdir()
    return run


def train(run: Path) -> None:
    trained = subprocess.run(
        [sys.executable, "-m", "training.engine", "train", str(run)],
        cwd=settings.BASE_DIR,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert trained.returncode == 0, trained.stderr
