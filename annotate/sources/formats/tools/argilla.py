"""Argilla: records with fields and responses, and flat rows, of versions 1 and 2."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate, Opinion
from annotate.sources.documents import rows_of_columns
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.tools.side_by_side import (
    Rating,
    Texts,
    as_strength,
    find_rated,
    has_texts,
    keep_readable,
    note,
    read_ratings,
    read_texts,
    with_losses,
)
from annotate.sources.formats.verdicts import check_question, read_answer

# A question whose answer, a number, names a text.
BEST = re.compile(r"best|better|prefer|choose|chosen|winner", re.IGNORECASE)
Said = tuple[str, str, Any]  # the question, who answered, and what

# --- Records -----------------------------------------------------------------------------------------------------


def _fits_record(record: Record) -> bool:
    texts = record.get("fields")
    return (
        isinstance(texts, Mapping) and has_texts(texts) and ("responses" in record or "suggestions" in record)
    )


def _read_record(record: Record) -> Candidate:
    data, metadata = record["fields"], record.get("metadata")
    texts = read_texts(data, metadata if isinstance(metadata, Mapping) else None)
    others = fields.rest(data, *texts.used) or {}
    if record.get("suggestions"):
        others["suggestions"] = record["suggestions"]
    opinions, unclear = _opinions(_said(record.get("responses")), texts)
    return with_losses(
        texts.candidate(
            record,
            (),
            opinions,
            external_id=fields.name_of(record.get("external_id") or record.get("id")),
            metadata=({**metadata, **others} if isinstance(metadata, Mapping) else others) or None,
        ),
        unclear,
    )


def _said(responses: object) -> Iterator[Said]:
    """Yield the answers in `responses`: by question as version 2 writes them, or by user as version 1 does."""
    if isinstance(responses, Mapping):
        for question, answers in responses.items():
            for answer in answers if isinstance(answers, list) else []:
                if isinstance(answer, Mapping) and _is_given(answer):
                    yield question, fields.name_of(answer.get("user_id")), answer.get("value")
    for response in responses if isinstance(responses, list) else []:
        if (
            isinstance(response, Mapping)
            and isinstance(response.get("values"), Mapping)
            and _is_given(response)
        ):
            for question, answer in response["values"].items():
                value = answer.get("value") if isinstance(answer, Mapping) else answer
                yield question, fields.name_of(response.get("user_id")), value


def _is_given(answer: Mapping[str, Any]) -> bool:
    return answer.get("status") in (None, "submitted")


def _opinions(said: Iterable[Said], texts: Texts) -> tuple[list[Opinion], tuple[str, ...]]:
    """Return an opinion for each user, and what of the responses says nothing about the completions."""
    by_user: dict[str, list[tuple[str, Any]]] = {}
    for question, user, value in said:
        by_user.setdefault(user, []).append((question, value))
    return keep_readable(by_user.items(), lambda response: [_opinion(response[0], response[1], texts)])


def _opinion(user: str, answers: Sequence[tuple[str, Any]], texts: Texts) -> Opinion:
    """Return a user's opinion: of the one question whose answer is about the completions. Raises RecordError."""
    found: list[Opinion] = []
    notes: list[str] = []
    ratings: list[Rating] = []
    strength = None
    numbers = [Rating(question, value) for question, value in answers if _is_number(value)]
    rated = find_rated(numbers, texts.names)
    for question, value in answers:
        if question not in rated and (opinion := _read_answer(question, value, texts.names)):
            found.append(opinion)
        elif told := as_strength(question, value):
            strength = told
        elif _is_number(value):
            ratings.append(Rating(question, value))
        else:
            notes.append(note(question, value))
    if not found:
        by_ratings, ratings = read_ratings(ratings, texts.names)
        found += [by_ratings] if by_ratings else []
    notes += [rating.as_note() for rating in ratings]
    if len(found) != 1:
        raise RecordError(
            _("A response does not say exactly once which completion is better, or that they are equal."),
            "responses",
        )
    [opinion] = found
    return opinion._replace(
        annotator=user, strength=opinion.strength or strength, rationale="\n".join(filter(None, notes))
    )


def _is_number(value: object) -> bool:
    return fields.is_number(value) and not isinstance(value, str)


def _read_answer(question: str, value: object, names: Sequence[str]) -> Opinion | None:
    """Return what an answer says: the name of a completion, a verdict, its number, or a ranking."""
    if isinstance(value, Mapping):  # as `datasets` has the lists of version 1
        value = rows_of_columns(value)
    if isinstance(value, list):
        return check_question(question, _read_ranking(value, names))
    if isinstance(value, str):
        return read_answer(question, value, names)
    if isinstance(value, bool) or not isinstance(value, int) or not BEST.search(question):
        return None
    chosen = fields.best(value - 1, len(names)) if 1 <= value <= len(names) else None
    return check_question(question, chosen)


def _read_ranking(value: list[Any], names: Sequence[str]) -> Opinion | None:
    """Return a ranking: names in their order (version 2), or names with ranks (version 1), of which 1 is best."""
    if fields.are_objects(value, "value", "rank"):
        ranks = {fields.name_of(item["value"]): fields.number(item["rank"], "rank") for item in value}
    else:
        ranks = {fields.name_of(item): float(place) for place, item in enumerate(value)}
    if not ranks or not ranks.keys() <= set(names):
        return None
    scores = dict(zip(ranks, fields.ranked(list(ranks.values())), strict=True))
    return Opinion(tuple(scores.get(name) for name in names))


RECORDS = Format("argilla", noop("Argilla (records)"), JUDGED, _fits_record, _read_record)


# --- Flat rows ---------------------------------------------------------------------------------------------------

RESPONSES, USERS, STATUS = ".responses", ".responses.users", ".responses.status"


def _questions(record: Record) -> list[str]:
    return [key.removesuffix(RESPONSES) for key in record if isinstance(key, str) and key.endswith(RESPONSES)]


def _lists_of_answers(record: Record) -> list[str]:
    """Return the columns of version 1: lists of who said what, in which state."""
    return [key for key, value in record.items() if fields.are_objects(value, "user_id", "value", "status")]


def _fits_flat(record: Record) -> bool:
    return bool(_questions(record) or _lists_of_answers(record)) and has_texts(record)


def _read_flat(record: Record) -> Candidate:
    texts = read_texts(record)
    lists = _lists_of_answers(record)
    said = [*_said({key: record[key] for key in lists}), *_flat_answers(record)]
    used = [f"{question}{end}" for question in _questions(record) for end in (RESPONSES, USERS, STATUS)]
    external_id = fields.name_of(record.get("external_id") or record.get("id"))
    opinions, unclear = _opinions(said, texts)
    used = [*used, *lists, "external_id", "status", "_server_id"]
    return with_losses(texts.candidate(record, used, opinions, external_id=external_id), unclear)


def _flat_answers(record: Record) -> Iterator[Said]:
    for question in _questions(record):
        values = fields.cell(record[f"{question}{RESPONSES}"]) or []
        users, states = (fields.cell(record.get(f"{question}{end}")) for end in (USERS, STATUS))
        if not isinstance(values, list):
            raise RecordError(_("%(name)s must be a list.") % {"name": f"{question}{RESPONSES}"})
        for place, value in enumerate(values):
            user = users[place] if isinstance(users, list) and place < len(users) else str(place + 1)
            state = states[place] if isinstance(states, list) and place < len(states) else None
            if state in (None, "submitted"):
                yield question, fields.name_of(user), value


FLAT = Format("argilla-flat", noop("Argilla (flat)"), JUDGED, _fits_flat, _read_flat)
