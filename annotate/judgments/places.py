"""Places for people on comparisons that were judged elsewhere: made by an admin, and taken away again.

An imported judgment takes no person's place: a comparison needs one judgment more for each. One that came with its
judgments has no other place, until people are asked too.
"""

from django.db import transaction
from django.db.models import Count, Exists, F, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Greatest

from annotate.models import Claim, Comparison, Judgment, Project
from annotate.models.conflicts import again_on_race, in_parts

_FROM_FILES = (
    Claim.objects.filter(
        comparison=OuterRef("pk"), annotator__imported_into__isnull=False, state=Claim.State.JUDGED
    )
    .order_by()
    .values("comparison")
    .annotate(count=Count("pk"))
    .values("count")
)
# How many judgments a comparison has from elsewhere.
FROM_FILES = Coalesce(Subquery(_FROM_FILES, output_field=IntegerField()), 0)


def judged_elsewhere(project: Project, batch: str = "") -> QuerySet[Comparison]:
    """Return the standard comparisons in use with judgments from elsewhere, or with those that `batch` brought in."""
    said = Judgment.objects.current().opinions().filter(comparison=OuterRef("pk"))
    said = said.filter(import_batch=batch) if batch else said.exclude(import_batch="")
    kept = Comparison.objects.filter(project=project, kind=Comparison.Kind.STANDARD, withdrawn_at=None)
    return kept.filter(Exists(said))


def without_places(project: Project, batch: str = "") -> QuerySet[Comparison]:
    """Return those that fewer people are asked about than the project asks for."""
    return judged_elsewhere(project, batch).filter(needed__lt=FROM_FILES + project.judgments_needed)


def waiting_for_people(project: Project, batch: str = "") -> QuerySet[Comparison]:
    """Return those that wait for another judgment."""
    return judged_elsewhere(project, batch).filter(needed__gt=F("judged") + F("claimed"))


def count_places(project: Project, batch: str = "") -> dict[str, int]:
    """Return how many comparisons people can be asked about (`to_ask`), and how many wait for them (`asked`)."""
    return {
        "to_ask": without_places(project, batch).count(),
        "asked": waiting_for_people(project, batch).count(),
    }


def ask_people(project: Project, batch: str = "") -> int:
    """Let as many people judge these, too, as the project asks for. Return how many comparisons that opened."""
    return _change(project, without_places(project, batch), FROM_FILES + project.judgments_needed)


def ask_no_more(project: Project, batch: str = "") -> int:
    """Hand these out no more. Return how many comparisons that closed. What people judged of them stays."""
    return _change(project, waiting_for_people(project, batch), Greatest(F("judged") + F("claimed"), 1))


def _change(project: Project, comparisons: QuerySet[Comparison], needed: Combinable) -> int:
    return sum(_change_some(project, some, needed) for some in in_parts(comparisons))


@again_on_race
def _change_some(project: Project, comparisons: QuerySet[Comparison], needed: Combinable) -> int:
    """Set what comparisons need. An import into the project waits meanwhile: it counts what they need, too."""
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        return comparisons.update(needed=needed)
