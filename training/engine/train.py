"""The verb `train`: a run directory from its pairs to its adapter, interrupted as often as it may be.

Started again in a directory that holds a checkpoint it resumes, and ends with the same adapter and the same
metrics, byte for byte on a CPU, but for the measured `pairs_per_second`.
"""

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from training.engine.adapters.loading import load_policy, save_adapter
from training.engine.adapters.lora import rounding_events
from training.engine.config import TrainConfig
from training.engine.data.tokens import digest_pairs
from training.engine.errors import ConfigError, DataError, DivergedError, memory_short
from training.engine.model.base import Loaded, choose_device, model_files, set_threads
from training.engine.optimize import checkpoints, distributed
from training.engine.optimize.distributed import Processes
from training.engine.optimize.health import diagnose
from training.engine.optimize.interrupts import Interrupts
from training.engine.optimize.losses import check_honoured
from training.engine.optimize.memory import own_peak
from training.engine.optimize.reference import cache_key, reference_logps, shared_logps
from training.engine.optimize.trainer import Trainer
from training.engine.records import read_pairs
from training.engine.rundir import Log, RunDirectory, digest, library_versions
from training.engine.score import check_finite, held_out_figures, make_scorer
from training.engine.selfcheck import check_gradient

# Settings that change how a run is watched, where its results go, or how it is fitted into memory: the result is the
# same, up to the order of sums. They may change before a run is resumed.
_NO_EFFECT = (
    *("checkpoint_steps", "max_skipped_steps", "displacement_bound", "sampling"),
    *("threads", "max_tokens", "packing", "gradient_checkpointing"),
)
# Options that came later, with their defaults: a run that leaves them so is what it was before them.
_LATER = {
    "chat_template": None,
    "template_date": None,
    "unmatched_turns": "refuse",
    "control_tokens_in_text": False,
}
T = TypeVar("T")


def train(run: RunDirectory) -> None:
    """Train in `run` and write adapter/, metrics.jsonl and done.json; returns at once if that is done already.

    Raises EngineError subclasses, each with a sentence and an exit code; what was computed stays for the
    next start.
    """
    config = run.read_config()
    set_threads(config)
    processes = distributed.join(choose_device(config), in_step=config.shard)
    try:
        with contextlib.ExitStack() as resources:
            if processes.is_first:
                resources.enter_context(run.locked())
            interrupts = resources.enter_context(Interrupts())
            _Run(run, config, processes, interrupts, resources).go()
    finally:
        distributed.leave(processes)


