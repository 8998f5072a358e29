"""The worth of “both bad” for training, by a reward that is known: as ratings, and as rejected completions.

Simulated annotators prefer the completion that praises its film more, by Bradley and Terry, and call two completions
that both damn theirs bad. A prompt whose two completions are both bad has a second comparison, of two others. All
recipes of a seed train on the same verdicts, and are measured on fresh prompts along their path of scaled adapters.
`python -m benchmarks.both_bad` takes about a minute of a free core for each seed of a recipe, and keeps each in a file.
`--probe` asks instead what a probe learns from such verdicts, which takes seconds a seed.
"""

import argparse
import json
import random
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.controlled import probing, world
from benchmarks.controlled.frontier import reward_at, reward_of_tilt, starter_reward
from benchmarks.controlled.intervals import t_interval
from benchmarks.controlled.people import HONEST
from benchmarks.controlled.policies import measure_path, train_policy
from benchmarks.controlled.world import Judged, Written, judged_rows, training_row
from benchmarks.report import table
from training.engine.probe.regression import Posterior
from training.engine.starter.reviews import reward

JUDGED = 400  # prompts
BAD = -0.4  # a completion below it is no good
CANDIDATES = 8  # fresh completions of a prompt, of which the probe takes the best
BUDGETS = (1.0, 2.0)  # nats
FOLDER = Path("var/both_bad")
_TRAINING = {"learning_rate": 1e-3, "epochs": 4, "batch_size": 8, "schedule": "linear"}
_OF_ANY_PROMPTS = 3  # winners that a bad completion is put beside
Rows = list[dict[str, Any]]
Preference = tuple[Written, Written]  # chosen, rejected


@dataclass
class Verdicts:
    """The judgments of one seed: pairs with a winner, pairs that are both bad, and fresh completions by prompt."""

    decided: list[Judged] = field(default_factory=list)
    bad: list[tuple[Written, Written]] = field(default_factory=list)
    fresh: dict[str, list[Written]] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """Settings of training, the use of the both-bad pairs, and the recipe without them that it is compared with."""

    training: dict[str, Any]
    rows: Callable[[Verdicts], Rows] = lambda verdicts: []
    beside: str | None = None


def as_ratings(weight: float) -> Callable[[Verdicts], Rows]:
    """Return a use of both-bad pairs: each completion is undesirable, with this weight."""

    def rows(verdicts: Verdicts) -> Rows:
        return [
            {
                "id": f"bad-{number}",
                "prompt": one.prompt,
                "label": False,
                "completion": one.text,
                "completion_token_ids": one.token_ids,
                "completion_finish_reason": one.finish_reason,
                "weight": weight,
            }
            for number, one in enumerate(_bad_ones(verdicts))
        ]

    return rows


def beside_winners(verdicts: Verdicts) -> list[Preference]:
    """Return each bad completion as rejected, where a completion of its prompt won a comparison."""
    winners = _winners(verdicts)
    return [(winners[one.prompt], one) for one in _bad_ones(verdicts) if one.prompt in winners]


def beside_best(verdicts: Verdicts) -> list[Preference]:
    """Return each bad completion as rejected beside the fresh one of its prompt that a probe rates best."""
    ranked = _rank(verdicts)
    return [(ranked[one.prompt][-1], one) for one in _bad_ones(verdicts)]


def best_and_worst(verdicts: Verdicts) -> list[Preference]:
    """Return as many pairs of the same prompts by the probe alone: its best fresh ones beside its worst ones."""
    ranked = _rank(verdicts)
    return [
        (ranked[first.prompt][-1], ranked[first.prompt][at]) for first, _ in verdicts.bad for at in (0, 1)
    ]


def beside_any_winners(verdicts: Verdicts) -> list[Preference]:
    """Return each bad completion as rejected beside winners of any prompts, which a policy cannot be trained on."""
    rng, winners = random.Random(0), list(_winners(verdicts).values())
    return [
        (winner, one) for one in _bad_ones(verdicts) for winner in rng.choices(winners, k=_OF_ANY_PROMPTS)
    ]


def as_rejected(choose: Callable[[Verdicts], list[Preference]]) -> Callable[[Verdicts], Rows]:
    """Return a use of both-bad pairs: the pairs that `choose` makes of them."""

    def rows(verdicts: Verdicts) -> Rows:
        return [
            training_row(f"bad-{number}", *both, label=1.0, weight=1.0)
            for number, both in enumerate(choose(verdicts))
        ]

    return rows


