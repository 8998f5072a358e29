"""Chats as the field's formats write them, read into one form: a role, content, and what else templates know.

Texts keep their blanks. Calls of tools, results, names, null content and parts of content are kept.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeGuard

from django.utils.translation import gettext as _

from annotate.sources.candidates import Content, Message
from annotate.sources.errors import RecordError
from annotate.text.json_values import JSONError, parse_json
from primitives.text import printable

Chat = list[Message]
Where = tuple[int, str]  # the number of a message, and what its chat is called

SPEAKERS = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "chatgpt", "model", "ai", "bing", "bard"), "assistant"),
    **dict.fromkeys(("tool", "observation", "tool_response", "function_response", "function"), "tool"),
    "system": "system",
    "developer": "developer",
}
CALLERS = ("function_call", "tool_call")  # speakers whose content is the call of a tool, as JSON
CALLED = ("<tool_call>", "</tool_call>")
THOUGHT = re.compile(r"<think>\n.*?\n</think>\n\n", re.DOTALL)  # before a call without these marks
WEIGHTS = ("loss_weight", "loss", "weight")  # what a trainer is told about a message, and no part of the chat
KEYS = ("role", "content", "name", "tool_call_id", "reasoning_content", "tool_calls")  # what templates know
REASONING = ("reasoning", "thinking")  # as others call reasoning_content
PLAIN = {"role", "content"}
TEXT_PARTS = ("text", "input_text", "output_text")  # the latter of OpenAI's responses
MESSAGES = 10_000  # of a chat, so that what compares two chats ends
HUMAN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant|System):[ ]?")
EXTRA_ID = re.compile(r"<extra_id_[01]>(System|User|Assistant)\n")


# --- Chats -------------------------------------------------------------------------------------------------------


def is_chat(value: object) -> bool:
    """Return whether a value looks like a list of messages."""
    return isinstance(value, list) and bool(value) and all(map(is_message, value))


def is_message(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether a value looks like a message of OpenAI's form or of ShareGPT's, or of ColossalChat's between."""
    return isinstance(value, Mapping) and (
        "role" in value or ("from" in value and ("value" in value or "content" in value))
    )


def is_known_chat(value: object) -> bool:
    """Return whether a value is a list of messages of speakers that are known: other objects have a role, too."""
    return is_chat(value) and all(
        isinstance(speaker := message.get("role", message.get("from")), str)
        and (speaker in CALLERS or speaker.lower() in SPEAKERS)
        for message in value  # type: ignore[attr-defined]
    )


def is_answered(value: object) -> bool:
    """Return whether a value looks like a chat that ends with the assistant's message."""
    if not is_chat(value):
        return False
    last = value[-1]  # type: ignore[index]
    speaker = last.get("role", last.get("from"))
    return isinstance(speaker, str) and (speaker in CALLERS or SPEAKERS.get(speaker.lower()) == "assistant")


def read_chat(value: object, name: str) -> Chat:
    """Return the messages of a list of them. Raises RecordError, which calls the list `name`."""
    if not isinstance(value, list) or not value:
        raise RecordError(_("%(name)s must be a list of messages.") % {"name": name}, name)
    if len(value) > MESSAGES:
        raise RecordError(
            _("%(name)s has more than %(limit)s messages.") % {"name": name, "limit": f"{MESSAGES:,}"}, name
        )
    chat: list[dict[str, Any]] = []
    for number, message in enumerate(value, start=1):
        if _is_plain(message):
            chat.append(dict(message))
            continue
        found = _read_message(message, (number, name))
        if chat and _is_call(value[number - 2]) and _is_call(message):
            chat[-1]["tool_calls"] += found["tool_calls"]  # calls at the same time, one a message
        else:
            chat.append(found)
    return list(chat)


def read_content(value: object, name: str) -> str | Chat:
    """Return text as it is, and a message or a list of them as messages. Raises RecordError."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return read_chat([value], name)
    if isinstance(value, list):
        return read_chat(value, name)
    raise RecordError(_("%(name)s must be text or messages.") % {"name": name}, name)


def read_tools(value: object) -> tuple[Mapping[str, Any], ...]:
    """Return the tools that a record describes, as a list or as JSON text. Raises RecordError."""
    if isinstance(value, str) and value.strip():
        value = _parse(value, "tools")
    if value is None or value in ("", []):
        return ()
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise RecordError(_("%(name)s must be a list of objects.") % {"name": "tools"}, "tools")
    return tuple(value)


def read_functions(value: object) -> tuple[Mapping[str, Any], ...]:
    """Return OpenAI's functions, a list or its JSON text, as tools. None where it may be anything else."""
    with suppress(JSONError):
        value = parse_json(value) if isinstance(value, str) and value[:1] == "[" else value
    if not isinstance(value, list) or not all(_is_function(one) for one in value):
        return ()
    return tuple({"type": "function", "function": one} for one in value)


