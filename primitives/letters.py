"""The letters of languages, by which a text shows whether its bytes were read in the right encoding.

A weight is the logarithm of how likely a character beyond ASCII is. The tables are rough and need be no better: wrong
encodings give letters that no language has together.
"""

import math
import unicodedata
from collections import Counter
from functools import lru_cache

# The letters beyond ASCII of a language, the most frequent ones first.
LETTERS = {
    "German": "üäöß", "French": "éèàê’çôâùûîœëï", "Spanish": "óáíéñú¿¡ü", "Italian": "èàòùìé’",
    "Portuguese": "ãçáéíóêâõàôú", "Catalan": "àóèéíç’òúïü·", "Swedish": "äöåé", "Danish": "øåæé",
    "Dutch": "ëéïöüèó", "Icelandic": "áíðéúóþæöý", "Irish": "áéíóú", "English": "’“”–—‘é…", "Albanian": "ëç",
    "Afrikaans": "ëêéôïè", "Frisian": "ûêâôúéöë", "Luxembourgish": "éäëüö", "Welsh": "âôêîïŷŵ",
    "Breton": "ñùê", "Turkmen": "äýüşöçňž",
    "Finnish": "äö", "Estonian": "äõüöšž", "Czech": "íáéěšýčžřůúťďňó", "Slovak": "áíéýúčžšťľôňďäóĺŕ",
    "Polish": "ęąłóśżćńź", "Hungarian": "áéőöíóüúű", "Croatian": "čšžćđ", "Romanian": "ăîâţş",
    "Turkish": "ıüşçöğİâ", "Lithuanian": "ėųšįžąčūę", "Latvian": "āīēšūņķļģžč",
    "Vietnamese": "\u0301\u0300đ\u0323ôưâêơàáă\u0309\u0303óúíéèìùòýãõ",
    "Russian": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё", "Ukrainian": "оаиніврестклудмпязьбгйчхцїжшюєщф’ґ",
    "Bulgarian": "аиоентсрвлдкпмзяуъгбчжшщцюйхфь", "Serbian": "аиоенсртјувкдмплзгбчшцжхћњђфљџѓќѕ",
    "Belarusian": "аіныеорцсклтўудямпвзьбгжхчйэшюёф’", "Greek": "αοιτεσνηςρπκμλυωάίόέγδθχφβύώήξζψϊϋ΄",
    "Hebrew": "יוהלאתרבשםמנכחדעקןפטגצזסךףץ׳״\u05b7\u05b4\u05b8\u05bc\u05b0\u05b6",
    "Arabic": "اليمنترودبهسعكفةقجحطشخصذىءئزأظضإغثآؤ،؟ـًٌٍَُِّْ",
    "Persian": "اينردهمتوبسشکگزخلفقعجچحطصپغژآ،؟\u200cضكثءئؤذظ", "Urdu": "اکیےرنہتمسلوبپںدھجگعآئچٹحخشڑقصفڈزطضثذغژ،؟۔ي",
    "Thai": "านรกอเงมยลวดท่้ัิีต็สปะบคหแจพชขใไุืโู์ำผธศถภณษฐฉซฟญฮๆฯฬฏฎฆฤ",
}  # fmt: skip
# Characters that are frequent in languages of thousands.
FREQUENT = {
    "gb18030": "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里请"
    "用如何什么写解释文学成方多事行所动同面前经道现从小心开样问题意语言句天今太手五元午比分日",
    "big5": "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡請"
    "用如何什麼寫解釋文學成方多事行所動同面前經道現從小心開樣問題意語言句天今太手五元午比分日",
    "cp932": "日一人年大十二本中長出三時行見月分後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千"
    "水用文明方法説例語何空青春詩質問答回",
    "cp949": "이다는에의을가하고지로기사은들서한를어그인있요니세나도대자해리아시것주여수오정게라일만습용을과와",
}
FREQUENT |= {"euc-jp": FREQUENT["cp932"], "johab": FREQUENT["cp949"]}
# A standard of a script, and its last first byte of characters that are not rare.
LEVELS = {
    "gb18030": ("gb2312", 0xD7), "big5": ("big5", 0xC6), "cp932": ("shift_jis", 0x98),
    "euc-jp": ("shift_jis", 0x98), "cp949": ("euc_kr", 0xC8), "johab": ("euc_kr", 0xC8),
}  # fmt: skip
QUOTES = frozenset("’‘“”„«»–—…\xa0")
SIGNS = frozenset("·•°№€£§©®™\xad×²½")
VOWELS = frozenset("aeiouyăâêôơưAEIOUYĂÂÊÔƠƯ")  # that have a tone in Vietnamese
WIDE_SIGNS = frozenset("，。、：；？！「」『』（）《》“”・ー…々〜～　")
WESTERN = frozenset("àâäáãåæçèéêëìíîïñòóôöøùúûüß")
LINKS = frozenset("’‘'‐\xad·•׳״")  # that may be inside words
ALPHABETS = {"LATIN", "CYRILLIC", "GREEK", "HEBREW", "ARABIC", "THAI"}

