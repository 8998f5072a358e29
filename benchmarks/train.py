"""Our trainer against TRL's: `make bench-train`, or `python -m benchmarks.train --help`.

Both train the same pairs in the same order from the same initial adapter, with the same batch, optimizer and
learning-rate schedule. Each is a process of its own, and they take turns. Seconds are those of the reference pass
and of all steps; starting Python, loading the model and tokenizing are left out for both. Peak memory is that of
the whole process (VmHWM), on CUDA that of PyTorch's allocator.
"""

import argparse
import dataclasses
import json
import math
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.plot import loss_plot
from benchmarks.shapes import CPU_CASES, CUDA_CASES, TRL, Case, TrlConfiguration
from benchmarks.sides import ROOT, TRL_PYTHON, Measured, Workbench

SCRATCH = ROOT / "var"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All turns of one case; `rates` are of matrix products (FLOP/s), measured around each of our runs."""

    case: Case
    trl: str  # the configuration of TRL, the fastest of the search
    searched: tuple[tuple[str, float, int], ...]  # every one that was tried: name, pairs a second, peak bytes
    lengths: tuple[float, ...]  # mean tokens of prompt, chosen, rejected
    flops: int
    ours: tuple[Measured, ...]
    theirs: tuple[Measured, ...]
    rates: tuple[float, ...]

    def pairs_per_second(self, side: Sequence[Measured]) -> float:
        """Median over turns."""
        return statistics.median(self.case.pairs / one.seconds for one in side)

    def speed_ratios(self) -> list[float]:
        """Our pairs a second over TRL's, turn by turn."""
        return [their.seconds / our.seconds for our, their in zip(self.ours, self.theirs, strict=True)]

    def peaks(self) -> tuple[int, int]:
        """Bytes: our largest peak of all turns, and TRL's smallest."""
        return max(one.peak_bytes for one in self.ours), min(one.peak_bytes for one in self.theirs)

    def memory_ratio(self) -> float:
        """Our peak over TRL's."""
        ours, theirs = self.peaks()
        return ours / theirs

    def utilization(self) -> float:
        """Return useful operations a second over those of matrix products alone, median over turns."""
        shares = (self.flops / one.seconds / rate for one, rate in zip(self.ours, self.rates, strict=True))
        return statistics.median(shares)

    def loss_gap(self) -> float:
        """Largest difference between the two sides in the loss of one step."""
        return max(abs(a - b) for a, b in zip(self.ours[0].losses, self.theirs[0].losses, strict=True))


