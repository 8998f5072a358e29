"""Collections about images: RLHF-V and VLFeedback."""

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.documents import rows_of_columns
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.corpora.ratings import mean_ratings
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.pairs import CHOSEN, preferred

# --- RLHF-V ------------------------------------------------------------------------------------------------------


def _inner(record: Record) -> Record:
    found = fields.cell(record.get("text"))
    return found if isinstance(found, dict) and fields.has_texts(found, "question", *CHOSEN) else {}


def _read_rlhf_v(record: Record) -> Candidate:
    """Return the question and both answers, which are JSON inside the text."""
    inner = _inner(record)
    others = {key: value for key, value in record.items() if key != "text"}
    return preferred(
        {**others, **inner}, ("question", *CHOSEN), inner["question"], [inner[side] for side in CHOSEN]
    )


RLHF_V = Format("rlhf-v", noop("RLHF-V"), JUDGED, lambda record: bool(_inner(record)), _read_rlhf_v)


# --- VLFeedback --------------------------------------------------------------------------------------------------


def _fits_vlfeedback(record: Record) -> bool:
    rows = rows_of_columns(_without_objects(record.get("completions")))
    return fields.has_texts(record, "prompt") and bool(rows) and {"model", "response"} <= rows[0].keys()  # type: ignore[index]


def _without_objects(value: object) -> object:
    """Return the columns of completions that are texts, where there are annotations beside them."""
    if not isinstance(value, dict) or not isinstance(value.get("annotations"), list):
        return None
    return {key: column for key, column in value.items() if key != "annotations"}


def _read_vlfeedback(record: Record) -> Candidate:
    completions = record["completions"]
    aspects = fields.objects(completions, "annotations")
    responses, models = completions["response"], completions["model"]
    if not len(aspects) == len(responses):
        raise RecordError(_("%(name)s must have an item for each completion.") % {"name": "annotations"})
    return fields.candidate(
        record,
        ("prompt", "completions", "models"),
        record["prompt"],
        [
            Answer(fields.text({"response": text}, "response"), fields.name_of(model), {"annotations": about})
            for text, model, about in zip(responses, models, aspects, strict=True)
        ],
        [Opinion(tuple(mean_ratings(aspects)))],
    )


VLFEEDBACK = Format("vlfeedback", noop("VLFeedback (ratings)"), JUDGED, _fits_vlfeedback, _read_vlfeedback)
