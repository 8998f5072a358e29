"""The context of a model is read from the header of its GGUF file, whatever else the file holds."""

import struct
from pathlib import Path

import pytest

from primitives import gguf
from primitives.gguf import read_context


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def written(keys: list[bytes]) -> bytes:
    """Return a file of these keys, without tensors."""
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys)


ARCHITECTURE = key("general.architecture", 8, text("llama"))
CONTEXT = key("llama.context_length", 4, struct.pack("<I", 8192))
VOCABULARY = key("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + text("a") + text("ünd"))
SCORES = key("tokenizer.ggml.scores", 9, struct.pack("<IQ2f", 6, 2, 0.5, 1.0))
ENDLESS = key("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2**60))
HUGE = text("x")[:8].replace(b"\x01", b"\xff", 1) * 2


@pytest.mark.parametrize(
    ("keys", "context"),
    [
        ([ARCHITECTURE, CONTEXT], 8192),
        ([VOCABULARY, SCORES, ARCHITECTURE, CONTEXT], 8192),
        ([CONTEXT, ARCHITECTURE], 8192),
        ([ARCHITECTURE], None),
        ([ARCHITECTURE, key("llama.context_length", 8, text("many"))], None),
        ([ARCHITECTURE, key("llama.context_length", 7, b"\x01")], None),
        ([ENDLESS, ARCHITECTURE, CONTEXT], None),
        ([HUGE], None),
        ([key("odd", 99, b""), ARCHITECTURE, CONTEXT], None),
    ],
)
def test_a_context_is_found_or_none_is_named(tmp_path: Path, keys: list[bytes], context: int | None) -> None:
    path = tmp_path / "model.gguf"
    whole = written(keys)
    path.write_bytes(whole)
    assert read_context(path) == context
    path.write_bytes(whole[:-3])  # torn
    assert read_context(path) is None


def test_what_is_no_gguf_file_names_no_context(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("{}")
    assert read_context(tmp_path / "model.gguf") is None
    assert read_context(tmp_path / "none.gguf") is None


def test_a_header_is_read_within_its_bounds_of_bytes_and_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each text and each list alone would be within them."""
    texts = key("general.description", 8, text("x" * 400))
    for name, keys in (("MOST_BYTES", [texts, texts]), ("MOST_ITEMS", [VOCABULARY, SCORES])):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(written([*keys, ARCHITECTURE, CONTEXT]))
        with monkeypatch.context() as bounds:
            bounds.setattr(gguf, name, {"MOST_BYTES": 600, "MOST_ITEMS": 3}[name])
            assert read_context(path) is None
        path.write_bytes(written([keys[0], ARCHITECTURE, CONTEXT]))
        assert read_context(path) == 8192


def test_a_file_that_stays_as_it_was_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(written([ARCHITECTURE, CONTEXT]))
    assert read_context(path) == 8192
    monkeypatch.setattr(gguf, "MOST_BYTES", 0)
    assert read_context(path) == 8192
    path.write_bytes(written([ARCHITECTURE, CONTEXT, SCORES]))
    assert read_context(path) is None
