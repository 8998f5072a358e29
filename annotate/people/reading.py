"""A member's reading: the view of texts that they chose, and the guidelines that they have seen."""

import hashlib

from annotate.models import Membership, TextView


def choose_view(membership: Membership, view: str) -> None:
    """Remember the view that a member asks for, here and on every device. Anything else is ignored."""
    if view in TextView.values and view != membership.view:
        membership.view = view
        Membership.objects.filter(pk=membership.pk).update(view=view)


def view_of(membership: Membership) -> str:
    """Return the view that a member chose last, else the project's."""
    return membership.view or membership.project.default_view


def version_of(guidelines: str) -> str:
    """Return what tells a wording of the guidelines from all others. There are none to read without one."""
    text = guidelines.strip()
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else ""


def has_unread_guidelines(membership: Membership) -> bool:
    """Return whether the project has guidelines that this member was not shown in their present wording.

    Never in an archived one: no comparison comes after them.
    """
    project = membership.project
    version = version_of(project.guidelines)
    return bool(version) and version != membership.guidelines_read and not project.archived_at


def mark_guidelines_read(membership: Membership, version: str) -> None:
    """Note which guidelines a member has read, unless they were changed meanwhile."""
    if version == version_of(membership.project.guidelines) != membership.guidelines_read:
        membership.guidelines_read = version
        Membership.objects.filter(pk=membership.pk).update(guidelines_read=version)
