"""docs/paper.md: what was run, with every number's interval, as it is in the runs' files."""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.controlled.frontier import best_of_bound, reward_of_tilt
from benchmarks.controlled.intervals import bootstrap, t_interval
from benchmarks.paper import runs
from benchmarks.paper.figures import Axis, Line, chart, root
from benchmarks.paper.judges import TIE
from benchmarks.paper.world import World
from benchmarks.report import hardware, table, today
from primitives.statistics import mean_estimate
from training.demo.measurements import reward_at

BUDGETS = (1, 2, 5)  # nats
_KL = Axis(title="KL from the base model, nats", ticks=(0, 1, 2, 5, 10, 20, 50, 100), bend=root)
_RATE = Axis(title="wins against the references", ticks=(0, 0.25, 0.5, 0.75, 1))
_NAMES = {
    runs.BASE: "base model",
    runs.BEST: f"best of {runs.BEST_OF}, learnt reward",
    runs.DPO: "DPO, beta 0.1",
    runs.PPO: "PPO, learnt reward, beta 0.1",
    runs.FT: "Preferred-FT",
}

Values = Sequence[float]


def write(worlds: Sequence[World], docs: Path, *, tiny: bool = False) -> Path:
    """Write the document and its figures below `docs`. Return its path."""
    setting = worlds[0].setting
    name = "paper" if setting.name == "starter" else f"paper-{setting.name}"
    pictures = docs / "paper"
    pictures.mkdir(parents=True, exist_ok=True)

    def draw(part: str, svg: str) -> str:
        file = pictures / f"{setting.name}-{part}.svg"
        file.write_text(svg, encoding="utf-8")
        return f"![{part}](paper/{file.name})\n"

    parts = [
        _opening(worlds, tiny),
        _frontier(worlds, draw),
        _temperatures(worlds, draw),
        _generalization(worlds),
        _judges(worlds),
        _limits(worlds),
    ]
    path = docs / f"{name}.md"
    path.write_text("\n".join(filter(None, parts)), encoding="utf-8")
    return path


def _opening(worlds: Sequence[World], tiny: bool) -> str:
    setting, counts = worlds[0].setting, worlds[0].setting.counts
    seconds = sum(
        float(line.split()[0])
        for world in worlds
        for line in (world.folder / "seconds.txt").read_text().splitlines()
    )
    pairs = _each_text([_load(world, "base")["pairs"] for world in worlds])
    smoke = " **A smoke run: its counts are too small to show anything.**" if tiny else ""
    command = "make paper" if setting.name == "starter" else f"make paper MODEL={setting.name}"
    return f"""\
# The DPO paper in miniature: {setting.name}

`{command}` repeats the experiments of Rafailov et al. ([2305.18290](https://arxiv.org/abs/2305.18290), section 6) on a
small model whose reward is known, and writes this page.{smoke}

| | |
| --- | --- |
| when and where | {today()}, {hardware()}; {seconds / 60:.0f} processor minutes |
| seeds | {len(worlds)} |
| preferences | {counts.labels} comparisons of the base model's samples, {pairs} without a tie, by two annotators |
| measured on | {counts.fresh} prompts that no training saw, one sample each at temperature 1 |
| intervals | 95 %, {_interval_words(worlds)} |

- An annotator prefers the better of two completions by Bradley-Terry: the chance is sigmoid({setting.sharpness:g} d)
  for a difference d in reward. A completion with the same reward is a tie, and ties are dropped.
- KL is summed over the tokens of a completion, at each the whole distribution against the base model's.
- Every method but best of N trains the same LoRA adapter. DPO is the product's own training (`training.engine train`).
"""


def _interval_words(worlds: Sequence[World]) -> str:
    if len(worlds) > 1:
        return "Student's t over seeds"
    return "over prompts: normal for rewards and win rates, bootstrap for KL. They do not cover another seed's labels"


