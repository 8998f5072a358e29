"""A verdict that is not understood is never forgotten: such a file is neither of comparisons nor of prompts."""

from typing import Any

import pytest

from annotate.sources.formats import find_format
from annotate.sources.formats.signs import holds_verdict, stand_beside

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
        {"qualityA": 3, "qualityB": 4},
        {"probB": 0.8},
        {"rewards": [0.1, 0.2]},
        {"reward_diff": 0.5},
        {"Which one is weaker?": "A"},
        {"which_model": "A is better, as it is true"},
        {"meta": {"reward": {"response_a": 1}, "rank": "B"}},
        {"meta": {"votes": {"x": 3, "y": 5}}},
        {"meta": {"winner": "gpt-4"}},
        {"source": "m1", "meta": {"judged": "m1"}},
        {"tags": [{"name": "x", "preferred": "A"}]},
        {"quality": {"a": 3, "b": 4}},
        {"a": 3, "b": 4},
        {"meta": {"chosen": {"role": "assistant", "content": "The sky is blue."}}},
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
        {"logprob": -3.5, "job": 3, "web": 1},
        {"logprob_a": -3.5, "logprob_b": -2.5, "rouge1": 0.5, "rouge2": 0.1},
        {"excellent": 3, "params_b": 7},
        {"reward": 2.5, "reward_model": "armo", "feedback": "good", "which_dataset": "x"},
        {"meta": {"user_preferences": {"language": "en"}, "judge": "gpt-4"}},
        {"meta": {"reward_model": "armo", "class_name": "Question", "reward": 2, "best_of": 4}},
        {"tags": [{"name": "x", "rank": 1}], "meta": {"documents": [{"id": 3, "rating": 4}]}},
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
        {"prompt": "Sky?", "更优": "天空是蓝色的。", "更差": "天空是绿色的。"},
        {"prompt": "Sky?", "trả lời A": "Nó màu xanh.", "trả lời B": "Nó màu lục."},
    ],
    ids=str,
)
def test_a_pair_in_another_language_is_not_a_prompt(record: dict[str, Any]) -> None:
    assert find_format([record]) is None


@pytest.mark.parametrize(
    "said",
    [
        {"extra_info": {"chosen": "It is blue.", "rejected": "It is green."}},
        {"meta": {"chosen": {"role": "assistant", "content": "Blue."}}},
        {"parsed": {"winner": "m1"}, "model_output": ["Blue."]},
        {"info": [{"preferred_response": "Blue."}]},
        {"model_output": ["It is blue."], "baseline_output": "It is green."},
        {"completion": "Blue.", "reward": 0.5},
        {"output": "Blue.", "rewards": [1, 0]},
        {"step": 1, "completion": "Blue.", "advantage": -0.5},
        {"output": "Blue.", "flag": "good"},
        {"response": "Blue.", "liked": True},
        {"answer": "Blue.", "user_disliked": True},
        {"meta": {"chosen": "It is blue."}},
        {"meta": {"verdict": "x", "response_a": "It is blue."}},
        {"meta": {"winner": 0, "responses": ["Blue.", "Green."]}},
        {"meta": {"better": "It is blue.", "worse": "It is green."}},
        {"meta": {"chosen": ["It is blue."], "rejected": ["It is green."]}},
    ],
    ids=str,
)
def test_a_preference_in_any_shape_is_not_a_prompt(said: dict[str, Any]) -> None:
    assert find_format([{"prompt": "Sky?", **said}]) is None


@pytest.mark.parametrize(
    "said",
    [
        {"extra_info": {"preferred_language": "en", "answer": "blue"}, "reward_model": {"style": "rule"}},
        {"tools": [{"function": {"name": "f", "parameters": {"properties": {"preference": {"type": "x"}}}}}]},
        {"meta": {"winner": "", "chosen": None, "better": {}}, "flag": "", "model_output": "It is blue."},
        {"flag": False, "reward": "5 gold", "advantage": 1, "liked": True, "reference_answer": "Blue."},
        {"persona": {"dietary_preference": "vegan"}, "example": {"chosen": "x"}},
        {"meta": {"winner": "Real Madrid", "loser": "Bayern", "preference_text": "likes dogs"}},
        {
            "meta": {"verdict": "guilty of it all", "judge": "Jo Doe", "better": True},
            "info": {"preferred": "en"},
        },
        {"functions": {"name": "f", "parameters": {"winner": "string"}}, "output": "Blue."},
        {"tag_1": "sky", "tag_2": "color", "größe": "2", "straße": "x"},
        {"段落1": "天空是蓝色的。草是绿色的。", "段落2": "海是蓝色的。沙是黄色的。"},
        {"catégorie_1": "ciel", "catégorie_2": "mer"},
        {"问题1": "天空是什么颜色的？", "问题2": "草是什么颜色的？"},
        {"rang": "x", "évaluation": "bonne"},
    ],
    ids=str,
)
def test_what_says_other_things_leaves_a_prompt_alone(said: dict[str, Any]) -> None:
    found = find_format([{"prompt": "Sky?", **said}])
    assert found is not None
    assert found.name == "prompts"


