"""Whetstone's own files: prompts and pairs to judge, and the pairs that it exports."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, CriterionOpinion, Opinion, holds_completions
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import COMPARISONS, JUDGED, Format, Record
from annotate.sources.formats.signs import holds_verdict
from annotate.sources.formats.verdicts import read_verdict
from annotate.sources.messages import as_answer, read_content
from annotate.sources.tables import TableRow, like

# --- Prompts and pairs to judge ----------------------------------------------------------------------------------

COMPLETIONS = ("completion_a", "completion_b")
CONTENTS = ("prompt", *COMPLETIONS)
KEYS = (
    *("prompt", "id", "metadata", *COMPLETIONS, "policy_a", "policy_b", "gold", "tools"),
    *("prompt_external_id", "prompt_metadata", "withdrawn"),
)
SIGNS = {*KEYS} - {"prompt", "id", "metadata", "tools"}  # no other format has these
# Keys under which a word for a side may be a verdict. Under others it may be a grade, a level or a language.
OF_VERDICT = re.compile(
    r"(label|answer|result|human|annotation|evaluation|assessment|comparison|opinion|target|truth"
    r"|(?<![a-z])(pref|gt))s?[-_ ]?[0-9]*$|(annotator|rater|evaluator)s?[-_ ]?[0-9]+$|(annotator|rater|evaluator)s$",
    re.IGNORECASE,
)
# The same for a number, which is plain metadata under “topic_label”.
LABEL = re.compile(r"((human|gold|true|truth|majority|final)[-_ ]?)?labels?", re.IGNORECASE)
# Marks of a verdict that is more than a word for a side.
COMPARES = re.compile(
    r"better|prefer|wins|both|[<>=]|(completion|response|answer)[-_ ]*[ab12]", re.IGNORECASE
)
KEY_LENGTH, WIDTH = 200, 50  # characters of a key, and values under it, that are looked at


def _fits(record: Record) -> bool:
    """Return whether a record is of the format, also a prompt of it alone: it has no other keys then."""
    if "prompt" not in record or {"chosen", "rejected"} & record.keys():
        return False
    if {*COMPLETIONS} & record.keys() and holds_verdict(_others(record)):
        return False  # it says which one is better, in a way of its own
    return bool(SIGNS & record.keys()) or ("metadata" in record and record.keys() <= {*KEYS})


def _say_nothing(records: Sequence[Record]) -> bool:
    """Return whether no other column of pairs has a value that may be a verdict."""
    return not any(
        isinstance(key, str) and _may_judge(key[:KEY_LENGTH], value)
        for record in records
        if {*COMPLETIONS} & record.keys()
        for key, value in _others(record).items()
    )


def _may_judge(key: str, value: object) -> bool:
    """Return whether a value may be a verdict: one in several words, or a word or a number under such a key."""
    is_of_verdict = OF_VERDICT.search(key) is not None
    if is_of_verdict and isinstance(value, list | Mapping):  # of several annotators
        several = value if isinstance(value, list) else list(value.values())
        return any(_may_judge(key, item) for item in several[:WIDTH] if not isinstance(item, list | Mapping))
    if LABEL.fullmatch(key) and (isinstance(value, bool) or fields.is_number(value)):
        return True
    if not isinstance(value, str) or read_verdict(value, COMPLETIONS) is None:
        return False
    return is_of_verdict or COMPARES.search(value) is not None


def _others(record: Record) -> Record:
    return like(record, {key: value for key, value in record.items() if key not in KEYS})


def _read(record: Record, *, in_cells: bool = True) -> Candidate:
    """Return a prompt, or a pair to judge. Chats may be texts of JSON where they are `in_cells`."""
    if in_cells:
        record = {
            key: fields.read_cells(record, key)[key] if key in CONTENTS else record[key] for key in record
        }
    has_completions = [
        key for key in COMPLETIONS if record.get(key) not in (None, "") or _is_said(record, key)
    ]
    if len(has_completions) == 1:
        raise RecordError(_("A pair needs both completion_a and completion_b."), has_completions[0])
    answers = [
        Answer(
            as_answer(read_content(record[key], key), key),
            fields.name_of(record.get(policy)),
        )
        for key, policy in zip(COMPLETIONS, ("policy_a", "policy_b"), strict=True)
        if has_completions
    ]
    return fields.candidate(
        record,
        (),
        read_content(record["prompt"], "prompt"),
        answers,
        metadata=_metadata(record),
        prompt_external_id=fields.name_of(record.get("prompt_external_id")),
        prompt_metadata=_object(record, "prompt_metadata"),
        gold=_gold(record, is_pair=bool(answers)),
        withdrawn=_flag(record, "withdrawn"),
    )


def _is_said(record: Record, key: str) -> bool:
    """Return whether an empty completion is one: in a table, a prompt alone has empty cells."""
    return record.get(key) == "" and any(record.get(other) for other in COMPLETIONS)


def _metadata(record: Record) -> dict[str, Any] | None:
    own, others = _object(record, "metadata"), fields.rest(record, *KEYS)
    return own if others is None else {**(own or {}), **others}


def _object(record: Record, key: str) -> dict[str, Any] | None:
    value = fields.cell(record.get(key))
    if value is None or value == "":
        return None
    if not isinstance(value, dict):
        raise RecordError(_("%(name)s must be an object.") % {"name": key}, key)
    return value


def _gold(record: Record, *, is_pair: bool) -> str | None:
    if "gold" not in record or record["gold"] == "" or (record["gold"] is None and not is_pair):
        return None
    gold = "none" if record["gold"] is None else record["gold"]
    if not is_pair or gold not in ("a", "b", "none"):
        raise RecordError(_("gold must be “a”, “b” or “none”, beside completion_a and completion_b."), "gold")
    return str(gold)


def _flag(record: Record, key: str) -> bool:
    value = record.get(key)
    if isinstance(value, str):
        value = {"true": True, "false": False, "": False}.get(value.strip().lower(), value)
    if value is not None and not isinstance(value, bool):
        raise RecordError(_("%(name)s must be true or false.") % {"name": key}, key)
    return bool(value)


PAIRS_TO_JUDGE = Format(
    "whetstone",
    noop("Whetstone: prompts and pairs"),
    COMPARISONS,
    _fits,
    _read,
    fits_together=_say_nothing,
    opens_cells=True,
)


def _left_out(record: Record) -> dict[str, int]:
    """Return what a project decides itself of its prompts and comparisons, if the one that wrote the record did."""
    has_arm = record.get("arm") not in (None, "") or record.get("propensity") not in (None, "")
    said = {"held_out": record.get("held_out") in (True, "true", "True"), "arms": has_arm}
    return {name: 1 for name, is_said in said.items() if is_said}


# --- Exported pairs ----------------------------------------------------------------------------------------------

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


def _is_of_cells(record: Record, key: str) -> bool:
    """Return whether a record has cells instead of values: it is of a table, or this key, of a list, holds a text.

    In JSON a chat is a list, and a text is a text, even one that is the JSON of a chat.
    """
    return isinstance(record, TableRow) or isinstance(record.get(key), str)


def _read_export(record: Record) -> Candidate:
    if _is_of_cells(record, "annotators"):
        record = fields.read_cells(record, *CHATS)
    answers = []
    sides = _as_seen(record)
    own = _object(record, "metadata")
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
        prompt_metadata=_object(record, "prompt_metadata"),
        names=sides,
        left_out=_left_out(record),
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
            _strength({"strength": strength}, "strengths"),
        )


EXPORT = Format(
    "whetstone-pairs", noop("Whetstone: exported pairs"), JUDGED, _fits_export, _read_export, opens_cells=True
)


# --- Judged comparisons ------------------------------------------------------------------------------------------

ABOUT_COMPARISON = ("held_out", "comparison", "kind", "batch", "arm", "propensity", "split", "judgments")


def _fits_judged(record: Record) -> bool:
    is_pair = fields.has_contents(record, "prompt", *COMPLETIONS)
    return is_pair and fields.are_objects(fields.cell(record.get("judgments")), "annotator", "verdict")


def _read_judged(record: Record) -> Candidate:
    """Return a comparison with each judgment about it."""
    in_cells = _is_of_cells(record, "judgments")
    record = {**record, "judgments": fields.cell(record["judgments"])}
    known = {key: value for key, value in record.items() if key not in ABOUT_COMPARISON}
    if known.get("gold") is None:
        known.pop("gold", None)
    judgments = fields.objects(record, "judgments")
    candidate = _read(known, in_cells=in_cells)
    return replace(candidate, opinions=tuple(map(_judgment, judgments)), left_out=_left_out(record))


def _judgment(judgment: Record) -> Opinion:
    verdict, rationale = judgment["verdict"], judgment.get("rationale")
    scores = {"a": fields.chosen(0), "b": fields.chosen(1), "tie": (0.5, 0.5)}.get(str(verdict), ())
    too_fast, late = (judgment.get(key) for key in ("too_fast", "late"))
    return Opinion(
        scores,
        "" if scores else str(verdict),
        fields.name_of(judgment["annotator"]),
        _strength(judgment, "strength"),
        rationale if isinstance(rationale, str) else "",
        fields.seconds(judgment.get("seconds")),
        fields.moment(judgment.get("at")),
        left={"a": 0, "b": 1}.get(str(judgment.get("left"))),
        too_fast=too_fast if isinstance(too_fast, bool) else None,
        late=late if isinstance(late, bool) else None,
        reasons=_reasons(judgment),
        criteria=_criteria(judgment),
    )


def _strength(said: Mapping[str, Any], name: str) -> int | None:
    """Return the strength of a preference, a whole number. Raises RecordError, which calls it `name`."""
    if said.get("strength") is None:
        return None
    strength = fields.number(said["strength"], name)
    if not strength.is_integer():
        raise RecordError(_("The strength of a preference must be 1, 2 or 3."), name)
    return int(strength)


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
            _strength(said, "criteria"),
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


# --- Single ratings ----------------------------------------------------------------------------------------------


def _fits_kto(record: Record) -> bool:
    return record.keys() >= {"prompt", "completion", "label", "completion_id", "both_bad", "policy"}


def _read_kto(record: Record) -> Candidate:
    if _is_of_cells(record, "label"):
        record = fields.read_cells(record, "completion")
    answer = as_answer(read_content(record["completion"], "completion"), "completion")
    return fields.candidate(
        record,
        (),
        read_content(record["prompt"], "prompt"),
        [Answer(answer, fields.name_of(record["policy"]))],
        [Opinion((1.0 if _flag(record, "label") else 0.0,))],
        external_id=fields.name_of(record.get("external_id")),
        metadata=_object(record, "metadata"),
        prompt_external_id=fields.name_of(record.get("prompt_external_id")),
        prompt_metadata=_object(record, "prompt_metadata"),
        left_out=_left_out(record),
    )


KTO = Format(
    "whetstone-kto",
    noop("Whetstone: exported single ratings"),
    JUDGED,
    _fits_kto,
    _read_kto,
    opens_cells=True,
)
