"""Texts that say who wrote them, and texts that only name a person."""

import random

import pytest

from annotate.text.model_names import make_name_pattern
from training.engine.starter import reviews

OWN = ["starter", "round 1", "baseline", "model-2", "sft", "/srv/models/zorblax-7b-chat", "example/Quillon-2"]


@pytest.mark.parametrize(
    "text",
    [
        "I am ChatGPT, a model.",
        "As an AI language model, I cannot",
        "As a language model, I cannot",
        "As an AI, I do not watch films.",
        "I'm Claude and I like it",
        "Hello! I was developed by OpenAI.",
        "My name is Qwen.",
        "I am Vicuna, a language model trained by researchers from LMSYS.",
        "I’m Falcon, happy to help.",
        "I am OLMo.",
        "My name is Yi",
        "I'm called DBRX",
        "I am only a large language model.",
        "This assistant was trained by Databricks.",
        "I am Zorblax.",  # the project's own
        "My name is Quillon, and",
        "This review was written by zorblax-7b-chat.",
    ],
)
def test_a_completion_that_names_its_model_is_a_leak(text):
    assert make_name_pattern(OWN).search(text)


@pytest.mark.parametrize(
    "text",
    [
        "Claude Rains is superb.",
        "A llama crosses the road.",
        "I am a model citizen.",
        "The captain dies as he takes command.",
        "He is wonderful as the young Claude, and she as Gemini.",
        "I'm a big fan of Gemini Man.",
        "As an AI, Samantha is charming.",
        "I am fond of films about AI.",
        "I loved round 1 of the fight, and the starter.",
        "The baseline is that I am starter material.",
        "A film about a quillon, and about a zorblax.",
    ],
)
def test_a_name_alone_is_none(text):
    assert not make_name_pattern(OWN).search(text)


def test_film_reviews_name_no_model():
    rng = random.Random(8)
    telling = make_name_pattern(OWN)
    assert not [text for text in ("".join(reviews.review(rng)) for _ in range(2_000)) if telling.search(text)]
