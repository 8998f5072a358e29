"""Child processes of the engine: start, environment, end, and the reason of an end."""

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings as site

from training.engine.errors import LockedError, StorageError, disk_full, shorten
from training.engine.rundir import RunDirectory

TORCHRUN_FAILED = 1
# A line of torchrun's about a process that failed: `exitcode  : -9 (pid: 4711)`. The first to fail is told last, after
# those that torchrun then ended.
EXIT = re.compile(r"exitcode\s*: (-?\d+) \(pid: \d+\)")
# The lines of a process's traceback that are not indented. Each process has a prefix of its own, or none.
TRACEBACK = re.compile(r"(|\[rank\d+\]: )Traceback \(most recent call last\):")
RAISED = re.compile(r"[\w.]+(?:Error|Exception)(?:: .+)?")
CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
# Names of verbs in a round's reason.
VERBS = {
    "train": "Training",
    "sample": "Sampling",
    "scale": "Scaling the adapter",
    "probe": "Fitting the probe",
    "rate": "Rating samples",
    "plan": "The estimate",
}
TICK_SECONDS = 1.0  # how often the database hears of progress, and the worker of a cancel
GRACE_SECONDS = 10.0  # what a child gets to write its checkpoint; the engine needs 2
NEARLY_FULL = 1 << 20  # bytes left on a disk on which not even a log can be written
_NO_ROOM = "{folder} cannot be written; free some space and resume the round."

# The environment that a child needs of this process. Everything else stays here: the database's address, the broker's,
# the key of the site.
KEPT = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV", "XDG_CACHE_HOME"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),  # in lower case too
    }
)
KEPT_PREFIXES = (
    *(
        "LC_",
        "PYTHON",
        "HF_",
        "HUGGINGFACE_",
        "TRANSFORMERS_",
        "TOKENIZERS_",
        "SAFETENSORS_",
        "VLLM_",
        "BNB_",
        "WANDB_",
        "TRACKIO_",
    ),
    *("TORCH", "PYTORCH_", "TRITON_", "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_"),
    *("OMP_", "KMP_", "GOMP_", "MKL_", "DNNL_", "OPENBLAS_"),
)


