"""Vertex AI: the judgments of AutoSxS, and the tables of a pairwise evaluation."""

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.verdicts import read_verdict

# --- AutoSxS -----------------------------------------------------------------------------------------------------

TEXTS = ("inference_instruction", "inference_context")
RESPONSES = ("response_a", "response_b")


def _fits_autosxs(record: Record) -> bool:
    return fields.has_texts(record, *RESPONSES, "choice") and any(
        isinstance(record.get(key), str) for key in TEXTS
    )


def _read_autosxs(record: Record) -> Candidate:
    said = read_verdict(record["choice"])
    if said is None:
        raise RecordError(_("%(name)s must be %(values)s.") % {"name": "choice", "values": "A, B"}, "choice")
    asked = [record[key] for key in TEXTS if isinstance(record.get(key), str) and record[key].strip()]
    opinion = said._replace(rationale=fields.name_of(record.get("explanation")))
    used = (*TEXTS, *RESPONSES, "choice", "explanation")
    return fields.candidate(
        record, used, "\n".join(asked), [Answer(record[response]) for response in RESPONSES], [opinion]
    )


AUTOSXS = Format("autosxs", noop("Vertex AI AutoSxS"), JUDGED, _fits_autosxs, _read_autosxs)


# --- Pairwise evaluation -----------------------------------------------------------------------------------------

CHOICE, EXPLANATION = "/pairwise_choice", "/explanation"
SIDES = ("baseline_model_response", "response")
MEANINGS = {"BASELINE": fields.chosen(0), "CANDIDATE": fields.chosen(1), "TIE": (0.5, 0.5)}


def _choice_keys(record: Record) -> list[str]:
    return [key for key in record if isinstance(key, str) and key.lower().endswith(CHOICE)]


def _fits_pairwise(record: Record) -> bool:
    return fields.has_texts(record, "prompt", *SIDES) and len(_choice_keys(record)) == 1


def _read_pairwise(record: Record) -> Candidate:
    [key] = _choice_keys(record)
    metric, choice = key[: -len(CHOICE)], record[key]
    explained = next(
        (other for other in record if str(other).lower() == f"{metric}{EXPLANATION}".lower()), ""
    )
    if choice in (None, "", "ERROR"):
        opinions = []  # the judge's answer could not be read
    elif isinstance(choice, str) and choice in MEANINGS:
        rationale = fields.name_of(record.get(explained))
        opinions = [Opinion(MEANINGS[choice], annotator=metric, rationale=rationale)]
    else:
        values = ", ".join(MEANINGS)
        raise RecordError(_("%(name)s must be %(values)s.") % {"name": key, "values": values}, key)
    used = ("prompt", *SIDES, key, explained)
    answers = [Answer(record[SIDES[0]], "baseline"), Answer(record[SIDES[1]], "candidate")]
    return fields.candidate(record, used, record["prompt"], answers, opinions)


PAIRWISE = Format(
    "vertex-pairwise", noop("Vertex AI (pairwise evaluation)"), JUDGED, _fits_pairwise, _read_pairwise
)
