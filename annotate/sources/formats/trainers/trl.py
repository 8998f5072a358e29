"""TRL: `prompt`, `chosen`, `rejected`, as text or as messages. The prompt may be inside both of the others."""

from collections.abc import Mapping, Sequence
from itertools import chain

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Candidate, Content
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.formats.pairs import CHOSEN, are_completions, as_thumb, preferred, thumbed
from annotate.sources.formats.views import may_be_several
from annotate.sources.messages import Chat, as_answer, is_chat, read_content, split_chats, split_texts

# What may stand beside two texts without a prompt. Any other text could be the prompt.
ASIDE = (
    *("id", "_id", "uuid", "label", "margin", "source", "images", "tools", "chat_template_kwargs", "metadata"),
    *("split", "subset", "dataset", "language", "lang", "category", "created_at", "timestamp", "date"),
)  # fmt: skip


def read_pair(record: Record, prompt_key: str = "prompt") -> Candidate:
    """Return the candidate of a record with `chosen` and `rejected`, and its prompt under a key or inside both."""
    used = {*CHOSEN, *fields.SYSTEM, prompt_key}
    contents = {side: read_content(record.get(side), side) for side in CHOSEN}
    chats = {side: content for side, content in contents.items() if isinstance(content, list)}
    completions: list[Content]
    prompt: Content
    if len(chats) == len(contents) and all(chat[0]["role"] != "assistant" for chat in chats.values()):
        prompt, completions = split_chats(chats)
        if record.get(prompt_key) not in (None, "", prompt, prompt[-1].get("content")):
            used.discard(prompt_key)
    elif prompt_key in record:
        prompt = fields.prompt_of(record, prompt_key, *CHOSEN)
        if _is_history_missing(record, prompt_key):
            used.add("history")
            return preferred(record, used, fields.with_history(prompt, record), _as_answers(contents))
        completions = _as_answers(contents)
    elif isinstance(contents["chosen"], str) and isinstance(contents["rejected"], str):
        prompt, better, worse = split_texts(contents["chosen"], contents["rejected"])
        completions = [better, worse]
        if not prompt.strip():
            raise RecordError(
                _("There is no prompt, and chosen and rejected do not begin with the same text.")
            )
    else:
        raise RecordError(_("The prompt is missing."), prompt_key)
    return preferred(record, used, fields.with_system(prompt, record), completions)


def _is_history_missing(record: Record, prompt_key: str) -> bool:
    """Return whether a prompt that is text has a history beside it, which it does not hold already."""
    prompt, turns = record[prompt_key], fields.cell(record.get("history"))
    if not isinstance(prompt, str) or not fields.is_history(turns):
        return False
    place = 0
    for said in chain.from_iterable(turns):
        found = prompt.find(said, place)
        if found < 0:
            return True
        place = found + len(said)
    return False


def _as_answers(contents: Mapping[str, str | Chat]) -> list[Content]:
    return [as_answer(content, side) for side, content in contents.items()]


# --- Step-DPO ----------------------------------------------------------------------------------------------------

STEPS = "initial_reason_steps"


def _read_steps(record: Record) -> Candidate:
    """Return two ways to go on after steps that both have: a completion is the steps and what follows them."""
    completions: list[Content] = [record[STEPS] + record[side] for side in CHOSEN]
    return preferred(record, ("prompt", STEPS, *CHOSEN), record["prompt"], completions)


STEP_DPO = Format(
    "step-dpo",
    noop("Step-DPO"),
    JUDGED,
    lambda record: fields.has_texts(record, "prompt", STEPS, *CHOSEN),
    _read_steps,
)


# --- Preferences -------------------------------------------------------------------------------------------------


def _fits(record: Record) -> bool:
    if not are_completions(record):
        return False
    are_chats = all(is_chat(record[side]) for side in CHOSEN)
    if "prompt" in record and not (record["prompt"] is None and are_chats):
        return fields.has_contents(record, "prompt")
    if all(isinstance(record[side], str) for side in CHOSEN):
        return not any(_may_be_prompt(key, value) for key, value in record.items())
    return are_chats and not fields.has_any(record, "messages", "conversations", *fields.PROMPT_KEYS)


def _may_be_prompt(key: object, value: object) -> bool:
    """Return whether a value beside two texts may be their prompt. Numbers of tables are texts, too."""
    return (
        isinstance(value, str | list | Mapping)
        and key not in (*CHOSEN, *ASIDE)
        and (key in fields.PROMPT_KEYS or not fields.is_number(value))
    )


def _read(record: Record) -> Candidate:
    return read_pair(fields.read_cells(record, *CHOSEN))


def are_one_each(records: Sequence[Record]) -> bool:
    """Return whether not all completions may be several: lists of texts as JSON."""
    return not all(map(may_be_several, records))


PREFERENCES = Format("trl", noop("TRL preferences"), JUDGED, _fits, _read, fits_together=are_one_each)


# --- Preferences under another name of the prompt ----------------------------------------------------------------


def _prompt_key(record: Record) -> str:
    found = [key for key in fields.PROMPT_KEYS if isinstance(record.get(key), str | list)]
    return found[0] if len(found) == 1 else ""


NAMED = Format(
    "chosen-rejected",
    noop("Chosen and rejected, with another name of the prompt"),
    JUDGED,
    lambda record: bool(_prompt_key(record)) and are_completions(record),
    lambda record: read_pair(fields.read_cells(record, *CHOSEN), _prompt_key(record)),
    fits_together=are_one_each,
)


# --- Single ratings ----------------------------------------------------------------------------------------------


def _fits_kto(record: Record) -> bool:
    return fields.has_contents(record, "completion") and as_thumb(record.get("label")) is not None


def _read_kto(record: Record) -> Candidate:
    """Return one completion and whether it is good. Axolotl names the prompt otherwise, or keeps it in a whole chat."""
    record = fields.read_cells(record, "completion")
    key = _prompt_key(record)
    used = (key, "completion", "label", *fields.SYSTEM)
    content = read_content(record["completion"], "completion")
    prompt: Content
    if isinstance(content, list) and content[0]["role"] != "assistant":
        prompt, [answer] = split_chats({"completion": content})
    elif key:
        prompt, answer = fields.prompt_of(record, key, "completion"), as_answer(content, "completion")
    else:
        raise RecordError(_("The prompt is missing."), "prompt")
    return thumbed(record, used, fields.with_system(prompt, record), answer, record["label"])


KTO = Format("trl-kto", noop("TRL single ratings (KTO)"), JUDGED, _fits_kto, _read_kto)
