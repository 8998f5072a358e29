"""A prompt as every page shows it: text, or the messages of a chat.

Texts are shown in the chosen view, with the pictures that a message embeds. Instructions, calls of tools, their
results, and whatever else a message holds are boxes that fold, each with its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from annotate.text import rendering
from annotate.text.chats import Content, Part, Turn, read_turns
from annotate.text.images import show_picture
from primitives.json_layout import lay_out

ROLES = {
    "system": gettext_lazy("System"),
    "developer": gettext_lazy("Developer"),
    "user": gettext_lazy("User"),
    "assistant": gettext_lazy("Assistant"),
    "tool": gettext_lazy("Tool"),
}
Show = Callable[[str], SafeString]
INSTRUCTIONS = ("system", "developer")
FOLDED_FROM = 400  # characters of instructions that are folded
LARGE = 4_000  # characters of a call or of its result that is folded where the others are open


@dataclass(frozen=True)
class Block:
    """A part of a message as HTML. One with a `title` is a box that can be folded.

    `as_written` is the text character by character, where `html` shows it indented. `whole` is the text of a box that
    is shown whole.
    """

    html: SafeString
    title: str = ""
    size: str = ""
    is_open: bool = True
    as_written: str = ""
    length: int = 0
    whole: str = ""


@dataclass(frozen=True)
class Message:
    """A message as a page shows it. `title` is its role in words."""

    title: str | Promise
    role: str
    speaker: str
    blocks: list[Block]

    @property
    def is_instruction(self) -> bool:
        return self.role in INSTRUCTIONS


@dataclass(frozen=True)
class Chat:
    """A prompt as a page shows it. `earlier` are the messages before the user's last one, without the instructions."""

    opening: list[Message]
    earlier: list[Message]
    latest: list[Message]
    is_cut: bool

    @property
    def earlier_title(self) -> str:
        count = len(self.earlier)
        return ngettext("%(count)s earlier message", "%(count)s earlier messages", count) % {"count": count}


def show_chat(
    content: Content,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    hosts: Sequence[str] = (),
    raw: bool = False,
) -> Chat:
    """Return a prompt to show. If it is longer than a page shows, its end counts before what was said earlier.

    Images in formatted texts are loaded from `hosts` alone. `tools` are a box before the messages.
    """
    show = rendering.render_raw if raw else partial(rendering.render_markdown, hosts=hosts)
    turns = read_turns(content)
    start = next((at for at, turn in enumerate(turns) if turn.role not in INSTRUCTIONS), len(turns))
    asked = [at for at, turn in enumerate(turns) if turn.role == "user"]
    last = max(asked[-1] if asked else start, start)
    room = rendering.Room()
    latest = _show_turns(turns[last:], room, show)
    opening = _show_turns(turns[:start], room, show)
    opening = [*_show_tools(tools, room), *opening]
    earlier = _show_turns(reversed(turns[start:last]), room, show)[::-1]
    if not raw:
        latest, opening, earlier = (_indent(messages, room) for messages in (latest, opening, earlier))
    return Chat(opening, earlier, latest, room.is_exceeded)


def _show_tools(tools: Sequence[Mapping[str, Any]] | None, room: rendering.Room) -> list[Message]:
    if not tools:
        return []
    text = json.dumps(list(tools), ensure_ascii=False, indent=2)
    return [
        Message(
            "", "", "", [Block(rendering.render_raw(room.take(text)), _("Tools"), _size(text), is_open=False)]
        )
    ]


def show_completion(
    messages: Sequence[dict[str, Any]], *, hosts: Sequence[str] = (), raw: bool = False
) -> tuple[list[Message], bool]:
    """Return the messages of a completion to show, and whether that is not all of it.

    Its calls of tools are open, as they are what is judged, but for large ones.
    """
    show = rendering.render_raw if raw else partial(rendering.render_markdown, hosts=hosts)
    room = rendering.Room()
    shown = _show_turns(read_turns(list(messages)), room, show)
    if not raw:
        shown = _indent(shown, room)
    opened = [
        replace(one, blocks=[replace(block, is_open=block.length < LARGE) for block in one.blocks])
        for one in shown
    ]
    return opened, room.is_exceeded


def _show_turns(turns: Iterable[Turn], room: rendering.Room, show: Show) -> list[Message]:
    return [
        Message(
            ROLES.get(turn.role, rendering.show_name(turn.role)),
            turn.role,
            rendering.show_name(turn.speaker),
            _show_parts(turn, room, show),
        )
        for turn in turns
    ]


def _show_parts(turn: Turn, room: rendering.Room, show: Show) -> list[Block]:
    blocks = []
    for part in turn.parts:
        shown = room.take(part.text)
        if part.image and show is not rendering.render_raw and shown == part.text:
            picture = show_picture(part.image)
            blocks += [Block(picture)] if picture else []
        if part.name:
            blocks.append(_show_box(part, shown))
        elif turn.role in INSTRUCTIONS:
            is_short = len(part.text) < FOLDED_FROM
            blocks.append(Block(show(shown), _("Instructions"), _size(part.text), is_open=is_short))
        else:
            blocks.append(Block(show(shown)))
    return blocks


def _show_box(part: Part, shown: str) -> Block:
    """Return a named part as a box, character by character."""
    return Block(
        rendering.render_raw(shown),
        rendering.show_name(part.name),
        _size(part.text),
        is_open=False,
        length=len(shown),
        whole=shown if shown == part.text else "",
    )


def _indent(messages: list[Message], room: rendering.Room) -> list[Message]:
    """Return messages with the JSON of their boxes indented, in the room that all texts of the page have left."""
    return [
        replace(message, blocks=[_indent_box(block, room) for block in message.blocks])
        for message in messages
    ]


def _indent_box(box: Block, room: rendering.Room) -> Block:
    laid_out = lay_out(box.whole) if room.left else None
    if laid_out is None or not room.take_whole(laid_out):
        return box
    return replace(box, html=rendering.render_raw(laid_out), as_written=box.html, length=len(laid_out))


def _size(text: str) -> str:
    length = len(text)
    return ngettext("%(count)s character", "%(count)s characters", length) % {"count": intcomma(length)}
