"""Pairs as other trainers read them: OpenAI, LLaMA-Factory, Axolotl, and single ratings for KTO."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from annotate.exports.shapes import Row, message_text

_SHAREGPT = {"user": "human", "assistant": "gpt", "tool": "observation", "developer": "system"}


def openai(row: Row) -> Iterator[Row]:
    """Yield a pair as OpenAI's preference fine-tuning takes it."""
    yield {
        "input": {
            "messages": row["prompt"],
            "tools": json.loads(row["tools"] or "[]"),
            "parallel_tool_calls": True,
        },
        "preferred_output": row["chosen"],
        "non_preferred_output": row["rejected"],
    }


def llama_factory(row: Row) -> Iterator[Row]:
    """Yield a pair as LLaMA-Factory's `sharegpt` formatting with `ranking` takes it."""
    yield {
        "conversations": [_sharegpt(message) for message in row["prompt"]],
        "chosen": _sharegpt(row["chosen"][0]),
        "rejected": _sharegpt(row["rejected"][0]),
        "tools": row["tools"] or "",
    }


def _sharegpt(message: Mapping[str, Any]) -> Row:
    role = message.get("role", "")
    calls = message.get("tool_calls")
    if not calls:
        return {"from": _SHAREGPT.get(role, role), "value": message_text(message)}
    functions = [call.get("function", call) if isinstance(call, dict) else call for call in calls]
    return {"from": "function_call", "value": json.dumps(functions, ensure_ascii=False)}


def dataset_info(files: Mapping[str, str]) -> Row:
    """Return LLaMA-Factory's `dataset_info.json` for files by the name of their dataset."""
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "tools": "tools"}
    return {
        name: {"file_name": file, "formatting": "sharegpt", "ranking": True, "columns": columns}
        for name, file in files.items()
    }


def axolotl(row: Row) -> Iterator[Row]:
    """Yield a pair as Axolotl's `chat_template.default` for DPO takes it."""
    tools = {"tools": json.loads(row["tools"])} if row["tools"] else {}
    yield {"messages": row["prompt"], "chosen": row["chosen"][0], "rejected": row["rejected"][0]} | tools


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
