"""One seed's world: prompts, samples of the base model, and what simulated annotators say of them."""

import functools
import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.controlled.people import Person
from benchmarks.paper.actor import Actor, Written
from benchmarks.paper.setting import Example, Setting

Preference = tuple[Written, Written]  # chosen, rejected
PEOPLE = ("ada", "ben")


class World:
    """The examples that policies are measured on and those they learn from, and a folder for what is made of them."""

    def __init__(self, setting: Setting, seed: int, folder: Path) -> None:
        self.setting, self.seed, self.folder = setting, seed, folder
        folder.mkdir(parents=True, exist_ok=True)
        counts = setting.counts
        drawn = setting.draw(min(setting.most, 2 * counts.fresh + 3 * counts.labels), seed)
        # The first half of what is measured on serves alone where kinds of prompts are no matter.
        self.measured, self.pool = drawn[: 2 * counts.fresh], drawn[2 * counts.fresh :]
        self.fresh = self.measured[: counts.fresh]

    def is_unseen(self, example: Example) -> bool:
        """Return whether an example is of a kind that generalization is tested on."""
        return example.kind in self.setting.unseen

    def learnable(self, *, seen: bool) -> list[Example]:
        """Return what policies learn from: all of it, or with `seen` without the kinds that are tested on."""
        return [one for one in self.pool if not (seen and self.is_unseen(one))]

    @functools.cached_property
    def people(self) -> list[Person]:
        """The simulated annotators."""
        return [Person(name, self.setting.sharpness) for name in PEOPLE]

    @functools.cached_property
    def base_samples(self) -> list[list[Written]]:
        """The completions of the base model for the fresh prompts, many of each."""
        prompts = [one.prompt for one in self.fresh]
        return self._kept("base", lambda: self._write(prompts, self.setting.counts.samples, seed=11))

    def preferences(self, *, seen: bool = False) -> list[Preference]:
        """Return the judged pairs of `labels` comparisons of two samples of the base model, ties dropped."""
        asked, count = self._compared, self.setting.counts.labels
        written = self._kept("pairs", lambda: self._write([one.prompt for one in asked], 2, seed=12))
        chosen = [
            both
            for example, both in zip(asked, written, strict=True)
            if not (seen and self.is_unseen(example))
        ]
        return self.judge(chosen[:count], f"pairs{'-seen' if seen else ''} {self.seed}")

    @property
    def _compared(self) -> list[Example]:
        """The shortest start of the pool that has prompts enough for comparisons of all kinds and of the seen ones."""
        found, needed = [], self.setting.counts.labels
        for one in self.pool:
            if len(found) >= self.setting.counts.labels and needed <= 0:
                break
            found.append(one)
            needed -= not self.is_unseen(one)
        return found

    def judge(self, written: Sequence[Sequence[Written]], noise: str) -> list[Preference]:
        """Return the first two completions of each prompt as annotators in turn prefer them, ties dropped."""
        rng, found = random.Random(noise), []
        for number, (first, second, *_) in enumerate(written):
            difference = self.setting.reward(first.text) - self.setting.reward(second.text)
            verdict = self.people[number % len(self.people)].judge(difference, rng)
            if verdict != "tie":
                found.append((first, second) if verdict == "first" else (second, first))
        return found

    def _write(self, prompts: list[Any], each: int, seed: int) -> list[list[Written]]:
        return Actor(self.setting).write(prompts, each=each, seed=1000 * self.seed + seed)

    def _kept(self, name: str, make: Any) -> list[list[Written]]:
        """Return completions from a file, which `make` fills the first time."""
        file = self.folder / f"written {name}.json"
        if not file.exists():
            part = file.with_suffix(".part")
            part.write_text(json.dumps([[asdict(one) for one in group] for group in make()]))
            part.rename(file)
        return [[_written(row) for row in group] for group in json.loads(file.read_text())]


def _written(row: dict[str, Any]) -> Written:
    ids = tuple(row["prompt_ids"]), tuple(row["token_ids"])
    return Written(row["prompt"], row["text"], *ids, row["finish_reason"])
