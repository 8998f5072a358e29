"""Scales of preference: a number has a direction only where nothing else says which completion is better."""

from typing import Any

import pytest

from annotate.sources.errors import RecordError
from annotate.sources.formats import find_format
from annotate.sources.formats.verdicts import read_scale

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
def test_a_number_off_the_scale_is_refused(strength: float) -> None:
    with pytest.raises(RecordError, match="from -3 to 3"):
        read_scale(strength)
