"""The places of adapters: whether there is one, what its configuration says, its files here, and where a new one goes.

Everything in `usage` that reads or writes an adapter asks here.
"""

import re
import shutil
import uuid
from pathlib import Path
from typing import Any

from django.conf import settings as site
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.models import Policy, Project
from primitives.files import sync_directory
from training.rounds.starts import adapter_folder
from training.storage import folders
from training.storage.folders import Folder


def has_adapter(policy: Policy) -> bool:
    """Return whether the adapter of a policy can be read from here."""
    return (
        bool(policy.adapter) and adapter_folder(policy.adapter).find("adapter_model.safetensors") is not None
    )


def read_config(policy: Policy) -> dict[str, Any]:
    """Return what adapter_config.json says, {} where it cannot be read."""
    found = adapter_folder(policy.adapter).read_json("adapter_config.json")
    return found if isinstance(found, dict) else {}


def require_adapter(policy: Policy) -> Folder:
    """Return the folder of a policy's adapter. Raises RefusalError if it cannot be read from here."""
    if not has_adapter(policy):
        sentence = _("The adapter of “%(policy)s” is not on this machine.")
        raise RefusalError(sentence % {"policy": policy.name})
    return adapter_folder(policy.adapter)


def keep_adapter(project: Project, aside: Path) -> str:
    """Move a folder on the disk of var/runs into its place as a new adapter, and return its name in the database."""
    name = f"runs/{project.slug}-brought-{uuid.uuid4().hex[:12]}/adapter"
    folder = Path(site.VAR) / name
    folder.parent.mkdir(parents=True)
    aside.rename(folder)
    sync_directory(folder.parent)
    folders.store(name)
    return name


def drop_adapter(name: str) -> None:
    """Delete an adapter that `keep_adapter` placed and no policy names."""
    folders.forget(Folder(name).root, ["adapter"])
    shutil.rmtree((Path(site.VAR) / name).parent, ignore_errors=True)


def file_stem(policy: Policy) -> str:
    """Return the beginning of a file's name for a policy: letters, digits, and marks that every system takes."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", policy.name).strip("-.") or f"policy-{policy.pk}"
    return f"{policy.project.slug}-{name}"[:100]
