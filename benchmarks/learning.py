"""Compare recipes by the reward that labels buy: `python -m benchmarks.learning --seeds N --json OUT`.

Each recipe trains on the judgments of simulated annotators and is measured on fresh prompts along its path of scaled
adapters: its reward where the KL from the starter is 1, 2 and 5 nats. The exact frontier is printed beside them. Each
seed of a recipe is kept as a file, so that a run that was stopped picks up where it left off.
"""

import argparse
import json
import math
import multiprocessing
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from benchmarks.controlled import probing, world
from benchmarks.controlled.frontier import reward_at, reward_of_tilt, starter_reward
from benchmarks.controlled.intervals import t_interval
from benchmarks.controlled.policies import BUDGETS, measure_path
from benchmarks.controlled.recipes import RECIPES, train_recipe
from benchmarks.controlled.rewards import REWARDS

LABELS = (150, 450)
DEFAULT = ("moving reference, margins", "beta 0.3", "beta 0.5")
FOLDER = Path("var/learning")


Job = tuple[str, str, int, int, Path]


def main() -> None:
    """Run each seed that is not there yet, then print the tables and write the JSON file."""
    asked = parse_arguments()
    figures = json.loads(asked.measured.read_text()) if asked.measured else measure_all(asked)
    print(tables(figures))
    if asked.publish:
        report.publish("learning", tables(figures))
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure_all(asked: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of all seeds that were run in time."""
    jobs = [
        (name, reward, labels, seed, asked.folder)
        for seed in range(asked.first_seed, asked.first_seed + asked.seeds)
        for reward in asked.rewards
        for labels in asked.labels
        for name in asked.recipes
    ]
    asked.folder.mkdir(parents=True, exist_ok=True)
    probing.features()  # which each process would read for itself otherwise
    results = run_jobs(jobs, asked.processes, asked.seconds)
    return {
        "date": report.today(),
        "hardware": report.hardware(),
        "frontier": {reward: exact_frontier(reward) for reward in asked.rewards},
        "seeds": results,
        "recipes": summarize(results),
    }


def run_jobs(jobs: list[Job], processes: int, seconds: float | None) -> list[dict[str, Any]]:
    """Return the figures of jobs, run in as many processes of one thread each. What is not done in time is left out."""
    ends = math.inf if seconds is None else time.monotonic() + seconds
    left = [job for job in jobs if not seed_file(*job).exists()]
    if left and ends > time.monotonic():
        with multiprocessing.get_context("spawn").Pool(processes, torch.set_num_threads, (1,)) as pool:
            for one in [pool.apply_async(run_seed, job) for job in left]:
                one.wait(None if seconds is None else max(0.0, ends - time.monotonic()))
                if one.ready():
                    one.get()  # raises what it raised
    return [json.loads(seed_file(*job).read_text()) for job in jobs if seed_file(*job).exists()]


def seed_file(name: str, reward: str, labels: int, seed: int, folder: Path) -> Path:
    """Return where the figures of a seed of a recipe are kept."""
    slug = "".join(letter if letter.isalnum() or letter == "." else "-" for letter in name)
    return folder / f"{reward}-{labels}-{slug}-{seed}.json"


def parse_arguments() -> argparse.Namespace:
    """Return the options. Names of recipes and rewards are checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2, help="seeds of each recipe (default: 2)")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=DEFAULT, metavar="NAME",
                        help=f"which of: {'; '.join(RECIPES)}")  # fmt: skip
    parser.add_argument("--labels", nargs="+", type=int, default=LABELS, help="judgments (default: 150 450)")
    parser.add_argument("--rewards", nargs="+", choices=REWARDS, default=["praise"])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where seeds are kept (var/learning)")
    parser.add_argument("--processes", type=int, default=1, help="seeds that run side by side (default: 1)")
    parser.add_argument("--seconds", type=float, help="leave out what is not done by then")
    parser.add_argument(
        "--measured", type=Path, help="tell of the figures in this JSON file, and run nothing"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--publish", action="store_true", help="put the tables into benchmarks/README.md")
    return parser.parse_args()


def run_seed(name: str, reward_name: str, labels: int, seed: int, folder: Path) -> dict[str, Any]:
    """Return the figures of one seed of a recipe, from its file if it was run before."""
    file = seed_file(name, reward_name, labels, seed, folder)
    if file.exists():
        return dict(json.loads(file.read_text()))
    reward = REWARDS[reward_name]
    project = world.project(seed, labels, reward)
    started, work = time.monotonic(), file.with_suffix("")
    adapter = train_recipe(RECIPES[name], project, reward, work)
    seconds = time.monotonic() - started
    path = measure_path(adapter, seed=seed)
    start = _start(reward_name)
    at = {budget: reward_at(path, reward, budget, start) for budget in BUDGETS}
    found = {
        "recipe": name,
        "reward": reward_name,
        "labels": labels,
        "seed": seed,
        "at": {
            f"{budget:g}": {"reward": value, "reached": reached} for budget, (value, reached) in at.items()
        },
        "path": [{"scale": one.scale, "kl": one.kl, "reward": one.reward(reward)} for one in path],
        "training_seconds": seconds,
    }
    file.write_text(json.dumps(found) + "\n")
    shutil.rmtree(work)
    print(f"{name}, {reward_name}, {labels} labels, seed {seed}: {_shown(found)}", flush=True)
    return found


def _start(reward_name: str) -> float:
    return starter_reward([[one.text for one in row] for row in world.fresh()], REWARDS[reward_name])


def exact_frontier(reward_name: str) -> dict[str, float]:
    """Return the most reward that any policy has at each budget."""
    rewards = [REWARDS[reward_name](one.text) for samples in world.pool() for one in samples]
    return {f"{budget:g}": reward_of_tilt(rewards, rewards, budget) for budget in BUDGETS}


def summarize(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return means with 95 % intervals over seeds, by reward, recipe and labels."""
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for one in results:
        groups.setdefault((one["reward"], one["recipe"], one["labels"]), []).append(one)
    return [
        {"reward": reward, "recipe": recipe, "labels": labels, "seeds": len(seeds), "at": _means(seeds)}
        for (reward, recipe, labels), seeds in groups.items()
    ]


def _means(seeds: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {}
    for budget in (f"{budget:g}" for budget in BUDGETS):
        values = [one["at"][budget]["reward"] for one in seeds]
        found[budget] = {
            "mean": statistics.fmean(values),
            "interval": t_interval(values),
            "below": sum(not one["at"][budget]["reached"] for one in seeds),
        }
    return found


def tables(figures: dict[str, Any]) -> str:
    """Return a table for each reward as Markdown."""
    parts = [f"{figures['date']}, {figures['hardware']}.\n"]
    budgets = [f"{budget:g}" for budget in BUDGETS]
    for reward, frontier in figures["frontier"].items():
        rows: list[list[object]] = [
            [one["recipe"], one["labels"], one["seeds"], *(_cell(one["at"][budget]) for budget in budgets)]
            for one in figures["recipes"]
            if one["reward"] == reward
        ]
        rows.append(["exact frontier", "", "", *(f"{frontier[budget]:.2f}" for budget in budgets)])
        header = ["recipe", "labels", "seeds", *(f"reward at KL {budget}" for budget in budgets)]
        parts.append(f"Reward: {reward}\n\n{report.table(header, rows)}")
    return "\n".join(parts)


def _cell(figure: dict[str, Any]) -> str:
    """Return a mean with its interval, and how many seeds ended before the budget."""
    interval = "" if figure["interval"] is None else " ({:.2f} to {:.2f})".format(*figure["interval"])
    below = f", {figure['below']} below" if figure["below"] else ""
    return f"{figure['mean']:.2f}{interval}{below}"


def _shown(one: dict[str, Any]) -> str:
    return ", ".join(f"{value['reward']:.2f} at KL {budget}" for budget, value in one["at"].items())


if __name__ == "__main__":
    main()
