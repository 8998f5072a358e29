"""Template tags that every page may use: the project's navigation, and rendered model text."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import template
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.template import Context
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from annotate.models import Project, Prompt, Role
from annotate.people.access import ADMINS, JUDGES, READERS
from annotate.text import rendering
from annotate.text.chat_display import Chat, show_chat
from annotate.text.images import hide_payloads
from annotate.text.moments import mark_moment, write_moment

register = template.Library()

# The pages that each role sees in the bar, by URL name. The views check access for themselves.
NAVIGATION = [
    ("judge", _("Judge"), JUDGES),
    ("history", _("My judgments"), {Role.ANNOTATOR}),
    ("me", _("My work"), {Role.ANNOTATOR}),
    ("rounds", _("Rounds"), READERS),
    ("policies", _("Policies"), READERS),
    ("comparisons", _("Comparisons"), READERS),
    ("quality", _("Quality"), READERS),
    ("export", _("Export"), READERS),
    ("members", _("Members"), ADMINS),
    ("settings", _("Settings"), ADMINS),
]
# A page below another one shows where it belongs.
BELONGS_TO = {
    "judgment": "history",
    "round": "rounds",
    "policy": "policies",
    "bring-policy": "policies",
    "comparison": "comparisons",
    "import": "comparisons",
    "snapshots": "export",
    "snapshot": "export",
}


@dataclass(frozen=True)
class NavigationItem:
    label: str
    url: str
    current: bool


@register.simple_tag(takes_context=True)
def navigation(context: Context) -> list[NavigationItem]:
    """Return the current project's pages for the current member: none outside a project.

    Reads the `project` and `membership` of a project's page, and `section` (a URL name) where a page wants to say which
    item is current.
    """
    project, membership = context.get("project"), context.get("membership")
    if not project or not membership:
        return []
    section = context.get("section") or _url_name(context)
    section = BELONGS_TO.get(section, section)
    items = []
    for name, label, roles in NAVIGATION:
        if membership.role not in roles:
            continue
        url = reverse(name, args=[project.slug])
        items.append(NavigationItem(str(label), url, current=name == section))
    return items


def _url_name(context: Context) -> str:
    request: Any = context.get("request")
    match = getattr(request, "resolver_match", None)
    return match.url_name or "" if match else ""


@register.filter
def markdown(text: str, project: Project) -> SafeString:
    """Return untrusted Markdown as clean HTML, cut for display. Images are loaded from the project's hosts alone."""
    return rendering.render_markdown(text, project.image_hosts)


@register.filter
def draft(text: str, project: Project) -> SafeString:
    """Return the text so far of a completion that is being written, as `markdown` shows it."""
    return rendering.render_markdown(text, project.image_hosts, is_draft=True)


@register.filter
def as_written(text: str) -> SafeString:
    """Show a text character by character, with what hides made visible."""
    return rendering.render_raw(text)


@register.filter
def excerpt(text: object, length: int) -> str:
    """Return the beginning of a text for a list, without the base64 of its images."""
    return Truncator(hide_payloads(str(text))).chars(length)


@register.simple_tag
def formatted(prompt: Prompt, project: Project) -> Chat:
    """Return a prompt with its Markdown formatted and its tools, for `annotate/_chat.html`."""
    return show_chat(prompt.content, tools=prompt.tools, hosts=project.image_hosts)


@register.simple_tag
def moment(at: datetime, form: str = "full") -> SafeString:
    """Return a time in the reader's zone: "full", "day", "clock", "seconds", or "ago"."""
    if form != "ago":
        return mark_moment(at, write_moment(at, form))
    return mark_moment(at, naturaltime(at))


SYMBOLS = {"ArrowLeft": "←", "ArrowRight": "→", "ArrowUp": "↑", "ArrowDown": "↓", "Enter": "↵"}


@register.simple_tag
def keycap(key: str) -> SafeString:
    """Return a key as it is printed on the keyboard, for the eye alone: the control's name says what it does."""
    if not key:
        return SafeString("")
    shown = key.upper() if len(key) == 1 else SYMBOLS.get(key, key)
    return format_html('<kbd class="key" aria-hidden="true">{}</kbd>', shown)


@register.filter
def last_digit(number: int) -> str:
    """Return the key of the tenth choice as 0, and of those before it as they are counted."""
    return str(number % 10)


@register.filter(is_safe=True)
def one_line(text: str) -> str:
    """Return text on one line, for an attribute that a template writes on several."""
    return " ".join(text.split())
