"""Columns mapped by hand: read as candidates, proposed by their names, never guessed."""

import json
import time

import pytest

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.mappings.mapping import COLUMNS, Mapping, columns_of
from annotate.sources.mappings.proposals import advise, propose
from annotate.sources.tables import TableRow

PAIR = {"prompt": "q", "completion_a": "x", "completion_b": "y"}
ROW = {"q": "Why?", "x": "because", "y": "so", "who": 7, "said": "1", "n": {"id": 3, "lang": "en"}}
ANSWERS = (Answer("because"), Answer("so"))


@pytest.mark.parametrize(
    ("columns", "said", "expected"),
    [
        ({"prompt": "q", "id": "n.id"}, "1", Candidate("Why?", prompt_external_id="3")),
        (PAIR, "1", Candidate("Why?", ANSWERS)),
        ({**PAIR, "verdict": "said"}, "left", Candidate("Why?", ANSWERS, (Opinion((1.0, 0.0)),))),
        ({**PAIR, "verdict": "said"}, "Model_B", Candidate("Why?", ANSWERS, (Opinion((0.0, 1.0)),))),
        ({**PAIR, "verdict": "said"}, "tie", Candidate("Why?", ANSWERS, (Opinion((0.0, 0.0)),))),
        ({**PAIR, "verdict": "said"}, "Both bad", Candidate("Why?", ANSWERS, (Opinion((), "both_bad"),))),
        (
            {**PAIR, "verdict": "said", "annotator": "who"},
            "0",
            Candidate("Why?", ANSWERS, (Opinion((1.0, 0.0), annotator="7"),)),
        ),
        ({"prompt": "q", "chosen": "x", "rejected": "y"}, "", Candidate("Why?", ANSWERS, (Opinion((1.0, 0.0)),))),
    ],
)  # fmt: skip
def test_a_record_is_read_by_its_columns(columns, said, expected):
    by_hand = Mapping(columns, {"0": "a"} if said == "0" else {})
    assert by_hand.problem() == ""
    [found] = by_hand.rows({**ROW, "said": said})
    kept = found.metadata if found.answers else found.prompt_metadata
    assert Candidate(**{**vars(found), "metadata": None, "prompt_metadata": None}) == expected
    used = {name.partition(".")[0] for name in columns.values()} - {"n"}
    assert kept == {
        name: {"lang": "en"} if name == "n" and "id" in columns else value
        for name, value in {**ROW, "said": said}.items()
        if name not in used
    }


@pytest.mark.parametrize(
    ("said", "opinion"),
    [
        ("left", Opinion((0.0, 1.0))),
        ("Model_B", Opinion((1.0, 0.0))),
        ("red", Opinion((0.0, 1.0))),  # who wrote A
        ("L", Opinion((0.0, 1.0))),  # as a person said
        ("tie", Opinion((0.0, 0.0))),
        ("both bad", Opinion((), "both_bad")),
    ],
)
def test_a_column_of_the_loser_is_read_by_hand(said, opinion):
    by_hand = Mapping({**PAIR, "loser": "said", "policy_a": "one", "policy_b": "two"}, {"L": "a"})
    assert (by_hand.problem(), by_hand.becomes) == ("", "judged")
    [found] = by_hand.rows({**ROW, "one": "red", "two": "blue", "said": said})
    assert found.opinions == (opinion,)


@pytest.mark.parametrize("said", ["both", "neither", "none", "B"])
def test_a_doubtful_word_for_the_loser_is_refused(said):
    """B is who wrote A."""
    by_hand = Mapping({**PAIR, "loser": "said", "policy_a": "one"})
    with pytest.raises(RecordError, match=f"“{said}” in said is not a known verdict"):
        list(by_hand.rows({**ROW, "one": "B", "said": said}))


