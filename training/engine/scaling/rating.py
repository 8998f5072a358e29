"""A probe's scores of the completions that a measurement wrote: one more proxy beside the implicit reward."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from training.engine.config import TrainConfig
from training.engine.probe.base_reader import BaseReader, base_digests
from training.engine.probe.rating import couple
from training.engine.probe.storage import Probe, load_probe
from training.engine.rundir import RunDirectory
from training.engine.sampling.decoding import Sample
from training.engine.scaling.divergence import as_rating
from training.engine.scaling.intervals import Interval, mean_interval


def find_probe(run: RunDirectory, config: TrainConfig) -> Path | None:
    """Return the folder of the run's probe, if it has one: the one that is named, its own, or that of `assist`."""
    named = [Path(config.probe)] if config.probe else []
    places = [*named, run.probe, RunDirectory(run.root / "assist").probe]
    return next((folder for folder in places if folder.is_dir()), None)


def skilled_probe(folder: Path, config: TrainConfig) -> Probe | None:
    """Return the probe; None if it foretells votes no better than chance. Raises as `load_probe` does."""
    probe = load_probe(folder, base_digests(config))
    return probe if probe.has_skill else None


def rate_samples(
    run: RunDirectory, config: TrainConfig, probe: Probe, sets: Sequence[Sequence[Sample]]
) -> list[Interval | None]:
    """Return the mean score of each set of completions, with an interval over prompts.

    The base model is loaded alone: the caller has given up its own. A set of empty completions has no score.
    """
    ratings = [
        replace(as_rating(sample), id=f"{number} {place}")
        for number, samples in enumerate(sets)
        for place, sample in enumerate(samples)
        if sample.drawn.token_ids
    ]
    if not ratings:
        return [None for _ in sets]
    couples = list(couple(ratings))
    events: list[str] = []  # of the packing of rows, which the measurement has told
    reader = BaseReader(config, run).features_of(
        [pair for pair, _ in couples], probe.layers, probe.tokens, events.append
    )
    scores: dict[str, float] = {}
    for places, features in reader.read([pair for pair, _ in couples]):
        found, _deviations = probe.rate(features.flatten(0, 1))
        names = [name for place in places for name in couples[place][1]]
        scores |= {name: score for name, score in zip(names, found.tolist(), strict=True) if name is not None}
        run.progress("rating", len(scores), len(ratings))
    return [
        _mean(samples, [scores.get(f"{number} {place}") for place in range(len(samples))])
        for number, samples in enumerate(sets)
    ]


def _mean(samples: Sequence[Sample], scores: Sequence[float | None]) -> Interval | None:
    by_prompt: dict[str, list[float]] = {}
    for sample, score in zip(samples, scores, strict=True):
        if score is not None:
            by_prompt.setdefault(sample.prompt.id, []).append(score)
    return mean_interval([statistics.fmean(some) for some in by_prompt.values()]) if by_prompt else None
