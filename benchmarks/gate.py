"""Projects of many rounds, simulated, and what their gates make of them: `python -m benchmarks.gate --projects N`.

Two figures: the share of projects that ever promote a policy that is not better (at most 5 %), and how many gate
comparisons a decision takes beside the rule that Whetstone had before: a two-sided 95 % confidence sequence for each
round by itself, a tie counting one half, that called a policy better once its interval lay above one half.
"""

import argparse
import itertools
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from primitives.evidence import BETS, is_hopeless
from primitives.statistics import wilson
from training.standings.levels import WORSE_LEVEL, level_of

ROUNDS, MOST, TIES = 50, 150, (0.0, 0.25)
LONGEST, NEVER = 1200, 10**9
# The share of decided comparisons that the new policies of a project win, drawn again for each round.
WORLDS: dict[str, tuple[float, ...]] = {
    "never better": (0.5,),
    "worse or equal": (0.5, 0.5, 0.4),
    "every second better": (0.5, 0.7),
    "mostly better": (0.5, 0.65, 0.7, 0.75),
}


@dataclass
class Outcome:
    """The outcome of one gate: what it called, and after how many comparisons it ended."""

    called: str
    comparisons: int


def outcomes(share: float, ties: float, generator: random.Random) -> Iterator[int]:
    """Yield the outcomes of comparisons: 1 for a win of the new policy, -1 for a loss, 0 for a tie."""
    while True:
        yield 0 if generator.random() < ties else 1 if generator.random() < share else -1


def decide(draws: Iterator[int], level: float, most: int) -> Outcome:
    """Return what the gate calls, looked at after every comparison. Every tenth time it may be found hopeless."""
    seen: list[float] = []
    for_new, for_old = [1.0] * len(BETS), [1.0] * len(BETS)
    for count in range(1, most + 1):
        one = next(draws)
        seen.append(float(one))
        for_new = [wealth * (1 + bet * one) for wealth, bet in zip(for_new, BETS, strict=True)]
        for_old = [wealth * (1 - bet * one) for wealth, bet in zip(for_old, BETS, strict=True)]
        if sum(for_new) >= len(BETS) / level:
            return Outcome("better", count)
        if sum(for_old) >= len(BETS) / WORSE_LEVEL:
            return Outcome("worse", count)
        if count % 10 == 0 and is_hopeless(seen, most - count, level):
            return Outcome("open", count)
    return Outcome("open", most)


def decide_before(draws: Iterator[int], most: int) -> Outcome:
    """Return what the rule before called: the beta-binomial mixture of Robbins, a tie being half a win."""
    wins = 0.0
    for count in range(1, most + 1):
        wins += (1 + next(draws)) / 2
        mixture = math.lgamma(1 + wins) + math.lgamma(1 + count - wins) - math.lgamma(2 + count)
        if mixture + count * math.log(2) >= math.log(20):
            return Outcome("better" if wins > count / 2 else "worse", count)
    return Outcome("open", most)


def live(
    world: Sequence[float], ties: float, generator: random.Random, rounds: int
) -> dict[str, list[tuple[float, Outcome]]]:
    """Return the gates of one project under both rules: the true share of each, and its outcome."""
    found: dict[str, list[tuple[float, Outcome]]] = {"now": [], "before": []}
    handed_on = 0.0
    for number in range(1, rounds + 1):
        share = generator.choice(world)
        level = level_of(number, handed_on)
        outcome = decide(outcomes(share, ties, generator), level, MOST)
        handed_on = level if outcome.called == "better" else 0.0
        found["now"].append((share, outcome))
        found["before"].append((share, decide_before(outcomes(share, ties, generator), MOST)))
    return found


