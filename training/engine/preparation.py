"""The preparation of a training: its files read, its model loaded, its pairs encoded, its reference measured."""

import contextlib
import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from training.engine.adapters.loading import as_reference, load_policy
from training.engine.adapters.lora import rounding_events
from training.engine.config import OF_RATINGS, TrainConfig
from training.engine.data.tokens import EncodedPair, EncodingReport, digest_pairs
from training.engine.errors import ConfigError, DataError
from training.engine.identity import digest, library_versions
from training.engine.model.base import LoadedModel, model_files
from training.engine.optimize import distributed
from training.engine.optimize.budget import RowBudget
from training.engine.optimize.checkpoints import SETTINGS
from training.engine.optimize.distributed import Processes
from training.engine.optimize.journal import Journal
from training.engine.optimize.losses import check_honoured
from training.engine.optimize.mismatching import mismatch
from training.engine.optimize.reference import cache_key, reference_logps
from training.engine.optimize.task import Task, epoch_order
from training.engine.records import TrainingPair, read_pairs
from training.engine.rundir import RunDirectory
from training.engine.score import check_finite, make_scorer
from training.engine.selfcheck import check_gradient

# Settings that change how a run is watched, where its results go, or how it is fitted into memory: the result is the
# same, up to the order of sums. They may change before a run is resumed.
_NO_EFFECT = (
    *("checkpoint_steps", "max_skipped_steps", "displacement_bound", "sampling", "trackers"),
    *("kl_budget", "kl_samples"),
    *("probe", "probe_layers", "probe_tokens"),
    *("assist",),  # whose pairs have a hash of their own
    *("threads", "max_tokens", "packing", "gradient_checkpointing"),
)
# Where the files of model and adapter are differs from machine to machine. Their content has a hash of its own.
_NO_PLACES = {"base_model": None, "start_adapter": None}
# Former versions packed the rows of some models that cannot be.
ROWS = "form of rows, in which texts saw one another"
# Options that came later, with their defaults: a run that leaves them so is what it was before them.
_LATER = {
    "chat_template": None,
    "template_date": None,
    "unmatched_turns": "refuse",
    "control_tokens_in_text": False,
    "reference": "start",
    "desirable_weight": 1.0,
    "undesirable_weight": 1.0,
    "keep": "last",
    "early_stop": 0,
}


@dataclass(frozen=True)
class Sources:
    """The files that a training starts from, as they were read."""

    pairs: list[TrainingPair]
    heldout: list[TrainingPair]
    digests: dict[str, str]  # of each file's content, by name
    fingerprint: dict[str, str]  # hashes of what the result depends on, by name
    earlier: dict[str, str]  # those of the same sources that runs wrote which named places of files


@dataclass(frozen=True)
class Preparation:
    """A training that is ready for its first step, and what its files became."""

    task: Task
    loaded: LoadedModel
    left_out: EncodingReport
    heldout_left_out: EncodingReport
    fingerprint: dict[str, str]  # of the sources, the ids and the rows: a checkpoint of another is refused
    earlier: dict[str, str | None]  # what checkpoints of the same have in its place, None for nothing


def read_sources(run: RunDirectory, config: TrainConfig, processes: Processes) -> Sources:
    """Read the pairs, and hash all files that the result depends on. Raises EngineError subclasses."""
    assisted = read_pairs(run.assisted_pairs) if run.assisted_pairs.exists() else []
    pairs = read_pairs(run.pairs) + assisted
    heldout = read_pairs(run.heldout) if run.heldout.exists() else []
    if config.eval_steps and not run.heldout.exists():
        raise ConfigError("eval_steps", f"has no effect without pairs to score: {run.heldout} is missing.")
    for name, asked in (("keep", config.keep == "best"), ("early_stop", config.early_stop > 0)):
        if asked and not heldout:
            raise ConfigError(name, f"goes by the loss of held-out pairs, and {run.heldout.name} has none.")
    digests = run.hashes([run.config_file, run.pairs, run.assisted_pairs, run.heldout])
    model = model_files(config)
    fingerprint = {
        "configuration": _hash(_settings_with_effect(config) | _NO_PLACES),
        "pairs.jsonl": digest(run.pairs),
        "heldout.jsonl": digest(run.heldout) if run.heldout.exists() else "",
        "model": _hash(model),
        "number of processes": str(processes.world),
    }
    if assisted:
        fingerprint["assisted_pairs.jsonl"] = digest(run.assisted_pairs)
    earlier = {"configuration": _hash(_settings_with_effect(config))}
    return Sources(pairs, heldout, digests | model, fingerprint, earlier)


