"""Scales of preference: a number has a direction only where nothing else says which completion is better."""

from typing import Any

import pytest

from annotate.sources.errors import RecordError
from annotate.sources.formats import find_format

PAIR = {"prompt": "Why is the sky blue?", "response_1": "It scatters light.", "response_2": "It is a mirror."}
CHAT = {"context": [{"role": "user", "content": "Why?"}], "response1": "Light.", "response2": "A mirror."}


def find(records: list[dict[str, Any]]) -> str:
    found = find_format(records)
    return found.name if found else ""


def of_strengths(*strengths: float, **more: Any) -> list[dict[str, Any]]:
    return [PAIR | {"preference_strength": strength} | more for strength in strengths]


@pytest.mark.parametrize("verdict", ["preference", "winner", "chosen", "better_response", "label"])
def test_a_strength_beside_a_verdict_has_no_direction(verdict: str) -> None:
    assert find(of_strengths(3, 1, -2, **{verdict: "Response 1"})) != "helpsteer2"


def test_strengths_of_one_direction_alone_are_asked_about() -> None:
    assert find(of_strengths(1, 2, 3)) == ""
    assert find(of_strengths(1, 2, -3)) == "helpsteer2"
    assert find(of_strengths(1, 2, 3, preference_statement="One is right.")) == "helpsteer2"


@pytest.mark.parametrize("strength", [4, 7, -4, 100, 3.5])
def test_one_strength_off_the_scale_keeps_a_file_unknown(strength: float) -> None:
    assert find(of_strengths(*[-1] * 9, strength)) == ""
    assert find(of_strengths(*[-1] * 9, -100)) == "helpsteer2"


def test_overall_preferences_need_both_directions_too() -> None:
    several = [CHAT | {"overall_preference": overall} for overall in (1, 2, 3)]
    assert find(several) == ""
    assert find([*several, CHAT | {"overall_preference": -1}]) == "helpsteer3"
    assert find([*several, CHAT | {"overall_preference": 5}]) == ""
    assert find([one | {"winner": "response1"} for one in several]) != "helpsteer3"


@pytest.mark.parametrize("strength", [4, -7, 99])
def test_a_number_off_the_scale_is_refused_by_its_key(strength: float) -> None:
    found = find_format(of_strengths(-1, 1))
    assert found is not None
    with pytest.raises(RecordError, match="preference_strength must be a number from -3 to 3"):
        list(found.rows(of_strengths(strength)[0]))
    one = CHAT | {"overall_preference": -1, "individual_preference": [{"score": strength}]}
    found = find_format([one])
    assert found is not None
    with pytest.raises(RecordError, match=r"individual_preference\.score must be a number from -3 to 3"):
        list(found.rows(one))


@pytest.mark.parametrize(
    ("place", "scores", "strength"),
    [
        ("-3", (1.0, 0.0), 3),
        (2, (0.0, 1.0), 2),
        (0, (0.5, 0.5), None),
        (-5, (1.0, 0.0), None),
        ("60", (0.0, 1.0), None),
        (-100, (1.0, 0.0), None),
    ],
)
def test_a_slider_of_potato_has_a_side_at_any_length(
    place: object, scores: tuple[float, ...], strength: int | None
) -> None:
    record = {"user_id": "u1", "prompt": "Why?", "response_a": "Light.", "response_b": "A mirror."}
    record |= {"label_annotations": {"better": {"scale_value": place}}}
    found = find_format([record])
    assert found is not None
    [row] = found.rows(record)
    assert [(one.scores, one.strength, one.verdict) for one in row.opinions] == [(scores, strength, "")]


@pytest.mark.parametrize("word", ["A-is-better-or-not", "Both", "3"])
def test_an_unknown_step_of_multipref_is_named(word: str) -> None:
    record = {"text": "Why?", "completion_a": "Light.", "completion_b": "A mirror."}
    record |= {"normal_worker_annotations": [{"evaluator": "n1", "overall_pref": word}]}
    found = find_format([record])
    assert found is not None
    with pytest.raises(RecordError, match=f"overall_pref .*{word}"):
        list(found.rows(record))


def test_a_battle_whose_vote_is_under_another_key_is_asked_about() -> None:
    chats = {f"conversation_{side}": [*CHAT["context"], answer(side)] for side in "ab"}
    assert find([chats | {"winner": None}]) == "arena"
    assert find([chats | {"winner": None, "preference": "A"}]) != "arena"


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_what_helpsteer2_has_of_annotators_is_no_other_verdict() -> None:
    of_one = [{"strength": 2, "statement": "Response 2 is better than Response 1"}]
    assert find(of_strengths(3, 1, all_preferences_unprocessed=of_one)) == "helpsteer2"


def test_zeros_and_ones_alone_may_count_from_zero() -> None:
    outputs = {"instruction": "Why?", "output_1": "Light.", "output_2": "A mirror."}
    panda = {"instruction": "Why?", "response1": "Light.", "response2": "A mirror."}
    for values, expected in (((0, 1, 1), False), ((0, 1, 2), True), ((1, 1, 2), True), ((1, 1, 1), True)):
        judged = [outputs | {"preference": value} for value in values]
        assert (find(judged) == "alpaca-eval") is expected
        annotated = [panda | {"annotator1": value} for value in values]
        assert (find(annotated) == "pandalm") is expected
    judged = [outputs | {"preference": value} for value in (0, 1, 1.5)]
    found = find_format(judged)
    assert found is not None
    scores = [row.opinions[0].scores for record in judged for row in found.rows(record)]
    assert (found.name, scores) == ("alpaca-eval", [(0.5, 0.5), (1.0, 0.0), (0.5, 0.5)])
