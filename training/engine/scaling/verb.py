"""The verb `scale`: the trained policy measured against its reference, and its adapter scaled down to a budget.

The scale is looked for on completions that are written for the same prompts by the same random numbers at each scale.
What it comes to is then measured on others, so that the figure that is told has not been chosen. It does not promise
that the budget holds for every completion, or on other prompts: KL is a mean, and its interval is told beside it.
"""

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from training.engine.adapters.loading import load_scored, reference_adapter
from training.engine.config import OF_RATINGS, TrainConfig
from training.engine.errors import ConfigError, DataError, EngineError, memory_short
from training.engine.identity import digest
from training.engine.model.base import model_files, set_threads
from training.engine.records import SamplingPrompt, TrainingPair, read_pairs, read_prompts
from training.engine.rundir import RunDirectory
from training.engine.scaling.measurement import Figures, Meter, Written
from training.engine.scaling.rating import find_probe, rate_samples, skilled_probe
from training.engine.scaling.search import MOST_TRIES, find_scale, rounded
from training.engine.scaling.weights import SETTINGS, WEIGHTS, ScaledWeights

_LOOKING, _CHECKING = 1, 2  # seeds: of completions that the scale is chosen by, and of others
_MOST_CHECKS = 4


def scale(run: RunDirectory, prompts_file: Path | None = None) -> None:
    """Measure KL of `adapter/` and scale it to `kl_budget`. Return at once if that is done already.

    Raises EngineError subclasses; adapter/ is then what it was.
    """
    config = run.read_config()
    if not config.kl_samples:
        raise ConfigError("kl_samples", "is 0: there is nothing to measure KL on.")
    set_threads(config)
    with run.locked():
        started = time.monotonic()
        run.progress("loading")
        trained = find_trained(run)
        prompts = choose_prompts(run, config, prompts_file)
        folder = find_probe(run, config)
        inputs = _hash_inputs(run, config, trained, folder)
        asked = _fingerprint(config, inputs, prompts)
        done = run.read_done().get("scale", {})
        if done.get("fingerprint") == asked and done.get("outputs") == run.hashes([run.adapter]):
            print("This adapter is scaled: nothing to do.", file=sys.stderr)
            return
        weights = ScaledWeights(trained, reference_adapter(config))
        if config.kl_budget is not None:
            weights.check()
        loaded = load_scored(config, trained, beside_start=True)
        encoder = loaded.make_encoder(config, run)
        heldout = encoder.encode_pairs(read_pairs(run.heldout))[0] if run.heldout.exists() else []
        meter = Meter(config, loaded, encoder, weights, prompts)
        measured = _measure(run, config, meter)
        kept = measured.final.scale
        found: dict[str, Any] = {}
        if kept < 1 and heldout and config.loss not in OF_RATINGS:
            found["heldout"] = meter.held_out(kept, heldout)
        run.progress("saving")
        _write_scaled(run, weights, trained, kept)
        events, written = meter.events, meter.written
        found |= {
            "completions": sum(one.n or 0 for one, _ in meter.prompts),
            "prompts": len(meter.prompts),
            "left_out": meter.left_out,
        }
        del loaded, meter  # the probe reads the base model, which may not fit beside this one
        if folder:
            measured, told = _rated(run, config, folder, measured, written)
            events += told
        summary = {
            "status": "scaled" if kept < 1 else "measured",
            "budget": config.kl_budget,
            **measured.to_dict(),
            **found,
            "max_new_tokens": config.sampling.max_new_tokens,
            "reference_policy": reference_adapter(config) or "base_model",
            "events": events,
            "seconds": round(time.monotonic() - started, 3),
            "fingerprint": asked,
        }
        run.finish("scale", summary, inputs, [run.adapter])
        run.progress("done")
    for event in events:
        print(event, file=sys.stderr)


def _hash_inputs(run: RunDirectory, config: TrainConfig, trained: Path, probe: Path | None) -> dict[str, str]:
    """Return the hashes of all files that a measurement depends on."""
    inputs = {f"trained/{name}": digest(trained / name) for name in (SETTINGS, WEIGHTS)}
    return inputs | model_files(config) | (run.hashes([probe]) if probe else {})


def _write_scaled(run: RunDirectory, weights: ScaledWeights, trained: Path, kept: float) -> None:
    """Write adapter/ at the scale that is kept, and beside it the trained one, unless adapter/ is that already."""
    if trained == run.adapter and kept < 1:
        weights.write(trained, run.unscaled, 1.0)
    if trained == run.unscaled or kept < 1:
        weights.write(run.unscaled, run.adapter, kept)


def find_trained(run: RunDirectory) -> Path:
    """Return the folder with the adapter as `train` wrote it: adapter/ itself, or unscaled/ once that was scaled.

    Raises DataError where neither is.
    """
    trained = run.read_done().get("train", {}).get("outputs", {}).get(f"{run.adapter.name}/{WEIGHTS}")
    if trained is None:
        raise DataError(f"{run.root} holds no trained adapter; run train first.")
    for folder in (run.adapter, run.unscaled):
        if (folder / WEIGHTS).is_file() and digest(folder / WEIGHTS) == trained:
            return folder
    raise DataError(f"Neither {run.adapter} nor {run.unscaled} is the adapter that train wrote; train again.")


