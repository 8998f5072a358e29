"""Each format is recognised by its records, and says what they say."""

from contextlib import suppress
from typing import Any

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from annotate.sources.candidates import Candidate
from annotate.sources.errors import RecordError
from annotate.sources.formats import FORMATS, Format, find_format
from tests.annotate.sources.cases import (
    Case,
    clouds,
    corpora,
    crowds,
    judges,
    more,
    own,
    platforms,
    safety,
    tools,
    trainers,
)

FAMILIES = (trainers, clouds, corpora, safety, judges, tools, crowds, own, more, platforms)
CASES: list[Case] = [case for family in FAMILIES for case in family.CASES]
BY_NAME = {format.name: format for format in FORMATS}


@pytest.mark.parametrize(("name", "record", "expected"), CASES, ids=[case[0] for case in CASES])
def test_a_record_says_what_its_format_means(
    name: str, record: dict[str, Any], expected: list[Candidate]
) -> None:
    found = find_format([record])
    assert found is not None
    assert found.name == name
    assert list(found.rows(record)) == expected


def test_every_format_is_documented_and_has_a_case() -> None:
    page = (settings.BASE_DIR / "docs" / "data.md").read_text()
    assert [format.name for format in FORMATS if f"\n| `{format.name}` |" not in page] == []
    assert [format.name for format in FORMATS if format.name not in {case[0] for case in CASES}] == []
    assert len(BY_NAME) == len(FORMATS)


# --- Nothing is guessed ------------------------------------------------------------------------------------------

