"""Prompts alone: text, chats, instructions. A record that holds a preference is never one of these."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate
from annotate.sources.formats import fields
from annotate.sources.formats.format import PROMPTS, Format, Record
from annotate.sources.formats.signs import FOREIGN_NOUN, says_foreign, stand_beside
from annotate.sources.formats.views import is_list_of_texts, open_cells
from annotate.sources.messages import (
    is_answered,
    is_chat,
    is_message,
    read_chat,
    read_content,
    read_functions,
)

Look = Callable[[str], object]
NOUN = r"(?<![a-z])(answer|response|output|completion|generation|summary|repl(?:y|ie)|candidate|model|text)"


def _part(pattern: str) -> Look:
    return re.compile(pattern, re.IGNORECASE).search


def _whole(pattern: str) -> Look:
    return re.compile(pattern, re.IGNORECASE).fullmatch


# The signs in a key that a record is about completions. A plain prompt would lose what it says of them.
SIGNS: dict[str, Look] = {
    # It says which is better, whatever stands beside it, or is one of several completions.
    "preference": _part(
        "chosen|reject|prefer|better|worse|winner|loser|rank|rating|score|judg|vote|annotat|label|gold|verdict|kto"
        "|helpful|harmless|honest|desirable"
        "|(?<![a-z])(good|bad|pos|positive|neg|negative|win|lose|accepted|safe|unsafe|thumbs?|feedback|upvotes?"
        "|y[-_ ]?[wl])(?![a-z]|[-_ ]prompt)"
        rf"|{NOUN}(s$|[-_ ]?([0-9]|[abjkwl]$))|{FOREIGN_NOUN}[-_ ]*[0-9a-d]$"
    ),
    # It rates a completion beside it: the reward of a trainer's log, and what a reader flagged or liked.
    "rating": _whole("rewards?|advantages?|flag|(.*[-_ ])?(dis)?liked"),
    # In an object, it names the better completion, or the worse one, where there is a completion.
    "name": _whole(
        r"(.*[-_ ])?(chosen|rejected|winner|loser|(dis)?preferred|preference|verdict|better|worse)"
        r"([-_ ](answer|response|output|completion|model|option|text|index|idx|id))?"
    ),
    # Such a name under which a text is the completion itself. Of the second, one of several words or one beside its
    # counterpart is. Of the third, two of several words are.
    "held": _whole(
        ".*(chosen|rejected|winner|loser|preferred|better|worse)[-_ ](answer|response|output|completion|text)"
    ),
    "held of words": _whole("(.*[-_ ])?(chosen|rejected)"),
    "held of two": _whole("(.*[-_ ])?(chosen|rejected|winner|loser|(dis)?preferred|better|worse)"),
    # Two texts under such keys are completions: “initial_response” and “revised_response”.
    "completion": _whole(
        r"(?!(ref|reference|correct|expected|true|final|target|ground[-_ ]?truth)[-_ ])"
        r"((.*[-_ ])?(response|resp|reply|output|completion|generation|summary|candidate)|.*[-_ ]answer"
        r"|a|b|left|right|old|new|before|after|v?[12]|original|edited|revised|corrected|improved|human|ai|base|tuned)"
    ),
    # These are where they hold several words: “llama-2”, or “response_base”, and not “gpt_version”.
    "completion of words": _whole(
        r"(gpt|chatgpt|claude|llama|gemini|gemma|mistral|mixtral|qwen|vicuna|deepseek|davinci)([-_ .0-9].*)?"
        r"|(response|answer|output|completion|generation|summary|reply)[-_ ].*"
    ),
    # A list of several texts under it is one of completions.
    "list": _part(NOUN),
}
KEY_LENGTH = 200  # characters of a key that are looked at
DEPTH, WIDTH = 3, 50  # of the objects that are looked into
FEW = 0.25  # of the first records
TOOLS = (fields.TOOLS, fields.FUNCTIONS)  # parameters have any names
ASKED = (*fields.PROMPT_KEYS, "context")  # keys of a prompt, which are no completions
CHATS = ("prompt", "messages", "conversations", "conversation")
# Keys of messages that say nothing of which is better. OpenAI's annotations are citations.
OF_MESSAGE = {"role", "content", "from", "value", "weight", "loss", "loss_weight", "annotations"}
KNOWN_LISTS = (
    *("prompt", "messages", "conversations", "conversation", "tools", "images"),
    *("openai_moderation", "detoxify_moderation"),  # of each message, in logs of chats
    "kwargs",  # of each instruction of IFEval
)


def _signs(key: str) -> frozenset[str]:
    """Return the signs in a key."""
    return _read_key(key[:KEY_LENGTH])


@lru_cache(maxsize=1024)
def _read_key(key: str) -> frozenset[str]:
    return frozenset(sign for sign, look in SIGNS.items() if look(key))


def says_preference(record: Record) -> bool:
    """Return whether a key of a record, with anything under it, is about completions or which is better."""
    opened = open_cells(record)
    said = {
        key: opened[key] if opened[key] is value or _says_inside(key, opened[key]) else value
        for key, value in record.items()
        if isinstance(key, str) and value not in (None, "")
    }
    if stand_beside(record) or any(_says_better(key, value) for key, value in said.items()):
        return True
    completions = sum(_is_completion(key, value) for key, value in said.items())
    if completions == 1 and any(_names_better(key, value) for key, value in said.items()):
        return True
    has_answer = completions == 1 or "answer" in said or any(is_answered(said.get(key)) for key in CHATS)
    return completions > 1 or (has_answer and any("rating" in _signs(key) for key in said))


def _says_inside(key: str, value: object) -> bool:
    """Return whether the list or the object in a cell may be about completions. A prompt, or one answer, is a text.

    Lists of texts are looked at in all records together.
    """
    if key in ASKED:
        return False
    if not isinstance(value, list):
        return True
    objects = [item for item in islice(value, WIDTH) if isinstance(item, Mapping)]
    return any(map(_is_about_completions, objects))


def _is_about_completions(item: Mapping[Any, object]) -> bool:
    """Return whether an object in a list holds a completion, or says something of one."""
    plain = OF_MESSAGE if is_message(item) else ()
    inside = {
        key: value for key, value in islice(item.items(), WIDTH) if isinstance(key, str) and key not in plain
    }
    return any(
        "preference" in _signs(key)
        or says_foreign(key, value)
        or _is_completion(key, value)
        or _names_better(key, value)
        or ("name" in _signs(key) and _is_said(_only(value)))
        or ("list" in _signs(key) and _is_of_words(value))
        for key, value in inside.items()
    )


def _says_better(key: str, value: object) -> bool:
    """Return whether a key with its value is about completions, whatever stands beside it."""
    return (
        "preference" in _signs(key)
        or says_foreign(key, value)
        or _is_several(key, value)
        or (key in CHATS and _rates_messages(value))
        or _names_better(key, value, is_alone=True)
    )


def _is_completion(key: str, value: object) -> bool:
    """Return whether a text, or a list of one, may be a completion by its key."""
    text = _only(value)
    signs = _signs(key)
    return isinstance(text, str) and (
        "completion" in signs or ("completion of words" in signs and _is_of_words(text))
    )


def _only(value: object) -> object:
    """Return the one element of a list, and any other value as it is."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _is_of_words(text: object) -> bool:
    return isinstance(text, str) and len(text.split(maxsplit=1)) > 1


