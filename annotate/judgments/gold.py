"""Feedback on comparisons with a known verdict."""

from annotate.models import Comparison, Judgment, Project


def find_known_better(project: Project, judgment: Judgment) -> int | None:
    """Return the id of the completion that is known to be better, where the project tells annotators."""
    if project.gold_feedback != Project.GoldFeedback.SHOWN:
        return None
    gold = Comparison.objects.filter(pk=judgment.comparison_id, kind=Comparison.Kind.GOLD)
    return gold.values_list("gold_preferred", flat=True).first()
