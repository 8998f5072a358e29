"""The verb `rate`: a probe's scores for the completions of a run directory."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.engine.data.tokens import EncodedPair
from training.engine.errors import DataError
from training.engine.model.base import set_threads
from training.engine.probe.base_reader import BaseReader, base_digests
from training.engine.probe.storage import load_probe
from training.engine.records import TrainingPair, parse_rating, read_prompts
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl


def rate(run: RunDirectory) -> None:
    """Write ratings.jsonl for samples.jsonl, then done.json. Raises EngineError subclasses."""
    config = run.read_config()
    set_threads(config)
    folder = Path(config.probe) if config.probe else run.probe
    with run.locked():
        started = time.monotonic()
        run.progress("loading")
        samples = list(read_samples(run))
        if not samples:
            raise DataError(f"{run.samples.name} holds no completion.")
        probe = load_probe(folder, base := base_digests(config))
        files = [run.config_file, run.samples, run.prompts, folder]
        inputs = run.hashes(files) | base
        model = BaseReader(config, run)
        encoded, left_out = model.encoder.encode_pairs(samples)
        events = left_out.events
        ratings: dict[str, tuple[float, float]] = {}
        couples = list(couple(encoded))
        if couples:
            reader = model.features_of(
                [pair for pair, _ in couples], probe.layers, probe.tokens, events.append
            )
            for places, features in reader.read([pair for pair, _ in couples]):
                scores, deviations = probe.rate(features.flatten(0, 1))
                names = [name for place in places for name in couples[place][1]]
                for name, score, deviation in zip(names, scores.tolist(), deviations.tolist(), strict=True):
                    if name is not None:
                        ratings[name] = score, deviation
                run.progress("rating", len(ratings), len(samples))
        write_jsonl(run.ratings, lines(run, samples, ratings))
        summary = {
            "status": "rated",
            "completions": len(samples),
            "rated": len(ratings),
            "probe": str(folder),
            "has_skill": probe.has_skill,
            "left_out": left_out.to_dict(),
            "events": events,
            "seconds": round(time.monotonic() - started, 3),
        }
        run.finish("rate", summary, inputs, [run.ratings])
        run.progress("done", len(samples), len(samples))
    for event in events:
        print(event, file=sys.stderr)


def read_samples(run: RunDirectory) -> Iterator[TrainingPair]:
    """Yield the lines of samples.jsonl as ratings named by id and index. Raises DataError naming the line.

    The prompt is that of prompts.jsonl, and the ids are those that were sampled, where they are known.
    """
    prompts = {one.id: one for one in read_prompts(run.prompts)} if run.prompts.exists() else {}
    seen: set[str] = set()
    for number, row in read_jsonl(run.samples):
        where = f"{run.samples.name} line {number}"
        prompt = prompts.get(str(row.get("id")))
        if prompt is None and not row.get("prompt_token_ids"):
            raise DataError(f"{where}: its prompt is neither in {run.prompts.name} nor in prompt_token_ids.")
        completed = {"completion", "prompt_token_ids"} & row.keys()
        given = {name: row[name] for name in completed if row[name] is not None} | {
            "id": f"{row.get('id')} {row.get('index', 0)}",
            "prompt": prompt.prompt if prompt else "",
            "tools": prompt.tools if prompt else None,
            "completion_token_ids": row.get("token_ids"),
            "completion_finish_reason": row.get("finish_reason"),
        }
        rating = parse_rating(given, where)
        if rating.id in seen:
            raise DataError(f"{where} repeats a completion: each needs an id and an index of its own.")
        seen.add(rating.id)
        yield rating


def couple(ratings: Sequence[EncodedPair]) -> Iterator[tuple[EncodedPair, tuple[str, str | None]]]:
    """Yield neighbours with the same prompt as pairs, whose prompt is computed once, with the names of both."""
    at = 0
    while at < len(ratings):
        one = ratings[at]
        other = ratings[at + 1] if at + 1 < len(ratings) and ratings[at + 1].prompt == one.prompt else None
        yield (
            replace(one, rejected=other.chosen if other else ()),
            (one.id, other.id if other else None),
        )
        at += 2 if other else 1


def lines(
    run: RunDirectory, samples: Sequence[TrainingPair], ratings: dict[str, tuple[float, float]]
) -> Iterator[dict[str, Any]]:
    """Yield the lines of ratings.jsonl, in the order of the completions; null where one could not be read."""
    for (_, row), sample in zip(read_jsonl(run.samples), samples, strict=True):
        score, deviation = ratings.get(sample.id, (None, None))
        yield {"id": row["id"], "index": row.get("index", 0), "score": score, "sd": deviation}
