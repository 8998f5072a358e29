"""Drafts of a verdict, and flags that tell an admin of a problem."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.judgments.verdicts import (
    DRAFT_KEYS,
    NOTE_LIMIT,
    clean_text,
    name_shown,
    parse_token,
    unknown_token,
)
from annotate.models import Claim, Flag, Judgment, Project, User
from annotate.models.comparisons import ClaimQuerySet


def save_draft(project: Project, annotator: User, token: uuid.UUID | str, draft: Mapping[str, Any]) -> bool:
    """Keep what was entered so far, for a reload or another visit. False if the comparison is settled already, or
    is none of `project`.

    `draft` has any of Verdict's fields. Raises RefusalError.
    """
    for name in draft:
        if name not in DRAFT_KEYS:
            raise RefusalError(_("A draft has no field “%s”.") % str(name)[:80], "draft")
    kept = dict(draft)
    if "rationale" in kept:
        kept["rationale"] = clean_text(kept["rationale"], "rationale", strip=False)
    others = clean_text(json.dumps({**kept, "rationale": ""}, ensure_ascii=False), "draft")
    if "\\u0000" in others:
        raise RefusalError(_("The draft holds characters that are not text."), "draft")
    claims = _own_claims(project, annotator, token).unsettled()
    shown = claims.values_list("left", "right").first()
    return shown is not None and claims.update(draft=name_shown(kept, shown)) == 1


def flag(project: Project, annotator: User, token: uuid.UUID | str, note: str = "") -> Flag:
    """Ask an admin to look at a comparison that one was handed. Asking again changes the note.

    A flag may arrive after an undo, which draws another token: the judgment has the one that the page knew.
    """
    judged = Judgment.objects.filter(project=project, annotator=annotator, token=parse_token(token))
    found = _own_claims(project, annotator, token).first() or judged.first()
    if found is None:
        raise unknown_token()
    flagged, _made = Flag.objects.update_or_create(
        comparison_id=found.comparison_id,
        annotator=annotator,
        resolved_at=None,
        defaults={"note": clean_text(note, "note", limit=NOTE_LIMIT)},
    )
    return flagged


def resolve_flag(project: Project, flag_id: int) -> bool:
    """Take an open flag off the list. False if it was resolved already."""
    flags = Flag.objects.open().filter(comparison__project=project, pk=flag_id)
    return flags.update(resolved_at=timezone.now()) == 1


def _own_claims(project: Project, annotator: User, token: uuid.UUID | str) -> ClaimQuerySet:
    return Claim.objects.filter(project=project, annotator=annotator, token=parse_token(token))
