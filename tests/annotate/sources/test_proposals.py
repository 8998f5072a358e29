"""Mappings proposed from the names of columns and their first values."""

import time
from typing import Any

import pytest

from annotate.sources.candidates import Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import find_format
from annotate.sources.mappings.mapping import Mapping, columns_of
from annotate.sources.mappings.proposals import advise, propose

BLUE, GREEN = "It is blue.", "It is green."
SIDES = {"prompt": "Sky?", "response_a": BLUE, "response_b": GREEN}
OF_SIDES = {"prompt": "prompt", "completion_a": "response_a", "completion_b": "response_b"}


def proposed(record: dict[str, Any]) -> dict[str, str]:
    return propose(columns_of([record]), [record])


@pytest.mark.parametrize(
    ("said", "roles"),
    [
        ({"winner": "B", "loser": "A"}, {"verdict": "winner"}),
        ({"winner": "gpt-4", "loser": "llama"}, {"verdict": "winner"}),
        ({"preferred": "Response A", "rejected": "Response B"}, {"verdict": "preferred"}),
        ({"better_answer": "2"}, {"verdict": "better_answer"}),
        ({"chosen": "GPT 4", "rejected": "Claude 3"}, {"verdict": "chosen"}),
        ({"q7": "A", "q8": "x"}, {"verdict": "q7"}),
        ({"Bewertung": "2"}, {"verdict": "Bewertung"}),
        ({"model_a": "m1", "model_b": "m2"}, {"policy_a": "model_a", "policy_b": "model_b"}),
        ({"score_a": 1, "score_b": 2, "loser": "a"}, {"score_a": "score_a", "score_b": "score_b"}),
        ({"notes_on_verdict": "x" * 100}, {}),
    ],
)
def test_a_side_or_a_name_is_not_proposed_as_a_completion(
    said: dict[str, Any], roles: dict[str, str]
) -> None:
    assert proposed({**SIDES, **said}) == {**OF_SIDES, **roles}
    assert Mapping({**OF_SIDES, **roles}).problem() == ""


def test_a_winner_and_a_loser_that_are_texts_are_completions() -> None:
    record = {"prompt": "Sky?", "winner": BLUE, "loser": GREEN}
    assert proposed(record) == {"prompt": "prompt", "chosen": "winner", "rejected": "loser"}
    assert proposed({"prompt": "Sky?", "winner": "gpt-4", "loser": "llama"}) == {"prompt": "prompt"}
    assert propose(["prompt", "answer_a", "answer_b", "winner", "loser"])["verdict"] == "winner"


@pytest.mark.parametrize(
    ("columns", "places"),
    [
        (("回答A", "回答B"), ("回答A", "回答B")),
        (("回答二", "回答一"), ("回答一", "回答二")),
        (("模型B回答", "模型A回答"), ("模型A回答", "模型B回答")),
        (("Antwort 1", "Antwort 2"), ("Antwort 1", "Antwort 2")),
        (("answer_0", "answer_1"), ("answer_0", "answer_1")),
        (("right_reply", "left_reply"), ("left_reply", "right_reply")),
        (("A", "B"), ("A", "B")),
    ],
)
def test_texts_whose_names_differ_in_a_place_are_proposed(
    columns: tuple[str, str], places: tuple[str, str]
) -> None:
    record = {"Frage": "Wie?", **dict.fromkeys(columns, GREEN)}
    assert proposed(record) == {"prompt": "Frage", "completion_a": places[0], "completion_b": places[1]}


@pytest.mark.parametrize(
    "columns", [("q1", "q2"), ("gpt-3", "gpt-4"), ("id_a", "id_b"), ("prompt_1", "prompt_2")]
)
def test_other_columns_that_differ_in_a_place_are_not(columns: tuple[str, str]) -> None:
    values = {"q1": 1, "q2": 2, "gpt-3": BLUE, "gpt-4": GREEN, "id_a": "x", "id_b": "y"}
    assert "completion_a" not in proposed(
        {"prompt": "Sky?", **{name: values.get(name, BLUE) for name in columns}}
    )


def test_the_prompt_is_the_first_text_if_no_name_says_it() -> None:
    record = {"key": "k1", "was": {"gefragt": "Wie ist der Himmel?"}, "mehr": 3}
    assert proposed(record) == {"prompt": "was.gefragt", "id": "key"}


