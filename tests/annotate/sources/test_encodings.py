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


SENTENCES = {
    "euc-jp": "第{}回：春について短い詩を書いてください。",
    "cp932": "第{}回：春について短い詩を書いてください。プロンプトと回答の例です。",
    "gb18030": "请用中文解释第{}题的含义，并举例说明它在日常生活中的应用。",
    "big5": "請用中文解釋第{}題的含義，並舉例說明它在日常生活中的應用。",
    "cp949": "한국어로 {}번 문제의 의미를 설명하고 예를 들어 주세요.",
    "cp874": "กรุณาอธิบายความหมายของคำถามข้อที่ {} เป็นภาษาไทย ความคิดของคุณคืออะไรครับ",
    "cp1251": "Объясните, пожалуйста, смысл вопроса {} и приведите пример.",
}


@pytest.mark.parametrize("encoding", SENTENCES)
def test_a_short_file_is_found_to_be_what_it_is(encoding: str) -> None:
    text = "\n".join(SENTENCES[encoding].format(number) for number in range(25))
    assert detect(io.BytesIO(text.encode(encoding))) == encoding


@pytest.mark.parametrize("text", ["今天天文不太", "手中有五元", "今天中午有太太", "今日比分"])
def test_a_few_characters_are_not_kana_by_chance(text: str) -> None:
    content = f"prompt\n{text}\n".encode("big5")
    assert content.decode("euc-jp")
    assert detect(io.BytesIO(content)) == "big5"


def test_a_line_of_kana_is_enough() -> None:
    assert detect(io.BytesIO("prompt\n春について短い詩を書く\n".encode("euc-jp"))) == "euc-jp"
