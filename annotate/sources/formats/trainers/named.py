"""Preferred and rejected completions under keys that name them otherwise than `chosen` and `rejected`."""

from itertools import product

from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.pairs import NAME
from annotate.sources.formats.signs import holds_verdict
from annotate.sources.formats.trainers.trl import read_pair
from annotate.sources.formats.verdicts import NO_ANSWERS, are_called_answers, find_place, read_verdict

# Words that are the names of completions by themselves, and those that are so beside a word for a text.
ALONE = (
    *(("accepted", "rejected"), ("preferred", "rejected"), ("preferred", "dispreferred")),
    *(("preferred", "non_preferred"), ("preferred", "nonpreferred"), ("preferred", "unpreferred")),
)
BESIDE = (*ALONE, ("better", "worse"), ("winning", "losing"), ("chosen", "rejected"))
NOUNS = ("response", "answer", "output", "completion", "text", "reply", "summary")
SIDES = {
    **dict.fromkeys(ALONE),
    **dict.fromkeys((f"{good}_{noun}", f"{bad}_{noun}") for (good, bad), noun in product(BESIDE, NOUNS)),
    **dict.fromkeys((f"{noun}_{good}", f"{noun}_{bad}") for (good, bad), noun in product(BESIDE, NOUNS)),
}
PREFERRED = {good for good, _bad in SIDES}
CONTENT = (str, list)  # the types of a text and of messages
WORDS_FOR_SIDES = {"a", "b", "left", "right", "first", "second"}


def _find_sides(record: Record) -> tuple[str, str] | None:
    """Return the keys of the preferred and the rejected completion; None where there are none, or several."""
    if record.keys().isdisjoint(PREFERRED):
        return None
    found = [sides for sides in SIDES if fields.has_contents(record, *sides)]
    return found[0] if len(found) == 1 else None


def _prompt_keys(record: Record) -> tuple[str, ...]:
    found = tuple(key for key in fields.PROMPT_KEYS if isinstance(record.get(key), str | list))
    return found if len(found) == 1 or found == ("instruction", "input") else ()


def _fits(record: Record) -> bool:
    sides, prompts = _find_sides(record), _prompt_keys(record)
    if sides is None or not prompts or _name_others(record):
        return False
    return not holds_verdict(record, *sides, *prompts) and not any(
        read_verdict(record[side]) or record[side] in record
        for side in sides
        if isinstance(record[side], str)
    )


def _are_names(record: Record) -> bool:
    """Return whether both sides are one word, who wrote the completions, or name completions that are elsewhere."""
    sides = _find_sides(record)
    return sides is not None and (
        all(isinstance(record[side], str) and len(record[side].split()) < 2 for side in sides)
        or _name_others(record)
    )


def _name_others(record: Record) -> bool:
    """Return whether the sides may only name completions: others are there, or another key says the same."""
    sides = _find_sides(record) or ()
    others = {key: value for key, value in record.items() if key not in (*sides, *_prompt_keys(record))}
    completions = [value for key, value in others.items() if isinstance(value, CONTENT) and _is_called(key)]
    if len(completions) > 1:
        return not all(record[side] in completions for side in sides)
    return any(
        isinstance(record[side], str) and len(record[side]) <= NAME and record[side] in others.values()
        for side in sides
    )


def _is_called(key: object) -> bool:
    """Return whether a key is called like one of several completions: answer_1, or left."""
    if not isinstance(key, str):
        return False
    has_place = find_place(key) and are_called_answers([key]) and not NO_ANSWERS.search(key)
    return bool(has_place) or key.casefold() in WORDS_FOR_SIDES


def _read(record: Record) -> Candidate:
    good, bad = _find_sides(record) or ("", "")
    prompts = _prompt_keys(record)
    others = {key: value for key, value in record.items() if key not in (good, bad, *prompts)}
    prompt = record[prompts[0]] if len(prompts) == 1 else fields.join(record[prompts[0]], record[prompts[1]])
    pair = {"prompt": prompt, "chosen": record[good], "rejected": record[bad]}
    return read_pair(fields.read_cells({**others, **pair}, "chosen", "rejected"))


NAMED = Format(
    "preferred-rejected",
    noop("Preferred and rejected completions under other names"),
    JUDGED,
    _fits,
    _read,
    contradicts=_are_names,
)
