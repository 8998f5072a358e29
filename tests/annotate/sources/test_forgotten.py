"""A verdict that is not understood is never forgotten: such a file is neither of comparisons nor of prompts."""

from typing import Any

import pytest

from annotate.sources.formats import find_format
from annotate.sources.formats.signs import holds_verdict, stand_beside

pytestmark = pytest.mark.once  # files, which no database sees

PAIR = {"prompt": "Sky?", "response_a": "It is blue.", "response_b": "It is green."}


@pytest.mark.parametrize(
    "said",
    [
        {"annotation": {"preferred": "B"}},
        {"meta": {"human": {"winner": "B"}}},
        {"annotations": [{"annotator": "x", "choice": "B"}]},
        {"job-metadata": {"class-name": "A", "human-annotated": "yes"}},
        {"a_wins": False},
        {"prob_b": 0.8},
        {"quality_a": 3, "quality_b": 4},
        {"reward1": "0.1", "reward2": "0.2"},
        {"margin": 0.8},
        {"human_feedback": 1},
        {"Which one?": 2},
        {"标注": "1"},
        {"Bewertung": "2"},
        {"meilleure": "2"},
        {"оценка": "2"},
    ],
    ids=str,
)
def test_comparisons_do_not_forget_a_verdict(said: dict[str, Any]) -> None:
    assert find_format([{**PAIR, **said}]) is None


@pytest.mark.parametrize(
    "said",
    [
        {"tokens_a": 3, "tokens_b": 4},
        {"source": "x", "turns": 2, "gpt4": 1},
        {"meta": {"topic": "x", "messages": [{"role": "user", "content": "x"}]}},
        {"strange": "x", "Rangliste": ""},
        {"is_code": True, "language": "de"},
    ],
    ids=str,
)
def test_comparisons_may_say_other_things(said: dict[str, Any]) -> None:
    found = find_format([{**PAIR, **said}])
    assert found is not None
    assert (found.name, found.becomes) == ("side-by-side", "comparisons")


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Sky?", "回答A": "蓝", "回答B": "绿", "评价": "B"},
        {"prompt": "Sky?", "模型1回答": "蓝", "模型2回答": "绿"},
        {"prompt": "Sky?", "Antwort A": "Blau.", "Antwort B": "Grün."},
        {"prompt": "Sky?", "Réponse 1": "Bleu.", "Réponse 2": "Vert."},
        {"prompt": "Sky?", "回答": "蓝", "评分": 4},
    ],
    ids=str,
)
def test_a_pair_in_another_language_is_not_a_prompt(record: dict[str, Any]) -> None:
    assert find_format([record]) is None


def test_texts_that_are_numbered_otherwise_leave_a_prompt_alone() -> None:
    found = find_format([{"prompt": "Sky?", "tag_1": "sky", "tag_2": "color", "größe": "2", "straße": "x"}])
    assert found is not None
    assert found.name == "prompts"


def test_an_object_is_looked_into_as_far_as_is_bounded() -> None:
    deep: dict[str, Any] = {"winner": "A"}
    for _level in range(10_000):
        deep = {"x": deep}
    assert not holds_verdict({"meta": deep})
    assert not holds_verdict({"meta": [{"x": 1}] * 1_000_000 + [{"winner": "A"}]})
    assert not stand_beside(["回答A", "回答"])
