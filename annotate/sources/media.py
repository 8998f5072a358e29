"""Images, sound and video of records: what is written into a chat stays, and what is referred to cannot be taken."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _

from annotate.sources.candidates import Content, Message
from annotate.sources.messages import as_chat

INLINE = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,", re.IGNORECASE)
# Types of parts that are not media.
CALLS = ("tool_use", "tool_result", "thinking", "redacted_thinking", "reasoning", "refusal")
IMAGES = ("images", "image")  # the keys of images that belong to the prompt
TAG = "<image>"  # where an image stands in a text
KINDS = ("images", "image", "videos", "video", "audios", "audio")
KEYS = frozenset(f"{side}{kind}" for side in ("", "chosen_", "rejected_") for kind in KINDS)


def find_losses(record: Mapping[str, Any], *contents: Content) -> tuple[str, ...]:
    """Return what of a record cannot be taken: media that are not inside it, as sentences."""
    lost = [part for content in contents for part in _parts(content) if _is_lost(part)]
    others = {
        str(part["type"]): None for part in lost if isinstance(part, Mapping) and part.get("type") in CALLS
    }
    if others:
        return (_("Parts of a message of the type “%(type)s” are not taken") % {"type": next(iter(others))},)
    if lost or any(record[key] for key in KEYS & record.keys()):
        return (
            _("Images, sound and video are taken only where they are written into the text as data URIs"),
        )
    return ()


def name_media(content: Content) -> Content:
    """Return a content with the address of each medium that cannot be taken as text in its place."""
    if not any(_is_lost(part) for part in _parts(content)):
        return content
    return [
        {**message, "content": [_named(part) for part in message["content"]]}
        if isinstance(message.get("content"), list)
        else message
        for message in as_chat(content)
    ]


def inline_images(record: Mapping[str, Any]) -> list[str]:
    """Return the images of a record as data URIs: all of them, or none where one is not inside the record."""
    found: list[str] = []
    for listed in (record[key] for key in IMAGES if record.get(key)):
        images = map(_address, listed if isinstance(listed, list) else [listed])
        found += [address for address in images if address not in found]
    return found if all(INLINE.match(address) for address in found) else []


def place_images(prompt: Content, images: list[str]) -> Content:
    """Return a prompt with its images where its tags and empty parts are, the rest before the user's first words."""
    waiting = iter(images)
    chat = [_filled(message, waiting) for message in as_chat(prompt)]
    if rest := [_image(address) for address in waiting]:
        first = next((place for place, message in enumerate(chat) if message["role"] == "user"), 0)
        content = chat[first].get("content")
        said = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
        chat[first] = {**chat[first], "content": [*rest, *said]}
    return chat


def _filled(message: Message, waiting: Iterator[str]) -> Message:
    content = message.get("content")
    if isinstance(content, str) and TAG in content:
        content = _split(content)
    if not isinstance(content, list):
        return message
    empty = ({"type": "image"}, {"type": "image_url"})
    parts = [
        _image(address) if part in empty and (address := next(waiting, "")) else part for part in content
    ]
    left_over = [{"type": "text", "text": TAG} if part in empty else part for part in parts]
    return {**message, "content": left_over}


def _split(text: str) -> list[dict[str, Any]]:
    """Return a text as parts, with an empty one for each tag."""
    parts: list[dict[str, Any]] = []
    for number, piece in enumerate(text.split(TAG)):
        parts += [{"type": "image"}] if number else []
        parts += [{"type": "text", "text": piece}] if piece else []
    return parts


def _image(address: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": address}}


def _parts(content: Content) -> Iterator[Any]:
    for message in content if isinstance(content, list) else ():
        if isinstance(message.get("content"), list):
            yield from message["content"]


def _is_lost(part: object) -> bool:
    return not isinstance(part, Mapping) or (part.get("type") != "text" and not INLINE.match(_address(part)))


def _address(part: object) -> str:
    """Return the address in an image or a part; empty if there is none."""
    if isinstance(part, Mapping):
        keys = ("image_url", "url", "image", "bytes", "path", "video_url", "audio_url", "video", "audio")
        return _address(next((part[key] for key in keys if part.get(key)), None))
    return part if isinstance(part, str) else ""


def _named(part: Any) -> Any:
    if not _is_lost(part):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    return {"type": "text", "text": f"[{kind or 'part'}: {_address(part)}]".replace(": ]", "]")}
