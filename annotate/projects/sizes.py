"""Projects that are too large for one request to read all their judgments."""

from annotate.models import Judgment, Project

LARGE = 20_000  # judgments, from which on what reads them all is better asked for than waited for


def is_large(project: Project) -> bool:
    """Return whether reading all judgments of the project takes more than a moment."""
    return Judgment.objects.filter(project=project).order_by()[LARGE : LARGE + 1].exists()
