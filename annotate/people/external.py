"""Annotators that files name: rows for their judgments to belong to, which are no accounts.

Nobody can be a member, be invited or sign in as one: the database refuses it.
"""

import hashlib
from collections.abc import Iterable

from django.contrib.auth.hashers import make_password
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.models import Project, User

MOST = 20_000  # of a project


def find_or_make(project: Project, names: Iterable[str]) -> dict[str, int]:
    """Return the ids of these annotators of a project's files by name, making those that are missing.

    The project is locked by the caller. Raises RefusalError for more of them than a project may have.
    """
    wanted = set(names)
    known = dict(
        User.objects.filter(imported_into=project, external_name__in=wanted).values_list(
            "external_name", "pk"
        )
    )
    missing = sorted(wanted - known.keys())
    if missing and User.objects.filter(imported_into=project).count() + len(missing) > MOST:
        raise RefusalError(
            _(
                "The project would have more than %(limit)s annotators from files. Import the file without the names "
                "of its annotators."
            )
            % {"limit": f"{MOST:,}"}
        )
    made = User.objects.bulk_create(_annotator(project, name) for name in missing)
    return known | {user.external_name: user.pk for user in made}


def _annotator(project: Project, name: str) -> User:
    """Return a row under a username that no person can choose, as it holds a colon."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return User(
        username=f"imported:{project.pk}:{digest[:32]}",
        password=make_password(None),
        is_active=False,
        imported_into=project,
        external_name=name,
    )
