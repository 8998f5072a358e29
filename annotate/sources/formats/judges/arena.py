"""MT-Bench and Chatbot Arena: questions of several turns, and battles of two models with their winner."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Content, Message, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, PROMPTS, Format, Record
from annotate.sources.formats.pairs import as_thumb
from annotate.sources.formats.prompts import says_preference
from annotate.sources.formats.signs import holds_verdict, names_side, says_number
from annotate.sources.formats.verdicts import read_winner
from annotate.sources.messages import as_answer, is_chat, read_chat, split_chats
from annotate.sources.tables import like

SIDES = ("model_a", "model_b")

# --- Questions ---------------------------------------------------------------------------------------------------


VICUNA = {"question_id", "text", "category"}  # the keys of a question of Vicuna's, which has one turn


def _turns_of(record: Record) -> list[str]:
    """Return the turns of a question; none if it is something else. Arena-Hard's are objects.

    Objects with a role are the messages of a chat, of which the first is not all that was asked.
    """
    if record.keys() == VICUNA:
        return [record["text"]] if isinstance(record["text"], str) else []
    turns = record.get("turns")
    if not isinstance(turns, list) or "question_id" not in record or "choices" in record:
        return []
    if any(isinstance(turn, Mapping) and "role" in turn for turn in turns):
        return []
    if says_preference(like(record, {key: value for key, value in record.items() if key != "turns"})):
        return []
    found = [turn.get("content") if isinstance(turn, Mapping) else turn for turn in turns]
    texts = [turn for turn in found if isinstance(turn, str)]
    return texts if len(texts) == len(found) else []


def _read_question(record: Record) -> Candidate:
    """Return the first turn as the prompt. What follows it is metadata: it depends on the answer."""
    first, *later = _turns_of(record)
    metadata = fields.rest(record, "question_id", "turns", "text") or {}
    if later:
        metadata["turns"] = later
    external_id = fields.name_of(record["question_id"])
    return fields.candidate(record, (), first, external_id=external_id, metadata=metadata or None)


QUESTIONS = Format(
    "mt-bench-questions",
    noop("MT-Bench questions"),
    PROMPTS,
    lambda record: bool(_turns_of(record)),
    _read_question,
)


# --- Battles -----------------------------------------------------------------------------------------------------


CHATS = (("conversation_a", "conversation_b"), ("messages_a", "messages_b"))  # the latter of Search Arena
TIMES, JUDGES = ("tstamp", "timestamp"), ("judge", "judge_hash")


def _chat_keys(record: Record) -> tuple[str, ...]:
    return next((keys for keys in CHATS if all(is_chat(fields.cell(record.get(key))) for key in keys)), ())


def _fits_battle(record: Record) -> bool:
    """Return whether a record has two chats and a winner.

    It is null where there was no vote (Search Arena). Then nothing else may say which is better.
    """
    keys = _chat_keys(record)
    if not keys or "winner" not in record or not isinstance(record["winner"], str | None):
        return False
    if (record["winner"] or "").strip():
        return True
    used = (*keys, *SIDES, *JUDGES, "winner")
    policies = [fields.name_of(record.get(side)) for side in SIDES]
    says_more = holds_verdict(record, *used) or names_side(record, SIDES, *used, policies=policies)
    return not says_more and not says_number(record)


def _read_battle(record: Record) -> Candidate:
    conversations = {key: read_chat(fields.cell(record[key]), key) for key in _chat_keys(record)}
    lost = _earlier_turns(record, list(conversations.values()))
    _cut_turns(record, conversations)
    prompt, completions = split_chats(conversations)
    judge = next((key for key in JUDGES if record.get(key) is not None), "")
    name = fields.cell(record.get(judge))
    time = next((key for key in TIMES if record.get(key) is not None), "")
    at = fields.moment(record.get(time))
    annotator = "/".join(map(str, name)) if isinstance(name, list) else fields.name_of(name)
    question = fields.name_of(record.get("question_id"))
    used = ["question_id"] * bool(question) + [time] * bool(at)
    found = fields.candidate(
        record,
        (*conversations, *SIDES, "winner", judge, *used),
        prompt,
        _answers(record, completions),
        [one._replace(annotator=annotator, at=at) for one in _read_vote(record)],
        prompt_external_id=question,
        sides_known=True,
    )
    return replace(found, losses=(*found.losses, *lost))


def _read_vote(record: Record) -> list[Opinion]:
    """Return who won as an opinion. No opinion where the winner is null or blank: there was no vote."""
    winner = record["winner"]
    if winner is None or not winner.strip():
        return []
    verdict = read_winner(winner, SIDES, [fields.name_of(record.get(side)) for side in SIDES])
    if verdict is None:
        raise RecordError(
            _("winner must be %(values)s.") % {"values": "model_a, model_b, tie, tie (bothbad)"}, "winner"
        )
    return [verdict]


def _earlier_turns(record: Record, chats: Sequence[Sequence[Message]]) -> tuple[str, ...]:
    """Return what of a battle is lost where its whole chat has turns before those of the two models.

    Other models answered in them, a pair for each turn, and the record does not say which answers were seen.
    """
    whole = fields.cell(record.get("full_conversation"))
    asked = max(sum(message["role"] == "user" for message in chat) for chat in chats)
    if not isinstance(whole, list) or len(whole) <= asked:
        return ()
    return (
        _("The turns before the judged ones, which other models answered, have no place in a comparison"),
    )


def _cut_turns(record: Record, conversations: dict[str, list[Message]]) -> None:
    """Cut conversations to the turn that was judged, where one is named."""
    found = record.get("turn")
    turn = int(fields.number(found, "turn")) if fields.is_number(found) else 0
    if "judge" not in record or turn < 1:
        return
    for key, chat in conversations.items():
        asked = [place for place, message in enumerate(chat) if message["role"] == "user"]
        conversations[key] = chat[: asked[turn]] if turn < len(asked) else chat


def _answers(record: Record, completions: Sequence[Content]) -> list[Answer]:
    return [
        Answer(content, fields.name_of(record.get(side)))
        for content, side in zip(completions, SIDES, strict=True)
    ]


BATTLES = Format("arena", noop("MT-Bench and Chatbot Arena battles"), JUDGED, _fits_battle, _read_battle)


# --- Battles in columns: LMSYS arena 55k -------------------------------------------------------------------------

WINNERS = ("winner_model_a", "winner_model_b", "winner_tie")
TURNS = ("prompt", "response_a", "response_b")


def _fits_columns(record: Record) -> bool:
    has_turns = fields.has_contents(record, *TURNS)
    return has_turns and all(as_thumb(record.get(key)) is not None for key in WINNERS)


def _read_columns(record: Record) -> Candidate:
    asked, first, second = (_turns(record, key) for key in TURNS)
    chats = {
        key: _dialogue(asked, said, key) for key, said in (("response_a", first), ("response_b", second))
    }
    won = [as_thumb(record[key]) for key in WINNERS]
    if won.count(True) != 1:
        raise RecordError(
            _("Exactly one of %(names)s must be 1.") % {"names": ", ".join(WINNERS)}, WINNERS[0]
        )
    scores = (fields.chosen(0), fields.chosen(1), (0.5, 0.5))[won.index(True)]
    prompt: Content = chats["response_a"][:1]
    completions = [as_answer(chat[1:], key) for key, chat in chats.items()]
    return fields.candidate(
        record,
        (*TURNS, *SIDES, *WINNERS),
        prompt,
        _answers(record, completions),
        [Opinion(scores)],
        sides_known=True,
    )


def _turns(record: Record, key: str) -> list[str]:
    """Return the texts of a list, which may be JSON text. A turn without an answer is null."""
    value: Any = fields.cell(record[key])
    found = value if isinstance(value, list) else [value]
    if not found or not all(isinstance(turn, str) or turn is None for turn in found):
        raise RecordError(_("%(name)s must be text or a list of texts.") % {"name": key}, key)
    return [turn or "" for turn in found]


def _dialogue(asked: list[str], said: list[str], key: str) -> list[Message]:
    if len(asked) != len(said):
        raise RecordError(_("%(name)s must have an answer to each turn of the prompt.") % {"name": key}, key)
    chat: list[Message] = []
    for question, answer in zip(asked, said, strict=True):
        chat += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return chat


COLUMNS = Format(
    "arena-columns", noop("Chatbot Arena battles in columns"), JUDGED, _fits_columns, _read_columns
)
