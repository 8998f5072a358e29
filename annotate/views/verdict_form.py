"""Between the desk's form and a Verdict.

A choice is written as the form knows it: "a3" is "A is much better", then a2, a1, tie, both_bad, b1, b2, b3, skip.
A is the completion that was drawn for the left; pages name completions by their side alone, since ids would tell which
policy wrote what. A criterion is posted by its name: its place may have changed since the page was opened.
"""

from collections.abc import Mapping
from typing import Any

from django.http import QueryDict

from annotate.judgments.verdicts import SIDES, Verdict, name_shown
from annotate.models import Judgment, Project

PREFERENCES = {f"{side}{strength}": (side, strength) for side in SIDES for strength in (1, 2, 3)}
CODES = {*PREFERENCES, *Judgment.Verdict.values} - {Judgment.Verdict.PREFER.value}
CRITERION = "criterion-"  # and its name


def read(post: QueryDict, project: Project) -> Verdict:
    """The verdict in a submitted form. Raises JudgingError; what the project does not ask for is left out."""
    return Verdict(**_choice(post.get("verdict", "")), **read_notes(post, project))


def read_notes(post: QueryDict, project: Project) -> dict[str, Any]:
    """What the form holds beside the verdict: reasons, criteria and rationale.

    A criterion that the project has no more is not left out: whoever stores the verdict has to refuse it.
    """
    criteria = {
        field.removeprefix(CRITERION): _choice(post.get(field, ""))
        for field in post
        if field.startswith(CRITERION) and post.get(field)
    }
    return {
        "reasons": post.getlist("reasons") if project.reasons else [],
        "criteria": criteria,
        "rationale": post.get("rationale", "") if project.ask_rationale else "",
    }


def read_draft(post: QueryDict, project: Project) -> dict[str, Any]:
    """What was entered so far: the notes, and the verdict where there is one (an undo brings the last one back)."""
    given = post.get("verdict", "")
    return read_notes(post, project) | (_choice(given) if given in CODES else {})


def entered(post: QueryDict, project: Project, shown: tuple[int, int]) -> dict[str, Any]:
    """Return what was entered in a form that was refused, to show it again."""
    return name_shown(read_draft(post, project), shown)


def seconds(post: QueryDict) -> float | None:
    """How long the comparison was looked at, as the browser measured it, or None."""
    try:
        return float(post.get("seconds", ""))
    except ValueError:
        return None


def _choice(code: str) -> dict[str, Any]:
    if code not in PREFERENCES:
        return {"verdict": code}
    side, strength = PREFERENCES[code]
    return {"verdict": Judgment.Verdict.PREFER.value, "preferred_id": side, "strength": strength}


def code(said: Mapping[str, Any], left_id: int) -> str:
    """The form's word for a choice, such as a judgment's fields or one of its criteria; empty for none."""
    if said.get("verdict") != Judgment.Verdict.PREFER:
        return str(said.get("verdict") or "")
    return f"{'a' if said.get('preferred_id') == left_id else 'b'}{said.get('strength')}"


def judgment_code(judgment: Judgment) -> str:
    return code(
        {"verdict": judgment.verdict, "preferred_id": judgment.preferred_id, "strength": judgment.strength},
        judgment.left_id,
    )
