"""Changes of a project as a whole: make it, change how many judgments it needs, archive it."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, count
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, RestrictedError
from django.db.models.expressions import Combinable
from django.db.models.functions import Greatest
from django.utils import timezone
from django.utils.text import slugify

from annotate.errors import RefusalError
from annotate.judgments.places import FROM_FILES, keep_imports_waiting
from annotate.models import Comparison, Judgment, Membership, Policy, Project, Role, User
from annotate.models.aspects import ASPECT_COLUMNS
from annotate.models.conflicts import again_on_race, in_parts
from annotate.projects import base_models, trail


def free_slug(name: str) -> str:
    """Return a slug for this name that no project has: "Film reviews" -> "film-reviews", "film-reviews-2", ..."""
    stem = slugify(name)[:50] or "project"
    taken = set(Project.objects.filter(slug__startswith=stem).values_list("slug", flat=True))
    slug, number = stem, 2
    while slug in taken:
        slug, number = f"{stem}-{number}", number + 1
    return slug


def create_project(by: User, *, name: str, base_model: str = "", judgments_needed: int = 1) -> Project:
    """Make a project with `by` as its admin and, for a base model, the policy that writes the first samples."""
    with transaction.atomic():
        project = Project.objects.create(slug=free_slug(name), name=name, judgments_needed=judgments_needed)
        Membership.objects.create(project=project, user=by, role=Role.ADMIN)
        trail.record(trail.Verb.CREATED, by, project=project, target=name)
        if base_model:
            start_from(project, base_model)
        return project


def unchecked_base_model(project: Project) -> str:
    """Return the base model's name where only the first samples will show whether the hub has it; else "".

    Models that this machine has are found without asking the hub: the starter model, a folder, a copy from the hub.
    """
    policy = project.current_policy
    if policy is None or not policy.base_model or not may_choose_base_model(project):
        return ""
    name = policy.base_model
    return "" if base_models.locate(name) is None or base_models.is_here(name) else name


def may_choose_base_model(project: Project) -> bool:
    """Return whether the project has no policy yet, or only a base model without completions or successors."""
    current = project.current_policy
    if current is None:
        return True
    used = current.completions.exists() or Policy.objects.filter(parent=current).exists()
    return current.kind == Policy.Kind.BASE and not used


def start_from(project: Project, base_model: str) -> Policy:
    """Make a base model the project's current policy, in the place of one that was never used.

    Never by changing a policy's model: a round that started from it may be writing with it at this moment.
    Raises RefusalError if the model is missing, or not allowed on this site.
    """
    _check_files(project, base_model)
    return _start_from(project, base_model)


def _check_files(project: Project, base_model: str) -> None:
    """Look at the files of a model, before the project is locked, unless it starts from it. Raises RefusalError."""
    now = Project.objects.get(pk=project.pk)
    is_known = now.current_policy is not None and now.current_policy.base_model == base_model
    if is_known and may_choose_base_model(now):
        return
    if base_models.locate(base_model) is None:
        raise RefusalError(base_models.explain_refusal(base_model), "base_model")
    if problem := base_models.files_problem(base_model):
        raise RefusalError(problem, "base_model")


def _start_from(project: Project, base_model: str) -> Policy:
    with transaction.atomic():
        # Locked as a round that starts locks it: no round starts between the look and the change.
        before = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        old, unused = before.current_policy, may_choose_base_model(before)
        if old is not None and unused and old.base_model == base_model:
            return old
        if base_models.locate(base_model) is None:
            raise RefusalError(base_models.explain_refusal(base_model), "base_model")
        name = _free_name(project, base_model)
        policy = Policy.objects.create(
            project=project, name=name, kind=Policy.Kind.BASE, base_model=base_model
        )
        project.current_policy = policy
        project.save(update_fields=["current_policy"])
        if old is not None and unused:
            with suppress(RestrictedError):  # a round started from it
                old.delete()
    return policy


def _free_name(project: Project, base_model: str) -> str:
    """Return a name for a policy of this base model: the last part of its name, or more where that is taken."""
    taken = set(project.policies.values_list("name", flat=True))
    short = base_model.rstrip("/").rsplit("/", 1)[-1][:100]
    names = chain((short, base_model[-100:]), (f"{short} ({number})" for number in count(2)))
    return next(name for name in names if name and name not in taken)


def change_settings(
    project: Project,
    by: User,
    columns: Sequence[str],
    *,
    changed: Sequence[str],
    base_model: str = "",
    apply_needed: bool = False,
) -> None:
    """Store these columns of `project`, and the base model to start from if one is named.

    Other changes of the meantime, as by a promotion, stay. The trail names the settings that were `changed`.
    Comparisons made so far follow if `apply_needed`, in chunks, as annotators judge meanwhile. Saving again
    completes what a crash left. Raises RefusalError, with nothing stored.
    """
    if base_model:
        _check_files(project, base_model)
    with transaction.atomic():
        _keep_aspects(project, columns)
        project.save(update_fields=columns)
        if changed:
            # The trail is the history of the guidelines: each version as it was saved.
            details: dict[str, Any] = {"guidelines": project.guidelines} if "guidelines" in changed else {}
            trail.record(trail.Verb.SETTINGS, by, project=project, target=", ".join(changed), **details)
        if base_model:
            _start_from(project, base_model)
    if apply_needed:
        change_needed(project, project.judgments_needed)


def _keep_aspects(project: Project, columns: Sequence[str]) -> None:
    """Keep reasons and criteria that an import added since the project was read: judgments hold their keys.

    Those that were forgotten with their import since then do not come back.
    """
    changed = [name for name in ASPECT_COLUMNS if name in columns]
    if not changed:
        return
    stored = Project.objects.select_for_update(no_key=True).only(*ASPECT_COLUMNS).get(pk=project.pk)
    for name in changed:
        there = {one["key"]: one for one in getattr(stored, name)}
        here = [one for one in getattr(project, name) if one["key"] in there or not one.get("imported")]
        known = {one["key"] for one in here}
        setattr(project, name, [*here, *(one for key, one in there.items() if key not in known)])


def change_needed(project: Project, needed: int) -> None:
    """Ask for this many judgments of each standard comparison made so far.

    One that has more judgments or live claims already keeps them: it needs what it has. One that was judged elsewhere
    changes only while it waits for people: `judgments.places` opens it for them, and closes it.
    """
    others = Comparison.objects.filter(project=project, kind=Comparison.Kind.STANDARD)
    imported = Judgment.objects.current().exclude(import_batch="").filter(comparison=OuterRef("pk"))
    asked = Q(needed__gt=F("judged")) | ~Exists(imported)
    others = others.filter(asked).exclude(needed=FROM_FILES + needed, closed_to_people=False)
    places = Greatest(FROM_FILES + needed, F("judged") + F("claimed"))
    for some in in_parts(others):
        _ask_for(project, some, places)


@again_on_race
def _ask_for(project: Project, comparisons: QuerySet[Comparison], needed: Combinable) -> None:
    with transaction.atomic():
        keep_imports_waiting(project)  # they bring judgments that `needed` counts
        comparisons.update(needed=needed, closed_to_people=False)


def archive(project: Project) -> None:
    """Put the project away: it hands nothing out and leaves the lists. Nothing is deleted."""
    project.archived_at = timezone.now()
    project.save(update_fields=["archived_at"])


def restore(project: Project) -> None:
    project.archived_at = None
    project.save(update_fields=["archived_at"])
