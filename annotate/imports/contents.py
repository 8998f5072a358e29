"""The parts of a record, checked: prompts, completions, tools, metadata, names and opinions, each within its limit.

A part that cannot be used raises RowError, whose sentence names it.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.imports.messages import check_message, text_of
from annotate.imports.reader import RowError
from annotate.judgments.verdicts import clean_text
from annotate.models import Judgment
from annotate.sources.candidates import CriterionOpinion, Opinion
from annotate.text.chats import Content
from annotate.text.images import hide_payloads
from annotate.text.json_values import DEPTH, JSONError, clean_json, parse_json
from primitives.text import is_storable, printable

TEXT_LIMIT = 100_000  # characters of a prompt or a completion, without the base64 of its images
IMAGES_LIMIT = 4 * 1024 * 1024  # characters of that base64
MESSAGES = 1_000  # of a chat
METADATA_LIMIT = 64 * 1024  # bytes, as JSON
TOOLS_LIMIT = 256 * 1024  # bytes, as JSON
ID_LIMIT, POLICY_LIMIT, TITLE_LIMIT = 200, 120, 60  # characters
OF_A_JUDGMENT = 50  # reasons of one judgment, and criteria
SECONDS_LIMIT = 30 * 24 * 3600.0
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)

Verdict = Judgment.Verdict


def check_prompt(content: object) -> Content:
    """Return a prompt that can be used: text, or the messages of a chat. Raises RowError."""
    if isinstance(content, str):
        return check_text(content, "prompt")
    if not isinstance(content, list) or not content:
        raise RowError(_("The prompt must be text or a list of chat messages."))
    messages = _check_messages(content, "prompt")
    if messages[-1]["role"] == "assistant":
        raise RowError(
            _("The last message of the prompt is the assistant's; its completion is what is judged.")
        )
    return messages


def check_completion(content: object, name: str | Promise, *, may_be_empty: bool = False) -> Content:
    """Return a completion that can be used: text, or messages that begin with the assistant's. Raises RowError.

    One message of the assistant that says text and nothing else is that text.
    """
    if not isinstance(content, list):
        return check_text(content, name, may_be_empty=may_be_empty)
    if not content:
        raise RowError(_("%(name)s is empty.") % {"name": name})
    if _is_text_alone(content):
        return check_text(content[0].get("content") or "", name, may_be_empty=may_be_empty)
    messages = _check_messages(content, name)
    if messages[0]["role"] != "assistant":
        raise RowError(_("%(name)s must begin with a message of the assistant.") % {"name": name})
    return messages


def check_tools(tools: Sequence[object]) -> tuple[Mapping[str, Any], ...]:
    """Return the tools that a chat template is told of: objects. Raises RowError."""
    if not tools:
        return ()
    name = "tools"
    if not all(isinstance(tool, Mapping) for tool in tools):
        raise RowError(_("%(name)s must be a list of objects.") % {"name": name})
    try:
        return tuple(clean_json(list(tools), depth=DEPTH, size=TOOLS_LIMIT))
    except JSONError as error:
        raise RowError(f"{name}: {error}") from error


def check_metadata(value: object, name: str | Promise) -> dict[str, Any]:
    """Return metadata that can be stored. Raises RowError."""
    try:
        if name == "prompt_metadata" and isinstance(value, str):  # a cell of CSV, as the export writes it
            value = parse_json(value)
        if not isinstance(value, dict):
            raise RowError(_("%(name)s must be an object.") % {"name": name})
        return dict(clean_json(value, depth=DEPTH, size=METADATA_LIMIT))
    except JSONError as error:
        raise RowError(f"{name}: {error}") from error


def drop_largest(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata without its largest values, as many as it takes to be stored."""
    sizes = {
        key: len(json.dumps({key: value}, ensure_ascii=False).encode(errors="replace"))
        for key, value in metadata.items()
    }
    kept, size = dict(metadata), sum(sizes.values())
    for key in sorted(sizes, key=lambda key: sizes[key], reverse=True):
        if size <= METADATA_LIMIT:
            break
        del kept[key]
        size -= sizes[key]
    return kept


def check_name(value: object, name: str | Promise, limit: int) -> str:
    """Return a short text, such as an id, without blanks around it. A whole number is one too. Raises RowError."""
    if value == "":
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or len(value) > limit:
        raise RowError(
            _("%(name)s must be text of at most %(limit)s characters.") % {"name": name, "limit": limit}
        )
    if not is_storable(value):
        raise RowError(_unstorable(name))
    return value.strip()


def check_text(value: object, name: str | Promise, *, may_be_empty: bool = False) -> str:
    """Return text that can be used. `name` is its key, for the error. Raises RowError."""
    if not isinstance(value, str):
        raise RowError(_("%(name)s must be text.") % {"name": name})
    if not may_be_empty and not value.strip():
        raise RowError(_("%(name)s is empty.") % {"name": name})
    _check_length(name, [value])
    if not is_storable(value):
        raise RowError(_unstorable(name))
    return value


def _check_messages(content: Sequence[object], name: str | Promise) -> list[dict[str, Any]]:
    if len(content) > MESSAGES:
        raise RowError(
            _("The %(name)s has %(count)s messages; at most %(limit)s are taken.")
            % {"name": name, "count": f"{len(content):,}", "limit": f"{MESSAGES:,}"}
        )
    where = _("message %(number)s of the %(name)s")  # translated once for all of them
    messages = [
        check_message(message, where % {"number": number, "name": name})
        for number, message in enumerate(content, start=1)
    ]
    _check_length(name, [text_of(message) for message in messages])
    return messages