def choose_prompts(run: RunDirectory, config: TrainConfig, file: Path | None) -> list[SamplingPrompt]:
    """Return prompts with how many completions each gets, `kl_samples` in all.

    They are those of `file`, or of the pairs, in an order that does not depend on theirs in the file. Raises DataError.
    """
    given = list(read_prompts(file) if file else _of_pairs(read_pairs(run.pairs)))
    different = {_key(one): one for one in given}
    chosen = [different[key] for key in sorted(different)[: config.kl_samples]]
    if not chosen:
        raise DataError(f"{(file or run.pairs).name} holds no prompt to measure KL on.")
    each, more = divmod(config.kl_samples, len(chosen))
    return [
        SamplingPrompt(id=f"kl/{_key(one)}", prompt=one.prompt, tools=one.tools, n=each + (place < more))
        for place, one in enumerate(chosen)
    ]


def _of_pairs(pairs: list[TrainingPair]) -> Iterator[SamplingPrompt]:
    for pair in pairs:
        yield SamplingPrompt(id=pair.id, prompt=pair.prompt, tools=pair.tools)


def _key(prompt: SamplingPrompt) -> str:
    content = json.dumps([prompt.prompt, prompt.tools], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _fingerprint(config: TrainConfig, inputs: dict[str, str], prompts: list[SamplingPrompt]) -> str:
    """Return a hash of what the scale depends on."""
    sampling = (config.sampling.max_new_tokens, config.sampling.stop)
    asked = [config.kl_budget, config.beta, config.reference, sampling, sorted(inputs.items())]
    return hashlib.sha256(json.dumps([asked, [(one.id, one.n) for one in prompts]]).encode()).hexdigest()


@dataclass(frozen=True)
class _Measured:
    """The figures of the reference, of the policy as it was trained, and as it is kept, with the scales tried."""

    reference: Figures
    trained: Figures
    final: Figures
    tried: list[dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Return them as done.json keeps them."""
        return asdict(self)


def _measure(run: RunDirectory, config: TrainConfig, meter: Meter) -> _Measured:
    """Return the figures of the reference, of the policy as it was trained, and as it is kept."""
    clock = _Clock(run)
    reference = meter.reference(_LOOKING, clock.writing(0))
    trained = meter.policy(1.0, _LOOKING, clock.writing(1))
    final = trained
    tried: list[dict[str, float]] = []
    if config.kl_budget is not None and trained.kl.value > config.kl_budget:
        final, tried = _scaled_down(meter, config.kl_budget, trained, clock)
    return _Measured(reference, trained, final, tried)


def _rated(
    run: RunDirectory, config: TrainConfig, folder: Path, measured: _Measured, written: Written
) -> tuple[_Measured, list[str]]:
    """Return the figures with what a probe with skill makes of the completions, and why it could not, if so."""
    parts = {name: getattr(measured, name) for name in ("reference", "trained", "final")}
    try:
        probe = skilled_probe(folder, config)
        if probe is None:
            return measured, []
        scores = rate_samples(run, config, probe, [written[figures] for figures in parts.values()])
    except Exception as error:
        known = error if isinstance(error, EngineError) else memory_short(error, "score")
        if known is None:
            raise
        return measured, [f"The probe did not rate what was written: {known}"]
    rated = {
        name: replace(figures, probe=score)
        for (name, figures), score in zip(parts.items(), scores, strict=True)
    }
    return replace(measured, **rated), []


def _scaled_down(
    meter: Meter, budget: float, trained: Figures, clock: "_Clock"
) -> tuple[Figures, list[dict[str, float]]]:
    """Return the figures at the largest scale that keeps the budget, on other completions, and the scales tried."""
    tried: list[dict[str, float]] = []

    def measure(scale: float) -> float:
        clock.tick(len(tried))
        kl = meter.policy(scale, _LOOKING).kl.value
        tried.append({"scale": scale, "kl": kl})
        return kl

    scale = find_scale(budget, trained.kl.value, measure)
    for check in range(_MOST_CHECKS):
        clock.tick(len(tried))
        found = meter.policy(scale, _CHECKING + check)
        if found.kl.low <= budget:  # no evidence that it does not keep it
            break
        tried.append({"scale": scale, "kl": found.kl.value})
        scale = rounded(scale * (budget / found.kl.value) ** 0.5)
    return found, tried


class _Clock:
    """Progress of a measurement, with the time that is left by what its parts took."""

    def __init__(self, run: RunDirectory) -> None:
        self.run, self.began, self.told = run, time.monotonic(), 0.0

    def writing(self, place: int) -> Any:
        """Return what to call with completions written so far: `place` is the set, of two."""

        def report(done: int, total: int) -> None:
            now, share = time.monotonic(), (place * total + done) / (2 * total)
            if now - self.told > 0.5:
                self.told = now
                left = (now - self.began) * (1 - share) / share if share else None
                self.run.progress("measuring", place * total + done, 2 * total, left)

        return report

    def tick(self, tried: int) -> None:
        """Tell how many scales were tried. Each takes about half of what the first two measurements took."""
        if not tried:
            self.each = (time.monotonic() - self.began) / 2
        self.run.progress("scaling", tried, MOST_TRIES + 1, self.each * max(1, MOST_TRIES + 1 - tried))
