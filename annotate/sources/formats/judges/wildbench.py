"""WildBench: the answers of a model beside those of a reference, with a judge's choice between A and B."""

import re
from collections.abc import Mapping

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Content, Message, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record

OUTPUTS = {"model_output": "generator", "ref_output": "ref_generator"}
CHOICES = {
    "A++": (0, 3), "A+": (0, 1), "A=B": (None, None), "B+": (1, 1), "B++": (1, 3),
}  # fmt: skip
TURN = re.compile(r"(?:^|\n\n)(USER|ASSISTANT): ")


def _text(value: object) -> object:
    """Return the text of an output, which may be the only one of a list."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _fits(record: Record) -> bool:
    assignment = record.get("assignment")
    return (
        fields.has_texts(record, "history", "last_query", *OUTPUTS.values())
        and all(isinstance(_text(record.get(key)), str) for key in OUTPUTS)
        and isinstance(assignment, Mapping)
        and {"A", "B"} <= assignment.keys()
    )


def _read(record: Record) -> Candidate:
    models = [fields.name_of(record["assignment"][side]) for side in "AB"]
    outputs = {record[model]: _text(record[key]) for key, model in OUTPUTS.items()}
    if len(outputs) < len(OUTPUTS) or {*models} != outputs.keys():
        raise RecordError(_("assignment does not say which output is A."), "assignment")
    used = (*OUTPUTS, *OUTPUTS.values(), "assignment", "prompt", "result", "parsed_result", "parsed", "error")
    return fields.candidate(
        record,
        (*used, "history", "last_query", "session_id", "eval_config"),
        _prompt(record),
        [Answer(outputs[model], model) for model in models],  # type: ignore[arg-type]
        _opinions(record),
        external_id=fields.name_of(record.get("session_id")),
        sides_known=True,
    )


def _opinions(record: Record) -> list[Opinion]:
    """Return the judge's choice; none where it could not be read. Raises RecordError for another one."""
    said = record.get("parsed_result") or fields.cell(record.get("result"))
    parsed = said if isinstance(said, Mapping) else {}
    choice = parsed.get("choice")
    if choice in (None, "", "N/A"):
        return []
    if not isinstance(choice, str) or choice not in CHOICES:
        values = ", ".join(CHOICES)
        raise RecordError(_("%(name)s must be %(values)s.") % {"name": "choice", "values": values}, "choice")
    place, strength = CHOICES[choice]
    scores = (0.5, 0.5) if place is None else fields.chosen(place)
    config = record.get("eval_config")
    judge = fields.name_of(config.get("gpt")) if isinstance(config, Mapping) else ""
    reason = next((parsed[key] for key in parsed if str(key).startswith("reason")), "")
    return [Opinion(scores, annotator=judge, strength=strength, rationale=fields.name_of(reason))]


def _prompt(record: Record) -> Content:
    """Return what was said before, and the last question. Raises RecordError where its turns are not clear."""
    if not record["history"].strip():
        return str(record["last_query"])
    _before, *turns = TURN.split(record["history"].rstrip("\n"))
    roles = ["user" if role == "USER" else "assistant" for role in turns[::2]]
    if _before.strip() or roles != ["user", "assistant"] * (len(roles) // 2):
        raise RecordError(
            _("%(name)s must be a dialogue of two speakers in turn.") % {"name": "history"}, "history"
        )
    chat: list[Message] = [
        {"role": role, "content": said} for role, said in zip(roles, turns[1::2], strict=True)
    ]
    return [*chat, {"role": "user", "content": record["last_query"]}]


PAIRWISE = Format("wildbench", noop("WildBench (pairs)"), JUDGED, _fits, _read)
