"""Preferred and rejected completions, and what records say beside them: who wrote them, and their scores."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

from annotate.sources.candidates import Answer, Candidate, Content, Opinion
from annotate.sources.formats import fields
from annotate.sources.formats.format import Record
from annotate.sources.formats.verdicts import are_called_answers, find_answers
from annotate.sources.messages import is_chat

CHOSEN = ("chosen", "rejected")
NAME = 60  # characters of what may be the name of a completion
POLICIES = ("{}_policy", "{}_model", "{}-model", "model_{}")
SCORES = ("score_{}", "{}_score", "{}_rating", "{}-rating", "{}_reward", "rating_{}")


def are_completions(record: Record) -> bool:
    """Return whether `chosen` and `rejected` are completions, and not the names or places of completions elsewhere."""
    chosen, rejected = (record.get(side) for side in CHOSEN)
    if (
        not isinstance(chosen, str)
        or not isinstance(rejected, str)
        or max(map(len, (chosen, rejected))) > NAME
    ):
        return fields.has_contents(record, *CHOSEN)
    if any(record.get(name) is not None for name in (chosen, rejected)):
        return False  # the keys that hold them
    keys = find_answers(record)
    answers = [record[key] for key in keys]
    if answers and are_called_answers(keys) and not (chosen in answers and rejected in answers):
        return False
    return not (
        chosen.isdecimal() and rejected.isdecimal() and _are_places(record, int(chosen), int(rejected))
    )


def _are_places(record: Record, *places: int) -> bool:
    """Return whether numbers are places in a list of a record that holds something else than numbers."""
    lists = [value for value in record.values() if isinstance(value, list) and not is_chat(value)]
    return any(max(places) <= len(found) and isinstance(found[0], str | Mapping) for found in lists if found)


def preferred(
    record: Record,
    used: Iterable[str],
    prompt: Content,
    completions: Sequence[Content],
    sides: tuple[str, ...] = CHOSEN,
    **more: Any,
) -> Candidate:
    """Return a candidate of two completions, the preferred one first. `sides` is what other keys call them."""
    policies = _policy_keys(record, sides)
    scores, score_keys = _scores(record, sides)
    prompt_id = fields.name_of(record.get("prompt_id"))
    return fields.candidate(
        record,
        {*used, *policies, *score_keys, *(["prompt_id"] if prompt_id else [])},
        prompt,
        [
            Answer(content, fields.name_of(record.get(policy)))
            for content, policy in zip(completions, policies, strict=True)
        ],
        [Opinion(scores)],
        names=sides if record.keys() >= {*sides} else (),
        **{"prompt_external_id": prompt_id} | more,
    )


def as_thumb(value: object) -> bool | None:
    """Return a rating by thumb, which may be a number or a word, as true or false. None if it is neither."""
    if isinstance(value, str):
        return {"true": True, "false": False, "1": True, "0": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int) and value in (0, 1) else None


def thumbed(
    record: Record, used: Iterable[str], prompt: Content, answer: Content, thumb: object
) -> Candidate:
    """Return a candidate of one completion that was found good or bad."""
    opinion = Opinion((1.0 if as_thumb(thumb) else 0.0,))
    return fields.candidate(record, used, prompt, [Answer(answer)], [opinion])


@cache
def _keys_of(names: tuple[str, ...], sides: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [tuple(name.format(side) for side in sides) for name in names]


@cache
def _all_keys_of(names: tuple[str, ...], sides: tuple[str, ...]) -> frozenset[str]:
    return frozenset(chain.from_iterable(_keys_of(names, sides)))


def _policy_keys(record: Record, sides: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys of who wrote each, of which one may be absent."""
    if _all_keys_of(POLICIES, sides).isdisjoint(record):  # as most are
        return "", ""
    return next(keys for keys in _keys_of(POLICIES, sides) if not record.keys().isdisjoint(keys))


def _scores(record: Record, sides: tuple[str, ...]) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Return the scores of both, and the keys that they are under. Scores that contradict the preference are left."""
    if _all_keys_of(SCORES, sides).isdisjoint(record):
        return fields.PREFERRED, ()
    for keys in _keys_of(SCORES, sides):
        if record.keys() >= {*keys} and all(fields.is_number(record[key]) for key in keys):
            better, worse = (fields.number(record[key], key) for key in keys)
            if better > worse:
                return (better, worse), keys
    return fields.PREFERRED, ()
