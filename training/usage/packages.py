"""A policy's adapter with its card as one zip file, and as a folder for a hub."""

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from annotate.models import Policy
from training.provenance.portability import ADAPTER_CONFIG, adapter_members
from training.storage.folders import Folder, RunFile
from training.usage import model_card
from training.usage.places import file_stem, read_config, require_adapter
from training.usage.serving import base_name

CHUNK = 1 << 20
MADE = (1980, 1, 1, 0, 0, 0)  # of each member: the same adapter makes the same file, but for its card


def archive_name(policy: Policy) -> str:
    return f"{file_stem(policy)}.zip"


def archive_chunks(policy: Policy) -> Iterator[bytes]:
    """Return the zip file in chunks. Raises RefusalError where this machine does not have the adapter."""
    members = _members(policy, require_adapter(policy))
    return _zipped(file_stem(policy), members)


def write_folder(policy: Policy, folder: Path) -> None:
    """Write the adapter's files and its card into a folder. Raises RefusalError as `archive_chunks` does."""
    for name, source in _members(policy, require_adapter(policy)).items():
        if isinstance(source, bytes):
            (folder / name).write_bytes(source)
        else:
            with source.open() as file, (folder / name).open("wb") as copy:
                shutil.copyfileobj(file, copy)


def _members(policy: Policy, folder: Folder) -> dict[str, bytes | RunFile]:
    found = adapter_members(folder)
    found[ADAPTER_CONFIG] = _portable_config(policy)
    found["README.md"] = model_card.write(policy).encode()
    return found


def _portable_config(policy: Policy) -> bytes:
    """Return adapter_config.json with the base model's name in place of its path here."""
    data = read_config(policy)
    data["base_model_name_or_path"] = base_name(policy)
    if policy.revision:
        data["revision"] = policy.revision
    return (json.dumps(data, indent=2) + "\n").encode()


def _zipped(stem: str, members: dict[str, bytes | RunFile]) -> Iterator[bytes]:
    """Yield a zip file of members in one folder. Weights are stored as they are: they do not get smaller."""
    out = _Sink()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True) as zipped:
        for name, source in sorted(members.items()):
            info = zipfile.ZipInfo(f"{stem}/{name}", MADE)
            info.external_attr = 0o644 << 16
            with (
                io.BytesIO(source) if isinstance(source, bytes) else source.open() as file,
                zipped.open(info, "w", force_zip64=True) as member,
            ):
                while chunk := file.read(CHUNK):
                    member.write(chunk)
                    yield out.take()
            yield out.take()
    yield out.take()


class _Sink(io.RawIOBase):
    """A file without an end to seek to: what is written is taken away again."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.parts.append(bytes(content))
        return len(content)

    def take(self) -> bytes:
        taken, self.parts = b"".join(self.parts), []
        return taken
