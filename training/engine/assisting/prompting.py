"""The prompts that `assist` lets policies write for. Imports nothing heavy."""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

from training.engine.config import AssistConfig
from training.engine.records import SamplingPrompt, read_pairs
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl

_SOURCE = "pairs"  # of prompts that are not the caller's


def write_prompts(inner: RunDirectory, run: RunDirectory, settings: AssistConfig) -> None:
    """Write the prompts of the pairs that are trained on, each once, unless the caller put prompts there."""
    if inner.prompts.exists() and not is_derived(inner):
        return
    found: dict[str, SamplingPrompt] = {}
    for pair in read_pairs(run.pairs):
        key = json.dumps([pair.prompt, pair.tools], sort_keys=True)
        found.setdefault(key, SamplingPrompt(pair.id, pair.prompt, tools=pair.tools))
    entries = spread_prompts(found.values(), settings, settings.pairs - settings.drafted_pairs)
    write_jsonl(inner.prompts, (entry | {"source": _SOURCE} for entry in entries))


def is_derived(inner: RunDirectory) -> bool:
    """Return whether `write_prompts` wrote the prompts, and not the caller."""
    return all(row.get("source") == _SOURCE for _, row in read_jsonl(inner.prompts))


def spread_prompts(
    prompts: Iterable[SamplingPrompt], settings: AssistConfig, pairs: int
) -> Iterator[dict[str, Any]]:
    """Yield lines of prompts.jsonl with how many completions each needs, such that together they give `pairs`.

    Where few pairs are asked for, the last prompts need none.
    """
    known = list(prompts)
    each, more = divmod(settings.count_groups(pairs), max(1, len(known)))
    for place, one in enumerate(known):
        if turn := each + (place < more):
            tools = {"tools": one.tools} if one.tools else {}
            yield {"id": one.id, "prompt": one.prompt, **tools, "n": turn * settings.candidates}


def count_completions(settings: AssistConfig, prompts: int) -> int:
    """Return how many completions the reference writes for each prompt that does not say."""
    groups = settings.count_groups(settings.pairs - settings.drafted_pairs)
    return math.ceil(groups / prompts) * settings.candidates
