"""Between the desk's form and a Verdict.

A choice is posted by its code (`judgments/scale.py`): pages name completions by their side alone, since ids would tell
which policy wrote what. Reasons and criteria are posted by key: their titles and places may have changed since the page
was opened.
"""

from math import isfinite
from typing import Any

from django.http import QueryDict

from annotate.judgments.scale import CHOICES
from annotate.judgments.verdicts import CRITERION, RATIONALE, REASON, Verdict, name_shown
from annotate.models import Project

OLDEST = 10 * 365 * 24 * 3600.0  # seconds


def read(post: QueryDict, project: Project) -> Verdict:
    """Return the verdict in a submitted form."""
    return Verdict(**_fields(post.get("verdict", "")), **read_notes(post), asked=_asked(post, project))


def _asked(post: QueryDict, project: Project) -> frozenset[str]:
    """Return what the form asked about. One that does not say was made by hand: it asks what the project does."""
    if "asked" in post:
        return frozenset(post.getlist("asked"))
    names = [REASON + one.key for one in project.all_reasons if not one.is_removed]
    names += [REASON + key for key in post.getlist("reasons")]
    names += [CRITERION + one.key for one in project.all_criteria if not one.is_removed]
    names += [field for field in post if field.startswith(CRITERION)]
    return frozenset(names + [RATIONALE] * (project.ask_rationale or RATIONALE in post))


def read_notes(post: QueryDict) -> dict[str, Any]:
    """Return what the form holds beside the verdict: reasons, criteria and rationale.

    Notes that the project no longer asks for are kept: its annotator entered them.
    """
    criteria = {
        field.removeprefix(CRITERION): _fields(post.get(field, ""))
        for field in post
        if field.startswith(CRITERION) and post.get(field)
    }
    return {
        "reasons": post.getlist("reasons"),
        "criteria": criteria,
        "rationale": post.get("rationale", ""),
    }


def read_draft(post: QueryDict, was: str = "") -> dict[str, Any]:
    """Return what was entered so far: the notes, and the verdict if there is one (an undo restores the last one).

    `was` is the restored verdict of a form that posts another act.
    """
    given = was or post.get("verdict", "")
    return read_notes(post) | (_fields(given) if given in CHOICES else {})


def entered(post: QueryDict, shown: tuple[int, int]) -> dict[str, Any]:
    """Return what was entered in a form that was refused, to show it again."""
    return name_shown(read_draft(post), shown)


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
