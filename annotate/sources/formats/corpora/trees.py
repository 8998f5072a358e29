"""Open-Assistant: trees of messages, with ranked replies of the assistant to each message of a prompter."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Message, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import PROMPTS, Format, Record
from primitives.text import printable

ROLES = {"prompter": "user", "assistant": "assistant"}
DEEPEST, LARGEST = 1_000, 10_000  # messages one below the other, and of a tree
JOINED = "oasst_messages"  # what `annotate.sources.message_trees` calls messages that were one a row
KEYS = ("message_id", "role", "text")  # of a message that stands alone
OF_TREE = ("message_tree_id", "tree_state")  # said once of a tree
OF_MESSAGE = ("text", "role", "replies", "rank", "parent_id")


def _fits(record: Record) -> bool:
    if fields.are_objects(record.get(JOINED), *KEYS):
        return True
    prompt = record.get("prompt")
    return (
        isinstance(prompt, Mapping)
        and "message_id" in prompt
        and "replies" in prompt
        and isinstance(prompt.get("text"), str)
    )


def _read(record: Record) -> Iterator[Candidate]:
    """Yield a candidate for each message of a prompter: the chat up to it, and the replies with their ranks."""
    tree = _as_tree(record)
    waiting: list[tuple[Mapping[str, Any], list[Message]]] = [(tree["prompt"], [])]
    count = 0
    while waiting:
        node, before = waiting.pop()
        count += 1
        chat = [*before, _message(node)]
        if len(chat) > DEEPEST or count > LARGEST:
            raise RecordError(_("The tree has more than %(limit)s messages.") % {"limit": f"{LARGEST:,}"})
        replies = _replies(node)
        waiting += [(reply, chat) for reply in reversed(replies)]
        if chat[-1]["role"] == "user":
            yield _candidate(tree, node, chat, replies)


def _as_tree(record: Record) -> Record:
    """Return a tree, also of messages that were one a row. Each names the one before it, and its tree."""
    if JOINED not in record:
        return record
    replies: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    nodes = [dict(message) for message in record[JOINED]]
    for node in nodes[1:]:
        replies[str(node.get("parent_id"))].append(node)
    for node in nodes:
        node["replies"] = replies.pop(str(node["message_id"]), [])
    root = nodes[0]
    of_tree = {key: root[key] for key in OF_TREE if key in root}
    for node in nodes:
        for key, value in of_tree.items():
            if key in node and node[key] == value:
                del node[key]
    return {**of_tree, "prompt": root}


def _explain(record: Record) -> str:
    """Return why a message that stands alone is left out."""
    if not all(key in record for key in KEYS) or record.get("parent_id") is None:
        return ""
    return _("It replies to a message (%(id)s) that is not among those of its tree beside it.") % {
        "id": printable(str(record["parent_id"]), 60)
    }


def _candidate(
    tree: Record, node: Mapping[str, Any], chat: list[Message], replies: list[Mapping[str, Any]]
) -> Candidate:
    of_assistant = [reply for reply in replies if reply.get("role") == "assistant"]
    ranks = [reply.get("rank") for reply in of_assistant]
    known = [fields.number(rank, "rank") for rank in ranks if rank is not None]
    places = dict(zip(known, fields.ranked(known), strict=True))
    scores = tuple(None if rank is None else places[fields.number(rank, "rank")] for rank in ranks)
    metadata = {
        **(fields.rest(tree, "prompt") or {}),
        **(fields.rest(node, "message_id", "model_name", *OF_MESSAGE) or {}),
    }
    return Candidate(
        prompt=chat,
        answers=tuple(
            Answer(
                fields.text(reply, "text"),
                fields.name_of(reply.get("model_name")),
                fields.rest(reply, "model_name", *OF_MESSAGE) or {},
            )
            for reply in of_assistant
        ),
        opinions=(Opinion(scores),) if len(known) > 1 else (),
        prompt_external_id=fields.name_of(node.get("message_id")),
        prompt_metadata=metadata or None,
    )


def _message(node: Mapping[str, Any]) -> Message:
    role = ROLES.get(str(node.get("role")))
    if role is None:
        raise RecordError(
            _("%(name)s must be %(values)s.") % {"name": "role", "values": "prompter, assistant"}, "role"
        )
    return {"role": role, "content": fields.text(node, "text")}


def _replies(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the replies to a message, without deleted ones."""
    found = fields.objects(node, "replies") if node.get("replies") is not None else []
    return [reply for reply in found if reply.get("deleted") is not True]


OASST = Format("oasst", noop("Open-Assistant trees"), PROMPTS, _fits, _read, is_fixed=True, explain=_explain)
