"""Pairs as other trainers read them: OpenAI, LLaMA-Factory, ms-swift, NeMo RL, Axolotl, and single ratings for KTO."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from itertools import count, takewhile
from typing import Any

from annotate.exports.shapes import Row, message_text

_OPENAI_KEYS = ("role", "content", "refusal", "name", "tool_call_id")
_SHAREGPT = {"user": "human", "assistant": "gpt", "tool": "observation", "developer": "system"}
_CALL, _THOUGHT = ("<tool_call>", "</tool_call>"), ("<think>", "</think>")
# Between the results of several calls, as LLaMA-Factory joins them where it reads OpenAI's messages.
_BETWEEN = {"observation": "\n</tool_response>\n<tool_response>\n"}


def openai(row: Row) -> Iterator[Row]:
    """Yield a pair as OpenAI's preference fine-tuning takes it. The keys of its messages are its API's."""
    prompt, chosen, rejected = (
        [_openai(message) for message in row[key]] for key in ("prompt", "chosen", "rejected")
    )
    taken = _name_calls(prompt, set())
    for completion in (chosen, rejected):
        _name_calls(completion, taken)
    yield {
        "input": {
            "messages": prompt,
            "tools": [_openai_tool(tool) for tool in json.loads(row["tools"] or "[]")],
            "parallel_tool_calls": True,
        },
        "preferred_output": chosen,
        "non_preferred_output": rejected,
    }


def _openai(message: Mapping[str, Any]) -> Row:
    """Return what OpenAI knows of a message. The arguments of its calls are text."""
    known = {key: message[key] for key in _OPENAI_KEYS if message.get(key) is not None}
    known.setdefault("content", None)
    if calls := message.get("tool_calls"):
        known["tool_calls"] = [_openai_call(call) for call in calls]
    return known


def _openai_call(call: Mapping[str, Any]) -> Row:
    function = call.get("function", call)
    arguments = function.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    named = {"name": function["name"], "arguments": arguments}
    return {"id": call.get("id") or "", "type": "function", "function": named}


def _openai_tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a tool as a function. Anthropic has its parameters under another name."""
    if "function" in tool:
        return tool
    named = {"parameters" if key == "input_schema" else key: value for key, value in tool.items()}
    return {"type": "function", "function": named}


def _name_calls(messages: Sequence[Row], taken: Set[str]) -> set[str]:
    """Give an id to each call without one, and to each result that of its call. Return all ids, with those taken.

    The call of a result is the open one of its name, or else the first one. A call is open until it has a result, or
    another message calls.
    """
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    known = {*taken, *(call["id"] for call in calls), *(one.get("tool_call_id", "") for one in messages)}
    fresh = (name for number in count(1) if (name := f"call_{number}") not in known)
    for call in calls:
        call["id"] = call["id"] or next(fresh)
    open_calls: list[Row] = []
    for place, message in enumerate(messages):
        if called := message.get("tool_calls"):
            claimed = _claimed(messages[place + 1 :])
            open_calls = [call for call in called if call["id"] not in claimed]
        elif message["role"] == "tool":
            name = message.pop("name", "")
            call = next((call for call in open_calls if call["function"]["name"] == name), None)
            if "tool_call_id" not in message and open_calls:
                message["tool_call_id"] = (call or open_calls[0])["id"]
                open_calls.remove(call or open_calls[0])
    return {*known, *(call["id"] for call in calls)}


def _claimed(messages: Sequence[Row]) -> set[str]:
    """Return the ids that results name, up to the next message that calls."""
    answers = takewhile(lambda message: "tool_calls" not in message, messages)
    return {message.get("tool_call_id", "") for message in answers}


def llama_factory(row: Row) -> Iterator[Row]:
    """Yield a pair as LLaMA-Factory's `sharegpt` formatting with `ranking` takes it."""
    yield {
        "conversations": _in_turns([_sharegpt(message) for message in row["prompt"]]),
        "chosen": _sharegpt(row["chosen"][0]),
        "rejected": _sharegpt(row["rejected"][0]),
        "tools": row["tools"] or "",
    }


def _sharegpt(message: Mapping[str, Any]) -> Row:
    """Return a message with what it calls, and what it thinks, where LLaMA-Factory looks for them in its value."""
    role, text = message.get("role", ""), message_text({**message, "tool_calls": None})
    reasoning = message.get("reasoning_content")
    thought = f"<think>\n{reasoning}\n</think>\n\n" if reasoning else ""
    calls = message.get("tool_calls")
    if not calls:
        return {"from": _SHAREGPT.get(role, role), "value": thought + text}
    called = json.dumps([_function(call) for call in calls], ensure_ascii=False)
    for mark in _CALL:
        called = called.replace(mark, mark.replace("<", "\\u003c"))  # the same, in a text of JSON
    marked = called.join(_CALL)
    if any(mark in said for mark in (*_CALL, *_THOUGHT) for said in (text, reasoning or "")):
        value = marked + thought + text  # LLaMA-Factory looks for the first call, and puts it behind the rest
    else:
        value = thought + (text + marked if text else called)
    return {"from": "function_call", "value": value}


