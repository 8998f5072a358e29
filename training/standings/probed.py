"""The last probe's word on annotators' votes: evidence of how often each of them is right."""

from typing import Any

from annotate.models import Project
from annotate.people.pseudonyms import pseudonym
from primitives.reliability import Check
from training.models import Round

_LOOKED_AT = 10  # rounds, the newest
_LEAST, _MOST = 0.05, 0.95  # its chances are rounded, and it may be wrong where it is sure


def probe_checks(project: Project) -> dict[int, list[Check]]:
    """Return what the newest probe with skill said of each annotator's votes, on prompts that it had not seen."""
    summaries = Round.objects.filter(project=project).order_by("-number").values_list("summary", flat=True)
    checks: dict[str, Any] = next(
        (found for one in summaries[:_LOOKED_AT] if (found := one.get("probe", {}).get("checks"))), {}
    )
    if not checks:
        return {}
    names = {pseudonym(pk): pk for pk in project.judgments.values_list("annotator", flat=True).distinct()}
    return {
        names[name]: [
            Check(min(max(chance, _LEAST), _MOST), times) for chance, times in counts if chance != 0.5
        ]
        for name, counts in checks.items()
        if name in names
    }
