"""Columns mapped by hand: which of them is the prompt, the completions, the verdict and so on.

A mapping reads records as a format does. It is never used unless a person says so. Columns that are mapped to nothing
become metadata.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.sources.candidates import Answer, Candidate, Content, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats.verdicts import CALLED, find_place, read_verdict
from annotate.sources.formats.views import open_cells, open_columns
from annotate.sources.messages import as_answer, is_message, read_chat
from primitives.text import printable

# What a column may be, in the order in which a person is asked.
ROLES = {
    "prompt": gettext_lazy("Prompt"),
    "system": gettext_lazy("System message"),
    "completion_a": gettext_lazy("Completion A"),
    "completion_b": gettext_lazy("Completion B"),
    "chosen": gettext_lazy("Chosen completion"),
    "rejected": gettext_lazy("Rejected completion"),
    "verdict": gettext_lazy("Verdict"),
    "loser": gettext_lazy("Verdict that names the worse one"),
    "score_a": gettext_lazy("Rating of A"),
    "score_b": gettext_lazy("Rating of B"),
    "strength": gettext_lazy("Strength (1 to 3)"),
    "rationale": gettext_lazy("Rationale"),
    "annotator": gettext_lazy("Annotator"),
    "policy_a": gettext_lazy("Policy of A, or of the chosen one"),
    "policy_b": gettext_lazy("Policy of B, or of the rejected one"),
    "id": gettext_lazy("Id"),
}
# What a person may say a verdict's values mean, beside the words that are understood.
MEANINGS = {
    "a": gettext_lazy("Value that names A"),
    "b": gettext_lazy("Value that names B"),
    "tie": gettext_lazy("Value for: a tie"),
    "both_bad": gettext_lazy("Value for: both are bad"),
}
WORDS = {
    "a": "a 1 left first model_a model_1 completion_a completion_1 response_a response_1 answer_a output_1",
    "b": "b 2 right second model_b model_2 completion_b completion_2 response_b response_2 answer_b output_2",
    "tie": "tie tied equal draw same both",
    "both_bad": "both_bad bothbad tie_(bothbad) tie_(both_bad) neither none",
    "skip": "skip skipped",
}
UNDERSTOOD = {word: meaning for meaning, words in WORDS.items() for word in words.split()}
UNCLEAR_OF_LOSER = {"both", "neither", "none"}  # both are better, or worse
OTHER_SIDE = {"a": "b", "b": "a"}
SAYINGS = ("verdict", "score_a", "loser")  # what says which of two completions is better, as it is proposed
PAIRS = (("completion_a", "completion_b"), ("chosen", "rejected"), ("score_a", "score_b"))
COLUMNS = 400  # of a file, offered
PLACES = 8  # of a list of texts, offered
DEEPEST = 4  # columns inside each other that are offered, as “data.input.question”
INNER_NAME = 500  # characters of the name of a column inside another one, offered
NUMBER_AT_END = re.compile(r"(?<![0-9])[0-9]++$")  # looked for once in each run of digits, however long it is
PLACE_IN_LIST = re.compile(r"\.[0-9]+$")
SIDE_WORDS = (("a", "b"), ("left", "right"), ("first", "second"))
# Numbers at the ends of two columns that only count them.
COUNTED = (("0", "1"), ("1", "2"))
# A column whose numbers may be how much better one completion is: 1 is then none of them.
OF_STRENGTH = re.compile(r"strength|overall[\W_]*preference", re.IGNORECASE)
MISSING = object()


@dataclass(frozen=True)
class Mapping:
    """Columns by role, and what values of the verdict mean. Reads records as a format of `annotate.sources.formats`."""

    columns: Dictionary[str, str]
    meanings: Dictionary[str, str] = field(default_factory=dict)  # value of the verdict -> key of MEANINGS

    name = "mapping"

    @property
    def label(self) -> str:
        return _("Mapped by hand")

    @property
    def becomes(self) -> str:
        """Return what such records usually become."""
        if {"chosen", *SAYINGS} & self.columns.keys():
            return "judged"
        return "comparisons" if "completion_a" in self.columns else "prompts"

    def problem(self) -> str:
        """Return why records cannot be read by it; empty if they can."""
        roles = self.columns.keys()
        if "prompt" not in roles:
            return _("Say which column is the prompt.")
        for first, second in PAIRS:
            if len({first, second} & roles) == 1:
                missing = second if first in roles else first
                return _("Say which column is the other one: %(role)s.") % {"role": ROLES[missing]}
        if {"chosen", "completion_a"} <= roles:
            return _("Map either the chosen and rejected completions, or A and B.")
        if {*SAYINGS} & roles and "completion_a" not in roles:
            return _("A verdict or a rating needs completions A and B.")
        if len({*SAYINGS} & roles) > 1:
            return _("Map either a verdict, or one that names the worse completion, or ratings.")
        return ""

    def recognise(self, record: Dictionary[str, Any]) -> bool:
        return find_value(record, self.columns["prompt"]) is not MISSING

    def rows(self, record: Dictionary[str, Any]) -> Iterator[Candidate]:
        """Yield the record's one candidate. Raises RecordError."""
        record = open_columns(record, self.columns.values())
        answers = tuple(self._answers(record))
        yield Candidate(
            prompt=self._prompt(record),
            answers=answers,
            opinions=(self._opinion(record),) if self.becomes == "judged" else (),
            external_id="" if not answers else self._word(record, "id"),
            prompt_external_id=self._word(record, "id") if not answers else "",
            metadata=self._rest(record) if answers else None,
            prompt_metadata=None if answers else self._rest(record),
        )

    # --- Parts ---------------------------------------------------------------------------------------------------

    def _prompt(self, record: Dictionary[str, Any]) -> Content:
        prompt = self._content(record, "prompt")
        system = self._word(record, "system")
        if not system:
            return prompt
        asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        return [{"role": "system", "content": system}, *asked]

    def _answers(self, record: Dictionary[str, Any]) -> Iterator[Answer]:
        for (first, second), policies in zip(PAIRS[:2], (("policy_a", "policy_b"),) * 2, strict=True):
            if first in self.columns:
                yield Answer(self._content(record, first), self._word(record, policies[0]))
                yield Answer(self._content(record, second), self._word(record, policies[1]))

    def _opinion(self, record: Dictionary[str, Any]) -> Opinion:
        scores, verdict = self._scores(record)
        return Opinion(
            scores=scores,
            verdict=verdict,
            annotator=self._word(record, "annotator"),
            strength=self._strength(record) or self._strength_in_words(record),
            rationale=self._word(record, "rationale"),
        )

    def _scores(self, record: Dictionary[str, Any]) -> tuple[tuple[float | None, ...], str]:
        if "chosen" in self.columns:
            return (1.0, 0.0), ""
        if "score_a" in self.columns:
            return (self._number(record, "score_a"), self._number(record, "score_b")), ""
        role = "loser" if "loser" in self.columns else "verdict"
        value = self._word(record, role)
        if phrase := self._phrase(record):
            return phrase.scores, ""
        meaning = self.meanings.get(value) or self._name_side(record, value)
        if not meaning:
            raise RecordError(
                _("“%(value)s” in %(column)s is not a known verdict. Say what it means.")
                % {"value": printable(value, 40), "column": printable(self.columns[role], 40)}
            )
        if role == "loser":
            meaning = OTHER_SIDE.get(meaning, meaning)
        return {"a": ((1.0, 0.0), ""), "b": ((0.0, 1.0), ""), "tie": ((0.0, 0.0), "")}.get(
            meaning, ((), meaning)
        )

    def _phrase(self, record: Dictionary[str, Any]) -> Opinion | None:
        """Return what a verdict in words or signs says, as “A is much better” or “B>A”. Numbers are left out."""
        value = self._word(record, "verdict")
        if (
            "verdict" not in self.columns
            or value in self.meanings
            or re.search(r"\w\W+\w|[\[<>=]", value) is None
        ):
            return None
        said = read_verdict(value) if not re.search(r"[0-9]", value) else None
        if said is None or not said.scores or self._name_side(record, value):
            return None
        words = {*re.findall(r"[a-z]+", value.casefold())}
        turned = {self._turn(pair) for pair in SIDE_WORDS if words & {*pair}}
        if len(set(said.scores)) == 1 or turned in ({False}, set()):
            return said
        return said._replace(scores=said.scores[::-1]) if turned == {True} else None

    def _turn(self, words: tuple[str, str]) -> bool | None:
        """Return whether the names of the columns give two words, as “a” and “b”, the opposite sides.

        None where one name does, and the other says nothing of it: the words may then mean either side.
        """
        names = [self.columns[f"completion_{side}"].casefold() for side in OTHER_SIDE]
        named = [{*re.findall(r"[a-z]+", name), find_place(name)} & {*words} for name in names]
        first, second = words
        against = [named[0] == {second}, named[1] == {first}]
        return any(against) if any(against) == all(against) else None

    def _name_side(self, record: Dictionary[str, Any], value: str) -> str:
        """Return what a value means: a word, or the name of one completion's author. Nothing where both disagree.

        The name alone says nothing where the other completion has no author: the column may hold who was chosen.
        """
        meaning = self._understand(value)
        authors = {side: self._word(record, f"policy_{side}") for side in OTHER_SIDE}
        wrote = [side for side, author in authors.items() if value and author == value]
        if len(wrote) != 1:
            return meaning
        if meaning:
            return meaning if meaning == wrote[0] else ""
        return wrote[0] if all(authors.values()) else ""

    def _understand(self, value: str) -> str:
        """Return what a value means by itself: the name of a column, or a word.

        A number is that of a column, so “1” and “response 1” are response_1, even beside response_0. Of columns
        without numbers, and of places in a list, a bare one means nothing: a file may count from 0 or from 1. Nor
        does one that may be a strength. Where a person says what one number means, the others mean nothing by
        themselves.
        """
        plain = _plain(value)
        if "loser" in self.columns and plain in UNCLEAR_OF_LOSER:
            return ""
        columns = {_plain(self.columns[f"completion_{side}"]): side for side in "ab"}
        if plain in columns and len(columns) == len(PAIRS[0]):
            return columns[plain]
        number = NUMBER_AT_END.search(plain)
        if number is None:
            return self._understand_word(plain)
        is_strength = OF_STRENGTH.search(self.columns.get("verdict", "")) is not None
        if plain.isdecimal() and (is_strength or any(said.isdecimal() for said in self.meanings)):
            return ""
        if ends := _numbers_of(columns):
            return ends.get(number[0], "") if f"{plain[: number.start()]}1" in UNDERSTOOD else ""
        are_places = any(PLACE_IN_LIST.search(name) for name in columns)
        is_counted_here = not are_places and self._turn(SIDE_WORDS[0]) is False
        return UNDERSTOOD.get(plain, "") if is_counted_here and not plain.isdecimal() else ""

    def _understand_word(self, plain: str) -> str:
        """Return what a word means. “Response B” and “b” are the column of that letter, whichever side it is on."""
        meaning = UNDERSTOOD.get(plain, "")
        pair = next((pair for pair in SIDE_WORDS if plain.rpartition("_")[2] in pair), None)
        if pair is None or meaning not in OTHER_SIDE:
            return meaning
        turned = self._turn(pair)
        if turned is None:
            return ""
        return OTHER_SIDE[meaning] if turned else meaning

    def _strength(self, record: Dictionary[str, Any]) -> int | None:
        if not self._word(record, "strength"):
            return None
        number = self._number(record, "strength")
        if number not in (1, 2, 3):
            raise RecordError(
                _("%(column)s must be 1, 2 or 3.") % {"column": printable(self.columns["strength"], 40)}
            )
        return int(number)

    def _strength_in_words(self, record: Dictionary[str, Any]) -> int | None:
        phrase = self._phrase(record)
        return phrase.strength if phrase else None

    def _content(self, record: Dictionary[str, Any], role: str) -> Content:
        value = find_value(record, self.columns[role])
        if isinstance(value, list):
            return read_chat(value, self.columns[role])
        if is_message(value):
            return as_answer(read_chat([value], self.columns[role]), self.columns[role])
        if value is MISSING and role == "prompt":
            raise RecordError(_("The prompt is missing."))
        return _text(value, self.columns[role])

    def _word(self, record: Dictionary[str, Any], role: str) -> str:
        column = self.columns.get(role, "")
        return _text(find_value(record, column), column) if column else ""

    def _number(self, record: Dictionary[str, Any], role: str) -> float:
        text = self._word(record, role).replace(",", ".")
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise RecordError(
                _("“%(value)s” in %(column)s is not a number.")
                % {"value": printable(text, 40), "column": printable(self.columns[role], 40)}
            )
        return number

    def _rest(self, record: Dictionary[str, Any]) -> dict[str, Any] | None:
        """Return what is mapped to nothing: with a column of a column, all but that."""
        return _find_rest(record, "", set(self.columns.values())) or None


