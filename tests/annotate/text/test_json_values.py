"""JSON from outside: whatever is accepted can be stored, and whatever is refused is refused with a sentence."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase as DatabaseTestCase

from annotate.models import Project, Prompt
from annotate.text.json_values import DEPTH, JSONError, clean_json, parse_json


def nested(depth: int) -> str:
    return '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": {"b": [0, 1e999]}}', "a.b.1 is not a finite number."),
        ('{"a": -1e999}', "a is not a finite number."),
        ('{"a": NaN}', "NaN is not a JSON number."),
        ("1e999", "The value is not a finite number."),
        (f'{{"a": {2**63}}}', "a is a whole number larger than 64 bits can hold."),
        (f'{{"a": {-(2**63) - 1}}}', "a is a whole number larger than 64 bits can hold."),
        ('{"a": ' + "9" * 5_000 + "}", "A whole number is larger than 64 bits can hold."),
        ('{"a": "\\u0000"}', "a holds a NUL or half a character."),
        ('{"a": ["\\ud800"]}', "a.0 holds a NUL or half a character."),
        ('{"a": {"\\u0000": 1}}', "The key a.\\u0000 holds a NUL or half a character."),
        ('{"\\ud800": 1}', "The key \\ud800 holds a NUL or half a character."),
        (nested(DEPTH + 1), "nested more than 32 deep."),
        ("[" * 5_000, "nested more than 32 deep."),
        ("[" * 100_000, "too many values."),
        ("[" + "[]," * 50_000 + "[]]", "too many values."),
        ('["' + '\\"' * 50_000, "not valid JSON"),
        ('{"a": }', "not valid JSON at column 7: Expecting value."),
        ('{"a":\n x}', "at line 2, column 2"),
        ("", "not valid JSON"),
        (b"\xff\xfe", "Byte 1 is not UTF-8."),
    ],
)
def test_what_cannot_be_stored_is_refused_in_a_sentence(text: str | bytes, says: str) -> None:
    with pytest.raises(JSONError) as caught:
        parse_json(text)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_error_carries_the_path_to_the_value() -> None:
    with pytest.raises(JSONError) as caught:
        parse_json('{"rows": [{}, {"metadata": {"score": 1e999}}]}')
    assert caught.value.path == ("rows", 1, "metadata", "score")


def test_what_can_be_stored_is_returned_as_it_is() -> None:
    text = f'{{"a": [1, -2.5, {2**63 - 1}, true, null, "[{{,\\"\\\\"], "": {nested(DEPTH - 1)}}}'
    assert parse_json(text) == json.loads(text)
    assert parse_json('"' + "[" * 100_000 + '"') == "[" * 100_000


def test_a_size_is_counted_in_bytes_of_json() -> None:
    assert clean_json({"a": "é"}, size=11) == {"a": "é"}
    with pytest.raises(JSONError, match="It has 11 bytes as JSON; at most 10 are taken"):
        clean_json({"a": "é"}, size=10)


# Text as JSON allows it: any code unit, half a pair too.
texts = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(["\x00", "\ud800", "\ude00\ud83d"])
numbers = st.integers(-(10**25), 10**25) | st.floats(allow_nan=True, allow_infinity=True)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal, where PostgreSQL may give a large number back without its exponent."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) or isinstance(other, float):
        return float(one) == float(other)
    return bool(one == other)


class TestStorage(DatabaseTestCase):
    @settings(max_examples=150)
    @given(st.dictionaries(texts, values, max_size=3))
    def test_what_is_accepted_is_stored_and_read_back_equal(self, value: dict[str, Any]) -> None:
        with suppress(JSONError):
            self.store(clean_json(value))

    def store(self, value: dict[str, Any]) -> None:
        project = Project.objects.create(slug="stored", name="Stored")
        made = Prompt.objects.create(project=project, content="x", digest="d", metadata=value)
        made.refresh_from_db()
        assert same(made.metadata, value)
        assert same(parse_json(json.dumps(value)), value)
