"""Verdicts in words: “A is better”, “tie (bothbad)”, “left”, and the keys of answers that stand side by side."""

import re
from collections.abc import Mapping, Sequence

from django.utils.translation import gettext as _

from annotate.sources.candidates import Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import Record
from annotate.sources.messages import is_chat
from primitives.text import printable

# Keys that say which completion is worse, or that may: a verdict under one of them means the opposite.
LOSER = re.compile(
    r"loser|(?<!c)losing|worse|worst|reject|dispreferr"
    r"|(?:less|least|non|not|un)[-_ ]?(?:prefer|favou?r|chosen|select|pick)"
    r"|(?<![a-z])(?:less|least|fewer|fewest|weaker|weakest|poorer|poorest|inferior)(?![a-z])|discard"
    r"|harmful|toxic|unsafe|incorrect|wrong|hallucinat|(?<![a-z])(?:most|more)[-_ ]+(?:[a-z]+[-_ ]+)?"
    r"(?:harm(?!less)|error|mistake|bias|danger|offens|flaw|false|problem|rude|bad)",
    re.IGNORECASE,
)
CONTEXTS = ("context", "source", "text", "dialogue", "document", "dialogue_context", "article", "passage")
STRONGEST = 3
LONGEST = 200  # characters of a verdict in words
# Words without blanks and marks. “Neither” alone is none: it may be a tie, or that both are bad.
TIES = {
    "tie",
    "equal",
    "same",
    "draw",
    "equallygood",
    "bothgood",
    "botharegood",
    "nopreference",
    "aboutthesame",
    "tied",
    "thesame",
    "equivalent",
    "bothequal",
    "bothareequal",
    "bothareequallygood",
}
TIE_OF_JUDGES = "[[c]]"  # as MT-Bench's judges end, beside [[A]] and [[B]]
BOTH_BAD = {"bothbad", "botharebad", "tiebothbad", "neitherisgood", "equallybad", "bothareequallybad"}
SKIPS = {"skip", "skipped", "unsure", "notsure", "cannottell"}
FIRST, SECOND = {"a", "1", "left", "first"}, {"b", "2", "right", "second"}
NOUN = (
    "answer|response|output|completion|option|model|text|item|choice|assistant|candidate|generation|summary"
    "|translation|message"
)
# A bare number is none: it may as well be a rating.
PLACE = rf"(?:the )?(?:(?:{NOUN})s?[ _-]*([ab012])|(a|b|left|right|first|second)(?: (?:{NOUN}))?)"
SIDE = re.compile(
    rf"{PLACE}(?: is)?(?: (?P<how>slightly|a bit|much|far|significantly|clearly))?(?: better| preferred| wins)?"
    rf"(?P<than> than {PLACE})?"
)
LIKING = re.compile(rf"(?:(?P<how>slightly|strongly) )?prefers? {PLACE}")
STRENGTHS = {"slightly": 1, "a bit": 1, "much": 3, "far": 3, "significantly": 3, "clearly": 3, "strongly": 3}
COMPARED = re.compile(rf"(?:(?:{NOUN})[ _-]*)?([ab012]) ?(>>|>|=|<|<<) ?(?:(?:{NOUN})[ _-]*)?([ab012])")
PLACE_ALONE = re.compile(PLACE)
WORDS = re.compile(r"[ab012]|left|right|first|second")
# Of keys that say which completion is worse, those whose values can only name it.
NAMED_LOSER = re.compile(
    rf"(loser|worse|worst)([ _-]({NOUN}))?|(losing|rejected|dispreferred)[ _-]({NOUN})", re.IGNORECASE
)

# Keys that end with the number or the letter of an answer, and those of them that hold no answers.
WRITERS, LETTERS = ("model", "policy", "generator", "model_id"), "abcdefgh"
WITH_NUMBER = re.compile(r"(.*?)[ _-]?([0-9]{1,2})")
WITH_LETTER = re.compile(rf"(.*[ _-]|{NOUN})([a-d])", re.IGNORECASE)
CALLED = re.compile(
    rf"(.*[ _-])?({NOUN}|completion|reply|story|caption|code|poem|essay|draft|version|variant|email|script)s?",
    re.IGNORECASE,
)
NO_ANSWERS = re.compile(
    r"model|policy|generator|system|annotator|score|rank|rating|id$|label|source|name", re.IGNORECASE
)


