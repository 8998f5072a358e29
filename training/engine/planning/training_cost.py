"""The cost of a training: its pairs encoded, a few of its rows and steps computed, and the rest by their sizes.

Weights move in memory, as in a training. Nothing is written.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from training.engine.adapters.loading import load_policy
from training.engine.config import TrainConfig
from training.engine.data.tokens import EncodedPair, EncodingReport
from training.engine.errors import memory_short
from training.engine.model.base import LoadedModel, set_threads
from training.engine.model.logps import Scorer
from training.engine.optimize.budget import RowBudget
from training.engine.optimize.distributed import Processes
from training.engine.optimize.losses import check_honoured
from training.engine.optimize.memory import peak_of, reset_peak
from training.engine.optimize.state import State
from training.engine.optimize.steps import backward, pair_losses, step_metrics, update
from training.engine.optimize.task import Task
from training.engine.planning.figures import line_at, sample_places, spread
from training.engine.planning.model_facts import describe, is_too_large
from training.engine.planning.preview import show_pair
from training.engine.records import read_pairs
from training.engine.rundir import RunDirectory
from training.engine.score import make_scorer
from training.engine.selfcheck import check_gradient

_ROW_SECONDS, _STEP_SECONDS = 20.0, 10.0  # that rows and whole steps are measured for, a last one apart
_STEPS = 3
_AGAIN = 0.3  # seconds: what is faster is measured three times


@dataclass
class Rows:
    """Measured rows of a training, by size in tokens."""

    train: list[tuple[float, float]] = field(default_factory=list)  # seconds of both passes
    score: list[tuple[float, float]] = field(default_factory=list)  # seconds of a forward
    peaks: list[tuple[float, float]] = field(default_factory=list)  # bytes
    step_factor: float = 1.0  # how many times as long a whole step takes as its rows

    def add(self, size: int, train: float, score: float, peak: int) -> None:
        """Keep one row's figures, in the order of sizes."""
        for kept, value in ((self.train, train), (self.score, score), (self.peaks, float(peak))):
            kept.append((float(size), value))
            kept.sort()


def measure_training(root: str, config: TrainConfig) -> dict[str, Any]:
    """Return a plan's `model`, `pairs`, `training`, `preview` and `events`. Raises EngineError subclasses."""
    began = time.monotonic()
    config = replace(config, shard=False)
    set_threads(config)
    facts = describe(config)
    run = RunDirectory(root)
    labelled = read_pairs(run.assisted_pairs) if run.assisted_pairs.exists() else []
    given = read_pairs(run.pairs) + labelled
    to_label = 0 if run.assisted_pairs.exists() else config.assist.pairs
    held_given = read_pairs(run.heldout) if run.heldout.exists() else []
    found: dict[str, Any] = {"model": facts, "events": []}
    if is_too_large(facts):
        return found | {"pairs": {"given": len(given)}, "training": _unloadable(facts)}
    loaded = load_policy(config)
    encoder = loaded.make_encoder(config)
    pairs, left_out = encoder.encode_pairs(given)
    heldout, _ = encoder.encode_pairs(held_given)
    found["pairs"] = _account(given, pairs, heldout, left_out) | {
        "max_length": encoder.max_length,
        "to_label": to_label,
    }
    found["events"] += left_out.events
    if not pairs:
        return found
    found["preview"] = show_pair(loaded.tokenizer, pairs[0])
    found["training"] = _training(config, loaded, pairs, heldout, found=found, began=began)
    return found