QUOTE, SIGN, WESTERN_LETTER, OTHER, NOTHING = -3.0, -5.0, -7.0, -9.0, -13.0
CAPITAL = -2.5
ODD = -4.0
LIKELY, KANA, USUAL, RARE = -4.5, -5.5, -7.0, -11.0


def weigh(text: str, encoding: str) -> float:
    """Return how likely the characters of a text are in the language that fits them best."""
    counts = Counter(character for character in text if not character.isascii())
    if encoding in LEVELS:
        found = sum(count * _weight_of_many(character, encoding) for character, count in counts.items())
    else:
        found = max(
            sum(count * _weight_in(character, language) for character, count in counts.items())
            for language in LETTERS
        )
    return found + ODD * sum(map(_is_odd, text, text[1:], text[2:] + "\n"))


@lru_cache(64 * 1024)
def _weight_in(character: str, language: str) -> float:
    letters = LETTERS[language]
    at = letters.find(character)
    if at >= 0:
        width = 1 + len(letters) / 6
        return math.log(1 / (at + width) / sum(1 / (place + width) for place in range(len(letters))))
    lower = character.lower()
    if lower != character and len(lower) == 1:
        return CAPITAL + _weight_in(lower, language)
    if character in QUOTES:
        return QUOTE
    if character in SIGNS:
        return SIGN
    if character in WESTERN:
        return WESTERN_LETTER
    return NOTHING if _is_nothing(character) else OTHER


@lru_cache(64 * 1024)
def _weight_of_many(character: str, encoding: str) -> float:
    if character in FREQUENT[encoding] or character in WIDE_SIGNS:
        return LIKELY
    if _is_nothing(character):
        return NOTHING
    standard, last = LEVELS[encoding]
    if "\u3040" <= character <= "\u30ff":
        return KANA if standard == "shift_jis" else RARE
    if not ("\u4e00" <= character <= "\u9fff" or "\uac00" <= character <= "\ud7a3"):
        return OTHER
    is_script = (character >= "\uac00") == (standard == "euc_kr")  # Hangul in Korean, and Han elsewhere
    first = character.encode(standard, "ignore")[:1]
    return USUAL if is_script and first and first[0] <= last else RARE


def _is_nothing(character: str) -> bool:
    return (
        character != "\u200c" and unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs")
    ) or character == "\ufffd"


def _is_odd(before: str, here: str, after: str) -> bool:
    """Return whether a right encoding would hardly give a character this place.

    They are capitals inside words, signs between letters, and letters of two scripts side by side.
    """
    if here.isascii() and before.isascii():
        return False
    kind, kind_before = _kind(here), _kind(before)
    if kind == "COMBINING":
        return before not in VOWELS
    if here == "’" and kind_before not in ALPHABETS and _kind(after) == "GREEK":
        return True  # “Ά” of Windows-1253, read as ISO 8859-7
    if kind == "sign":
        return kind_before in ALPHABETS and _kind(after) in ALPHABETS and here not in LINKS
    return (before.islower() and here.isupper()) or (kind != kind_before and {kind, kind_before} <= ALPHABETS)


@lru_cache(64 * 1024)
def _kind(character: str) -> str:
    """Return the script of a letter, `sign` for a sign beyond ASCII, or something else."""
    if character.isalpha() or unicodedata.category(character)[0] == "M":
        return unicodedata.name(character, "").partition(" ")[0]
    return "" if character.isascii() else "sign"
