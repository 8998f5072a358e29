"""The lines of `pairs.jsonl`, `heldout.jsonl` and `prompts.jsonl`, checked and typed.

Imports nothing heavy.
"""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from primitives.text import is_encodable
from training.engine.config.checks import shortened
from training.engine.config.sampling import MOST_COMPLETIONS
from training.engine.errors import ConfigError, DataError
from training.engine.rundir import read_jsonl

Message = dict[str, Any]
Text = str | list[Message]  # plain text, or chat messages {"role", "content"}
FinishReason = Literal["stop", "length"]

_LARGEST = sys.float_info.max
LONGEST_REQUEST = 8 << 20  # bytes of a line that the verb `serve` reads


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingCompletion:
    """One completion of a pair.

    `token_ids`, where known, are the sampled ids, with the end-of-sequence id if the model ended itself;
    they are trained on as they are. `finish_reason` is "stop" if the model ended, "length" if it was cut;
    unset, token ids speak for themselves and text is taken to have ended.
    """

    text: Text
    token_ids: tuple[int, ...] | None = None
    finish_reason: FinishReason | None = None

    @property
    def ended(self) -> bool:
        """Return whether the model ended it, as far as is known."""
        return self.finish_reason == "stop" or (self.finish_reason is None and self.token_ids is None)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPair:
    """One preference: `label` is the probability that `chosen` is better, `margin` how much better it is.

    A `gap` says how many nats further than the reference the policy is to prefer `chosen` to `rejected`.
    A single completion that was rated is `chosen` if it is desirable, else `rejected`; the other one is None.
    """

    id: str
    prompt: Text
    chosen: TrainingCompletion | None
    rejected: TrainingCompletion | None
    where: str = ""  # file and line
    tools: list[dict[str, Any]] | None = None  # what the chat template is told the model may call
    prompt_token_ids: tuple[int, ...] | None = None
    label: float = 1.0
    margin: float = 0.0
    weight: float = 1.0
    gap: float | None = None


@dataclass(frozen=True, slots=True)
class SamplingPrompt:
    """One prompt to sample completions for; `n` and `seed` take the place of the configured ones."""

    id: str
    prompt: Text
    n: int | None = None
    seed: int | None = None
    where: str = ""  # file and line
    tools: list[dict[str, Any]] | None = None


def read_pairs(path: Path) -> list[TrainingPair]:
    """Return all pairs and ratings of a file. Unknown keys (provenance) are ignored.

    Raises DataError naming the line where a field is missing, of the wrong type or out of range, or an id
    comes twice.
    """
    pairs: list[TrainingPair] = []
    seen: dict[str, int] = {}
    for number, row in read_jsonl(path):
        where = f"{path.name} line {number}"
        identity = _identity(row, where)
        if identity in seen:
            raise DataError(f"{where} repeats the id {shortened(identity)} of line {seen[identity]}.")
        seen[identity] = number
        is_rating = "completion" in row and not {"chosen", "rejected"} & row.keys()
        pairs.append((_rating if is_rating else _pair)(row, identity, where))
    return pairs


def parse_pair(row: dict[str, Any], where: str, sides: tuple[str, str]) -> TrainingPair:
    """Return the pair of a line, which `where` names, with the keys `sides` of its completions. Raises DataError."""
    return _pair(row, _identity(row, where), where, sides)


def parse_rating(row: dict[str, Any], where: str) -> TrainingPair:
    """Return a single completion of a line as a desirable one, rated or not. Raises DataError."""
    return _rating(row | {"label": True}, _identity(row, where), where)


def _pair(
    row: dict[str, Any], identity: str, where: str, sides: tuple[str, str] = ("chosen", "rejected")
) -> TrainingPair:
    better, worse = sides
    prompt, chosen, rejected = (_text(row, key, where) for key in ("prompt", better, worse))
    prompt, chosen, rejected = _without_prompt(prompt, chosen, rejected)
    if isinstance(prompt, str):
        chosen, rejected = _plain(chosen, better, where), _plain(rejected, worse, where)
    return TrainingPair(
        id=identity,
        where=where,
        prompt=prompt,
        tools=_tools(row, where),
        prompt_token_ids=_token_ids(row, "prompt_token_ids", where),
        chosen=_completion(row, better, chosen, where),
        rejected=_completion(row, worse, rejected, where),
        label=_number(row, "label", where, 1.0, high=1.0),
        margin=_number(row, "margin", where, 0.0),
        weight=_number(row, "weight", where, 1.0),
        gap=_number(row, "gap", where, 0.0) if row.get("gap") is not None else None,
    )


