"""Crowds: batches of Amazon Mechanical Turk, and what Potato writes for each annotator."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.pairs import as_thumb
from annotate.sources.formats.tools.side_by_side import Texts, has_texts, read_one, read_texts
from annotate.sources.formats.verdicts import check_question, read_answer, read_scale

# --- Mechanical Turk ---------------------------------------------------------------------------------------------

INPUT, ANSWER, TASK = "Input.", "Answer.", "Answer.taskAnswers"
# What a batch says of the task itself, and of the work on it as such.
ABOUT_HIT = re.compile(
    r"(HIT|Assignment|Worker|Title|Description|Keywords|Reward|CreationTime|MaxAssignments|Requester|Auto|Expiration"
    r"|NumberOfSimilarHITs|Lifetime|AcceptTime|SubmitTime|Approval|Rejection|WorkTime|Last[0-9]).*|Approve|Reject"
)


def _inputs(record: Record) -> dict[str, Any]:
    return {
        key.removeprefix(INPUT): value
        for key, value in record.items()
        if isinstance(key, str) and key.startswith(INPUT)
    }


def _fits_batch(record: Record) -> bool:
    is_batch = "HITId" in record and "WorkerId" in record
    return is_batch and has_texts(_inputs(record)) and any(str(key).startswith(ANSWER) for key in record)


def _read_batch(record: Record) -> Candidate:
    if record.get("AssignmentStatus") == "Rejected":
        raise RecordError(_("The work was rejected."), "AssignmentStatus")
    inputs = _inputs(record)
    texts = read_texts(inputs)
    said = _answers(record)
    used, verdict = read_one(said, texts.names)
    others = {name: value for name, value in said.items() if name not in used and value not in (None, "")}
    written = list(others.values())
    rationale = written[0] if len(written) == 1 and isinstance(written[0], str) else ""
    opinion = verdict._replace(
        annotator=fields.name_of(record["WorkerId"]),
        rationale=rationale,
        seconds=fields.seconds(record.get("WorkTimeInSeconds")),
        at=fields.moment(record.get("SubmitTime")),
    )
    metadata = {**(fields.rest(inputs, *texts.used) or {}), **({} if rationale else others)}
    metadata |= {
        key: value
        for key, value in record.items()
        if not key.startswith((INPUT, ANSWER)) and not ABOUT_HIT.fullmatch(key)
    }
    return texts.candidate(
        {},
        (),
        [opinion],
        external_id=fields.name_of(record["HITId"]),
        metadata=metadata or None,
        losses=texts.find_losses(inputs),
    )


def _answers(record: Record) -> dict[str, Any]:
    """Return what a worker answered. Of radio buttons with a column each, the name of the one that is on."""
    answers = {
        key.removeprefix(ANSWER): value
        for key, value in record.items()
        if str(key).startswith(ANSWER) and key != TASK
    }
    task = fields.cell(record.get(TASK))
    if fields.are_objects(task):
        answers |= {key: _pressed(value) for key, value in task[0].items()}  # type: ignore[index]
    for key, value in list(answers.items()):
        name, dot, option = key.removesuffix(".on").rpartition(".")
        if dot and as_thumb(value) is not None:
            del answers[key]
            answers |= {name: option} if as_thumb(value) else {}
    return answers


def _pressed(value: object) -> object:
    """Return the name of the button that is on, of several under their names."""
    on = [name for name, state in value.items() if state is True] if isinstance(value, Mapping) else []
    return on[0] if len(on) == 1 else value


MTURK = Format("mturk", noop("Mechanical Turk (batches)"), JUDGED, _fits_batch, _read_batch)


# --- Potato ------------------------------------------------------------------------------------------------------

FIRST = re.compile(r"(?:^|<br\s*/?>)\s*(?:A|0|1)\. ", re.IGNORECASE)
SECOND = re.compile(r"<br\s*/?>\s*(?:B|1|2)\. ", re.IGNORECASE)
SCALE, JUSTIFICATION = "scale_value", "justification"  # options of its pairwise questions
MARK = ":::"  # between the question and the option, in columns
ABOUT_INSTANCE = (
    "displayed_text", "label_annotations", "span_annotations", "behavioral_data", "user_id", "user", "instance_id",
)  # fmt: skip


def _fits_potato(record: Record) -> bool:
    has_labels = isinstance(record.get("label_annotations"), Mapping) or any(
        MARK in str(key) for key in record
    )
    return has_labels and (_is_listed(record.get("displayed_text")) or has_texts(record))


def _is_listed(value: object) -> bool:
    texts = fields.cell(value)
    return isinstance(texts, list) or (isinstance(texts, str) and _split_list(texts) is not None)


def _read_potato(record: Record) -> Candidate:
    texts = read_texts(record) if has_texts(record) else _listed(record["displayed_text"])
    labels = [key for key in record if MARK in key]
    found, rationale = _labels(record, texts.names)
    behaviour = record.get("behavioral_data")
    spent = behaviour.get("time_spent") if isinstance(behaviour, Mapping) else None
    annotator = fields.name_of(record.get("user_id", record.get("user")))
    opinions = [found._replace(annotator=annotator, rationale=rationale, seconds=fields.seconds(spent))]
    external_id = fields.name_of(record.get("instance_id", record.get("id")))
    return texts.candidate(record, (*ABOUT_INSTANCE, *labels, "id"), opinions, external_id=external_id)


def _listed(displayed: object) -> Texts:
    """Return the texts that Potato displayed as a list: “A. …<br>B. …”, behind the prompt."""
    value = fields.cell(displayed)
    if isinstance(value, str) and (split := _split_list(value)):
        prompt, *answers = split
    elif isinstance(value, list) and len(value) == 3 and all(isinstance(text, str) for text in value):
        prompt, *answers = value
    else:
        prompt, answers = "", []
    if not prompt.strip():
        raise RecordError(_("There is no prompt before the texts that Potato displayed."), "displayed_text")
    return Texts(prompt, tuple(map(Answer, answers)), ("A", "B"), ())


def _split_list(text: str) -> tuple[str, str, str] | None:
    """Return what stands before the first of two listed texts, and the two."""
    first = FIRST.search(text)
    second = SECOND.search(text, first.end()) if first else None
    return (
        (text[: first.start()], text[first.end() : second.start()], text[second.end() :])
        if first and second
        else None
    )


def _labels(record: Record, names: tuple[str, ...]) -> tuple[Opinion, str]:
    """Return the one verdict among the labels, and what was written beside it."""
    found: dict[str, list[Opinion]] = {}
    written: list[str] = []
    for question, option, value in _said(record):
        if opinion := _read_label(question, option, value, names):
            found.setdefault(question, []).append(opinion)
        elif option == JUSTIFICATION and isinstance(told := fields.cell(value), Mapping):
            written.append(str(told.get("rationale") or ""))
        elif isinstance(value, str) and as_thumb(value) is None:
            written.append(value)
    opinions = [opinion for opinions in found.values() for opinion in opinions]
    if len(opinions) != 1:
        raise RecordError(_("Not exactly one of the labels says which text is better."), "label_annotations")
    return opinions[0], "\n".join(filter(None, written))


def _said(record: Record) -> Iterator[tuple[str, str, object]]:
    """Yield each label that is on: its question, its option, and its value."""
    nested = record.get("label_annotations")
    labels = [(*key.partition(MARK)[::2], value) for key, value in record.items() if MARK in key]
    for question, options in nested.items() if isinstance(nested, Mapping) else ():
        labels += (
            [(str(question), str(option), value) for option, value in options.items()]
            if isinstance(options, Mapping)
            else []
        )
    for question, option, value in labels:
        is_place = option == SCALE and fields.is_number(value)
        if is_place or value not in (None, "", False, "false"):
            yield question, option, value


def _read_label(question: str, option: str, value: object, names: tuple[str, ...]) -> Opinion | None:
    """Return what a label says: the name of a text as the option or the value, or a place on a scale.

    A place below 0 is for the first text.
    """
    if option == SCALE and fields.is_number(value):
        return read_scale(fields.number(value, SCALE))
    return check_question(option, read_answer(question, value, names)) or read_answer(question, option, names)


POTATO = Format("potato", noop("Potato"), JUDGED, _fits_potato, _read_potato)