def main() -> None:
    """Parse the command line and run."""
    options = _options()
    cases = CUDA_CASES if options.device == "cuda" else CPU_CASES
    known = {case.name for case in cases}
    if unknown := set(options.case) - known:
        raise SystemExit(f"There is no case {', '.join(unknown)}: there are {', '.join(sorted(known))}.")
    if not TRL_PYTHON.exists():
        raise SystemExit("There is no .venv-trl: `make bench-train` creates it.")
    cases = tuple(case for case in cases if not options.case or case.name in options.case)
    if options.quick:
        cases = tuple(dataclasses.replace(case, batch_size=2, steps=2) for case in cases)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=SCRATCH) as scratch:
        outcomes = [_compare(case, options, Path(scratch)) for case in cases]
    text = summary(outcomes)
    print("\n" + text)
    if options.publish:
        _publish(outcomes, text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--case", action="append", default=[], help="only this one; may be given again")
    parser.add_argument(
        "--family", action="append", choices=TRL, default=[], help="of TRL's configurations; all are tried"
    )
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side (2)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of both sides (all)")
    parser.add_argument("--quick", action="store_true", help="two steps of two pairs: does it work?")
    parser.add_argument("--publish", action="store_true", help="write benchmarks/results and the README")
    return parser.parse_args()


def _compare(case: Case, options: argparse.Namespace, scratch: Path) -> Outcome:
    """Alternate both sides over one case."""
    print(f"{case.name}: {case.pairs} pairs in steps of {case.batch_size}", flush=True)
    searched = _search(case, options, scratch)
    trl = searched[0][0]
    configuration = next(family[trl] for family in TRL.values() if trl in family)
    bench = Workbench(case, options.device, options.threads, scratch)
    ours, theirs, rates = [], [], []
    for turn in range(options.rounds):
        before = bench.matmul_rate(ours[-1].dtype) if ours else 0.0
        ours.append(bench.ours())
        rates.append(max(before, bench.matmul_rate(ours[-1].dtype)))
        theirs.append(bench.theirs(configuration))
        print(
            f"  turn {turn + 1}: ours {ours[-1].seconds:.2f} s, TRL {theirs[-1].seconds:.2f} s,"
            f" ratio {theirs[-1].seconds / ours[-1].seconds:.1f}",
            flush=True,
        )
    shutil.rmtree(bench.folder)
    return Outcome(
        case=case,
        trl=trl,
        searched=tuple(searched),
        lengths=tuple(bench.mean_lengths),
        flops=bench.flops,
        ours=tuple(ours),
        theirs=tuple(theirs),
        rates=tuple(rates),
    )


def _search(case: Case, options: argparse.Namespace, scratch: Path) -> list[tuple[str, float, int]]:
    """TRL's configurations for one case with pairs a second and peak bytes, fastest first; one run of each.

    The first of each family tells how fast this machine computes that way; the others of the fastest are tried too.
    What takes three times as long as the fastest so far is stopped: bfloat16 without hardware for it takes for ever.
    A run is a step where a model is large, and a few where it is small.
    """
    steps = 1 if case.model else min(4, case.steps)
    bench = Workbench(dataclasses.replace(case, steps=steps), options.device, options.threads, scratch)
    found: list[tuple[str, float, int]] = []
    walls = [math.inf]

    def attempt(name: str, configuration: TrlConfiguration) -> None:
        try:
            run = bench.theirs(configuration, 3 * min(walls))
        except SystemExit as failure:
            print(f"  {name}: {failure}", flush=True)
            return
        walls.append(run.wall_seconds)
        found.append((name, bench.case.pairs / run.seconds, run.peak_bytes))
        print(f"  {name}: {found[-1][1]:.3g} pairs/s, {_gigabytes(run.peak_bytes)} GB", flush=True)

    families = [TRL[name] for name in options.family or TRL]
    for family in families:
        attempt(*next(iter(family.items())))
    fastest = max(found, key=lambda one: one[1])[0]
    for name, configuration in next(family for family in families if fastest in family).items():
        if name != fastest and configuration.micro_batch <= max(4, case.batch_size):
            attempt(name, configuration)
    shutil.rmtree(bench.folder)
    return sorted(found, key=lambda one: -one[1])


def _searches(outcomes: Sequence[Outcome]) -> str:
    """Return the findings of the search, a table a case."""
    tables = [f"TRL's configurations, {report.today()}, {report.hardware()}. One run each.\n"]
    for outcome in outcomes:
        rows = [(name, f"{speed:.3g}", _gigabytes(peak)) for name, speed, peak in outcome.searched]
        tables.append(report.table((outcome.case.name, "pairs/s", "peak GB"), rows))
    return "\n".join(tables)


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the report as Markdown."""
    rows = []
    for outcome in outcomes:
        ratios = outcome.speed_ratios()
        prompt, chosen, rejected = outcome.lengths
        rows.append(
            (
                outcome.case.name,
                f"{prompt:.0f} + {(chosen + rejected) / 2:.0f}",
                f"{outcome.pairs_per_second(outcome.ours):.3g}",
                f"{outcome.pairs_per_second(outcome.theirs):.3g}",
                f"**{statistics.median(ratios):.1f}** ({min(ratios):.1f} to {max(ratios):.1f})",
                " / ".join(map(_gigabytes, outcome.peaks())),
                f"**{outcome.memory_ratio():.2f}**",
                f"{outcome.utilization():.0%}",
                f"{outcome.loss_gap():.1g}",
                f"{outcome.ours[0].dtype}; {outcome.trl}",
            )
        )
    header = (
        "case",
        "tokens, prompt + completion",
        "ours, pairs/s",
        "TRL, pairs/s",
        "ratio (spread)",
        "peak GB, ours / TRL",
        "ratio",
        "utilization",
        "largest loss gap",
        "precision; TRL's best",
    )
    rates = ", ".join(f"{outcome.case.name} {max(outcome.rates) / 1e9:,.0f}" for outcome in outcomes)
    turns = len(outcomes[0].ours)
    return (
        f"{report.today()}, {report.hardware()}, medians of {turns} turns each.\n\n"
        + report.table(header, rows)
        + f"\nMatrix products alone, GFLOP/s: {rates}.\n"
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f}"


def _publish(outcomes: Sequence[Outcome], text: str) -> None:
    report.RESULTS.mkdir(exist_ok=True)
    figures = [dataclasses.asdict(outcome) for outcome in outcomes]
    raw = {"date": report.today(), "hardware": report.hardware(), "outcomes": figures}
    (report.RESULTS / "train.json").write_text(json.dumps(raw, indent=1) + "\n")
    for outcome in outcomes:
        plot = loss_plot(outcome.case.name, outcome.ours[0].losses, outcome.theirs[0].losses)
        (report.RESULTS / f"train-{outcome.case.name}.svg").write_text(plot)
    (report.RESULTS / "train-search.md").write_text(_searches(outcomes))
    report.publish("train", text)


if __name__ == "__main__":
    main()