def _training(
    config: TrainConfig,
    loaded: LoadedModel,
    pairs: list[EncodedPair],
    heldout: list[EncodedPair],
    *,
    found: dict[str, Any],
    began: float,
) -> dict[str, Any]:
    """Return the part `training` of a plan."""
    available, to_label = found["model"]["available_bytes"], found["pairs"]["to_label"]
    task = _make_task(config, loaded, pairs, heldout, found["events"].append)
    ready, first_peak = time.monotonic() - began, peak_of(loaded.device)
    groups = [group for step in range(task.steps_per_epoch) for group in task.groups(step)]
    state = State.initial(config, loaded.model)
    rows, fits = _measure_rows(task, groups, available)
    if rows.train:
        fits = _measure_steps(task, state, rows, fits, available)
    sizes = [row_size(task.scorer, pairs, group) for group in groups]
    held_sizes = [row_size(task.scorer, heldout, group) for group in task.heldout_groups()]
    largest = max([*sizes, *held_sizes])
    peak = int(max(first_peak, line_at(rows.peaks, largest) if rows.peaks else available + 1))
    seconds = _seconds(task, rows, sizes, held_sizes, ready=ready, to_label=to_label)
    all_pairs = len(pairs) + to_label
    steps_per_epoch = _steps_per_epoch(config, all_pairs)
    return {
        "form": task.scorer.form,
        "device": loaded.device.type,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "steps": config.epochs * steps_per_epoch,
        "steps_per_epoch": steps_per_epoch,
        "rows": len(groups) * config.epochs * all_pairs // len(pairs),
        "tokens": sum(sizes) * config.epochs * all_pairs // len(pairs),
        "max_tokens": task.scorer.max_tokens,
        "longest_pair": task.budget.longest,
        "largest_row": largest,
        "trained_parameters": sum(one.numel() for one in state.parameters.values()),
        "rows_measured": len(rows.train),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "total_seconds": round(sum(seconds.values()), 1),
        "peak_memory_bytes": peak,
        "row_bytes": [[int(size), int(bytes_)] for size, bytes_ in rows.peaks],
        "fits": fits and peak <= available,
    }


def _make_task(
    config: TrainConfig,
    loaded: LoadedModel,
    pairs: list[EncodedPair],
    heldout: list[EncodedPair],
    note: Callable[[str], None],
) -> Task:
    """Return the task that a training would have, with a reference that nothing was measured of."""
    everything = [*pairs, *heldout]
    check_honoured(config, everything)
    scorer = make_scorer(loaded, config, everything, note)
    check_gradient(scorer, pairs)
    longest = max(pair.tokens for pair in everything)
    budget = RowBudget(scorer, longest, fixed=False, recomputes=config.gradient_checkpointing, note=note)
    nothing = torch.zeros(len(pairs), 2, dtype=torch.float64, device=loaded.device)
    return Task(config, scorer, budget, Processes(), pairs, heldout, nothing)


def _seconds(
    task: Task, rows: Rows, sizes: Sequence[int], held_sizes: Sequence[int], *, ready: float, to_label: int
) -> dict[str, float]:
    """Return the seconds of each part of a training, whose rows have these sizes.

    Pairs that a probe is still to label are taken to be as long as the others.
    """
    config, count = task.config, len(task.pairs)
    all_pairs = count + to_label
    scored = sum(line_at(rows.score, size) for size in sizes) / count  # of a pair, the mean
    trained = rows.step_factor * sum(line_at(rows.train, size) for size in sizes) / count
    held_pass = sum(line_at(rows.score, size) for size in held_sizes)
    steps = config.epochs * _steps_per_epoch(config, all_pairs)
    evaluations = steps // config.eval_steps if config.eval_steps and task.heldout else 0
    seconds = {
        "loading": ready,
        "reference": all_pairs * scored + held_pass,
        "training": all_pairs * config.epochs * trained + evaluations * held_pass,
        "after": held_pass,
    }
    if to_label and config.assist.drafted_pairs:
        drafted = all_pairs - config.assist.drafted_pairs
        seconds["draft"] = ready + drafted * (scored + config.epochs * trained)
    return seconds


def _steps_per_epoch(config: TrainConfig, pairs: int) -> int:
    return math.ceil(pairs / config.batch_size)


def _measure_rows(task: Task, groups: Sequence[Sequence[int]], available: int) -> tuple[Rows, bool]:
    """Measure a few rows of different sizes, the largest last. Return them, and whether memory has sufficed."""
    device, scorer, rows = task.scorer.device, task.scorer, Rows()
    order = sorted(groups, key=lambda group: row_size(scorer, task.pairs, group))
    places = sample_places(len(order))
    deadline = time.monotonic() + _ROW_SECONDS
    for number, place in enumerate(places):
        group = order[place]
        size = row_size(scorer, task.pairs, group)
        if line_at(rows.peaks, size) > available:
            return rows, False
        if number > 1 and time.monotonic() + line_at(rows.train, size) > deadline:
            continue
        try:
            (row,) = scorer.rows(task.pairs, [group])
            if not number:
                _both_passes(task, row)  # the first is slow: kernels and memory are made ready
            reset_peak(device)
            train = _timed(lambda row=row: _both_passes(task, row), device)  # type: ignore[misc]
            score = _timed(lambda row=row: scorer.score(row), device)  # type: ignore[misc]
        except (MemoryError, RuntimeError) as error:
            if memory_short(error) is None:
                raise
            return rows, False
        rows.add(size, train, score, peak_of(device))
    return rows, True


