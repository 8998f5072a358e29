"""The engine learns: the paper's controlled-sentiment experiment in miniature, on the starter model."""

import json
import random
import statistics
from pathlib import Path

import pytest

from training.engine.config import TrainConfig
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.engine.sample import sample
from training.engine.starter import build, reviews
from training.engine.train import train

STARTER = Path(build.__file__).parents[2] / "starter"


def review_pairs(count: int) -> list[dict[str, str]]:
    """Continuations of two openings, the one that praises more preferred."""
    rng = random.Random(0)
    rows: list[dict[str, str]] = []
    while len(rows) < count:
        (opening, first), (_, second) = reviews.review(rng), reviews.review(rng)
        better, worse = sorted((first, second), key=reviews.reward, reverse=True)
        if reviews.reward(better) > reviews.reward(worse):
            rows.append({"id": str(len(rows)), "prompt": opening, "chosen": better, "rejected": worse})
    return rows


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_preferences_for_praise_make_the_model_praise(tmp_path: Path) -> None:
    recommended = json.loads((STARTER / "recommended.json").read_text())
    sampling = {"max_new_tokens": 96, "samples_per_prompt": 1}
    run = RunDirectory(tmp_path)
    # Texts by another writer teach more slowly than the model's own.
    training = recommended["training"] | {"epochs": 8}
    config = TrainConfig.from_dict({"base_model": str(STARTER), **training, "sampling": sampling})
    run.write_config(config)
    write_jsonl(run.pairs, review_pairs(120))
    openings = enumerate(reviews.openings(200, seed=7))
    write_jsonl(run.prompts, ({"id": str(at), "prompt": text} for at, text in openings))

    def mean_reward() -> float:
        sample(run)
        return statistics.fmean(reviews.reward(row["completion"]) for _, row in read_jsonl(run.samples))

    before = mean_reward()
    train(run)
    # The standard error of the difference is about 0.06.
    assert mean_reward() > before + 0.2
