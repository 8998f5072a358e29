"""The size and the context of a base model, as far as its name or configuration tells. Loads no weights."""

import json
import re
from pathlib import Path
from typing import Any

from primitives.gguf import read_context

_IN_NAME = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s?([mb])(?![a-z0-9])", re.IGNORECASE)
MOST_BYTES = 1 << 20  # of a config.json, which has some kilobytes
MOST_PARAMETERS = 10**15  # what is larger is no model
_UNITS = {"m": 10**6, "b": 10**9}


def model_size(path: str) -> int | None:
    """Return about how many parameters a base model has, a folder, a GGUF file or a hub id; None if nothing tells."""
    folder = Path(path)
    if folder.is_absolute() and (found := _by_configuration(folder / "config.json")):
        return found
    named = _IN_NAME.search(path.rstrip("/").rsplit("/", 1)[-1].replace("_", "-"))
    return round(float(named[1]) * _UNITS[named[2].lower()]) if named else None


def _by_configuration(file: Path) -> int | None:
    """Return the parameters of a decoder of these dimensions: its matrices, without norms and biases."""
    read = _read_json(file)
    try:
        shape = read.get("text_config", read)
        hidden, layers, words = (
            int(shape[name]) for name in ("hidden_size", "num_hidden_layers", "vocab_size")
        )
        inner = int(shape.get("intermediate_size") or 4 * hidden)
        heads = int(shape.get("num_attention_heads") or 1)
        shared = int(shape.get("num_key_value_heads") or heads)
        wide = int(shape.get("head_dim") or hidden // heads)
        experts = int(shape.get("num_local_experts") or shape.get("num_experts") or 1)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        return None
    attention = 2 * hidden * wide * (heads + shared)
    ends = words * hidden * (1 if shape.get("tie_word_embeddings") else 2)
    found = ends + layers * (attention + 3 * hidden * inner * experts)
    return found if 0 < found < MOST_PARAMETERS else None


def context_length(path: str) -> int | None:
    """Return the model's longest input in tokens, as its files tell; None for a model on another machine."""
    if not path.startswith("/"):  # a hub id is nothing to look for among this machine's files
        return None
    if (gguf := _only_gguf(Path(path))) is not None:
        return read_context(gguf)
    data = _read_json(Path(path) / "config.json")
    if not isinstance(data, dict):
        return None
    limit = data.get("max_position_embeddings") or data.get("n_positions")
    return limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else None


def _read_json(file: Path) -> Any:
    """Return what a file of JSON holds, or None for a file that cannot be read, is too large or is nested too deep."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
        return json.loads(content) if len(content) <= MOST_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None


def _only_gguf(path: Path) -> Path | None:
    """Return the GGUF file that a base model is, or that its folder holds in place of a config.json."""
    if path.suffix == ".gguf":
        return path
    files = [] if (path / "config.json").exists() else sorted(path.glob("*.gguf"))[:2]
    return files[0] if len(files) == 1 else None
