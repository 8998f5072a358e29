"""Settings of the experiment: a model, its prompts by kind, texts to compare with, the true reward, and counts.

`starter` writes film reviews, and the words of a review are its reward. `smollm2` is a chat model that others trained,
judged by VADER, a lexicon of sentiment that others wrote.
"""

import functools
import os
import random
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.controlled.recipes import RECIPES
from training.engine.config import AssistConfig, TrainConfig
from training.engine.starter import reviews

GREATEST_REWARD = 1.0  # of both true rewards
Prompt = Any  # a text, or a list of chat messages
STARTER = Path(reviews.__file__).parents[2] / "starter"
# Of the starter: one opening for each way in which a review goes on.
_UNSEEN = frozenset({2, 5, 7, 10})


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Sizes of everything that a run takes."""

    labels: int = 450
    fresh: int = 192  # prompts that are measured on
    samples: int = 16  # of the base model for each fresh prompt
    assisted: int = 6000  # pairs that the learnt reward labels
    updates: int = 12  # of PPO
    rollout: int = 32  # prompts in an update of PPO, four completions each
    round_labels: int = 150  # of a round with a moving reference
    judged: int = 300  # comparisons that judges agree on or not
    classified: int = 200  # texts that the automatic judge learns from

    def fewer_than(self, others: "Counts") -> list[str]:
        """Return a few words for each count that is less than another's."""
        theirs = asdict(others)
        return [
            f"{count} of {theirs[name]} {_WORDS[name]}"
            for name, count in asdict(self).items()
            if count < theirs[name]
        ]


_WORDS = {
    "labels": "comparisons",
    "fresh": "prompts to measure on",
    "samples": "samples of the base model for each of them",
    "assisted": "pairs that the learnt reward labels",
    "updates": "updates of PPO",
    "rollout": "prompts in an update",
    "round_labels": "comparisons in a round",
    "judged": "comparisons for the judges",
    "classified": "texts for the word classifier",
}

# A chat model writes and reads more slowly, and has 640 prompts in all.
COUNTS = {
    "starter": Counts(),
    "smollm2": Counts(
        labels=200,
        fresh=80,
        samples=8,
        assisted=600,
        updates=15,
        rollout=16,
        round_labels=70,
        judged=160,
    ),
}
TINY = Counts(
    labels=24,
    fresh=8,
    samples=4,
    assisted=8,
    updates=2,
    rollout=4,
    round_labels=12,
    judged=16,
    classified=24,
)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A prompt, the number of its kind, and a text that a writer of the training data might have continued it with."""

    prompt: Prompt
    kind: int
    reference: str | None = None  # None where the base model writes it


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One model with its world. `draw` returns different examples by a seed, at most `most` of them."""

    name: str
    base_model: str
    draw: Callable[[int, int], list[Example]]
    most: int
    unseen: frozenset[int]  # kinds that generalization is tested on
    kinds: int
    reward: Callable[[str], float]
    what: str  # a good completion, for a judge that reads
    sharpness: float  # of the simulated annotators
    training: dict[str, Any]
    max_new_tokens: int
    counts: Counts = field(default_factory=Counts)

    @property
    def assist(self) -> AssistConfig:
        """The recipe of assisted training, with as many pairs as are counted."""
        recipe = RECIPES["assisted"].assist
        assert recipe
        return replace(recipe, pairs=self.counts.assisted)

    def config(self, **changes: Any) -> TrainConfig:
        """Return the engine's configuration with `changes`."""
        settings = self.training | {"base_model": self.base_model} | changes
        sampling = {"max_new_tokens": self.max_new_tokens} | settings.pop("sampling", {})
        return TrainConfig.from_dict(settings | {"sampling": sampling})


def review_kind(opening: str) -> int:
    """Return which of the grammar's templates an opening was made of. Raises ValueError for another text."""
    for number, pattern in enumerate(_patterns()):
        if pattern.fullmatch(opening):
            return number
    raise ValueError(f"{opening!r} is not an opening of the grammar.")


@functools.cache
def _patterns() -> list[re.Pattern[str]]:
    """Return a pattern for each template, which knows the fillers of every slot."""

    def slot(found: re.Match[str]) -> str:
        return "(?:" + "|".join(map(re.escape, reviews.NEUTRAL[found[1]])) + ")"

    return [
        re.compile(re.sub(r"\b([Aa])\\ ", r"\1n?\\ ", re.sub(r"\\\{(\w+)\\\}", slot, re.escape(template))))
        for template, _ in reviews.OPENINGS
    ]


def draw_reviews(count: int, seed: int) -> list[Example]:
    """Return openings with the grammar's own continuations, no opening twice."""
    rng = random.Random(f"paper {seed}")
    found: dict[str, str] = {}
    while len(found) < count:
        opening, continuation = reviews.review(rng)
        found.setdefault(opening, continuation)
    return [
        Example(prompt=one, kind=review_kind(one), reference=continuation)
        for one, continuation in found.items()
    ]


def make_starter(counts: Counts) -> Setting:
    """Return the starter model's setting."""
    return Setting(
        name="starter",
        base_model=str(STARTER),
        draw=draw_reviews,
        most=10_000,
        unseen=_UNSEEN,
        kinds=len(reviews.OPENINGS),
        reward=reviews.reward,
        what="continuation of a film review speaks better of its film",
        sharpness=4.0,
        training={
            "learning_rate": 1e-3,
            "schedule": "linear",
            "warmup_steps": 5,
            "epochs": 4,
            "batch_size": 8,
            "lora": {"r": 8, "alpha": 16},
        },
        max_new_tokens=96,
        counts=counts,
    )


def make_smollm2(counts: Counts) -> Setting:
    """Return the setting of SmolLM2-135M-Instruct, which is downloaded first where it is missing (93 MB)."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from annotate.projects.base_models import smollm2_folder
    from training.demo import chat, smollm2, subjects

    smollm2.install(smollm2_folder(), print)

    def draw(count: int, seed: int) -> list[Example]:
        kinds = {
            request.format(thing=thing): kind
            for kind, request in enumerate(subjects.REQUESTS)
            for thing in subjects.THINGS
        }
        return [
            Example(prompt=messages, kind=kinds[str(messages[0]["content"])])
            for messages in subjects.invitations(count, seed)
            if not isinstance(messages, str)
        ]

    return Setting(
        name="smollm2",
        base_model=str(smollm2_folder()),
        draw=draw,
        most=len(subjects.THINGS) * len(subjects.REQUESTS),
        unseen=frozenset(range(1, len(subjects.REQUESTS), 2)),
        kinds=len(subjects.REQUESTS),
        reward=subjects.sentiment,
        what="answer is in the better mood",
        sharpness=6.0,
        training={key: value for key, value in chat.TRAINING.items() if key != "loss"},
        max_new_tokens=48,
        counts=counts,
    )


SETTINGS = {"starter": make_starter, "smollm2": make_smollm2}
