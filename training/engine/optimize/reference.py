"""The reference's log-probabilities: computed once, before the first step, and kept.

They are computed with the policy before training, in the rows of the first epoch. Weights, shapes and precision
are the same, so the first step's margins are exactly 0. The cache's key covers all that could change a number. A
cache under another key is not used.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from training.engine.data.tokens import EncodedPair
from training.engine.model.logps import Scorer
from training.engine.optimize.distributed import Processes
from training.engine.rundir import write_whole

_SAVE_SECONDS = 30.0


Groups = Sequence[Sequence[int]]  # which pairs share a row


def cache_key(pairs: Sequence[EncodedPair], steps: Sequence[Groups], **settings: Any) -> str:
    """Return a hash of the ids that are scored, how they share rows, and `settings`.

    Ids stand for tokenizer, chat template and lengths; the caller adds model, adapter, precision, versions.
    """
    state = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for pair in pairs:
        state.update(repr((pair.prompt, pair.chosen, pair.rejected)).encode())
    for groups in steps:
        state.update(repr([list(group) for group in groups]).encode())
    return state.hexdigest()


def reference_logps(
    scorer: Scorer,
    pairs: Sequence[EncodedPair],
    steps: Sequence[Groups],
    *,
    cache: Path,
    key: str,
    processes: Processes,
    report: Callable[[int], None],
) -> torch.Tensor:
    """Return log-probabilities (pairs, 2) of chosen and rejected completions, float64, from `cache` if it has them.

    Every process returns the whole. `report` is told how many pairs are done. An interrupted computation
    resumes from what was saved.
    """
    found = _read(cache, key, len(pairs))
    if found is None:
        found = torch.full((len(pairs), 2), torch.nan, dtype=torch.float64)
    saved = time.monotonic()
    for groups in steps:
        members = [at for group in groups for at in group]
        if not found[members].isnan().any():
            continue
        found[members] = shared_logps(scorer, pairs, groups, processes)
        if processes.is_first:
            report(int((~found[:, 0].isnan()).sum()))
            if time.monotonic() - saved > _SAVE_SECONDS:
                _write(cache, key, found)
                saved = time.monotonic()
    if processes.is_first:
        _write(cache, key, found)
    processes.wait()
    return found


def shared_logps(
    scorer: Scorer, pairs: Sequence[EncodedPair], groups: Groups, processes: Processes
) -> torch.Tensor:
    """Return log-probabilities (n, 2) of the n pairs of `groups`, in that order, float64.

    Each row is computed by one process; every process returns the whole.
    """
    members = [at for group in groups for at in group]
    place = {pair: at for at, pair in enumerate(members)}
    found = torch.zeros(len(members), 2, dtype=torch.float64)
    for row, counts in processes.mine(list(scorer.rows(pairs, groups))):
        logps = scorer.score(row)
        if counts:
            found[[place[pair] for pair in row.pairs]] = logps
    processes.add_up([found])
    return found


def _write(cache: Path, key: str, logps: torch.Tensor) -> None:
    write_whole(cache, safetensors.torch.save({"logps": logps}, metadata={"key": key}))


def _read(cache: Path, key: str, count: int) -> torch.Tensor | None:
    """Return what the cache holds under `key`, or None."""
    try:
        with safe_open(cache, framework="pt") as file:
            if file.metadata().get("key") != key:
                return None
            logps: torch.Tensor = file.get_tensor("logps")
    except (FileNotFoundError, SafetensorError, OSError):
        return None
    return logps if logps.shape == (count, 2) else None