def _names_better(key: str, value: object, depth: int = DEPTH, *, is_alone: bool = False) -> bool:
    """Return whether an object, or one in a list, has a key that names the better completion. Of tools none has.

    Where it `is_alone`, without a completion beside it, the object must hold the completion, too.
    """
    if depth == 0 or key in TOOLS or is_chat(value):
        return False
    if isinstance(value, list):
        return any(_names_better("", item, depth - 1, is_alone=is_alone) for item in islice(value, WIDTH))
    if not isinstance(value, Mapping):
        return False
    inside = {name: inner for name, inner in islice(value.items(), WIDTH) if isinstance(name, str)}
    named = [name for name, inner in inside.items() if "name" in _signs(name) and _is_said(_only(inner))]
    if named and (not is_alone or _holds_completion(inside, named)):
        return True
    return any(_names_better(name, inner, depth - 1, is_alone=is_alone) for name, inner in inside.items())


def _holds_completion(inside: Mapping[str, object], named: list[str]) -> bool:
    """Return whether an object holds a completion: the better one or the worse one, or what its names are about."""
    texts = 0
    for name in named:
        signs, value = _signs(name), _only(inside[name])
        if is_chat(value) or is_message(value) or ("held" in signs and isinstance(value, str)):
            return True
        if "held of words" in signs and (_is_of_words(value) or (isinstance(value, str) and len(named) > 1)):
            return True
        texts += "held of two" in signs and _is_of_words(value)
    if texts > 1:
        return True
    return any(
        (_is_of_words(value) and _is_completion(name, value))
        or (isinstance(value, list) and len(value) > 1 and "list" in _signs(name))
        for name, value in inside.items()
        if name not in named
    )