DPO, KTO, STRONG_KTO = "DPO, beta 0.3", "KTO, beta 0.5", "KTO, beta 0.1"
_DPO: dict[str, Any] = {"loss": "sigmoid", "beta": 0.3}
_KTO: dict[str, Any] = {"loss": "kto", "beta": 0.5}
_STRONG_KTO: dict[str, Any] = {"loss": "kto", "beta": 0.1}
RECIPES: dict[str, Recipe] = {
    f"{DPO}, pairs alone": Recipe(_DPO),
    f"{DPO}, bad ones rejected beside a winner": Recipe(
        _DPO, as_rejected(beside_winners), f"{DPO}, pairs alone"
    ),
    f"{DPO}, bad ones rejected beside a probe's best": Recipe(
        _DPO, as_rejected(beside_best), f"{DPO}, pairs alone"
    ),
    f"{DPO}, the probe's worst rejected instead": Recipe(
        _DPO, as_rejected(best_and_worst), f"{DPO}, pairs alone"
    ),
    f"{KTO}, pairs alone": Recipe(_KTO),
    f"{KTO}, bad ones as ratings": Recipe(_KTO, as_ratings(1.0), f"{KTO}, pairs alone"),
    f"{STRONG_KTO}, pairs alone": Recipe(_STRONG_KTO),
    f"{STRONG_KTO}, bad ones as ratings": Recipe(_STRONG_KTO, as_ratings(1.0), f"{STRONG_KTO}, pairs alone"),
    f"{STRONG_KTO}, bad ones as ratings of half weight": Recipe(
        _STRONG_KTO, as_ratings(0.5), f"{STRONG_KTO}, pairs alone"
    ),
}
DEFAULT = tuple(name for name in RECIPES if not name.startswith(STRONG_KTO))
# What a probe is fitted to beside the pairs, as further votes.
VOTES: dict[str, Callable[[Verdicts], list[Preference]]] = {
    "nothing": lambda verdicts: [],
    "bad ones beside a winner of their prompt": beside_winners,
    "bad ones beside the probe's own best": beside_best,
    f"bad ones beside {_OF_ANY_PROMPTS} winners of any prompts": beside_any_winners,
}


def main() -> None:
    """Run each seed of each recipe that is not there yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=DEFAULT, metavar="NAME",
                        help=f"which of: {'; '.join(RECIPES)}")  # fmt: skip
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where seeds are kept (var/both_bad)")
    parser.add_argument("--probe", action="store_true", help="fit a probe, and train nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.probe:
        print(probe_summary(options.seeds))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for name in options.recipes:
            found = run_seed(name, seed, options.folder)
            print(f"seed {seed}: {name}, {_shown(found)}", flush=True)
    print(summary({name: [run_seed(name, seed, options.folder) for seed in options.seeds] for name in RECIPES
                   if name in options.recipes}))  # fmt: skip


def judge(prompts: Sequence[Sequence[Written]], seed: int) -> Verdicts:
    """Return the verdicts of a seed on samples by prompt. Ties are dropped."""
    rng, found = random.Random(f"both bad {seed}"), Verdicts()
    people = random.Random(f"people of both bad {seed}")
    for number, samples in enumerate(rng.sample(prompts, min(JUDGED, len(prompts)))):
        one, two, three, four = rng.sample(samples[:4], 4)
        found.fresh[one.prompt] = list(samples[4 : 4 + CANDIDATES])
        for pair in ((one, two), (three, four)):
            if max(reward(pair[0].text), reward(pair[1].text)) >= BAD:
                judged = world.judge([pair], reward, people, [HONEST[number % len(HONEST)]])
                found.decided += [one for one in judged if one.label != 0.5]
                break
            found.bad.append(pair)
    return found


def run_seed(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return the figures of one seed of a recipe, from its file if it was run before."""
    file = folder / f"{name.replace(' ', '-').replace(',', '')}-{seed}.json"
    if not file.exists():
        recipe, work = RECIPES[name], file.with_suffix("")
        verdicts = judge(world.pool()[: world.PROJECT_PROMPTS], seed)
        rows, more = judged_rows(verdicts.decided), recipe.rows(verdicts)
        path = measure_path(
            train_policy(work, rows + more, _TRAINING | recipe.training, seed), seed=seed, budgets=BUDGETS
        )
        start = starter_reward([[one.text for one in row] for row in world.fresh()], reward)
        figures = {
            "pairs": len(rows),
            "more": len(more),
            "at": {f"{budget:g}": reward_at(path, reward, budget, start) for budget in BUDGETS},
            "reward": path[-1].reward(reward),
            "bad": statistics.fmean(reward(text) < BAD for text in path[-1].texts),
            "kl": path[-1].kl,
        }
        file.write_text(json.dumps(figures) + "\n")
        shutil.rmtree(work)
    return dict(json.loads(file.read_text()))


