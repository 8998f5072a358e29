"""The values of a record: texts, numbers, names and the rest, each checked with its key in the error."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeGuard

from django.utils.translation import gettext as _

from annotate.sources.candidates import Answer, Candidate, Content, Message, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats.format import Record
from annotate.sources.media import IMAGES, find_losses, inline_images, name_media, place_images
from annotate.sources.messages import (
    SPEAKERS,
    as_answer,
    as_chat,
    is_chat,
    read_content,
    read_functions,
    read_tools,
    set_aside,
)
from annotate.text.json_values import JSONError, parse_json

LARGEST = 2**63  # what a number is smaller than
TIMES = 100_000_000  # the seconds since 1970 that a text may mean begin here, in 1973
PREFERRED = (1.0, 0.0)  # the scores of two answers of which the first is preferred
PROMPT_KEYS = ("prompt", "request", "question", "instruction", "query", "input")
PYTHON = re.compile(r"\s*\[\s*\{'(?:role|content|from|value)':")  # a list of dicts, printed
CONTENTS = str, list, Mapping  # the types of a text, messages, and one message
SYSTEM = ("system", "system_prompt")
TOOLS, FUNCTIONS = "tools", "functions"  # the second as OpenAI called them first
ABOUT = "about_messages"  # the key of metadata that holds what was set aside of messages


# --- Looking -----------------------------------------------------------------------------------------------------


def has_texts(record: Record, *keys: str) -> bool:
    """Return whether each of these keys holds text."""
    return all(isinstance(record.get(key), str) for key in keys)


def has_contents(record: Record, *keys: str) -> bool:
    """Return whether each of these keys holds text, a message, or messages."""
    return all(isinstance(record.get(key), CONTENTS) for key in keys)


def has_any(record: Record, *keys: str) -> bool:
    """Return whether one of these keys says something."""
    return any(record.get(key) is not None for key in keys)


def are_objects(value: object, *keys: str) -> bool:
    """Return whether a value is a list of objects, each with these keys."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, Mapping) and all(key in item for key in keys) for item in value)
    )


def is_number(value: object) -> bool:
    """Return whether a value is a number, or text that writes one."""
    if isinstance(value, str):
        return re.fullmatch(r"\s*[+-]?[0-9]{1,15}(\.[0-9]{0,20})?\s*", value) is not None
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < LARGEST
    return isinstance(value, float) and math.isfinite(value)


# --- Reading -----------------------------------------------------------------------------------------------------


def text(record: Record, key: str) -> str:
    """Return the text under a key. Raises RecordError."""
    value = record.get(key)
    if not isinstance(value, str):
        raise RecordError(_("%(name)s must be text.") % {"name": key}, key)
    return value


def number(value: object, key: str) -> float:
    """Return a value, or text that writes a number, as a number. Raises RecordError, which calls it `key`."""
    if not is_number(value):
        raise RecordError(_("%(name)s must be a number.") % {"name": key}, key)
    return float(value)  # type: ignore[arg-type]


def name_of(value: object) -> str:
    """Return an id or a name, which may be a number, as text. Empty where there is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def objects(record: Record, key: str) -> list[Mapping[str, Any]]:
    """Return the list of objects under a key. Raises RecordError."""
    value = record.get(key)
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise RecordError(_("%(name)s must be a list of objects.") % {"name": key}, key)
    return value


def cell(value: object) -> object:
    """Return what the cell of a table holds: messages and other JSON lists and objects, or its text as it is."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            found = parse_json(value)
        except JSONError:
            return value
        return found
    return value


def read_cells(record: Record, *keys: str) -> Record:
    """Return a record whose chats are JSON text, as in a table, with them as messages.

    They are where all of `keys` are. The prompt may be text beside them. Raises RecordError for chats of Python.
    """
    if not all(isinstance(record.get(key), str) and record[key].lstrip()[:1] in ("[", "{") for key in keys):
        return record
    if all(PYTHON.match(record[key]) for key in keys):
        raise RecordError(
            _("%(name)s holds messages as Python prints them. Save the file as JSON Lines or Parquet.")
            % {"name": keys[0]},
            keys[0],
        )
    found = {key: cell(record[key]) for key in {*keys, "prompt"} if key in record}
    chats = {key: value for key, value in found.items() if is_chat(value) or is_chat([value])}
    return {**record, **chats} if chats.keys() >= {*keys} else record


def rest(record: Record, *used: str) -> dict[str, Any] | None:
    """Return what of a record was not used, as metadata. Null says nothing and is left out."""
    others = {key: value for key, value in record.items() if key not in used and value is not None}
    return others or None


# --- Times -------------------------------------------------------------------------------------------------------


