"""`make paper`: run what is missing, and write docs/paper.md with its figures."""

import argparse
import os
import time
from pathlib import Path

from benchmarks.paper import document, runs
from benchmarks.paper.judges import EndpointJudge
from benchmarks.paper.plan import Plan, run_seed
from benchmarks.paper.setting import COUNTS, SETTINGS, TINY

FOLDER = Path("var/paper")


def main() -> None:
    """Read the command line, run, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__)
    parser.add_argument("--model", choices=SETTINGS, default="starter")
    parser.add_argument("--seeds", type=int, default=1, help="how often everything is done (1)")
    parser.add_argument(
        "--minutes", type=float, help="begin no run after so long; the next start goes on from there"
    )
    parser.add_argument("--workers", type=int, help="runs side by side (starter: the cores; smollm2: 1)")
    parser.add_argument(
        "--tiny", action="store_true", help="counts so small that nothing is shown but that it runs"
    )
    parser.add_argument("--folder", type=Path, help="where runs are kept (var/paper/MODEL)")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where paper.md goes (docs)")
    parser.add_argument(
        "--judge-url", default=os.environ.get("JUDGE_URL"), help="an endpoint, such as http://host/v1"
    )
    parser.add_argument("--judge-model", default=os.environ.get("JUDGE_MODEL", "default"))
    given = parser.parse_args()
    counts = TINY if given.tiny else COUNTS[given.model]
    folder = given.folder or FOLDER / f"{given.model}{'-tiny' if given.tiny else ''}"
    workers = given.workers or (len(os.sched_getaffinity(0)) if given.model == "starter" else 1)
    setting = SETTINGS[given.model](counts)
    judge = None
    if given.judge_url:
        judge = EndpointJudge(
            given.judge_url, given.judge_model, setting.what, os.environ.get("JUDGE_KEY", "")
        )
    until = time.monotonic() + 60 * given.minutes if given.minutes is not None else None
    plan = Plan(given.model, counts, folder, judge, until)
    for seed in range(given.seeds):
        run_seed(plan, seed, workers)
    worlds = [plan.world(seed) for seed in range(given.seeds)]
    if not runs.has(worlds[0], "base"):
        raise SystemExit("Nothing was run yet. Start again with more time.")
    print(f"Wrote {document.write(worlds, given.docs)}.")


if __name__ == "__main__":
    main()
