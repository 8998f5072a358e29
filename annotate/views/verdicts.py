"""Between the desk's form and a Verdict: sides become completions, by id, and back.

A choice is written as the form knows it: "a3" is "A is much better", then a2, a1, tie, both_bad, b1, b2, b3, skip.
A is the completion that was drawn for the left. A criterion is posted by its name: its place may have changed since
the page was opened.
"""

from collections.abc import Mapping
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _

from annotate.models import Judgment, Project
from annotate.verdicts import JudgingError, Verdict

SIDES = {
    f"{letter}{strength}": (side, strength)
    for letter, side in (("a", "left"), ("b", "right"))
    for strength in (1, 2, 3)
}
CODES = {*SIDES, *Judgment.Verdict.values} - {Judgment.Verdict.PREFER.value}
CRITERION = "criterion-"  # and its name


def read(post: QueryDict, project: Project) -> Verdict:
    """The verdict in a submitted form. Raises JudgingError; what the project does not ask for is left out."""
    return Verdict(**_choice(post.get("verdict", ""), post), **read_notes(post, project))


def read_notes(post: QueryDict, project: Project) -> dict[str, Any]:
    """What the form holds beside the verdict: reasons, criteria and rationale.

    A criterion that the project has no more is not left out: whoever stores the verdict has to refuse it.
    """
    criteria = {
        field.removeprefix(CRITERION): _choice(post.get(field, ""), post)
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
    return read_notes(post, project) | (_choice(given, post) if given in CODES else {})


def entered(post: QueryDict, project: Project) -> dict[str, Any]:
    """What was entered in a form that was refused, to show it again; nothing where it cannot be read."""
    try:
        return read_draft(post, project)
    except JudgingError:
        return {}


def seconds(post: QueryDict) -> float | None:
    """How long the comparison was looked at, as the browser measured it, or None."""
    try:
        return float(post.get("seconds", ""))
    except ValueError:
        return None


def _choice(code: str, post: QueryDict) -> dict[str, Any]:
    if code not in SIDES:
        return {"verdict": code}
    side, strength = SIDES[code]
    try:
        preferred = int(post.get(side, ""))
    except ValueError:
        raise JudgingError(
            _("The page does not say which completion is on which side; reload it."), side
        ) from None
    return {"verdict": Judgment.Verdict.PREFER.value, "preferred_id": preferred, "strength": strength}


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
