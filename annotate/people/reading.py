"""A member's reading: the view of texts that they chose, and the guidelines that they have seen."""

import hashlib

from annotate.models import Membership, Project, TextView


def choose_view(membership: Membership, view: str) -> None:
    """Remember the view that a member asks for, here and on every device. Anything else is ignored."""
    if view in TextView.values and view != membership.view:
        membership.view = view
        Membership.objects.filter(pk=membership.pk).update(view=view)


def view_of(membership: Membership) -> str:
    """Return the view that a member chose last, else the project's."""
    return membership.view or membership.project.default_view


def has_unread_guidelines(membership: Membership) -> bool:
    """Return whether the project has guidelines that this member was not shown in their present wording."""
    version = _version(membership.project)
    return bool(version) and version != membership.guidelines_read


def mark_guidelines_read(membership: Membership) -> None:
    membership.guidelines_read = _version(membership.project)
    Membership.objects.filter(pk=membership.pk).update(guidelines_read=membership.guidelines_read)


def _version(project: Project) -> str:
    text = project.guidelines.strip()
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else ""
