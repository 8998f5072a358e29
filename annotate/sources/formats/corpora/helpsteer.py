"""NVIDIA's HelpSteer: ratings of single responses, and preferences with strength and reasons."""

from collections.abc import Iterator, Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Content, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.signs import has_winner, holds_verdict, names_side
from annotate.sources.formats.verdicts import STRONGEST, read_scale
from annotate.sources.messages import has_extra_ids, is_chat, read_chat, read_extra_ids

NEITHER = -100  # on a scale of preference: no response is valid
USER_TAG = "<extra_id_1>User"

# --- Ratings -----------------------------------------------------------------------------------------------------


def _fits_ratings(record: Record) -> bool:
    aspects = ("helpfulness", "correctness", "coherence")
    return fields.has_texts(record, "prompt", "response") and all(
        fields.is_number(record.get(key)) for key in aspects
    )


def _read_ratings(record: Record) -> Candidate:
    helpfulness = fields.number(record["helpfulness"], "helpfulness")
    answers = [Answer(record["response"])]
    return fields.candidate(
        record, ("prompt", "response"), _prompt(record), answers, [Opinion((helpfulness,))]
    )


def _prompt(record: Record) -> Content:
    """Return a prompt. One of several turns begins with the user's, without its tag."""
    text: str = record["prompt"]
    if not has_extra_ids(text):
        return text
    return read_extra_ids(text if text.startswith("<extra_id_") else f"{USER_TAG}\n{text}", "prompt")


RATINGS = Format("helpsteer", noop("HelpSteer (ratings)"), JUDGED, _fits_ratings, _read_ratings)


# --- Preferences -------------------------------------------------------------------------------------------------


STRENGTH, RATIONALES = "preference_strength", ("preference_statement", "preference_elaboration")
RESPONSES = ("response_1", "response_2")
PREFERENCE_KEYS = ("prompt", *RESPONSES, STRENGTH, *RATIONALES)
# What HelpSteer2 has of single annotators: strengths on the same scale, of which it took the mean.
OF_ANNOTATORS = ("three_most_similar_preferences", "all_preferences_unprocessed")


def _fits_preference(record: Record) -> bool:
    """Return whether a record has a strength for two responses, and nothing else says which is better.

    Beside a verdict, a strength is how much better one of them is, and has no direction.
    """
    if not fields.has_texts(record, "prompt", *RESPONSES) or not fields.is_number(record.get(STRENGTH)):
        return False
    if any(record.get(key) for key in OF_ANNOTATORS):
        return True
    if any(record.get(key) for key in RATIONALES):
        return not has_winner(record, RESPONSES, *PREFERENCE_KEYS)
    used = (*PREFERENCE_KEYS, *OF_ANNOTATORS)
    return not holds_verdict(record, *used) and not names_side(record, RESPONSES, *used)


def _have_directions(records: Sequence[Record]) -> bool:
    """Return whether strengths have a direction. On a scale that begins at 1, a small one favours the first.

    HelpSteer2 is known by its other keys, too, even where they say nothing.
    """
    if any(key in record for record in records for key in (*RATIONALES, *OF_ANNOTATORS)):
        return True
    if any(has_extra_ids(record["prompt"]) for record in records):
        return True
    return _favour_first(records, STRENGTH)


def _favour_first(records: Sequence[Record], key: str) -> bool:
    """Return whether a number is below 0. That for both being bad says nothing of the scale."""
    numbers = [fields.number(record[key], key) for record in records]
    return any(number < 0 and number != NEITHER for number in numbers)


def _is_off_scale(value: object) -> bool:
    """Return whether a number is not on the scale from -3 to 3."""
    if not fields.is_number(value):
        return False
    number = fields.number(value, STRENGTH)
    return abs(number) > STRONGEST and number != NEITHER


def _read_number(value: object, key: str, annotator: str = "", rationale: str = "") -> Opinion:
    """Return what a number from -3 to 3, or -100, says. Raises RecordError for another: it is of another scale."""
    number = fields.number(value, key)
    if _is_off_scale(number):
        raise RecordError(_("%(name)s must be a number from -3 to 3.") % {"name": key}, key)
    if number == NEITHER:
        return Opinion(verdict="both_bad", annotator=annotator, rationale=rationale)
    return read_scale(number, annotator, rationale)


def _read_preference(record: Record) -> Candidate:
    rationale = " ".join(record[key] for key in RATIONALES if isinstance(record.get(key), str))
    return fields.candidate(
        record,
        PREFERENCE_KEYS,
        _prompt(record),
        [Answer(record["response_1"]), Answer(record["response_2"])],
        [_read_number(record[STRENGTH], STRENGTH, rationale=rationale)],
    )


PREFERENCE = Format(
    "helpsteer2",
    noop("HelpSteer2 (preferences)"),
    JUDGED,
    _fits_preference,
    _read_preference,
    contradicts=lambda record: _fits_preference(record) and _is_off_scale(record[STRENGTH]),
    fits_together=_have_directions,
)


# --- HelpSteer3 --------------------------------------------------------------------------------------------------


OVERALL, INDIVIDUAL = "overall_preference", "individual_preference"
THIRD_RESPONSES = ("response1", "response2")
THIRD_KEYS = ("context", *THIRD_RESPONSES, OVERALL, INDIVIDUAL)


def _fits_third(record: Record) -> bool:
    is_pair = is_chat(record.get("context")) and fields.has_texts(record, *THIRD_RESPONSES)
    if not is_pair or not fields.is_number(record.get(OVERALL)):
        return False
    if _is_published(record):
        return not has_winner(record, THIRD_RESPONSES, *THIRD_KEYS)
    return not holds_verdict(record, *THIRD_KEYS) and not names_side(record, THIRD_RESPONSES, *THIRD_KEYS)


def _is_published(record: Record) -> bool:
    """Return whether a record has the keys of HelpSteer3, even where they say nothing."""
    return INDIVIDUAL in record or {"domain", "language"} <= record.keys()


def _have_third_directions(records: Sequence[Record]) -> bool:
    return any(map(_is_published, records)) or _favour_first(records, OVERALL)


def _read_third(record: Record) -> Candidate:
    answers = [Answer(record["response1"]), Answer(record["response2"])]
    return fields.candidate(
        record, THIRD_KEYS, read_chat(record["context"], "context"), answers, _individual(record)
    )


def _individual(record: Record) -> Iterator[Opinion]:
    """Yield each annotator's preference, or the overall one where there are none."""
    if not record.get(INDIVIDUAL):
        yield _read_number(record[OVERALL], OVERALL)
        return
    for number, item in enumerate(fields.objects(record, INDIVIDUAL), start=1):
        reasoning = item.get("reasoning")
        yield _read_number(
            item.get("score"),
            f"{INDIVIDUAL}.score",
            annotator=str(number),
            rationale=reasoning if isinstance(reasoning, str) else "",
        )


THIRD = Format(
    "helpsteer3",
    noop("HelpSteer3 (preferences)"),
    JUDGED,
    _fits_third,
    _read_third,
    contradicts=lambda record: _fits_third(record) and _is_off_scale(record[OVERALL]),
    fits_together=_have_third_directions,
)