class _Run:
    """One start of `train`, from the files to the files."""

    def __init__(
        self,
        run: RunDirectory,
        config: TrainConfig,
        processes: Processes,
        interrupts: Interrupts,
        resources: contextlib.ExitStack,
    ) -> None:
        self.run, self.config, self.processes, self.interrupts = run, config, processes, interrupts
        self.resources = resources  # closed when the run ends, however it does
        self.events: list[str] = []
        self.started = time.monotonic()
        self.reference_seconds = 0.0  # the check of packing and the reference pass
        self.trained_seconds = 0.0

    def go(self) -> None:
        """From reading the pairs to writing done.json."""
        self._report("loading")
        pairs = read_pairs(self.run.pairs)
        heldout = read_pairs(self.run.heldout) if self.run.heldout.exists() else []
        if self.config.eval_steps and not self.run.heldout.exists():
            raise ConfigError(
                "eval_steps", f"has no effect without pairs to score: {self.run.heldout} is missing."
            )
        self.inputs = self.run.hashes([self.run.config_file, self.run.pairs, self.run.heldout])
        model = model_files(self.config)
        self.inputs |= model
        self.fingerprint = self._fingerprint(model)
        if self._is_done():
            self._say("This run is done: nothing to train.")
            return
        loaded = load_policy(self.config)
        for event in rounding_events(loaded.model, loaded.dtype):
            self._note(event)
        if self.config.shard:
            distributed.shard_base(loaded.base, loaded.device)
        encoder = loaded.encoder(self.config, self.run)
        self.pairs, self.encoding = encoder.encode_pairs(pairs)
        self.heldout, self.heldout_encoding = encoder.encode_pairs(heldout)
        # The chat template, the date that it is told and the tokenizer have their part in these.
        self.encoded = {"encoding of the pairs": digest_pairs([*self.pairs, *self.heldout])}
        refusals = [*self.encoding.refusals, *self.heldout_encoding.refusals]
        if not self.pairs:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.encoding.dropped.items())
            raise DataError(
                " ".join([f"No pair is left to train on{': ' + reasons if reasons else ''}.", *refusals[:1]])
            )
        for event in refusals:
            self._note(event)
        check_honoured(self.config, [*self.pairs, *self.heldout])
        self.loaded = loaded
        began = time.monotonic()
        self.scorer = make_scorer(loaded, self.config, [*self.pairs, *self.heldout], self._note)
        check_gradient(self.scorer, self.pairs)
        self.trainer = Trainer(self.config, loaded.model, self.scorer, self.pairs, self.processes)
        self._within_memory(self._measure_reference)
        self.reference_seconds = time.monotonic() - began
        self._train()
        self._finish()

    def _measure_reference(self) -> None:
        """Reference log-probabilities of the training pairs and the held-out pairs, from the cache if it fits."""
        steps = [self.trainer.groups(step) for step in range(self.trainer.steps_per_epoch)]
        everything, first = [*self.pairs, *self.heldout], len(self.pairs)
        if self.heldout:
            steps.append([[first + at for at in group] for group in self._held_groups()])
        key = cache_key(
            everything,
            steps,
            form=self.scorer.form,
            model=self.fingerprint["model"],
            dtype=str(self.loaded.dtype),
            device=self.loaded.device.type,
            quantization=getattr(self.loaded.base.config, "quantization_config", None),
            versions=library_versions(),
        )
        logps = reference_logps(
            self.scorer,
            everything,
            steps,
            cache=self.run.root / "reference.safetensors",
            key=key,
            processes=self.processes,
            report=lambda count: self._report("reference", count, len(everything)),
        )
        check_finite(everything, logps, "reference")
        self.trainer.set_reference(logps[:first])
        self.heldout_reference = logps[first:]

    def _train(self) -> None:
        """All steps from the last checkpoint on."""
        position = checkpoints.Position(0, 0, 0, 0)
        found = checkpoints.load_latest(self.run.checkpoints, self.fingerprint | self.encoded)
        if found:
            position, tensors, torn = found
            self.trainer.load_state(tensors)
            self._note(f"Resumed from the checkpoint at step {position.step}.")
            for name in torn:
                self._note(f"Checkpoint {name} is torn and was passed over.")
        self.processes.wait()
        self.step, self.evaluated = position.step, position.evaluated
        if self.processes.is_first:
            self.metrics = self.resources.enter_context(Log(self.run.metrics, position.metrics_size))
            self.evals = self.resources.enter_context(Log(self.run.evals, position.evals_size))
        self.interrupts.on_stop(self._checkpoint if self.processes.is_first else lambda: None)
        began, first = time.monotonic(), position.step
        self._evaluate_if_due()  # the stop may have come between a step and its evaluation
        while self.step < self.trainer.total_steps:
            self._step()
            done = self.step - first
            left = (time.monotonic() - began) / done * (self.trainer.total_steps - self.step)
            self._report("training", self.step, self.trainer.total_steps, left)
        self.trained_seconds = time.monotonic() - began

    def _step(self) -> None:
        """One optimizer step with its metrics, evaluation and checkpoint."""
        started = time.perf_counter()
        row = self._within_memory(lambda: self.trainer.step(self.step))
        with self.interrupts.held():  # a stop finds the step wholly done or not begun
            self.trainer.apply()
            count = len(self.trainer.batch(self.step))
            self.step += 1
            if self.processes.is_first:
                self.metrics.append(row | {"pairs_per_second": count / (time.perf_counter() - started)})
        skipped = self.trainer.skipped
        if skipped > self.config.max_skipped_steps:
            raise DivergedError(
                f"{skipped} steps gave a loss or gradient that is not finite, more than max_skipped_steps;"
                " lower learning_rate or set dtype to float32."
            )
        self._evaluate_if_due()
        due = self.step % self.config.checkpoint_steps == 0 and self.step < self.trainer.total_steps
        if due and self.processes.is_first:
            with self.interrupts.held():
                self._checkpoint()

    def _evaluate_if_due(self) -> None:
        """The line of evals.jsonl that belongs to this step, unless it stands there already."""
        every = self.config.eval_steps
        if not (every and self.heldout and self.step % every == 0 and self.step > self.evaluated):
            return
        figures = self._held_out_figures(self._held_out_logps())
        with self.interrupts.held():
            if self.processes.is_first:
                self.evals.append({"step": self.step} | figures)
            self.evaluated = self.step

    def _checkpoint(self) -> None:
        position = checkpoints.Position(self.step, self.metrics.sync(), self.evals.sync(), self.evaluated)
        fingerprint = self.fingerprint | self.encoded
        checkpoints.save(self.run.checkpoints, position, self.trainer.state(), fingerprint)

    def _held_out_logps(self) -> torch.Tensor:
        """Log-probabilities (held-out pairs, 2) under the policy as it stands, in every process."""

        def compute() -> torch.Tensor:
            logps, groups = torch.empty_like(self.heldout_reference), self._held_groups()
            members = [at for group in groups for at in group]
            logps[members] = shared_logps(self.scorer, self.heldout, groups, self.processes)
            return logps

        return self._within_memory(compute)

    def _held_groups(self) -> list[list[int]]:
        """Which held-out pairs share a row."""
        return self.scorer.groups(self.heldout, range(len(self.heldout)), self.processes.world)

    def _within_memory(self, compute: Callable[[], T]) -> T:
        """Return what `compute` does. Where memory is short, retry in shorter rows, down to those of one pair.

        Several processes would lose step with one another: there the error is raised.
        """
        while True:
            try:
                return compute()
            except (MemoryError, RuntimeError) as error:
                if not memory_short(error) or self.processes.world > 1 or not self._shorten_rows():
                    raise

    def _shorten_rows(self) -> bool:
        """Halve the token budget of a row; False if the longest pair has a row of its own already."""
        before = self.scorer.max_tokens
        longest = max(pair.tokens for pair in (*self.pairs, *self.heldout))
        if before <= longest:
            return False
        self.scorer.max_tokens = max(longest, before // 2)
        self.trainer.optimizer.zero_grad(set_to_none=True)
        if self.loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        self._note(f"Memory was short: rows hold {self.scorer.max_tokens} tokens from here on, not {before}.")
        return True

    def _held_out_figures(self, logps: torch.Tensor) -> dict[str, Any]:
        return held_out_figures(self.config, self.heldout, logps, self.heldout_reference)

    def _check_trained(self) -> dict[str, Any] | None:
        """Refuse a policy that its last steps have broken; returns the held-out figures of a sound one, if any."""
        if not all(bool(weight.isfinite().all()) for weight in self.trainer.parameters.values()):
            raise DivergedError(
                "The last steps left adapter weights that are not finite; lower learning_rate."
            )
        if self.heldout:
            logps = self._held_out_logps()
            check_finite(self.heldout, logps, "trained policy")
            return self._held_out_figures(logps)
        row = self.trainer.groups(self.trainer.total_steps - 1)[:1]
        logps = shared_logps(self.scorer, self.pairs, row, self.processes)
        check_finite([self.pairs[at] for at in row[0]], logps, "trained policy")
        return None

    def _finish(self) -> None:
        self._report("saving", self.trainer.total_steps, self.trainer.total_steps)
        after = self._check_trained()
        if not self.processes.is_first:
            return
        self.metrics.sync()
        save_adapter(self.loaded.model, self.run.adapter)
        rows = [json.loads(line) for line in self.run.metrics.read_text(encoding="utf-8").splitlines()]
        before = self._held_out_figures(self.heldout_reference) if self.heldout else None
        findings = diagnose(rows, self.config)
        summary = {
            "status": "trained",
            "steps": self.trainer.total_steps,
            "skipped_steps": self.trainer.skipped,
            "pairs": len(self.pairs),
            "left_out": self.encoding.to_dict(),
            "heldout": {
                "pairs": len(self.heldout),
                "left_out": self.heldout_encoding.to_dict(),
                "before": before,
                "after": after,
            },
            "health": findings,
            "events": self.events,
            "packed": self.scorer.form == "packed",
            "rows": self.scorer.form,
            "device": self.loaded.device.type,
            "dtype": str(self.loaded.dtype).removeprefix("torch."),
            "processes": self.processes.world,
            "threads": torch.get_num_threads(),
            "seconds": round(time.monotonic() - self.started, 3),
            "reference_seconds": round(self.reference_seconds, 3),
            "training_seconds": round(self.trained_seconds, 3),
            "peak_memory_bytes": _peak_memory(self.loaded),
            "fingerprint": self.fingerprint,
        }
        self.run.finish("train", summary, self.inputs, [self.run.adapter, self.run.metrics])
        for finding in findings:
            self._say(f"{finding['message']} {finding['remedy']}")
        self._report("done", self.trainer.total_steps, self.trainer.total_steps)

    def _fingerprint(self, model: dict[str, str]) -> dict[str, str]:
        """What the result depends on, by name; a checkpoint of another fingerprint is not resumed from."""
        settings = {key: value for key, value in self.config.to_dict().items() if key not in _NO_EFFECT}
        for name, unset in _LATER.items():
            if settings[name] == unset:
                del settings[name]
        if self.config.lora.experts == "shared":
            del settings["lora"]["experts"]
        return {
            "configuration": _hash(settings),
            "pairs.jsonl": digest(self.run.pairs),
            "heldout.jsonl": digest(self.run.heldout) if self.run.heldout.exists() else "",
            "model": _hash(model),
            "number of processes": str(self.processes.world),
        }

    def _is_done(self) -> bool:
        done = self.run.read_done().get("train", {})
        return done.get("fingerprint") == self.fingerprint and self.run.adapter.is_dir()

    def _report(self, phase: str, step: int = 0, total: int = 0, eta: float | None = None) -> None:
        if self.processes.is_first:
            self.run.progress(phase, step, total, eta)

    def _note(self, event: str) -> None:
        self.events.append(event)
        self._say(event)

    def _say(self, sentence: str) -> None:
        if self.processes.is_first:
            print(sentence, file=sys.stderr)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _peak_memory(loaded: Loaded) -> int:
    """Bytes: of the CUDA device, or of this process."""
    if loaded.device.type == "cuda":
        return torch.cuda.max_memory_allocated(loaded.device)
    return own_peak()
