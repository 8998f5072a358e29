"""Texts side by side, as the tools' own data have them: a prompt, and completions under numbered keys or in a list."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _

from annotate.sources.candidates import Answer, Candidate, Content, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import Record
from annotate.sources.formats.verdicts import (
    NOUN,
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
# Words of a question that say no aspect, the beginnings of those of which more is better, and of the whole.
PLAIN = re.compile(
    r".|rat(e|es|ed|ing|ings)|scor(e|es|ed|ing)|stars?|points?|grade|likert|scale|value|number|text|final|human|user|your|my"
    rf"|({NOUN}|reply|question|annotator)s?|how|much|do|does|you|would|the|is|are|of|to|it|this|please|left|right|first|second"
    r"|bewertung|note|punkte|sterne?|étoiles?|estrellas?|nota|puntuación|valoración|évaluation|评分|打分|評価|평가|점수|оценка",
    re.IGNORECASE,
)
GOOD = re.compile(
    r"overall|general|total|quality|helpful|useful|correct(?!ion)|accura|precis|good|great|nice|excellen|best|better|prefer"
    r"|like(?!li)|relevan|coheren|fluen|clear|clarity|factual|truth|honest|harmless|safe|polite|friendl|empath|natural|readab"
    r"|creativ|original|engag|interest|inform(?!al)|insight|complet|concis|consisten|comprehen|detail|thorough|depth|faithful"
    r"|satisf|appropriate|adequa|instruction|follow|adheren|complian|gramma|style|tone|format|structur|organi[sz]|valid|logic"
    r"|reason|plausib|persuas|convinc|trust|ground|support|humou?r|funn|usab|qualit[ àäé]|utilit|hilfreich|整体|总体"
    r"|质量|総合|качеств",
    re.IGNORECASE,
)
WHOLE = re.compile(r"overall|general|total|整体|总体|総合", re.IGNORECASE)
WORD = re.compile(r"[^\W\d_]+")
Aspect = tuple[str, ...]  # the words of a question that say what is rated


@dataclass(frozen=True)
class Rating:
    """A number that an annotator gave to a question. `of` names the text, where that is not in the question."""

    question: str
    value: Any
    of: str = ""

    def as_note(self) -> str:
        """Return what it says, for the rationale."""
        return note(f"{self.question} ({self.of})" if self.of else self.question, self.value)


def read_one(said: Record, names: Sequence[str]) -> tuple[tuple[str, ...], Opinion]:
    """Return the opinion among a worker's answers, and the questions that it is under: one, or a rating for each text.

    Raises RecordError where there is not exactly one.
    """
    found = {key: opinion for key, value in said.items() if (opinion := read_answer(key, value, names))}
    if not found:
        ratings = [
            Rating(key, value) for key, value in said.items() if fields.is_number(value) and RATED.search(key)
        ]
        rated, others = read_ratings(ratings, names)
        if rated:
            return tuple(rating.question for rating in ratings if rating not in others), rated
    if len(found) != 1:
        raise RecordError(
            _("Not exactly one of the answers says which completion is better: %(names)s.")
            % {"names": ", ".join(said)}
        )
    [(key, opinion)] = found.items()
    return (key,), opinion


def read_ratings(ratings: Sequence[Rating], names: Sequence[str]) -> tuple[Opinion | None, list[Rating]]:
    """Return the opinion of ratings of texts that they name, as “response-1-rating”, and the ratings that say no more.

    The aspect must be one of which more is better. Of several, the one of the whole is meant, or the one without a
    name. There is no opinion where that is not clear.
    """
    aspects: dict[Aspect, dict[str, list[Rating]]] = {}
    for rating in ratings:
        name, aspect = _find_rated(rating, names)
        if name:
            aspects.setdefault(aspect, {}).setdefault(name, []).append(rating)
    main = _find_main(aspects)
    found = {} if main is None else aspects[main]
    if not found or any(len(several) > 1 for several in found.values()):
        return None, list(ratings)
    used = {name: rating for name, [rating] in found.items()}
    scores = {name: fields.number(rating.value, rating.question) for name, rating in used.items()}
    others = [rating for rating in ratings if rating not in used.values()]
    return Opinion(tuple(scores.get(name) for name in names)), others


def _find_main(aspects: Iterable[Aspect]) -> Aspect | None:
    """Return the aspect that is an opinion: the only one, the one of the whole, or the one without a name."""
    several = list(aspects)
    if len(several) > 1:
        several = [aspect for aspect in several if any(map(WHOLE.match, aspect))] or [
            aspect for aspect in several if not aspect
        ]
    return several[0] if len(several) == 1 and all(map(GOOD.match, several[0])) else None


def find_rated(ratings: Sequence[Rating], names: Sequence[str]) -> set[str]:
    """Return the questions that rate a text: that name it, or are one for each text, by their places.

    Of the latter, numbers that may be those of texts are not known to be ratings.
    """
    by_place: dict[Aspect, dict[str, Rating]] = {}
    found = set()
    for rating in ratings:
        name, aspect = _find_rated(rating, names)
        if name and _named_in(rating.question, names):
            found.add(rating.question)
        elif name:
            by_place.setdefault(aspect, {})[name] = rating
    for places in by_place.values():
        if len(places) == len(names) and any(
            rating.value not in range(1, len(names) + 1) for rating in places.values()
        ):
            found.update(rating.question for rating in places.values())
    return found


def _find_rated(rating: Rating, names: Sequence[str]) -> tuple[str, Aspect]:
    """Return which text a question rates, and in which aspect; or an empty text."""
    named = _named_in(rating.question, names)
    place = find_place(rating.question).casefold()
    if not named and place and all(map(find_place, names)):
        named = [
            (name, rating.question[: len(rating.question) - len(place)])
            for name in names
            if find_place(name).casefold() == place
        ]
    if rating.of:
        rest = named[0][1] if len(named) == 1 else rating.question[: len(rating.question) - len(place)]
        named = [(rating.of, rest)]
    if len(named) != 1:
        return "", ()
    [(name, question)] = named
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", question)
    words = (word.casefold() for word in WORD.findall(apart))
    return name, tuple(word for word in words if not PLAIN.fullmatch(word))


def _named_in(question: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the texts that a question names, each with the rest of it."""
    return [
        (name, rest)
        for name in names
        if (rest := re.sub(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", " ", question)) != question
    ]
