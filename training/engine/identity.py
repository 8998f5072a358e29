"""Digests of files and versions of libraries, which tell the inputs of a run from others."""

import contextlib
import hashlib
from importlib import metadata
from pathlib import Path

_LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "safetensors")
_WHOLE = 256 << 20  # bytes of a file that is hashed whole
_BLOCK = 1 << 16


def library_versions() -> dict[str, str]:
    """Return the versions of the installed libraries that the numbers depend on."""
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def digest(path: Path) -> str:
    """Return the SHA-256 of a file; above 256 MiB, of its size, first MiB and 256 blocks spread evenly over it.

    Hashing 15 GB of weights at every start would cost more than loading them; fine-tuning moves every
    tensor, so spread blocks tell versions of a model apart.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        state = hashlib.sha256(f"sampled:{size}:".encode())
        state.update(file.read(1 << 20))
        for block in range(256):
            file.seek(block * (size - _BLOCK) // 255)
            state.update(file.read(_BLOCK))
    return state.hexdigest()
