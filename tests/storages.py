"""Storages with the faults of disks."""

import errno
import os
import threading
from pathlib import Path
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage


class FullStorage(FileSystemStorage):
    """A disk with room for ten bytes more."""

    def _save(self, name: str, content: Any) -> str:
        path = Path(self.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.read(10))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class HalfStorage(FileSystemStorage):
    """A storage that keeps half of each file, and says that all went well."""

    def _save(self, name: str, content: Any) -> str:
        whole = content.read()
        return super()._save(name, ContentFile(whole[: len(whole) // 2]))


class HangingStorage(FileSystemStorage):
    """A storage that has a part of each file, and waits for `go` before it takes the rest."""

    go = threading.Event()

    def _save(self, name: str, content: Any) -> str:
        saved: str = super()._save(name, ContentFile(b"a part"))
        self.go.wait(60)
        return saved
