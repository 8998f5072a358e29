"""Chats as a model reads them, and as it would have written them.

What a completion adds to its prompt is taken from the rendering of the finished turn: the chat template often writes
something between its generation prompt and the answer (a blank, an empty thinking block, a header), or between the
answer and the end of the turn.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from transformers.utils import chat_template_utils

from training.engine.data.markers import ChatRefusedError, Markers
from training.engine.data.messages import (
    THOUGHTS,
    THOUGHTS_END,
    check_said,
    in_parts,
    is_prefilled,
    is_thinking,
    is_told,
    list_json_arguments,
    list_last_called,
    list_reasoning,
    list_told,
    quote,
    split_thoughts,
    swap_arguments,
)
from training.engine.errors import DataError, ModelError, first_line
from training.engine.machine.limits import within
from training.engine.records import Message, TrainingCompletion

_TEMPLATE_SECONDS = 5  # of processor time, for what takes a millisecond
_LONGEST_RENDERED = 1 << 24  # characters
_HERE = "\U000f0002"  # stands behind a text, to tell where it ends in a rendering
_SPEAKERS = ("system", "user", "assistant")  # what a tool returned may be rendered as JSON

Tools = list[dict[str, Any]] | None


class UnmatchedTurnError(ChatRefusedError):
    """The finished turn of a chat does not begin with the template's generation prompt."""


class Ending(NamedTuple):
    """The end of an assistant's turn: its token, if any, and the text that the template writes up to it."""

    id: int | None
    text: str


