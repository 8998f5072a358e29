"""The cost of writing completions: a few written in full, a group begun, and the rest by rows and lengths."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from training.engine.adapters.loading import for_sampling, wrap
from training.engine.config import TrainConfig
from training.engine.errors import DataError, memory_short
from training.engine.model.base import LoadedModel, load_base, set_threads
from training.engine.optimize.memory import peak_of, reset_peak
from training.engine.planning.figures import line_at, spread
from training.engine.planning.model_facts import describe, is_too_large
from training.engine.planning.preview import show
from training.engine.records import SamplingPrompt, read_prompts
from training.engine.rundir import RunDirectory
from training.engine.sample import check_writing, choose_writer, encode_prompts, load_writer, seed_of
from training.engine.sampling.decoding import Decoder, Generation
from training.engine.sampling.grouping import Request, token_bytes

_PROBED = 16  # completions that are written, to learn their lengths
_PROBE_SECONDS, _GROUP_SECONDS = 12.0, 15.0
_FEW, _MORE = 3, 11  # tokens of a group that are written, to tell reading from writing


@dataclass(frozen=True)
class Survival:
    """The share of completions that is still being written, by tokens, from those that were."""

    lengths: Sequence[int]
    written: int  # tokens that they were allowed

    def at(self, token: int) -> float:
        """Return the share that is longer than `token`. Beyond what was tried it falls at the same rate."""
        if token < self.written:
            return sum(length > token for length in self.lengths) / len(self.lengths)
        left = sum(length >= self.written for length in self.lengths) / len(self.lengths)
        return left ** (token / self.written) if 0 < left < 1 else left


def measure_sampling(root: str, config: TrainConfig) -> dict[str, Any]:
    """Return a plan's `model`, `prompts`, `sampling`, `preview` and `events`. Raises EngineError subclasses."""
    began = time.monotonic()
    set_threads(config)
    run, facts = RunDirectory(root), describe(config)
    prompts = list(read_prompts(run.prompts, config.sampling.samples_per_prompt))
    if not prompts:
        raise DataError(f"{run.prompts.name} holds no prompt.")
    found: dict[str, Any] = {"model": facts, "events": [], "prompts": {"given": len(prompts)}}
    if is_too_large(facts):
        needed = {"fits": False, "peak_memory_bytes": facts["weights_bytes"]}
        return found | {"sampling": needed}
    loaded, decoder = _load(run, config, prompts)
    encoder = loaded.make_encoder(config)
    # Those that are too long are counted here, even where the run would refuse them.
    sampling = replace(config.sampling, skip_long=True)
    encoded, too_long, refused = encode_prompts(prompts, loaded, replace(config, sampling=sampling), encoder)
    found["events"] += refused.events
    requests = [
        Request(ids, seed_of(config.sampling, prompt, index))
        for prompt, ids in encoded
        for index in range(prompt.n or config.sampling.samples_per_prompt)
    ]
    found["prompts"] |= {
        "written_for": len(encoded),
        "too_long": len(too_long),
        "refused": refused.dropped.total(),
        "completions": len(requests),
        "tokens": spread([len(ids) for _, ids in encoded]),
    }
    if not requests:
        return found
    found["preview"] = {"id": encoded[0][0].id, "prompt": show(loaded.tokenizer, encoded[0][1])}
    if decoder is None:
        found["events"].append("vLLM would write: how long it takes is not estimated.")
        return found
    found["events"] += check_writing(loaded, decoder, [ids for _, ids in encoded])
    ready = time.monotonic() - began
    found["sampling"] = _sampling(config, decoder, requests, ready, facts["available_bytes"])
    return found


def _load(
    run: RunDirectory, config: TrainConfig, prompts: Sequence[SamplingPrompt]
) -> tuple[LoadedModel, Decoder | None]:
    """Return what would write: with an adapter that is not there yet, one that changes nothing."""
    adapter = choose_writer(run, config)
    chats = any(isinstance(one.prompt, list) for one in prompts)
    will_be_trained = run.pairs.exists() and not run.adapter.exists() and config.sampling.policy == "auto"
    if adapter is None and will_be_trained and config.sampling.backend != "vllm":
        loaded = load_base(config, merging=True)
        loaded.model = for_sampling(wrap(loaded.model, config), loaded.dtype)
        return loaded, Decoder(loaded.model, loaded.eos_ids, loaded.device, config.sampling)
    loaded, writer = load_writer(config, adapter, chats=chats)
    return loaded, writer if isinstance(writer, Decoder) else None


