"""A record says the same in every file that can hold it: in the cells of a table, and under names in capitals."""

import gc
import json
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from annotate.sources.candidates import Candidate
from annotate.sources.errors import RecordError
from annotate.sources.formats import find_format
from annotate.sources.formats.fields import moment
from annotate.sources.formats.views import KNOWN
from annotate.sources.tables import TableRow
from tests.annotate.sources.test_formats import CASES

USER, BLUE, GREEN = (
    {"role": role, "content": text}
    for role, text in (("user", "Sky?"), ("assistant", "Blue."), ("assistant", "Green."))
)
NAMED = [case for case in CASES if case[1].keys() <= KNOWN]
PAIR = {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}


def as_cells(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as a table has it: its lists and objects are JSON, and its numbers texts."""
    return TableRow({key: _as_cell(value) for key, value in record.items()})


def _as_cell(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def without_metadata(found: list[Candidate]) -> list[Candidate]:
    return [
        replace(
            one,
            metadata=None,
            prompt_metadata=None,
            answers=tuple(answer._replace(metadata={}) for answer in one.answers),
        )
        for one in found
    ]


@pytest.mark.parametrize(("name", "record", "expected"), CASES, ids=[case[0] for case in CASES])
def test_a_table_says_what_its_records_say(
    name: str, record: dict[str, Any], expected: list[Candidate]
) -> None:
    found = find_format([as_cells(record)])
    if name == "reward-bench":  # its lists of texts could be one completion each
        assert found is None
        return
    assert found is not None
    assert found.name == name
    assert without_metadata(list(found.rows(as_cells(record)))) == without_metadata(expected)


@pytest.mark.parametrize(("name", "record", "expected"), NAMED, ids=[case[0] for case in NAMED])
def test_known_names_may_have_capital_letters(
    name: str, record: dict[str, Any], expected: list[Candidate]
) -> None:
    titled = TableRow({key.replace("_", " ").title(): value for key, value in record.items()})
    found = find_format([titled])
    assert found is not None
    assert found.name == name
    assert without_metadata(list(found.rows(titled))) == without_metadata(expected)


def test_metadata_keeps_the_names_of_the_file() -> None:
    [found] = rows(TableRow({**PAIR, "System": "Be brief.", "Language": "en", "Source": "web"}))
    assert found.prompt == [{"role": "system", "content": "Be brief."}, USER]
    assert found.metadata == {"Language": "en", "Source": "web"}


def test_an_error_names_the_columns_of_the_file() -> None:
    said = {"Question": "Sky?", "Answer A": "Blue.", "Answer B": "Green.", "Better": "A"}
    nurse = '[{"role": "nurse", "content": "Blue."}]'
    with pytest.raises(RecordError) as refusal:
        rows(TableRow({**said, "Answer A": nurse}))
    assert str(refusal.value) == "message 1 of Answer A has the role “nurse”, which is not known."


@pytest.mark.parametrize("value", ['["b"]', "[]", '{"winner": "b"}'])
def test_a_verdict_that_is_json_is_named_as_it_is(value: str) -> None:
    texts = {"prompt": "Sky?", "response_a": "Blue.", "response_b": "Green."}
    found = find_format([as_cells({**texts, "selected": "a"})] * 4)
    assert found is not None
    with pytest.raises(RecordError) as refusal:
        list(found.rows(as_cells({**texts, "selected": value})))
    assert str(refusal.value) == f"“{value}” in selected is not a verdict that is known."


def test_a_chat_of_unknown_speakers_beside_chats_is_refused() -> None:
    nurse = {"role": "nurse", "content": "Blue."}
    with pytest.raises(RecordError, match="nurse"):
        rows(as_cells({"prompt": [USER], "chosen": [nurse], "rejected": [GREEN]}))


@pytest.mark.parametrize("key", ["metadata", "prompt_metadata"])
def test_metadata_inside_a_cell_keeps_its_keys(key: str) -> None:
    said = {"source": "x", "k": 1}
    pair = {"prompt": "Sky?", "completion_a": "Blue.", "completion_b": "Green.", "Source": "web", key: said}
    for row in (as_cells(pair), TableRow(pair)):
        [found] = rows(row)
        both = {**(found.metadata or {}), **(found.prompt_metadata or {})}
        assert both == {"Source": "web", **said}


def test_two_columns_of_one_folded_name_are_two() -> None:
    [found] = rows({**PAIR, "Language": "en", "language": "de"})
    assert found.metadata == {"Language": "en", "language": "de"}


# --- Cells -------------------------------------------------------------------------------------------------------


def rows(record: dict[str, Any], *others: dict[str, Any]) -> list[Candidate]:
    found = find_format([record, *others])
    assert found is not None
    return list(found.rows(record))


@pytest.mark.parametrize(
    "record",
    [
        {"instruction": "Sky?", "chosen": [USER, BLUE], "rejected": [USER, GREEN]},
        {"prompt": [USER], "chosen_response": [BLUE], "rejected_response": [GREEN]},
        {"question": "Sky?", "chosen_response": [BLUE], "rejected_response": [GREEN]},
        {"question": "Sky?", "response_chosen": [BLUE], "response_rejected": [GREEN]},
    ],
    ids=",".join,
)
def test_chats_in_cells_are_never_texts(record: dict[str, Any]) -> None:
    assert rows(as_cells(record)) == rows(record)
    assert rows(record)[0].answers[0].content == "Blue."


@pytest.mark.parametrize("make", [dict, TableRow])
@pytest.mark.parametrize(
    "text", ['{"sky": "blue"}', "[1, 2]", '["blue"]', '[{"role": "user", "content": "x"}]', "['blue']"]
)
def test_a_text_that_happens_to_be_json_stays_a_text(text: str, make: type[dict[str, Any]]) -> None:
    for key in PAIR:
        [found] = rows(make({**PAIR, key: text}), make(PAIR))
        texts = (found.prompt, *(answer.content for answer in found.answers))
        assert texts == tuple({**PAIR, key: text}.values())


@pytest.mark.parametrize("text", ['{"sky": "blue"}', "[1, 2]", '[{"sky": "blue"}]'])
@pytest.mark.parametrize("make", [dict, TableRow])
def test_texts_that_all_happen_to_be_json_stay_texts(text: str, make: type[dict[str, Any]]) -> None:
    said = {"question": text, "answer_a": text, "answer_b": f"{text} ", "winner": "A"}
    [found] = rows(make(said))
    assert [found.prompt, *(answer.content for answer in found.answers)] == [text, text, f"{text} "]


def test_json_lines_are_no_cells() -> None:
    chats = {"instruction": "Sky?", "chosen": json.dumps([USER, BLUE]), "rejected": json.dumps([USER, GREEN])}
    [found] = rows(chats)
    assert found.answers[0].content == chats["chosen"]
    assert find_format([{"Instruction": "Sky?", "Chosen": "Blue.", "Rejected": "Green."}]) is None


@pytest.mark.parametrize(
    "said",
    [
        {"instruction": "Sort.", "input": "3 1 2", "output": "[1, 2, 3]"},
        {"instruction": "Turn it into CSV.", "input": '[{"a": 1}]', "output": "a 1"},
        {"instruction": '["a", "b"]', "output": "a"},
        {"prompt": "Who?", "entities": '[{"text": "Ann", "kind": "PERSON"}]'},
        {"prompt": '[{"winner": "a"}]'},
        {"instruction": "List it.", "output": '[{"name": "Ann"}]'},
    ],
    ids=str,
)
def test_json_in_the_cells_of_a_prompt_is_no_preference(said: dict[str, Any]) -> None:
    [found] = rows(as_cells(said))
    assert found.answers == ()


@pytest.mark.parametrize("text", ['{"sky": "blue"}', "[1, 2]", '["blue"]'])
def test_a_text_beside_chats_in_cells_stays_a_text(text: str) -> None:
    chats = {"context": [USER], "response1": text, "response2": "Green.", "overall_preference": -1}
    [found] = rows(as_cells(chats))
    assert found.answers[0].content == text


def test_a_preference_in_a_cell_is_not_forgotten() -> None:
    texts = {"prompt": "Sky?", "response_a": "Blue.", "response_b": "Green."}
    for key, value in (
        ("annotations", [{"annotator": "x", "choice": "B"}]),
        ("meta", {"human": {"winner": "B"}}),
        ("b_is_good", True),
    ):
        assert find_format([as_cells({**texts, key: value})]) is None
    assert find_format([as_cells({"instruction": "Sky?", "output": ["Blue.", "Green."]})]) is None
    assert find_format([as_cells({"prompt": ["a", "b"], "replies": ["Blue.", "Green."]})]) is None


@pytest.mark.parametrize(
    "record",
    [
        {**PAIR, "chosen": ["Blue."], "rejected": ["Green.", "Red."]},
        {
            "prompt": "Sky?",
            "response-1": "Blue.",
            "response-2": "Green.",
            "rating-1": [{"user_id": "u", "value": 5, "status": "submitted"}],
            "rating-2": [{"user_id": "u", "value": 1, "status": "submitted"}],
        },
        {"instruction": "Sky?", "output": ["Blue.", "Green."]},
    ],
    ids=",".join,
)
def test_what_python_printed_is_not_taken_for_a_text(record: dict[str, Any]) -> None:
    printed = TableRow({key: str(value) for key, value in record.items()})
    assert find_format([printed]) is None
    numpy = TableRow({key: value.replace(", ", "\n ") for key, value in printed.items()})
    assert find_format([numpy]) is None


def test_one_answer_that_is_a_list_of_texts_is_a_text() -> None:
    texts = ('["a", "b"]', "It is blue.", "No.", "Yes.")
    [found] = rows(*(as_cells({"instruction": "Turn it.", "output": text}) for text in texts))
    assert found.metadata == {"output": texts[0]}


def test_one_answer_that_python_printed_is_a_text() -> None:
    rows_of_words = [
        TableRow({"instruction": "Turn it.", "output": text}) for text in ("['a', 'b']", "It is blue.")
    ]
    found = find_format(rows_of_words)
    assert found is not None
    assert found.name == "alpaca"


def test_metadata_that_python_printed_keeps_no_file_unknown() -> None:
    [found] = rows(as_cells({**PAIR, "info": "{'lang': 'en'}"}))
    assert found.metadata == {"info": "{'lang': 'en'}"}
    with pytest.raises(RecordError, match="as Python prints them"):
        rows({"prompt": "Sky?", "chosen": str([USER, BLUE]), "rejected": str([USER, GREEN])})


# --- Rows that say less ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [{}, {"prompt": None, "chosen": None, "rejected": None}], ids=str)
def test_a_record_that_says_nothing_does_not_count(nothing: dict[str, Any]) -> None:
    found = find_format([nothing, PAIR])
    assert found is not None
    assert found.name == "trl"


def test_a_prompt_inside_both_may_stand_beside_what_is_no_prompt() -> None:
    texts = {"chosen": "Sky? Blue.", "rejected": "Sky? Green."}
    for more in (
        {"_id": {"$oid": "1"}, "metadata": {"lang": "en"}},
        {"split": "train", "Unnamed: 0": "7", "created_at": "2024-01-01"},
    ):
        [found] = rows({**texts, **more})
        assert found.prompt == "Sky?"
        assert [answer.content for answer in found.answers] == [" Blue.", " Green."]


def test_a_number_may_be_a_question() -> None:
    [found] = rows({"question": "7", "chosen": "Seven is odd.", "rejected": "Seven is even."})
    assert (found.prompt, found.answers[0].content) == ("7", "Seven is odd.")


def test_no_prompt_is_invented_where_one_is_null() -> None:
    found = find_format([PAIR, PAIR, PAIR, {"prompt": None}])
    assert found is not None
    with pytest.raises(RecordError, match="null"):
        list(found.rows({"prompt": None, "chosen": "The sky is blue.", "rejected": "The sky is green."}))


def test_a_table_cuts_chats_to_the_judged_turn() -> None:
    chat = [USER, BLUE, {"role": "user", "content": "Sea?"}, GREEN]
    record = {
        **{"question_id": 81, "model_a": "m1", "model_b": "m2", "winner": "model_a", "judge": "u", "turn": 1},
        **{"conversation_a": chat, "conversation_b": [USER, GREEN, *chat[2:]]},
    }
    assert rows(as_cells(record))[0].answers == rows(record)[0].answers


@pytest.mark.parametrize(
    "text",
    [
        "['\\d']",
        "['a'" + "+1" * 20_000 + "]",
        "['a'," + "-" * 60_000 + "1]",
        "[" * 1_900 + "'a'" + "]" * 1_900,
    ],
    ids=["escape", "sum", "signs", "brackets"],
)
def test_what_only_looks_like_a_list_of_python_is_a_text(text: str) -> None:
    [found] = rows(as_cells({**PAIR, "chosen": text}))
    assert found.answers[0].content == text


@pytest.mark.parametrize("text", ["{'a', ['b']}", "{'a': 1, [1]: 2}"])
def test_what_python_could_not_have_printed_is_a_text(text: str) -> None:
    [found] = rows(as_cells({"prompt": "Sky?", "x": text}))
    assert found.metadata == {"x": text}


def test_long_names_of_keys_are_not_kept() -> None:
    gc.collect()
    tracemalloc.start()
    for number in range(20):
        rows(as_cells({"prompt": "Sky?", f"{number}{'x' * 1_000_000}": "1"}))
    gc.collect()
    kept, _most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 3_000_000


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("1718660000.5", datetime(2024, 6, 17, 21, 33, 20, 500_000, tzinfo=UTC)),
        (1718660000.5, datetime(2024, 6, 17, 21, 33, 20, 500_000, tzinfo=UTC)),
        ("20240617", datetime(2024, 6, 17, tzinfo=UTC)),
        ("2024", None),
        ("x", None),
        (None, None),
    ],
)
def test_seconds_in_a_cell_are_a_time_and_a_year_is_not(value: object, at: datetime | None) -> None:
    assert moment(value) == at
