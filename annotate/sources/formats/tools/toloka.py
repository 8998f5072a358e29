"""Toloka: assignments of a pool, as its TSV has them."""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.tools.side_by_side import has_texts, read_one, read_texts

INPUT, OUTPUT, WORKER = "INPUT:", "OUTPUT:", "ASSIGNMENT:worker_id"
ABOUT_POOL = ("ASSIGNMENT:", "GOLDEN:", "HINT:", "ACCEPT:")


def _under(record: Record, start: str) -> dict[str, Any]:
    return {key.removeprefix(start): value for key, value in record.items() if str(key).startswith(start)}


def _fits(record: Record) -> bool:
    return WORKER in record and bool(_under(record, OUTPUT)) and has_texts(_under(record, INPUT))


def _read(record: Record) -> Candidate:
    if record.get("ASSIGNMENT:status") == "REJECTED":
        raise RecordError(_("The work was rejected."), "ASSIGNMENT:status")
    inputs, said = _under(record, INPUT), _under(record, OUTPUT)
    texts = read_texts(inputs)
    used, opinion = read_one(said, texts.names)
    is_rated = any(fields.is_number(said[key]) for key in used)
    others = {key: value for key, value in said.items() if key not in used}
    notes = [
        f"{key}: {value}" if is_rated and fields.is_number(value) else value
        for key, value in others.items()
        if (isinstance(value, str) and value) or (is_rated and fields.is_number(value))
    ]
    opinion = opinion._replace(
        annotator=fields.name_of(record[WORKER]),
        rationale="\n".join(notes),
        at=fields.moment(record.get("ASSIGNMENT:submitted")),
    )
    metadata = {**(fields.rest(inputs, *texts.used) or {})}
    metadata |= {
        key: value for key, value in record.items() if not str(key).startswith((INPUT, OUTPUT, *ABOUT_POOL))
    }
    external_id = fields.name_of(record.get("ASSIGNMENT:task_id"))
    return texts.candidate(
        {},
        (),
        [opinion],
        external_id=external_id,
        metadata=metadata or None,
        losses=texts.find_losses(inputs),
    )


ASSIGNMENTS = Format("toloka", noop("Toloka (assignments)"), JUDGED, _fits, _read)
