"""Evaluations of models by people: which metric decides, and chats of any length."""

import time
from typing import Any

import pytest

from annotate.sources.candidates import Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import find_format
from annotate.sources.formats.judges import opencompass
from annotate.sources.formats.tools import open_webui, sagemaker

NAMES = ["r0", "r1", "r2"]


def chosen(metric: str, name: str) -> dict[str, Any]:
    return {"metricName": metric, "result": {"modelResponseId": name}}


def ranked(metric: str, *ranks: int) -> dict[str, Any]:
    result = [{"modelResponseId": name, "rank": rank} for name, rank in zip(NAMES, ranks, strict=True)]
    return {"metricName": metric, "result": result}


def opinions(**results: Any) -> tuple[Opinion, ...]:
    """Return what one worker says of three responses."""
    record = {
        "inputRecord": {"prompt": {"text": "Sky?"}},
        "modelResponses": [{"modelIdentifier": name, "text": f"It is {name}."} for name in NAMES],
        "humanEvaluationResult": {
            "modelResponseIdMap": {name: name for name in NAMES},
            "humanAnswers": [{"workerId": "w", "answerContent": {"evaluationResults": results}}],
        },
    }
    [candidate] = sagemaker.EVALUATIONS.rows(record)
    return tuple(candidate.opinions)


def test_a_choice_that_decides_names_the_best_alone() -> None:
    [opinion] = opinions(
        comparisonChoice=[chosen("Overall", "r1")], comparisonRank=[ranked("Style", 1, 2, 3)]
    )
    assert (opinion.scores, opinion.names_best) == ((0.0, 1.0, 0.0), True)


def test_equal_ranks_that_decide_are_a_tie_beside_a_choice() -> None:
    [opinion] = opinions(
        comparisonChoice=[chosen("Style", "r1")], comparisonRank=[ranked("Overall", 1, 1, 2)]
    )
    assert (opinion.scores, opinion.names_best) == ((-1.0, -1.0, -2.0), False)


def test_a_choice_of_an_unknown_response_says_nothing() -> None:
    with pytest.raises(RecordError):
        opinions(comparisonChoice=[chosen("Overall", "r7")])


def test_the_path_to_a_rated_reply_is_found_in_linear_time() -> None:
    length = 50_000
    messages = {
        str(place): {
            "parentId": str(place - 1) if place else None,
            "role": "assistant" if place % 2 else "user",
            "content": "x",
            "childrenIds": [str(place + 1)],
        }
        for place in range(length)
    }
    messages[str(length - 2)]["childrenIds"] = [str(length - 1)] * length
    record = {
        "data": {"rating": 1, "sibling_model_ids": ["m"]},
        "meta": {"message_id": str(length - 1)},
        "snapshot": {"chat": {"chat": {"history": {"messages": messages}}}},
    }
    start = time.process_time()
    [candidate] = open_webui.FEEDBACK.rows(record)
    assert time.process_time() - start < 3
    assert len(candidate.prompt) == length - 1


@pytest.mark.parametrize("count", [open_webui.REPLIES, open_webui.REPLIES + 1])
def test_replies_to_a_message_are_as_many_as_completions_may_be(count: int) -> None:
    replies = [f"r{number}" for number in range(count)]
    messages: dict[str, Any] = {
        "u": {"parentId": None, "role": "user", "content": "x", "childrenIds": replies}
    }
    messages |= {name: {"parentId": "u", "role": "assistant", "content": name} for name in replies}
    record = {
        "data": {"rating": 1, "sibling_model_ids": ["m"]},
        "meta": {"message_id": "r0"},
        "snapshot": {"chat": {"chat": {"history": {"messages": messages}}}},
    }
    if count <= open_webui.REPLIES:
        assert len(list(open_webui.FEEDBACK.rows(record))) == count - 1
    else:
        with pytest.raises(RecordError, match="65 completions; at most 64"):
            list(open_webui.FEEDBACK.rows(record))


# --- OpenCompass: a judge's text -----------------------------------------------------------------------------------


def judged_by_text(said: str, **more: Any) -> dict[str, Any]:
    pair = {"answer1": "m1", "answer2": "m2", "prediction1": "Blue.", "prediction2": "Green."}
    return {"prediction": said, "gold": {"question": "Sky?", **pair, **more}}


@pytest.mark.parametrize("said", ["[[A>B]], or [[B>A]]", "[[A>A]]"])
def test_a_judge_that_says_two_things_is_refused(said: str) -> None:
    with pytest.raises(RecordError, match="exactly one verdict"):
        list(opencompass.JUDGMENTS.rows(judged_by_text(said)))


@pytest.mark.parametrize(
    "record", [judged_by_text("A wins"), judged_by_text("[[A]]", prediction1=None), judged_by_text("选择：A")]
)
def test_a_judge_without_verdict_or_texts_is_not_recognised(record: dict[str, Any]) -> None:
    assert find_format([record]) is None