def prepare(
    run: RunDirectory, config: TrainConfig, sources: Sources, processes: Processes, journal: Journal
) -> Preparation:
    """Load the model, encode the pairs, check both, and measure the reference. Raises EngineError subclasses."""
    loaded = load_policy(config)
    for event in rounding_events(loaded.model, loaded.dtype):
        journal.note(event)
    if config.shard:
        distributed.shard_base(loaded.base, loaded.device)
    encoder = loaded.make_encoder(config, run)
    pairs, left_out = encoder.encode_pairs(sources.pairs)
    heldout, heldout_left_out = encoder.encode_pairs(sources.heldout)
    refusals = [*left_out.refusals, *heldout_left_out.refusals]
    _check_any_left(pairs, left_out, refusals)
    for event in [*left_out.events, *heldout_left_out.events]:
        journal.note(event)
    everything = [*pairs, *heldout]
    check_honoured(config, everything)
    with journal.timed("reference"):
        scorer = make_scorer(loaded, config, everything, journal.note)
        check_gradient(scorer, pairs)
        others = _with_other_completions(config, pairs, heldout, encoder.max_length)
        longest = max(pair.tokens for pair in [*everything, *others])
        budget = RowBudget(
            scorer,
            longest,
            fixed=processes.world > 1,
            recomputes=config.gradient_checkpointing,
            note=journal.note,
        )
        unmeasured = Task(config, scorer, budget, processes, pairs, heldout, mismatched=others)
        task = budget.fit(lambda: measure_reference(unmeasured, run, loaded, sources, journal))
    # The chat template, the date that it is told and the tokenizer have their part in the ids.
    fingerprint = sources.fingerprint | {"encoding of the pairs": digest_pairs(everything)}
    fingerprint[SETTINGS] = json.dumps(_settings_with_effect(config), sort_keys=True, default=str)
    earlier: dict[str, str | None] = {**sources.earlier}
    if scorer.form != "packed":
        fingerprint[ROWS] = "not packed"
        if not scorer.was_packed:
            earlier[ROWS] = None
    return Preparation(task, loaded, left_out, heldout_left_out, fingerprint, earlier)


def measure_reference(
    task: Task, run: RunDirectory, loaded: LoadedModel, sources: Sources, journal: Journal
) -> Task:
    """Return `task` with the reference log-probabilities of all pairs, from the run's cache where it has them."""
    everything, first = [*task.pairs, *task.heldout, *task.mismatched], len(task.pairs)
    steps = [task.groups(step) for step in range(task.steps_per_epoch)]
    if task.heldout:
        steps.append(_moved(task.heldout_groups(), first))
    last = first + len(task.heldout)
    if task.mismatched:
        together = [task.batch(step) for step in range(task.steps_per_epoch)]
        for members in [*together, range(first, last)] if task.heldout else together:
            groups = task.scorer.groups(task.mismatched, members, at_least=task.processes.world)
            steps.append(_moved(groups, last))
    key = cache_key(
        everything,
        steps,
        form=task.scorer.form,
        model=sources.fingerprint["model"],
        dtype=str(loaded.dtype),
        device=loaded.device.type,
        quantization=getattr(loaded.base.config, "quantization_config", None),
        versions=library_versions(),
        **({} if task.config.reference == "start" else {"reference": task.config.reference}),
    )
    with contextlib.nullcontext() if task.config.reference == "start" else as_reference(loaded.model):
        logps = reference_logps(
            task.scorer,
            everything,
            steps,
            cache=run.root / "reference.safetensors",
            key=key,
            processes=task.processes,
            report=lambda count: journal.report("reference", count, len(everything)),
        )
    check_finite(everything, logps, "reference")
    return replace(
        task,
        reference=logps[:first].to(loaded.device),
        heldout_reference=logps[first:last],
        mismatched_reference=logps[last:],
    )


def _with_other_completions(
    config: TrainConfig, pairs: list[EncodedPair], heldout: list[EncodedPair], max_length: int
) -> list[EncodedPair]:
    """Return what KTO's reference point is measured on; nothing for other losses."""
    if config.loss not in OF_RATINGS:
        return []
    return mismatch(pairs, heldout, epoch_order(config.seed, 0, len(pairs)), max_length)


def _moved(groups: list[list[int]], by: int) -> list[list[int]]:
    return [[by + at for at in group] for group in groups]


def _check_any_left(pairs: list[EncodedPair], left_out: EncodingReport, refusals: list[str]) -> None:
    """Refuse a run without a pair to train on. Raises DataError."""
    if not pairs:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.dropped.items())
        raise DataError(
            " ".join([f"No pair is left to train on{': ' + reasons if reasons else ''}.", *refusals[:1]])
        )


def _settings_with_effect(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that the result depends on."""
    settings = {key: value for key, value in config.to_dict().items() if key not in _NO_EFFECT}
    for name, unset in _LATER.items():
        if settings[name] == unset:
            del settings[name]
    for name, unset in (("experts", "shared"), ("rslora", False), ("dora", False)):
        if settings["lora"][name] == unset:
            del settings["lora"][name]
    return settings


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
