"""The encoding that a text is found to have."""

import io

import pytest

from annotate.sources.encodings import LINE, detect, is_sure


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


# A text that says enough, and the encodings in which it may come.
LONG = {
    "French": (
        "Où est passé le garçon qui mangeait des crêpes à la fête ? Il préférait l’été, mais l’hiver où tout gèle l’a "
        "déçu. Voilà pourquoi sa sœur aînée a décidé d’aller à Besançon dès février, où ses élèves l’ont accueillie "
        "très chaleureusement. Ça m’étonne qu’elle n’ait pas goûté au pâté, au gâteau et à l’huître.",
        ("cp1252", "iso8859-15", "mac-roman", "cp850"),
    ),
    "German": (
        "Über den Flüssen fährt die schöne Müllerin täglich mit größter Mühe zurück. Süße Äpfel, grüne Bäume, weiße "
        "Häuser. Natürlich hört man Vögel, und die Öffnungszeiten müssen wir für nächsten März prüfen.",
        ("cp1252", "mac-roman", "cp850"),
    ),
    "Czech": (
        "Příliš žluťoučký kůň úpěl ďábelské ódy. Včera večer jsem viděl, že děti běžely přes most k řece, kde stařičký "
        "rybář čekal na štěstí. Šťastný člověk říká, že život je krásný, když svítí slunce a kvetou růže.",
        ("cp1250", "iso8859-2", "mac-latin2"),
    ),
    "Turkish": (
        "Gökyüzü neden mavidir, şimdi söyle. Dün akşam çocukların köprüden ırmağa doğru koştuğunu gördüm; yaşlı "
        "balıkçı orada şansını bekliyordu. Güneş ışıldadığında yaşam çok güzeldir, diyor öğretmen.",
        ("cp1254",),
    ),
    "Russian": (
        "Почему небо голубое? Вчера вечером я видел, как дети бежали через мост к реке, где старый рыбак ждал своего "
        "счастья. Объясните, пожалуйста, смысл этого вопроса и приведите яркий пример. Юля сказала: «Я подумаю».",
        ("cp1251", "koi8-r", "mac-cyrillic", "cp866", "iso8859-5"),
    ),
    "Arabic": (
        "لماذا السماء زرقاء؟ رأيت أمس الأطفال يركضون عبر الجسر نحو النهر، حيث كان الصياد العجوز ينتظر حظه السعيد.",
        ("cp1256", "iso8859-6"),
    ),
    "Japanese": ("空はなぜ青いのですか。昨日の夕方、子供たちが橋を渡って川へ走るのを見ました。", ("cp932", "euc-jp")),
    "simplified": ("请用中文解释这道题的含义，并举例说明它在日常生活中的应用。昨天孩子们跑过桥去河边。", ("gb18030",)),
    "traditional": ("請用中文解釋這道題的含義，並舉例說明它在日常生活中的應用。昨天孩子們跑過橋去河邊。", ("big5",)),
    "Korean": ("하늘은 왜 파란가요? 어제 저녁에 아이들이 다리를 건너 강으로 달려가는 것을 보았습니다.", ("cp949",)),
}  # fmt: skip
SHORT = {
    "太好了": ("big5", "gb18030", "cp932"), "东京": ("gb18030",), "안녕": ("cp949",), "東京": ("cp932", "euc-jp"),
    "Да": ("cp1251", "koi8-r", "mac-cyrillic"), "Напиши стих о весне.": ("cp1251", "koi8-r", "cp866"),
    "مرحبا": ("cp1256",), "Señor, ¿qué pasó?": ("cp1252", "mac-roman"), "Über den Flüssen": ("cp1252", "cp850"),
    "Zażółć gęślą jaźń": ("cp1250", "iso8859-2"), "şimdi söyle": ("cp1254",), "למה השמיים כחולים?": ("cp1255",),
}  # fmt: skip


@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize(
    ("text", "encoding"),
    [(text, encoding) for text, encodings in SHORT.items() for encoding in encodings]
    + [(text, encoding) for text, encodings in LONG.values() for encoding in encodings],
)
def test_wrong_letters_are_never_sure(text: str, encoding: str, rows: int) -> None:
    content = "\n".join(["prompt,topic", *(f"{text} {row},x" for row in range(rows))]).encode(
        encoding, "ignore"
    )
    found = detect(io.BytesIO(content))
    is_right = content.decode(found, "replace") == content.decode(encoding)
    assert is_right or not is_sure(io.BytesIO(content), found)


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r"])
def test_a_long_text_in_one_encoding_is_sure(encoding: str) -> None:
    content = io.BytesIO(LONG["Russian"][0].encode(encoding, "ignore"))
    assert detect(content) == encoding
    assert is_sure(content, encoding)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["Sky?", "天空為什麼是藍色的？", "Да"])
def test_utf_16_needs_no_mark(encoding: str, text: str) -> None:
    content = io.BytesIO(f"prompt,topic\n{text},x\n".encode(encoding))
    assert detect(content) == encoding
    assert is_sure(content, encoding)
