"""The world of one experiment: prompts, samples of the starter, and the verdicts of simulated annotators.

All seeds draw from one pool of samples, which is written once and kept under `var/controlled/`. Each seed draws
prompts, samples, annotators' noise and the adapter's first weights of its own. The prompts that policies are measured
on are never trained on.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from benchmarks.controlled.people import HONEST, Person
from training.engine.config import TrainConfig
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.engine.sample import sample
from training.engine.starter import reviews

CACHE = Path("var/controlled")
STARTER = str(Path(reviews.__file__).parents[2] / "starter")
MAX_NEW_TOKENS = 96
FRESH_PROMPTS, FRESH_SAMPLES = 512, 8  # measured on
POOL_PROMPTS, POOL_SAMPLES = 2048, 16  # of the frontier; of the first ones judged and trained on
PROJECT_PROMPTS = 1024


@dataclass(frozen=True)
class Written:
    """A completion that the starter wrote, and its place in the pool."""

    place: int
    prompt: str
    text: str
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    finish_reason: str


@dataclass(frozen=True)
class Judged:
    """A comparison with its verdicts by annotator, "first", "second" or "tie"."""

    first: Written
    second: Written
    votes: tuple[tuple[str, str], ...]

    @property
    def label(self) -> float:
        """The share of votes for the first completion, a tie being half a vote for each."""
        value = {"first": 1.0, "tie": 0.5, "second": 0.0}
        return sum(value[vote] for _, vote in self.votes) / len(self.votes)


def fresh_prompts() -> list[str]:
    """Return the prompts that policies are measured on."""
    return reviews.openings(FRESH_PROMPTS, seed=1)


def settings(**changes: Any) -> TrainConfig:
    """Return the configuration of a run on the starter, on one thread of a CPU: a GPU is for larger models."""
    sampling = {"max_new_tokens": MAX_NEW_TOKENS} | changes.pop("sampling", {})
    return TrainConfig.from_dict(
        {"base_model": STARTER, "device": "cpu", "threads": 1, "sampling": sampling, **changes}
    )


@cache
def pool() -> list[list[Written]]:
    """Return the starter's samples by prompt, to be judged and trained on. Writes them the first time (minutes)."""
    openings = reviews.openings(FRESH_PROMPTS + POOL_PROMPTS, seed=1)[FRESH_PROMPTS:]
    return _samples("pool", openings, POOL_SAMPLES, seed=12)


@cache
def fresh() -> list[list[Written]]:
    """Return the starter's samples for the fresh prompts, for best-of-N and the reward before training."""
    return _samples("fresh", fresh_prompts(), FRESH_SAMPLES, seed=11)


def _samples(name: str, openings: list[str], each: int, seed: int) -> list[list[Written]]:
    run = RunDirectory(CACHE / name)
    if "sample" not in run.read_done():
        run.write_config(settings(sampling={"samples_per_prompt": each, "seed": seed}))
        write_jsonl(run.prompts, ({"id": str(at), "prompt": text} for at, text in enumerate(openings)))
        sample(run)
    found: list[list[Written]] = [[] for _ in openings]
    for place, (_, row) in enumerate(read_jsonl(run.samples)):
        at = place // each
        ids = tuple(row["prompt_token_ids"]), tuple(row["token_ids"])
        found[at].append(Written(place, openings[at], row["completion"], *ids, row["finish_reason"]))
    return found


def judge(
    pairs: Sequence[tuple[Written, Written]],
    reward: Callable[[str], float],
    rng: random.Random,
    people: Sequence[Person] = HONEST,
) -> list[Judged]:
    """Return the pairs, each judged by one of `people` in turn."""
    found = []
    for number, (first, second) in enumerate(pairs):
        person = people[number % len(people)]
        verdict = person.judge(reward(first.text) - reward(second.text), rng)
        found.append(Judged(first, second, ((person.name, verdict),)))
    return found


@dataclass(frozen=True)
class Project:
    """The knowledge of one seed: comparisons that were judged, and prompts with samples that were not."""

    seed: int
    judged: list[Judged]
    unjudged: list[list[Written]]


def project(
    seed: int, labels: int, reward: Callable[[str], float], people: Sequence[Person] = HONEST
) -> Project:
    """Return a project of `labels` comparisons of two samples, each of a prompt of its own.

    Fewer labels of a seed are the first ones of more. `unjudged` are all prompts in the seed's order, the judged ones
    included: what the starter writes for them again.
    """
    rng = random.Random(f"project {seed}")
    prompts = rng.sample(pool()[:PROJECT_PROMPTS], PROJECT_PROMPTS)
    pairs = [tuple(rng.sample(samples[:4], 2)) for samples in prompts[:labels]]
    judged = judge(pairs, reward, random.Random(f"people {seed}"), people)  # type: ignore[arg-type]
    return Project(seed, judged, [samples[4:] for samples in prompts])


class Sampled(Protocol):
    """A completion with the ids that it was sampled as."""

    prompt: Any
    text: str
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    finish_reason: str


def training_row(number: int | str, chosen: Sampled, rejected: Sampled, **values: float) -> dict[str, Any]:
    """Return a line of pairs.jsonl, with the ids that were sampled, and `values` such as its label."""
    return {
        "id": str(number),
        "prompt": chosen.prompt,
        "chosen": chosen.text,
        "rejected": rejected.text,
        "prompt_token_ids": chosen.prompt_ids,
        "chosen_token_ids": chosen.token_ids,
        "rejected_token_ids": rejected.token_ids,
        "chosen_finish_reason": chosen.finish_reason,
        "rejected_finish_reason": rejected.finish_reason,
        **values,
    }


def judged_rows(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return the pairs of a snapshot: ties dropped, the completion with more votes chosen."""
    rows = []
    for number, one in enumerate(judged):
        if one.label != 0.5:
            order = (one.first, one.second) if one.label > 0.5 else (one.second, one.first)
            rows.append(
                training_row(f"judged-{number}", *order, label=max(one.label, 1 - one.label), weight=1.0)
            )
    return rows