def read_verdict(value: object, answers: Sequence[str] = ()) -> Opinion | None:
    """Return the opinion that a word says about two answers, or None where it says none.

    `answers` is what else the two are called, as the keys that they are under.
    """
    if not isinstance(value, str) or len(value) > LONGEST:
        return None
    word = value.strip().strip("[]").lower()
    bare = re.sub(r"[^\w]|_", "", word)
    names = [answer.strip().lower() for answer in answers]
    if bare in TIES or (value.strip().lower() == TIE_OF_JUDGES and len(names) in (0, 2)):
        return Opinion((0.5,) * (len(names) or 2))
    if bare in BOTH_BAD or bare in SKIPS:
        return Opinion(verdict="both_bad" if bare in BOTH_BAD else "skip")
    if names.count(word) == 1:
        return fields.best(names.index(word), len(names))
    return _read_side(word, _places(names)) if not names or len(names) == 2 else None


def _places(names: Sequence[str]) -> dict[str, int]:
    """Return the words for the first and the second answer. A number is that of an answer where both have one."""
    words = dict.fromkeys(FIRST, 0) | dict.fromkeys(SECOND, 1)
    numbers = [match[2] for name in names if (match := WITH_NUMBER.fullmatch(name))]
    if len(numbers) < 2 or len(set(numbers)) < len(names):
        return words
    others = {word: place for word, place in words.items() if not word.isdecimal()}
    return others | {number: place for place, number in enumerate(numbers)}


def _read_side(word: str, places: Mapping[str, int]) -> Opinion | None:
    """Return the opinion of a phrase such as “response b is much better”, or of signs such as “a>b”."""
    if signs := COMPARED.fullmatch(word):
        return _read_signs(signs[1], signs[2], signs[3], places)
    match = SIDE.fullmatch(word) or LIKING.fullmatch(word)
    if match is None:
        return None
    how = match["how"]
    said = [places.get(place) for place in match.groups() if place and WORDS.fullmatch(place)]
    if None in said or len(said) > len(set(said)):
        return None  # a number that none has, or better than itself
    return Opinion(fields.chosen(said[0] or 0), strength=STRENGTHS[how] if how else None)


def _read_signs(one: str, sign: str, other: str, places: Mapping[str, int]) -> Opinion | None:
    first, second = places.get(one), places.get(other)
    if first is None or second is None or first == second:
        return None
    if sign == "=":
        return Opinion((0.5, 0.5))
    better = first if sign.startswith(">") else second
    return Opinion(fields.chosen(better), strength=STRONGEST if len(sign) > 1 else None)


def read_writer(value: object, policies: Sequence[object]) -> Opinion | None:
    """Return the opinion that the name of a completion's author says, or None if it is not that of just one."""
    if not isinstance(value, str) or list(policies).count(value) != 1:
        return None
    return fields.best(policies.index(value), len(policies))


def read_winner(value: object, answers: Sequence[str], policies: Sequence[object]) -> Opinion | None:
    """Return the opinion of a word or of an author's name; None where the value is both and the two disagree."""
    said, written = read_verdict(value, answers), read_writer(value, policies)
    return None if said and written and said.scores != written.scores else said or written


def read_loser(value: object, answers: Sequence[str], policies: Sequence[object]) -> Opinion | None:
    """Return the opinion of a value that names the worse of two answers, or None where it does more than name it.

    “A is better” or “A>B” under such a key may be meant in either way.
    """
    said = read_winner(value, answers, policies)
    if said is None or said.verdict or len(set(said.scores)) == 1:
        return said
    word = str(value).strip().lower()
    names = [*(answer.strip().lower() for answer in answers), *(str(name).lower() for name in policies)]
    is_name = word in names or PLACE_ALONE.fullmatch(word)
    return said._replace(scores=said.scores[::-1]) if is_name else None


