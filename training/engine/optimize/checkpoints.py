"""Checkpoints, which an interrupted run resumes from: adapter, optimizer, position, sizes of the logs.

A checkpoint is two files: tensors, then a description with their digest. It counts only when both are there and
agree. So a torn one is skipped for the one before. The learning rate and every random number are
functions of seed and position, and need no state of their own.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from training.engine.errors import StaleCheckpointError
from training.engine.rundir import parse_json, read_object, storing, write_json, write_whole

SETTINGS = "settings"  # of a fingerprint: what `configuration` is the hash of, to say which one changed
_KEPT = 2


@dataclass(frozen=True)
class Position:
    """The position of a run: `step` optimizer steps, and the sizes in bytes of its logs then.

    `evaluated` is the step of the last line of evals.jsonl: a stop may come between a step and its evaluation.
    """

    step: int
    metrics_size: int
    evals_size: int
    evaluated: int


def save(
    folder: Path, position: Position, tensors: dict[str, torch.Tensor], fingerprint: dict[str, str]
) -> None:
    """Write a checkpoint whole and drop all but the last two. Raises StorageError."""
    with storing(folder):
        folder.mkdir(exist_ok=True)
    content = safetensors.torch.save(tensors)
    name = f"step-{position.step:08d}"
    write_whole(folder / f"{name}.safetensors", content)
    description = asdict(position) | {
        "sha256": hashlib.sha256(content).hexdigest(),
        "fingerprint": fingerprint,
    }
    write_json(folder / f"{name}.json", description)
    with storing(folder):
        for old in sorted(folder.glob("step-*.json"))[:-_KEPT]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)


def load_latest(
    folder: Path, fingerprint: dict[str, str], earlier: Mapping[str, str | None] | None = None
) -> tuple[Position, dict[str, torch.Tensor], list[str]] | None:
    """Return the newest whole checkpoint with the names of newer torn ones, or None if there is none.

    `earlier` are values of the fingerprint that stand for the same, None for one that is missing. Raises
    StaleCheckpointError naming what changed since the checkpoint was written.
    """
    torn: list[str] = []
    names = {path.stem for path in folder.glob("step-*.*")}
    for name in sorted(names, reverse=True):
        try:
            description = read_object(folder / f"{name}.json")
            content = (folder / f"{name}.safetensors").read_bytes()
            position = Position(**{part.name: description[part.name] for part in fields(Position)})
            was = description["fingerprint"]
            whole = hashlib.sha256(content).hexdigest() == description["sha256"]
            whole = whole and isinstance(was, dict) and _is_sound(position)
        except (OSError, ValueError, KeyError):
            whole = False
        if not whole:
            torn.append(name)
            continue
        now = fingerprint | {name: hash for name, hash in (earlier or {}).items() if was.get(name) == hash}
        changed = [what for what in now if what != SETTINGS and now[what] != was.get(what)]
        if changed:
            named = _changed_settings(was.get(SETTINGS), fingerprint.get(SETTINGS))
            raise StaleCheckpointError(
                f"The checkpoints belong to another {' and another '.join(changed)}{named};"
                f" restore it, or remove {folder} to start over."
            )
        return position, safetensors.torch.load(content), torn
    return None


def _is_sound(position: Position) -> bool:
    return all(type(number) is int and number >= 0 for number in asdict(position).values())


def _changed_settings(before: str | None, after: str | None) -> str:
    """Return the settings that changed, in brackets, where a checkpoint says what they were; or ""."""
    if not before or not after or before == after:
        return ""
    try:
        old, new = (dict(_flat(parse_json(text.encode()))) for text in (before, after))
    except (ValueError, AttributeError):
        return ""
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return f" ({', '.join(f'{name} was {old.get(name)}, is {new.get(name)}' for name in names[:3])})"


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
