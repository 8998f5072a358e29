"""Images inside texts: verified pictures from data URIs, and remote ones named by their host.

A data URI is a long run of base64 that no person can read. `fold` takes the run out of a text and leaves a digest in
its place. A text is then measured, cut and parsed without it, and two different images still look different. A text
that holds such a digest already is a data URI itself and is folded again, so none can be forged.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Collection, Mapping
from dataclasses import astuple, dataclass
from urllib.parse import urlsplit

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from PIL import Image, UnidentifiedImageError

from annotate.text.hidden_characters import make_visible

PAYLOAD_LIMIT = 4 * 1024 * 1024  # characters of base64 of one image that a page shows
PIXEL_LIMIT = 40_000_000
# Formats that every browser shows, and that run nothing. SVG is a document with scripts.
FORMATS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "GIF": "gif"}
BASE64 = r"(data:[a-z]+/[a-z0-9.+-]+(?:;[a-z0-9-]+=[a-z0-9-]+)*;base64,)"
# A run of base64 that is shorter than a digest hides nothing, and cannot be taken for one.
DATA_URI = re.compile(BASE64 + r"([a-z0-9+/_-]{32,}={0,2})", re.IGNORECASE)
FOLDED = re.compile(BASE64 + r"([0-9a-f]{32})", re.IGNORECASE)

LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
HOST = re.compile(rf"{LABEL}(?:\.{LABEL})+(?::[0-9]{{1,5}})?")
# Errors of Pillow for files that are not what they say, broken, or huge once decoded.
UNREADABLE = (
    *(ValueError, OSError, SyntaxError, MemoryError, UnidentifiedImageError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)

Payloads = Mapping[str, str]  # digest -> base64


@dataclass(frozen=True)
class Picture:
    """An image that can be shown: its address, and its size in pixels."""

    source: str
    width: int
    height: int


def fold(text: str) -> tuple[str, dict[str, str]]:
    """Return `text` with a digest in place of each run of base64 in a data URI, and the runs by their digest."""
    payloads: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        digest = hashlib.blake2b(match[2].encode(), digest_size=16).hexdigest()
        payloads[digest] = match[2]
        return match[1] + digest

    return (DATA_URI.sub(replace, text), payloads) if "base64," in text else (text, payloads)


def unfold(text: str, payloads: Payloads) -> str:
    """Return a folded text, or a part of one, as it was written."""
    return FOLDED.sub(lambda match: match[1] + payloads[match[2]], text) if payloads else text


def hide_payloads(text: str) -> str:
    """Return `text` with an ellipsis in place of each run of base64 in a data URI."""
    return FOLDED.sub(r"\1…", fold(text)[0])


def show_folded(html: str, payloads: Payloads) -> str:
    """Return escaped text with the length and digest of what was folded, in the place of each run of base64."""
    if not payloads:
        return html
    return FOLDED.sub(lambda match: match[1] + _summary(match[2], payloads), html)


def _summary(digest: str, payloads: Payloads) -> str:
    run = payloads.get(digest)
    if run is None:
        return digest
    sentence = ngettext("%(count)s character", "%(count)s characters", len(run)) % {"count": f"{len(run):,}"}
    return format_html('<span class="payload">… {}, {}</span>', sentence, digest[:8])


def show_image(address: str, source: str, payloads: Payloads, hosts: Collection[str]) -> SafeString:
    """Return an image with its source as its caption, or the source and the reason why no image is shown.

    Remote images are loaded from `hosts` alone: any other server could tell by the request who is looking.
    """
    caption = SafeString(show_folded(make_visible(source), payloads))
    host = remote_host(address)
    if folded := FOLDED.fullmatch(address):
        picture = read_picture(payloads.get(folded[2], ""))
        if picture is None:
            image = _held(_("Not a PNG, JPEG, WebP or GIF that can be shown"))
        else:
            image = format_html('<img src="{}" width="{}" height="{}" alt="">', *astuple(picture))
    elif host in hosts and address.startswith("https://"):
        image = format_html('<img src="{}" referrerpolicy="no-referrer" alt="">', address)
    else:
        image = _held(
            _("Image from %(host)s, not loaded") % {"host": host} if host else _("Image, not loaded")
        )
    return format_html('<span class="image">{}<span class="caption">{}</span></span>', image, caption)


def show_picture(address: str) -> SafeString | None:
    """Return the picture of a data URI, or None where it is not one that may be shown."""
    found = DATA_URI.fullmatch(address)
    picture = read_picture(found[2]) if found else None
    if picture is None:
        return None
    image = '<span class="image"><img src="{}" width="{}" height="{}" alt=""></span>'
    return format_html(image, *astuple(picture))


def _held(reason: str) -> SafeString:
    return format_html('<span class="held">{}</span>', reason)


def is_host(name: str) -> bool:
    """Return whether `name` is a host, with or without a port, as a Content-Security-Policy takes it."""
    return HOST.fullmatch(name) is not None


def remote_host(address: str) -> str:
    """Return the host of an address, with its port if it names one. Empty if it has none."""
    try:
        parts = urlsplit(address)
        return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
    except ValueError:
        return ""


def read_picture(payload: str) -> Picture | None:
    """Return the picture that a run of base64 holds, or None where it is not one that may be shown."""
    if not payload or len(payload) > PAYLOAD_LIMIT:
        return None
    try:
        content = base64.b64decode(
            payload, altchars=b"-_" if set(payload) & set("-_") else None, validate=True
        )
        with Image.open(io.BytesIO(content), formats=list(FORMATS)) as image:
            kind, (width, height) = FORMATS[str(image.format)], image.size
            if width * height > PIXEL_LIMIT:
                return None
            image.verify()
    except UNREADABLE:
        return None
    return Picture(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", width, height)
