"""Places for people on comparisons that were judged elsewhere: made by an admin, and taken away again.

An imported judgment takes no person's place: a comparison needs one judgment more for each. One that came with its
judgments has no other place, until people are asked too.
"""

from collections.abc import Sequence

from django.db import transaction
from django.db.models import Count, Exists, F, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Greatest, Least

from annotate.models import Claim, Comparison, Judgment, Project
from annotate.models.conflicts import again_on_race, in_parts
from annotate.queueing import queue

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

# Each comparison needs a judgment. A closed one that no judgment is left of is like any other again.
_HAS_JUDGMENTS = Q(judged__gte=1)


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
    """Return those that lack a judgment, even while an annotator holds the place for it."""
    return judged_elsewhere(project, batch).filter(needed__gt=F("judged"))


def count_places(project: Project, batch: str = "") -> dict[str, int]:
    """Return how many comparisons people can be asked about (`to_ask`), and how many wait for them (`asked`)."""
    return {
        "to_ask": without_places(project, batch).count(),
        "asked": waiting_for_people(project, batch).count(),
    }


def ask_people(project: Project, batch: str = "") -> int:
    """Let as many people judge these, too, as the project asks for. Return how many comparisons that opened."""
    # An annotator who looks again at one that was closed keeps their place.
    needed = Greatest(FROM_FILES + project.judgments_needed, F("judged") + F("claimed"))
    return sum(_open(project, some, needed) for some in in_parts(without_places(project, batch)))


def ask_no_more(project: Project, batch: str = "") -> int:
    """Hand these out no more. Return how many comparisons that closed. What people judged of them stays.

    They are taken back from those who hold them. Otherwise each claim that ends without a verdict would hand its
    comparison out again.
    """
    return sum(_close(project, some) for some in in_parts(waiting_for_people(project, batch)))


def give_up_place(judgment: Judgment) -> None:
    """Let a closed comparison need no more than it has, once a person took this judgment of it back.

    Another annotator would be asked otherwise. One that people are asked about keeps its places.
    """
    if judgment.verdict == Judgment.Verdict.SKIP:
        return
    places = F("needed") if judgment.late else F("needed") - 1  # a late judgment came on top of the places
    closed = Comparison.objects.filter(pk=judgment.comparison_id, closed_to_people=True)
    closed.update(needed=Greatest(Least(places, F("judged")), 1), closed_to_people=_HAS_JUDGMENTS)


def close_again(comparisons: Sequence[int]) -> None:
    """Let closed ones of these comparisons need no more than they have, once judgments of them are gone for good."""
    closed = Comparison.objects.filter(pk__in=comparisons, closed_to_people=True)
    closed.update(needed=Greatest(Least(F("needed"), F("judged")), 1), closed_to_people=_HAS_JUDGMENTS)


def take_place_again(judgment: Judgment) -> None:
    """Let a closed comparison need one judgment more, once this one is there in the place of one taken back."""
    if judgment.verdict != Judgment.Verdict.SKIP and not judgment.late:
        closed = Comparison.objects.filter(pk=judgment.comparison_id, closed_to_people=True)
        closed.update(needed=F("needed") + 1)


@again_on_race
def _open(project: Project, comparisons: QuerySet[Comparison], needed: Combinable) -> int:
    with transaction.atomic():
        keep_imports_waiting(project)
        return comparisons.update(needed=needed, closed_to_people=False)


@again_on_race
def _close(project: Project, comparisons: QuerySet[Comparison]) -> int:
    with transaction.atomic():
        keep_imports_waiting(project)
        queue.release_all(comparisons)
        return comparisons.update(needed=Greatest("judged", 1), closed_to_people=_HAS_JUDGMENTS)


def keep_imports_waiting(project: Project) -> None:
    """Let imports into the project wait: they count what comparisons need, too."""
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