def _is_said(value: object) -> bool:
    """Return whether a value is a name, a number, a text or messages: an object may describe a parameter."""
    return is_chat(value) or is_message(value) or (isinstance(value, str | int | float) and value != "")


def _rates_messages(value: object) -> bool:
    """Return whether a message of a chat holds a rating, or candidates for what it says."""
    return isinstance(value, list) and any(
        key == "candidates" or "preference" in _signs(key) or says_foreign(key, message[key])
        for message in value
        if isinstance(message, Mapping)
        for key in message.keys() - OF_MESSAGE
        if message[key] not in (None, "", []) and isinstance(key, str)
    )


def _is_several(key: str, value: object) -> bool:
    """Return whether a value is a list that could be of completions: of objects, or of texts under such a name."""
    if (
        not isinstance(value, list)
        or key in KNOWN_LISTS
        or (key == fields.FUNCTIONS and read_functions(value))
    ):
        return False
    return any(isinstance(item, Mapping) for item in value) or (len(value) > 1 and "list" in _signs(key))


def _are_one_each(records: Sequence[Record]) -> bool:
    """Return whether few cells hold a list of texts that could be completions: an answer may be such a list."""
    return sum(map(_may_be_several, records)) <= FEW * len(records)


def _may_be_several(record: Record) -> bool:
    return any(
        value is not record[key] and key not in ASKED and is_list_of_texts(value) and _is_several(key, value)
        for key, value in open_cells(record).items()
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


PROMPT = Format(
    "prompts",
    noop("Prompts"),
    PROMPTS,
    _fits_prompt,
    _read_prompt,
    fits_together=_are_one_each,
)


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


CHAT = Format(
    "chats",
    noop("Chats"),
    PROMPTS,
    _fits_chat,
    _read_chat,
    fits_together=_are_one_each,
)


# --- An instruction ----------------------------------------------------------------------------------------------


def _fits_instruction(record: Record) -> bool:
    is_instruction = fields.has_texts(record, "instruction") and "prompt" not in record
    return (
        is_instruction
        and (isinstance(record.get("input", ""), str) or record["input"] is None)
        and not says_preference(record)
    )


def _read_instruction(record: Record) -> Candidate:
    """Return an instruction with its input. Dolly calls the input its context."""
    key = "context" if not record.get("input") and isinstance(record.get("context"), str) else "input"
    prompt = fields.with_system(fields.join(record["instruction"], record.get(key)), record)
    return fields.candidate(record, ("instruction", "input", key, *fields.SYSTEM), prompt)


ALPACA = Format(
    "alpaca",
    noop("Instructions (Alpaca, Dolly)"),
    PROMPTS,
    _fits_instruction,
    _read_instruction,
    fits_together=_are_one_each,
)
