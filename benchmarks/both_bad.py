"""The worth of “both bad” for training: KTO with and without such ratings, by a reward that is known.

Simulated annotators prefer the completion that praises its film more, by Bradley and Terry, and call two completions
that both damn theirs bad. The same verdicts train three policies: DPO and KTO on the pairs alone, and KTO on the pairs
and the ratings. Each writes for fresh prompts.
`python -m benchmarks.both_bad` takes about ten minutes on one free core.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.starter import reviews

BASE = str(Path(__file__).parents[1] / "training/starter")
JUDGED, FRESH = 400, 256  # prompts
BAD = -0.4  # a completion below it is no good
SHARPNESS = 4.0
TRAINING = {"learning_rate": 1e-3, "epochs": 4, "batch_size": 8, "schedule": "linear", "threads": 1}
# Name -> settings, and the weight of the ratings.
RECIPES: dict[str, tuple[dict[str, Any], float]] = {
    "DPO, beta 0.3, pairs alone": ({"loss": "sigmoid", "beta": 0.3}, 0.0),
    "KTO, beta 0.1, pairs alone": ({"loss": "kto", "beta": 0.1}, 0.0),
    "KTO, beta 0.1, with both bad": ({"loss": "kto", "beta": 0.1}, 1.0),
    "KTO, beta 0.1, with both bad at half weight": ({"loss": "kto", "beta": 0.1}, 0.5),
    "KTO, beta 0.5, pairs alone": ({"loss": "kto", "beta": 0.5}, 0.0),
    "KTO, beta 0.5, with both bad": ({"loss": "kto", "beta": 0.5}, 1.0),
}
Rows = list[dict[str, Any]]


def main() -> None:
    """Print a table of what each recipe's policy writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", default="", help="recipes whose names hold this")
    options = parser.parse_args()
    print("| seed | recipe | pairs | ratings | reward (95 %) | share below -0.4 | KL from the start, nats |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    chosen = {name: recipe for name, recipe in RECIPES.items() if options.only in name}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), seed, chosen)


def measure(folder: Path, seed: int, recipes: dict[str, tuple[dict[str, Any], float]]) -> None:
    """Print a line for each recipe, all from the same verdicts."""
    prompts = reviews.openings(JUDGED, seed)
    pairs, ratings = judge(write(folder / "start", prompts, seed, count=2), random.Random(seed))
    fresh = [one for one in reviews.openings(JUDGED + 2 * FRESH, seed + 1_000) if one not in set(prompts)]
    for name, (settings, weight) in recipes.items():
        run = folder / name.replace(" ", "-").replace(",", "")
        rows = pairs + [row | {"weight": weight} for row in ratings if weight]
        train(run, rows, settings | {"seed": seed})
        written = write(run, fresh[:FRESH], seed)
        rewards = [reviews.reward(one["completion"]) for one in written]
        kl = fmean(one["logprob"] - one["reference_logprob"] for one in written)
        error = 1.96 * stdev(rewards) / math.sqrt(len(rewards))
        bad = fmean(reward < BAD for reward in rewards)
        counts = f"{len(pairs)} | {len(rows) - len(pairs)}"
        print(
            f"| {seed} | {name} | {counts} | {fmean(rewards):.2f} ± {error:.2f} | {bad:.2f} | {kl:.2f} |",
            flush=True,
        )


def judge(samples: Rows, rng: random.Random) -> tuple[Rows, Rows]:
    """Return pairs and ratings: what simulated annotators say of two samples of each prompt. Ties are dropped."""
    pairs: Rows = []
    ratings: Rows = []
    for first, second in zip(samples[::2], samples[1::2], strict=True):
        gap = reviews.reward(first["completion"]) - reviews.reward(second["completion"])
        if max(reviews.reward(one["completion"]) for one in (first, second)) < BAD:
            ratings += [
                {
                    "id": f"{first['id']}/{at}",
                    "prompt": first["prompt"],
                    "label": False,
                    **sampled("completion", one),
                }
                for at, one in enumerate((first, second))
            ]
        elif gap:
            better, worse = (
                (first, second) if rng.random() < 1 / (1 + math.exp(-SHARPNESS * gap)) else (second, first)
            )
            pairs.append(
                {"id": first["id"], "prompt": first["prompt"]}
                | sampled("chosen", better)
                | sampled("rejected", worse)
            )
    return pairs, ratings


def sampled(name: str, sample: dict[str, Any]) -> dict[str, Any]:
    """Return a sample as a completion of a line of `pairs.jsonl`."""
    return {
        name: sample["completion"],
        f"{name}_token_ids": sample["token_ids"],
        f"{name}_finish_reason": sample["finish_reason"],
    }


def train(run: Path, rows: Rows, settings: dict[str, Any]) -> None:
    """Train the starter on these rows."""
    run.mkdir(parents=True)
    config = {"base_model": BASE, **TRAINING, **settings}
    (run / "config.json").write_text(json.dumps(config))
    write_jsonl(RunDirectory(run).pairs, rows)
    engine("train", run)


def write(run: Path, prompts: list[str], seed: int, count: int = 1) -> Rows:
    """Return samples for prompts, by the adapter of the run or by the starter, with their prompts."""
    run.mkdir(parents=True, exist_ok=True)
    config = json.loads((run / "config.json").read_text()) if (run / "config.json").exists() else {}
    sampling = {"samples_per_prompt": count, "seed": seed, "reference": "base", "max_new_tokens": 96}
    (run / "config.json").write_text(
        json.dumps({"base_model": BASE, "threads": 1, **config, "sampling": sampling})
    )
    write_jsonl(RunDirectory(run).prompts, [{"id": at, "prompt": text} for at, text in enumerate(prompts)])
    engine("sample", run)
    found = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    return [one | {"prompt": prompts[int(one["id"])]} for one in found]


def engine(verb: str, run: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "training.engine", verb, str(run)], check=True, stdout=subprocess.DEVNULL
    )


if __name__ == "__main__":
    main()
