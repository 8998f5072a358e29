"""The encoding that a text is found to have."""

import io
import re

import pytest

from annotate.sources.encodings import LINE, detect, find_doubt


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
    assert is_right or find_doubt(io.BytesIO(content), found)


# Sentences of everyday questions, in the encodings of their languages.
EVERYDAY = {
    "French": (
        "cp1252",
        "Où achètes-tu ton café préféré ? Le métro était complètement bondé hier à midi. Ma sœur a été "
        "reçue à l’école d’ingénieurs. Ce château fut bâti près de la forêt. Ça me plaît déjà. Il gèle "
        "dès décembre.",
    ),
    "Spanish": (
        "cp1252",
        "¿Cuál es tu canción favorita? Ayer llovió muchísimo en Málaga. El año próximo viajaré a Perú. "
        "Mi compañero todavía está enfermo. ¡Qué rápido pasó el autobús! La niña también comió piña. "
        "Mañana será otro día.",
    ),
    "Italian": (
        "cp1252",
        "Perché è così tardi? La città è più bella di sera. Lunedì andrò all’università. Può darsi che "
        "verrà già martedì. La qualità del caffè è buona. Chissà se tornerà; però la verità è un’altra.",
    ),
    "Portuguese": (
        "cp1252",
        "Não há pão na cozinha. Amanhã vou à praia com a minha avó. As lições são difíceis. Você já viu "
        "o avião? O coração é um órgão. Três irmãs vêm de ônibus. A canção é ótima.",
    ),
    "Dutch": (
        "cp1252",
        "De financiële crisis was geëindigd. Het idee is geïnspireerd op twee coöperaties. België en "
        "Italië zijn geüniformeerd. Eén ruïne, drie reünies, vier zeeën.",
    ),
    "Swedish": (
        "cp1252",
        "Får jag låna din båt i kväll? Öl är gott på sommaren. Barnen åkte tåg till Malmö. Nästa år är "
        "då här.",
    ),
    "Danish": (
        "cp1252",
        "Må jeg låne din båd? Børnene spiste æbler på øen. Året går så hurtigt. Hvornår kører næste tog?",
    ),
    "Finnish": (
        "cp1252",
        "Tämä päivä on yhtä pitkä kuin eilinen. Äiti lähti töihin. Pöydällä oli leipää. Minä en tiedä "
        "tästä mitään.",
    ),
    "Czech": (
        "cp1250",
        "Zítra pojedeme vlakem do Brna, protože tam bude výstava. Čtyři děti si hrály na hřišti. Můžeš "
        "přijít později? Její bratr říká, že těžko najde správný směr.",
    ),
    "Polish": (
        "cp1250",
        "Jutro pojedziemy pociągiem do Krakowa, ponieważ będzie tam wystawa. Czworo dzieci bawiło się "
        "przed domem. Możesz przyjść później? Jej mąż mówi, że źle się czuje. Żółte liście spadają.",
    ),
    "Hungarian": (
        "cp1250",
        "Holnap vonattal megyünk Győrbe, mert ott lesz a kiállítás. Négy gyerek játszott a mezőn. "
        "Később is jöhetsz? A nővérem szerint nehéz jó időt kívánni. Tűző nap sütött a hűs erdőre, ősz "
        "után.",
    ),
    "Croatian": (
        "cp1250",
        "Sutra idemo vlakom u Zagreb jer će tamo biti izložba. Četvero djece igralo se pred kućom. "
        "Možeš li doći kasnije? Njezin muž kaže da je teško naći pravu riječ. Đak uči već šest sati.",
    ),
    "Romanian": (
        "cp1250",
        "Mâine mergem cu trenul, pentru că acolo e o expoziţie. Patru copii se jucau în faţa casei şi "
        "râdeau. Poţi să vii mai târziu? Fraţii lor ştiu că aşa învăţau.",
    ),
    "Turkish": (
        "cp1254",
        "Yarın trenle Ankara’ya gideceğiz, çünkü orada sergi açılıyor. Dört çocuk evin önünde "
        "oynuyordu. Daha sonra gelebilir misin? Kız kardeşim doğru sözü bulmanın güç olduğunu söylüyor.",
    ),
    "Estonian": (
        "cp1257",
        "Homme sõidame rongiga Võrru, sest seal on näitus. Neli last mängisid õues. Kas võid hiljem "
        "tulla? Mu õde ütleb, et õiget sõna on raske leida. Öösel oli külm.",
    ),
    "Latvian": (
        "cp1257",
        "Rīt brauksim ar vilcienu uz Rīgu, jo tur būs izstāde. Četri bērni spēlējās pie mājas. Vai vari "
        "atnākt vēlāk? Viņas vīrs saka, ka grūti atrast īsto vārdu. Šķiet, ļoti žēl.",
    ),
    "Greek": (
        "cp1253",
        "Αύριο θα πάμε με το τρένο στη Θεσσαλονίκη. Τέσσερα παιδιά έπαιζαν μπροστά στο σπίτι.",
    ),
    "Hebrew": (
        "cp1255",
        "מחר ניסע ברכבת לחיפה, כי תהיה שם תערוכה. ארבעה ילדים שיחקו לפני הבית.",
    ),
    "Ukrainian": (
        "cp1251",
        "Завтра поїдемо потягом до Львова, бо там буде виставка. Четверо дітей гралися біля будинку.",
    ),
    "Thai": (
        "cp874",
        "พรุ่งนี้เราจะนั่งรถไฟไปเชียงใหม่ เพราะที่นั่นมีนิทรรศการ เด็กสี่คนเล่นอยู่หน้าบ้าน",
    ),
    "Japanese": (
        "cp932",
        "明日は電車で京都へ行きます。展覧会があるからです。四人の子供が、家の前で遊んでいました。",
    ),
    "simplified": (
        "gb18030",
        "明天我们坐火车去西安，因为那里有展览。四个孩子在房子前面玩耍。你可以晚一点来吗？",
    ),
    "traditional": (
        "big5",
        "明天我們坐火車去臺南，因為那裡有展覽。四個孩子在房子前面玩耍。你可以晚一點來嗎？",
    ),
    "Korean": (
        "cp949",
        "내일 우리는 기차를 타고 부산에 갑니다. 그곳에서 전시회가 열리기 때문입니다. 아이 네 명이 놀고 "
        "있었습니다.",
    ),
}


