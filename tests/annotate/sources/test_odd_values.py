"""Records with odd values: each is read or refused by the format's own code, whatever stands where."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from annotate.sources.candidates import Candidate
from annotate.sources.errors import RecordError
from annotate.sources.formats import find_format, registry
from tests.annotate.sources.test_formats import BY_NAME, CASES, read_at_once

ODD: list[Any] = [
    *(None, True, 0, -1, 2.5, float("nan"), float("inf"), 10**400),
    *("", "  ", "x", "A", "1", "[1]", "{}", "\ud800", "\x00"),
    *([], [[]], [1], [None], ["a", "b"], [["a", "b"]], [{}], [{"a": []}]),
    *({}, {"a": 1}, {"role": "user"}, {"from": 1, "content": 2}, {"from": "user", "value": "x"}),
    *([{"role": "user", "content": None}], [{"role": [], "content": {}}]),
    *({"columns": ["a"], "data": [[1]]}, {"annotations": [], "model": [], "response": []}),
]
PLACES = 60  # of a record


def with_odd_value(value: Any, odd: Any) -> Iterator[Any]:
    """Yield a value as often as it has places, each time with the odd one in another of them."""
    places = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for place, inner in list(places):
        for other in (odd, *with_odd_value(inner, odd)):
            changed = dict(value) if isinstance(value, dict) else list(value)
            changed[place] = other
            yield changed


@pytest.mark.parametrize("number", range(4))
def test_an_odd_value_in_any_place_is_read_or_refused(number: int) -> None:
    """A quarter of the values at each place of each case: all of them take some CPU seconds."""
    faults = set()
    for at, (name, record, _expected) in enumerate(CASES):
        format = BY_NAME[name]
        for odd in ODD[(at + number) % 4 :: 4]:
            for changed in islice(with_odd_value(record, odd), PLACES):
                try:
                    with suppress(RecordError):
                        read_at_once(format, changed)
                except Exception as error:  # noqa: BLE001 - each is told, with its format
                    faults.add((name, repr(error)))
    assert faults == set()


NOVA = [
    {"content": [{"text": text}], "preferenceLabel": label}
    for text, label in (("Blue.", "preferred"), ("Green.", "non-preferred"))
]


@pytest.mark.parametrize("asked", [{"from": "user", "content": "Sky?"}, {"from": "human", "value": "Sky?"}])
def test_nova_reads_messages_that_are_written_otherwise(asked: dict[str, str]) -> None:
    [found] = BY_NAME["nova"].rows({"messages": [asked, {"role": "assistant", "candidates": NOVA}]})
    assert found.prompt == [{"role": "user", "content": "Sky?"}]


def test_a_metric_of_vertex_may_have_capital_letters() -> None:
    sides = {"prompt": "Sky?", "baseline_model_response": "Blue.", "response": "Green."}
    [found] = BY_NAME["vertex-pairwise"].rows(
        {**sides, "X/Pairwise_Choice": "BASELINE", "X/Explanation": "It is."}
    )
    [opinion] = found.opinions
    assert (opinion.scores, opinion.annotator, opinion.rationale) == ((1.0, 0.0), "X", "It is.")
    assert found.metadata is None


def test_a_fault_of_a_format_costs_its_row_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fits(record: Any) -> bool:
        return record["number"] > 0

    def read(record: Any) -> Candidate:
        return Candidate(record["text"])

    broken = replace(BY_NAME["prompts"], name="broken", fits=fits, read=read)
    monkeypatch.setattr(registry, "FORMATS", (broken,))
    records = [{"number": 1, "text": "a"}] * 4 + [{"number": None}, {"number": 1}]
    with caplog.at_level(logging.ERROR):
        found = find_format(records[:5])
        assert found is not None
        [read_one] = found.rows(records[0])
        for record in records[4:]:
            with pytest.raises(RecordError, match="cannot be read as “Prompts”"):
                list(found.rows(record))
    assert read_one.prompt == "a"
    assert [entry.message.split(" at ")[0] for entry in caplog.records] == [
        "The format broken failed on a record: TypeError",
        "The format broken failed on a record: KeyError",
    ]