UNCLEAR: list[dict[str, Any]] = [
    {"foo": "Sky?", "chosen": "Blue.", "rejected": "Green."},
    {"prompt": "Sky?", "chosen": "Blue."},
    {"prompt": "Sky?", "rejected": "Green."},
    {"prompt": "Sky?", "better": "Blue.", "worse": "Green."},
    {"prompt": "Sky?", "response": "Blue.", "helpfulness": 4},
    {"prompt": "Sky?", "answers": ["Blue.", "Green."]},
    {"prompt": "Sky?", "functions": [{"name": "m1", "text": "Blue."}, {"name": "m2", "text": "Green."}]},
    {"prompt": "Sky?", "items": [{"text": "Blue."}, {"text": "Green."}]},
    {"instruction": "Sky?", "output_a": "Blue.", "output_b": "Green.", "winner": "neither"},
    {"instruction": "Sky?", "input": "", "output": ["Blue.", "Green."]},
    {"messages": [{"role": "user", "content": "Sky?"}], "preferred": "Blue."},
    {"prompt": "Sky?", "completion_a": "Blue.", "completion_b": "Green.", "winner": 1},
    {
        "prompt": "Sky?",
        "response_a": "Blue.",
        "response_b": "Green.",
        "helpful_winner": "a",
        "safe_winner": "b",
    },
    {"prompt": "Sky?", "completions": [{"model": "m", "completion": "Blue.", "rank": 1}]},
    {"instruction": "Sky?", "output_1": "Blue.", "output_2": "Green.", "winner": 1},
    {"input": "Sky?", "output_1": "Blue.", "output_2": "Green.", "label": 0},
    {"data": {"prompt": "Sky?", "answer1": "Blue.", "answer2": "Green.", "preferred": 1}},
    {"question": "Sky?", "option_a": "Blue.", "option_b": "Green.", "answer": "Blue."},
    {"source": "Sky?", "target": "Himmel?"},
    {"text": "Sky?"},
    {},
    {"prompt": "Sky?", "answer_a": "Blue.", "answer_b": "Green.", "chosen": "a", "rejected": "b"},
    {
        "instruction": "Sky?",
        "output_1": "Blue.",
        "output_2": "Green.",
        "chosen": "output_1",
        "rejected": "output_2",
    },
    {"question": "Sky?", "m1": "Blue.", "m2": "Green.", "chosen": "m1", "rejected": "m2"},
    {"prompt": "Sky?", "candidates": ["Blue.", "Green."], "chosen": "1", "rejected": "0"},
    {
        "messages": [{"role": "user", "content": "Sky?"}],
        "A": "Blue.",
        "B": "Green.",
        "chosen": "A",
        "rejected": "B",
    },
    {"scenario": "x", "prompt": "Sky?", "response_1": "Blue.", "response_2": "Green.", "label": 1},
    {"instruction": "Sky?", "generations": ["Blue.", "Green."], "labels": [1, 0]},
    {"prompt": "Sky?", "completions": [{"model": "m", "completion": "Blue.", "score": 1}]},
    {"prompt": "Sky?", "A": "Blue.", "B": "Green."},
    {"prompt": "Sky?", "response_base": "It is blue.", "response_tuned": "It is green."},
    {"question": "Sky?", "step_1": "Look up.", "step_2": "Say it."},
    {"prompt": "Sky?", "y_w": "Blue.", "y_l": "Green."},
    {"prompt": "Sky?", "good": "Blue.", "bad": "Green."},
    {"prompt": "Sky?", "initial_response": "Green.", "revised_response": "Blue."},
    {"prompt": "Sky?", "gpt-4": "It is blue.", "llama-2": "It is green."},
    {"prompt": "Sky?", "response": "Blue.", "thumbs": "up"},
    {"prompt": "Sky?", "response": "Blue.", "is_safe": True},
    {
        "messages": [
            {"role": "user", "content": "Sky?"},
            {"role": "assistant", "content": "Blue.", "rating": 5},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "Sky?"},
            {"role": "assistant", "candidates": ["Blue.", "Green."]},
        ]
    },
    {"question": "Sky?", "answer_a": "Blue.", "answer_b": "Green.", "overall": -3},
    {"question": "Sky?", "answer_a": "Blue.", "answer_b": "Green.", "q1": "B"},
    {"prompt": "Sky?", "completion_a": "Blue.", "completion_b": "Green.", "overall": 2},
    {"prompt": "Sky?", "answer_a": "Blue.", "answer_b": "Green.", "winner": "A", "safe_winner": "B"},
    {
        "prompt": "Sky?",
        "answer_a": "Blue.",
        "answer_b": "Green.",
        "winner": "m",
        "model_a": "m",
        "model_b": "m",
    },
    {"prompt": "Sky?", "response_0": "Blue.", "response_1": "Green.", "label": 1},
    {"prompt": "Sky?", "preferred": "gpt-4", "rejected": "llama"},
    {"prompt": "Sky?", "preferred": "Response A", "dispreferred": "Response B"},
    {"prompt": "Sky?", "A": "It is.", "B": "It is not.", "preferred_answer": "A", "rejected_answer": "B"},
    {"query": "Sky?", "positive": "It is blue.", "negative": "Grass is green."},
    {"prompt": "Sky?", "better": "It is blue.", "worse": "It is green."},
]


@pytest.mark.parametrize("record", UNCLEAR, ids=str)
def test_what_is_not_recognised_is_not_guessed(record: dict[str, Any]) -> None:
    assert find_format([record]) is None


def test_a_file_has_a_format_if_nearly_all_records_do() -> None:
    good, bad = {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}, {"prompt": "Sky?"}
    found = find_format([good] * 9 + [bad])
    assert found is not None
    assert found.name == "trl"
    with pytest.raises(RecordError, match="not of the format"):
        list(found.rows(bad))
    assert find_format([good, bad]) is None
    assert find_format([]) is None


def test_a_number_of_another_count_keeps_a_file_unknown() -> None:
    """A file that counts from 0 may say 1 of the second output in nearly all of its rows."""
    pair = {"input": "Sky?", "output_1": "Blue.", "output_2": "Green."}
    assert find_format([{**pair, "label": 1}] * 9 + [{**pair, "label": 3}]) is not None
    assert find_format([{**pair, "label": 1}] * 9 + [{**pair, "label": 0}]) is None


def test_a_label_of_a_question_is_not_a_rating_of_an_answer() -> None:
    asked = {"role": "user", "content": "Sky?"}
    assert find_format([{"messages": [asked], "label": 1}]) is None


