"""TRL: `prompt`, `chosen`, `rejected`, as text or as messages. The prompt may be inside both of the others."""

from collections.abc import Mapping

from django.utils.translation import gettext as _

from annotate.sources.candidates import Answer, Candidate, Content, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.messages import is_chat, read_content, split_chats, split_texts

SIDES = ("chosen", "rejected")
POLICIES = ("{}_policy", "{}_model", "{}-model", "model_{}")
SCORES = ("score_{}", "{}_score", "{}_rating", "{}-rating")
# What may stand beside two texts without a prompt. Any other text could be the prompt.
ASIDE = ("id", "label", "margin", "source", "images", "tools", "chat_template_kwargs")


def _policy_key(record: Record, side: str) -> str:
    return next((key for name in POLICIES if (key := name.format(side)) in record), "")


def _scores(record: Record) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Return the scores of both, and the keys they are from: one that contradicts the preference is not used."""
    for name in SCORES:
        keys = tuple(name.format(side) for side in SIDES)
        if all(fields.is_number(record.get(key)) for key in keys):
            better, worse = (fields.number(record[key], key) for key in keys)
            if better > worse:
                return (better, worse), keys
    return fields.PREFERRED, ()


def read_pair(record: Record, prompt_key: str = "prompt", system_key: str = "system") -> Candidate:
    """Return the candidate of a record with `chosen` and `rejected`, and its prompt under a key or inside both."""
    used = {*SIDES, system_key, prompt_key}
    contents = {side: read_content(record.get(side), side) for side in SIDES}
    prompt: Content
    completions: list[Content]
    chats = {side: content for side, content in contents.items() if isinstance(content, list)}
    if len(chats) == 2 and any(chat[0]["role"] != "assistant" for chat in chats.values()):
        prompt, completions = split_chats(chats)
        if record.get(prompt_key) not in (None, "", prompt, prompt[-1].get("content")):
            used.discard(prompt_key)
    elif prompt_key in record:
        prompt = fields.prompt_of(record, prompt_key, *SIDES)
        completions = [fields.answer(record, side).content for side in SIDES]
    elif isinstance(contents["chosen"], str) and isinstance(contents["rejected"], str):
        prompt, better, worse = split_texts(contents["chosen"], contents["rejected"])
        completions = [better, worse]
        if not prompt.strip():
            raise RecordError(
                _("There is no prompt, and chosen and rejected do not begin with the same text.")
            )
    else:
        raise RecordError(_("The prompt is missing."), prompt_key)
    policies = [_policy_key(record, side) for side in SIDES]
    scores, score_keys = _scores(record)
    answers = [
        Answer(content, fields.name_of(record.get(key)))
        for content, key in zip(completions, policies, strict=True)
    ]
    return fields.candidate(
        record,
        {*used, *policies, *score_keys},
        fields.with_system(prompt, record.get(system_key)),
        answers,
        [Opinion(scores)],
        **_prompt_id(record),
    )


def _prompt_id(record: Record) -> dict[str, object]:
    found = fields.name_of(record.get("prompt_id"))
    return {"prompt_external_id": found} if found else {}


# --- Preferences -------------------------------------------------------------------------------------------------


def _fits(record: Record) -> bool:
    if not fields.has_contents(record, *SIDES):
        return False
    if "prompt" in record:
        return fields.has_contents(record, "prompt")
    if all(isinstance(record[side], str) for side in SIDES):
        return not any(
            isinstance(value, str | list | Mapping) and key not in (*SIDES, *ASIDE)
            for key, value in record.items()
        )
    return (
        all(is_chat(record[side]) for side in SIDES)
        and "messages" not in record
        and "conversations" not in record
    )


def _read(record: Record) -> Candidate:
    keys = [key for key in ("prompt", *SIDES) if key in record]
    return read_pair(fields.read_cells(record, *keys))


PREFERENCES = Format("trl", "TRL preferences", JUDGED, _fits, _read)


# --- Preferences under another name of the prompt --------------------------------------------------------------------


def _named(record: Record) -> str:
    found = [key for key in fields.PROMPT_KEYS[1:] if isinstance(record.get(key), str | list)]
    return found[0] if len(found) == 1 and "prompt" not in record else ""


NAMED = Format(
    "chosen-rejected",
    "Chosen and rejected, with a prompt of another name",
    JUDGED,
    lambda record: fields.has_contents(record, *SIDES) and bool(_named(record)),
    lambda record: read_pair(record, _named(record)),
)


# --- Single ratings ----------------------------------------------------------------------------------------------


def as_thumb(value: object) -> bool | None:
    """Return a rating by thumb: true or false, also as a number or in words. None if it is neither."""
    if isinstance(value, str):
        return {"true": True, "false": False, "1": True, "0": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int) and value in (0, 1) else None


def rated(thumb: object) -> list[Opinion]:
    """Return the opinion of one who says yes or no to one answer."""
    return [Opinion((1.0 if as_thumb(thumb) else 0.0,))]


def _fits_kto(record: Record) -> bool:
    return fields.has_contents(record, "prompt", "completion") and as_thumb(record.get("label")) is not None


def _read_kto(record: Record) -> Candidate:
    record = fields.read_cells(record, "prompt", "completion")
    prompt = fields.prompt_of(record, "prompt", "completion")
    answer = fields.answer(record, "completion")
    return fields.candidate(
        record, ("prompt", "completion", "label"), prompt, [answer], rated(record["label"])
    )


KTO = Format("trl-kto", "TRL single ratings (KTO)", JUDGED, _fits_kto, _read_kto)
