"""Label Studio: tasks, and exports as JSON, JSON_MIN and CSV, with pairwise, choices, ranker and ratings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import COMPARISONS, JUDGED, Format, Record
from annotate.sources.formats.signs import VERDICT, holds_verdict
from annotate.sources.formats.tools.side_by_side import (
    Rating,
    Texts,
    as_strength,
    has_texts,
    keep_readable,
    note,
    read_ratings,
    read_texts,
)
from annotate.sources.formats.verdicts import (
    are_called_answers,
    check_question,
    find_answers,
    read_answer,
)
from primitives.text import printable

ABOUT_TASK = (
    "annotations", "predictions", "drafts", "meta", "project", "updated_by", "comment_authors", "inner_id", "data",
    "file_upload", "total_annotations", "cancelled_annotations", "total_predictions", "comment_count", "state",
    "unresolved_comment_count", "last_comment_updated_at", "created_at", "updated_at", "allow_skip",
)  # fmt: skip
IDS = ("external_id", "prompt_external_id")  # in the data, where Whetstone wrote them

# --- Tasks, and the export as JSON -------------------------------------------------------------------------------


def _fits_task(record: Record) -> bool:
    data = record.get("data")
    if not isinstance(data, Mapping) or not has_texts(data):
        return False
    if _annotations_key(record):
        return True
    return not holds_verdict(data) and ("items" in data or are_called_answers(find_answers(data)))


def _annotations_key(record: Record) -> str:
    """Return the key of the annotations, which older versions called completions; or an empty text."""
    if "annotations" in record:
        return "annotations"
    return "completions" if fields.are_objects(record.get("completions"), "result") else ""


def _read_task(record: Record) -> Candidate:
    data = record["data"]
    texts = read_texts(data)
    key = _annotations_key(record)
    annotations = fields.objects(record, key) if record.get(key) else []
    given = [annotation for annotation in annotations if annotation.get("was_cancelled") is not True]
    opinions, unclear = keep_readable(given, lambda annotation: _opinions(annotation, texts))
    metadata = {
        **(fields.rest(data, *texts.used, *IDS) or {}),
        **(fields.rest(record, "id", key, *ABOUT_TASK) or {}),
    }
    return texts.candidate(
        record,
        ABOUT_TASK,
        opinions,
        external_id=fields.name_of(data.get("external_id")) or fields.name_of(record.get("id")),
        prompt_external_id=fields.name_of(data.get("prompt_external_id")),
        metadata=metadata or None,
        sides_known=any(map(_shows_sides, annotations)),
        losses=(*texts.find_losses(data), *unclear),
    )


def _shows_sides(annotation: Mapping[str, Any]) -> bool:
    """Return whether an annotator of Label Studio saw the first text on the left."""
    return "completed_by" in annotation and any(
        item.get("type") == "pairwise" for item in _results(annotation)
    )


def _results(annotation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return fields.objects(annotation, "result") if annotation.get("result") else []


def _opinions(annotation: Mapping[str, Any], texts: Texts) -> Iterator[Opinion]:
    """Yield what an annotation says: nothing if it is empty. Raises RecordError where it says nothing of the texts."""
    found: list[Opinion] = []
    ratings: list[Rating] = []
    notes: list[str] = []
    strength = None
    for result in _results(annotation):
        value, name = result.get("value"), str(result.get("from_name", ""))
        if not isinstance(value, Mapping):
            continue
        is_rating, of = result.get("type") == "rating", result.get("to_name")
        if is_rating and of in texts.names:
            ratings.append(Rating(name, value.get("rating"), of))
        elif opinion := _read_value(name, value, texts.names):
            found.append(opinion)
        elif told := as_strength(name, value.get("rating")):
            strength = told
        elif is_rating and fields.is_number(value.get("rating")):
            ratings.append(Rating(name, value["rating"]))
        else:
            notes.append(_note(name, value))
    if not found:
        rated, ratings = read_ratings(ratings, texts.names)
        found += [rated] if rated else []
    notes += [rating.as_note() for rating in ratings]
    if len(found) > 1 or (not found and _results(annotation)):
        raise RecordError(
            _("An annotation does not say exactly once which completion is better, or that they are equal."),
            "annotations",
        )
    for opinion in found:
        annotator = annotation.get("completed_by", annotation.get("annotator"))
        said_by = _by(opinion, annotator, annotation, "\n".join(filter(None, notes)))
        yield said_by._replace(strength=said_by.strength or strength)


def _note(name: str, value: Mapping[str, Any]) -> str:
    """Return what another control says, as text."""
    written = value.get("text")
    if isinstance(written, list):
        return "\n".join(map(str, written))
    return note(name, next((value[key] for key in ("text", "choices", "rating") if key in value), None))


def _by(opinion: Opinion, annotator: object, source: Mapping[str, Any], rationale: str = "") -> Opinion:
    if isinstance(annotator, Mapping):
        annotator = annotator.get("email") or annotator.get("id")
    return opinion._replace(
        annotator=fields.name_of(annotator),
        rationale=rationale,
        seconds=fields.seconds(source.get("lead_time")),
        at=fields.moment(source.get("created_at")),
    )


def _read_value(question: str, value: object, names: Sequence[str]) -> Opinion | None:
    """Return what the value of a control says, or None where it is about something else."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return read_answer(question, value, names)
    if not isinstance(value, Mapping):
        return None
    if isinstance(choices := value.get("choices"), list) and len(choices) == 1:
        return read_answer(question, choices[0], names)
    if isinstance(selected := value.get("selected"), str):
        return read_answer(question, selected, names)
    if "ranker" in value:
        return check_question(question, _read_ranker(value["ranker"], names))
    return None


