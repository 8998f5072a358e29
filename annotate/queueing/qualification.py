"""A first block of gold comparisons to pass before real work, where a project asks for it.

The result is kept on the membership. Annotators who fail see their score. An admin may let them retry with other
gold, or let them in.
"""

from dataclasses import dataclass

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from annotate.models import Comparison, Judgment, Membership, Project, User


@dataclass(frozen=True)
class Standing:
    """An annotator's progress: `correct` of `judged` gold comparisons, of `size` to judge."""

    size: int
    judged: int
    correct: int
    passed: bool

    @property
    def failed(self) -> bool:
        return not self.passed and self.judged >= self.size


def find_gold_judgments(project: Project) -> QuerySet[Judgment]:
    """Return the verdicts that measure accuracy: the first that each person gave on a gold comparison.

    A changed verdict, or one given after an undo, does not count. Otherwise annotators could try verdicts, and
    look. A skip is not a verdict.
    """
    said = Judgment.objects.all().opinions()
    before = said.filter(
        comparison=OuterRef("comparison"), annotator=OuterRef("annotator"), pk__lt=OuterRef("pk")
    )
    return said.filter(~Exists(before), project=project, comparison__kind=Comparison.Kind.GOLD)


def find_standing(project: Project, annotator: User) -> Standing:
    """Return the annotator's progress. A tie on gold is a wrong verdict."""
    membership = Membership.objects.filter(project=project, user=annotator).first()
    if not project.qualification_size or (membership and membership.qualified_at):
        return Standing(project.qualification_size, 0, 0, passed=True)
    golds = find_gold_judgments(project).filter(annotator=annotator)
    if membership and membership.qualifies_from:
        golds = golds.filter(created_at__gte=membership.qualifies_from)
    counts = golds.aggregate(
        judged=Count("pk"), correct=Count("pk", filter=Q(preferred=F("comparison__gold_preferred")))
    )
    needed = project.qualification_pass * project.qualification_size
    done = counts["judged"] >= project.qualification_size
    return Standing(project.qualification_size, **counts, passed=done and counts["correct"] >= needed)


def admit_if_passed(project: Project, annotator: User) -> Standing:
    """Return the annotator's progress, and record a pass on the membership."""
    found = find_standing(project, annotator)
    if found.passed:
        admit(project, annotator)
    return found


def admit(project: Project, annotator: User) -> None:
    """Let an annotator in, whether or not they passed."""
    waiting = Membership.objects.filter(project=project, user=annotator, qualified_at=None)
    waiting.update(qualified_at=timezone.now())


def try_again(project: Project, annotator: User) -> None:
    """Let a failed annotator retry, with gold that they have not judged."""
    waiting = Membership.objects.filter(project=project, user=annotator, qualified_at=None)
    waiting.update(qualifies_from=timezone.now())