def _function(call: Mapping[str, Any]) -> Row:
    """Return the name of a called function and its arguments, which LLaMA-Factory writes as JSON by itself."""
    function = call.get("function", call)
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        with suppress(ValueError):
            arguments = json.loads(arguments)
    return {"name": function["name"], "arguments": arguments}


def _in_turns(messages: Iterable[Row]) -> list[Row]:
    """Return messages with those of one speaker in a row as one: LLaMA-Factory passes over other chats."""
    turns: list[Row] = []
    for message in messages:
        speaker = message["from"]
        if turns and turns[-1]["from"] == speaker and speaker != "function_call":
            turns[-1]["value"] += _BETWEEN.get(speaker, "\n\n") + message["value"]
        else:
            turns.append(message)
    return turns


def dataset_info(files: Mapping[str, str]) -> Row:
    """Return LLaMA-Factory's `dataset_info.json` for files by the name of their dataset."""
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "tools": "tools"}
    return {
        name: {"file_name": file, "formatting": "sharegpt", "ranking": True, "columns": columns}
        for name, file in files.items()
    }


def ms_swift(row: Row) -> Iterator[Row]:
    """Yield a pair as ms-swift takes it: two whole chats, each with the tools that its model is told of."""
    prompt = [_swift(message) for message in row["prompt"]]
    tools = {"tools": row["tools"], "rejected_tools": row["tools"]} if row["tools"] else {}
    yield {
        "messages": prompt + [_swift(message) for message in row["chosen"]],
        "rejected_messages": prompt + [_swift(message) for message in row["rejected"]],
    } | tools


def _swift(message: Mapping[str, Any]) -> Row:
    """Return what ms-swift reads of a message. Reasoning is part of its text, and it knows no developer."""
    role, content, reasoning = message["role"], message.get("content"), message.get("reasoning_content")
    if reasoning:
        content = f"<think>\n{reasoning}\n</think>\n\n{message_text({**message, 'tool_calls': None})}"
    kept = {key: message[key] for key in ("tool_calls", "tool_call_id") if message.get(key)}
    text = content if content is not None else ""
    return {"role": "system" if role == "developer" else role, "content": text} | kept


def nemo_rl(row: Row) -> Iterator[Row]:
    """Yield a pair as NeMo RL's `PreferenceDataset` takes it: the lower rank is preferred. It passes over the tools."""
    yield {
        "context": [_with_text(message) for message in row["prompt"]],
        "completions": [
            {"rank": rank, "completion": [_with_text(message) for message in row[side]]}
            for rank, side in enumerate(("chosen", "rejected"))
        ],
        "tools": row["tools"] or "",
    }


def _with_text(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message with its parts as one text: NeMo RL takes a list for images."""
    if not isinstance(message.get("content"), list):
        return message
    return {**message, "content": message_text({**message, "tool_calls": None})}


def axolotl(row: Row) -> Iterator[Row]:
    """Yield a pair as Axolotl's `chat_template.default` for DPO takes it.

    It searches the rendered chat for a completion, from which many templates strip the blanks around it.
    """
    sides = {side: _role_and_text(row[side][0]) for side in ("chosen", "rejected")}
    for message in sides.values():
        message["content"] = message["content"].strip()
    tools = {"tools": json.loads(row["tools"])} if row["tools"] else {}
    yield {"messages": [_role_and_text(message) for message in row["prompt"]]} | sides | tools


def _role_and_text(message: Mapping[str, Any]) -> Row:
    """Return what Axolotl reads of a message. It knows no developer."""
    role = message["role"]
    return {"role": "system" if role == "developer" else role, "content": message_text(message)}


def kto(row: Row) -> Iterator[Row]:
    """Yield the two completions of a pair as single ratings. Both are bad where the annotators said so."""
    for side in ("chosen", "rejected"):
        yield {
            "prompt": row["prompt"],
            "completion": row[side],
            "label": side == "chosen" and row["label"] is not None,
            "both_bad": row["label"] is None,
            "policy": row[f"{side}_policy"],
            "completion_id": row[f"{side}_completion"],
            **{
                name: row[name]
                for name in (
                    "tools", "comparison", "kind", "batch", "held_out", "external_id", "metadata", "prompt_id",
                    "prompt_external_id", "prompt_metadata",
                )
            },
        }  # fmt: skip