@pytest.mark.parametrize(
    ("name", "record"),
    [
        (
            "whetstone",
            {"prompt": "Sky?", "completion_a": "Blue.", "completion_b": "Green.", "logprob": -3.0, "x": "y"},
        ),
        (
            "alpaca-farm",
            {
                "instruction": "Sky?",
                "output_1": "Blue.",
                "output_2": "Green.",
                "generator_1": "g",
                "generator_2": "h",
                "job": 3,
            },
        ),
    ],
)
def test_other_comparisons_may_say_other_things(name: str, record: dict[str, Any]) -> None:
    found = find_format([record])
    assert found is not None
    assert (found.name, found.becomes) == (name, "comparisons")


def test_a_verdict_in_words_beside_completions_is_read() -> None:
    record = {"prompt": "Sky?", "completion_a": "Blue.", "completion_b": "Green.", "label": "B"}
    found = find_format([record])
    assert found is not None
    [candidate] = found.rows(record)
    assert (found.becomes, candidate.opinions[0].scores) == ("judged", (0.0, 1.0))
    assert find_format([{**record, "label": "", "said": "B is better"}]) is None


def test_a_chat_with_a_rated_answer_is_not_a_prompt() -> None:
    chat = {"messages": [{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "Blue."}]}
    assert find_format([{**chat, "reward": 0.5}]) is None
    found = find_format([{**chat, "persona": {"dietary_preference": "vegan"}}])
    assert found is not None
    assert found.name == "chats"


@pytest.mark.parametrize(
    "metadata",
    [
        {"grade": "B", "level": "A", "lang": "a", "source": "left"},
        {"topic": "equal", "x": "tie", "annotator": "a", "topic_label": "3"},
        {"label": "science", "answer": "Blue is right."},
        {"tags": ["a>b"], "math": {"formula": "a>b"}},
    ],
    ids=str,
)
def test_metadata_that_reads_like_a_side_is_metadata(metadata: dict[str, Any]) -> None:
    record = {"prompt": "Sky?", "completion_a": "Blue.", "completion_b": "Green.", **metadata}
    found = find_format([record])
    assert found is not None
    assert (found.name, found.becomes) == ("whetstone", "comparisons")
    [candidate] = found.rows(record)
    assert candidate.metadata == metadata


@pytest.mark.parametrize(
    "said",
    [
        {"answer": "B"},
        {"label": 1},
        {"human_label": "0"},
        {"annotator_1": "A"},
        {"labels": ["A", "B"]},
        {"annotators": {"maria": "A"}},
        {"pref": "A"},
        {"x": "completion_b"},
        {"x": "A>B"},
        {"x": "prefer A"},
        {"winner": "A", "result": "B"},
    ],
    ids=str,
)
def test_what_may_be_a_verdict_makes_no_comparison(said: dict[str, Any]) -> None:
    record = {"prompt": "Sky?", "completion_a": "Blue.", "completion_b": "Green."}
    found = find_format([record, {**record, **said}])
    assert found is None or found.becomes != "comparisons"


def test_metadata_refuses_no_row_of_a_chosen_format() -> None:
    record = {"prompt": "Sky?", "completion_a": "Blue.", "completion_b": "Green."}
    found = find_format([{**record, "label": "F"}])
    assert found is not None
    [candidate] = found.rows({**record, "label": "B"})
    assert candidate.metadata == {"label": "B"}


@pytest.mark.parametrize(
    "column",
    [
        "Which is less helpful?",
        "Which one is more harmful?",
        "Which response has more errors?",
        "Which answer would you discard?",
        "Which is weaker?",
        "Which prompt",
        "Which is worse?",
        "fewer_facts_choice",
        "more toxic choice",
        "incorrect",
        "wrong_answer",
    ],
)
def test_a_question_that_may_be_about_the_worse_one_is_not_read(column: str) -> None:
    assert find_format([{**PAIR, column: "A"}]) is None


def test_a_column_called_which_beside_a_verdict_is_metadata() -> None:
    record = {**PAIR, "winner": "B", "which_dataset": "x"}
    found = find_format([record])
    assert found is not None
    [candidate] = found.rows(record)
    assert (found.name, candidate.opinions[0].scores) == ("side-by-side", (0.0, 1.0))
    assert candidate.metadata == {"which_dataset": "x"}


def test_an_object_is_looked_into_as_far_as_is_bounded() -> None:
    deep: dict[str, Any] = {"winner": "A"}
    for _level in range(10_000):
        deep = {"x": deep}
    assert not holds_verdict({"meta": deep})
    assert not holds_verdict({"meta": [{"x": 1}] * 1_000_000 + [{"winner": "A"}]})
    assert not stand_beside({"回答A": "蓝", "回答": "绿"})