def read_answer(question: str, value: object, answers: Sequence[str]) -> Opinion | None:
    """Return the verdict in the answer to a question, or None. Raises RecordError where it is about the worse one."""
    return check_question(question, read_verdict(value, answers))


def check_question(question: str, opinion: Opinion | None) -> Opinion | None:
    """Return what was answered to a question. Raises RecordError where it asks for the worse completion."""
    if opinion and LOSER.search(question):
        raise RecordError(explain_loser(question))
    return opinion


def explain_loser(column: str) -> str:
    """Return why a verdict under such a key is refused."""
    return _(
        "“%(column)s” names the worse completion, or may. It is not read by itself. Map the columns by hand."
    ) % {"column": printable(column, 40)}


def read_scale(strength: float, annotator: str = "", rationale: str = "") -> Opinion:
    """Return what a number from -3, the first is much better, to 3 says. 0 is a tie.

    One beyond 3 is of a longer scale: it has a side, and no strength.
    """
    scores = (0.5, 0.5) if strength == 0 else fields.chosen(0 if strength < 0 else 1)
    size = max(round(abs(strength)), 1)
    return Opinion(
        scores, "", annotator, size if strength and abs(strength) <= STRONGEST else None, rationale
    )


def find_answers(record: Record) -> list[str]:
    """Return the keys of texts side by side, such as answer1 and answer2: none where there are several such rows.

    Of several, the one that is called so is meant: response_a and response_b, and not feedback_a and feedback_b.
    """
    rows: dict[str, list[str]] = {}
    for key, value in record.items():
        stem, place = _split(key) if isinstance(key, str) and _is_text(value) else ("", "")
        if place and not NO_ANSWERS.search(stem):
            rows.setdefault(stem.lower(), []).append(key)
    several = [sorted(keys, key=lambda key: (len(key), key)) for keys in rows.values() if len(keys) > 1]
    if len(several) > 1:
        several = [keys for keys in several if are_called_answers(keys)]
    return several[0] if len(several) == 1 else []


def are_called_answers(keys: Sequence[str]) -> bool:
    """Return whether keys say that they are of completions: answer_1, and not tag_1."""
    return all(CALLED.fullmatch(_split(key)[0]) for key in keys)


def _is_text(value: object) -> bool:
    return isinstance(value, str) or is_chat(value)


def _is_one_word(value: object) -> bool:
    return isinstance(value, str) and len(value.split()) == 1


def _split(key: str) -> tuple[str, str]:
    """Return the stem and the place of a key such as “answer_2”; the place is empty if it names none."""
    match = WITH_NUMBER.fullmatch(key) or WITH_LETTER.fullmatch(key)
    return (match[1].rstrip(" _-"), match[2]) if match else (key, "")


def find_place(key: str) -> str:
    """Return the number or the letter at the end of a key such as “answer_2”, or an empty text."""
    return _split(key)[1]


def find_prompt(record: Record, answers: Sequence[str]) -> str:
    """Return the key of the one text that is the prompt, or an empty text."""
    known = (*fields.PROMPT_KEYS, *CONTEXTS)
    found = [key for key in known if _is_text(record.get(key)) and key not in answers]
    if len(found) > 1 and _is_one_word(record.get("source")):
        found = [key for key in found if key != "source"]  # the name of a data set
    return found[0] if found[:1] == ["prompt"] or len(found) == 1 else ""


def find_policies(record: Record, answers: Sequence[str]) -> list[str]:
    """Return for each answer the key of who wrote it, by its number or its letter; or an empty text."""
    found = []
    for number, key in enumerate(answers):
        places = dict.fromkeys((_split(key)[1], str(number + 1), LETTERS[number : number + 1]))
        names = [f"{stem}{gap}{place}" for place in places for stem in WRITERS for gap in ("_", "", "-", " ")]
        found.append(next((name for name in names if isinstance(record.get(name), str)), ""))
    return found
