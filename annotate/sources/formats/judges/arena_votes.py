"""FastChat's logs of an arena: a line for each vote, between lines of other kinds."""

from collections.abc import Mapping

from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Message, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record
from annotate.sources.messages import split_chats

VOTES = {
    "leftvote": Opinion(fields.chosen(0)),
    "rightvote": Opinion(fields.chosen(1)),
    "tievote": Opinion((0.5, 0.5)),
    "bothbad_vote": Opinion(verdict="both_bad"),
}
STATE = ("roles", "messages", "offset")


def _is_vote(record: Record) -> bool:
    states = record.get("states")
    is_pair = isinstance(states, list) and len(states) == 2 and fields.are_objects(states, *STATE)
    return is_pair and fields.name_of(record.get("type")) in VOTES


def _fits(record: Record) -> bool:
    """Return whether a line is of such a log. Lines of other kinds have one state or none."""
    is_of_log = fields.has_texts(record, "type") and "tstamp" in record and "ip" in record
    return is_of_log and (_is_vote(record) or record["type"] not in VOTES)


def _read(record: Record) -> Candidate:
    if not _is_vote(record):
        raise RecordError(_("The line is not a vote between two models."), "type")
    states = fields.objects(record, "states")
    prompt, completions = split_chats(
        {side: _chat(state, side) for side, state in zip("AB", states, strict=True)}
    )
    voter = fields.name_of(record["ip"])
    opinion = VOTES[record["type"]]._replace(
        annotator=pseudonym(voter) if voter else "",
        at=fields.moment(record["tstamp"]),
    )
    return fields.candidate(
        record,
        ("states", "models", "type", "tstamp", "ip"),
        prompt,
        [
            Answer(content, _model(record, place, state))
            for place, (content, state) in enumerate(zip(completions, states, strict=True))
        ],
        [opinion],
        sides_known=True,
    )


def pseudonym(voter: str) -> str:
    """Return a name for the address of a voter. By a plain digest, all addresses could be tried."""
    return salted_hmac("arena voter", voter.encode(errors="replace")).hexdigest()[:12]


def _model(record: Record, place: int, state: Mapping[str, object]) -> str:
    """Return the name of a model, which is not among the models of a vote where it was hidden."""
    named = fields.cell(record.get("models"))
    name = named[place] if isinstance(named, list) and len(named) == 2 else ""
    return fields.name_of(name) or fields.name_of(state.get("model_name"))


def _chat(state: Mapping[str, object], name: str) -> list[Message]:
    """Return what was said in a state. Raises RecordError for other things than texts in turn."""
    roles, messages, offset = (state[key] for key in STATE)
    said = messages[offset:] if isinstance(messages, list) and isinstance(offset, int) else []
    if (
        not isinstance(roles, list)
        or len(roles) != 2
        or not all(isinstance(role, str) for role in roles)
        or not all(map(_is_turn, said))
    ):
        raise RecordError(_("%(name)s must be pairs of texts.") % {"name": "messages"}, "messages")
    speakers = {roles[0]: "user", roles[1]: "assistant"}
    if not said or any(turn[0] not in speakers for turn in said):
        raise RecordError(_("%(name)s must be a list of messages.") % {"name": name}, "messages")
    return [{"role": speakers[turn[0]], "content": turn[1]} for turn in said]


def _is_turn(turn: object) -> bool:
    return isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)


LOGS = Format(
    "arena-votes",
    noop("FastChat (votes of an arena)"),
    JUDGED,
    _fits,
    _read,
    fits_together=lambda records: any(map(_is_vote, records)),
)
