"""Scales of preference: a number has a direction only where nothing else says which completion is better."""

from typing import Any

import pytest

from annotate.sources.errors import RecordError
from annotate.sources.formats import find_format
from annotate.sources.mappings.mapping import Mapping, columns_of
from annotate.sources.mappings.proposals import propose, warn

PAIR = {"prompt": "Why is the sky blue?", "response_1": "It scatters light.", "response_2": "It is a mirror."}
CHAT = {"context": [{"role": "user", "content": "Why?"}], "response1": "Light.", "response2": "A mirror."}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


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


FULL = {"all_preferences_unprocessed": [{"strength": 2, "statement": "One is right."}]}


@pytest.mark.parametrize("known", [FULL, {"preference_statement": "One is right."}])
@pytest.mark.parametrize(
    "more", [{"group": "A"}, {"source": "first"}, {"helpfulness_1": 3, "helpfulness_2": 1}]
)
def test_helpsteer2_is_known_beside_other_columns(known: dict[str, Any], more: dict[str, Any]) -> None:
    assert find(of_strengths(1, 2, **known, **more)) == "helpsteer2"


@pytest.mark.parametrize("key", ["id", "group", "split", "source", "batch", "worker_id"])
def test_a_letter_of_where_a_record_is_from_is_no_side(key: str) -> None:
    assert find(of_strengths(1, -2, **{key: "a"})) == "helpsteer2"


def test_a_winner_beside_a_statement_is_asked_about() -> None:
    said = {"preference_statement": "One is right."}
    assert find(of_strengths(1, 2, **said, winner="Response 1")) != "helpsteer2"
    assert find(of_strengths(1, -2, who="Response 1")) != "helpsteer2"


def test_published_keys_give_a_direction_even_if_they_are_null() -> None:
    assert find(of_strengths(1, 2, preference_statement=None, preference_elaboration=None)) == "helpsteer2"
    domain = {"domain": "code", "language": "c"}
    assert find([CHAT | domain | {"overall_preference": overall} for overall in (1, 2)]) == "helpsteer3"


def test_that_both_are_bad_gives_no_direction() -> None:
    assert find(of_strengths(-100, 1, 2)) == ""


@pytest.mark.parametrize("strength", [4, 7, -4, 100, 3.5])
def test_one_strength_off_the_scale_keeps_a_file_unknown(strength: float) -> None:
    assert find(of_strengths(*[-1] * 9, strength)) == ""
    assert find(of_strengths(*[-1] * 9, -100)) == "helpsteer2"


def test_overall_preferences_need_both_directions_too() -> None:
    several = [CHAT | {"overall_preference": overall} for overall in (1, 2, 3)]
    assert find(several) == ""
    assert find([*several, CHAT | {"overall_preference": -1}]) == "helpsteer3"
    assert find([*[CHAT | {"overall_preference": -1}] * 19, CHAT | {"overall_preference": 5}]) == ""
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


BATTLE = {f"conversation_{side}": [*CHAT["context"], answer(side)] for side in "ab"}
BATTLE |= {"model_a": "m1", "model_b": "m2", "winner": None}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("label", value) for value in ("A", "model_a", 0, "1", True)),
        *(("gold", "a"), ("human", "left"), ("answer", "model_b"), ("who", "first"), ("target", 1)),
        *(("preference", "A"), ("said", "m1"), ("result", "tie")),
    ],
)
def test_a_vote_under_another_key_than_winner_is_asked_about(key: str, value: object) -> None:
    assert find([BATTLE | {key: value}]) != "arena"
    assert find([BATTLE | {key: value, "winner": "model_a"}]) == "arena"


def test_a_battle_without_a_vote_is_a_comparison() -> None:
    about = {"language": "en", "evaluation_order": 1, "group": "A", "is_code": False, "turn": 1}
    assert find([BATTLE | about]) == "arena"


def test_what_helpsteer2_has_of_annotators_is_no_other_verdict() -> None:
    of_one = [{"strength": 2, "statement": "Response 2 is better than Response 1"}]
    assert find(of_strengths(3, 1, all_preferences_unprocessed=of_one)) == "helpsteer2"


def test_a_verdict_beside_multiprefs_is_not_passed_over() -> None:
    record = {"text": "Why?", "completion_a": "Light.", "completion_b": "A mirror."}
    record |= {"normal_worker_annotations": [{"evaluator": "n1", "overall_pref": "Tie"}]}
    assert find([record]) == "multipref"
    assert find([record | {"preference": "A"}]) != "multipref"


def test_zeros_and_ones_alone_may_count_from_zero() -> None:
    outputs = {"instruction": "Why?", "output_1": "Light.", "output_2": "A mirror."}
    panda = {"instruction": "Why?", "response1": "Light.", "response2": "A mirror."}
    for values, expected in (((0, 1, 1), False), ((0, 1, 2), True), ((1, 1, 2), True), ((1, 1, 1), True)):
        judged = [outputs | {"preference": value} for value in values]
        assert (find(judged) == "alpaca-eval") is expected
        annotated = [panda | {"annotator1": value} for value in values]
        assert (find(annotated) == "pandalm") is expected
    blank = [outputs | {"preference": value} for value in (None, None, None, 0)]
    found = find_format(blank)
    assert found is not None
    with pytest.raises(RecordError, match="“0” in preference is not a verdict that is known"):
        list(found.rows(blank[-1]))
    judged = [outputs | {"preference": value} for value in (0, 1, 1.5)]
    found = find_format(judged)
    assert found is not None
    scores = [row.opinions[0].scores for record in judged for row in found.rows(record)]
    assert (found.name, scores) == ("alpaca-eval", [(0.5, 0.5), (1.0, 0.0), (0.5, 0.5)])


@pytest.mark.parametrize("more", [{"generator_1": "m1"}, {"annotator": "gpt4"}, {"annotator_index": 3}])
def test_zeros_of_alpaca_eval_are_ties(more: dict[str, Any]) -> None:
    outputs = {"instruction": "Why?", "output_1": "Light.", "output_2": "A mirror."} | more
    for values in ((0, 1), (0,), (None, None, None, 0)):
        assert find([outputs | {"preference": value} for value in values]) == "alpaca-eval"


@pytest.mark.parametrize("more", [{"cmp_key": "opt-7b_llama-7b"}, {"annotator2": 1}])
def test_zeros_of_pandalm_are_ties(more: dict[str, Any]) -> None:
    panda = {"instruction": "Why?", "response1": "Light.", "response2": "A mirror."} | more
    assert find([panda | {"annotator1": value} for value in (0, 1)]) == "pandalm"


@pytest.mark.parametrize("column", ["preference_strength", "overall_preference"])
def test_a_number_of_strength_is_never_taken_for_a_side(column: str) -> None:
    records = [PAIR | {column: strength} for strength in (1, 2)]
    proposal = propose(columns_of(records), records)
    assert "verdict" not in proposal
    assert f"“{column}” may be how much better" in warn(columns_of(records))
    with pytest.raises(RecordError, match=f"“1” in {column} is not a known verdict"):
        list(Mapping({**proposal, "verdict": column}).rows(records[0]))
    [row] = Mapping({**proposal, "verdict": column}, {"1": "b"}).rows(records[0])
    assert row.opinions[0].scores == (0.0, 1.0)


def test_why_zeros_and_ones_are_asked_about_is_said() -> None:
    assert "“preference” may count" in warn(["instruction", "output_1", "output_2", "preference"])
    assert "“annotator1” may count" in warn(["instruction", "response1", "response2", "annotator1"])
    assert warn(["prompt", "response_a", "response_b", "preference"]) == ""