@pytest.mark.parametrize(
    ("columns", "row", "sentence"),
    [
        *[
            (
                {**PAIR, "verdict": "said"},
                {**ROW, "said": number},
                f"“{number}” in said is not a known verdict",
            )
            for number in ("0", 1, "1", "2")
        ],
        (
            {**PAIR, "score_a": "n.id", "score_b": "said"},
            {**ROW, "said": "much"},
            "“much” in said is not a number",
        ),
        ({"prompt": "gone"}, ROW, "The prompt is missing"),
        ({"prompt": "n"}, ROW, "n must be text"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(columns, row, sentence):
    with pytest.raises(RecordError, match=sentence):
        list(Mapping(columns).rows(row))


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"completion_a": "x"}, "which column is the prompt"),
        ({"prompt": "q", "completion_a": "x"}, "the other one: Completion B"),
        ({**PAIR, "chosen": "x", "rejected": "y"}, "either the chosen"),
        ({"prompt": "q", "verdict": "said"}, "needs completions"),
        ({"prompt": "q", "loser": "said"}, "needs completions"),
        ({"prompt": "q", "chosen": "x", "rejected": "y", "loser": "said"}, "needs completions"),
        ({**PAIR, "verdict": "said", "loser": "who"}, "either a verdict, or one"),
        ({**PAIR, "loser": "said", "score_a": "x", "score_b": "y"}, "either a verdict"),
        ({**PAIR, "verdict": "said", "score_a": "x", "score_b": "y"}, "either a verdict"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(columns, sentence):
    assert sentence in Mapping(columns).problem()


def test_a_proposal_is_made_of_names():
    names = ["Question", "Response A", "Response B", "Winner", "Worker ID", "lang"]
    assert propose(names) == {
        "prompt": "Question", "completion_a": "Response A", "completion_b": "Response B", "verdict": "Winner",
        "annotator": "Worker ID",
    }  # fmt: skip
    sides = {"prompt": "prompt", "completion_a": "model_a", "completion_b": "model_b"}
    assert propose(["prompt", "model_a", "model_b", "loser"]) == {**sides, "loser": "loser"}
    assert propose(["prompt", "model_a", "model_b", "vote", "loser"]) == {**sides, "verdict": "vote"}
    assert propose(["prompt", "loser"]) == {"prompt": "prompt"}
    rated = {"prompt": "prompt", "completion_a": "response_a", "completion_b": "response_b"}
    rated |= {"score_a": "score_a", "score_b": "score_b"}
    assert propose([*rated.values(), "worse"]) == rated
    assert propose(["source", "target"]) == {"prompt": "source"}
    assert columns_of([{"a": {"b": 1}}, {"c": 2}]) == ["a", "a.b", "c"]


def test_models_of_chosen_and_rejected_are_no_sides():
    models = ["chosen_model", "rejected_model"]
    chosen = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    assert propose([*chosen, *models]) == {**chosen, "policy_a": "chosen_model", "policy_b": "rejected_model"}
    sides = {"prompt": "prompt", "completion_a": "response_a", "completion_b": "response_b"}
    assert propose([*sides.values(), *models, "winner"]) == {**sides, "verdict": "winner"}


@pytest.mark.parametrize(
    ("policies", "of_b"), [({"policy_a": "one"}, "blue"), ({"policy_a": "one", "policy_b": "two"}, "")]
)
def test_an_author_says_a_side_only_beside_another(policies, of_b):
    with pytest.raises(RecordError, match="“red” in said is not a known verdict"):
        list(
            Mapping({**PAIR, "verdict": "said", **policies}).rows(
                {**ROW, "one": "red", "two": of_b, "said": "red"}
            )
        )


def test_advice_names_the_column_that_is_missing():
    columns = ["message_id", "parent_id", "role", "text"]
    assert advise(columns).startswith("The column message_tree_id is missing")
    assert "is missing" not in advise([*columns, "message_tree_id"])
    assert advise(columns[1:]) == ""


# --- Numbers as verdicts -----------------------------------------------------------------------------------------

NUMBERED = {"prompt": "q", "completion_a": "response_0", "completion_b": "response_1", "verdict": "said"}


def score(columns, meanings, said):
    row = {"q": "Why?", "x": "because", "y": "so", "response_0": "because", "response_1": "so", "said": said}
    [found] = Mapping(columns, meanings).rows(row)
    return found.opinions[0].scores


def test_a_number_is_that_of_a_column():
    assert [score(NUMBERED, {}, said) for said in ("0", "1", 1)] == [(1.0, 0.0), (0.0, 1.0), (0.0, 1.0)]
    with pytest.raises(RecordError, match="“2” in said is not a known verdict"):
        score(NUMBERED, {}, "2")
    words = {"response_0": (1.0, 0.0), "Response 1": (0.0, 1.0), "output_1": (0.0, 1.0)}
    assert {word: score(NUMBERED, {}, word) for word in words} == words
    with pytest.raises(RecordError, match="“gpt_1” in said is not a known verdict"):
        score(NUMBERED, {}, "gpt_1")
    swapped = {**NUMBERED, "completion_a": "response_1", "completion_b": "response_0"}
    assert score(swapped, {}, "1") == (1.0, 0.0)


def test_beside_a_number_that_is_explained_no_other_is_guessed():
    """A file that counts from 0 says 1 of the second one."""
    columns = {**PAIR, "verdict": "said"}
    assert score(columns, {"0": "a", "1": "b"}, "1") == (0.0, 1.0)
    with pytest.raises(RecordError, match="“1” in said is not a known verdict"):
        score(columns, {"0": "a"}, "1")
    assert score(columns, {"0": "a"}, "left") == (1.0, 0.0)


def test_the_numbers_of_versions_are_not_places():
    """A 2 beside llama-2 and llama-3 may be the version, or the second one."""
    row = {"q": "Why?", "llama-2": "because", "llama-3": "so", "said": "2"}
    columns = {"prompt": "q", "completion_a": "llama-2", "completion_b": "llama-3", "verdict": "said"}
    with pytest.raises(RecordError, match="“2” in said is not a known verdict"):
        list(Mapping(columns).rows(row))
    [found] = Mapping(columns).rows({**row, "said": "Llama-2"})
    assert found.opinions[0].scores == (1.0, 0.0)
    [found] = Mapping(columns, {"1": "a", "2": "b"}).rows(row)
    assert found.opinions[0].scores == (0.0, 1.0)


def test_the_numbers_of_completions_may_begin_anywhere():
    row = {"q": "Why?", "n": {"response_2": "because", "response_3": "so"}, "said": "3"}
    columns = {
        "prompt": "q",
        "completion_a": "n.response_2",
        "completion_b": "n.response_3",
        "verdict": "said",
    }
    [found] = Mapping(columns).rows(row)
    assert found.opinions[0].scores == (0.0, 1.0)


def test_a_long_verdict_is_refused_at_once():
    """A search from each digit to the end would take minutes."""
    began = time.process_time()
    with pytest.raises(RecordError, match="is not a known verdict"):
        score({**PAIR, "verdict": "said"}, {}, "1" * 300_000 + "x")
    assert time.process_time() - began < 1


def test_columns_inside_each_other_are_offered_and_read():
    record = {
        "data": {"input": {"question": "Why?", "lang": "en"}, "a": {"b": {"c": {"d": 1}}}},
        "x": ["p", "q"],
    }
    offered = columns_of([record])
    assert {"data", "data.input", "data.input.question", "data.a.b.c", "x.1"} <= set(offered)
    assert "data.a.b.c.d" not in offered
    [found] = Mapping({"prompt": "data.input.question"}).rows(record)
    assert found.prompt == "Why?"
    assert found.prompt_metadata == {
        "data": {"input": {"lang": "en"}, "a": {"b": {"c": {"d": 1}}}},
        "x": ["p", "q"],
    }


def test_long_names_inside_each_other_cost_little():
    started = time.process_time()
    keys = {str(number): number for number in range(200_000)}
    assert len(columns_of([{"n" * 4_000_000: keys}])) == 1
    assert len(columns_of([{"n": keys}] * 3)) == COLUMNS
    assert time.process_time() - started < 5


def test_mapped_cells_are_opened() -> None:
    chat = {"Dialog": [{"role": "user", "content": "Sky?"}]}
    answers = {
        side: [{"role": "assistant", "content": text}]
        for side, text in (("Good", "Blue."), ("Bad", "Green."))
    }
    record = TableRow({key: json.dumps(value) for key, value in (chat | answers).items()})
    record["data"] = json.dumps({"asked": "Sea?", "answers": ["Blue.", "Green."], "lang": "en"})
    [of_chats] = Mapping({"prompt": "Dialog", "chosen": "Good", "rejected": "Bad"}).rows(record)
    assert of_chats.prompt == chat["Dialog"]
    assert [answer.content for answer in of_chats.answers] == list(answers.values())
    columns = {"prompt": "data.asked", "completion_a": "data.answers.0", "completion_b": "data.answers.1"}
    assert {*columns.values()} <= {*columns_of([record])}
    [inside] = Mapping(columns).rows(record)
    assert (inside.prompt, [answer.content for answer in inside.answers]) == ("Sea?", ["Blue.", "Green."])
    assert inside.metadata == {
        **{key: record[key] for key in ("Dialog", "Good", "Bad")},
        "data": {"lang": "en"},
    }


def test_a_mapped_text_that_happens_to_be_json_stays_a_text() -> None:
    for text in ('[{"role": "user", "content": "x"}]', '{"a": 1}', '["a", "b"]'):
        [found] = Mapping({"prompt": "p", "chosen": "x", "rejected": "y"}).rows(
            {"p": "Sky?", "x": text, "y": "No."}
        )
        assert found.answers[0].content == text
    for texts in (
        ['{"role": "user", "content": "x"}'] * 2,
        ['[{"name": "Ann", "role": "nurse"}]', '[{"name": "Bob", "role": "cook"}]'],
    ):
        said = TableRow(zip("pxy", ["Sky?", *texts], strict=True))
        [found] = Mapping({"prompt": "p", "chosen": "x", "rejected": "y"}).rows(said)
        assert [answer.content for answer in found.answers] == texts