def moment(value: object) -> datetime | None:
    """Return a time, in ISO 8601 or in seconds since 1970, as one with a zone (UTC). None if it is neither.

    The seconds are a text in a table, in which a small number is something else, as a year.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            found = datetime.fromisoformat(value)
            return found if found.tzinfo else found.replace(tzinfo=UTC)
    if is_number(value) and not (isinstance(value, str) and float(value) < TIMES):
        with suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(float(value), UTC)  # type: ignore[arg-type]
    return None


def seconds(value: object) -> float | None:
    """Return a duration in seconds, or None."""
    return float(value) if is_number(value) and float(value) >= 0 else None  # type: ignore[arg-type]


# --- Candidates --------------------------------------------------------------------------------------------------


def join(instruction: object, more: object) -> str:
    """Return an instruction with its input on the next line. LLaMA-Factory joins those that say something, too.

    Raises RecordError where the instruction is not text, and where neither says something.
    """
    if not isinstance(instruction, str):
        raise RecordError(_("%(name)s must be text.") % {"name": "instruction"}, "instruction")
    parts = [part for part in (instruction, more) if isinstance(part, str) and part.strip()]
    if not parts:
        raise RecordError(_("%(name)s is empty.") % {"name": "instruction"}, "instruction")
    return "\n".join(parts)


def with_system(prompt: Content, record: Record) -> Content:
    """Return a prompt behind the system message of its record, unless it begins with one. Raises RecordError."""
    has_own = not isinstance(prompt, str) and bool(prompt) and prompt[0].get("role") == "system"
    for key in SYSTEM:
        system = record.get(key)
        if system is not None and not isinstance(system, str):
            raise RecordError(_("%(name)s must be text.") % {"name": key}, key)
        if system and system.strip() and not has_own:
            return [{"role": "system", "content": system}, *as_chat(prompt)]
    return prompt


def with_history(prompt: Content, record: Record) -> Content:
    """Return a prompt behind the turns of its record’s history, pairs of texts, and its system message.

    Raises RecordError for other turns, and where each begins with the name of a speaker: they are single messages.
    """
    history: list[Message] = []
    turns = cell(record.get("history")) or []
    for turn in turns if isinstance(turns, list) else [turns]:
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(text, str) for text in turn):
            raise RecordError(_("%(name)s must be pairs of texts.") % {"name": "history"}, "history")
        history += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    if history and all(_is_speaker(message["content"]) for message in history[::2]):
        raise RecordError(
            _("%(name)s must be pairs of what was said and answered, without the names of speakers.")
            % {"name": "history"},
            "history",
        )
    return with_system([*history, *as_chat(prompt)] if history else prompt, record)


def is_history(value: object) -> TypeGuard[list[list[str]]]:
    """Return whether a value is a list of turns, each a question and its answer, and none of them a speaker's name."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(turn, list)
            and len(turn) == 2
            and all(isinstance(said, str) for said in turn)
            and not _is_speaker(turn[0])
            for turn in value
        )
    )


def _is_speaker(text: str) -> bool:
    return text.strip().rstrip(":").lower() in SPEAKERS


def chosen(place: int, count: int = 2) -> tuple[float, ...]:
    """Return scores that prefer one answer of `count`."""
    return tuple(1.0 if place == number else 0.0 for number in range(count))


def best(place: int, count: int) -> Opinion:
    """Return the opinion that one answer of `count` is the best. Of more than two, it says nothing of the others."""
    return Opinion(chosen(place, count), names_best=count > 2)


def ranked(ranks: Sequence[float]) -> tuple[float, ...]:
    """Return ranks, of which the lowest is best, as scores, of which the highest is: equal ranks are ties."""
    places = {rank: float(place) for place, rank in enumerate(sorted(set(ranks), reverse=True))}
    return tuple(places[rank] for rank in ranks)


def candidate(
    record: Record,
    used: Iterable[str],
    prompt: Content,
    answers: Iterable[Answer] = (),
    opinions: Iterable[Opinion] = (),
    **more: Any,
) -> Candidate:
    """Return the candidate of a record: its id, tools, what was not used as metadata, and what cannot be taken.

    `more` is what a format says otherwise of it, such as metadata of its own.
    """
    answers = tuple(answers)
    external_id = name_of(record.get("id"))
    metadata = rest(record, *used, TOOLS, *(["id"] if external_id else []))
    metadata = more.pop("metadata", metadata)
    losses = find_losses(record, prompt, *(answer.content for answer in answers))
    if losses and (images := inline_images(record)):
        prompt = place_images(prompt, images)
        metadata = rest(metadata or {}, *IMAGES)
        losses = find_losses(rest(record, *IMAGES) or {}, prompt, *(answer.content for answer in answers))
    tools = read_tools(record.get(TOOLS))
    if not tools and (tools := read_functions(record.get(FUNCTIONS))):
        metadata = {key: value for key, value in (metadata or {}).items() if key != FUNCTIONS} or None
    prompt, about = set_aside(name_media(prompt))
    if about:
        metadata = {**(metadata or {}), ABOUT: about}
    known: dict[str, Any] = {
        "external_id": external_id,
        "metadata": metadata,
        "losses": losses,
        "tools": tools,
    }
    return Candidate(
        prompt=prompt, answers=tuple(map(_tidy, answers)), opinions=tuple(opinions), **known | more
    )


def _tidy(answer: Answer) -> Answer:
    """Return an answer without what no template knows: that is its metadata."""
    if isinstance(answer.content, str):
        return answer
    content, about = set_aside(name_media(answer.content))
    metadata = {**answer.metadata, ABOUT: about} if about else answer.metadata
    return Answer(as_answer(content, _("a completion")), answer.policy, metadata)


def prompt_of(record: Record, key: str, *completions: str) -> Content:
    """Return the prompt under a key: as messages if one of the completions is, or if it is itself."""
    prompt = read_content(record.get(key), key)
    if any(not isinstance(record.get(completion), str) for completion in completions):
        return as_chat(prompt)
    return prompt
