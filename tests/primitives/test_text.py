"""Text that a database and UTF-8 can hold."""

import pytest

from primitives.text import is_encodable, is_storable, make_storable, printable, without_folders


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


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("base_model /srv/models/qwen cannot be loaded.", "base_model qwen cannot be loaded."),
        ("base_model /srv/my models/qwen lacks it.", "base_model qwen lacks it."),
        ("No such file: '/srv/my models/qwen/config.json'", "No such file: 'qwen/config.json'"),
        ("[Errno 2] No such file: '/srv/.cache/x.bin'", "[Errno 2] No such file: 'x.bin'"),
        ("~/models/qwen/ is a folder", "qwen is a folder"),
        (
            "Qwen/Qwen3 at https://host:80/v1/chat, 7/8 and/or 1",
            "Qwen/Qwen3 at https://host:80/v1/chat, 7/8 and/or 1",
        ),
    ],
)
def test_folders_give_way_to_names(said, shown) -> None:
    assert without_folders(said, "/srv/my models/qwen") == shown


def test_short_folders_are_not_found_within_words() -> None:
    said = "https://host/application/v1, meta/data, error:/data/runs/1/config.json and /app."
    assert without_folders(said, "/app/", "/data") == (
        "https://host/application/v1, meta/data, error:data/runs/1/config.json and app."
    )
