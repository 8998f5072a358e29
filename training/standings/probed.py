"""The last probe's word on annotators' votes: evidence of how often each of them is right."""

from collections.abc import Mapping
from typing import Any

from django.db.models import Q

from annotate.models import Moment, Project
from annotate.people.pseudonyms import pseudonym
from primitives.reliability import Check
from training.models import Round

_LOOKED_AT = 10  # rounds, the newest
_LEAST, _MOST = 0.05, 0.95  # its chances are rounded, and it may be wrong where it is sure
OF_PEOPLE = ("checks", "reliability")  # what a probe's report says of each annotator, by pseudonym


def probe_checks(project: Project, at: Moment | None = None) -> dict[int, list[Check]]:
    """Return what the newest probe with skill said of each annotator's votes, on prompts that it had not seen.

    With `at` it is the newest of a round that had ended at that moment.
    """
    ended = Q(finished_at__lte=at.time) if at else Q()
    summaries = (
        Round.objects.filter(ended, project=project).order_by("-number").values_list("summary", flat=True)
    )
    checks: dict[str, Any] = next(
        (found for one in summaries[:_LOOKED_AT] if (found := _find_checks(one))), {}
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


def names_people(report: Any) -> bool:
    """Return whether a probe's report says anything of annotators."""
    return isinstance(report, dict) and any(report.get(part) for part in OF_PEOPLE)


def rename_people(report: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a probe's report with annotators under the names that they have now. Without one, they are left out.

    Raises ValueError for checks that are none.
    """
    found: dict[str, Any] = {}
    for part in OF_PEOPLE:
        told = report.get(part)
        if isinstance(told, dict):
            found[part] = {names[name]: said for name, said in told.items() if name in names}
    for counts in found.get("checks", {}).values():
        for chance, times in counts:
            if not (0 <= chance <= 1 and times >= 0):
                raise ValueError("a check has a chance from 0 to 1")
    return {key: value for key, value in report.items() if key not in OF_PEOPLE} | found


def _find_checks(summary: Any) -> dict[str, Any]:
    """Return the checks in a round's summary. What is none, as an archive may bring, is left out."""
    found = summary
    for name in ("probe", "checks"):
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return {}
    return {
        name: [one for one in counts if _is_check(one)]
        for name, counts in found.items()
        if isinstance(counts, list)
    }


def _is_check(found: Any) -> bool:
    if not isinstance(found, list) or len(found) != 2 or any(isinstance(one, bool) for one in found):
        return False
    chance, times = found
    return (
        isinstance(chance, int | float) and 0 <= chance <= 1 and isinstance(times, int) and 0 <= times < 2**53
    )
