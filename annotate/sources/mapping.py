"""Columns mapped by hand: which of them is the prompt, the completions, the verdict and so on.

A mapping reads records as a format does. It is proposed from the names of columns, and never used unless a person says
so. Columns that are mapped to nothing become metadata.
"""

import math
import re
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.sources.candidates import Answer, Candidate, Content, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats.verdicts import CALLED
from annotate.sources.messages import read_chat
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
# Of a file with one message of a conversation a row, such as Open-Assistant's.
OF_FLAT_MESSAGES = {"message_id", "parent_id", "role", "text"}
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
NAMES = {  # of columns, without signs and in small letters
    "prompt": "prompt instruction question query input context messages conversation text source post task",
    "system": "system systemprompt systemmessage",
    "completion_a": "completiona responsea answera outputa texta completion1 response1 answer1 output1 modela left",
    "completion_b": "completionb responseb answerb outputb textb completion2 response2 answer2 output2 modelb right",
    "chosen": "chosen preferred chosenresponse preferredoutput better win winner accepted responsechosen",
    "rejected": "rejected rejectedresponse nonpreferredoutput dispreferred worse lose loser responserejected",
    "verdict": "verdict preference preferred label winner choice vote better humanlabel judgment",
    "loser": "loser losingmodel losermodel worse worsemodel worst worstmodel rejectedmodel",
    "score_a": "scorea ratinga score1 rating1 scorechosen",
    "score_b": "scoreb ratingb score2 rating2 scorerejected",
    "strength": "strength margin",
    "rationale": "rationale reason explanation comment comments justification",
    "annotator": "annotator annotatorid worker workerid rater raterid user judge labeler evaluator",
    "policy_a": "policya modelaname model1 sourcea generatora",
    "policy_b": "policyb modelbname model2 sourceb generatorb",
    "id": "id uid uuid exampleid itemid index key promptid rowid",
}
# Policies only beside chosen and rejected completions. Beside A and B such columns are verdicts.
POLICIES_OF_CHOSEN = {
    "policy_a": "chosenmodel",
    "policy_b": "rejectedmodel",
}
SAYINGS = ("verdict", "score_a", "loser")  # what says which of two completions is better, as it is proposed
PAIRS = (("completion_a", "completion_b"), ("chosen", "rejected"), ("score_a", "score_b"))
COLUMNS = 400  # of a file, offered
NUMBER_AT_END = re.compile(r"(?<![0-9])[0-9]++$")  # looked for once in each run of digits, however long it is
# Numbers at the ends of two columns that only count them.
COUNTED = (("0", "1"), ("1", "2"))
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
        return _find(record, self.columns["prompt"]) is not MISSING

    def rows(self, record: Dictionary[str, Any]) -> Iterator[Candidate]:
        """Yield the record's one candidate. Raises RecordError."""
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
            strength=self._strength(record),
            rationale=self._word(record, "rationale"),
        )

    def _scores(self, record: Dictionary[str, Any]) -> tuple[tuple[float, ...], str]:
        if "chosen" in self.columns:
            return (1.0, 0.0), ""
        if "score_a" in self.columns:
            return (self._number(record, "score_a"), self._number(record, "score_b")), ""
        role = "loser" if "loser" in self.columns else "verdict"
        value = self._word(record, role)
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

        A number is that of a column, so “1” and “response 1” are response_1, also beside response_0. Of columns
        without numbers a bare one means nothing: a file may count from 0 or from 1. Where a person says what one number
        means, the others mean nothing by themselves.
        """
        plain = _plain(value)
        if "loser" in self.columns and plain in UNCLEAR_OF_LOSER:
            return ""
        columns = {_plain(self.columns[f"completion_{side}"]): side for side in "ab"}
        if plain in columns and len(columns) == len(PAIRS[0]):
            return columns[plain]
        number = NUMBER_AT_END.search(plain)
        if number is None:
            return UNDERSTOOD.get(plain, "")
        if plain.isdecimal() and any(said.isdecimal() for said in self.meanings):
            return ""
        if ends := _numbers_of(columns):
            return ends.get(number[0], "") if f"{plain[: number.start()]}1" in UNDERSTOOD else ""
        return "" if plain.isdecimal() else UNDERSTOOD.get(plain, "")

    def _strength(self, record: Dictionary[str, Any]) -> int | None:
        if not self._word(record, "strength"):
            return None
        number = self._number(record, "strength")
        if number not in (1, 2, 3):
            raise RecordError(
                _("%(column)s must be 1, 2 or 3.") % {"column": printable(self.columns["strength"], 40)}
            )
        return int(number)

    def _content(self, record: Dictionary[str, Any], role: str) -> Content:
        value = _find(record, self.columns[role])
        if isinstance(value, list):
            return read_chat(value, self.columns[role])
        if value is MISSING and role == "prompt":
            raise RecordError(_("The prompt is missing."))
        return _text(value, self.columns[role])

    def _word(self, record: Dictionary[str, Any], role: str) -> str:
        column = self.columns.get(role, "")
        return _text(_find(record, column), column) if column else ""

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
        used = set(self.columns.values())
        rest = {}
        for name, value in record.items():
            if name in used:
                continue
            inner = {key for key in used if key.startswith(f"{name}.")}
            if not inner or not isinstance(value, dict):
                rest[name] = value
            elif left := {key: one for key, one in value.items() if f"{name}.{key}" not in inner}:
                rest[name] = left
        return rest or None


def advise(columns: Iterable[str]) -> str:
    """Return what to do with records each of which is only a part of what they say, or an empty text."""
    known = set(columns)
    if not known >= OF_FLAT_MESSAGES:
        return ""
    missing = "" if "message_tree_id" in known else _("The column message_tree_id is missing.") + " "
    return missing + _(
        "Each row is one message of a conversation, which names the one before it (parent_id). Such rows are joined "
        "where they are JSON Lines, JSON or Parquet, message_tree_id names their tree, and the rows of a tree follow "
        "each other. Otherwise import the file of whole trees. Open-Assistant has one beside each file of messages "
        "(“trees” in its name)."
    )


def propose(columns: Iterable[str]) -> dict[str, str]:
    """Return roles with the columns that their names suggest. Empty for rows that `advise` warns of."""
    known = list(columns)
    if advise(known):
        return {}
    plain = {re.sub(r"[^a-z0-9]", "", name.rpartition(".")[2].casefold()): name for name in reversed(known)}
    found: dict[str, str] = {}
    for role, names in NAMES.items():
        other = next(
            (second if role == first else first for first, second in PAIRS if role in (first, second)), role
        )
        if other != role and not any(name in plain for name in NAMES[other].split()):
            continue  # of two that go together, both are there or none is
        if "chosen" in found and role in (*SAYINGS, "score_b"):
            continue  # the columns say already which one is better
        of_chosen = POLICIES_OF_CHOSEN.get(role, "") if "chosen" in found else ""
        for name in f"{names} {of_chosen}".split():
            if name in plain and plain[name] not in found.values():
                found[role] = plain[name]
                break
    if "chosen" in found:
        for role in ("completion_a", "completion_b"):
            found.pop(role, None)
    sayings = [role for role in SAYINGS if role in found and "completion_a" in found]
    for role in {*SAYINGS, "score_b"} - {"score_b" if sayings[:1] == ["score_a"] else "", *sayings[:1]}:
        found.pop(role, None)
    return found


def columns_of(records: Iterable[Dictionary[str, Any]]) -> list[str]:
    """Return the columns of some records, and the keys of objects in them as `outer.inner`."""
    found: dict[str, None] = {}
    for record in records:
        for name, value in record.items():
            found[name] = None
            if isinstance(value, dict):
                found |= {f"{name}.{key}": None for key in value}
    return list(found)[:COLUMNS]


def _numbers_of(columns: Dictionary[str, str]) -> dict[str, str]:
    """Return the sides of two columns by the numbers at their ends, where these count completions.

    Those of response_2 and response_3 do. Those of llama-2 and llama-3 are versions.
    """
    found = {name: end for name in columns if (end := NUMBER_AT_END.search(name))}
    stems = {name[: end.start()].rpartition(".")[2].rstrip("_- ") for name, end in found.items()}
    ends = {end[0]: columns[name] for name, end in found.items()}
    if len(ends) < len(PAIRS[0]) or len(stems) > 1:
        return {}
    is_counted = tuple(sorted(ends)) in COUNTED or all(CALLED.fullmatch(stem) for stem in stems)
    return ends if is_counted else {}


def _plain(text: str) -> str:
    return re.sub(r"\s+", "_", text.casefold())


def _find(record: Dictionary[str, Any], column: str) -> Any:
    if column in record:
        return record[column]
    outer, dot, inner = column.partition(".")
    value = record.get(outer)
    return value.get(inner, MISSING) if dot and isinstance(value, dict) else MISSING


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
