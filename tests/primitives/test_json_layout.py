"""JSON laid out: easier to read, and not a character of its values otherwise."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primitives.json_layout import LIMIT, lay_out

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_objects_and_lists_are_indented() -> None:
    assert lay_out('{"city": "Basel","days":[1,2],"none":{},"more":[]}') == (
        '{\n  "city": "Basel",\n  "days": [\n    1,\n    2\n  ],\n  "none": {},\n  "more": []\n}'
    )


def test_one_after_the_other_each_begins_a_line() -> None:
    assert lay_out('{"a":1}\n{"b":2}') == '{\n  "a": 1\n}\n{\n  "b": 2\n}'


@pytest.mark.parametrize(
    "token", ["1.50", "-0", "1e400", '"\\u00e9\\/"', '"a: [b], {c}"', "123456789012345678901"]
)
def test_each_token_stays_as_it_was_written(token: str) -> None:
    assert lay_out(f'{{"a":{token},"a":{token}}}') == f'{{\n  "a": {token},\n  "a": {token}\n}}'


@pytest.mark.parametrize(
    "text",
    ["", "12", '"text"', "{'a': 1}", '{"a": 1} and more', "[" * 60, '{"a": 1', '{\n  "a": 1\n}', "null [1]"],
)
def test_other_texts_and_what_is_laid_out_stay(text: str) -> None:
    assert lay_out(text) is None


@pytest.mark.parametrize(
    "text", ['{"a":1}\u2028{"b":2}', '{"a":1}\u00a0{"b":2}', '{"a":1}\x1c', '\u3000{"a":1}']
)
def test_blanks_that_are_not_jsons_are_not_left_out(text: str) -> None:
    assert lay_out(text) is None


def test_what_would_grow_beyond_a_page_stays() -> None:
    deep = "[" * 32 + ",".join("1" * 2_000) + "]" * 32
    assert len(deep) < LIMIT
    assert lay_out(deep) is None
    assert lay_out("[" * 50_000 + "]" * 50_000) is None
    assert lay_out(json.dumps(["x" * LIMIT])) is None


@pytest.mark.parametrize(
    ("opening", "repeated", "end"), [('{"', '\\"', ""), ('{"', '\\"', "\\"), ("{", '"a', "")]
)
def test_time_grows_as_the_text_does(opening: str, repeated: str, end: str) -> None:
    def measure(count: int) -> float:
        text, seconds = opening + repeated * count + end, []
        for _ in range(5):
            begun = time.thread_time()
            assert lay_out(text) is None
            seconds.append(time.thread_time() - begun)
        return min(seconds)

    # It is 12 times as long. If the rest was read again at each quote, it would take 144 times as long.
    assert measure(24_000) < 30 * measure(2_000)


@given(st.lists(VALUES) | st.dictionaries(st.text(), VALUES), st.booleans())
def test_it_is_laid_out_as_pythons_json_does(value: Any, is_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii, separators=(",", ":"))
    indented = json.dumps(value, ensure_ascii=is_ascii, indent=2)
    assert (lay_out(text) or text) == indented
