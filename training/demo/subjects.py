"""Subjects of a simulated loop: a model, the prompts it writes for, and the reward that annotators choose by.

The reward is known to the annotators and to the measurements, never to training. That of the film reviews was made
with the model that writes them. That of the chats was made by others: VADER, a lexicon and rules for sentiment in
social media (Hutto and Gilbert, 2014). What it rewards was never looked at while the model or its settings were made.
"""

import itertools
import random
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from annotate.projects.base_models import SMOLLM2, STARTER
from annotate.text.chats import Content
from training.demo import chat, seed
from training.demo.simulation import FILMS, Taste
from training.engine.starter import reviews

# Everyday things and places that one may speak well or ill of.
THINGS = (
    *(
        "a small hotel by the sea",
        "the night bus",
        "an old laptop",
        "a new coffee machine",
        "my first apartment",
    ),
    *("a rainy weekend in the city", "the school canteen", "a four-hour flight", "a second-hand bicycle"),
    *("the neighbour's dog", "a long meeting", "a museum of clocks", "the local library", "a crowded beach"),
    *("a camping trip", "the winter in the north", "an open-plan office", "a cooking class", "my new phone"),
    *(
        "a pair of cheap headphones",
        "the city marathon",
        "a train journey through the mountains",
        "a job interview",
    ),
    *(
        "a garden in November",
        "a blind date",
        "the public swimming pool",
        "an online course",
        "a street market",
    ),
    *(
        "a phone call with customer service",
        "a wedding of distant cousins",
        "a haunted house",
        "a diet of soup",
    ),
    *(
        "a letter from the tax office",
        "the first day at school",
        "a hospital waiting room",
        "a village festival",
    ),
    *("a used car", "the view from the office", "a burnt dinner", "a long walk with an old friend"),
)
REQUESTS = (
    "Tell me in two or three sentences what you think of {thing}.",
    "Write a short diary entry about {thing}.",
    "Write a review of {thing}, in three sentences.",
    "Describe {thing} to a friend in a short message.",
    "How was it with {thing}? Answer as if you had been there, in a few sentences.",
    "Write the first lines of a story about {thing}.",
    "What comes to your mind about {thing}? Keep it short.",
    "Write a postcard about {thing}.",
    "Give me your honest opinion of {thing}, briefly.",
    "Write a social media post about {thing}.",
    "Summarise a customer's feedback on {thing} in two sentences.",
    "Complete this in two sentences: yesterday I came across {thing}, and",
    "What would a tired traveller say about {thing}? Two sentences.",
    "Imagine a conversation about {thing}. Write its first three lines.",
    "Explain to a child what {thing} is like, in three sentences.",
    "Write a short, honest report on {thing} for a local newspaper.",
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One subject. `name` is its base model's, too. `prompts` draws so many different ones by a seed."""

    name: str
    guidelines: str
    prompts: Callable[[int, int], list[Content]]
    most_prompts: int
    settings: Callable[[str], dict[str, Any]]  # a project's, of `training` or `sampling`
    taste: Taste


@cache
def _analyzer() -> Any:
    from vaderSentiment.vaderSentiment import (  # noqa: PLC0415 - `make demo` does without
        SentimentIntensityAnalyzer,
    )

    return SentimentIntensityAnalyzer()


def sentiment(text: str) -> float:
    """Return VADER's compound score, from -1 to 1: the mean over sentences, as its authors advise for longer texts."""
    sentences = [sentence for sentence in _SENTENCE.split(text.strip()) if sentence]
    if not sentences:
        return 0.0
    return statistics.fmean(_analyzer().polarity_scores(one)["compound"] for one in sentences)


def invitations(count: int, seed: int) -> list[Content]:
    """Return different chats that invite to speak well or ill of something, at most `most_prompts` of them."""
    drawn = [request.format(thing=thing) for request, thing in itertools.product(REQUESTS, THINGS)]
    random.Random(f"{seed} invitations").shuffle(drawn)
    return [[{"role": "user", "content": text}] for text in drawn[:count]]


def _chat_settings(part: str) -> dict[str, Any]:
    """Return the settings of the chat demo, but for short completions from the model's plain distribution.

    One pass over the pairs: in a second one the policy learns them by heart (docs/learning.md).
    """
    if part == "training":
        return {**chat.TRAINING, "learning_rate": 2e-4, "epochs": 1}
    return {"temperature": 1.0, "max_new_tokens": 48, "choosing": chat.CHOOSING}


SUBJECTS = {
    STARTER: Subject(
        name=STARTER,
        guidelines="Judged by simulated annotators, who prefer the completion that speaks better of its film.",
        prompts=lambda count, seed: list(reviews.openings(count, seed)),
        most_prompts=10_000,
        settings=seed.recommended,
        taste=FILMS,
    ),
    SMOLLM2: Subject(
        name=SMOLLM2,
        guidelines="Judged by simulated annotators, who prefer the completion in the better mood, as VADER sees it.",
        prompts=invitations,
        most_prompts=len(THINGS) * len(REQUESTS),
        settings=_chat_settings,
        # Rewards differ less than those of reviews: 0.25 is seen rightly 82 times in 100.
        taste=Taste(sentiment, sharpness=6.0, clearly=0.2, much=0.5),
    ),
}