@pytest.mark.parametrize(
    "record",
    [
        # Scores of Langfuse, Google Forms, and results of WildBench.
        {"id": "s1", "name": "helpful", "value": 1, "source": "ANNOTATION"},
        {"Timestamp": "2026/01/02 10:00:00 AM GMT+1", "Which is better? [Sky?]": "A"},
        {"model_output": "It is blue.", "ref_output": "It is red.", "reason": "It is so."},
        *(
            {name: "2 May 2026 10:00", "n": 1}
            for name in ("Time", "createTime", "start_time (1)", "time_taken")
        ),
        {"Local timestamps": "2 May 2026 10:00", "n": 1},
    ],
)
def test_what_is_called_something_else_is_not_the_prompt(record: dict[str, Any]) -> None:
    assert "prompt" not in propose(columns_of([record]), [record])


@pytest.mark.parametrize("name", ["customer time question", "sentiment", "Sometimes asked"])
def test_a_text_may_have_time_in_its_name(name: str) -> None:
    record = {name: "Why is the sky blue?", "n": 1}
    assert propose(columns_of([record]), [record])["prompt"] == name


def test_a_source_of_several_words_may_be_the_prompt() -> None:
    record = {"source": "Der Himmel ist blau.", "output_1": "The sky is blue.", "output_2": "Sky is blue."}
    assert propose(columns_of([record]), [record])["prompt"] == "source"


def test_rows_above_the_names_of_columns_are_advised_against() -> None:
    columns = ["Batch 3", "column 2", "column 3"]
    assert "names 1 of 3 columns" in advise(columns)
    assert propose(columns, [{"Batch 3": "prompt", "column 2": "Why is it?"}]) == {}
    assert advise(["prompt", "label", "column 3"]) == ""


def test_objects_are_not_completions_and_a_shared_id_is_no_id() -> None:
    record = {"0.gold": "x", "0": {"gold": {"text": BLUE}}, "1": {"gold": {"text": GREEN}}, "q": "Sky is?"}
    assert "completion_a" not in propose(["0.gold", "1.gold", "q"], [record])
    judged = [{"q": "Sky is?", "answer1": "m1", "answer2": "m2"}] * 2
    assert propose(["q", "answer1", "answer2"], judged) == {"prompt": "q"}
    asked = [{"prompt": "Sky is?", "model": {"id": "m"}, "row": {"id": number}} for number in range(3)]
    assert propose(["prompt", "model.id"], asked) == {"prompt": "prompt"}
    assert propose(["prompt", "row.id"], asked) == {"prompt": "prompt", "id": "row.id"}


# --- Parts of a record -------------------------------------------------------------------------------------------


def test_texts_of_a_list_are_mapped_by_their_places() -> None:
    record = {"instruction": "Sky?", "output": [BLUE, GREEN, "Red it is."], "tags": ["x"]}
    columns = columns_of([record])
    assert columns == ["instruction", "output", "output.0", "output.1", "output.2", "tags"]
    by_hand = Mapping({"prompt": "instruction", "chosen": "output.0", "rejected": "output.1"})
    [found] = by_hand.rows(record)
    assert [answer.content for answer in found.answers] == [BLUE, GREEN]
    assert found.metadata == {"output": ["Red it is."], "tags": ["x"]}
    assert proposed({"prompt": "Sky?", "replies": [BLUE, GREEN]})["completion_b"] == "replies.1"


def test_a_message_is_a_completion() -> None:
    record = {"q": "Sky?", "x": {"from": "gpt", "value": BLUE}, "y": {"role": "assistant", "content": GREEN}}
    [found] = Mapping({"prompt": "q", "chosen": "x", "rejected": "y"}).rows(record)
    assert [answer.content for answer in found.answers] == [BLUE, GREEN]


def test_a_verdict_by_hand_may_be_several_words() -> None:
    by_hand = Mapping({**OF_SIDES, "verdict": "said"})
    said = {
        "A>B": Opinion((1.0, 0.0)),
        "[[B]]": Opinion((0.0, 1.0)),
        "B is much better": Opinion((0.0, 1.0), strength=3),
        "Slightly prefer A": Opinion((1.0, 0.0), strength=1),
        "A=B": Opinion((0.5, 0.5)),
    }
    for words, opinion in said.items():
        [found] = by_hand.rows({**SIDES, "said": words})
        assert found.opinions == (opinion,)
    with pytest.raises(RecordError, match="is not a known verdict"):
        list(Mapping({**OF_SIDES, "loser": "said"}).rows({**SIDES, "said": "A>B"}))
    with pytest.raises(RecordError, match="is not a known verdict"):
        list(by_hand.rows({**SIDES, "said": "1 > 2"}))


