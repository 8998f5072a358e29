"""The verb `probe`: fit a probe to the votes of a run directory, and label its comparisons."""

import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch

from training.engine.data.tokens import EncodedPair
from training.engine.errors import DataError
from training.engine.identity import library_versions
from training.engine.model.base import set_threads
from training.engine.probe.base_reader import BaseReader, base_digests
from training.engine.probe.features import FeatureReader
from training.engine.probe.fitting import FittedProbe, fit_probe, label_of
from training.engine.probe.storage import Probe, Standard
from training.engine.probe.votes import VotedPair, read_votes
from training.engine.rundir import RunDirectory, write_jsonl

MOST_COMPARISONS = 4096  # that a probe is fitted to: the last of the file
_LEAST_DEVIATION = 1e-6
_SKETCH = 0.5  # the variance of a sketch, as a share of that of the states


def fit_run(run: RunDirectory) -> None:
    """Write probe/ and probe_labels.jsonl for votes.jsonl, then done.json. Raises EngineError subclasses."""
    config = run.read_config()
    set_threads(config)
    with run.locked():
        started = time.monotonic()
        run.progress("loading")
        every = list(read_votes(run.votes))
        inputs = run.hashes([run.config_file, run.votes]) | (base := base_digests(config))
        model = BaseReader(config, run)
        encoded, left_out = model.encoder.encode_pairs([one.pair for one in every[-MOST_COMPARISONS:]])
        by_id = {one.id: one for one in every}
        voted = [by_id[pair.id] for pair in encoded]
        if not any(one.is_decided for one in voted):
            raise DataError(
                " ".join([f"{run.votes.name} holds no vote to learn from.", *left_out.refusals[:1]])
            )
        events = left_out.events
        reader = model.features_of(encoded, config.probe_layers, config.probe_tokens, events.append)
        features = read_features(reader, encoded, run)
        standard = standardize(features, config.probe_tokens)
        differences = (features[:, 0] - features[:, 1]).double() / standard.scale
        del features
        fitted = fit_probe(voted, differences, lambda done, total: run.progress("fitting", done, total))
        about = {
            "base_model": base,
            "features": {
                "layers": config.probe_layers,
                "tokens": config.probe_tokens,
                "size": len(standard.scale),
                "dtype": model.dtype,
            },
            "comparisons": len(voted),
            "votes": sum(len(one.votes) for one in voted),
            "skill": fitted.skill.to_dict(),
            "reliability": {name: asdict(one) for name, one in sorted(fitted.reliability.items())},
        }
        probe = Probe(fitted.posterior, standard, about | {"versions": library_versions()})
        probe.save(run.probe)
        lines = list(label_lines(every, voted, fitted))
        write_jsonl(run.probe_labels, lines)
        summary = {
            "status": "fitted",
            **{name: about[name] for name in ("comparisons", "votes", "skill", "reliability")},
            "checks": list_checks(voted, fitted) if fitted.skill.has_skill else {},
            "turned": sum((line["label"] - 0.5) * (line["votes"] - 0.5) < 0 for line in lines),
            "left_out": left_out.to_dict(),
            "events": events,
            "seconds": round(time.monotonic() - started, 3),
        }
        run.finish("probe", summary, inputs, [run.probe, run.probe_labels])
        run.progress("done", len(voted), len(voted))
    for event in events:
        print(event, file=sys.stderr)


def read_features(reader: FeatureReader, pairs: Sequence[EncodedPair], run: RunDirectory) -> torch.Tensor:
    """Return the features (pairs, 2, size) of all completions, float32."""
    found: dict[int, torch.Tensor] = {}
    started = time.monotonic()

    def report(done: int) -> None:
        spent = time.monotonic() - started
        run.progress("features", done, len(pairs), spent / done * (len(pairs) - done))

    for places, features in reader.read(pairs, report):
        found.update(zip(places, features, strict=True))
    return torch.stack([found[place] for place in range(len(pairs))])


def standardize(features: torch.Tensor, tokens: int) -> Standard:
    """Return the mean and deviation of all completions' features (pairs, 2, size), of which the last `tokens` sketch.

    In these units the sketch varies by half as much as the states, however many numbers either has. Its numbers share
    one scale, which keeps distances. By its own, one that never varied would make a token that is new count for all.
    """
    flat = features.view(-1, features.shape[-1])
    spread, mean = torch.std_mean(flat, dim=0, correction=0)
    scale = spread.double().clamp(min=_LEAST_DEVIATION)
    if tokens:
        typical = float(spread[-tokens:].double().square().mean().sqrt())
        share = math.sqrt(tokens / (_SKETCH * (len(scale) - tokens)))
        scale[-tokens:] = share * (typical if typical > _LEAST_DEVIATION else 1.0)  # that of a sign
    return Standard(mean.double(), scale)


def label_lines(
    every: Sequence[VotedPair], voted: Sequence[VotedPair], fitted: FittedProbe
) -> Iterator[dict[str, Any]]:
    """Yield the lines of probe_labels.jsonl: what votes and probe say of each comparison, and each alone.

    A comparison that the probe did not read is labelled by its votes.
    """
    read = {
        one.id: (chance, label)
        for one, chance, label in zip(voted, fitted.chances, fitted.labels, strict=True)
    }
    for one in every:
        chance, label = read.get(one.id, (None, label_of(one, 0.5, fitted.reliability)))
        yield {"id": one.id, "label": round(label, 6), "votes": round(one.share, 6), "probe": chance}


def list_checks(voted: Sequence[VotedPair], fitted: FittedProbe) -> dict[str, list[tuple[float, int]]]:
    """Return for each annotator how many of their votes the cross-fitted probe finds right with which chance.

    Votes that gold or a colleague's vote on the same comparison tells of already are left out: each counts once.
    """
    found: dict[str, Counter[float]] = defaultdict(Counter)
    for one, chance in zip(voted, fitted.chances, strict=True):
        for annotator, prefers_first in one.votes if one.gold is None and len(one.votes) == 1 else ():
            right = chance if prefers_first else 1 - chance
            found[annotator][round(right, 1)] += 1
    return {annotator: sorted(counts.items()) for annotator, counts in sorted(found.items())}
