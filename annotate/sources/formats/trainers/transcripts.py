"""Dialogues in one text: Anthropic's HH with “Human:” and “Assistant:”, and NeMo-Aligner's tags."""

from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.pairs import CHOSEN, preferred
from annotate.sources.messages import (
    as_answer,
    has_extra_ids,
    is_transcript,
    read_content,
    read_extra_ids,
    read_transcript,
    split_chats,
)

# --- HH ----------------------------------------------------------------------------------------------------------


def _fits_hh(record: Record) -> bool:
    if not fields.has_texts(record, *CHOSEN):
        return False
    return (
        is_transcript(record["prompt"])
        if "prompt" in record
        else all(is_transcript(record[side]) for side in CHOSEN)
    )


def _read_hh(record: Record) -> Candidate:
    if "prompt" in record:
        prompt = read_transcript(record["prompt"], "prompt")
        return preferred(
            record, ("prompt", *CHOSEN), prompt, [record[side].removeprefix(" ") for side in CHOSEN]
        )
    prompt, completions = split_chats({side: read_transcript(record[side], side) for side in CHOSEN})
    return preferred(record, CHOSEN, prompt, completions)


HH = Format("hh", noop("Dialogues of Human and Assistant (HH-RLHF)"), JUDGED, _fits_hh, _read_hh)


# --- NeMo-Aligner ------------------------------------------------------------------------------------------------

RESPONSES = ("chosen_response", "rejected_response")


def _fits_nemo(record: Record) -> bool:
    return fields.has_contents(record, "prompt", *RESPONSES)


def _read_nemo(record: Record) -> Candidate:
    used = ("prompt", *RESPONSES)
    if not has_extra_ids(record["prompt"]):
        completions = [as_answer(read_content(record[key], key), key) for key in RESPONSES]
        return preferred(record, used, fields.prompt_of(record, "prompt", *RESPONSES), completions)
    prompt = read_extra_ids(record["prompt"], "prompt")
    return preferred(record, used, prompt, [_without_tag(fields.text(record, key)) for key in RESPONSES])


def _without_tag(text: str) -> str:
    return text.removesuffix("<extra_id_1>").removesuffix("\n") if text.endswith("<extra_id_1>") else text


NEMO = Format("nemo", noop("NeMo-Aligner"), JUDGED, _fits_nemo, _read_nemo)