def test_a_hostile_name_of_a_column_costs_little() -> None:
    names = ["a " * 500_000 + str(number) for number in (1, 2)]
    began = time.process_time()
    assert "completion_a" not in propose(["prompt", *names])
    assert find_format([{**SIDES, **dict.fromkeys(names, 1)}]) is not None
    assert time.process_time() - began < 5


# --- Which side is meant -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "column",
    [
        "Which is worse?",
        "Least helpful",
        "Which is more harmful?",
        "Which one would you discard?",
        "Schlechtere Antwort",
        "Verlierer",
        "更差的回答",
        "Peor",
        "La pire",
    ],
)
def test_a_column_of_the_worse_one_is_proposed_as_such(column: str) -> None:
    record = {"Frage": "Wie ist das?", "Antwort A": BLUE, "Antwort B": GREEN, column: "A"}
    assert proposed(record)["loser"] == column
    [found] = Mapping(proposed(record)).rows(record)
    assert found.opinions == (Opinion((0.0, 1.0)),)


@pytest.mark.parametrize("column", ["Which is less harmful?", "not biased", "Schlechter"])
def test_a_doubtful_column_is_not_proposed_as_a_verdict(column: str) -> None:
    assert "verdict" not in proposed({**SIDES, column: "A" if column != "Schlechter" else 1})


@pytest.mark.parametrize("others", [("Bewerter 1", "Bewerter 2"), ("kommentar 1", "kommentar 2")])
def test_twins_that_are_called_completions_come_first(others: tuple[str, str]) -> None:
    texts = {"Frage": "Wie ist das?", **dict.fromkeys(others, "Das ist gut."), "Antwort A": BLUE}
    assert proposed({**texts, "Antwort B": GREEN})["completion_a"] == "Antwort A"
    assert "completion_a" not in proposed({**texts, "Vorschlag A": BLUE, "Vorschlag B": GREEN})


def test_twins_that_are_verdicts_are_not_completions() -> None:
    record = {"Frage": "Wie ist das?", "x 1": "A is better", "x 2": "B is better", "y 1": BLUE, "y 2": GREEN}
    assert proposed(record)["completion_a"] == "y 1"


TURNED = {"prompt": "prompt", "completion_a": "Response B", "completion_b": "Response A", "verdict": "said"}


@pytest.mark.parametrize("said", ["Response B", "Response B is better", "B is better", "B", "B>A", "model_b"])
def test_a_letter_is_that_of_a_column_by_hand(said: str) -> None:
    record = {"prompt": "Sky?", "Response A": BLUE, "Response B": GREEN, "said": said}
    [found] = Mapping(TURNED).rows(record)
    assert found.opinions[0].scores == (1.0, 0.0)


@pytest.mark.parametrize("said", ["B", "A is better", "response 1"])
def test_a_letter_that_only_one_column_has_is_refused(said: str) -> None:
    record = {"prompt": "Sky?", "Reference": BLUE, "Response B": GREEN, "said": said}
    with pytest.raises(RecordError, match="is not a known verdict"):
        list(Mapping({**TURNED, "completion_b": "Reference"}).rows(record))


def test_a_word_for_a_side_is_that_of_a_column_by_hand() -> None:
    by_letter = {**TURNED, "completion_a": "answerB", "completion_b": "answerA"}
    [found] = Mapping(by_letter).rows(
        {"prompt": "a", "answerA": BLUE, "answerB": GREEN, "said": "B is better"}
    )
    assert found.opinions[0].scores == (1.0, 0.0)
    left = {**TURNED, "completion_a": "Response right", "completion_b": "Response left"}
    [found] = Mapping(left).rows(
        {"prompt": "a", "Response left": BLUE, "Response right": GREEN, "said": "left"}
    )
    assert found.opinions[0].scores == (0.0, 1.0)


@pytest.mark.parametrize("said", [0, 1, 2, "output 1", "output_2"])
def test_the_places_of_a_list_are_not_numbers_of_the_file(said: object) -> None:
    columns = {"prompt": "prompt", "completion_a": "output.0", "completion_b": "output.1", "verdict": "label"}
    with pytest.raises(RecordError, match="is not a known verdict"):
        list(Mapping(columns).rows({"prompt": "Sky?", "output": [BLUE, GREEN], "label": said}))
    [found] = Mapping(columns, {"1": "a", "2": "b"}).rows(
        {"prompt": "Sky?", "output": [BLUE, GREEN], "label": 1}
    )
    assert found.opinions[0].scores == (1.0, 0.0)
