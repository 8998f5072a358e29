"""Between the desk's form and a Verdict.

A choice is posted by its code (`judgments/scale.py`): pages name completions by their side alone, since ids would tell
which policy wrote what. A criterion is posted by its name: its place may have changed since the page was opened.
"""

from math import isfinite
from typing import Any

from django.http import QueryDict

from annotate.judgments.scale import CHOICES
from annotate.judgments.verdicts import Verdict, name_shown
from annotate.models import Project

CRITERION = "criterion-"  # and its name
OLDEST = 10 * 365 * 24 * 3600.0  # seconds


def read(post: QueryDict, project: Project) -> Verdict:
    """Return the verdict in a submitted form. Raises RefusalError; what the project does not ask for is left out."""
    return Verdict(**_fields(post.get("verdict", "")), **read_notes(post, project))


def read_notes(post: QueryDict, project: Project) -> dict[str, Any]:
    """Return what the form holds beside the verdict: reasons, criteria and rationale.

    A criterion that the project has no more is not left out: the caller that stores the verdict has to refuse it.
    """
    criteria = {
        field.removeprefix(CRITERION): _fields(post.get(field, ""))
        for field in post
        if field.startswith(CRITERION) and post.get(field)
    }
    return {
        "reasons": post.getlist("reasons") if project.reasons else [],
        "criteria": criteria,
        "rationale": post.get("rationale", "") if project.ask_rationale else "",
    }


def read_draft(post: QueryDict, project: Project) -> dict[str, Any]:
    """Return what was entered so far: the notes, and the verdict if there is one (an undo restores the last one)."""
    given = post.get("verdict", "")
    return read_notes(post, project) | (_fields(given) if given in CHOICES else {})


def entered(post: QueryDict, project: Project, shown: tuple[int, int]) -> dict[str, Any]:
    """Return what was entered in a form that was refused, to show it again."""
    return name_shown(read_draft(post, project), shown)


def seconds(post: QueryDict) -> float | None:
    """Return the seconds that the comparison was looked at, as the browser measured it, or None."""
    try:
        return float(post.get("seconds", ""))
    except ValueError:
        return None


def age(post: QueryDict) -> float:
    """Return how many seconds ago the verdict was given, as the browser says: it may have waited to be sent."""
    try:
        given = float(post.get("age", ""))
    except ValueError:
        return 0.0
    return min(max(given, 0.0), OLDEST) if isfinite(given) else 0.0


def _fields(code: str) -> dict[str, Any]:
    """Return a verdict's fields. An unknown code is kept: `Verdict.check` refuses it in words."""
    return CHOICES[code].fields if code in CHOICES else {"verdict": code}
