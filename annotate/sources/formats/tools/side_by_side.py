"""Texts side by side, as the tools' own data have them: a prompt, and completions under numbered keys or in a list."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _

from annotate.sources.candidates import Answer, Candidate, Content, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import Record
from annotate.sources.formats.verdicts import (
    find_answers,
    find_place,
    find_policies,
    find_prompt,
    read_answer,
)
from annotate.sources.media import find_losses
from annotate.sources.messages import Chat, as_answer, as_chat, is_chat, read_content


@dataclass(frozen=True)
class Texts:
    """A prompt and completions. `names` is what verdicts call the completions, `used` the keys of it all."""

    prompt: Content
    answers: tuple[Answer, ...]
    names: tuple[str, ...]
    used: tuple[str, ...]

    def candidate(
        self, record: Record, used: Sequence[str], opinions: Sequence[Opinion], **more: Any
    ) -> Candidate:
        """Return the candidate of a record that holds these texts."""
        return fields.candidate(record, (*self.used, *used), self.prompt, self.answers, opinions, **more)

    def find_losses(self, record: Record) -> tuple[str, ...]:
        """Return what cannot be taken of these texts and of the record that they stand in."""
        return find_losses(record, self.prompt, *(answer.content for answer in self.answers))


def has_texts(record: Record) -> bool:
    """Return whether a prompt and completions stand out of a record's keys."""
    if fields.are_objects(fields.cell(record.get("items")), "id"):
        return bool(find_prompt(record, ()))
    answers = find_answers(record)
    return bool(answers) and bool(find_prompt(record, answers))


def read_texts(record: Record, beside: Record | None = None) -> Texts:
    """Return the texts of a record. Raises RecordError where it does not say which they are.

    `beside` is another place where the names of who wrote them may be.
    """
    items = fields.cell(record.get("items"))
    if fields.are_objects(items, "id"):
        return _read_items(record, items)
    answers = find_answers(record)
    prompt = find_prompt(record, answers)
    if not answers or not prompt:
        raise RecordError(
            _(
                "It is not clear which text is the prompt and which are the completions. Map the columns by hand."
            )
        )
    writers = {**(beside or {}), **record}
    policies = find_policies(writers, answers)
    contents = [as_answer(_content(record, key), key) for key in answers]
    has_chats = any(isinstance(content, list) for content in contents)
    return Texts(
        as_chat(_content(record, prompt)) if has_chats else _content(record, prompt),
        tuple(
            Answer(content, fields.name_of(writers.get(policy)))
            for content, policy in zip(contents, policies, strict=True)
        ),
        tuple(answers),
        (prompt, *answers, *policies),
    )


def _content(record: Record, key: str) -> str | Chat:
    """Return text, or messages, which may be JSON in a cell."""
    value = fields.cell(record[key])
    return read_content(value if is_chat(value) else record[key], key)


def _read_items(record: Record, items: Any) -> Texts:
    """Return the texts of Label Studio's list of items to rank."""
    prompt = find_prompt(record, ())
    if not prompt:
        raise RecordError(_("The prompt is missing."), "prompt")
    return Texts(
        _content(record, prompt),
        tuple(
            Answer(
                fields.text(
                    item, next((key for key in ("body", "text", "html", "title") if item.get(key)), "body")
                ),
                fields.name_of(item.get("title")) if item.get("body") or item.get("text") else "",
                {"id": item["id"]},
            )
            for item in items
        ),
        tuple(fields.name_of(item["id"]) for item in items),
        (prompt, "items"),
    )


def keep_readable(
    given: Iterable[Any], read: Callable[[Any], Iterable[Opinion]]
) -> tuple[list[Opinion], tuple[str, ...]]:
    """Return the opinions of annotators, and why those that say nothing of the completions are lost.

    Raises RecordError where none says anything.
    """
    opinions: list[Opinion] = []
    faults: dict[str, RecordError] = {}
    for one in given:
        try:
            opinions += list(read(one))  # all that it yields, or nothing
        except RecordError as fault:
            faults[fault.message.rstrip(".")] = fault
    if faults and not opinions:
        raise next(iter(faults.values()))
    return opinions, tuple(faults)


def with_losses(candidate: Candidate, losses: Iterable[str]) -> Candidate:
    """Return a candidate of which this cannot be taken either."""
    return replace(candidate, losses=(*candidate.losses, *losses))


def note(question: str, value: object) -> str:
    """Return an answer that is no verdict, for the rationale: a text as it is, anything else behind its question."""
    if isinstance(value, str):
        return value
    said = ", ".join(map(str, value)) if isinstance(value, list) else value
    return "" if said in (None, "") else f"{question}: {said}"


def as_strength(question: object, value: object) -> int | None:
    """Return the strength of a preference, of 1 to 3, where a question asks for it."""
    is_asked = question == "strength" and fields.is_number(value)
    return int(value) if is_asked and value in (1, 2, 3) else None


# --- Answers to several questions --------------------------------------------------------------------------------

RATED = re.compile(r"rating|rate|score|stars?|quality|overall", re.IGNORECASE)
OVERALL = re.compile(r"overall", re.IGNORECASE)
RANKS = re.compile(r"rank|order|place", re.IGNORECASE)  # of which the lowest is the best


def read_one(said: Record, names: Sequence[str]) -> tuple[tuple[str, ...], Opinion]:
    """Return the opinion among a worker's answers, and the questions that it is under: one, or a rating for each text.

    Raises RecordError where there is not exactly one.
    """
    found = {key: opinion for key, value in said.items() if (opinion := read_answer(key, value, names))}
    if not found:
        numbers = {key: value for key, value in said.items() if fields.is_number(value) and RATED.search(key)}
        if rated := read_ratings(numbers, names):
            return tuple(numbers) if len(numbers) <= len(names) else (), rated
    if len(found) != 1:
        raise RecordError(
            _("Not exactly one of the answers says which completion is better: %(names)s.")
            % {"names": ", ".join(said)}
        )
    [(key, opinion)] = found.items()
    return (key,), opinion


def read_ratings(numbers: Mapping[str, Any], names: Sequence[str]) -> Opinion | None:
    """Return the opinion of numbers under questions that each name a text, or its place: “response-1-rating”, “q_2”.

    Of several aspects, only one that is called overall is an opinion. None where that is not clear.
    """
    aspects: dict[str, dict[str, float]] = {}
    for question, number in numbers.items():
        name, aspect = _rated_text(question, names)
        if name and not RANKS.search(aspect):
            aspects.setdefault(aspect, {})[name] = fields.number(number, question)
    if len(aspects) > 1:
        aspects = {aspect: ratings for aspect, ratings in aspects.items() if OVERALL.search(aspect)}
    if len(aspects) != 1:
        return None
    [ratings] = aspects.values()
    return Opinion(tuple(ratings.get(name) for name in names))


def _rated_text(question: str, names: Sequence[str]) -> tuple[str, str]:
    """Return which text a question rates, and in which aspect; or empty texts."""
    named = [
        (name, aspect)
        for name in names
        if (aspect := re.sub(rf"(?<![a-z0-9]){re.escape(name)}(?![0-9])", "#", question)) != question
    ]
    if not named and all(map(find_place, names)):
        place = find_place(question).casefold()
        aspect = question[: len(question) - len(place)]
        named = [(name, aspect) for name in names if place and find_place(name).casefold() == place]
    return named[0] if len(named) == 1 else ("", "")