class Chats:
    """Renders chats with one tokenizer's template."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        eos_ids: frozenset[int],
        template: str | None = None,
        variables: dict[str, Any] | None = None,
        today: str | None = None,
        unmatched_turns: str = "refuse",
        control_tokens_in_text: bool = False,
    ) -> None:
        """`template` and `variables` are the configured ones; `today` is the date that the template is told."""
        self.tokenizer, self.template, self.variables = tokenizer, template, variables or {}
        self.unmatched_turns = unmatched_turns
        self.ends = {
            token.content: identity
            for identity, token in tokenizer.added_tokens_decoder.items()
            if identity in eos_ids
        }
        self._eos_ids, self._today = eos_ids, today
        own = template or tokenizer.chat_template or ""
        text = own if isinstance(own, str) else "\n".join(own.values())
        self.markers = Markers(tokenizer, text, in_text=control_tokens_in_text)
        self._closing = (*self.ends, *self.markers.special)

    def render(self, messages: Sequence[Message], tools: Tools = None) -> str:
        """Return a chat, with its control tokens marked, up to where the assistant begins or continues to write.

        Raises ChatRefusedError if the template refuses it or leaves out what a message says.
        """
        marked, told = self.markers.mark_chat(messages), self.markers.mark_tools(tools)
        return self._render_prompt(marked, told)

    def hides_tools(self, messages: Sequence[Message], tools: Tools) -> bool:
        """Return whether the template leaves out tools, or the calls and results of tools, of a prompt.

        Raises ChatRefusedError.
        """
        chat, told = self.markers.mark_chat(messages), self.markers.mark_tools(tools)
        said = list(list_told(chat, told or ()))
        rendered = self._render_prompt(chat, told) if said else ""
        return not all(is_told(one, rendered) for one in said)

    def render_turn(
        self, messages: Sequence[Message], tools: Tools, before: str, completion: TrainingCompletion
    ) -> str:
        """Return what `completion` adds to `before`, the rendering of its prompt: up to its end token if it ended.

        Raises UnmatchedTurnError where the finished turn goes another way, unless it is to be appended all the same;
        ChatRefusedError if the template refuses it, or leaves out what it says.
        """
        written = self._message(completion)
        text = str(written.get("content") or "")
        is_text = not written.get("tool_calls") and not list_reasoning(written)
        if is_text and not text.strip():
            return ""
        try:
            return self._finish(messages, tools, before, written, completion.ended)
        except ChatRefusedError:
            if not is_text:
                raise
            # Thoughts that the generation prompt begins and the completion ends are written right behind it.
            behind = _without_repeated_tag(before, text)
            thoughts, closed, _ = behind.partition(THOUGHTS_END)
            is_opened = before.rstrip().endswith(THOUGHTS) and THOUGHTS not in thoughts
            if not (is_opened and closed) and self.unmatched_turns == "refuse":
                raise
            return behind + (self.ending.text if completion.ended else "")

    @cached_property
    def ending(self) -> Ending:
        """The text and token that end an assistant's turn.

        An end that the model's files name, or else the last special token that the template writes there, or else
        how it begins the next turn, or else the tokenizer's end of text.
        """
        tail = self._tail_of_turn
        if found := _first(self.ends, tail):
            return Ending(self.ends[found[1]], tail[: found[0] + len(found[1])])
        if found := _last(self.markers.special, tail):
            identity: int = self.tokenizer.convert_tokens_to_ids(found[1])
            return Ending(identity, tail[: found[0] + len(found[1])])
        following = self._tail({"role": "user", "content": "b"})
        if (found := _first(self.ends, following)) and not following[: found[0]].strip():
            return Ending(self.ends[found[1]], found[1])
        eos: int | None = self.tokenizer.eos_token_id
        eos = eos if eos is not None else min(self._eos_ids, default=None)
        return Ending(eos, "" if eos is None else str(self.tokenizer.convert_ids_to_tokens(eos)))

    def _message(self, completion: TrainingCompletion) -> Message:
        """Return the completion as an assistant's message, without the end token that it may bring as text."""
        text = completion.text
        message = {"role": "assistant", "content": text} if isinstance(text, str) else dict(text[0])
        if message.get("content"):
            ends = [*self.ends, self.ending.text.strip()]
            message["content"] = without_end(str(message["content"]), ends)
        return self.markers.mark_chat([message])[0]

    def _finish(
        self, messages: Sequence[Message], tools: Tools, before: str, written: Message, ended: bool
    ) -> str:
        """Return the text of a turn behind `before`. Raises ChatRefusedError."""
        chat, told = self.markers.mark_chat(messages), self.markers.mark_tools(tools)
        if is_prefilled(messages):
            said = str(chat[-1].get("content") or "") + str(written.get("content") or "")
            chat, written = chat[:-1], chat[-1] | written | {"content": said}
        thinking = is_thinking(written)
        if not ended or thinking:
            if written.get("tool_calls"):
                raise ChatRefusedError("A call of a tool was cut, or thoughts before it do not end.")
            whole = self._render_open([*chat, written], told)
            end = len(whole)
        else:
            whole = self._render_calls([*chat, written], told)
            end = self._end_of_turn(whole, before, written)
        if not whole.startswith(before):
            raise UnmatchedTurnError(
                "The chat template's finished turn does not begin with its generation prompt"
                " (unmatched_turns decides what becomes of it)."
            )
        check_said(written, whole if is_prefilled(messages) else whole[len(before) :])
        text = whole[len(before) : end]
        if not ended or text.endswith(self._closing):
            return text
        if written.get("tool_calls"):
            return text + self._end_of_call([*chat, written], told, whole[:end])
        return text + (self.ending.text if thinking else "")

    def _end_of_turn(self, whole: str, before: str, written: Message) -> int:
        """Return where the turn ends in a finished rendering: behind its end token, or where nothing ends it."""
        called = list_last_called(written)
        answer = "" if called else split_thoughts(written)[-1]
        tail = self._tail_of_turn
        start = len(whole) - len(tail)
        if not (whole.endswith(tail) and whole[:start].rstrip().endswith(answer)):
            first = min(len(before), len(whole))
            places = ((whole.rfind(one, first), len(one)) for one in called or [answer])
            start = max((at + length for at, length in places if at >= 0), default=first)
        if found := _first(self.ends, whole, start):
            return found[0] + len(found[1])
        if found := _last(self.markers.special, whole[start:]):
            return start + found[0] + len(found[1])
        return len(whole.rstrip()) if whole[start:].strip() else start

    def _end_of_call(self, chat: list[Message], tools: Tools, said: str) -> str:
        """Return the end token with which a template begins what a tool returned to the last message; or ""."""
        try:
            more = self._render_calls([*chat, {"role": "tool", "content": "a"}], tools)
        except ChatRefusedError:
            return ""
        found = _first(self.ends, more, len(said)) if more.startswith(said) else None
        if not found or more[len(said) : found[0]].strip():
            return ""
        return more[len(said) : found[0]] + found[1]

    @cached_property
    def _tail_of_turn(self) -> str:
        """Return what the template writes behind the content of a last message; "" if that is unknown."""
        return self._tail()

    def _tail(self, *following: Message) -> str:
        turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _HERE}]
        try:
            return self._apply([*turn, *following], None).rpartition(_HERE)[2]
        except ChatRefusedError:  # it asks for more than a user's turn
            return ""

    def _render_prompt(self, chat: list[Message], tools: Tools) -> str:
        if is_prefilled(chat):
            rendered = self._render_open(chat, tools)
        else:
            last = chat[-1]
            is_empty_turn = last["role"] == "assistant" and not last.get("tool_calls")
            if is_empty_turn and list_reasoning(last):
                raise ChatRefusedError("The prompt ends in thoughts, which cannot be continued.")
            begun = chat[:-1] if is_empty_turn and len(chat) > 1 else chat
            rendered = self._render_calls(begun, tools, add_generation_prompt=True)
        for message in chat:
            said = str(message.get("content") or "").rpartition(THOUGHTS_END)[2].strip()
            if message["role"] in _SPEAKERS and said not in rendered:
                raise ChatRefusedError(f"The chat template leaves out what the {message['role']} says.")
        return rendered

    def _render_open(self, chat: list[Message], tools: Tools) -> str:
        """Return a chat up to the end of its last message, with the blanks there, and nothing that ends it."""
        last = chat[-1]
        text = str(last.get("content") or "")
        # Templates move unfinished thoughts, so these are finished behind the place.
        more = f"\n{THOUGHTS_END}\n\na" if is_thinking(last) else ""
        rendered = self._render_calls([*chat[:-1], last | {"content": text + _HERE + more}], tools)
        said, mark, _ = rendered.rpartition(_HERE)
        if not mark or not all(part in said for part in split_thoughts(last)):
            raise ChatRefusedError("The chat template leaves out what the assistant says.")
        return said

    def _render_calls(self, chat: list[Message], tools: Tools, **how: Any) -> str:
        """Render a chat. Arguments of tool calls come as objects or as JSON: templates want one or the other."""
        try:
            rendered = self._apply(chat, tools, **how)
        except ChatRefusedError:
            other = swap_arguments(chat)
            if other == chat:
                raise
            return self._apply(other, tools, **how)
        if any(quote(one) in rendered for one in list_json_arguments(chat)):  # quoted once too often
            return self._apply(swap_arguments(chat), tools, **how)
        return rendered

    def _apply(self, chat: Sequence[Message], tools: Tools, *, add_generation_prompt: bool = False) -> str:
        """Apply the template. Raises ChatRefusedError if it refuses the chat, DataError if it does too much."""
        if self.template is None and self.tokenizer.chat_template is None:
            raise ModelError(
                "The prompts are chat messages, but the model's tokenizer has no chat template. "
                "Start again with one as chat_template, such as chatml."
            )
        if self._takes_parts:
            chat = [in_parts(message) for message in chat]
        return self._apply_as_given(chat, tools, add_generation_prompt=add_generation_prompt)

    @cached_property
    def _takes_parts(self) -> bool:
        """Return whether the template ignores content that is a string, and renders content in parts."""
        said = {"role": "user", "content": "whetstone"}
        for message in (said, in_parts(said)):
            with suppress(ChatRefusedError):
                if "whetstone" in self._apply_as_given([message], None):
                    return message is not said
        return False

    def _apply_as_given(
        self, chat: Sequence[Message], tools: Tools, *, add_generation_prompt: bool = False
    ) -> str:
        overtime = DataError(f"The chat template takes longer than {_TEMPLATE_SECONDS} s for one prompt.")
        told = {"tools": tools} if tools else {}
        try:
            with within(_TEMPLATE_SECONDS, overtime), _stopped_clock(self._today):
                rendered = self.tokenizer.apply_chat_template(
                    list(chat),
                    chat_template=self.template,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    **(self.variables | told),
                )
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001 - templates are programs that come with the model
            raise ChatRefusedError(
                f"The chat template refused a prompt: {first_line(error).rstrip('.')}."
            ) from None
        if len(rendered) > _LONGEST_RENDERED:
            raise DataError(f"The chat template makes {len(rendered)} characters of one prompt.")
        return str(rendered)


