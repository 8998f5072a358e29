"""PRISM: conversations in which a person rates several models' replies to each message, and goes on with one."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Message, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record

HISTORY = "conversation_history"
LARGEST = 1_000  # messages of a conversation, each turn of which repeats those before it
OF_REPLY = ("turn", "role", "content", "model_name", "score", "if_chosen", "within_turn_id")


def _fits(record: Record) -> bool:
    history = record.get(HISTORY)
    return "conversation_id" in record and fields.are_objects(history, "turn", "role", "content")


def _read(record: Record) -> Iterator[Candidate]:
    """Yield a candidate for each turn: the chat up to it, and the replies with their scores."""
    history, chat = fields.objects(record, HISTORY), list[Message]()
    if len(history) > LARGEST:
        raise RecordError(
            _("%(name)s has more than %(limit)s messages.") % {"name": HISTORY, "limit": f"{LARGEST:,}"},
            HISTORY,
        )
    conversation, annotator = (fields.name_of(record.get(key)) for key in ("conversation_id", "user_id"))
    metadata = fields.rest(record, "conversation_id", "user_id", HISTORY)
    for turn, messages in groupby(history, key=lambda message: message["turn"]):
        asked, *replies = messages
        if asked["role"] != "user" or any(reply["role"] != "model" for reply in replies):
            raise RecordError(
                _("%(name)s must have a message of the user in each turn, and then replies.")
                % {"name": HISTORY},
                HISTORY,
            )
        chat = [*chat, {"role": "user", "content": fields.text(asked, "content")}]
        yield Candidate(
            prompt=chat,
            answers=tuple(map(_answer, replies)),
            opinions=(Opinion(tuple(map(_score, replies)), annotator=annotator),),
            external_id=f"{conversation}/{fields.name_of(turn)}" if conversation else "",
            metadata=metadata,
        )
        chosen = [reply for reply in replies if reply.get("if_chosen") is True]
        if len(chosen) != 1:
            return  # what follows was said after no reply that is known
        chat = [*chat, {"role": "assistant", "content": fields.text(chosen[0], "content")}]


def _answer(reply: Mapping[str, Any]) -> Answer:
    about = fields.rest(reply, *OF_REPLY) or {}
    return Answer(fields.text(reply, "content"), fields.name_of(reply.get("model_name")), about)


def _score(reply: Mapping[str, Any]) -> float | None:
    score = reply.get("score")
    return None if score is None else fields.number(score, "score")


PRISM = Format("prism", noop("PRISM (conversations)"), JUDGED, _fits, _read)