def _frontier(worlds: Sequence[World], draw: Callable[[str, str], str]) -> str:
    bases = [_load(world, "base") for world in worlds]
    start = statistics.fmean(_flat(one["rewards"]) for one in bases)
    rows, lines = [], [_exact_line(bases)]
    for name, method in sorted(runs.METHODS.items(), key=_by_family):
        loaded = [one["points"] for one in _load_each(worlds, f"policy {name}")]
        if not loaded:
            continue
        paths = [
            [
                (0.0, start),
                *((statistics.fmean(one["kls"]), statistics.fmean(one["rewards"])) for one in path),
            ]
            for path in loaded
        ]
        ends = [path[-1] for path in loaded]
        kl = statistics.fmean(path[-1][0] for path in paths)
        rows.append(
            [
                _label(name, method.family),
                _cell([one["rewards"] for one in ends]),
                _cell([one["kls"] for one in ends], heavy=True),
                f"{_exact(bases, kl):.2f}",
                *(_at_budget(paths, budget) for budget in BUDGETS),
            ]
        )
        middle = [
            (statistics.fmean(path[at][0] for path in paths), statistics.fmean(path[at][1] for path in paths))
            for at in range(len(paths[0]))
        ]
        lines.append(Line(method.family, middle, [len(middle) - 1]))
    best, best_lines = _best_of(bases)
    header = ["method", "reward", "KL", "exact at that KL", *(f"at KL {one}" for one in BUDGETS)]
    up = Axis(
        title="mean reward",
        ticks=_ticks([point[1] for line in [*lines, *best_lines] for point in line.points]),
    )
    picture = draw(
        "frontier", chart("Reward and KL: each method's path, its end a dot", _KL, up, [*lines, *best_lines])
    )
    return f"""\
## Reward and KL

{picture}
The base model's own reward is {start:+.2f}. *Exact* is the frontier: the reward of the base model's distribution tilted
by exp(reward / beta) (equation 4 of the paper), over its own samples, all prompts together. No policy has more reward
at its KL, up to sampling error. Best of N pays at most log N - (N - 1) / N.

{table(header, [*rows, *best])}
“At KL K” is read off a method's path, which is its adapter scaled to {", ".join(f"{one:g}" for one in runs.SCALES)},
linearly in the root of the KL. Where the path ends before K, nothing is given.
"""


def _best_of(bases: Sequence[dict[str, Any]]) -> tuple[list[list[str]], list[Line]]:
    """Return rows and lines of best of N by the true and by the learnt reward."""
    rows, lines = [], []
    each = len(bases[0]["rewards"][0])
    sizes = [size for size in (1, 2, 4, 8, 16, 32) if size <= each]
    for kind, key in (("true", "rewards"), ("learnt", "scores")):
        points = []
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
                exact = f"{_exact(bases, bound):.2f}"
                name = f"best of {size}, {kind} reward"
                rows.append([name, _cell(kept), f"at most {bound:.2f}", exact, *[""] * len(BUDGETS)])
        lines.append(Line(f"best of N, {kind} reward", points, range(1, len(points))))
    return rows, lines


def _exact_line(bases: Sequence[dict[str, Any]]) -> Line:
    budgets = [0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0]
    return Line("exact frontier", [(kl, _exact(bases, kl)) for kl in budgets], exact=True)


def _exact(bases: Sequence[dict[str, Any]], kl: float) -> float:
    """Return the reward of the exact optimum at a KL, the mean over seeds."""
    return statistics.fmean(
        reward_of_tilt(rewards, rewards, kl)
        for one in bases
        for rewards in ([reward for group in one["rewards"] for reward in group],)
    )


def _at_budget(paths: Sequence[Sequence[tuple[float, float]]], budget: float) -> str:
    """Return the mean reward at a KL over the seeds whose path reaches it."""
    found = [value for path in paths if (value := reward_at(path, budget)) is not None]
    if len(found) < len(paths):
        return f"{statistics.fmean(found):+.2f} ({len(found)} of {len(paths)})" if found else "–"
    return f"{statistics.fmean(found):+.2f}"