def _rating(row: dict[str, Any], identity: str, where: str) -> TrainingPair:
    """Return one rated completion, in the keys of TRL's unpaired preferences."""
    desirable = row.get("label")
    if not isinstance(desirable, bool):
        raise DataError(
            f"{where}: label must be true or false for a single completion, not {shortened(desirable)}."
        )
    prompt, text = _without_prompt(_text(row, "prompt", where), _text(row, "completion", where))
    if isinstance(prompt, str):
        text = _plain(text, "completion", where)
    rated = _completion(row, "completion", text, where)
    return TrainingPair(
        id=identity,
        where=where,
        prompt=prompt,
        tools=_tools(row, where),
        prompt_token_ids=_token_ids(row, "prompt_token_ids", where),
        chosen=rated if desirable else None,
        rejected=None if desirable else rated,
        margin=_number(row, "margin", where, 0.0),
        weight=_number(row, "weight", where, 1.0),
    )


def read_prompts(path: Path, each: int = 1) -> Iterator[SamplingPrompt]:
    """Return the prompts of a file, in order. Raises DataError naming the line, even for an id that comes twice.

    `each` is `sampling.samples_per_prompt`, of the prompts without an `n`. Raises ConfigError naming it, or DataError
    naming the line, where more completions are asked for than one run writes.
    """
    seen: dict[str, int] = {}
    asked = 0
    for number, row in read_jsonl(path):
        where = f"{path.name} line {number}"
        identity = _identity(row, where)
        if identity in seen:
            raise DataError(f"{where} repeats the id {shortened(identity)} of line {seen[identity]}.")
        seen[identity] = number
        prompt = read_prompt(row, where)
        asked += prompt.n or each
        if asked > MOST_COMPLETIONS:
            _refuse_so_many(prompt, each)
        yield prompt


def _refuse_so_many(prompt: SamplingPrompt, each: int) -> None:
    most = f"more than the {MOST_COMPLETIONS:,} completions that one run writes"
    if prompt.n or each == 1:
        raise DataError(f"{prompt.where}: up to here, {most} are asked for.")
    raise ConfigError(
        "sampling.samples_per_prompt", f"is {each}: by line {prompt.where.split()[-1]}, {most} are asked for."
    )


def read_prompt(row: dict[str, Any], where: str) -> SamplingPrompt:
    """Return the prompt of a line, which `where` names. Raises DataError."""
    return SamplingPrompt(
        _identity(row, where),
        _text(row, "prompt", where),
        n=_whole(row, "n", where, 1, MOST_COMPLETIONS),
        seed=_whole(row, "seed", where, 0),
        where=where,
        tools=_tools(row, where),
    )


def _identity(row: dict[str, Any], where: str) -> str:
    value = row.get("id")
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise DataError(f"{where}: id must be a string or a whole number.")
    check_encodable(value, "id", where)
    return str(value)


