"""Write and read the trail. An act and its entry are written in one transaction."""

from __future__ import annotations

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