def _temperatures(worlds: Sequence[World], draw: Callable[[str, str], str]) -> str:
    rows, lines = [], []
    for name in (runs.BASE, runs.BEST, *runs.COMPARED):
        loaded = [one["wins"] for one in _load_each(worlds, f"temperature {name}")]
        if not loaded:
            continue
        by = [[one[str(temperature)] for one in loaded] for temperature in runs.TEMPERATURES]
        rows.append([_NAMES[name], *map(_cell_share, by)])
        points = [
            (t, statistics.fmean(map(statistics.fmean, values)))
            for t, values in zip(runs.TEMPERATURES, by, strict=True)
        ]
        lines.append(Line(_NAMES[name], points, range(len(points))))
    if not rows:
        return ""
    against = (
        "the texts with which the training data's grammar continues the same openings"
        if worlds[0].fresh[0].reference is not None
        else "samples of the base model at temperature 1, since the prompts come without answers"
    )
    axis = Axis(title="sampling temperature", ticks=runs.TEMPERATURES)
    picture = draw("temperature", chart("Wins by sampling temperature", axis, _RATE, lines))
    return f"""\
## Wins by sampling temperature

{picture}
Wins by the true reward on {worlds[0].setting.counts.by_temperature} prompts, against {against}.
A tie is half a win.

{table(["method", *(f"T = {one:g}" for one in runs.TEMPERATURES)], rows)}"""


def _generalization(worlds: Sequence[World]) -> str:
    setting = worlds[0].setting
    unseen = len(setting.unseen)
    rows = []
    for name in (runs.BASE, *runs.COMPARED):
        loaded = _load_each(worlds, f"general {name}")
        if not loaded:
            continue
        gaps = [_difference(one["unseen"], one["seen"]) for one in loaded]
        rows.append(
            [
                _NAMES[name],
                *(_cell([one[kind] for one in loaded]) for kind in ("seen", "unseen")),
                _gap_cell(gaps),
                *(_cell([one[kind] for one in loaded], heavy=True) for kind in ("kls seen", "kls unseen")),
            ]
        )
    if not rows:
        return ""
    kinds = [worlds[0].is_unseen(one) for one in worlds[0].measured]
    sizes = f"{kinds.count(False)} and {kinds.count(True)}"
    header = [
        "method",
        "reward, seen kinds",
        "reward, other kinds",
        "difference",
        "KL, seen kinds",
        "KL, other kinds",
    ]
    return f"""\
## Generalization

Preferences come from {setting.kinds - unseen} kinds of prompts. The policies are measured on new prompts of those and
of {unseen} other kinds ({sizes} prompts). The base model wrote for all kinds before. So this asks what preferences
teach about prompts of another form, as the paper's articles of another source did.

{table(header, rows)}"""


def _judges(worlds: Sequence[World]) -> str:
    counts = worlds[0].setting.counts
    words = _load_each(worlds, "judge words")
    if not words:
        return ""
    people = [person.name for person in worlds[0].people]
    rows = [
        ["annotator and annotator", *_agreement(words, [(people[0], people[1])])],
        ["true reward and annotator", *_agreement(words, [("truth", one) for one in people])],
        [
            f"word classifier ({counts.classified} texts) and annotator",
            *_agreement(words, [("judge", one) for one in people]),
        ],
    ]
    asked = [
        _load(world, "judge endpoint") for world in worlds if (world.folder / "judge endpoint.json").exists()
    ]
    if asked:
        rows.append(
            [f"{asked[0]['model']} and annotator", *_agreement(asked, [("judge", one) for one in people])]
        )
    told = [
        [_NAMES[name], *(_cell_share([one[f"{kind} {name}"] for one in words]) for kind in ("true", "told"))]
        for name in runs.COMPARED
        if f"told {name}" in words[0]
    ]
    note = (
        ""
        if asked
        else "\nNo endpoint was asked. `JUDGE_URL` and `JUDGE_MODEL` name one, `JUDGE_KEY` is its key.\n"
    )
    return f"""\
## An automatic judge

How often two of them prefer the same completion, of the comparisons on which neither has a tie. They judged
{counts.judged} pairs of samples of the base model. Annotators agree with each other as often as their noise allows.

{table(["", "agree", "of"], rows)}{note}
What the word classifier would have said of the policies at temperature 1, against the references of the fresh prompts:

{table(["method", "wins by the true reward", "wins by the word classifier"], told)}"""


def _missing(worlds: Sequence[World]) -> str:
    """Return a line that names the runs that were not made, if there are any."""
    names = [
        f"{name} (seed {world.seed})" if len(worlds) > 1 else name
        for world in worlds
        for stage in runs.stages(None)
        for name in stage
        if not runs.has(world, name)
    ]
    return f"- **Not run yet:** {', '.join(names)}. Run the command again to add them.\n" if names else ""


