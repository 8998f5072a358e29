"""docs/paper.md: what was run, with every number's interval, as it is in the runs' files."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.paper import frontier, runs
from benchmarks.paper.estimates import agreement, cell, gap_cell, share_bounds, share_cell
from benchmarks.paper.figures import Axis, Line, chart
from benchmarks.paper.frontier import NAMES
from benchmarks.paper.setting import COUNTS, GREATEST_REWARD, TINY
from benchmarks.paper.world import World
from benchmarks.report import hardware, table, today

_RATE = Axis(title="wins against the references", ticks=(0, 0.25, 0.5, 0.75, 1))


def write(worlds: Sequence[World], docs: Path) -> Path:
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
        _opening(worlds),
        frontier.section(worlds, draw),
        _temperatures(worlds, draw),
        _generalization(worlds),
        _judges(worlds),
        _limits(worlds),
    ]
    path = docs / f"{name}.md"
    path.write_text("\n".join(filter(None, parts)), encoding="utf-8")
    return path


def _opening(worlds: Sequence[World]) -> str:
    setting, counts = worlds[0].setting, worlds[0].setting.counts
    seconds = sum(
        float(line.split()[0])
        for world in worlds
        for line in (world.folder / "seconds.txt").read_text().splitlines()
    )
    pairs = _each_text([runs.load(world, "base")["pairs"] for world in worlds])
    smoke = " **A smoke run: its counts are too small to show anything.**" if counts == TINY else ""
    command = "make paper" if setting.name == "starter" else f"make paper MODEL={setting.name}"
    if counts == TINY:
        command = f"python -m benchmarks.paper --model {setting.name} --tiny"
    fewer = ", ".join(counts.fewer_than(COUNTS["starter"]))
    scaled = f"| scaled down from `make paper` | {fewer} |\n" if fewer else ""
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
{scaled}\
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


def _temperatures(worlds: Sequence[World], draw: Callable[[str, str], str]) -> str:
    rows, lines = [], []
    for name in runs.BY_TEMPERATURE:
        loaded = [one["wins"] for one in runs.load_each(worlds, f"temperature {name}")]
        if not loaded:
            continue
        by = [[one[str(temperature)] for one in loaded] for temperature in runs.TEMPERATURES]
        rows.append([NAMES[name], *map(share_cell, by)])
        points = [
            (t, statistics.fmean(map(statistics.fmean, values)))
            for t, values in zip(runs.TEMPERATURES, by, strict=True)
        ]
        lines.append(
            Line(
                NAMES[name],
                points,
                {at: share_bounds(values)[1:] for at, values in enumerate(by)},
                colour=frontier.COLOURS[name],
            )
        )
    if not rows:
        return ""
    against = (
        "the texts with which the training data's grammar continues the same openings"
        if worlds[0].fresh[0].reference is not None
        else "samples of the base model at temperature 1, since the prompts come without answers"
    )
    axis = Axis(title="sampling temperature", ticks=runs.TEMPERATURES)
    picture = draw(
        "temperature", chart("Wins by sampling temperature, with 95 % intervals", axis, _RATE, lines, apart=3)
    )
    ties = f"A tie is half a win. {_most_wins(worlds)}".rstrip()
    return f"""\
## Wins by sampling temperature

{picture}
Wins by the true reward on {worlds[0].setting.counts.fresh} prompts, against {against}.
{ties}

{table(["method", *(f"T = {one:g}" for one in runs.TEMPERATURES)], rows)}"""


def _most_wins(worlds: Sequence[World]) -> str:
    """Return how many wins are possible: a reference with the greatest reward can only be tied."""
    best = [
        [world.setting.reward(text) >= GREATEST_REWARD for text in runs.references(world)] for world in worlds
    ]
    most = statistics.fmean(1 - statistics.fmean(one) / 2 for one in best)
    return (
        f"References with the greatest reward can only be tied, so no method wins more than {most:.2f}."
        if most < 1
        else ""
    )


def _generalization(worlds: Sequence[World]) -> str:
    setting = worlds[0].setting
    unseen = len(setting.unseen)
    rows = []
    for name in runs.BY_KIND:
        loaded = runs.load_each(worlds, f"general {name}")
        if not loaded:
            continue
        gaps = [(one["unseen"], one["seen"]) for one in loaded]
        rows.append(
            [
                NAMES[name],
                *(cell([one[kind] for one in loaded]) for kind in ("seen", "unseen")),
                gap_cell(gaps),
                *(cell([one[kind] for one in loaded], heavy=True) for kind in ("kls seen", "kls unseen")),
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
        "other less seen",
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
    words = runs.load_each(worlds, "judge words")
    if not words:
        return ""
    people = [person.name for person in worlds[0].people]
    rows = [
        ["annotator and annotator", *agreement(words, [(people[0], people[1])])],
        ["true reward and annotator", *agreement(words, [("truth", one) for one in people])],
        [
            f"word classifier ({counts.classified} texts) and annotator",
            *agreement(words, [("judge", one) for one in people]),
        ],
    ]
    asked = [
        runs.load(world, "judge endpoint")
        for world in worlds
        if (world.folder / "judge endpoint.json").exists()
    ]
    if asked:
        rows.append(
            [f"{asked[0]['model']} and annotator", *agreement(asked, [("judge", one) for one in people])]
        )
    told = [
        [NAMES[name], *(share_cell([one[f"{kind} {name}"] for one in words]) for kind in ("true", "told"))]
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


def _one_seed(world: World) -> str:
    """Return what one seed leaves open, with the ends of DPO from two sets of labels where both are known."""
    text = "One seed: another draws other labels and first weights, which the intervals do not cover."
    general, policy = f"general {runs.DPO}", f"policy {runs.DPO}"
    if not (runs.has(world, general) and runs.has(world, policy)):
        return text
    mine = statistics.fmean(runs.load(world, policy)["points"][-1]["kls"])
    other = statistics.fmean(runs.load(world, general)["kls seen"])
    return f"""{text}
  {NAMES[runs.DPO]} shows how much that is: it ends at {mine:.1f} nats in the first table, and at {other:.1f} with the
  labels of the section Generalization."""


def _limits(worlds: Sequence[World]) -> str:
    counts, assist = worlds[0].setting.counts, worlds[0].setting.assist
    if len(worlds) > 1:
        seeds = f"{len(worlds)} seeds: rankings within the intervals are not established."
    else:
        seeds = _one_seed(worlds[0])
    own = "`docs/paper-smollm2.md`" if worlds[0].setting.name == "starter" else "this page"
    return f"""\
## What this does not show

{_missing(worlds)}- {seeds}
- The learnt reward is linear in mean hidden states, and the starter's true one nearly linear in words. That favours
  what learns from it.
- PPO is small: a clipped surrogate with a KL penalty, with RLOO's baseline in place of a learned value. Its
  {counts.updates} updates of {counts.rollout * 4} completions cost no labels, but time. Its settings were not swept.
- “Moving reference” are rounds that each start from the last adapter and measure against it, with margins.
- “Assisted” is the recipe of [assisted training](learning.md#assisted-training): {assist.pairs} pairs of fresh samples,
  {assist.candidates} of a prompt, and regression on the gaps of a tilt by the learnt reward with a KL of {assist.kl:g}.
  That reward stands in for the engine's probe, which also reads how the hidden states vary over a completion.
- A real chat model by a lexicon's reward: `make paper MODEL=smollm2` writes {own}.
"""


def _each_text(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"
