"""Open WebUI: its export of feedback, each on one reply of a chat."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Message, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.media import find_losses

Replies = Mapping[str, Mapping[str, Any]]
RATINGS = {"1": 1.0, "-1": 0.0}
REPLIES = 64  # to one message: each other one is a candidate, with the whole chat before it


def _messages(record: Record) -> Replies | None:
    """Return the messages of the chat as it was when it was rated, by their ids; None if there are none."""
    found: object = record
    for key in ("snapshot", "chat", "chat", "history", "messages"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _fits(record: Record) -> bool:
    data, meta = record.get("data"), record.get("meta")
    return (
        isinstance(data, Mapping)
        and "rating" in data
        and isinstance(meta, Mapping)
        and "message_id" in meta
        and _messages(record) is not None
    )


def _read(record: Record) -> Iterator[Candidate]:
    """Yield the rated reply: alone, or with each other reply to the same message, as Open WebUI's leaderboard does."""
    messages, data, meta = _messages(record) or {}, record["data"], record["meta"]
    rating = fields.name_of(data["rating"])
    if rating not in RATINGS:
        raise RecordError(_("%(name)s must be %(values)s.") % {"name": "rating", "values": "1, -1"}, "rating")
    rated = fields.name_of(meta["message_id"])
    path = _path(messages, rated)
    siblings = messages[path[-1]].get("childrenIds") if data.get("sibling_model_ids") else None
    replies = [name for name in siblings if _is_reply(messages, name)] if isinstance(siblings, list) else []
    replies = list(dict.fromkeys(replies))
    if len(replies) > REPLIES:
        raise RecordError(
            _("It has %(count)s completions; at most %(limit)s are taken.")
            % {"count": len(replies), "limit": REPLIES},
            "snapshot",
        )
    at = replies.index(rated) if rated in replies else len(replies)
    pairs: list[tuple[str, ...]] = [(one, rated) for one in replies[:at]] if rated in replies else []
    pairs += [(rated, one) for one in replies[at + 1 :]]
    for number, pair in enumerate(pairs or [(rated,)], start=1):
        found = _candidate(record, messages, path, pair, meta)
        score = RATINGS[rating]
        scores = tuple(score if name == rated else 1 - score for name in pair)
        note = [fields.name_of(data.get(key)) for key in ("reason", "comment")]
        found.opinions = (
            Opinion(
                scores,
                annotator=fields.name_of(record.get("user_id")),
                rationale="\n".join(filter(None, note)),
                at=fields.moment(record.get("updated_at")),
            ),
        )
        found.external_id += f"/{number}" if len(pairs) > 1 and found.external_id else ""
        yield found


def _candidate(
    record: Record, messages: Replies, path: list[str], pair: tuple[str, ...], meta: Mapping[str, Any]
) -> Candidate:
    chat: list[Message] = [
        {"role": _role(messages[name]), "content": fields.text(messages[name], "content")} for name in path
    ]
    details = fields.rest(record["data"], "rating", "model_id", "sibling_model_ids", "reason", "comment")
    files = [name for name in path if messages[name].get("files")]
    return fields.candidate(
        record,
        (),
        chat,
        [
            Answer(fields.text(messages[name], "content"), fields.name_of(messages[name].get("model")))
            for name in pair
        ],
        metadata=fields.rest({**(details or {}), "arena": meta.get("arena"), "chat_id": meta.get("chat_id")}),
        losses=find_losses({"images": files}),
    )


def _is_reply(messages: Replies, name: object) -> bool:
    reply = messages.get(name) if isinstance(name, str) else None
    return isinstance(reply, Mapping) and reply.get("role") == "assistant"


def _role(message: Mapping[str, Any]) -> str:
    return "assistant" if message.get("role") == "assistant" else fields.text(message, "role")


def _path(messages: Replies, rated: str) -> list[str]:
    """Return the ids of the messages that lead to a reply. Raises RecordError where one of them is missing."""
    path: dict[str, None] = {}  # in order, and quick to look into
    at: object = rated
    while at is not None:
        message = messages.get(at) if isinstance(at, str) else None
        if not isinstance(message, Mapping) or at in path:
            raise RecordError(
                _("The chat does not hold the message that was rated, or one before it."), "snapshot"
            )
        path[str(at)] = None
        at = message.get("parentId")
    if len(path) < 2 or not _is_reply(messages, rated):
        raise RecordError(_("The message that was rated is not a reply."), "snapshot")
    return list(path)[:0:-1]


FEEDBACK = Format("open-webui", noop("Open WebUI (feedback)"), JUDGED, _fits, _read)