def test_a_file_becomes_what_its_records_hold() -> None:
    pair = {"prompt": "Sky?", "completion_a": "Blue.", "completion_b": "Green."}
    prompt = {"prompt": "Sky?", "metadata": {}}
    files: dict[str, list[dict[str, Any]]] = {
        "comparisons": [pair | {"gold": "a"}, pair],
        "gold": [pair | {"gold": "a"}, prompt],
        "prompts": [prompt],
    }
    assert {name: found.becomes for name, rows in files.items() if (found := find_format(rows))} == {
        name: name for name in files
    }


# --- Bad input ---------------------------------------------------------------------------------------------------

FLAT = {"prompt": "a", "answer1": "b", "answer2": "c", "annotator": 1, "annotation_id": 1, "lead_time": 2}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("trl", {"prompt": [], "chosen": "a", "rejected": "b"}, "prompt must be a list of messages"),
    ("trl", {"chosen": "Yes", "rejected": "No"}, "do not begin with the same text"),
    (
        "trl",
        {"chosen": [{"role": "user", "content": "a"}], "rejected": [{"role": "user", "content": "b"}]},
        "same prompt",
    ),
    (
        "trl",
        {"prompt": "a", "chosen": [{"role": "judge", "content": "a"}], "rejected": "b"},
        "the role “judge”",
    ),
    (
        "llmbar",
        {"input": "a", "output_1": "b", "output_2": "c", "label": 3},
        "not of the format “LLMBar, OffsetBias”",
    ),
    (
        "alpaca-eval",
        {"instruction": "a", "output_1": "b", "output_2": "c", "preference": 7},
        "between 1 and 2",
    ),
    (
        "potato",
        {"prompt": "a", "text_a": "b", "text_b": "c", "label_annotations": {"fluency": {"scale_1": "1"}}},
        "Not exactly one of the labels",
    ),
    (
        "argilla",
        {
            "fields": {"prompt": "a", "r-1": "b", "r-2": "c"},
            "responses": {"quality": [{"value": 2, "user_id": "u"}]},
        },
        "A response does not say exactly once",
    ),
    ("oasst", {"prompt": {"message_id": "1", "text": "a", "role": "bot", "replies": []}}, "role must be"),
    ("whetstone", {"prompt": "a", "completion_a": "b"}, "needs both"),
    (
        "llama-factory-alpaca",
        {"instruction": "a", "chosen": "b", "rejected": "c", "history": 1.5},
        "history must be pairs of texts",
    ),
    (
        "label-studio-flat",
        {**FLAT, "preference": "neither", "variant": "A"},
        "“neither” in preference is not a verdict that is known",
    ),
    (
        "prism",
        {
            "conversation_id": 1,
            "conversation_history": [{"turn": 0, "role": "user", "content": "a"}] * 1001,
        },
        "more than 1,000 messages",
    ),
    (
        "side-by-side",
        {"prompt": "a", "answer_a": "b", "answer_b": "c", "winner": "dunno"},
        "“dunno” in winner is not a verdict that is known",
    ),
    ("trl", {"prompt": "a", "chosen": "b", "rejected": None}, "keys “prompt”, “chosen”, “rejected” .null."),
    ("judgelm", {"question_body": "a", "answer1_body": "b"}, "not of the format"),
    (
        "align-anything",
        {"question": "a", "response_1": "b", "response_2": "c", "overall_response": 3},
        "1, 2",
    ),
    (
        "prometheus",
        {"orig_instruction": "a", "orig_response_A": "b", "orig_response_B": "c", "orig_preference": "C"},
        "A, B",
    ),
    (
        "nova",
        {
            "messages": [
                {"role": "user", "content": []},
                {"candidates": [{"content": [], "preferenceLabel": "best"}]},
            ]
        },
        "content must be",
    ),
    (
        "toloka",
        {
            "ASSIGNMENT:worker_id": "w",
            "ASSIGNMENT:status": "REJECTED",
            "INPUT:prompt": "a",
            "INPUT:answer_a": "b",
            "INPUT:answer_b": "c",
            "OUTPUT:result": "a",
        },
        "work was rejected",
    ),
    (
        "paddle",
        {"src": ["a"], "tgt": ["b"], "response": ["c", "d"], "sort": [1, 0]},
        "one text more than tgt",
    ),
    ("paddle", {"src": "a", "response": [["b", "c"], "d"], "sort": [1, 0]}, "response must be text"),
    ("vertex-rlhf", {"input_text": "a", "candidate_0": "b", "candidate_1": "c", "choice": 2}, "0, 1"),
    (
        "autosxs",
        {"inference_context": "a", "response_a": "b", "response_b": "c", "choice": "x"},
        "choice must be A, B",
    ),
    (
        "prodigy",
        {
            "text": "a",
            "options": [{"id": 1, "text": "b"}, {"id": 2, "text": "c"}],
            "accept": [1, 2],
            "answer": "accept",
        },
        "accept must name one",
    ),
    (
        "fine-grained-rlhf",
        {"question": "a", **{f"prediction {n}": str(n) for n in range(1, 5)}, "preference": [3] * 6},
        "0, 1, 2",
    ),
    (
        "llama-factory-kto",
        {"messages": [{"role": "user", "content": "a"}], "label": 1},
        "must end with a message of the assistant",
    ),
]