def _read_ranker(value: object, names: Sequence[str]) -> Opinion | None:
    """Return a ranking: the ids in their order, in the only bucket that is named. What is not ranked has no score."""
    if isinstance(value, Mapping):
        buckets = [ids for name, ids in value.items() if name != "_" and isinstance(ids, list)]
        value = buckets[0] if len(buckets) == 1 else None
    if not isinstance(value, list) or not value:
        return None
    order = [fields.name_of(item) for item in value]
    if unknown := [item for item in order if item not in set(names)]:
        raise RecordError(
            _("The ranking names “%(name)s”, which is not an item.") % {"name": printable(unknown[0], 40)}
        )
    scores = dict(zip(order, fields.ranked(range(len(order))), strict=True))
    return Opinion(tuple(scores.get(name) for name in names))


TASKS = Format("label-studio", noop("Label Studio (tasks, JSON)"), JUDGED, _fits_task, _read_task)


# --- The exports JSON_MIN and CSV --------------------------------------------------------------------------------

ABOUT_ANNOTATION = ("annotation_id", "annotator", "lead_time", "created_at", "updated_at")


def _fits_flat(record: Record) -> bool:
    return "annotation_id" in record and "lead_time" in record and "annotator" in record and has_texts(record)


def _read_flat(record: Record) -> Candidate:
    texts = read_texts(record)
    others = {
        key: fields.cell(value)
        for key, value in record.items()
        if key not in (*texts.used, *ABOUT_ANNOTATION, "id")
    }
    found = {
        key: opinion
        for key, value in others.items()
        if (opinion := _read_value(key, value, texts.names)) is not None
    }
    if len(found) > 1:
        raise RecordError(_("Several columns hold verdicts: %(names)s.") % {"names": ", ".join(found)})
    ratings: tuple[str, ...] = ()
    if not found:
        found, ratings = _read_ratings(others, texts.names)
    unread = fields.rest(record, *ratings) or {}
    doubtful = _unread_verdict(unread, (*texts.used, *found)) if found else _find_verdict(others)
    if doubtful:
        raise RecordError(
            _("“%(value)s” in %(column)s is not a verdict that is known.")
            % {"value": printable(str(record[doubtful]), 40), "column": printable(doubtful, 40)}
        )
    opinions = [_by(opinion, record["annotator"], record) for opinion in list(found.values())[:1]]
    is_pairwise = any(_is_pairwise(others[key]) for key in found)
    return texts.candidate(record, (*found, *ABOUT_ANNOTATION), opinions, sides_known=is_pairwise)


def _read_ratings(others: Record, names: Sequence[str]) -> tuple[dict[str, Opinion], tuple[str, ...]]:
    """Return what ratings of the texts say, under the columns that they are in, and the columns of other ratings."""
    ratings = [
        Rating(key, value[0]["rating"], _find_text(value[0], names))
        for key, value in others.items()
        if fields.are_objects(value, "rating") and len(value) == 1 and fields.is_number(value[0]["rating"])
    ]
    opinion, unused = read_ratings(ratings, names)
    used = [rating.question for rating in ratings if rating not in unused]
    return dict.fromkeys(used, opinion) if opinion else {}, tuple(rating.question for rating in unused)


def _find_text(rating: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the text that a rating in a column is of, or an empty text."""
    to = rating.get("to_name")
    of = to[0] if isinstance(to, list) and len(to) == 1 else to
    return of if isinstance(of, str) and of in names else ""


def _find_verdict(others: Record) -> str:
    """Return the column that holds a verdict which no control is known to write, or an empty text."""
    keys = [key for key, value in others.items() if holds_verdict({key: value})]
    return keys[0] if keys else next(iter(others), "") if holds_verdict(others) else ""


def _is_pairwise(value: object) -> bool:
    return fields.are_objects(value, "selected")


def _unread_verdict(record: Record, used: Sequence[str]) -> str:
    """Return the key of a verdict that was not understood, beside a word under a key that does not name one."""
    if any(VERDICT.search(key) for key in used):
        return ""
    return next(
        (key for key, value in record.items() if key not in used and value and VERDICT.search(key)), ""
    )


FLAT = Format("label-studio-flat", noop("Label Studio (JSON_MIN, CSV)"), JUDGED, _fits_flat, _read_flat)


# --- The data of a task alone ------------------------------------------------------------------------------------


def _fits_items(record: Record) -> bool:
    return (
        fields.are_objects(record.get("items"), "id", "body")
        and has_texts(record)
        and not holds_verdict(record)
    )


def _read_items(record: Record) -> Candidate:
    return read_texts(record).candidate(record, (), [])


ITEMS = Format(
    "label-studio-ranker", noop("Label Studio (items to rank)"), COMPARISONS, _fits_items, _read_items
)
