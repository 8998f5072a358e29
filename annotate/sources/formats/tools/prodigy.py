"""Prodigy: tasks with options, of which an annotator accepts one, and two outputs that are compared."""

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


# --- Two outputs -------------------------------------------------------------------------------------------------

SIDES = ("accept", "reject")  # keys of the outputs: the answer is the one that was preferred


def _mapped(record: Record) -> dict[str, str]:
    """Return which of the two files each output is from: A or B."""
    mapping = record.get("mapping")
    found = {str(side): str(place) for place, side in mapping.items()} if isinstance(mapping, dict) else {}
    return found if {*found} == {*SIDES} and {*found.values()} == {"A", "B"} else {}


def _fits_comparison(record: Record) -> bool:
    return (
        isinstance(record.get("answer"), str)
        and bool(_mapped(record))
        and all(isinstance(record.get(side), dict) and _text_of(record[side]) for side in SIDES)
        and isinstance(record.get("input"), dict)
        and bool(find_prompt(record["input"], ()))
    )


def _text_of(output: Record) -> str:
    """Return the key of an output's only text, or an empty text."""
    found = [key for key, value in output.items() if isinstance(value, str)]
    return found[0] if len(found) == 1 else ""


def _read_comparison(record: Record) -> Candidate:
    """Return the outputs of A and B. What was ignored says nothing of them."""
    mapped, answer = _mapped(record), record["answer"]
    sides = sorted(SIDES, key=lambda side: mapped[side])
    if answer not in (*SIDES, "ignore"):
        values = ", ".join((*SIDES, "ignore"))
        raise RecordError(_("%(name)s must be %(values)s.") % {"name": "answer", "values": values}, "answer")
    said = Opinion(verdict="skip") if answer == "ignore" else Opinion(fields.chosen(sides.index(answer)))
    who = next((key for key in WHO if fields.name_of(record.get(key))), "")
    prompt = find_prompt(record["input"], ())
    return fields.candidate(
        record,
        ("input", "mapping", *SIDES, *WHO, *ABOUT),
        fields.prompt_of(record["input"], prompt),
        [Answer(record[side][_text_of(record[side])], mapped[side]) for side in sides],
        [
            said._replace(
                annotator=fields.name_of(record.get(who)), at=fields.moment(record.get("_timestamp"))
            )
        ],
    )


COMPARISON = Format("prodigy-compare", noop("Prodigy (compare)"), JUDGED, _fits_comparison, _read_comparison)