@pytest.mark.parametrize("language", EVERYDAY)
def test_a_page_of_any_language_is_found_and_sure(language: str) -> None:
    encoding, text = EVERYDAY[language]
    content = "\r\n".join(["prompt,topic", *(f"{row} {text},x" for row in range(30))]).encode(encoding)
    found = detect(io.BytesIO(content))
    assert content.decode(found) == content.decode(encoding)
    assert not find_doubt(io.BytesIO(content), found)


@pytest.mark.parametrize("language", EVERYDAY)
def test_a_sentence_with_wrong_letters_is_never_sure(language: str) -> None:
    encoding, text = EVERYDAY[language]
    for sentence in re.split(r"(?<=[.?!。？]) *", text):
        content = f"prompt,topic\n{sentence},x\n".encode(encoding)
        found = detect(io.BytesIO(content))
        is_right = content.decode(found, "replace") == content.decode(encoding)
        assert is_right or find_doubt(io.BytesIO(content), found), sentence


@pytest.mark.parametrize(("language", "encoding"), [("Greek", "iso8859-7"), ("Korean", "johab")])
def test_a_rare_encoding_is_not_taken_for_a_common_one(language: str, encoding: str) -> None:
    """Its letters are nearly the same, or make sense, too."""
    content = f"Άρτα Άνδρος {EVERYDAY[language][1]}".encode(encoding, "ignore")
    found = detect(io.BytesIO(content))
    assert content.decode(found, "replace") != content.decode(encoding)
    assert find_doubt(io.BytesIO(content), found)


@pytest.mark.parametrize("encoding", ["cp932", "gb18030", "big5", "cp949"])
def test_a_long_file_is_not_judged_by_half_a_character(encoding: str) -> None:
    text = next(text for name, text in EVERYDAY.values() if name == encoding)
    for ahead in range(4):
        content = ("x" * ahead + f"{text},x\n" * 3000).encode(encoding)
        assert detect(io.BytesIO(content)) == encoding


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("language", ["Japanese", "simplified", "Korean", "Ukrainian", "Greek"])
@pytest.mark.parametrize("rows", [3, 30, 300])
def test_utf_16_without_a_mark_is_found_where_few_bytes_are_nul(
    language: str, encoding: str, rows: int
) -> None:
    content = ("prompt,topic\n" + f"{EVERYDAY[language][1]},x\n" * rows).encode(encoding)
    assert detect(io.BytesIO(content)) == encoding


@pytest.mark.parametrize("encoding", ["cp1252", "cp1251", "gb18030"])
def test_a_stray_nul_makes_no_utf_16(encoding: str) -> None:
    text = next(text for name, text in EVERYDAY.values() if name == encoding)
    content = f"prompt,topic\n{text},\0x\n{text},x\n".encode(encoding)
    assert detect(io.BytesIO(content)) == encoding


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r"])
def test_a_long_text_in_one_encoding_is_sure(encoding: str) -> None:
    content = io.BytesIO(LONG["Russian"][0].encode(encoding, "ignore"))
    assert detect(content) == encoding
    assert not find_doubt(content, encoding)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["Sky?", "天空為什麼是藍色的？", "Да"])
def test_utf_16_needs_no_mark(encoding: str, text: str) -> None:
    content = io.BytesIO(f"prompt,topic\n{text},x\n".encode(encoding))
    assert detect(content) == encoding
    assert not find_doubt(content, encoding)
