"""The first section of docs/paper.md: what each method's reward costs in KL, beside the exact optimum."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.controlled.frontier import best_of_bound, reward_of_tilt
from benchmarks.paper import runs
from benchmarks.paper.estimates import (
    RewardPath,
    bounds,
    cell,
    lead_cell,
    points_of,
    reward_cell,
    reward_within,
)
from benchmarks.paper.figures import Axis, Line, chart, logarithm
from benchmarks.paper.paths import BUDGETS
from benchmarks.paper.world import World
from benchmarks.report import table

NAMES = {
    runs.BASE: "base model",
    runs.BEST: f"best of {runs.BEST_OF}, learnt reward",
    runs.DPO: "DPO, beta 0.1",
    runs.PPO: "PPO, learnt reward, beta 0.1",
    runs.FT: "Preferred-FT",
    runs.ASSISTED: "DPO, assisted",
}
_KL = Axis(
    title="KL from the base model, nats", ticks=(0, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100), bend=logarithm
)
_FAMILIES = list(dict.fromkeys(method.family for method in runs.METHODS.values()))
# A method has one colour in all figures: its family's, and best of N that of its line by the learnt reward.
COLOURS = {
    **{name: _FAMILIES.index(method.family) for name, method in runs.METHODS.items()},
    runs.BEST: len(_FAMILIES) + 1,
    runs.BASE: len(_FAMILIES) + 2,
}
# Where paths are drawn, as shares of the root of the KL at their ends.
_SHARES = tuple(share / 40 for share in range(41))


def section(worlds: Sequence[World], draw: Callable[[str, str], str]) -> str:
    """Return the section, and draw its figure."""
    bases = [runs.load(world, "base") for world in worlds]
    start = statistics.fmean(statistics.fmean(map(statistics.fmean, one["rewards"])) for one in bases)
    rows, lines, paths = [], [_exact_line(bases)], _paths(worlds, bases)
    for name, method in sorted(runs.METHODS.items(), key=_by_family):
        loaded = [one["points"][-1] for one in runs.load_each(worlds, f"policy {name}")]
        if not loaded:
            continue
        ends = [[one[key] for one in loaded] for key in ("rewards", "kls")]
        rows.append(
            [
                _label(name, method.family),
                cell(ends[0]),
                cell(ends[1], heavy=True),
                f"{_exact(bases, statistics.fmean(map(statistics.fmean, ends[1]))):.2f}",
                *(reward_cell(list(paths[name].values()), budget) for budget in BUDGETS),
            ]
        )
        lines.append(_path_line(name, list(paths[name].values()), ends[0]))
    best, best_lines = _best_of(bases)
    header = ["method", "reward", "KL", "exact at that KL", *(f"at KL {one}" for one in BUDGETS)]
    up = Axis(
        title="mean reward",
        ticks=_ticks([value for line in [*lines, *best_lines] for value in line.heights]),
    )
    title = "Reward and KL: each method's path, its end a dot with its 95 % interval"
    picture = draw("frontier", chart(title, _KL, up, [*lines, *best_lines]))
    return f"""\
## Reward and KL

{picture}
The base model's own reward is {start:+.2f}. *Exact* is the reward of the base model's distribution tilted by
exp(reward / beta) (equation 4 of the paper), over its own samples, all prompts together. It may also choose among
prompts, which a policy may not. So no policy has more reward at its KL, up to sampling error. Best of N pays at most
log N - (N - 1) / N, which is where it is drawn.