def uses_date(template: Any) -> bool:
    """Return whether a chat template, or one of several, asks for the date."""
    return "strftime_now" in (template if isinstance(template, str) else json.dumps(template))


def without_end(text: str, ends: Sequence[str]) -> str:
    """Return text without the end tokens, and blanks behind them, that it brings at its own end."""
    while True:
        bare = text.rstrip()
        end = next((end for end in ends if end and bare.endswith(end)), None)
        if end is None:
            return text
        text = bare[: -len(end)]


def _without_repeated_tag(before: str, text: str) -> str:
    """Return text without the tag that it begins with, such as `<think>`, where `before` ends with that already."""
    tag = re.search(r"(<[^<>\s]+>|\[[A-Z_]+\])(\s*)\Z", before)
    bare = text.lstrip()
    return bare[len(tag[1]) :].removeprefix(tag[2]) if tag and bare.startswith(tag[1]) else text


def _first(names: Any, text: str, start: int = 0) -> tuple[int, str] | None:
    """Return the first of `names` in a text, the longest of those at one place, and its position."""
    found = [(text.find(name, start), -len(name), name) for name in names if name]
    at, _, name = min((one for one in found if one[0] >= 0), default=(-1, 0, ""))
    return (at, name) if name else None


def _last(names: Any, text: str) -> tuple[int, str] | None:
    """Return the last of `names` in a text, and its position."""
    found = [(text.rfind(name), name) for name in names if name]
    at, name = max((one for one in found if one[0] >= 0), default=(-1, ""))
    return (at, name) if name else None


@contextmanager
def _stopped_clock(today: str | None) -> Iterator[None]:
    """Let the library tell templates the first moment of a day. It gives them no function of ours."""
    if today is None:
        yield
        return
    moment = datetime.fromisoformat(today)

    class Clock:
        @staticmethod
        def now() -> datetime:
            return moment

    library: Any = chat_template_utils
    library.datetime, kept = Clock, library.datetime
    try:
        yield
    finally:
        library.datetime = kept
