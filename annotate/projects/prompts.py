"""Prompts changed before their first use: corrected, held out from training, or given back to it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.errors import RefusalError
from annotate.models import Project, Prompt, User, prompt_digest
from annotate.models.texts import PromptQuerySet
from annotate.projects import trail
from annotate.text.chats import Content
from primitives.chunks import chunks

KEYS_AT_A_TIME = 5_000  # in one statement, which takes only so many values
HELD_OUT_AT_LEAST = 10  # prompts, or a third of a project that has fewer than thirty

HAS_COMPLETIONS = gettext_lazy(
    "It has completions, which were written for it as it is. Import the corrected one instead."
)


def correct_prompt(
    project: Project, prompt_id: int, content: Content, tools: Sequence[Mapping[str, Any]] | None, by: User
) -> Prompt:
    """Put a corrected prompt in the place of one that has no completions, and return it. The old one is withdrawn.

    It is never changed in its place, as a round may be writing for it at this moment. Raises RefusalError.
    """
    with transaction.atomic():
        # As an import does: of two that write the same prompt, the second sees the first one's.
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        old = Prompt.objects.select_for_update().filter(project=project, pk=prompt_id).first()
        if old is None or not Prompt.objects.unanswered().filter(pk=prompt_id).exists():
            raise RefusalError(str(HAS_COMPLETIONS), "content")
        digest = prompt_digest(content, tools)
        if digest == old.digest:
            return old
        if same := Prompt.objects.filter(project=project, digest=digest).first():
            raise RefusalError(_("Prompt #%(number)d says this already.") % {"number": same.pk}, "content")
        new = Prompt(project=project, external_id=old.external_id, metadata=old.metadata, batch=old.batch)
        new.set_content(content, tools)
        new.save()
        old.withdraw()
        target = f"{old._meta.verbose_name} #{old.pk}"
        trail.record(trail.Verb.CORRECTED, by, project=project, target=target, replaced_by=new.pk)
        return new


def hold_out(project: Project, prompt_id: int, by: User, *, held_out: bool) -> bool:
    """Hold a prompt out from training, or give it back. False if it was so. Raises RefusalError once it was used."""
    prompts = Prompt.objects.filter(project=project, pk=prompt_id)
    with transaction.atomic():
        if prompts.unmeasured().filter(held_out=not held_out).update(held_out=held_out):
            verb = trail.Verb.HELD_OUT if held_out else trail.Verb.GIVEN_BACK
            trail.record(verb, by, project=project, target=f"{Prompt._meta.verbose_name} #{prompt_id}")
            return True
    if prompts.unmeasured().exists():
        return False
    raise RefusalError(
        _("A training or a gate has used it: it stays where it is, so that figures keep their meaning.")
    )


def hold_out_enough(project: Project) -> int:
    """Hold prompts out until there are enough to measure by, if the project holds out any. Return how many.

    Enough is the project's share of its prompts, or HELD_OUT_AT_LEAST (a third of a small project) if that is more.
    """
    if not project.held_out_share:
        return 0
    prompts = project.prompts.for_rounds()
    total = prompts.count()
    enough = max(math.ceil(project.held_out_share * total), min(HELD_OUT_AT_LEAST, total // 3))
    return hold_out_more(project, enough - prompts.filter(held_out=True).count())


def hold_out_more(project: Project, count: int) -> int:
    """Hold out up to `count` more prompts that no training and no gate has used. Return how many there were.

    They are those of the lowest digests, as with `is_held_out`: the choice depends on nothing but the texts.
    """
    free = spare_prompts(project).order_by("digest").values_list("pk", flat=True)
    chosen = list(free[: max(0, count)])
    return sum(
        spare_prompts(project).filter(pk__in=some).update(held_out=True)
        for some in chunks(chosen, KEYS_AT_A_TIME)
    )


def sensible_more(project: Project, wanted: int) -> int:
    """Return how many more prompts to hold out until there are `wanted`, or half of all: training needs the others."""
    prompts = project.prompts.for_rounds()
    return max(0, min(wanted, prompts.count() // 2) - prompts.filter(held_out=True).count())


def spare_prompts(project: Project) -> PromptQuerySet:
    """Return the prompts that may still be held out."""
    return project.prompts.for_rounds().unmeasured().filter(held_out=False)