def lifetimes(projects: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """Return the figures of projects in each world: false promotions, power, and comparisons for each round."""
    rows = []
    for (name, world), ties in itertools.product(WORLDS.items(), TIES):
        generator = random.Random(f"{seed} {name} {ties}")
        lives = [live(world, ties, generator, rounds) for _ in range(projects)]
        for rule in ("before", "now"):
            gates = [life[rule] for life in lives]
            false = wilson(sum(any(_is_false(*gate) for gate in life) for life in gates), projects)
            assert false is not None
            better = [outcome for life in gates for share, outcome in life if share > 0.5]
            every = [outcome for life in gates for _share, outcome in life]
            rows.append(
                {
                    "world": name,
                    "ties": ties,
                    "rule": rule,
                    "false": asdict(false),
                    "power": sum(o.called == "better" for o in better) / len(better) if better else None,
                    "comparisons": sum(o.comparisons for o in every) / len(every),
                }
            )
    return rows


def _is_false(share: float, outcome: Outcome) -> bool:
    return share <= 0.5 and outcome.called == "better"


def sizes(trials: int, seed: int) -> list[dict[str, Any]]:
    """Return how many comparisons a decision takes at equal power: 80 % to call a better policy better.

    The gate of today is a project's first, or one after a promotion. `size` is the smallest gate with that power,
    `mean` how many comparisons it takes in the mean, as it ends when it is decided.
    """
    rows = []
    for share in (0.6, 0.65, 0.7, 0.8):
        for ties in (0.0, 0.25, 0.4):
            for rule in ("before", "now"):
                generator = random.Random(f"{seed} {share} {ties}")
                ends = sorted(_end(rule, outcomes(share, ties, generator)) for _ in range(trials))
                size = ends[math.ceil(0.8 * trials) - 1]
                mean = sum(min(end, size) for end in ends) / trials
                rows.append({"share": share, "ties": ties, "rule": rule, "size": size, "mean": mean})
    return rows


def _end(rule: str, draws: Iterator[int]) -> int:
    """Return after how many comparisons a gate without a limit calls the policy better."""
    outcome = decide(draws, level_of(1), LONGEST) if rule == "now" else decide_before(draws, LONGEST)
    return outcome.comparisons if outcome.called == "better" else NEVER


def main() -> None:
    """Simulate, print two tables, and write them with the machine and the date."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--projects", type=int, default=400, help="projects in each world (default: 400)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of a project (default: {ROUNDS})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    lives = lifetimes(options.projects, options.rounds, options.seed)
    needed = sizes(options.projects, options.seed)
    print(tables(lives, needed, options))
    if options.json:
        figures = {"date": report.today(), "hardware": report.hardware(), "lives": lives, "sizes": needed}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _in_percent(estimate: dict[str, float]) -> dict[str, float]:
    return {name: 100 * value for name, value in estimate.items()}


def tables(lives: list[dict[str, Any]], needed: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """Return both tables as Markdown."""
    first = report.table(
        [
            "new policies",
            "ties",
            "rule",
            "any false promotion",
            "better called better",
            "comparisons a round",
        ],
        (
            [
                row["world"],
                f"{100 * row['ties']:.0f} %",
                row["rule"],
                "{value:.1f} % ({low:.1f} to {high:.1f})".format(**_in_percent(row["false"])),
                "" if row["power"] is None else f"{100 * row['power']:.0f} %",
                f"{row['comparisons']:.0f}",
            ]
            for row in lives
        ),
    )
    pairs = zip(needed[0::2], needed[1::2], strict=True)
    second = report.table(
        ["wins", "ties", "size before", "size now", "mean before", "mean now", "ratio of means"],
        (
            [
                f"{100 * before['share']:.0f} %",
                f"{100 * before['ties']:.0f} %",
                before["size"],
                now["size"],
                f"{before['mean']:.0f}",
                f"{now['mean']:.0f}",
                f"{now['mean'] / before['mean']:.2f}",
            ]
            for before, now in pairs
        ),
    )
    head = f"{options.projects} projects of {options.rounds} rounds, gates of at most {MOST}."
    return f"{head}\n\n{first}\nAt equal power, 80 %:\n\n{second}"


if __name__ == "__main__":
    main()
