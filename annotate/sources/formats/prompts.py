"""Prompts alone: text, chats, instructions. A record that holds a preference is never one of these."""

import re
from collections.abc import Mapping

from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate
from annotate.sources.formats import fields
from annotate.sources.formats.format import PROMPTS, Format, Record
from annotate.sources.messages import is_chat, read_chat, read_content

# Keys that say that a record is about completions: what would be lost if it became a prompt.
VERDICT = (
    r"chosen|reject|prefer|better|worse|winner|loser|rank|rating|score|judg|vote|annotat|label|gold|verdict"
)
NOUN = r"(?<![a-z])(answer|response|output|completion|generation|summary|candidate|model|text)"
PREFERENCE = re.compile(rf"{VERDICT}|{NOUN}(s$|[-_ ]?([0-9]|[abjkwl]$))", re.IGNORECASE)
KNOWN_LISTS = ("prompt", "messages", "conversations", "conversation", "tools", "images")


def says_preference(record: Record) -> bool:
    """Return whether a key of a record, with anything under it, is about completions or which is better."""
    return any(
        PREFERENCE.search(key) is not None or _is_several(key, value)
        for key, value in record.items()
        if isinstance(key, str) and value not in (None, "")
    )


def _is_several(key: str, value: object) -> bool:
    """Return whether a value is a list of objects of which nothing is known: they could be completions."""
    return (
        isinstance(value, list)
        and any(isinstance(item, Mapping) for item in value)
        and key not in KNOWN_LISTS
    )


# --- A prompt ----------------------------------------------------------------------------------------------------


def _fits_prompt(record: Record) -> bool:
    prompt = record.get("prompt")
    is_prompt = (isinstance(prompt, str) and bool(prompt)) or is_chat(prompt)
    return is_prompt and not says_preference(record)


def _read_prompt(record: Record) -> Candidate:
    record = fields.read_cells(record, "prompt")
    prompt = fields.with_system(read_content(record["prompt"], "prompt"), record)
    return fields.candidate(record, ("prompt", *fields.SYSTEM), prompt)


PROMPT = Format("prompts", noop("Prompts"), PROMPTS, _fits_prompt, _read_prompt)


# --- A chat ------------------------------------------------------------------------------------------------------


def _chat_key(record: Record) -> str:
    found = [key for key in ("messages", "conversations", "conversation") if is_chat(record.get(key))]
    return found[0] if len(found) == 1 else ""


def _fits_chat(record: Record) -> bool:
    return bool(_chat_key(record)) and "prompt" not in record and not says_preference(record)


def _read_chat(record: Record) -> Candidate:
    """Return a chat up to the assistant's last answer as the prompt, and that answer as metadata."""
    key = _chat_key(record)
    chat = read_chat(record[key], key)
    metadata = fields.rest(record, key, "id", *fields.SYSTEM, fields.TOOLS) or {}
    place = len(chat)
    while place > 1 and chat[place - 1]["role"] == "assistant":
        place -= 1
    if place < len(chat):
        metadata["answer"] = chat[place:]
    prompt = fields.with_system(chat[:place], record)
    return fields.candidate(record, (), prompt, metadata=metadata or None)


CHAT = Format("chats", noop("Chats"), PROMPTS, _fits_chat, _read_chat)


# --- An instruction ----------------------------------------------------------------------------------------------


def _fits_instruction(record: Record) -> bool:
    is_instruction = fields.has_texts(record, "instruction") and "prompt" not in record
    return (
        is_instruction
        and (isinstance(record.get("input", ""), str) or record["input"] is None)
        and not says_preference(record)
    )


def _read_instruction(record: Record) -> Candidate:
    prompt = fields.with_system(fields.join(record["instruction"], record.get("input")), record)
    return fields.candidate(record, ("instruction", "input", *fields.SYSTEM), prompt)


ALPACA = Format("alpaca", noop("Instructions (Alpaca)"), PROMPTS, _fits_instruction, _read_instruction)
