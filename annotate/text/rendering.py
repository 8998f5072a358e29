"""Untrusted text made safe to look at, as Markdown or raw.

A model's text may be hostile by accident or on purpose. Texts are cut for display, characters that hide are made
visible, and `markdown_html.py` writes the HTML. A text that would cost too much work is shown raw.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from sys import getsizeof

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language, ngettext

from annotate.text.hidden_characters import find_hidden, make_visible
from annotate.text.images import Payloads, fold, show_folded, unfold
from annotate.text.markdown_html import WorkLimitError, write_html
from annotate.text.reasoning import split_reasoning

DISPLAY_LIMIT = 60_000  # characters of one text that a page shows; the whole text is a link away
MARK_ROOM = 10  # characters that a marked one counts as: its name and tags are longer still
CACHE_SIZE = 32 * 1024 * 1024  # bytes of HTML


def cut(text: str) -> tuple[str, bool]:
    """Return the part of `text` that a page shows, and whether that is not all of it."""
    folded, payloads = fold(text)
    shown, _ = _fit(folded, DISPLAY_LIMIT)
    return unfold(shown, payloads), len(shown) < len(folded)


class Room:
    """The room for text on a page, shared by several texts."""

    def __init__(self) -> None:
        self.left = DISPLAY_LIMIT
        self.is_exceeded = False

    def take(self, text: str) -> str:
        """Return the part of `text` that there is room for. After one that is cut, there is none."""
        folded, payloads = fold(text)
        shown, taken = _fit(folded, self.left)
        if len(shown) < len(folded):
            self.left, self.is_exceeded = 0, True
        else:
            self.left -= taken
        return unfold(shown, payloads)

    def take_whole(self, text: str) -> bool:
        """Return whether there is room for all of `text`, and take it only then."""
        folded, _ = fold(text)
        shown, taken = _fit(folded, self.left)
        if len(shown) < len(folded):
            return False
        self.left -= taken
        return True


def _fit(text: str, room: int) -> tuple[str, int]:
    """Return the beginning of `text` that fits into `room`, and the room that it takes."""
    shown = text[:room]
    marks, end = 0, len(shown)
    for start in find_hidden(shown):
        if start + (marks + 1) * MARK_ROOM >= room:
            end = start
            break
        marks += 1
    end = min(end, room - marks * MARK_ROOM)
    return shown[:end], end + marks * MARK_ROOM


def render_markdown(text: str, hosts: Sequence[str] = (), *, is_draft: bool = False) -> SafeString:
    """Return `text`, cut for display, as clean HTML: the answer first, and the reasoning before it folded away.

    Remote images are loaded from `hosts` alone. A draft is longer when it is shown next, so it is not cached.
    """
    render = _render if is_draft else _rendered
    folded, payloads = fold(text)
    reasoning, answer, is_whole = split_reasoning(folded)
    shown, taken = _fit(answer, DISPLAY_LIMIT)
    html = SafeString("")
    if shown.strip() or not reasoning.strip():
        html = render(shown, payloads, hosts)
    if not reasoning.strip():
        return html
    thoughts, _ = _fit(reasoning, DISPLAY_LIMIT - taken)
    return html + format_html(
        '<details class="reasoning"{}><summary>{}</summary>{}</details>',
        "" if is_whole else SafeString(" open"),
        _reasoning_title(len(unfold(reasoning, payloads)), is_whole),
        render(thoughts, payloads, hosts),
    )


def _reasoning_title(length: int, is_whole: bool) -> str:
    count = {"count": intcomma(length)}
    if is_whole:
        return ngettext("Reasoning, %(count)s character", "Reasoning, %(count)s characters", length) % count
    return (
        ngettext(
            "Reasoning without an end, %(count)s character",
            "Reasoning without an end, %(count)s characters",
            length,
        )
        % count
    )


def _rendered(shown: str, payloads: Payloads, hosts: Sequence[str]) -> SafeString:
    # A completion never changes, so neither does what it renders to.
    key = "\n".join((str(get_language()), " ".join(hosts), shown))
    return CACHE.find(key) or CACHE.keep(key, _render(shown, payloads, hosts))


def _render(shown: str, payloads: Payloads, hosts: Sequence[str]) -> SafeString:
    try:
        return write_html(shown, payloads, hosts)
    except WorkLimitError:
        return _raw(shown, payloads)


def render_raw(text: str) -> SafeString:
    """Return `text`, cut for display, character by character as it is, with what hides made visible."""
    folded, payloads = fold(text)
    shown, _ = _fit(folded, DISPLAY_LIMIT)
    return _raw(shown, payloads)


def _raw(shown: str, payloads: Payloads) -> SafeString:
    # A browser swallows the line break after <pre>; this one is not the text's.
    html = show_folded(make_visible(shown), payloads)
    return mark_safe(f'<pre class="raw-text" dir="auto">\n{html}</pre>')  # noqa: S308 - make_visible() escapes


def show_name(name: str) -> SafeString:
    """Return a name from a text, safe for HTML, with what hides made visible."""
    return mark_safe(make_visible(name))  # noqa: S308 - make_visible() escapes


class HtmlCache:
    """Rendered texts by what they were rendered from: the latest ones, in a bounded number of bytes."""

    def __init__(self, size: int) -> None:
        self.size, self.used = size, 0
        self._found: OrderedDict[bytes, SafeString] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, text: str) -> SafeString | None:
        digest = self._digest(text)
        with self._lock:
            html = self._found.get(digest)
            if html is not None:
                self._found.move_to_end(digest)
        return html

    def keep(self, text: str, html: SafeString) -> SafeString:
        """Store `html` and return it. Evict what was not asked for the longest."""
        digest = self._digest(text)
        with self._lock:
            if digest not in self._found:
                self._found[digest] = html
                self.used += getsizeof(html)
            while self.used > self.size:
                _digest, oldest = self._found.popitem(last=False)
                self.used -= getsizeof(oldest)
        return html

    @staticmethod
    def _digest(text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


CACHE = HtmlCache(CACHE_SIZE)