def _is_function(value: object) -> bool:
    return isinstance(value, Mapping) and (
        isinstance(value.get("name"), str)
        and isinstance(value.get("parameters"), Mapping)
        and value.keys() <= {"name", "description", "parameters", "strict"}
    )


def as_chat(content: Content) -> Chat:
    """Return a prompt as messages: text is the user's."""
    return [{"role": "user", "content": content}] if isinstance(content, str) else content


def as_answer(content: str | Chat, name: str) -> Content:
    """Return a completion: its text if that is all it is, or messages that begin with the assistant's."""
    if isinstance(content, str):
        return content
    if not content or content[0]["role"] != "assistant":
        raise RecordError(_("%(name)s must begin with a message of the assistant.") % {"name": name}, name)
    first = content[0]
    if len(content) == 1 and first.keys() == {"role", "content"} and isinstance(first["content"], str):
        return str(first["content"])
    return content


def set_aside(content: Content) -> tuple[Content, list[dict[str, Any]]]:
    """Return messages without keys that no template knows, and those keys, an object for each message."""
    if isinstance(content, str) or all(message.keys() <= {*KEYS} for message in content):
        return content, []
    others = [{key: value for key, value in message.items() if key not in KEYS} for message in content]
    return _bare(content), others


def _bare(chat: Chat) -> Chat:
    return [{key: value for key, value in message.items() if key in KEYS} for message in chat]


# --- Splitting ---------------------------------------------------------------------------------------------------


def split_answer(chat: Chat, name: str) -> tuple[Chat, Content]:
    """Return a chat without its last message, and that message, which must be the assistant's."""
    if len(chat) < 2 or chat[-1]["role"] != "assistant":
        raise RecordError(
            _("%(name)s must end with a message of the assistant, after a prompt.") % {"name": name}, name
        )
    return chat[:-1], as_answer(chat[-1:], name)


def split_chats(chats: Mapping[str, Chat]) -> tuple[Chat, list[Content]]:
    """Return what chats have in common at their beginning, and how each goes on with the assistant's answer.

    `chats` is keyed by the names that errors use.
    """
    first, *others = chats.values()
    bare, *others_bare = map(_bare, chats.values())
    place = min((_common(bare, other) for other in others_bare), default=len(first) - 1)
    while place and (
        first[place - 1]["role"] == "assistant"
        or any(chat[place]["role"] != "assistant" for chat in (first, *others))
    ):
        place -= 1
    if not place:
        raise RecordError(
            _("%(names)s do not begin with the same prompt.") % {"names": ", ".join(chats)}, next(iter(chats))
        )
    return first[:place], [as_answer(chat[place:], name) for name, chat in chats.items()]


def split_texts(first: str, second: str) -> tuple[str, str, str]:
    """Return the beginning that two texts have in common, and how each goes on: TRL's rule, blank for blank.

    A blank at the end of the beginning goes to what follows. Of a text that the other one begins with, the last
    character does.
    """
    place = _common(first, second)
    if place and first[place - 1] == " " and first[place] != second[place]:
        place -= 1
    return first[:place], first[place:], second[place:]


