"""Base models by name: the folder, GGUF file or hub id that a name stands for, and whether this site allows it.

It is asked wherever a name comes in or is used: for a new project, its settings and a round's plan. The worker asks
once more before it writes config.json. "Not there" and "not allowed" are one answer, so that nothing can be probed.
"""

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from django.conf import settings
from django.utils.text import Truncator
from django.utils.translation import gettext as _

from primitives.model_folder import (
    CONFIG,
    find_common_problem,
    find_problem,
    list_ggufs,
    list_names,
    only_gguf,
)

STARTER = "starter"  # the model that comes with Whetstone, by this name in the database
SMOLLM2 = "smollm2"  # the chat model that the demo downloads, likewise
LONGEST = 450  # characters
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB_ID = re.compile(rf"({_PART}/{_PART})(/{_PART}\.gguf)?")  # a repository, and perhaps a file in it
_LONGEST_HUB_ID = 96
_PART_OF_GGUF = re.compile(r"-\d+-of-\d+\.gguf$")
_FOLDER = ("/", "~/")  # what the name of a folder or a file begins with; every other name is a hub id


def locate(name: str) -> str | None:
    """Return the absolute path or the hub id that a name stands for; None if it is missing or not allowed."""
    if name == STARTER:
        return str(settings.STARTER_MODEL)
    if name == SMOLLM2:
        return _allowed_path(str(smollm2_folder()))
    if len(name) > LONGEST or not name.isprintable():
        return None
    return _allowed_path(os.path.expanduser(name)) if name.startswith(_FOLDER) else _allowed_hub_id(name)


def smollm2_folder() -> Path:
    """Return where the demo's chat model is, or is to be."""
    return Path(settings.VAR) / "models" / SMOLLM2


def explain_refusal(name: str) -> str:
    """Say that `locate` found nothing, in a sentence that does not tell why."""
    return _(
        "The base model “%(name)s” does not exist, or is not among those that this site allows (WHETSTONE_MODELS)."
    ) % {"name": Truncator("".join(one if one.isprintable() else "?" for one in name)).chars(100)}


def files_problem(name: str) -> str:
    """Return why the files that an allowed name stands for are not a whole model, in a sentence, or "".

    Weights are not read. The engine checks the rest when it loads them.
    """
    folder = Path(locate(name) or "")
    if name == STARTER or not folder.is_absolute():
        return ""
    if problem := gguf_problem(name):
        return problem
    try:
        if folder.is_file():
            return ""
        names = list_names(folder)
        gguf = only_gguf(names)
        reason = find_common_problem(folder, names, gguf) if gguf else find_problem(folder, name)
    except OSError as error:
        reason = error.strerror or str(error)
    sentence = _("The base model “%(name)s” cannot be used: %(reason)s.")
    return sentence % {"name": Truncator(name).chars(100), "reason": reason} if reason else ""


def gguf_problem(name: str) -> str:
    """Return why the GGUF file or files that an allowed name stands for are not one model, in a sentence, or "".

    Only names and first bytes are looked at here. The engine reads the whole file before it loads it.
    """
    found = Path(locate(name) or "")
    if not found.is_absolute():
        return ""
    try:
        files = _ggufs(found)
        damaged = [file.name for file in files if _first_bytes(file) != b"GGUF"]
    except OSError as error:
        return _("The base model cannot be read: %(reason)s.") % {"reason": error.strerror or str(error)}
    if any(_PART_OF_GGUF.search(file.name) for file in files):
        return _("The base model is in several parts: join them with llama-gguf-split --merge.")
    if len(files) > 1:
        names = {
            "files": ", ".join(file.name for file in files[:5]),
            "first": f"{name.rstrip('/')}/{files[0].name}",
        }
        return (
            _("The folder holds several GGUF files (%(files)s): name one of them, such as %(first)s.") % names
        )
    if damaged:
        return _("%(file)s is not a GGUF file, or is damaged: copy it again.") % {"file": damaged[0]}
    return ""


def _ggufs(found: Path) -> list[Path]:
    """Return the GGUF files that may be meant: none in a folder with a configuration and several, or other weights."""
    if found.is_file():
        return [found]
    names = list_names(found)
    is_other = CONFIG in names and only_gguf(names) is None
    return [] if is_other else [found / name for name in list_ggufs(names)]


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def is_here(name: str) -> bool:
    """Check whether an allowed model needs no download: a path, or a hub id whose files are in the cache."""
    found = locate(name)
    if found is None or found.startswith("/"):
        return found is not None
    repository = "--".join(found.split("/")[:2])
    return (settings.HUB_CACHE / f"models--{repository}" / "snapshots").is_dir()


def _allowed_path(name: str) -> str | None:
    """Return a folder or a GGUF file with its links resolved. Outside of the allowed roots, nothing is looked at."""
    path, roots = Path(name), list(_roots())
    if ".." in path.parts or not any(path.is_relative_to(root) for root in roots):
        return None
    try:
        found = path.resolve()
        is_allowed = any(found.is_relative_to(root) for root in roots) and (
            found.is_dir() or (found.suffix == ".gguf" and found.is_file())
        )
    except (OSError, RuntimeError):  # a name that no file can have, or links in a circle
        return None
    return str(found) if is_allowed else None


def _roots() -> Iterator[Path]:
    """Yield the allowed roots, each as it is written and as it is with its links resolved."""
    for entry in settings.BASE_MODELS:
        if entry.startswith(_FOLDER):
            root = Path(entry).expanduser()
            yield root
            yield root.resolve()


def _allowed_hub_id(name: str) -> str | None:
    named = _HUB_ID.fullmatch(name)
    repository = named[1] if named else ""
    if not repository or len(repository) > _LONGEST_HUB_ID or ".." in name or "--" in repository:
        return None
    patterns = [entry for entry in settings.BASE_MODELS if not entry.startswith(_FOLDER)]
    if not any(fnmatchcase(repository, pattern) for pattern in patterns):
        return None
    # The engine runs in the checkout: what lies there must not be taken for a model of the hub.
    return None if (settings.BASE_DIR / name).exists() else name
