"""Collections whose completions stand in lists or numbered keys: GPT-4-LLM, MixInstruct and Fine-Grained RLHF."""

from collections.abc import Iterator, Mapping
from itertools import combinations

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record

# --- GPT-4-LLM ---------------------------------------------------------------------------------------------------

SCORED = "responses_and_scores"


def _read_scored(record: Record) -> Candidate:
    items = fields.objects(record, SCORED)
    return fields.candidate(
        record,
        ("user_input", SCORED),
        record["user_input"],
        [
            Answer(
                fields.text(item, "response"),
                fields.name_of(item.get("source")),
                fields.rest(item, "response", "source", "score") or {},
            )
            for item in items
        ],
        [Opinion(tuple(fields.number(item["score"], "score") for item in items))],
    )


GPT4_LLM = Format(
    "gpt-4-llm",
    noop("GPT-4-LLM (comparisons)"),
    JUDGED,
    lambda record: (
        fields.has_texts(record, "user_input") and fields.are_objects(record.get(SCORED), "response", "score")
    ),
    _read_scored,
)


# --- MixInstruct -------------------------------------------------------------------------------------------------

COMPARED = "cmp_results"
WORDS = {
    "A is better": Opinion(fields.chosen(0)),
    "B is better": Opinion(fields.chosen(1)),
    "Same good": Opinion((0.5, 0.5)),
    "Same bad": Opinion(verdict="both_bad"),
}


def _fits_mix(record: Record) -> bool:
    return (
        fields.has_texts(record, "instruction", "input")
        and fields.are_objects(record.get("candidates"), "model", "text")
        and isinstance(fields.cell(record.get(COMPARED)), Mapping)
    )


def _read_mix(record: Record) -> Iterator[Candidate]:
    """Yield each two candidates that were compared, by the names of their models: “m1,m2”."""
    candidates = {fields.name_of(item["model"]): item for item in fields.objects(record, "candidates")}
    asked = (record["instruction"], record["input"])
    compared = fields.cell(record[COMPARED])
    for names, word in compared.items():  # type: ignore[attr-defined]
        pair = names.split(",")
        if (
            len(pair) != 2
            or not {*pair} <= candidates.keys()
            or not isinstance(word, str)
            or word not in WORDS
        ):
            raise RecordError(
                _("%(name)s must say of two models %(values)s.")
                % {"name": COMPARED, "values": ", ".join(WORDS)},
                COMPARED,
            )
        found = fields.candidate(
            record,
            ("instruction", "input", "candidates", COMPARED),
            "\n".join(text for text in asked if text.strip()),
            [Answer(fields.text(candidates[name], "text"), name) for name in pair],
            [WORDS[word]],
        )
        if len(compared) > 1 and found.external_id:  # type: ignore[arg-type]
            found.external_id, found.prompt_external_id = f"{found.external_id}/{names}", found.external_id
        yield found


MIX = Format("mix-instruct", noop("MixInstruct (LLM-Blender)"), JUDGED, _fits_mix, _read_mix)


# --- Fine-Grained RLHF -------------------------------------------------------------------------------------------

PREDICTIONS = tuple(f"prediction {number}" for number in range(1, 5))
PAIRS = tuple(combinations(range(len(PREDICTIONS)), 2))
CODES = {0: (0.5, 0.5), 1: fields.chosen(0), 2: fields.chosen(1)}


def _fits_fine_grained(record: Record) -> bool:
    said = record.get("preference")
    has_texts = fields.has_texts(record, "question", *PREDICTIONS)
    return has_texts and isinstance(said, list) and len(said) == len(PAIRS)


def _read_fine_grained(record: Record) -> Iterator[Candidate]:
    """Yield each two predictions with what was said of them: 1 the first, 2 the second, 0 a tie."""
    for (one, other), code in zip(PAIRS, record["preference"], strict=True):
        if not fields.is_number(code) or code not in CODES:
            raise RecordError(
                _("%(name)s must be %(values)s.") % {"name": "preference", "values": "0, 1, 2"}, "preference"
            )
        yield fields.candidate(
            record,
            ("question", *PREDICTIONS, "preference"),
            record["question"],
            [Answer(record[PREDICTIONS[place]]) for place in (one, other)],
            [Opinion(CODES[code])],
        )


FINE_GRAINED = Format(
    "fine-grained-rlhf", noop("Fine-Grained RLHF"), JUDGED, _fits_fine_grained, _read_fine_grained
)