def _is_text_alone(content: Sequence[Any]) -> bool:
    """Return whether a chat is one message of the assistant that says text, or nothing at all."""
    if len(content) != 1 or not isinstance(content[0], Mapping) or content[0].get("role") != "assistant":
        return False
    said = {key for key, value in content[0].items() if value is not None}
    return said <= {"role", "content"} and isinstance(content[0].get("content"), str | None)


def _check_length(name: str | Promise, texts: list[str]) -> None:
    """Refuse texts that are together too long. The base64 of their images is counted by itself. Raises RowError."""
    whole = sum(map(len, texts))
    if whole <= TEXT_LIMIT:
        return
    if whole > TEXT_LIMIT + IMAGES_LIMIT:
        sentence = _(
            "%(name)s has %(count)s characters; at most %(limit)s are taken, and %(images)s of images."
        )
    elif (whole := sum(len(hide_payloads(text)) for text in texts)) > TEXT_LIMIT:
        sentence = _("%(name)s has %(count)s characters; at most %(limit)s are taken.")
    else:
        return
    limits = {"limit": f"{TEXT_LIMIT:,}", "images": f"{IMAGES_LIMIT:,}"}
    raise RowError(sentence % {"name": name, "count": f"{whole:,}", **limits})


def _unstorable(name: str | Promise) -> str:
    return _("%(name)s holds a NUL or half a character.") % {"name": name}


# --- Opinions ----------------------------------------------------------------------------------------------------


def check_opinion(opinion: Opinion, name: str, answers: int) -> Opinion:
    if opinion.verdict not in ("", Verdict.BOTH_BAD, Verdict.SKIP):
        raise RowError(_("“%(verdict)s” is not a verdict.") % {"verdict": opinion.verdict})
    scores = opinion.scores
    if not opinion.verdict and len(scores) != answers:
        raise RowError(_("An opinion must have a score for each completion."))
    if not all(score is None or math.isfinite(score) for score in scores):
        raise RowError(_("A score is not a number."))
    if opinion.strength is not None and opinion.strength not in Judgment.Strength.values:
        raise RowError(_("The strength of a preference must be 1, 2 or 3."))
    seconds = opinion.seconds
    if seconds is not None and not 0 <= seconds <= SECONDS_LIMIT:
        raise RowError(_("The seconds of a judgment must be from 0 to %(most)d.") % {"most": SECONDS_LIMIT})
    try:
        rationale = clean_text(opinion.rationale, "rationale")
    except RefusalError as error:
        raise RowError(error.message) from error
    at, opinion = read_time(opinion.at), _check_aspects(opinion)
    if (name, rationale, at) == (opinion.annotator, opinion.rationale, opinion.at):
        return opinion  # as most are
    return opinion._replace(annotator=name, rationale=rationale, at=at)


def read_time(at: datetime | None) -> datetime | None:
    """Return a time that rows can hold: with a zone, and neither long past nor to come. Raises RowError."""
    if at is None:
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    if not EARLIEST <= at <= timezone.now() + timedelta(days=1):
        raise RowError(_("The time of a judgment, %(time)s, is not possible.") % {"time": at.isoformat()})
    return min(at, timezone.now())


def _check_aspects(opinion: Opinion) -> Opinion:
    """Return an opinion whose reasons and criteria can be stored. Raises RowError."""
    if not opinion.reasons and not opinion.criteria:
        return opinion
    reasons, criteria = opinion.reasons, opinion.criteria
    for name, said in (("reasons", reasons), ("criteria", criteria)):
        if said and len(said) > OF_A_JUDGMENT:
            raise RowError(
                _("A judgment has %(count)s %(name)s; at most %(limit)s are taken.")
                % {"count": len(said), "name": name, "limit": OF_A_JUDGMENT}
            )
    if reasons:
        reasons = tuple(_title(reason, "reasons") for reason in reasons)
        _refuse_twins(reasons, "reasons")
    if criteria:
        criteria = tuple(map(_check_criterion, criteria))
        _refuse_twins([one.title or one.key for one in criteria], "criteria")
    return opinion._replace(reasons=reasons, criteria=criteria)


def _refuse_twins(titles: Sequence[str], name: str) -> None:
    """Refuse two of one title, which decides what is meant: one of them would be lost. Raises RowError."""
    if twins := [title for title, count in Counter(titles).items() if count > 1]:
        raise RowError(
            _("%(name)s: two are called “%(title)s”. Rename one of them.")
            % {"name": name, "title": printable(twins[0], 60)}
        )


def _check_criterion(said: CriterionOpinion) -> CriterionOpinion:
    title = _title(said.title or said.key, "criteria")
    named = {"name": title}
    if said.verdict not in Judgment.OPINIONS:
        raise RowError(_("criteria: what is said of “%(name)s” is not a verdict.") % named)
    if (said.preferred is not None) != (said.verdict == Verdict.PREFER):
        raise RowError(
            _("criteria: a preference, and nothing else, names the better one by “%(name)s”.") % named
        )
    if (said.strength is not None and said.verdict != Verdict.PREFER) or (
        said.verdict == Verdict.PREFER and said.strength not in Judgment.Strength.values
    ):
        raise RowError(_("criteria: a preference by “%(name)s” has a strength of 1, 2 or 3.") % named)
    return said._replace(title=title) if said.title else said


def _title(text: str, name: str) -> str:
    title = check_name(" ".join(text.split()), name, TITLE_LIMIT)
    if not title:
        raise RowError(_("%(name)s: each needs a title.") % {"name": name})
    return title
