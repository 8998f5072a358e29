"""Signs in the keys of a record that it says which completion is better, though not in a way that is understood."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import chain, islice
from typing import NamedTuple

from annotate.sources.formats import fields
from annotate.sources.formats.format import Record
from annotate.sources.messages import is_chat

# Keys that say which completion is better, whatever their values mean.
VERDICT = re.compile(
    r"winner|loser|(?<!c)losing|verdict|prefer|better|worse|worst|best|judg|vote|rank|(?<!gene)rating|choice$|chosen|reject"
    r"|(?<![a-z])which(?![a-z])|score[-_ ]?[ab0-9]$",
    re.IGNORECASE,
)
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
# Keys that say it, or say something near it: what they hold would be forgotten.
NEAR = re.compile(
    rf"{VERDICT.pattern}|(?<![a-z])wins?$|(?<![a-z])margin|reward|feedback|annotations?$|{FOREIGN}",
    re.IGNORECASE,
)
# Keys that say it where their value is a verdict or a number, and may be about anything else.
HINT = re.compile(
    r"(.*[ _-])?(overall|result|outcome|pick|picked|select|selected|selection|decision|favou?rite)"
    r"([ _-](answer|response|output|completion|model|option))?",
    re.IGNORECASE,
)
INSIDE = re.compile(rf"{NEAR.pattern}|(?<![a-z])class[-_ ]?name", re.IGNORECASE)  # in objects of a record
DEPTH, WIDTH = 4, 50  # of the objects that are looked into
KEY_LENGTH = 200  # characters of a key that are looked at
NAMES_SIDE = re.compile(r"(?<![a-z0-9])[ab12](?![a-z0-9])", re.IGNORECASE)
# Keys of a number that is about one completion, by its letter or its number.
OF_SIDE = re.compile(r"(?P<stem>.*[^a-z0-9]|.*?(?<=[a-z]))(?P<place>[ab]|[0-9])", re.IGNORECASE)
# What is counted or measured of a completion, and says nothing of how good it is.
MEASURES = re.compile(
    r"tok|len|char|word|time|latency|duration|second|date|created|cost|price|turn|seed|temp|top_?[pk]|id$|index|pos|order"
    r"|count|num|size|version|page|year|line|level",
    re.IGNORECASE,
)


class _Signs(NamedTuple):
    """The signs in a key: that it says which is better, may say it, names a side, and what it measures of a side."""

    is_near: bool
    is_inside: bool
    is_hint: bool
    names_side: bool
    of_side: tuple[str, str] | None  # the aspect and the place of a number


@lru_cache(maxsize=1024)
def _read_key(key: str) -> _Signs:
    match = OF_SIDE.fullmatch(key)
    is_rating = match is not None and not MEASURES.search(match["stem"])
    return _Signs(
        NEAR.search(key) is not None,
        INSIDE.search(key) is not None,
        HINT.fullmatch(key) is not None,
        NAMES_SIDE.search(key) is not None,
        (match["stem"].casefold(), match["place"].casefold()) if match and is_rating else None,
    )


def holds_verdict(record: Record, *used: str) -> bool:
    """Return whether another key of a record says which completion is better."""
    others = {
        key: value
        for key, value in record.items()
        if key not in used and value not in (None, "", [], {}) and isinstance(key, str)
    }
    return _rates_sides(others) or any(
        _read_key(key[:KEY_LENGTH]).is_near or hints_verdict(key, value) or _holds_inside(value)
        for key, value in others.items()
    )


def hints_verdict(key: str, value: object) -> bool:
    """Return whether a key such as “selected” or “overall” has a word or a number, which may be a verdict."""
    return _read_key(key[:KEY_LENGTH]).is_hint and (fields.is_number(value) or isinstance(value, str))


def _holds_inside(value: object, depth: int = DEPTH) -> bool:
    """Return whether an object, or one in a list, has a key that says it. Of a large one, the beginning is read."""
    if depth == 0 or is_chat(value):
        return False
    if isinstance(value, list):
        return any(_holds_inside(item, depth - 1) for item in islice(value, WIDTH))
    return isinstance(value, Mapping) and any(
        inner not in (None, "", [], {})
        and isinstance(key, str)
        and (_read_key(key[:KEY_LENGTH]).is_inside or _holds_inside(inner, depth - 1))
        for key, inner in islice(value.items(), WIDTH)
    )


def _rates_sides(record: Record) -> bool:
    """Return whether numbers are about single completions: quality_a and quality_b, prob_b, a_wins."""
    stems: dict[str, set[str]] = {}
    for key, value in record.items():
        signs = _read_key(key[:KEY_LENGTH])
        if isinstance(value, bool) and signs.names_side:
            return True
        if signs.of_side and fields.is_number(value):
            stem, place = signs.of_side
            stems.setdefault(stem, set()).add(place)
    return any(len(places) > 1 for places in stems.values()) or "b" in chain(*stems.values())


def stand_beside(keys: Iterable[str]) -> bool:
    """Return whether two keys in another script than Latin differ only in a letter or a number: 回答A and 回答B."""
    found = set()
    for key in keys:
        if key.isascii():
            continue
        stem = re.sub(r"[a-d]|[0-9]", "#", key[:KEY_LENGTH].casefold(), count=1)
        if "#" in stem:
            if stem in found:
                return True
            found.add(stem)
    return False
