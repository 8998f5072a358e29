"""Axolotl's argilla, ms-swift, NeMo-RL, turbo-alignment and MedicalGPT."""

from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.pairs import as_thumb, preferred, thumbed
from annotate.sources.messages import (
    as_answer,
    is_chat,
    is_message,
    read_chat,
    read_content,
    split_answer,
    split_chats,
)

# --- Axolotl: chatml.argilla and its like ------------------------------------------------------------------------

RESPONSES = ("chosen_response", "rejected_response")


def _prompt_key(record: Record) -> str:
    found = [key for key in fields.PROMPT_KEYS if isinstance(record.get(key), str)]
    return found[0] if len(found) == 1 and found != ["prompt"] else ""


def _read_axolotl(record: Record) -> Candidate:
    key = _prompt_key(record)
    prompt = fields.with_system(record[key], record)
    return preferred(
        record, (key, *fields.SYSTEM, *RESPONSES), prompt, [record[response] for response in RESPONSES]
    )


AXOLOTL = Format(
    "axolotl",
    noop("Axolotl (argilla)"),
    JUDGED,
    lambda record: bool(_prompt_key(record)) and fields.has_texts(record, *RESPONSES),
    _read_axolotl,
)


# --- ms-swift ----------------------------------------------------------------------------------------------------

REJECTED = ("rejected_response", "rejected_messages", "rejected_images")


def _read_swift(record: Record) -> Candidate:
    """Return the chat's last answer as preferred to the rejected one, or to itself under other images."""
    if "messages" not in record:
        return preferred(
            record,
            ("query", "response", "rejected_response", "history", *fields.SYSTEM),
            fields.with_history(record["query"], record),
            [record["response"], record["rejected_response"]],
        )
    chat = read_chat(record["messages"], "messages")
    prompt, chosen = split_answer(chat, "messages")
    rejected = chosen
    if record.get("rejected_messages") is not None:
        other = read_chat(record["rejected_messages"], "rejected_messages")
        prompt, [chosen, rejected] = split_chats({"messages": chat, "rejected_messages": other})
    elif record.get("rejected_response") is not None:
        rejected = as_answer(
            read_content(record["rejected_response"], "rejected_response"), "rejected_response"
        )
    used = ["messages", "rejected_response", "rejected_messages"]
    if record.get("rejected_tools") == record.get("tools"):
        used.append("rejected_tools")
    return preferred(record, used, prompt, [chosen, rejected])


def _fits_swift(record: Record) -> bool:
    if is_chat(record.get("messages")):
        return fields.has_any(record, *REJECTED)
    return "messages" not in record and fields.has_texts(record, "query", "response", "rejected_response")


SWIFT = Format(
    "ms-swift",
    noop("ms-swift"),
    JUDGED,
    _fits_swift,
    _read_swift,
)


# --- turbo-alignment ---------------------------------------------------------------------------------------------

ANSWERS = ("answer_w", "answer_l")


def _fits_turbo(record: Record) -> bool:
    if not is_chat(record.get("context")):
        return False
    if is_message(record.get("answer")):
        return as_thumb(record.get("is_desirable")) is not None
    return all(is_message(record.get(answer)) for answer in ANSWERS)


def _read_turbo(record: Record) -> Candidate:
    prompt = read_chat(record["context"], "context")
    if "is_desirable" in record:
        answer = as_answer(read_content(record["answer"], "answer"), "answer")
        return thumbed(record, ("context", "answer", "is_desirable"), prompt, answer, record["is_desirable"])
    completions = [as_answer(read_content(record[key], key), key) for key in ANSWERS]
    return preferred(record, ("context", *ANSWERS), prompt, completions, ANSWERS)


TURBO = Format("turbo-alignment", noop("turbo-alignment"), JUDGED, _fits_turbo, _read_turbo)


# --- NeMo-RL -----------------------------------------------------------------------------------------------------


def _fits_nemo_rl(record: Record) -> bool:
    completions = record.get("completions")
    return is_chat(record.get("context")) and fields.are_objects(completions, "completion", "rank")


def _read_nemo_rl(record: Record) -> Candidate:
    completions = fields.objects(record, "completions")
    return fields.candidate(
        record,
        ("context", "completions"),
        read_chat(record["context"], "context"),
        [
            Answer(
                as_answer(read_content(item["completion"], "completion"), "completion"),
                metadata=fields.rest(item, "completion", "rank") or {},
            )
            for item in completions
        ],
        [Opinion(fields.ranked([fields.number(item["rank"], "rank") for item in completions]))],
    )


NEMO_RL = Format("nemo-rl", noop("NeMo-RL"), JUDGED, _fits_nemo_rl, _read_nemo_rl)


# --- MedicalGPT --------------------------------------------------------------------------------------------------

COLUMNS = ("response_chosen", "response_rejected")

MEDICAL = Format(
    "medical-gpt",
    noop("MedicalGPT (DPO)"),
    JUDGED,
    lambda record: fields.has_texts(record, "question", *COLUMNS),
    lambda record: preferred(
        record,
        ("question", *COLUMNS, "history", *fields.SYSTEM),
        fields.with_history(record["question"], record),
        [record[column] for column in COLUMNS],
    ),
)
