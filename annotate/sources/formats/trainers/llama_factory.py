"""LLaMA-Factory: alpaca, sharegpt and v1 preferences, and single ratings. Axolotl and ms-swift share some."""

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate, Content
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.pairs import CHOSEN, are_completions, as_thumb, preferred, thumbed
from annotate.sources.formats.trainers.trl import are_one_each, read_pair
from annotate.sources.messages import is_answered, is_chat, read_chat, split_answer, split_chats

# --- alpaca ------------------------------------------------------------------------------------------------------

PROMPT = ("instruction", "input", "history", *fields.SYSTEM)


def _fits_alpaca(record: Record) -> bool:
    is_pair = fields.has_texts(record, "instruction", *CHOSEN) and "prompt" not in record
    return is_pair and are_completions(record)


def _read_alpaca(record: Record) -> Candidate:
    return preferred(record, (*PROMPT, *CHOSEN), _alpaca_prompt(record), [record[side] for side in CHOSEN])


def _alpaca_prompt(record: Record) -> Content:
    return fields.with_history(fields.join(fields.text(record, "instruction"), record.get("input")), record)


ALPACA = Format(
    "llama-factory-alpaca",
    noop("LLaMA-Factory (alpaca)"),
    JUDGED,
    _fits_alpaca,
    _read_alpaca,
    fits_together=are_one_each,
)


# --- sharegpt ----------------------------------------------------------------------------------------------------


CHATS = ("conversations", "messages", "conversation", "trajectory", "context")


def _chat_key(record: Record) -> str:
    return next((key for key in CHATS if is_chat(record.get(key))), "")


SHAREGPT = Format(
    "llama-factory-sharegpt",
    noop("LLaMA-Factory (sharegpt), Axolotl (chat_template)"),
    JUDGED,
    lambda record: bool(_chat_key(record)) and are_completions(record) and "prompt" not in record,
    lambda record: read_pair(record, _chat_key(record)),
)


# --- v1, and torchtune's chats -----------------------------------------------------------------------------------

MESSAGES = ("chosen_messages", "rejected_messages")
CONVERSATIONS = ("chosen_conversations", "rejected_conversations")


def _two_chats(name: str, title: str, keys: tuple[str, str]) -> Format:
    """Return the format of two whole chats under these keys."""

    def read(record: Record) -> Candidate:
        prompt, completions = split_chats({key: read_chat(record[key], key) for key in keys})
        return preferred(record, keys, prompt, completions)

    return Format(name, title, JUDGED, lambda record: all(is_chat(record.get(key)) for key in keys), read)


V1 = _two_chats("llama-factory-v1", noop("LLaMA-Factory (v1)"), MESSAGES)
TORCHTUNE = _two_chats("torchtune", noop("torchtune (preferences)"), CONVERSATIONS)


# --- Single ratings ----------------------------------------------------------------------------------------------


def _thumb_key(record: Record) -> str:
    return next((key for key in ("kto_tag", "label") if as_thumb(record.get(key)) is not None), "")


def _fits_kto(record: Record) -> bool:
    if fields.has_any(record, *CHOSEN, "prompt", "completion") or not _thumb_key(record):
        return False
    if key := _chat_key(record):
        return is_answered(record[key])  # other labels are of whole chats, or of questions
    return "kto_tag" in record and fields.has_texts(record, "instruction", "output")


def _explain_kto(record: Record) -> str:
    key = _chat_key(record)
    if not key or not _thumb_key(record):
        return ""
    return _("%(name)s must end with a message of the assistant, after a prompt.") % {"name": key}


def _read_kto(record: Record) -> Candidate:
    thumb, key = _thumb_key(record), _chat_key(record)
    prompt: Content
    answer: Content
    if key:
        prompt, answer = split_answer(read_chat(record[key], key), key)
        prompt = fields.with_system(prompt, record)
    else:
        prompt, answer = _alpaca_prompt(record), record["output"]
    return thumbed(record, (*PROMPT, "output", key, thumb), prompt, answer, record[thumb])


KTO = Format(
    "llama-factory-kto",
    noop("LLaMA-Factory, ms-swift: single ratings (KTO)"),
    JUDGED,
    _fits_kto,
    _read_kto,
    explain=_explain_kto,
)
