"""Repositories of models on the hub: their cache, their listing and their download.

The hub is asked at most once, and only for what the cache lacks. So a run starts without a network, and every run on a
machine has the same base model until a newer one is named by its commit.
"""

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.file_download import repo_folder_name

from training.engine.errors import ModelError, first_line

_ANSWER_SECONDS = 3  # for the connection, and again for the answer
_PATIENCE_SECONDS = 5  # for both, and for the look-up of the host's address


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form `owner/name`, and not that of a path."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith(".gguf")


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Let no library ask the hub, as HF_HUB_OFFLINE does: what is needed is in the cache."""
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def cached_folder(repository: str, revision: str | None) -> Path | None:
    """Return the folder with what the cache holds of a revision, perhaps a part; its name is the commit."""
    try:
        found = huggingface_hub.HfApi().resolve_revision(repository, revision=revision, local_files_only=True)
    except (HFValidationError, RevisionResolutionError):
        return None
    where = Path(constants.HF_HUB_CACHE).expanduser() / repo_folder_name(
        repo_id=repository, repo_type="model"
    )
    folder = where / "snapshots" / found.resolved
    return folder if folder.is_dir() else None


def list_names(repository: str, revision: str | None) -> list[str]:
    """Return the names of a revision's files as the hub tells them. Raises ModelError, after seconds if it is silent.

    The look-up of a host's address knows no time limit, so it is left to a thread that may be abandoned.
    """
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            told = huggingface_hub.HfApi().model_info(repository, revision=revision, timeout=_ANSWER_SECONDS)
            answers.put([file.rfilename for file in told.siblings or []])
        except Exception as error:  # noqa: BLE001 - raised below, in the thread that waits
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=_PATIENCE_SECONDS)
    except queue.Empty:
        answer = TimeoutError()
    if isinstance(answer, Exception):
        raise _refusal(repository, revision, answer) from answer
    names: list[str] = answer
    return names


def download(repository: str, revision: str | None, names: Sequence[str]) -> Path:
    """Bring files of a revision into the cache and return their folder. Raises ModelError."""
    try:
        return Path(
            huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=list(names))
        )
    except Exception as error:  # a network can fail in more ways than the library names
        raise _refusal(repository, revision, error) from error


def _refusal(repository: str, revision: str | None, error: Exception) -> ModelError:
    """Return the sentence for what the hub answered, or for its silence."""
    address = f"{constants.ENDPOINT}/{repository}"
    if isinstance(error, HFValidationError):
        sentence = f"{repository} is neither a file, nor a folder, nor the id of a model."
    elif isinstance(error, RevisionNotFoundError):
        sentence = f"{repository} has no revision {revision}: see {address} for those that it has."
    elif isinstance(error, GatedRepoError):
        sentence = f"{repository} is gated: accept its terms at {address} and set HF_TOKEN."
    elif isinstance(error, RepositoryNotFoundError):
        sentence = f"{address} does not exist or is private: check the id, or set HF_TOKEN."
    elif isinstance(error, HfHubHTTPError):
        sentence = f"{address} cannot be read: {first_line(error)}"
    elif isinstance(error, OfflineModeIsEnabled):
        sentence = (
            f"{repository} is not complete in the cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE is set: "
            "unset it for a download, or name a folder instead."
        )
    else:
        sentence = (
            f"{repository} is not complete in the cache ({constants.HF_HUB_CACHE}), and {constants.ENDPOINT} cannot "
            f"be reached ({first_line(error)}): check the network, or name a folder instead."
        )
    return ModelError(sentence)