def probe_summary(seeds: Sequence[int]) -> str:
    """Return a table of what exact tilts by a probe earn, by what the probe was fitted to beside the pairs."""
    prompts = world.pool()[: world.PROJECT_PROMPTS]
    unjudged = [samples[4:] for samples in prompts]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in VOTES}
    for verdicts in (judge(prompts, seed) for seed in seeds):
        for name, choose in VOTES.items():
            votes = [Judged(*both, (("bad", "first"),)) for both in choose(verdicts)]
            at = _tilt(probing.fit_probe(verdicts.decided + votes), unjudged)
            found[name].append({"at": at, "more": len(votes)})
    budgets = [f"{budget:g}" for budget in BUDGETS]
    rows = [
        [
            name,
            f"{_mean(some, 'more'):.0f}",
            *(f"{statistics.fmean(one['at'][budget][0] for one in some):.3f}" for budget in budgets),
            *(_lead(some, found["nothing"], budget, digits=3) for budget in budgets),
        ]
        for name, some in found.items()
    ]
    header = ["votes beside the pairs", "votes", *(f"reward at {one} nats" for one in budgets)]
    return table([*header, *(f"more than without, at {one}" for one in budgets)], rows)


def _tilt(posterior: Posterior, prompts: Sequence[Sequence[Written]]) -> dict[str, tuple[float, bool]]:
    """Return rewards of exact tilts by scores less their prompt's mean, since a policy cannot choose its prompts."""
    scores = []
    for samples in prompts:
        rated = [one.score for one in probing.rate(posterior, samples)]
        scores += [one - statistics.fmean(rated) for one in rated]
    rewards = [reward(one.text) for samples in prompts for one in samples]
    return {f"{budget:g}": (reward_of_tilt(scores, rewards, budget), True) for budget in BUDGETS}


def summary(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return a table of means over seeds, and of what a recipe earns more than the one that it is compared with."""
    budgets = [f"{budget:g}" for budget in BUDGETS]
    rows = []
    for name, found in results.items():
        base = results.get(RECIPES[name].beside or "", [])
        rows.append(
            [
                name,
                f"{len(found)}",
                *(f"{statistics.fmean(one[key] for one in found):.0f}" for key in ("pairs", "more")),
                *(_cell(found, budget) for budget in budgets),
                *(_lead(found, base, budget) for budget in budgets),
                f"{_mean(found, 'reward'):.2f} / {_mean(found, 'kl'):.1f}",
                f"{100 * _mean(found, 'bad'):.1f} %",
            ]
        )
    header = ["recipe", "seeds", "pairs", "more", *(f"reward at {one} nats" for one in budgets)]
    header += [*(f"more than without, at {one}" for one in budgets), "ends at reward / KL", f"below {BAD:g}"]
    return table(header, rows)


def _cell(found: Sequence[dict[str, Any]], budget: str) -> str:
    """Return the mean reward at a KL, over the seeds whose path reaches it."""
    reached = [one["at"][budget][0] for one in found if one["at"][budget][1]]
    if not reached:
        return "ends before"
    below = f", {len(reached)} of {len(found)} seeds" if len(reached) < len(found) else ""
    return f"{statistics.fmean(reached):.2f}{below}"


def _lead(
    found: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]], budget: str, digits: int = 2
) -> str:
    """Return how much more reward than `base` at a KL, seed by seed, with its interval over seeds."""
    leads = [
        mine["at"][budget][0] - theirs["at"][budget][0]
        for mine, theirs in zip(found, base, strict=False)
        if mine["at"][budget][1] and theirs["at"][budget][1]
    ]
    interval = t_interval(leads)
    if not interval or found is base:
        return ""
    mean, low, high = (f"{value:+.{digits}f}" for value in (statistics.fmean(leads), *interval))
    return f"{mean} ({low} to {high})"


def _mean(found: Sequence[dict[str, Any]], key: str) -> float:
    return statistics.fmean(one[key] for one in found)


def _shown(found: dict[str, Any]) -> str:
    at = ", ".join(f"{value:.2f} at KL {budget}" for budget, (value, _) in found["at"].items())
    return f"{at}, ends at {found['reward']:.2f} / {found['kl']:.1f}"


def _bad_ones(verdicts: Verdicts) -> list[Written]:
    return [one for pair in verdicts.bad for one in pair]


def _winners(verdicts: Verdicts) -> dict[str, Written]:
    return {one.first.prompt: one.first if one.label > 0.5 else one.second for one in verdicts.decided}


def _rank(verdicts: Verdicts) -> dict[str, list[Written]]:
    """Return the fresh completions of the prompts of bad pairs, from the worst to the best by a probe."""
    posterior = probing.fit_probe(verdicts.decided)
    found = {}
    for first, _ in verdicts.bad:
        fresh = verdicts.fresh[first.prompt]
        scores = [one.score for one in probing.rate(posterior, fresh)]
        found[first.prompt] = [fresh[at] for at in sorted(range(len(fresh)), key=scores.__getitem__)]
    return found


if __name__ == "__main__":
    main()
