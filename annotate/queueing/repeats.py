"""Repeats: the same two completions again, for the same annotator, to measure self-consistency."""

from django.db.models import Exists, OuterRef

from annotate.models import Comparison, Judgment, Project, User

APART = 20  # judgments between a comparison and its repeat, so that no annotator repeats from memory


def make_repeat(project: Project, annotator: User) -> Comparison | None:
    """Reserve one of this person's earlier comparisons for them a second time; None if there is none to repeat.

    The sides are drawn again when it is claimed, so they are swapped half of the time.
    """
    repeated = Comparison.objects.filter(repeat_of=OuterRef("comparison"), reserved_for=annotator)
    earlier = (
        Judgment.objects.filter(project=project, annotator=annotator)
        .current()
        .opinions()
        .filter(~Exists(repeated), comparison__kind=Comparison.Kind.STANDARD, comparison__withdrawn_at=None)
        .select_related("comparison")
        .order_by("-pk")[APART : APART + 1]
    )
    for judgment in earlier:
        original = judgment.comparison
        repeat, _ = Comparison.objects.get_or_create(
            repeat_of=original,
            reserved_for=annotator,
            kind=Comparison.Kind.REPEAT,
            defaults={
                "project": project,
                "prompt_id": original.prompt_id,
                "first_id": original.first_id,
                "second_id": original.second_id,
                "batch": original.batch,
                "metadata": original.metadata,  # what is shown beside a comparison must not tell the two apart
            },
        )
        return repeat
    return None
