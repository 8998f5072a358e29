"""The predictions of `plan` against what `train` and `sample` then take: `make bench-plan`.

Three runs: the starter, a Qwen2 shape with random weights on HH-like lengths, and the same on long prompts. Prints
predicted and actual seconds and peak memory, and fails where one is more than 1.5 times the other.

`--processor` counts processor seconds on both sides, for a machine that other work shares: a child's clocks then show
the processor time that it took.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import models, report
from benchmarks.shapes import CPU_CASES, Case, text_pairs
from benchmarks.sides import ROOT, watch
from training.engine.config import TrainConfig
from training.engine.rundir import RunDirectory, read_jsonl, write_json, write_jsonl

BOUND = 1.5
PROCESSOR_CLOCK = str(Path(__file__).with_name("processor_clock"))  # on the path of the children
SEED = 20261127
PROMPTS = {"starter": 200, "qwen2-8-hh": 24, "qwen2-8-long": 12}
NEW_TOKENS = 48


class Comparison(NamedTuple):
    """One predicted figure and the actual one."""

    case: str
    what: str
    predicted: float
    actual: float

    @property
    def ratio(self) -> float:
        """Return how many times the smaller one the larger is."""
        low, high = sorted((max(self.predicted, 1e-9), max(self.actual, 1e-9)))
        return high / low


def main() -> None:
    """Compare, print a table, and exit with 1 where a figure is out of bounds."""
    options = _options()
    if options.processor:
        os.environ["PYTHONPATH"] = PROCESSOR_CLOCK
    found: list[Comparison] = []
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        for case in CPU_CASES:
            if options.only in (None, case.name):
                found += compare(case, Path(scratch), processor=options.processor)
    rows = [
        (one.case, one.what, f"{one.predicted:,.2f}", f"{one.actual:,.2f}", f"{one.ratio:.2f}")
        for one in found
    ]
    clock = "processor seconds" if options.processor else "seconds by the clock"
    table = report.table(("case", "figure", "predicted", "actual", "ratio"), rows)
    text = f"{report.today()}, {report.hardware()}, {clock}.\n\n{table}"
    print(text)
    if options.write:
        figures = {"hardware": report.hardware(), "date": report.today(), "clock": clock}
        write_json(report.RESULTS / "plan.json", figures | {"figures": [one._asdict() for one in found]})
        report.publish("plan", text)
    sys.exit(any(one.ratio > BOUND for one in found))


def compare(case: Case, scratch: Path, *, processor: bool) -> Iterator[Comparison]:
    """Yield predicted and actual figures of one run."""
    run = make_run(case, scratch / case.name)
    plan = predict(run)
    took, peak = _run_verb("train", run, processor=processor)
    done = run.read_done()["train"]
    seconds, training = plan["training"]["seconds"], plan["training"]
    yield Comparison(
        case.name,
        "seconds of the steps",
        seconds["reference"] + seconds["training"],
        done["reference_seconds"] + done["training_seconds"],
    )
    yield Comparison(case.name, "seconds to train, start included", training["total_seconds"], took)
    yield Comparison(case.name, "GB to train", training["peak_memory_bytes"] / 1e9, peak / 1e9)
    took, peak = _run_verb("sample", run, processor=processor)
    sampling = plan["sampling"]
    yield Comparison(case.name, "seconds to sample, start included", sampling["total_seconds"], took)
    yield Comparison(case.name, "GB to sample", sampling["peak_memory_bytes"] / 1e9, peak / 1e9)


def make_run(case: Case, folder: Path) -> RunDirectory:
    """Write the run directory of a case, with some of its prompts to write for."""
    run = RunDirectory(folder)
    folder.mkdir(parents=True)
    model = ROOT / "training" / "starter"
    if case.model is not None:
        model = folder / "model"
        models.make_model(case.model, model, seed=SEED, device="cpu")
    config = {
        "base_model": str(model),
        "batch_size": case.batch_size,
        "learning_rate": case.learning_rate,
        "sampling": {"max_new_tokens": NEW_TOKENS},
    }
    run.write_config(TrainConfig.from_dict(config))
    write_jsonl(run.pairs, text_pairs(case, SEED))
    rows = [row for _, row in read_jsonl(run.pairs)]
    random.Random(SEED).shuffle(rows)
    some = [{"id": str(at), "prompt": row["prompt"]} for at, row in enumerate(rows[: PROMPTS[case.name]])]
    write_jsonl(run.prompts, some)
    return run


def predict(run: RunDirectory) -> dict[str, Any]:
    """Return the plan of a run."""
    command = [sys.executable, "-m", "training.engine", "plan", "--json", str(run.root)]
    answer = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    print(answer.stderr, end="", file=sys.stderr)
    found: dict[str, Any] = json.loads(answer.stdout)
    write_json(run.root.with_suffix(".plan.json"), found)
    return found


def _run_verb(verb: str, run: RunDirectory, *, processor: bool) -> tuple[float, int]:
    """Run a verb. Return its seconds, by the clock or of the processor, and its peak memory in bytes."""
    before = os.times()
    wall, peak = watch([sys.executable, "-m", "training.engine", verb, str(run.root)])
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent if processor else wall, peak


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=[case.name for case in CPU_CASES], help="one case")
    parser.add_argument("--scratch", type=Path, help="folder for models and runs")
    parser.add_argument(
        "--processor", action="store_true", help="count processor seconds, on a machine that is not idle"
    )
    parser.add_argument(
        "--write", action="store_true", help="keep the figures in benchmarks/results/plan.json and the README"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
