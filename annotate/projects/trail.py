"""Write and read the trail. An act and its entry are written in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet

from annotate.models import Project, TrailEntry, User
from primitives.text import make_storable

Verb = TrailEntry.Verb
PAGE = 50
# Entries of an account alone, in no project's trail.
ACCOUNT_VERBS = {Verb.PASSWORD, Verb.TOKEN_MADE, Verb.TOKEN_REVOKED, Verb.EMAIL, Verb.EMAIL_CLEARED}
# What their entries name is a person.
VERBS_OF_PEOPLE = {
    Verb.INVITED, Verb.WITHDRAWN, Verb.ACCEPTED, Verb.DECLINED, Verb.ACCOUNT, Verb.ADDED, Verb.ROLE, Verb.REMOVED,
    Verb.ADMITTED, Verb.LINK_MADE, Verb.LINK_USED,
}  # fmt: skip
# The details that name people, which may be several: whose judgments were exported, who invited, who made a link.
NAMING = ("annotator", "invited_by", "made_by")
BETWEEN_NAMES = ", "


def record(
    verb: Verb,
    by: User | None,
    *,
    project: Project | None = None,
    subject: User | None = None,
    target: object = "",
    **details: Any,
) -> TrailEntry:
    """Add an entry. `by` is None for a command on the server. Without a target, the subject's username is shown."""
    return TrailEntry.objects.create(
        verb=verb,
        who=by,
        who_name=by.username if by else "",
        project=project,
        subject=subject,
        target=make_storable(str(target or subject or ""))[:300],
        details=details,
    )


def rename_people(
    details: Mapping[str, Any],
    names: Mapping[str, str],
    listed: Mapping[str, str],
    *,
    stranger: str | None = None,
) -> dict[str, Any]:
    """Return the details of an entry with people under other names.

    `names` has the new ones of usernames and addresses, `listed` those of all names by which NAMING tells people,
    also as a file calls them: elsewhere such a name may be any word. Whom it does not have stays, or is a `stranger`.
    """
    found: dict[str, Any] = {}
    for key, value in details.items():
        if not isinstance(value, str) or not value:
            found[key] = value
        elif key in NAMING:
            found[key] = _rename_listed(value, listed, stranger)
        else:
            found[key] = names.get(value, value)
    return found


def _rename_listed(text: str, listed: Mapping[str, str], stranger: str | None) -> str:
    """Rename each of the people that a text lists. A name that has a comma itself is found before its parts."""
    parts = text.split(BETWEEN_NAMES)
    longest = 1 + max((name.count(BETWEEN_NAMES) for name in listed), default=0)
    found, at = [], 0
    while at < len(parts):
        sizes = range(min(longest, len(parts) - at), 0, -1)
        size = next((size for size in sizes if BETWEEN_NAMES.join(parts[at : at + size]) in listed), 1)
        name = BETWEEN_NAMES.join(parts[at : at + size])
        found.append(listed.get(name, name if stranger is None else stranger))
        at += size
    return BETWEEN_NAMES.join(found)


@dataclass(frozen=True)
class Page:
    """Entries, newest first. `older` is where the next page starts, or None at the end."""

    entries: list[TrailEntry]
    older: int | None


def browse(project: Project, *, person: str = "", verb: str = "", before: int | None = None) -> Page:
    """Return a page of the project's trail."""
    return _page(find(project, person=person, verb=verb), before)


def find(project: Project, *, person: str = "", verb: str = "") -> QuerySet[TrailEntry]:
    """Return the entries of the project's trail: what `person` (a username) did or had done to them."""
    entries = TrailEntry.objects.filter(project=project)
    if person:
        entries = entries.filter(Q(who_name=person) | Q(target=person, verb__in=VERBS_OF_PEOPLE))
    if verb:
        entries = entries.filter(verb=verb)
    return entries


def browse_account(person: User, before: int | None = None) -> Page:
    """Return what happened to this person's account: its tokens, password links and invitations."""
    own = TrailEntry.objects.filter(Q(who=person, project=None) | Q(subject=person))
    return _page(own.select_related("project"), before)


def list_people(project: Project) -> list[str]:
    """Return the usernames in the project's trail, for its filter."""
    entries = TrailEntry.objects.filter(project=project).order_by()
    acting = entries.exclude(who_name="").values_list("who_name", flat=True)
    affected = entries.filter(verb__in=VERBS_OF_PEOPLE).values_list("target", flat=True)
    return sorted({*acting.distinct(), *affected.distinct()})


def parse_key(text: str) -> int | None:
    """Return where a page starts, as its address says, or None for the newest."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _page(entries: QuerySet[TrailEntry], before: int | None) -> Page:
    if before is not None:
        entries = entries.filter(pk__lt=before)
    found = list(entries.order_by("-pk")[: PAGE + 1])
    return Page(found[:PAGE], older=found[PAGE - 1].pk if len(found) > PAGE else None)