def _find_rest(values: Dictionary[str, Any], outer: str, used: Collection[str]) -> dict[str, Any]:
    rest: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{outer}{key}"
        if name in used:
            continue
        inner = [column for column in used if column.startswith(f"{name}.")]
        if inner and are_texts(value):
            if items := [item for place, item in enumerate(value) if f"{name}.{place}" not in inner]:
                rest[key] = items
        elif not inner or not isinstance(value, dict):
            rest[key] = value
        elif left := _find_rest(value, f"{name}.", inner):
            rest[key] = left
    return rest


def are_texts(value: object) -> TypeGuard[list[str]]:
    """Return whether a value is a list of a few texts, each of which can be mapped by its place, from 0 on."""
    return (
        isinstance(value, list) and 1 < len(value) <= PLACES and all(isinstance(item, str) for item in value)
    )


def columns_of(records: Iterable[Dictionary[str, Any]]) -> list[str]:
    """Return the columns of some records, and of objects and short lists of texts in them as `outer.inner`."""
    found: dict[str, None] = {}
    for name in _names(records):
        found[name] = None
        if len(found) == COLUMNS:
            break
    return list(found)


def _names(records: Iterable[Dictionary[str, Any]]) -> Iterator[str]:
    for record in records:
        for name, value in open_cells(record).items():
            yield name
            yield from _columns_inside(name, value)


