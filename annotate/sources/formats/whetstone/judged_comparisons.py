"""Comparisons with every judgment about them, as Whetstone exports them."""

from collections.abc import Mapping
from dataclasses import replace

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate, CriterionOpinion, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.whetstone.pairs_to_judge import COMPLETIONS, read_pair
from annotate.sources.formats.whetstone.values import find_left_out, has_cells, read_strength

ABOUT_COMPARISON = ("held_out", "comparison", "kind", "batch", "arm", "propensity", "split", "judgments")


def _fits_judged(record: Record) -> bool:
    is_pair = fields.has_contents(record, "prompt", *COMPLETIONS)
    return is_pair and fields.are_objects(fields.cell(record.get("judgments")), "annotator", "verdict")


def _read_judged(record: Record) -> Candidate:
    """Return a comparison with each judgment about it."""
    in_cells = has_cells(record, "judgments")
    record = {**record, "judgments": fields.cell(record["judgments"])}
    known = {key: value for key, value in record.items() if key not in ABOUT_COMPARISON}
    if known.get("gold") is None:
        known.pop("gold", None)
    judgments = fields.objects(record, "judgments")
    candidate = read_pair(known, in_cells=in_cells)
    return replace(candidate, opinions=tuple(map(_judgment, judgments)), left_out=find_left_out(record))


def _judgment(judgment: Record) -> Opinion:
    verdict, rationale = judgment["verdict"], judgment.get("rationale")
    scores = {"a": fields.chosen(0), "b": fields.chosen(1), "tie": (0.5, 0.5)}.get(str(verdict), ())
    too_fast, late = (judgment.get(key) for key in ("too_fast", "late"))
    return Opinion(
        scores,
        "" if scores else str(verdict),
        fields.name_of(judgment["annotator"]),
        read_strength(judgment, "strength"),
        rationale if isinstance(rationale, str) else "",
        fields.seconds(judgment.get("seconds")),
        fields.moment(judgment.get("at")),
        left={"a": 0, "b": 1}.get(str(judgment.get("left"))),
        too_fast=too_fast if isinstance(too_fast, bool) else None,
        late=late if isinstance(late, bool) else None,
        reasons=_reasons(judgment),
        criteria=_criteria(judgment),
    )


def _reasons(judgment: Record) -> tuple[str, ...] | None:
    """Return the titles of a judgment's reasons, or None where it says nothing of reasons."""
    found = judgment.get("reasons")
    if found is None or found == "":
        return None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise RecordError(_("%(name)s must be a list of texts.") % {"name": "reasons"}, "reasons")
    return tuple(found)


def _criteria(judgment: Record) -> tuple[CriterionOpinion, ...] | None:
    """Return what a judgment says by criteria, or None where it says nothing of them. Older files name no titles."""
    found, titles = judgment.get("criteria"), judgment.get("criterion_titles")
    if found is None or found == "":
        return None
    if not isinstance(found, Mapping) or not all(isinstance(one, Mapping) for one in found.values()):
        raise RecordError(_("%(name)s must be an object of objects.") % {"name": "criteria"}, "criteria")
    if not isinstance(titles, list) or len(titles) != len(found):
        titles = [""] * len(found)
    return tuple(
        CriterionOpinion(
            key,
            fields.name_of(title),
            str(said.get("verdict")),
            {"a": 0, "b": 1}.get(str(said.get("preferred"))),
            read_strength(said, "criteria"),
        )
        for (key, said), title in zip(found.items(), titles, strict=True)
    )


JUDGED_COMPARISONS = Format(
    "whetstone-judged",
    noop("Whetstone: judged comparisons"),
    JUDGED,
    _fits_judged,
    _read_judged,
    opens_cells=True,
)