def _sampling(
    config: TrainConfig, decoder: Decoder, requests: list[Request], ready: float, available: int
) -> dict[str, Any]:
    """Return the part `sampling` of a plan."""
    longest, device = config.sampling.max_new_tokens, decoder.device
    threads = decoder.threads_for(requests)
    groups = decoder.groups(requests, threads)
    rows = max(map(len, groups))
    widest = max(groups, key=lambda group: len(group) * (_width(requests, group) + longest))
    base = peak_of(device)
    try:
        survival, steps = _probe(decoder, requests)
        reset_peak(device)
        begun = _begin(decoder, requests, groups, threads, steps)
        fits = True
    except (MemoryError, RuntimeError) as error:
        if memory_short(error) is None:
            raise
        survival, begun, fits = Survival([longest], longest), {}, False
    # What the widest group keeps of its tokens: read once, and then grown.
    held_tokens = len(widest) * (_width(requests, widest) + longest)
    held = held_tokens * token_bytes(decoder.model) * threads
    peak = max(base + int(1.5 * held), begun.get("peak", 0) + int(0.5 * held))
    reading = writing = 0.0
    if fits:
        for group in groups:
            read, write = _group_seconds(requests, group, begun, survival, longest)
            reading, writing = reading + read / threads, writing + write / threads
    mean = sum(survival.at(token) for token in range(longest))
    return {
        "completions": len(requests),
        "groups": len(groups),
        "largest_group": rows,
        "cut_share": round(survival.at(longest - 1), 2) if longest > 1 else 1.0,
        "mean_tokens": round(mean, 1),
        "tokens": int(mean * len(requests)),
        "max_new_tokens": longest,
        "seconds": {"loading": round(ready, 2), "reading": round(reading, 2), "writing": round(writing, 2)},
        "total_seconds": round(ready + reading + writing, 1),
        "peak_memory_bytes": peak,
        "held_tokens": held_tokens,
        "held_bytes": held,
        "fits": fits and peak <= available,
    }


def _probe(decoder: Decoder, requests: Sequence[Request]) -> tuple[Survival, list[tuple[float, float]]]:
    """Write a few completions. Return how long they become, and the seconds of a token of so many rows."""
    stride = max(1, len(requests) // _PROBED)
    some = sorted(requests[::stride], key=lambda one: len(one.prompt))[:_PROBED]
    longest = decoder.settings.max_new_tokens
    short, _ = _timed_write(decoder, some, min(_FEW, longest))
    more, written = _timed_write(decoder, some, min(_MORE, longest))
    step = max(1e-6, (more - short) / max(1, min(_MORE, longest) - _FEW))
    affordable = max(_MORE, int(_PROBE_SECONDS / step))
    tried = min(longest, affordable)
    if tried > _MORE:
        _, written = _timed_write(decoder, some, tried)
    lengths = [
        tried + (one.finish_reason != "stop") * (longest - tried)
        if len(one.token_ids) >= tried
        else len(one.token_ids)
        for one in written
    ]
    return Survival(lengths, tried), [(float(len(some)), step)]


def _begin(
    decoder: Decoder,
    requests: Sequence[Request],
    groups: list[list[int]],
    threads: int,
    steps: list[tuple[float, float]],
) -> dict[str, Any]:
    """Begin the largest groups, one for each thread.

    Return the seconds of a token that is read and of steps by their rows, and the peak in bytes.
    """
    longest = decoder.settings.max_new_tokens
    order = sorted(groups, key=lambda group: -len(group) * _width(requests, group))
    some = [requests[at] for group in order[:threads] for at in group]
    fewer = some
    while True:
        read, _ = _timed_write(decoder, fewer[: max(1, len(fewer) // 8)], 1)
        tokens = _read_tokens(fewer[: max(1, len(fewer) // 8)])
        if read / max(1, tokens) * _read_tokens(fewer) <= _GROUP_SECONDS or len(fewer) < _PROBED:
            break
        fewer = fewer[: len(fewer) // 2]
    short, _ = _timed_write(decoder, fewer, min(_FEW, longest))
    more, _ = _timed_write(decoder, fewer, min(_MORE, longest))
    step = max(1e-6, (more - short) / max(1, min(_MORE, longest) - _FEW))
    rows = len(fewer) / threads
    points = (
        sorted([*steps, (rows, step)]) if all(abs(rows - one) > 1 for one, _ in steps) else [(rows, step)]
    )
    read = max(1e-9, short - _FEW * step) / max(1, _read_tokens(fewer))
    # Groups that are written side by side each have a thread: a token read takes one of them longer.
    return {
        "read": read * threads,
        "steps": points,
        "peak": peak_of(decoder.device),
        "whole": len(fewer) == len(some),
    }


def _group_seconds(
    requests: Sequence[Request], group: Sequence[int], begun: dict[str, Any], survival: Survival, longest: int
) -> tuple[float, float]:
    """Return the seconds that a group takes to be read and to be written."""
    some = [requests[at] for at in group]
    writing = 0.0
    for token in range(longest):
        rows = len(some) * survival.at(token)
        if rows < 0.5:
            break
        writing += line_at(begun["steps"], max(1.0, rows))
    return begun["read"] * _read_tokens(some), writing


def _timed_write(decoder: Decoder, some: Sequence[Request], tokens: int) -> tuple[float, list[Generation]]:
    """Write at most so many tokens of some requests. Return the seconds, and what was written."""
    whole = decoder.settings
    decoder.settings = replace(whole, max_new_tokens=tokens)
    try:
        began = time.perf_counter()
        written = decoder.write(some)
        return time.perf_counter() - began, written
    finally:
        decoder.settings = whole


def _read_tokens(some: Sequence[Request]) -> int:
    """Return the tokens of distinct prompts, each of which is read once."""
    return sum(len(prompt) for prompt in {one.prompt for one in some})


def _width(requests: Sequence[Request], group: Sequence[int]) -> int:
    return max(len(requests[at].prompt) for at in group)