def _columns_inside(name: str, value: object, depth: int = 1) -> Iterator[str]:
    if len(name) > INNER_NAME or depth == DEEPEST:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            if len(key) <= INNER_NAME:
                yield f"{name}.{key}"
                yield from _columns_inside(f"{name}.{key}", inner, depth + 1)
    elif are_texts(value):
        yield from (f"{name}.{place}" for place in range(len(value)))


def _numbers_of(columns: Dictionary[str, str]) -> dict[str, str]:
    """Return the sides of two columns by the numbers at their ends, where these count completions.

    Those of response_2 and response_3 do. Those of llama-2 and llama-3 are versions. The places of texts in a list are
    Whetstone's numbers and not the file's, which may count from 1.
    """
    if any(PLACE_IN_LIST.search(name) for name in columns):
        return {}
    found = {name: end for name in columns if (end := NUMBER_AT_END.search(name))}
    stems = {name[: end.start()].rpartition(".")[2].rstrip("_- ") for name, end in found.items()}
    ends = {end[0]: columns[name] for name, end in found.items()}
    if len(ends) < len(PAIRS[0]) or len(stems) > 1:
        return {}
    is_counted = tuple(sorted(ends)) in COUNTED or all(CALLED.fullmatch(stem) for stem in stems)
    return ends if is_counted else {}


def _plain(text: str) -> str:
    return re.sub(r"\s+", "_", text.casefold())


def find_value(record: Dictionary[str, Any], column: str) -> Any:
    if column in record:
        return record[column]
    outer, dot, inner = column.partition(".")
    value = record.get(outer)
    if dot and are_texts(value) and inner.isdecimal() and int(inner) < len(value):
        return value[int(inner)]
    return find_value(value, inner) if dot and isinstance(value, dict) else MISSING


def _text(value: object, column: str) -> str:
    if value is MISSING or value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if not isinstance(value, str):
        raise RecordError(_("%(column)s must be text.") % {"column": printable(column, 40)})
    return value
