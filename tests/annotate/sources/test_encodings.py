"""The encoding that a text is found to have."""

import io

import pytest

from annotate.sources.encodings import LINE, detect


@pytest.mark.parametrize("ahead", range(4))
@pytest.mark.parametrize("letter", ["ж", "語", "😀"])
def test_a_long_line_is_not_judged_by_half_a_character(letter: str, ahead: int) -> None:
    """Lines are read in parts, which may end within a character."""
    line = "x" * ahead + letter * (5 * LINE // 2)
    assert detect(io.BytesIO(f"{line}\n{line}\n".encode())) == "utf-8"


def test_a_long_line_in_another_encoding_is_still_found() -> None:
    line = "Фильм был очень хорош, и я посмотрел его дважды. " * 4000
    assert detect(io.BytesIO(line.encode("cp1251"))) == "cp1251"
