"""The pairs that Whetstone exports, and its single ratings."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion, holds_completions
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.whetstone.values import (
    find_left_out,
    has_cells,
    read_flag,
    read_object,
    read_strength,
)
from annotate.sources.messages import as_answer, read_content

SIDES = ("chosen", "rejected")
CHATS = ("prompt", *SIDES)
OF_COMPLETION = ("token_ids", "finish_reason", "seed", "logprob", "sampling")


def _fits_export(record: Record) -> bool:
    return record.keys() >= {
        *CHATS,
        "comparison",
        "prompt_id",
        "votes_chosen",
        "votes_rejected",
        "votes_tie",
        "annotators",
    }


def _read_export(record: Record) -> Candidate:
    if has_cells(record, "annotators"):
        record = fields.read_cells(record, *CHATS)
    answers = []
    sides = _as_seen(record)
    own = read_object(record, "metadata")
    said: list[Mapping[str, Any]] = [{}, {}]  # of the chosen and the rejected completion
    if own and holds_completions(found := own.get("completions")) and any(found):
        said, own = found, {key: value for key, value in own.items() if key != "completions"}
    for side in sides:
        metadata = dict(said[SIDES.index(side)]) | {
            name: value
            for name in OF_COMPLETION
            if (value := fields.cell(record.get(f"{side}_{name}"))) not in (None, "", "{}", {}, "unknown")
        }
        content = as_answer(read_content(record[side], side), side)
        answers.append(Answer(content, fields.name_of(record.get(f"{side}_policy")), metadata))
    return fields.candidate(
        record,
        (),
        read_content(record["prompt"], "prompt"),
        answers,
        _votes(record, sides.index("chosen")),
        external_id=fields.name_of(record.get("external_id")),
        metadata=own,
        prompt_external_id=fields.name_of(record.get("prompt_external_id")),
        prompt_metadata=read_object(record, "prompt_metadata"),
        names=sides,
        left_out=find_left_out(record),
    )


def _as_seen(record: Record) -> tuple[str, ...]:
    """Return the names of the completions in the order in which the first annotator saw them, if that is known.

    A comparison keeps the order of a file that knows sides, which must not tell which of the two is better.
    """
    known = [left for left in _chosen_left(record) if left is not None]
    return SIDES if not known or known[0] else SIDES[::-1]


def _chosen_left(record: Record) -> list[bool | None]:
    """Return whether each annotator saw the chosen completion on the left. Older files do not know who said what."""
    annotators, found = fields.cell(record["annotators"]), fields.cell(record.get("chosen_left"))
    if "verdicts" not in record or not isinstance(annotators, list):
        return []
    if not isinstance(found, list) or len(found) != len(annotators):
        return [None] * len(annotators)
    return [left if isinstance(left, bool) else None for left in found]


def _votes(record: Record, chosen: int) -> Iterator[Opinion]:
    """Yield a vote for each annotator. An older row, of which not all agree, does not say who voted how.

    `chosen` is the place of the completion that is called so.
    """
    counts = [fields.number(record.get(key), key) for key in ("votes_chosen", "votes_rejected", "votes_tie")]
    scores = [fields.chosen(chosen), fields.chosen(1 - chosen), (0.5, 0.5)]
    annotators = fields.cell(record["annotators"])
    if not isinstance(annotators, list) or not annotators:
        raise RecordError(_("%(name)s must be a list.") % {"name": "annotators"}, "annotators")
    if "verdicts" in record:
        known = dict(zip(("chosen", "rejected", "tie"), scores, strict=True))
        for vote, left in zip(_known_votes(record, annotators, known), _chosen_left(record), strict=True):
            yield vote if left is None else vote._replace(left=chosen if left else 1 - chosen)
    elif sum(count > 0 for count in counts) == 1:
        scores_of_all = scores[next(place for place, count in enumerate(counts) if count > 0)]
        for annotator in annotators:
            yield Opinion(scores_of_all, annotator=fields.name_of(annotator))
    else:
        label = fields.number(record.get("label", 1.0), "label")
        yield Opinion((label, 1 - label))


def _known_votes(
    record: Record, annotators: list[object], scores: Mapping[str, tuple[float, ...]]
) -> Iterator[Opinion]:
    """Yield each annotator's vote, with the scores of its verdict."""
    verdicts, strengths = (fields.cell(record.get(key)) for key in ("verdicts", "strengths"))
    if not isinstance(verdicts, list) or len(verdicts) != len(annotators):
        raise RecordError(_("%(name)s must have one for each annotator.") % {"name": "verdicts"}, "verdicts")
    if not isinstance(strengths, list) or len(strengths) != len(annotators):
        strengths = [None] * len(annotators)
    for annotator, verdict, strength in zip(annotators, verdicts, strengths, strict=True):
        known = scores.get(verdict) if isinstance(verdict, str) else None
        yield Opinion(
            known or (),
            "" if known else str(verdict),
            fields.name_of(annotator),
            read_strength({"strength": strength}, "strengths"),
        )


EXPORT = Format(
    "whetstone-pairs", noop("Whetstone: exported pairs"), JUDGED, _fits_export, _read_export, opens_cells=True
)


# --- Single ratings ----------------------------------------------------------------------------------------------


def _fits_kto(record: Record) -> bool:
    return record.keys() >= {"prompt", "completion", "label", "completion_id", "both_bad", "policy"}


def _read_kto(record: Record) -> Candidate:
    if has_cells(record, "label"):
        record = fields.read_cells(record, "completion")
    answer = as_answer(read_content(record["completion"], "completion"), "completion")
    return fields.candidate(
        record,
        (),
        read_content(record["prompt"], "prompt"),
        [Answer(answer, fields.name_of(record["policy"]))],
        [Opinion((1.0 if read_flag(record, "label") else 0.0,))],
        external_id=fields.name_of(record.get("external_id")),
        metadata=read_object(record, "metadata"),
        prompt_external_id=fields.name_of(record.get("prompt_external_id")),
        prompt_metadata=read_object(record, "prompt_metadata"),
        left_out=find_left_out(record),
    )


KTO = Format(
    "whetstone-kto",
    noop("Whetstone: exported single ratings"),
    JUDGED,
    _fits_kto,
    _read_kto,
    opens_cells=True,
)
