"""Verdicts in words: what each says, and what says nothing that is sure."""

import pytest

from annotate.sources.candidates import Opinion
from annotate.sources.formats.verdicts import read_verdict

FIRST, SECOND, TIE = Opinion((1.0, 0.0)), Opinion((0.0, 1.0)), Opinion((0.5, 0.5))
WORDS = {
    "[[A]]": FIRST,
    "[[B]]": SECOND,
    "[[C]]": TIE,
    "A>B": FIRST,
    "B > A": SECOND,
    "A<B": SECOND,
    "[[B>>A]]": Opinion((0.0, 1.0), strength=3),
    "A=B": TIE,
    "tie (bothbad)": Opinion(verdict="both_bad"),
    "model_b": SECOND,
    "Response 2 is better than Response 1": SECOND,
    "Response A is much better than B": Opinion((1.0, 0.0), strength=3),
    "Slightly prefer B": Opinion((0.0, 1.0), strength=1),
    "Both are equally good": TIE,
    "skip": Opinion(verdict="skip"),
}


@pytest.mark.parametrize("word", WORDS)
def test_a_verdict_says_what_its_words_mean(word):
    assert read_verdict(word) == WORDS[word]


@pytest.mark.parametrize(
    "word",
    ["1", "0", "", "neither", "C", "[C]", "A>A", "A than A", "Answer 1 is better than A", "B is worse", "rechts"],
)  # fmt: skip
def test_what_is_not_sure_is_not_read(word):
    assert read_verdict(word) is None


def test_a_number_is_that_of_the_answer_that_has_it():
    names = ("response_0", "response_1")
    said = {
        "Response 1": SECOND,
        "Response 0 is better": FIRST,
        "1>0": SECOND,
        "response_1": SECOND,
        "b": SECOND,
    }
    assert {word: read_verdict(word, names) for word in said} == said
    assert read_verdict("Response 2", names) is None
    assert read_verdict("Response 2", ("response_a", "response_b")) == SECOND
    assert read_verdict("Response 0", ("response_a", "response_b")) is None
