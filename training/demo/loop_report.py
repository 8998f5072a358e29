"""Rows of the simulated loop: what each round taught, as a table and as JSON (docs/formats.md has its keys)."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from primitives.files import write_whole
from training.demo.measurements import KLS, Interval


@dataclass(frozen=True, kw_only=True)
class LoopRow:
    """The figures of one round, one a column. Number 0 is the base model. Seconds are wall-clock."""

    number: int
    labels: int = 0  # judgments so far that train
    gate_labels: int = 0  # judgments so far of gates
    pairs: int = 0
    loss: float | None = None
    held_out_accuracy: float | None = None
    mean_reward: float
    mean_reward_ci: Interval
    win_rate_previous: float | None = None
    win_rate_start: float | None = None
    kl_start: float
    kl_start_ci: Interval
    reward_at_kl: dict[str, float | None] = field(default_factory=dict)
    reward_at_kl_ci: dict[str, Interval | None] = field(default_factory=dict)
    train_seconds: float = 0.0
    sample_seconds: float
    distinct_2: float
    mean_length: float
    promoted: bool = True
    gate: str = ""  # better, worse, or open and even, where it did not decide
    adapter: str | None = None


def write_rows(path: Path, head: dict[str, Any], rows: Sequence[LoopRow]) -> None:
    """Write `head` and the rows so far. Raises OSError."""
    result = {**head, "rounds": [asdict(row) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(result, indent=2) + "\n").encode(), durable=False)


COLUMNS: tuple[tuple[str, str, Callable[[LoopRow], str]], ...] = (
    ("round", ">5", lambda row: str(row.number)),
    ("labels", ">6", lambda row: str(row.labels or "")),
    ("pairs", ">5", lambda row: str(row.pairs or "")),
    ("loss", ">5", lambda row: _figure(row.loss)),
    ("held-out", ">8", lambda row: _figure(row.held_out_accuracy)),
    ("reward", ">7", lambda row: f"{row.mean_reward:+.2f}"),
    ("95 % interval", ">14", lambda row: "{:+.2f} to {:+.2f}".format(*row.mean_reward_ci)),
    ("KL", ">5", lambda row: f"{row.kl_start:.1f}"),
    ("95 % interval", ">13", lambda row: "{:.1f} to {:.1f}".format(*row.kl_start_ci) if row.number else ""),
    *((f"at KL {kl}", ">7", lambda row, kl=str(kl): _at_kl(row, kl)) for kl in KLS),
    ("vs last", ">7", lambda row: _figure(row.win_rate_previous)),
    ("vs first", ">8", lambda row: _figure(row.win_rate_start)),
    ("train s", ">7", lambda row: f"{row.train_seconds:.1f}" if row.number else ""),
    ("sample s", ">8", lambda row: f"{row.sample_seconds:.1f}"),
    ("distinct-2", ">10", lambda row: f"{row.distinct_2:.2f}"),
    ("tokens", ">6", lambda row: f"{row.mean_length:.0f}"),
)


def table_header() -> str:
    return "  ".join(f"{name:{width}}" for name, width, _ in COLUMNS)


def table_row(row: LoopRow) -> str:
    return "  ".join(f"{text(row):{width}}" for _, width, text in COLUMNS)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _at_kl(row: LoopRow, kl: str) -> str:
    """Return the reward at a KL, and say so where the policy never goes that far."""
    if not row.number:
        return ""
    value = row.reward_at_kl[kl]
    return "beyond" if value is None else f"{value:+.2f}"
