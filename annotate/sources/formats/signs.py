"""Signs in the keys of a record that it says which completion is better, though not in a way that is understood."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from annotate.sources.formats import fields
from annotate.sources.formats.format import Record
from annotate.sources.formats.verdicts import LONGEST, read_verdict, read_writer
from annotate.sources.formats.views import open_cells
from annotate.sources.messages import is_chat

# Keys that name the better completion, or the worse one, and those of any verdict, whatever their values mean.
NAMED = (
    r"winner|loser|(?<!c)losing|verdict|prefer|better|worse|worst|best(?![-_ ]?of)|choice$|chosen|reject"
    r"|score[-_ ]?[ab0-9]$"
)
RATES = r"judg|vote|rank|(?<!gene)rating"
VERDICT = re.compile(rf"{NAMED}|{RATES}|best", re.IGNORECASE)
# The same in other languages. A verdict under such a key is never read by itself.
FOREIGN = (
    "偏好|更好|[较較]好|更[优優佳]|[较較][优優]|最[好佳优優]|[胜勝]|[优優][选選]|[被选選]中|[选選][择擇]|[拒][绝絕]"
    "|[评評][分价價判估级級]|[打得]分|分[数數]|[标標][注註]|判断|投票|排[名序]|好坏|[赢贏]家"
    "|良い|好み|好ましい|[優]れ|評価|選択|判定|順位|採点|선호|선택|나은|우수|승자|평가|점수|순위|판정|투표"
    r"|besser|schlechter|\bbeste|bevorzug|präf|praef|gewinner|sieger|verlierer|wertung|urteil|auswahl|\brang\b"
    r"|meilleur|\bpire|préf|gagnant|perdant|vainqueur|jugement|évaluation|classement"
    r"|mejor|peor\b|ganador|perdedor|valoraci|evaluaci|puntuaci|elecci|melhor|vencedor|avalia|pontua|escolha"
    r"|migliore|vincitore|valutazion|punteggio|scelta|лучш|хуж|предпоч|победител|оценк|выбор|рейтинг"
)
# Keys near it, which say it where their value is a verdict or a number: “reward_model” does not.
NEAR = re.compile(
    r"(?<![a-z])which(?![a-z])|(?<![a-z])wins?$|(?<![a-z])margin|feedback|annotations?$"
    r"|(?<![a-z])(likert|slider|s[xb]s)(?![a-z])|rewards$|reward.*(diff|gap|delta|[-_ ]?[ab0-9]$)",
    re.IGNORECASE,
)
# Keys that say it where their value is a verdict or a number, and may be about anything else.
HINT = re.compile(
    r"(.*[ _-])?(overall|result|outcome|pick|picked|select|selected|selection|decision|favou?rite)"
    r"([ _-](answer|response|output|completion|model|option))?",
    re.IGNORECASE,
)
# The same in objects of a record, where only a key that names a completion says it with any value.
NEAR_INSIDE = re.compile(rf"{RATES}|{NEAR.pattern}|(?<![a-z])class[-_ ]?name|{FOREIGN}", re.IGNORECASE)
# Objects of a record that are about the prompt, of which each may have a rank or a rating.
OF_PROMPT = re.compile(
    r"(?<![a-z])(tag|topic|categor|keyword|document|doc|passage|context|source|reference|citation|retriev|search|entit"
    r"|chunk|usage|config|param|setting|kwargs)",
    re.IGNORECASE,
)
# A text that compares two sides: “Response B is better because …”, “I prefer A”.
COMPARES = re.compile(
    r"(?<![\w'])[AB12](?!\w)[^.]{0,40}\b(better|worse|prefer|wins?\b|best|by far)"
    r"|\b(prefer\w*|cho[os]e|pick\w*|select\w*)\b[^.]{0,40}(?<![\w'])[AB12](?![\w'])"
)
# Keys of what a record is, and where it is from: a letter there is no side. And keys of what was said of it.
ABOUT = re.compile(r"(.*[^a-z])?(id|group|split|subset|source|batch|fold|language)", re.IGNORECASE)
SAID = {"label", "gold", "human", "target"}
FLAGS = {"true", "false", "yes", "no"}
DEPTH, WIDTH = 4, 50  # of the objects that are looked into
KEY_LENGTH = 200  # characters of a key that are looked at
SEVERAL = 3  # words of a text that may be a completion
NAMES_SIDE = re.compile(r"(?<![a-z0-9])[ab12](?![a-z0-9])", re.IGNORECASE)
# Keys of a number that is about one completion, by its letter or its number.
OF_SIDE = re.compile(r"(?P<stem>.*[^a-z0-9]|.*?(?<=[a-z])|)(?P<place>[ab]|[0-9])", re.IGNORECASE)
# What is counted or measured of a completion, and says nothing of how good it is.
MEASURES = re.compile(
    r"tok|len(?![ct])|char|word|(?<!sen)time|latency|duration|second|date|created|cost|price|turn|seed|temp|top_?[pk]|id$"
    r"|index|pos(ition)?(?![a-z])|order|(?<!ac)count|num|size|version|page|year|line|level|param"
    r"|log[-_ ]?p|logit|nll|ppl|perplex|rouge|bleu|gram|(?<![a-z])(start|end|offset)(?![a-z])",
    re.IGNORECASE,
)
# Words for a completion in other languages, and all of them with those in scripts of the East.
FOREIGN_NOUN = (
    "(antwort|ausgabe|réponse|reponse|respuesta|resposta|risposta|salida|sortie|odpowied[zź]|ответ)"
)
FOREIGN_ANSWER = re.compile(
    rf"{FOREIGN_NOUN}|回答|答案|回[复覆應应]|答[复覆]|[输輸]出|响应|応答|返答|出力|답변|응답|출력|대답",
    re.IGNORECASE,
)
# Keys in other scripts: the letter or the number of a side, and what is part of a prompt.
PLACE = re.compile(r"(?<![a-z])[a-d](?![a-z])|[0-9]", re.IGNORECASE)
FOREIGN_CONTEXT = re.compile(
    "段落|文[档檔章書书]|[标標][签籤]|[关關][键鍵]|[参參]考|上下文|例|[资資]料|[类類][别別型]|[来來]源|[问問][题題]|質問|步[骤驟]"
    "|단락|문서|태그|키워드|질문|출처|абзац|тег|документ|вопрос|шаг|catégor|kategór|étape|thème|référence|schlüssel|überschrift"
)
WITHOUT_BLANKS = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")


class _Signs(NamedTuple):
    """The signs in a key: that it says which is better, may say it, names a side, and what it measures of a side."""

    is_verdict: bool
    is_near: bool
    is_foreign: bool
    is_named: bool
    is_near_inside: bool
    is_hint: bool
    is_of_prompt: bool
    names_side: bool
    of_side: tuple[str, str] | None  # the aspect and the place of a number
    stands_apart: bool  # the place, from the aspect


@lru_cache(maxsize=1024)
def _read_key(key: str) -> _Signs:
    match = OF_SIDE.fullmatch(key)
    is_rating = match is not None and not MEASURES.search(match["stem"])
    before = key[-2:-1]
    return _Signs(
        VERDICT.search(key) is not None,
        NEAR.search(key) is not None,
        re.search(FOREIGN, key, re.IGNORECASE) is not None,
        re.search(NAMED, key, re.IGNORECASE) is not None,
        NEAR_INSIDE.search(key) is not None,
        HINT.fullmatch(key) is not None,
        OF_PROMPT.search(key) is not None,
        NAMES_SIDE.search(key) is not None,
        (match["stem"].casefold(), match["place"].casefold()) if match and is_rating else None,
        not before.isalnum() or (before.islower() and key[-1:].isupper()),
    )


def holds_verdict(record: Record, *used: str) -> bool:
    """Return whether another key of a record says which completion is better."""
    others = {
        key: value
        for key, value in open_cells(record).items()
        if key not in used and value not in (None, "", [], {}) and isinstance(key, str)
    }
    texts = [value for value in record.values() if isinstance(value, str)]
    return _rates_sides(others) or any(
        _says_verdict(key, value, texts) or _holds_inside(key, value, texts) for key, value in others.items()
    )


def names_side(record: Record, answers: Sequence[str], *used: str, policies: Sequence[object] = ()) -> bool:
    """Return whether a value of another key names one of two answers, or says that none is better."""
    return any(
        (read_verdict(value, answers) or read_writer(value, policies)) is not None
        for key, value in record.items()
        if key not in used and isinstance(key, str) and not ABOUT.fullmatch(key[:KEY_LENGTH])
    )


def says_number(record: Record) -> bool:
    """Return whether a number is under “label” or the like, which may be that of the better completion."""
    return any(
        key in SAID and (isinstance(value, bool) or fields.is_number(value)) for key, value in record.items()
    )


def has_winner(record: Record, answers: Sequence[str], *used: str) -> bool:
    """Return whether another key of a verdict names one of two answers, or says that none is better."""
    verdicts = {
        key: value
        for key, value in record.items()
        if isinstance(key, str) and _read_key(key[:KEY_LENGTH]).is_verdict
    }
    return names_side(verdicts, answers, *used)


def _says_verdict(key: str, value: object, texts: list[str]) -> bool:
    """Return whether a key of a record says which completion is better, or may with this value."""
    signs = _read_key(key[:KEY_LENGTH])
    if signs.is_verdict or signs.is_foreign or hints_verdict(key, value):
        return True
    return signs.is_near and (_may_say(value, texts) or (isinstance(value, str) and texts.count(value) > 1))


def hints_verdict(key: str, value: object) -> bool:
    """Return whether a key such as “selected” or “overall” has a word or a number, which may be a verdict."""
    return _read_key(key[:KEY_LENGTH]).is_hint and (fields.is_number(value) or isinstance(value, str))


def says_foreign(key: str, value: object) -> bool:
    """Return whether a key in another language says which is better, with more than a word that is not a verdict."""
    if not _read_key(key[:KEY_LENGTH]).is_foreign:
        return False
    return not isinstance(value, str) or _may_say(value, []) or _is_of_words(value)


def _may_say(value: object, names: list[str], depth: int = DEPTH) -> bool:
    """Return whether a value may be a verdict: a number, a word for a side, or what compares them.

    In objects, also the name of an author.
    """
    if isinstance(value, str):
        text = value[:LONGEST]
        is_word = read_verdict(text) is not None or text.strip().lower() in FLAGS
        return is_word or fields.is_number(text) or COMPARES.search(text) is not None
    if isinstance(value, Mapping):
        return depth > 0 and any(
            inner in names or _may_say(inner, names, depth - 1)
            for key, inner in islice(value.items(), WIDTH)
            if not MEASURES.search(str(key)[:KEY_LENGTH])
        )
    if isinstance(value, list):
        return depth > 0 and any(_may_say(item, names, depth - 1) for item in islice(value, WIDTH))
    return isinstance(value, bool) or fields.is_number(value)


def _holds_inside(
    name: str, value: object, texts: list[str], depth: int = DEPTH, is_of_prompt: bool = False
) -> bool:
    """Return whether an object, or one in a list, has a key that says it. Of a large one, the beginning is read."""
    if depth == 0 or is_chat(value):
        return False
    is_of_prompt = is_of_prompt or _read_key(name[:KEY_LENGTH]).is_of_prompt
    if isinstance(value, list):
        return any(_holds_inside("", item, texts, depth - 1, is_of_prompt) for item in islice(value, WIDTH))
    if not isinstance(value, Mapping):
        return False
    return _rates_letters(value) or any(
        inner not in (None, "", [], {})
        and isinstance(key, str)
        and (
            _says_inside(key, inner, texts, is_of_prompt)
            or _holds_inside(key, inner, texts, depth - 1, is_of_prompt)
        )
        for key, inner in islice(value.items(), WIDTH)
    )


def _says_inside(key: str, value: object, texts: list[str], is_of_prompt: bool) -> bool:
    """Return whether a key of an inner object says it: one that names a completion, or one near it with a verdict."""
    signs = _read_key(key[:KEY_LENGTH])
    says_near = signs.is_near_inside and not is_of_prompt
    if not signs.is_named and not says_near:
        return False
    if signs.is_named and not isinstance(value, Mapping):
        return True
    return value in texts or _may_say(value, texts) or (signs.is_named and _holds_words(value))


def _holds_words(value: object) -> bool:
    """Return whether an object has a text that may be a completion."""
    return isinstance(value, Mapping) and any(
        isinstance(inner, str) and _is_of_words(inner) for inner in islice(value.values(), WIDTH)
    )


def _rates_sides(record: Record) -> bool:
    """Return whether numbers are about single completions: quality_a and quality_b, prob_b, a_wins.

    A letter is that of a completion where it stands apart, or beside its twin: not the one of “job”.
    """
    stems: dict[str, set[str]] = {}
    for key, value in record.items():
        signs = _read_key(key[:KEY_LENGTH])
        if signs.names_side and (isinstance(value, bool) or _is_flag(value)):
            return True
        if signs.of_side and fields.is_number(value):
            stem, place = signs.of_side
            if place == "b" and signs.stands_apart:
                return True
            stems.setdefault(stem, set()).add(place)
    return any(len(places) > 1 for places in stems.values())


def _is_flag(value: object) -> bool:
    """Return whether a cell of a table is true or false."""
    return isinstance(value, str) and value.strip().lower() in ("true", "false")


def _rates_letters(value: Mapping[Any, Any]) -> bool:
    """Return whether an object has a number for each letter: {"a": 3, "b": 4}."""
    return any(fields.is_number(value.get(a)) and fields.is_number(value.get(b)) for a, b in ("ab", "AB"))


def stand_beside(record: Record) -> bool:
    """Return whether two texts are under keys that differ in a letter or a number: 回答A and 回答B.

    Keys in English are not looked at, nor single words under keys that do not speak of answers.
    """
    found = set()
    for key, value in record.items():
        if not isinstance(key, str) or not isinstance(value, str) or key.isascii():
            continue
        name = key[:KEY_LENGTH].casefold()
        stem = PLACE.sub("#", name, count=1)
        is_answer = FOREIGN_ANSWER.search(name) is not None
        if stem == name or not (is_answer or (_is_of_words(value) and not FOREIGN_CONTEXT.search(name))):
            continue
        if stem in found:
            return True
        found.add(stem)
    return False


def _is_of_words(text: str) -> bool:
    """Return whether a text has several words. In scripts without blanks, three characters are about one."""
    start = text[:LONGEST]
    return len(start.split()) + len(WITHOUT_BLANKS.findall(start)) // 3 >= SEVERAL
