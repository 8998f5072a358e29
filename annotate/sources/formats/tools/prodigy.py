"""Prodigy: tasks with options, of which an annotator accepts one."""

from collections.abc import Sequence

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.verdicts import find_prompt

WHO = ("_annotator_id", "_session_id")
ABOUT = (
    "_input_hash",
    "_task_hash",
    "_view_id",
    "_timestamp",
    "_is_binary",
    "config",
    "answer",
    "accept",
    "options",
)


def _question(record: Record) -> Record:
    """Return the part of a record that holds the prompt: itself, or its input."""
    inner = record.get("input")
    return inner if isinstance(inner, dict) and find_prompt(inner, ()) else record


def _fits(record: Record) -> bool:
    options = record.get("options")
    has_options = fields.are_objects(options, "id", "text") and len(options) > 1  # type: ignore[arg-type]
    return (
        has_options
        and isinstance(record.get("accept"), list)
        and isinstance(record.get("answer"), str)
        and bool(find_prompt(_question(record), ()))
    )


def _are_of_prompts(records: Sequence[Record]) -> bool:
    """Return whether options belong to their prompts. Where many prompts have the same ones, these are labels."""
    asked = {str(_question(record).get(find_prompt(_question(record), ()))) for record in records}
    offered = {
        frozenset(str(option.get("text")) for option in fields.objects(record, "options"))
        for record in records
    }
    return len(asked) == 1 or 2 * len(offered) > len(asked)


def _read(record: Record) -> Candidate:
    """Return the options as completions. What was ignored says nothing, and what was rejected has no good option."""
    question, options = _question(record), fields.objects(record, "options")
    prompt = find_prompt(question, ())
    who = next((key for key in WHO if fields.name_of(record.get(key))), "")
    at = fields.moment(record.get("_timestamp"))
    opinions = [
        said._replace(annotator=fields.name_of(record.get(who)), at=at) for said in _opinions(record, options)
    ]
    return fields.candidate(
        record,
        ("input" if question is not record else prompt, *WHO, *ABOUT),
        fields.prompt_of(question, prompt),
        [Answer(fields.text(option, "text"), metadata={"id": option["id"]}) for option in options],
        opinions,
    )


def _opinions(record: Record, options: list[Record]) -> list[Opinion]:
    accepted, answer = list(map(fields.name_of, record["accept"])), record["answer"]
    if answer == "ignore":
        return [Opinion(verdict="skip")]
    ids = [fields.name_of(option["id"]) for option in options]
    if answer == "accept" and len(accepted) == 1 and ids.count(accepted[0]) == 1:
        return [fields.best(ids.index(accepted[0]), len(ids))]
    raise RecordError(_("accept must name one of the options."), "accept")


CHOICE = Format("prodigy", noop("Prodigy (choice)"), JUDGED, _fits, _read, fits_together=_are_of_prompts)
