"""An annotator's verdict on a comparison, checked before anything is written."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.judgments.aspects import find_aspect
from annotate.judgments.scale import SIDES
from annotate.models import Aspect, Judgment, Project
from primitives.text import is_storable

RATIONALE_LIMIT = 10_000  # characters
NOTE_LIMIT = 2_000
# The prefix of a reason's or a criterion's key in a form's list of what it asks about.
REASON, CRITERION, RATIONALE = "reason-", "criterion-", "rationale"
NOTE_KEYS = ("reasons", "criteria", "rationale")
DRAFT_KEYS = ("verdict", "preferred_id", "strength", "skip_reason", *NOTE_KEYS)


@dataclass(frozen=True)
class Verdict:
    """One annotator's verdict. `strength` is 1 to 3.

    `preferred_id` is a completion's id, or "a" or "b" for the left and the right one. Annotators know no ids, which
    would tell which policy wrote what. The id is stored (`name_shown`).

    `reasons` are keys. `criteria` maps a criterion's key to {"verdict": "prefer" | "tie" | "both_bad"} with
    `preferred_id` and `strength` for a preference.

    A verdict says nothing of what it was not asked about: a later one leaves that as it was (`revised`). `asked` names
    what was (`REASON` or `CRITERION` before its key, and `RATIONALE`). Without it, what is None was not.
    """

    verdict: str
    preferred_id: int | str | None = None
    strength: int | None = None
    reasons: Sequence[str] | None = None
    criteria: Mapping[str, Mapping[str, Any]] | None = None
    rationale: str | None = None
    skip_reason: str = ""
    asked: frozenset[str] | None = None

    def check(self, project: Project) -> dict[str, Any]:
        """Return the fields of a Judgment, as the project allows them. Raises RefusalError.

        Which completion is preferred is for `name_shown`, once the claim is known.
        """
        return {
            **_choice(self.verdict, self.preferred_id, self.strength, Judgment.Verdict.values, ""),
            "skip_reason": _skip_reason(self.skip_reason, self.verdict),
            "reasons": _reasons([] if self.reasons is None else self.reasons, project.all_reasons),
            "criteria": _criteria({} if self.criteria is None else self.criteria, project.all_criteria),
            "rationale": clean_text("" if self.rationale is None else self.rationale, "rationale"),
        }

    def revised(self, fields: Mapping[str, Any], before: Judgment) -> dict[str, Any]:
        """Return `fields`, which this verdict gives, with what `before` says of everything it was not asked about."""
        reasons = [reason for reason in before.reasons if not self._asks(REASON + reason, self.reasons)]
        criteria = {
            name: said
            for name, said in before.criteria.items()
            if not self._asks(CRITERION + name, self.criteria)
        }
        rationale = fields["rationale"] if self._asks(RATIONALE, self.rationale) else before.rationale
        return {
            **fields,
            # In the order of before, so that the same reasons are the same list.
            "reasons": [reason for reason in before.reasons if reason in {*reasons, *fields["reasons"]}]
            + [reason for reason in fields["reasons"] if reason not in before.reasons],
            "criteria": criteria | fields["criteria"],
            "rationale": rationale,
        }

    def _asks(self, name: str, given: object) -> bool:
        return given is not None if self.asked is None else name in self.asked


def parse_token(token: uuid.UUID | str) -> uuid.UUID:
    """Return the token that a browser sent, as it is stored. Raises RefusalError."""
    try:
        return uuid.UUID(str(token))
    except ValueError:
        raise unknown_token() from None


def unknown_token() -> RefusalError:
    """Return the error for a token that no claim of this person has."""
    return RefusalError(
        _("This comparison was not handed to you. Nothing was stored; reload the page."), "token"
    )


def name_shown(fields: Mapping[str, Any], shown: tuple[int, int]) -> dict[str, Any]:
    """Return `fields` with each preference as the id of one of the two completions `shown`, left and right.

    Raises RefusalError for a preference that is neither.
    """

    def named(said: Mapping[str, Any], field: str) -> dict[str, Any]:
        preferred = said.get("preferred_id")
        if preferred is None:
            return dict(said)
        preferred = dict(zip(SIDES, shown, strict=True)).get(preferred, preferred)
        if preferred not in shown:
            raise RefusalError(_("The preferred completion is not one of the two that were compared."), field)
        return {**said, "preferred_id": preferred}

    resolved = named(fields, "preferred_id")
    if "criteria" in fields:
        criteria = fields["criteria"].items()
        resolved["criteria"] = {criterion: named(said, "criteria") for criterion, said in criteria}
    return resolved


def clean_text(text: object, name: str, *, limit: int = RATIONALE_LIMIT, strip: bool = True) -> str:
    """Return text that the database and everything after it can hold, without space around it. Raises RefusalError."""
    if not isinstance(text, str):
        raise RefusalError(_("%(field)s must be text.") % {"field": name}, name)
    if len(text) > limit:
        raise RefusalError(
            _(
                "The %(field)s has %(count)s characters; at most %(limit)s are kept. Shorten it and send again."
            )
            % {"field": name, "count": f"{len(text):,}", "limit": f"{limit:,}"},
            name,
        )
    if not is_storable(text):
        raise RefusalError(_("The %(field)s holds characters that are not text.") % {"field": name}, name)
    return text.strip() if strip else text


def _choice(
    verdict: object, preferred: object, strength: object, allowed: Sequence[str], criterion: str
) -> dict[str, Any]:
    """Return a choice between two completions; `criterion` names which, or is empty for the verdict itself."""

    def wrong(message: str, name: str) -> RefusalError:
        return RefusalError(
            f"{criterion}: {message}" if criterion else message, "criteria" if criterion else name
        )

    if verdict not in allowed:
        raise wrong(_("Choose one of: %(choices)s.") % {"choices": ", ".join(allowed)}, "verdict")
    if verdict != Judgment.Verdict.PREFER:
        if preferred is not None:
            raise wrong(_("Only a preference names a completion."), "preferred_id")
        if strength is not None:
            raise wrong(_("Only a preference has a strength."), "strength")
    else:
        if type(preferred) is not int and preferred not in SIDES:
            raise wrong(_("Say which completion is better: “a” or “b”."), "preferred_id")
        if type(strength) is not int or strength not in Judgment.Strength.values:
            raise wrong(_("Say how much better it is: 1, 2 or 3."), "strength")
    return {"verdict": str(verdict), "preferred_id": preferred, "strength": strength}


def _skip_reason(reason: object, verdict: str) -> str:
    if not reason:
        return ""
    if verdict != Judgment.Verdict.SKIP:
        raise RefusalError(_("Only a skip has a reason to skip."), "skip_reason")
    if reason not in Judgment.SkipReason.values:
        choices = ", ".join(Judgment.SkipReason.values)
        raise RefusalError(_("Choose one of: %(choices)s.") % {"choices": choices}, "skip_reason")
    return str(reason)


def _reasons(reasons: object, known: Sequence[Aspect]) -> list[str]:
    """Return the keys of the reasons, in the order in which the project has them. Removed ones are kept too."""
    if isinstance(reasons, str) or not isinstance(reasons, Sequence):
        raise RefusalError(_("Reasons must be a list."), "reasons")
    picked = set()
    for reason in reasons:
        found = find_aspect(known, reason)
        if found is None:
            raise RefusalError(_("This project does not know the reason “%s”.") % str(reason)[:80], "reasons")
        picked.add(found.key)
    return [one.key for one in known if one.key in picked]


def _criteria(criteria: object, known: Sequence[Aspect]) -> dict[str, dict[str, Any]]:
    """Return what was said by each criterion's key. Answers to removed criteria are kept too."""
    if not isinstance(criteria, Mapping):
        raise RefusalError(_("Criteria must be a mapping."), "criteria")
    checked = {}
    for name, said in criteria.items():
        found = find_aspect(known, name)
        if found is None:
            raise RefusalError(
                _("This project does not know the criterion “%s”.") % str(name)[:80], "criteria"
            )
        if not isinstance(said, Mapping):
            raise RefusalError(_("%s: say which completion is better.") % found.title, "criteria")
        choice = _choice(
            said.get("verdict"),
            said.get("preferred_id"),
            said.get("strength"),
            Judgment.OPINIONS,
            found.title,
        )
        checked[found.key] = {key: value for key, value in choice.items() if value is not None}
    return checked