def check_encodable(value: Any, key: str, where: str) -> None:
    """Refuse half a character anywhere in a value: no file and no tokenizer can hold it. Raises DataError."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:  # it takes more of the stack than the parser did
        raise DataError(f"{where}: {key} is nested too deeply.") from None
    if not is_encodable(text):
        raise DataError(f"{where}: {key} holds half a character (a lone surrogate).")


def _text(row: dict[str, Any], key: str, where: str) -> Text:
    value = row.get(key)
    check_encodable(value, key, where)
    if isinstance(value, str):
        return value
    if (
        isinstance(value, list)
        and value
        and all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in value)
    ):
        return [
            message | {"content": _content(message, key, where), **_calls(message, key, where)}
            for message in value
        ]
    raise DataError(f"{where}: {key} must be a string or a list of chat messages with role and content.")


def _content(message: Message, key: str, where: str) -> str | None:
    """Return the text of a message, its parts joined: many templates lose or garble parts."""
    content = message.get("content")
    if isinstance(content, str) or (content is None and message.get("tool_calls")):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        kinds = {str(part.get("type")) for part in content} - {"text"}
        if kinds:
            raise DataError(
                f"{where}: {key} holds content of type {min(kinds)}; only text can be trained on."
            )
        if all(isinstance(part.get("text"), str) for part in content):
            return "".join(part["text"] for part in content)
    raise DataError(f"{where}: {key} has a message whose content is not text.")


def _without_prompt(prompt: Text, *completions: Text) -> tuple[Text, ...]:
    """Return prompt and completions, where all completions are whole chats that begin with the prompt.

    A prompt that is the user's only message as plain text becomes that chat.
    """
    before = [one[:-1] if isinstance(one, list) else [] for one in completions]
    opening = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if before[0] and all(one == opening for one in before):
        return opening, *(one[-1:] for one in completions)
    return prompt, *completions


def _calls(message: Message, key: str, where: str) -> dict[str, Any]:
    """Return the tool calls of a message. Raises DataError if they are not a list of objects with a function's name."""
    calls = message.get("tool_calls")
    if calls is None:
        return {}
    if isinstance(calls, list) and all(isinstance(call, dict) for call in calls):
        functions = [call.get("function", call) for call in calls]
        if all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in functions):
            return {"tool_calls": calls}
    raise DataError(f"{where}: {key} has tool_calls that are not a list of objects with a function's name.")


def _plain(completion: Text, key: str, where: str) -> Text:
    """Return a completion after plain text: only a chat template can write more than the content of a message."""
    if isinstance(completion, list) and len(completion) == 1:
        for part in ("tool_calls", "reasoning_content", "reasoning", "thinking"):
            if completion[0].get(part):
                raise DataError(f"{where}: {key} holds {part}, which needs a prompt of chat messages.")
    return completion


def _tools(row: dict[str, Any], where: str) -> list[dict[str, Any]] | None:
    tools = row.get("tools")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise DataError(f"{where}: tools must be a list of objects.")
    check_encodable(tools, "tools", where)
    return tools or None


def _completion(row: dict[str, Any], key: str, text: Text, where: str) -> TrainingCompletion:
    reason = row.get(f"{key}_finish_reason")
    if reason not in (None, "stop", "length"):
        raise DataError(f'{where}: {key}_finish_reason must be "stop" or "length", not {shortened(reason)}.')
    if isinstance(text, list) and (len(text) != 1 or text[0]["role"] != "assistant"):
        raise DataError(
            f"{where}: {key} must be text, one assistant message, or the whole chat: the prompt and that message."
        )
    token_ids = _token_ids(row, f"{key}_token_ids", where)
    return TrainingCompletion(text=text, token_ids=token_ids, finish_reason=reason)


def _token_ids(row: dict[str, Any], key: str, where: str) -> tuple[int, ...] | None:
    value = row.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(item) is int and item >= 0 for item in value):
        raise DataError(f"{where}: {key} must be a list of token ids.")
    return tuple(value)


def _whole(row: dict[str, Any], key: str, where: str, low: int, high: float = math.inf) -> int | None:
    value = row.get(key)
    if value is not None and (type(value) is not int or not low <= value <= high):
        bounds = f"from {low} on" if high == math.inf else f"from {low} to {high}"
        raise DataError(f"{where}: {key} must be a whole number {bounds}, not {shortened(value)}.")
    return value


def _number(row: dict[str, Any], key: str, where: str, default: float, high: float = _LARGEST) -> float:
    value = row.get(key, default)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not -_LARGEST <= value <= _LARGEST:
        raise DataError(f"{where}: {key} must be a number, not {shortened(value)}.")
    if not 0 <= value <= high:
        bounds = "from 0 to 1" if high == 1 else "0 or more"
        raise DataError(f"{where}: {key} must be {bounds}, not {value}.")
    return float(value)
