"""Prompts and pairs to judge, as an admin writes them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import COMPARISONS, Format, Record
from annotate.sources.formats.signs import holds_verdict
from annotate.sources.formats.verdicts import read_verdict
from annotate.sources.formats.whetstone.values import read_flag, read_object
from annotate.sources.messages import as_answer, read_content
from annotate.sources.tables import like

COMPLETIONS = ("completion_a", "completion_b")
CONTENTS = ("prompt", *COMPLETIONS)
KEYS = (
    *("prompt", "id", "metadata", *COMPLETIONS, "policy_a", "policy_b", "gold", "tools"),
    *("prompt_external_id", "prompt_metadata", "withdrawn"),
)
SIGNS = {*KEYS} - {"prompt", "id", "metadata", "tools"}  # no other format has these
# Keys under which a word for a side may be a verdict. Under others it may be a grade, a level or a language.
OF_VERDICT = re.compile(
    r"(label|answer|result|human|annotation|evaluation|assessment|comparison|opinion|target|truth"
    r"|(?<![a-z])(pref|gt))s?[-_ ]?[0-9]*$|(annotator|rater|evaluator)s?[-_ ]?[0-9]+$|(annotator|rater|evaluator)s$",
    re.IGNORECASE,
)
# The same for a number, which is plain metadata under “topic_label”.
LABEL = re.compile(r"((human|gold|true|truth|majority|final)[-_ ]?)?labels?", re.IGNORECASE)
# Marks of a verdict that is more than a word for a side.
COMPARES = re.compile(
    r"better|prefer|wins|both|[<>=]|(completion|response|answer)[-_ ]*[ab12]", re.IGNORECASE
)
KEY_LENGTH, WIDTH = 200, 50  # characters of a key, and values under it, that are looked at


def _fits(record: Record) -> bool:
    """Return whether a record is of the format, also a prompt of it alone: it has no other keys then."""
    if "prompt" not in record or {"chosen", "rejected"} & record.keys():
        return False
    if {*COMPLETIONS} & record.keys() and holds_verdict(_others(record)):
        return False  # it says which one is better, in a way of its own
    return bool(SIGNS & record.keys()) or ("metadata" in record and record.keys() <= {*KEYS})


def _say_nothing(records: Sequence[Record]) -> bool:
    """Return whether no other column of pairs has a value that may be a verdict."""
    return not any(
        isinstance(key, str) and _may_judge(key[:KEY_LENGTH], value)
        for record in records
        if {*COMPLETIONS} & record.keys()
        for key, value in _others(record).items()
    )


def _may_judge(key: str, value: object) -> bool:
    """Return whether a value may be a verdict: one in several words, or a word or a number under such a key."""
    is_of_verdict = OF_VERDICT.search(key) is not None
    if is_of_verdict and isinstance(value, list | Mapping):  # of several annotators
        several = value if isinstance(value, list) else list(value.values())
        return any(_may_judge(key, item) for item in several[:WIDTH] if not isinstance(item, list | Mapping))
    if LABEL.fullmatch(key) and (isinstance(value, bool) or fields.is_number(value)):
        return True
    if not isinstance(value, str) or read_verdict(value, COMPLETIONS) is None:
        return False
    return is_of_verdict or COMPARES.search(value) is not None


def _others(record: Record) -> Record:
    return like(record, {key: value for key, value in record.items() if key not in KEYS})


def read_pair(record: Record, *, in_cells: bool = True) -> Candidate:
    """Return a prompt, or a pair to judge. Chats may be texts of JSON where they are `in_cells`."""
    if in_cells:
        record = {
            key: fields.read_cells(record, key)[key] if key in CONTENTS else record[key] for key in record
        }
    has_completions = [
        key for key in COMPLETIONS if record.get(key) not in (None, "") or _is_said(record, key)
    ]
    if len(has_completions) == 1:
        raise RecordError(_("A pair needs both completion_a and completion_b."), has_completions[0])
    answers = [
        Answer(
            as_answer(read_content(record[key], key), key),
            fields.name_of(record.get(policy)),
        )
        for key, policy in zip(COMPLETIONS, ("policy_a", "policy_b"), strict=True)
        if has_completions
    ]
    return fields.candidate(
        record,
        (),
        read_content(record["prompt"], "prompt"),
        answers,
        metadata=_metadata(record),
        prompt_external_id=fields.name_of(record.get("prompt_external_id")),
        prompt_metadata=read_object(record, "prompt_metadata"),
        gold=_gold(record, is_pair=bool(answers)),
        withdrawn=read_flag(record, "withdrawn"),
    )


def _is_said(record: Record, key: str) -> bool:
    """Return whether an empty completion is one: in a table, a prompt alone has empty cells."""
    return record.get(key) == "" and any(record.get(other) for other in COMPLETIONS)


def _metadata(record: Record) -> dict[str, Any] | None:
    own, others = read_object(record, "metadata"), fields.rest(record, *KEYS)
    return own if others is None else {**(own or {}), **others}


def _gold(record: Record, *, is_pair: bool) -> str | None:
    if "gold" not in record or record["gold"] == "" or (record["gold"] is None and not is_pair):
        return None
    gold = "none" if record["gold"] is None else record["gold"]
    if not is_pair or gold not in ("a", "b", "none"):
        raise RecordError(_("gold must be “a”, “b” or “none”, beside completion_a and completion_b."), "gold")
    return str(gold)


PAIRS_TO_JUDGE = Format(
    "whetstone",
    noop("Whetstone: prompts and pairs"),
    COMPARISONS,
    _fits,
    read_pair,
    fits_together=_say_nothing,
    opens_cells=True,
)