def _common(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Return the place where two sequences begin to differ: at most that of the last item of the shorter one."""
    low, high = 0, max(min(len(first), len(second)) - 1, 0)
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


# --- Transcripts -------------------------------------------------------------------------------------------------


def is_transcript(value: object) -> bool:
    """Return whether a text is a dialogue as Anthropic's HH writes it."""
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def read_transcript(text: str, name: str) -> Chat:
    """Return the messages of “Human: …”, “Assistant: …”. One that is empty at the end is left out."""
    roles = {"Human": "user", "Assistant": "assistant", "System": "system"}
    return _read_marked(text, HUMAN, roles, name, "")


def has_extra_ids(value: object) -> bool:
    """Return whether a text is marked up with NeMo's tags."""
    return isinstance(value, str) and EXTRA_ID.search(value) is not None


def read_extra_ids(text: str, name: str) -> Chat:
    """Return the messages of a text with NeMo's tags. An empty system message is left out."""
    roles = {"System": "system", "User": "user", "Assistant": "assistant"}
    chat = _read_marked(text, EXTRA_ID, roles, name, "\n")
    return [message for message in chat if message["content"].strip() or message["role"] != "system"]


def _read_marked(text: str, mark: re.Pattern[str], roles: Mapping[str, str], name: str, end: str) -> Chat:
    before, *pieces = mark.split(text)
    if before.strip() or not pieces:
        raise RecordError(_("%(name)s is not a dialogue with marked speakers.") % {"name": name}, name)
    chat: Chat = [
        {"role": roles[speaker], "content": said.removesuffix(end)}
        for speaker, said in zip(pieces[::2], pieces[1::2], strict=True)
    ]
    if chat[-1]["role"] == "assistant" and not chat[-1]["content"].strip():
        chat.pop()  # where the answer is to be written
    return chat


# --- One message -------------------------------------------------------------------------------------------------


def _is_plain(message: object) -> bool:
    """Return whether a message is a role and its text: nearly all are, and are read as they are."""
    return (
        isinstance(message, dict)
        and message.keys() == PLAIN
        and type(message["content"]) is str
        and message["role"] in ("user", "assistant", "system")
    )


def _read_message(message: object, where: Where) -> dict[str, Any]:
    if not is_message(message):
        raise RecordError(_("%(where)s must be an object with role and content.") % {"where": _place(where)})
    key = "role" if "role" in message else "from"
    said = "value" if key == "from" and "value" in message else "content"
    speaker = message[key]
    if _is_call(message):
        beside, called = _split_calls(message[said])
        return {"role": "assistant", "content": beside or None, "tool_calls": _read_calls(called, where)}
    role = SPEAKERS.get(speaker.lower()) if isinstance(speaker, str) else None
    if role is None:
        raise RecordError(
            _("%(where)s has the role “%(role)s”, which is not known.")
            % {"where": _place(where), "role": printable(str(speaker), 40)}
        )
    found: dict[str, Any] = {"role": role}
    if said in message:
        found |= _read_said(message[said], where)
    used = {key, said, *WEIGHTS}
    if isinstance(message.get("function_call"), Mapping):  # as OpenAI wrote calls before there were several
        found["tool_calls"] = _read_calls(message["function_call"], where)
        used.add("function_call")
    for name in REASONING:
        if isinstance(message.get(name), str) and message.get("reasoning_content") is None:
            found["reasoning_content"] = message[name]
            used.add(name)
    return found | {name: value for name, value in message.items() if name not in used and value is not None}


def _place(where: Where) -> str:
    return _("message %(number)s of %(name)s") % {"number": where[0], "name": where[1]}


def _is_call(message: object) -> TypeGuard[Mapping[str, Any]]:
    if not isinstance(message, Mapping):
        return False
    speaker = message.get("role", message.get("from"))
    return isinstance(speaker, str) and speaker in CALLERS and ("content" in message or "value" in message)


def _read_said(content: object, where: Where) -> dict[str, Any]:
    if content is None or isinstance(content, str):
        return {"content": content}
    if not isinstance(content, list) or not all(isinstance(part, Mapping) for part in content):
        raise RecordError(
            _("%(where)s must have text, parts or null as its content.") % {"where": _place(where)}
        )
    if any("value" in part for part in content):
        return _read_values(content, where)
    parts = [_read_part(part) for part in content]
    is_text = len(parts) == 1 and parts[0].keys() == {"type", "text"} and parts[0]["type"] == "text"
    return {"content": parts[0]["text"] if is_text and isinstance(parts[0]["text"], str) else parts}


def _read_part(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part without null. One that is a text and nothing else is of that type, whatever it is called."""
    said = {key: value for key, value in part.items() if value is not None}
    is_text = said.keys() == {"text"} or (said.keys() == {"type", "text"} and said["type"] in TEXT_PARTS)
    return {"type": "text", "text": said["text"]} if is_text else said


def _read_values(parts: list[Mapping[str, Any]], where: Where) -> dict[str, Any]:
    """Return the content of a message of LLaMA-Factory's v1, whose parts have a type and a value."""
    content: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    for part in parts:
        kind, value = part.get("type"), part.get("value")
        if kind == "tool_call":
            found.setdefault("tool_calls", []).extend(_read_calls(value, where))
        elif not isinstance(value, str):
            raise RecordError(_("%(where)s has a part whose value is not text.") % {"where": _place(where)})
        elif kind == "reasoning":
            found["reasoning_content"] = found.get("reasoning_content", "") + value
        elif kind == "text":
            content.append({"type": "text", "text": value})
        else:
            content.append(
                {"type": "image_url", "image_url": {"url": value}} if kind == "image_url" else dict(part)
            )
    if all(part.get("type") == "text" for part in content):
        text = "".join(part["text"] for part in content)
        return {"content": None if found and not content else text, **found}
    return {"content": content, **found}


def _split_calls(value: object) -> tuple[str, object]:
    """Return what stands beside calls, a text or a thought, and the calls: as LLaMA-Factory finds them."""
    if not isinstance(value, str) or _is_json(value):
        return "", value
    before, mark, rest = value.partition(CALLED[0])
    called, end, after = rest.partition(CALLED[1])
    if mark and end:
        return before + after, called
    thought = THOUGHT.match(value)
    return (thought[0], value[thought.end() :]) if thought else ("", value)


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except JSONError:
        return False
    return True


def _read_calls(value: object, where: Where) -> list[dict[str, Any]]:
    calls = _parse(value, _place(where)) if isinstance(value, str) else value
    calls = calls if isinstance(calls, list) else [calls]
    if not calls or not all(
        isinstance(call, Mapping) and isinstance(call.get("name"), str) for call in calls
    ):
        raise RecordError(
            _("%(where)s is not the call of a tool: it has no name.") % {"where": _place(where)}
        )
    return [{"type": "function", "function": dict(call)} for call in calls]


def _parse(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except JSONError as error:
        raise RecordError(f"{where}: {error}") from error