def _measure_steps(task: Task, state: State, rows: Rows, fits: bool, available: int) -> bool:
    """Measure a few whole steps if the rows `fits`, and return whether memory sufficed.

    A step allocates what the optimizer keeps of each weight. Its peak is taken over into `rows`, and its time as
    `rows.step_factor`.
    """
    scorer, device = task.scorer, task.scorer.device
    spent = expected = 0.0
    for step in sample_places(task.steps_per_epoch)[:_STEPS] if fits else ():
        sizes = [row_size(scorer, task.pairs, group) for group in task.groups(step)]
        seconds = sum(line_at(rows.train, size) for size in sizes)
        if (spent and spent + seconds > _STEP_SECONDS) or seconds > 3 * _STEP_SECONDS:
            continue
        if line_at(rows.peaks, max(sizes)) > available:
            continue
        state.step = step
        reset_peak(device)
        began = time.perf_counter()
        try:
            figures = backward(task, state)
            update(task, state, figures)
        except (MemoryError, RuntimeError) as error:
            if memory_short(error) is None:
                raise
            return False
        step_metrics(task, state, figures)
        spent += time.perf_counter() - began
        expected += seconds
        rows.peaks = _raised(rows.peaks, max(sizes), peak_of(device))
    if not spent:
        # Gradients are there already; two numbers a weight are not.
        more = sum(2 * one.numel() * one.element_size() for one in state.parameters.values())
        rows.peaks = [(size, peak + more) for size, peak in rows.peaks]
    if expected:
        rows.step_factor = max(1.0, spent / expected)
    return fits


def _raised(peaks: list[tuple[float, float]], size: int, peak: int) -> list[tuple[float, float]]:
    """Return peaks of rows, raised by what a whole step with a row of `size` needed beyond them."""
    more = max(0.0, peak - line_at(peaks, size))
    return [(at, value + more) for at, value in peaks]


def _both_passes(task: Task, row: Any) -> None:
    with task.scorer.dropout():
        losses, _ = pair_losses(task, row)
        losses.sum().backward()


def _timed(compute: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds that `compute` takes, the least of three where they are few."""
    best = float("inf")
    for _ in range(3):
        _wait(device)
        began = time.perf_counter()
        compute()
        _wait(device)
        best = min(best, time.perf_counter() - began)
        if best > _AGAIN:
            break
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def row_size(scorer: Scorer, pairs: Sequence[EncodedPair], group: Sequence[int]) -> int:
    """Return the tokens of the row of some pairs, padding included."""
    some = [pairs[at] for at in group]
    if scorer.form == "packed":
        return sum(pair.tokens for pair in some)
    longest = max(len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in some)
    return 2 * len(some) * longest


def _account(
    given: Sequence[Any],
    pairs: Sequence[EncodedPair],
    heldout: Sequence[EncodedPair],
    left_out: EncodingReport,
) -> dict[str, Any]:
    """Return what became of the pairs, and how long they are."""
    return {
        "given": len(given),
        "trained": len(pairs),
        "heldout": len(heldout),
        "left_out": left_out.to_dict(),
        "longest_before_cut": left_out.longest,
        "tokens": {
            "pair": spread([pair.tokens for pair in pairs]),
            "prompt": spread([len(pair.prompt) for pair in pairs]),
            "chosen": spread([len(pair.chosen) for pair in pairs]),
            "rejected": spread([len(pair.rejected) for pair in pairs]),
        },
    }


def _unloadable(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the part `training` of a plan for a model whose weights are more than the memory."""
    return {"fits": False, "peak_memory_bytes": facts["weights_bytes"], "rows_measured": 0}