def _limits(worlds: Sequence[World]) -> str:
    counts = worlds[0].setting.counts
    if len(worlds) > 1:
        seeds = f"{len(worlds)} seeds: rankings within the intervals are not established."
    else:
        seeds = "One seed: another draws other labels and first weights, which the intervals do not cover."
    own = "`docs/paper-smollm2.md`" if worlds[0].setting.name == "starter" else "this page"
    return f"""\
## What this does not show

{_missing(worlds)}- {seeds}
- The learnt reward is linear in mean hidden states, and the starter's true one nearly linear in words. That favours
  what learns from it.
- PPO is small: a clipped surrogate with a KL penalty, with RLOO's baseline in place of a learned value. Its
  {counts.updates} updates of {counts.rollout * 4} completions cost no labels, but time. Its settings were not swept.
- “Moving reference” are rounds that each start from the last adapter and measure against it, with margins.
- “Assisted” adds {counts.assisted} pairs of fresh samples that the learnt reward labels, best against worst of 8.
- A real chat model by a lexicon's reward: `make paper MODEL=smollm2` writes {own}.
"""


def _load(world: World, name: str) -> dict[str, Any]:
    return dict(json.loads((world.folder / f"{name}.json").read_text()))


def _load_each(worlds: Sequence[World], name: str) -> list[dict[str, Any]]:
    """Return a run's figures in those worlds that have made it."""
    return [_load(world, name) for world in worlds if runs.has(world, name)]


def _by_family(item: tuple[str, runs.Method]) -> tuple[int, str]:
    """Return the place of a method in a table: beside its family, by its setting."""
    families = list(dict.fromkeys(method.family for method in runs.METHODS.values()))
    return families.index(item[1].family), item[0]


def _label(name: str, family: str) -> str:
    """Return a method's name for a table: its family and its setting."""
    for word in ("beta", "alpha"):
        if f" {word} " in name:
            return f"{family}, {name[name.index(word) :]}"
    return family


def _flat(groups: Sequence[Values]) -> float:
    return statistics.fmean(value for group in groups for value in group)


def _bounds(by_seed: Sequence[Values], *, heavy: bool = False) -> tuple[float, float, float]:
    """Return the mean over seeds and its interval: over seeds where there are several, otherwise over prompts."""
    means = [statistics.fmean(values) for values in by_seed]
    mean = statistics.fmean(means)
    over_seeds = t_interval(means)
    if over_seeds:
        return mean, *over_seeds
    if heavy:
        return mean, *bootstrap(by_seed[0])
    estimate = mean_estimate(by_seed[0])
    return (mean, estimate.low, estimate.high) if estimate else (mean, math.nan, math.nan)


def _cell(by_seed: Sequence[Values], *, heavy: bool = False) -> str:
    mean, low, high = _bounds(by_seed, heavy=heavy)
    return f"{mean:.2f} ({low:.2f} to {high:.2f})" if heavy else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def _cell_share(by_seed: Sequence[Values]) -> str:
    mean, low, high = _bounds(by_seed)
    return f"{mean:.2f} ({max(0.0, low):.2f} to {min(1.0, high):.2f})"


def _difference(one: Values, other: Values) -> tuple[float, float]:
    """Return the difference of two means and its standard error."""
    spread = sum(
        statistics.variance(values) / len(values) if len(values) > 1 else 0.0 for values in (one, other)
    )
    return statistics.fmean(one) - statistics.fmean(other), math.sqrt(spread)


def _gap_cell(gaps: Sequence[tuple[float, float]]) -> str:
    means = [gap for gap, _ in gaps]
    mean = statistics.fmean(means)
    low, high = t_interval(means) or (mean - 1.96 * gaps[0][1], mean + 1.96 * gaps[0][1])
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def _agreement(loaded: Sequence[dict[str, Any]], both: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return the share of comparisons on which each of `both` say the same, and how many there were."""
    by_seed = [
        [
            float(mine == theirs)
            for one, other in both
            for mine, theirs in zip(figures[one], figures[other], strict=True)
            if TIE not in (mine, theirs)
        ]
        for figures in loaded
    ]
    return _cell_share(by_seed), str(sum(map(len, by_seed)))


def _each_text(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"


def _ticks(values: Values) -> list[float]:
    """Return ticks a fifth apart that hold `values`."""
    low, high = math.floor(5 * min(0.0, *values)), math.ceil(5 * max(values))
    return [tick / 5 for tick in range(low, high + 1)]
