"""Text that a database and UTF-8 can hold."""

import pytest

from primitives.text import is_encodable, is_storable, make_storable, printable


def test_text_is_shortened_and_escaped_for_a_message() -> None:
    assert printable("a\x00\ud800\u202e\n") == "a\\u0000\\ud800\\u202e\\u000a"
    assert printable("x" * 100, 5) == "xxxxx…"


@pytest.mark.parametrize(
    ("text", "storable", "encodable", "made"),
    [
        ("Füße 🙂", True, True, "Füße 🙂"),
        ("a\x00b", False, True, "ab"),
        ("half \ud83d", False, False, "half ?"),
    ],
)
def test_a_nul_and_half_a_character_cannot_be_stored(text, storable, encodable, made) -> None:
    assert (is_storable(text), is_encodable(text), make_storable(text)) == (storable, encodable, made)
    assert is_storable(make_storable(text))
