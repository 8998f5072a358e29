"""Collections about safety and values: BeaverTails, CValues and Align-Anything."""

from collections.abc import Mapping

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.pairs import as_thumb, preferred, thumbed

# --- BeaverTails -------------------------------------------------------------------------------------------------


def _fits_beavertails(record: Record) -> bool:
    is_rating = fields.has_texts(record, "prompt", "response") and isinstance(record.get("category"), Mapping)
    return is_rating and as_thumb(record.get("is_safe")) is not None


def _read_beavertails(record: Record) -> Candidate:
    """Return a response and whether it is safe. The kinds of harm are metadata."""
    used = ("prompt", "response", "is_safe")
    return thumbed(record, used, record["prompt"], record["response"], record["is_safe"])


BEAVERTAILS = Format("beavertails", noop("BeaverTails"), JUDGED, _fits_beavertails, _read_beavertails)


# --- CValues -----------------------------------------------------------------------------------------------------

SIDES = ("pos_resp", "neg_resp")

CVALUES = Format(
    "cvalues",
    noop("CValues (comparisons)"),
    JUDGED,
    lambda record: fields.has_texts(record, "prompt", *SIDES),
    lambda record: preferred(
        record, ("prompt", *SIDES), record["prompt"], [record[side] for side in SIDES], SIDES
    ),
)


# --- Align-Anything ----------------------------------------------------------------------------------------------

RESPONSES = ("response_1", "response_2")


def _fits_align(record: Record) -> bool:
    is_pair = fields.has_texts(record, "question", *RESPONSES)
    return is_pair and fields.is_number(record.get("overall_response"))


def _read_align(record: Record) -> Candidate:
    place = fields.number(record["overall_response"], "overall_response")
    if place not in (1, 2):
        raise RecordError(
            _("%(name)s must be %(values)s.") % {"name": "overall_response", "values": "1, 2"},
            "overall_response",
        )
    models = [f"{response}_model" for response in RESPONSES]
    return fields.candidate(
        record,
        ("question", *RESPONSES, "overall_response", *models),
        record["question"],
        [
            Answer(record[response], fields.name_of(record.get(model)))
            for response, model in zip(RESPONSES, models, strict=True)
        ],
        [Opinion(fields.chosen(int(place) - 1))],
    )


ALIGN_ANYTHING = Format("align-anything", noop("Align-Anything"), JUDGED, _fits_align, _read_align)
