"""Gold: a comparison is given a known verdict, another one, or none again. Judgments are never changed by it."""

from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from annotate.errors import MissingError, RefusalError
from annotate.models import Comparison, Project, TrailEntry, User
from annotate.projects import trail

Kind, Verb = Comparison.Kind, TrailEntry.Verb
GOLD_VERBS = (Verb.GOLD_MADE, Verb.GOLD_CORRECTED, Verb.GOLD_ENDED)


def set_gold(
    project: Project, by: User | None, comparison_id: int, preferred: int | None, **details: Any
) -> TrailEntry.Verb | None:
    """Make this completion (an id) the better one of a standard or gold comparison, or with None end its being gold.

    Return what was done, or None if it was so already. The trail tells it, with `details`. Raises RefusalError.
    """
    with transaction.atomic():
        comparison = Comparison.objects.select_for_update().filter(project=project, pk=comparison_id).first()
        if comparison is None:
            raise MissingError(_("There is no such comparison in this project."))
        letters = {comparison.first_id: "A", comparison.second_id: "B"}
        if comparison.kind not in (Kind.STANDARD, Kind.GOLD):
            raise RefusalError(
                _("Only a standard comparison can become a gold one. Nothing was changed."), "preferred_id"
            )
        if preferred is not None and preferred not in letters:
            raise RefusalError(_("Choose which completion is the better one."), "preferred_id")
        before = comparison.gold_preferred_id
        if before == preferred:
            return None
        comparison.kind = Kind.STANDARD if preferred is None else Kind.GOLD
        comparison.gold_preferred_id = preferred
        comparison.save(update_fields=["kind", "gold_preferred"])
        verb = (
            Verb.GOLD_MADE
            if before is None
            else Verb.GOLD_ENDED
            if preferred is None
            else Verb.GOLD_CORRECTED
        )
        if preferred is not None:
            details["better"] = letters[preferred]
        if before is not None:
            details["before"] = letters[before]
        trail.record(verb, by, project=project, target=_target(comparison), **details)
        return verb


def gold_history(comparison: Comparison) -> list[TrailEntry]:
    """Return the entries of the trail that tell how the comparison became gold, and what was changed since."""
    entries = TrailEntry.objects.filter(project=comparison.project_id, verb__in=GOLD_VERBS)
    return list(entries.filter(target=_target(comparison)).order_by("-pk"))


def _target(comparison: Comparison) -> str:
    return f"#{comparison.pk}"
