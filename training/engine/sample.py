"""The verb `sample`: a policy writes completions for the prompts of a run directory.

Each completion has a seed of its own, made from the configured seed, its prompt's id and its number, and is
written by that seed alone: the same prompt gets the same completions among other prompts, in other batches,
and on a second try. `logprob` is the summed log-probability of `token_ids` under the policy itself, whatever
temperature, top_p or top_k they were drawn with.
"""

import hashlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from training.engine.adapters.loading import has_adapter, load_sampled, load_scored
from training.engine.adapters.lora import rounding_events
from training.engine.config import SamplingConfig, TrainConfig
from training.engine.data.markers import ChatRefusedError
from training.engine.data.tokens import Encoder, EncodingReport
from training.engine.errors import ConfigError, DataError, ModelError
from training.engine.model.base import LoadedModel, load_base, model_files, set_threads
from training.engine.records import SamplingPrompt, read_prompts
from training.engine.rescoring import fill_logprobs, find_disagreement, reference_logprobs
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.sampling import vllm_writer
from training.engine.sampling.decoding import Decoder, Generation, Report, Sample
from training.engine.sampling.grouping import Request
from training.engine.sampling.stopping import decode, stops_of
from training.engine.selfcheck import check_causal, choose_way

_TRIES = 8  # draws for one completion that is to differ from its prompt's others
_REPORT_SECONDS = 0.5
# What each line of samples.jsonl repeats of the settings.
_TOLD = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens")


class Writer(Protocol):
    """A writer of completions: `Decoder`, or vLLM behind the same method."""

    def write(self, requests: Sequence[Request], report: Report = ...) -> list[Generation]:
        """Complete every request, in the order given. `report` is told how many are done, and the share of work."""
        ...


def sample(run: RunDirectory) -> None:
    """Write samples.jsonl for prompts.jsonl, then done.json. Raises EngineError subclasses, having written neither."""
    config = run.read_config()
    set_threads(config)
    with run.locked():
        started = time.monotonic()
        run.progress("loading")
        prompts = list(read_prompts(run.prompts, config.sampling.samples_per_prompt))
        if not prompts:
            raise DataError(f"{run.prompts.name} holds no prompt.")
        adapter = choose_writer(run, config)
        trained = [run.adapter] if adapter == run.adapter else []
        inputs = run.hashes([run.config_file, run.prompts, *trained])
        inputs |= model_files(config)
        loaded, writer = load_writer(
            config, adapter, chats=any(isinstance(one.prompt, list) for one in prompts)
        )
        encoded, too_long, refused = encode_prompts(prompts, loaded, config, loaded.make_encoder(config, run))
        events = refused.events
        if encoded and isinstance(writer, Decoder):
            events += check_writing(loaded, writer, [ids for _, ids in encoded])
        run.progress("reading", 0, sum(one.n or config.sampling.samples_per_prompt for one, _ in encoded))
        begun = time.monotonic()
        samples = write_samples(writer, loaded.tokenizer, encoded, config.sampling, _Progress(run))
        spent = time.monotonic() - begun
        native = isinstance(writer, Decoder)
        if isinstance(writer, Decoder):
            writer.release()
        kept = loaded if native and (adapter is None or has_adapter(loaded.model)) else None
        del loaded, writer  # another model may not fit beside this one
        if samples:
            policy = kept or load_scored(config, adapter, beside_start=False)
            events += check_written(policy, samples, native)
            fill_logprobs(policy, config, samples)
            del policy
        del kept
        lines = [sample_line(one, config.sampling) for one in samples]
        figures = _add_reference(run, config, samples, lines)
        write_jsonl(run.samples, lines)
        counts = _count(samples)
        summary = {
            "status": "sampled",
            "policy": str(adapter) if adapter else "base_model",
            "prompts": len(prompts),
            "too_long": too_long,
            "refused": refused.dropped.total(),
            **counts,
            "events": events,
            **figures,
            "tokens_per_second": round(counts["tokens"] / spent, 1),
            "seconds": round(time.monotonic() - started, 3),
        }
        run.finish("sample", summary, inputs, [run.samples])
        run.progress("done", len(samples), len(samples))
    for event in events:
        print(event, file=sys.stderr)


def _add_reference(
    run: RunDirectory, config: TrainConfig, samples: Sequence[Sample], lines: Sequence[dict[str, Any]]
) -> dict[str, float]:
    """Add the reference's log-probability to each line, if one is named. Return the KL that they estimate."""
    if not config.sampling.reference or not samples:
        return {}
    run.progress("scoring", len(samples), len(samples))
    for line, logprob in zip(lines, reference_logprobs(config, samples), strict=True):
        line["reference_logprob"] = logprob
    return {"kl": statistics.fmean(line["logprob"] - line["reference_logprob"] for line in lines)}