@pytest.mark.parametrize(("name", "record", "sentence"), REFUSED, ids=[case[2] for case in REFUSED])
def test_a_record_that_does_not_fit_says_why(name: str, record: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecordError, match=sentence):
        list(BY_NAME[name].rows(record))


TEXTS = {"prompt": "a", "answer1": "b", "answer2": "c"}
COMMENT = {"from_name": "why", "value": {"text": ["Hm."]}}
PARTLY: list[dict[str, Any]] = [
    {
        "data": TEXTS,
        "annotations": [
            {"completed_by": 1, "result": [{"type": "pairwise", "value": {"selected": "left"}}]},
            {"completed_by": 2, "result": [COMMENT]},
        ],
    },
    {
        "fields": TEXTS,
        "responses": {
            "best": [{"value": "answer1", "user_id": "1"}],
            "why": [{"value": "Hm.", "user_id": "2"}],
        },
    },
]


@pytest.mark.parametrize("record", PARTLY, ids=["label-studio", "argilla"])
def test_one_unclear_annotation_is_a_loss_beside_a_clear_one(record: dict[str, Any]) -> None:
    found = find_format([record])
    assert found is not None
    [candidate] = found.rows(record)
    assert [(opinion.annotator, opinion.scores) for opinion in candidate.opinions] == [("1", (1.0, 0.0))]
    assert "does not say exactly once" in candidate.losses[0]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1", "user", "model_a", "[]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@limits(max_examples=50)
@given(st.data())
def test_whatever_a_record_holds_it_is_read_or_refused(data: st.DataObject) -> None:
    name, record, _expected = data.draw(st.sampled_from(CASES))
    for _ in range(data.draw(st.integers(1, 2))):
        record = _change(data, record)
    for format in [BY_NAME[name], *FORMATS]:
        with suppress(RecordError):
            read_at_once(format, record)


def read_at_once(format: Format, record: Any) -> None:
    """Read a record without the guard that refuses what the code of the format fails on."""
    if not isinstance(record, dict):
        return
    format.contradicts(record)
    format.explain(record)
    if format.fits(record):
        found = format.read(record)
        assert all(isinstance(one, Candidate) for one in ([found] if isinstance(found, Candidate) else found))


def _change(data: st.DataObject, value: Any) -> Any:
    """Return a value with another one somewhere inside it."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 3)):
        key = data.draw(st.sampled_from(sorted(value, key=str)))
        return {**value, key: _change(data, value[key])}
    if isinstance(value, list) and value and data.draw(st.integers(0, 3)):
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], _change(data, value[place]), *value[place + 1 :]]
    return data.draw(VALUES)
