"""OpenCompass: what a judge wrote of two models' predictions, where its evaluator kept the predictions."""

import re
from collections.abc import Mapping

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.verdicts import read_verdict

PREDICTIONS, MODELS = ("prediction1", "prediction2"), ("answer1", "answer2")
VERDICT = re.compile(r"\[\[(?:[ABC]|[AB](?:>>|>|=|<|<<)[AB])\]\]")


def _fits(record: Record) -> bool:
    gold, said = record.get("gold"), record.get("prediction")
    return (
        isinstance(gold, Mapping)
        and fields.has_texts(gold, "question", *PREDICTIONS, *MODELS)
        and isinstance(said, str)
        and VERDICT.search(said) is not None
    )


def _read(record: Record) -> Candidate:
    """Return the two predictions in the order in which the judge read them, with its only verdict."""
    gold, said = record["gold"], record["prediction"]
    verdicts = {*VERDICT.findall(said)}
    opinion = read_verdict(verdicts.pop()) if len(verdicts) == 1 else None
    if opinion is None:
        raise RecordError(_("The judge’s text does not hold exactly one verdict."), "prediction")
    return fields.candidate(
        record,
        (),
        str(gold["question"]),
        [Answer(gold[text], gold[model]) for text, model in zip(PREDICTIONS, MODELS, strict=True)],
        [opinion._replace(rationale=said)],
        metadata=fields.rest(gold, "question", *PREDICTIONS, *MODELS),
        sides_known=True,
        names=tuple(f"gold.{text}" for text in PREDICTIONS),
    )


JUDGMENTS = Format("opencompass", noop("OpenCompass (judgments of pairs)"), JUDGED, _fits, _read)