def _count(samples: Sequence[Sample]) -> dict[str, int]:
    return {
        "completions": len(samples),
        "tokens": sum(len(one.generation.token_ids) for one in samples),
        "ended": sum(one.generation.finish_reason == "stop" for one in samples),
        "repeated": len(repeats(samples)),
    }


def choose_writer(run: RunDirectory, config: TrainConfig) -> Path | None:
    """Return the adapter that writes, or None for the base model. Raises ConfigError if it is missing."""
    wanted = config.sampling.policy
    trained = run.has_adapter
    if wanted == "trained" and not trained:
        raise ConfigError("sampling.policy", f"is 'trained', but {run.adapter} holds no adapter.")
    if wanted == "start" and not config.start_adapter:
        raise ConfigError("sampling.policy", "is 'start', but start_adapter is not set.")
    if wanted == "trained" or (wanted == "auto" and trained):
        return run.adapter
    return Path(config.start_adapter) if config.start_adapter and wanted != "base" else None


def load_writer(
    config: TrainConfig, adapter: Path | None, *, chats: bool = False
) -> tuple[LoadedModel, Writer]:
    """Return the policy, and what writes from it: vLLM where it is installed and has a GPU, otherwise our own loop.

    Our own loop merges the adapter into float32 weights in memory; beside others it stays as it is. The weights on
    disk are not touched. With `chats` a completion also ends with the token that ends a turn in the chat template,
    which the model's files may not name.
    """
    if vllm_writer.wanted(config, adapter):
        # vLLM loads the weights into the GPU itself; here they are only mapped, for what tokenizing asks of them.
        mapped = load_base(replace(config, device="cpu", dtype="bfloat16"))
        return mapped, vllm_writer.VllmWriter(config, adapter, ends_of(mapped, config, chats))
    return load_native(config, adapter, chats=chats)


def load_native(
    config: TrainConfig, adapter: Path | None, *, chats: bool = False
) -> tuple[LoadedModel, Decoder]:
    """Return the policy with our own loop to write from it, as `load_writer` does without vLLM."""
    loaded = load_sampled(config, adapter)
    stops = stops_of(config.sampling, loaded.tokenizer)
    return loaded, Decoder(
        loaded.model, ends_of(loaded, config, chats), loaded.device, config.sampling, stops
    )


def ends_of(loaded: LoadedModel, config: TrainConfig, chats: bool) -> frozenset[int]:
    """Return the ids on which writing ends."""
    turn = loaded.make_encoder(config).chats.ending.id if chats else None
    return loaded.eos_ids if turn is None else loaded.eos_ids | {turn}


def check_writing(loaded: LoadedModel, decoder: Decoder, prompts: Sequence[tuple[int, ...]]) -> list[str]:
    """Choose how `decoder` writes, and return events to note. Raises ModelError if it cannot."""
    check_causal(loaded, max(prompts, key=len))
    event = choose_way(decoder, loaded, prompts)
    return [event] if event else []


def encode_prompts(
    prompts: Sequence[SamplingPrompt], loaded: LoadedModel, config: TrainConfig, encoder: Encoder
) -> tuple[list[tuple[SamplingPrompt, tuple[int, ...]]], list[str], EncodingReport]:
    """Return each prompt with its ids, the ids of prompts without room to write, and what the chat template refused.

    Raises DataError naming a prompt that is empty, holds tokens that the model lacks or, unless `sampling.skip_long`,
    is too long, and if the template refused all of them.
    """
    longest = config.sampling.max_new_tokens
    encoded, too_long, report = [], [], EncodingReport()
    for prompt in prompts:
        try:
            ids = encoder.prompt_ids(prompt.prompt, prompt.tools)
            hides_tools = encoder.hides_tools(prompt)
        except ChatRefusedError as refusal:
            report.refuse(prompt, refusal)
            continue
        if not ids:
            raise DataError(f"Prompt {prompt.id} is empty, and the model has no token to begin a text with.")
        encoder.check_known(ids, f"Prompt {prompt.id}")
        if len(ids) + longest <= loaded.max_positions:
            encoded.append((prompt, ids))
            if hides_tools:
                report.hidden.append(prompt)
        elif config.sampling.skip_long:
            too_long.append(prompt.id)
        else:
            raise DataError(
                f"Prompt {prompt.id} is too long: its {len(ids)} tokens and {longest} new ones are more than the "
                f"{loaded.max_positions} that the model can place; shorten it or lower sampling.max_new_tokens."
            )
    if report.refusals and not encoded and not too_long:
        raise DataError(f"No prompt is left. {report.refusals[0]}")
    return encoded, too_long, report