def child_environment() -> dict[str, str]:
    """Return the part of this process's environment that a child gets."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() in KEPT or name.startswith(KEPT_PREFIXES) or name in site.CHILD_ENVIRONMENT
    }


def start_child(
    verb: str, folder: Path, *arguments: str, processes: int = 1, **where: Any
) -> subprocess.Popen[bytes]:
    """Start `python -m training.engine VERB` over a run directory. `where` are Popen's arguments for its output.

    Several `processes` are started by torchrun, one for each GPU. The child leads a session of its own, so that a
    Ctrl-C reaches the worker alone, which then ends the child. Its input is a pipe, which ends with this process even
    when that is killed. The child then ends by itself. So it does after `communicate` and at the end of
    `with child:`, which close its input.
    """
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    several = torchrun if processes > 1 else []
    return _start(*several, "training.engine", "--end-with-input", verb, str(folder), *arguments, **where)


def start_talking_child(verb: str, *arguments: str, **where: Any) -> subprocess.Popen[bytes]:
    """Start a verb that reads its standard input, which ends when this process does."""
    return _start("training.engine", verb, *arguments, **where)


def _start(*arguments: str, **where: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=site.BASE_DIR,
        env=child_environment(),
        stdin=subprocess.PIPE,
        start_new_session=True,
        **where,
    )


def has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Wait for the next tick. Return True as soon as the child has ended."""
    try:
        child.wait(TICK_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def end_child(child: subprocess.Popen[bytes]) -> None:
    """End the child and what it started: with SIGTERM, so that it writes its checkpoint, then with SIGKILL.

    What torchrun started leads sessions of its own, and is ended by it.
    """
    started = _descendants(child)
    _signal_group(child.pid, signal.SIGTERM if child.poll() is None else signal.SIGKILL)
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        _signal_group(child.pid, signal.SIGKILL)
        child.wait()
    for process in started:
        with suppress(psutil.Error):
            process.kill()
    if child.stdin:
        with suppress(OSError):  # of what it was told last, and will never hear
            child.stdin.close()


def _descendants(child: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with suppress(psutil.Error):
        if child.poll() is None:
            return psutil.Process(child.pid).children(recursive=True)
    return []


def _signal_group(leader: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def end_orphan(files: RunDirectory) -> None:
    """End a child that outlived its worker, as when the worker alone was killed. It holds the run directory's lock.

    Raises LockedError if the lock is not given up.
    """
    deadline = time.monotonic() + GRACE_SECONDS
    while files.root.is_dir():
        try:
            with files.locked():
                return
        except LockedError:
            overdue = time.monotonic() > deadline
            if time.monotonic() > deadline + GRACE_SECONDS:
                raise
            pid, _, host = (files.root / ".lock").read_text().partition(" ")
            if pid.isdecimal() and host == socket.gethostname():  # elsewhere, the number is another process's
                _signal_group(int(pid), signal.SIGKILL if overdue else signal.SIGTERM)
            time.sleep(0.2)


def explain_exit(verb: str, code: int, log: Path) -> str:
    """Return why a child ended, in a sentence: its last line, or what its exit code or the disk tells."""
    what = VERBS.get(verb, verb.capitalize())
    if code < 0:
        return _explain_signal(what, -code)
    said = log.read_text(errors="replace").splitlines()
    lines = [line.strip() for line in said if line.strip()]
    ended = [int(found[1]) for line in lines if (found := EXIT.search(line))]
    if code == TORCHRUN_FAILED and ended and ended[-1] < 0:
        return _explain_signal(what, -ended[-1])
    told = [line for line in lines if line.startswith("error: ")]  # torchrun has more to say after it
    clue = _first_raised(said) or [f"exit code {ended[-1]}."] if ended else lines[-1:]
    last = (told[-1:] or clue or [f"exit code {code}."])[0]
    is_full = code == StorageError.exit_code or shutil.disk_usage(log.parent).free < NEARLY_FULL
    if is_full and not last.startswith("error: "):  # which went to a log on the same disk
        last = f"the disk is full, or {_NO_ROOM.format(folder=log.parent)}"
    return f"{what} failed: {shorten(last.removeprefix('error: '))}"


def _first_raised(lines: list[str]) -> list[str]:
    """Return the last line of the first traceback, if there is one, with what it was raised in the handling of.

    The other processes raise later, as the connection to the first one is lost.
    """
    begun = [(at, found[1]) for at, line in enumerate(lines) if (found := TRACEBACK.fullmatch(line))]
    if not begun:
        return []
    start, prefix = begun[0]
    raised: list[str] = []
    goes_on = True  # into the next traceback
    for line in (line.removeprefix(prefix) for line in lines[start:] if line.startswith(prefix)):
        if TRACEBACK.fullmatch(line):
            if not goes_on:
                break
            raised, goes_on = [], False
        elif not raised and RAISED.fullmatch(line):
            raised = [line]
        goes_on = goes_on or line.startswith(CHAINED)
    return raised


def explain_error(error: Exception, folder: Path) -> str:
    """Return why a worker could not go on in a folder: a disk without room or read-only, or what the error says.

    What cannot be written may be elsewhere, such as in the storage: where the error names it, so does the sentence.
    """
    # Of a copy or a move, the first name is that of its source.
    named = (getattr(error, "filename2", None), getattr(error, "filename", None))
    place = next((name for name in named if name and not isinstance(name, int)), folder)
    if disk_full(error):
        return f"The disk is full, or {_NO_ROOM.format(folder=place)}"
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return f"The disk is read-only, and {place} cannot be written; make it writable and resume the round."
    return f"The worker could not go on: {type(error).__name__}: {error}"


def _explain_signal(what: str, number: int) -> str:
    if number == signal.SIGKILL:
        return (
            f"{what} was killed (signal 9), as the system does when memory runs out; "
            "resume the round, with a smaller max_tokens if it happens again."
        )
    return f"{what} was ended by signal {number} ({signal.strsignal(number)})."
