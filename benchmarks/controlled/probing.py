"""The engine's probe on the pool's samples: their features, read once, and scores by what was judged."""

from collections.abc import Sequence
from functools import cache

import torch
from safetensors.torch import load_file, save_file

from benchmarks.controlled import world
from benchmarks.controlled.world import CACHE, PROJECT_PROMPTS, Judged, Written
from training.engine.assisting.choosing import Rated
from training.engine.data.tokens import EncodedPair
from training.engine.probe.base_reader import BaseReader
from training.engine.probe.probing import standardize
from training.engine.probe.regression import Posterior, find_directions, fit
from training.engine.probe.storage import Standard
from training.engine.rundir import RunDirectory

LAYERS, TOKENS = 2, 256


@cache
def features() -> torch.Tensor:
    """Return the features of projects' samples by their place, standardized. Reads them the first time (minutes)."""
    return _standard().apply(_raw())


@cache
def _raw() -> torch.Tensor:
    file = CACHE / f"features-{TOKENS}.safetensors"
    if not file.exists():
        save_file(
            {"features": _read([one for samples in world.pool()[:PROJECT_PROMPTS] for one in samples])}, file
        )
    return load_file(file)["features"]


@cache
def _standard() -> Standard:
    return standardize(_raw(), TOKENS)


def _read(samples: Sequence[Written]) -> torch.Tensor:
    """Return the probe's features of samples, of which neighbours share a prompt: (samples, d)."""
    model = BaseReader(world.settings(), RunDirectory(CACHE))
    pairs = [
        EncodedPair(
            id="",
            prompt=one.prompt_ids,
            chosen=one.token_ids,
            rejected=other.token_ids,
            label=1.0,
            margin=0.0,
            weight=1.0,
        )
        for one, other in zip(samples[::2], samples[1::2], strict=True)
    ]
    found: dict[int, torch.Tensor] = {}
    for places, rows in model.features_of(pairs, LAYERS, TOKENS, print).read(pairs):
        found.update(zip(places, rows, strict=True))
    return torch.cat([found[place] for place in range(len(pairs))])


def fit_probe(judged: Sequence[Judged]) -> Posterior:
    """Return the posterior of a probe fitted to judgments that are not ties."""
    decided = [one for one in judged if one.label != 0.5]
    known = features()
    differences = torch.stack([known[one.first.place] - known[one.second.place] for one in decided])
    directions = find_directions(differences)
    labels = torch.tensor([one.label for one in decided], dtype=torch.float64)
    return directions.lift(fit(directions.coordinates, labels))


def rate(posterior: Posterior, samples: Sequence[Written]) -> list[Rated]:
    """Return samples as `assist` has them once they are rated. Those of the pool have a place."""
    places = [one.place for one in samples]
    rows = features()[places] if min(places) >= 0 else _standard().apply(_read(samples))
    scores, deviations = posterior.score(rows).tolist(), posterior.deviation(rows).tolist()
    return [
        Rated({"completion": one.text, "finish_reason": one.finish_reason, "written": one}, *figures)
        for one, *figures in zip(samples, scores, deviations, strict=True)
    ]