def write_samples(
    writer: Writer,
    tokenizer: Any,
    prompts: Sequence[tuple[SamplingPrompt, tuple[int, ...]]],
    settings: SamplingConfig,
    report: Callable[[int, int, float], None] = lambda done, total, share: None,
) -> list[Sample]:
    """Complete every prompt as often as it asks for, in order.

    `report` is told how many are done, of how many, and the share of the work that is done.

    With `settings.distinct`, completions with the text of an earlier one of their prompt are drawn again.
    """
    asked = [
        (prompt, index, ids)
        for prompt, ids in prompts
        for index in range(prompt.n or settings.samples_per_prompt)
    ]
    requests = [Request(ids, seed_of(settings, prompt, index)) for prompt, index, ids in asked]
    written = writer.write(requests, lambda done, share: report(done, len(requests), share))
    kept = _kept(tokenizer, settings, requests, written)
    samples = [
        Sample(prompt, index, request, one, text, drawn)
        for (prompt, index, _), request, (one, text), drawn in zip(
            asked, requests, kept, written, strict=True
        )
    ]
    for attempt in range(1, _TRIES if settings.distinct else 1):
        again = repeats(samples)
        if not again:
            break
        requests = [
            Request(one.request.prompt, seed_of(settings, one.prompt, one.index, attempt)) for one in again
        ]
        written = writer.write(requests)
        kept = _kept(tokenizer, settings, requests, written)
        for one, request, (new, text), drawn in zip(again, requests, kept, written, strict=True):
            one.request, one.generation, one.text, one.drawn = request, new, text, drawn
    return samples


def _kept(
    tokenizer: Any, settings: SamplingConfig, requests: Sequence[Request], written: Sequence[Generation]
) -> list[tuple[Generation, str]]:
    """Return what is kept of each completion, with its text: all that comes before a stop string."""
    both = zip(requests, written, decode(tokenizer, requests, written), strict=True)
    stops = stops_of(settings, tokenizer)
    if stops is None:
        return [(one, text) for _, one, text in both]
    return [stops.cut(request, one, text) for request, one, text in both]


def check_written(policy: LoadedModel, samples: Sequence[Sample], native: bool) -> list[str]:
    """Check that `policy`, computed as in training, is what wrote the completions. Returns what is to be said.

    Raises ModelError if our own loop wrote something else: it cannot generate from this architecture.
    """
    problem = find_disagreement(policy, samples)
    if problem and native:
        raise ModelError(f"The model does not write what it scores: {problem}. No completion was kept.")
    events = [f"vLLM wrote by another policy than the trained one: {problem}."] if problem else []
    return events + rounding_events(policy.model, policy.dtype)


def seed_of(settings: SamplingConfig, prompt: SamplingPrompt, index: int, attempt: int = 0) -> int:
    """Return the seed of one completion, 48 bits, whatever the other prompts, the batches and their order."""
    chosen = settings.seed if prompt.seed is None else prompt.seed
    name = "\0".join(map(str, (chosen, prompt.id, index, attempt)))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")


def repeats(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples with the text of an earlier sample of their prompt, blanks around it apart."""
    seen: set[tuple[str, str]] = set()
    found = []
    for one in samples:
        key = one.prompt.id, one.text.strip()
        if key in seen:
            found.append(one)
        seen.add(key)
    return found


def sample_line(one: Sample, settings: SamplingConfig) -> dict[str, Any]:
    """Return one line of samples.jsonl."""
    return {
        "id": one.prompt.id,
        "index": one.index,
        "completion": one.text,
        "prompt_token_ids": list(one.request.prompt),
        "token_ids": list(one.generation.token_ids),
        "logprob": one.generation.logprob,
        "finish_reason": one.generation.finish_reason,
        "seed": one.request.seed,
        **{name: getattr(settings, name) for name in _TOLD},
        **({"stop": list(settings.stop)} if settings.stop else {}),
    }


class _Progress:
    """The progress of writing, in progress.json, at most twice a second.

    The time left goes by tokens, and does not grow before it is over: groups begin with the slowest, and may end long
    before they must.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run, self.started, self.last = run, time.monotonic(), 0.0
        self.ends: float | None = None

    def __call__(self, done: int, total: int, share: float) -> None:
        now = time.monotonic()
        if now - self.last < _REPORT_SECONDS:
            return
        self.last = now
        if share > 0:
            ends = self.started + (now - self.started) / share
            if self.ends is None or ends < self.ends or self.ends < now:
                self.ends = ends
        left = None if self.ends is None else max(0.0, self.ends - now)
        self.run.progress("sampling", done, total, left)
