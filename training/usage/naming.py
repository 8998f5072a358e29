"""Names of policies, and which of them can write or be trained."""

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.models import Policy, Project, User
from annotate.projects import trail
from primitives.text import printable

LONGEST_NAME = 120


def writers(project: Project) -> QuerySet[Policy]:
    """Return the policies of a project that can write: those with weights, and endpoints."""
    found = Policy.objects.filter(project=project).select_related("project", "endpoint").order_by("pk")
    return found.filter(~Q(kind=Policy.Kind.EXTERNAL) | Q(endpoint__isnull=False))


def has_writer(project: Project) -> bool:
    """Return whether a policy of a project can write. The current one always can."""
    return project.current_policy_id is not None or writers(project).exists()


def has_trainable(project: Project) -> bool:
    """Return whether a round could train from a policy of a project: from one with weights, as the current one has."""
    if project.current_policy_id is not None:
        return True
    return Policy.objects.filter(project=project).exclude(kind=Policy.Kind.EXTERNAL).exists()


def check_name(name: str) -> str:
    """Return a name that a policy can have. Raises RefusalError."""
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME:
        sentence = _("A name has from 1 to %(most)d characters.")
        raise RefusalError(sentence % {"most": LONGEST_NAME}, "name")
    if not name.isprintable():
        raise RefusalError(_("The name holds characters that cannot be seen."), "name")
    return name


def rename(policy: Policy, name: str, by: User | None) -> None:
    """Give a policy another name, and note it in the trail. Raises RefusalError if another one has it."""
    name, old = check_name(name), policy.name
    if name == old:
        return
    if not writers(policy.project).filter(pk=policy.pk).exists():
        raise RefusalError(_("Files name this policy so, and are matched by that name: it keeps it."), "name")
    try:
        with transaction.atomic():
            Policy.objects.filter(pk=policy.pk).update(name=name)
            trail.record(trail.Verb.RENAMED, by, project=policy.project, target=f"policy {name}", before=old)
    except IntegrityError as error:
        sentence = _("Another policy of this project is called “%(name)s”.")
        raise RefusalError(sentence % {"name": printable(name)}, "name") from error
    policy.name = name