{table(header, [*rows, *best])}
“At KL K” is read off a method's path, which is its adapter scaled down until its KL is near K, linearly in the root of
the KL. Where the path ends before K, nothing is given.
{_leads(paths)}"""


def _paths(worlds: Sequence[World], bases: Sequence[dict[str, Any]]) -> dict[str, dict[int, RewardPath]]:
    """Return the paths of methods by name and seed, from the base model on."""
    found: dict[str, dict[int, RewardPath]] = {}
    for world, base in zip(worlds, bases, strict=True):
        start = [statistics.fmean(values) for values in base["rewards"]]
        for name in filter(lambda one: runs.has(world, f"policy {one}"), runs.METHODS):
            points = runs.load(world, f"policy {name}")["points"]
            kls = np.array([[0.0] * len(start), *(one["kls"] for one in points)])
            rewards = np.array([start, *(one["rewards"] for one in points)])
            found.setdefault(name, {})[world.seed] = kls, rewards
    return found


def _path_line(name: str, paths: Sequence[RewardPath], rewards: Sequence[Sequence[float]]) -> Line:
    """Return the line of a path, or of the mean of several seeds' paths, with the interval of the end's reward."""
    ends = [points_of(path)[-1][0] for path in paths]
    points = [
        (
            statistics.fmean(end * share**2 for end in ends),
            statistics.fmean(
                reward_within(path, end * share**2) for path, end in zip(paths, ends, strict=True)
            ),
        )
        for share in _SHARES
    ]
    marks = {len(points) - 1: bounds(rewards)[1:]}
    return Line(runs.METHODS[name].family, points, marks, colour=COLOURS[name])


def _leads(paths: dict[str, dict[int, RewardPath]]) -> str:
    """Return how much more reward methods have than DPO at the same KL."""
    if runs.DPO not in paths:
        return ""
    rows = []
    for name, method in sorted(runs.METHODS.items(), key=_by_family):
        both = [
            (path, paths[runs.DPO][seed])
            for seed, path in paths.get(name, {}).items()
            if seed in paths[runs.DPO]
        ]
        leads = [lead_cell(both, budget) for budget in BUDGETS]
        if name != runs.DPO and any("(" in one for one in leads):
            rows.append([_label(name, method.family), *leads])
    if not rows:
        return ""
    return f"""
How much more reward than {NAMES[runs.DPO]}, at the same KL and on the same prompts. **Bold** is an interval without 0:

{table(["method", *(f"at KL {one}" for one in BUDGETS)], rows)}"""


def _best_of(bases: Sequence[dict[str, Any]]) -> tuple[list[list[str]], list[Line]]:
    """Return rows and lines of best of N by the true and by the learnt reward."""
    rows, lines = [], []
    each = len(bases[0]["rewards"][0])
    sizes = [size for size in (1, 2, 4, 8, 16, 32) if size <= each]
    for colour, (kind, key) in enumerate((("true", "rewards"), ("learnt", "scores")), len(_FAMILIES)):
        points: list[tuple[float, float]] = []
        marks = {}
        for size in sizes:
            kept = [
                [
                    statistics.fmean(
                        rewards[max(range(at, at + size), key=scores.__getitem__)]
                        for at in range(0, each - size + 1, size)
                    )
                    for rewards, scores in zip(one["rewards"], one[key], strict=True)
                ]
                for one in bases
            ]
            bound = best_of_bound(size)
            points.append((bound, statistics.fmean(map(statistics.fmean, kept))))
            if size > 1:
                marks[len(points) - 1] = bounds(kept)[1:]
                exact = f"{_exact(bases, bound):.2f}"
                name = f"best of {size}, {kind} reward"
                rows.append([name, cell(kept), f"at most {bound:.2f}", exact, *[""] * len(BUDGETS)])
        lines.append(Line(f"best of N, {kind} reward", points, marks, colour=colour))
    return rows, lines


def _exact_line(bases: Sequence[dict[str, Any]]) -> Line:
    budgets = [5 * (share / 40) ** 2 for share in range(41)]
    return Line("exact frontier", [(kl, _exact(bases, kl)) for kl in budgets], exact=True)


def _exact(bases: Sequence[dict[str, Any]], kl: float) -> float:
    """Return the reward of the exact optimum at a KL, the mean over seeds."""
    return statistics.fmean(
        reward_of_tilt(rewards, rewards, kl)
        for one in bases
        for rewards in ([reward for group in one["rewards"] for reward in group],)
    )


def _by_family(item: tuple[str, runs.Method]) -> tuple[int, str]:
    """Return the place of a method in a table: beside its family, by its setting."""
    return _FAMILIES.index(item[1].family), item[0]


def _label(name: str, family: str) -> str:
    """Return a method's name for a table: its family and its setting."""
    for word in ("beta", "alpha"):
        if f" {word} " in name:
            return f"{family}, {name[name.index(word) :]}"
    return family


def _ticks(values: Sequence[float]) -> list[float]:
    """Return ticks a fifth apart that hold `values`."""
    low, high = math.floor(5 * min(0.0, *values)), math.ceil(5 * max(values))
    return [tick / 5 for tick in range(low, high + 1)]
