"""Preference tuning of the clouds: Amazon Nova, Gemini, and Vertex AI with human feedback."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Message, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.messages import as_answer, is_chat, is_message, read_chat, read_content


def _parts(blocks: object, name: str) -> list[dict[str, Any]]:
    """Return blocks of text or media as parts of a message. Raises RecordError, which calls them `name`."""
    if not isinstance(blocks, list) or not blocks or not all(isinstance(block, Mapping) for block in blocks):
        raise RecordError(_("%(name)s must be a list of objects.") % {"name": name}, name)
    return [
        {"type": "text", **block} if isinstance(block.get("text"), str) else {"type": "media", **block}
        for block in blocks
    ]


def _message(role: object, blocks: object, name: str) -> dict[str, Any]:
    return {"role": role, "content": _parts(blocks, name)}


def _system(blocks: object, name: str) -> list[Message]:
    return read_chat([_message("system", blocks, name)], name) if blocks else []


# --- Amazon Nova -------------------------------------------------------------------------------------------------

LABELS = {"preferred": 1.0, "non-preferred": 0.0}


def _candidates(record: Record) -> object:
    messages = record.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return last.get("candidates") if isinstance(last, Mapping) else None


def _said(message: Message) -> object:
    """Return what a message says: Nova's blocks, which ShareGPT's words for them and plain text may stand for."""
    content = message.get("content", message.get("value"))
    return [{"text": content}] if isinstance(content, str) else content


def _fits_nova(record: Record) -> bool:
    return fields.are_objects(_candidates(record), "content", "preferenceLabel")


def _read_nova(record: Record) -> Candidate:
    *before, last = record["messages"]
    if not all(map(is_message, before)):
        raise RecordError(_("%(name)s must be a list of messages.") % {"name": "messages"}, "messages")
    chat = [
        _message(message.get("role", message.get("from")), _said(message), "content") for message in before
    ]
    labels = [candidate["preferenceLabel"] for candidate in last["candidates"]]
    if not all(isinstance(label, str) and label in LABELS for label in labels):
        raise RecordError(
            _("%(name)s must be %(values)s.") % {"name": "preferenceLabel", "values": ", ".join(LABELS)},
            "preferenceLabel",
        )
    answers = [
        read_chat([_message("assistant", candidate["content"], "candidates")], "candidates")
        for candidate in last["candidates"]
    ]
    return fields.candidate(
        record,
        ("schemaVersion", "system", "messages"),
        [*_system(record.get("system"), "system"), *read_chat(chat, "messages")],
        [Answer(as_answer(answer, "candidates")) for answer in answers],
        [Opinion(tuple(LABELS[label] for label in labels), names_best=len(labels) > 2)],
    )


NOVA = Format("nova", noop("Amazon Nova (DPO)"), JUDGED, _fits_nova, _read_nova)


# --- Gemini ------------------------------------------------------------------------------------------------------


def _fits_gemini(record: Record) -> bool:
    is_chat = fields.are_objects(record.get("contents"), "parts")
    return is_chat and fields.are_objects(record.get("completions"), "completion", "score")


def _read_gemini(record: Record) -> Candidate:
    key = "systemInstruction" if "systemInstruction" in record else "system_instruction"
    system = record.get(key)
    contents = [_message(turn.get("role", "user"), turn["parts"], "contents") for turn in record["contents"]]
    completions = fields.objects(record, "completions")
    answers = [
        read_chat([_message("assistant", _parts_of(item["completion"]), "completion")], "completion")
        for item in completions
    ]
    return fields.candidate(
        record,
        (key, "contents", "completions"),
        [*_system(_parts_of(system) if system else None, key), *read_chat(contents, "contents")],
        [Answer(as_answer(answer, "completion")) for answer in answers],
        [Opinion(tuple(fields.number(item["score"], "score") for item in completions))],
    )


def _parts_of(content: object) -> object:
    return content.get("parts") if isinstance(content, Mapping) else None


GEMINI = Format("gemini", noop("Gemini (preference tuning)"), JUDGED, _fits_gemini, _read_gemini)


# --- Vertex AI's tuning with human feedback ----------------------------------------------------------------------

CANDIDATES = ("candidate_0", "candidate_1")


def _fits_vertex(record: Record) -> bool:
    has_prompt = isinstance(record.get("input_text"), str) or is_chat(record.get("messages"))
    return has_prompt and fields.has_texts(record, *CANDIDATES) and fields.is_number(record.get("choice"))


def _read_vertex(record: Record) -> Candidate:
    choice = fields.number(record["choice"], "choice")
    if choice not in (0, 1):
        raise RecordError(_("%(name)s must be %(values)s.") % {"name": "choice", "values": "0, 1"}, "choice")
    key = "input_text" if isinstance(record.get("input_text"), str) else "messages"
    return fields.candidate(
        record,
        (key, *CANDIDATES, "choice"),
        read_content(record[key], key),
        [Answer(record[candidate]) for candidate in CANDIDATES],
        [Opinion(fields.chosen(int(choice)))],
    )


VERTEX = Format(
    "vertex-rlhf", noop("Vertex AI (tuning with human feedback)"), JUDGED, _fits_vertex, _read_vertex
)
