"""The methods: each makes an adapter of a world's preferences, and returns its folder.

DPO is the product's own training, by the engine's verb. The others are trained on the same adapter (LoRA on all linear
layers), from the same judged pairs.
"""

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.controlled.recipes import RECIPES, labelled_rows
from benchmarks.controlled.world import training_row
from benchmarks.paper import losses, reward_model
from benchmarks.paper.actor import Actor, Written, pair
from benchmarks.paper.world import Preference, World
from training.engine.assisting.choosing import Rated
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.train import train

PairLoss = Callable[[list[torch.Tensor], list[torch.Tensor]], torch.Tensor]
FASTER = 2  # times the usual learning rate, in assisted training with its larger batches
_CLEARLY, _MUCH = 0.4, 1.0  # differences in reward of the strengths "better" and "much better"


def dpo(world: World, folder: Path, preferences: Sequence[Preference], **training: Any) -> Path:
    """Train by DPO with settings of the engine."""
    return _train(
        world, folder, [training_row(number, *both) for number, both in enumerate(preferences)], **training
    )


def preferred_ft(world: World, folder: Path, preferences: Sequence[Preference], epochs: int) -> Path:
    """Train by the likelihood of the chosen completions."""

    def loss(chosen: list[torch.Tensor], rejected: list[torch.Tensor]) -> torch.Tensor:
        lengths = torch.tensor([len(one) for one in chosen])
        return losses.preferred_ft(torch.stack([one.sum() for one in chosen]), lengths)

    return fit_offline(world, folder, preferences, loss, epochs)


def unlikelihood(
    world: World, folder: Path, preferences: Sequence[Preference], alpha: float, epochs: int
) -> Path:
    """Train by the likelihood of the chosen completions and the unlikelihood of the rejected ones."""
    return fit_offline(
        world,
        folder,
        preferences,
        lambda chosen, rejected: losses.unlikelihood(chosen, rejected, alpha),
        epochs,
    )


def fit_offline(
    world: World, folder: Path, preferences: Sequence[Preference], loss: PairLoss, epochs: int
) -> Path:
    """Minimize a loss of pairs with DPO's batches, learning rate and schedule. Return the adapter's folder."""
    actor = Actor(world.setting, seed=world.seed)
    config, parameters = actor.config, actor.parameters
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.0)
    pairs = [pair(*both, number) for number, both in enumerate(preferences)]
    rng, steps = random.Random(world.seed), epochs * -(-len(pairs) // config.batch_size)
    step = 0
    for _ in range(epochs):
        order = rng.sample(pairs, len(pairs))
        for start in range(0, len(order), config.batch_size):
            batch = order[start : start + config.batch_size]
            optimizer.zero_grad()
            for places, logps in actor.rows(batch):
                (loss(logps[0::2], logps[1::2]) * len(places) / len(batch)).backward()
            torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            optimizer.param_groups[0]["lr"] = config.learning_rate * _rate(step, steps, config.warmup_steps)
            optimizer.step()
            step += 1
    return actor.save(folder / "adapter")


def moving_rounds(world: World, folder: Path, **training: Any) -> Path:
    """Train in rounds, each from the last adapter and against it, on all pairs so far with margins."""
    counts, prompts = world.setting.counts, [one.prompt for one in world.pool]
    rows: list[dict[str, Any]] = []
    adapter: Path | None = None
    for number, start in enumerate(range(0, counts.labels, counts.round_labels)):
        asked = prompts[start : min(start + counts.round_labels, counts.labels)]
        actor = Actor(world.setting, adapter=adapter)
        written = actor.write(asked, each=2, seed=1000 * world.seed + 13 + number)
        judged = world.judge(written, f"round {number} {world.seed}")
        rows += [
            training_row(f"{number}-{at}", *both, margin=_strength(world, *both) / 3)
            for at, both in enumerate(judged)
        ]
        settings = training | ({"start_adapter": str(adapter)} if adapter else {})
        adapter = _train(world, folder / str(number), rows, reference="start", **settings)
    assert adapter
    return adapter


def assisted(world: World, folder: Path, model: reward_model.RewardModel, *, seen: bool = False) -> Path:
    """Train as an assisted round does: judged pairs, and regression on the gaps of the learnt reward's scores.

    With `seen`, pairs and fresh samples are of the kinds of prompts that are seen. The model is to be of these too.
    """
    rows = [training_row(number, *both) for number, both in enumerate(world.preferences(seen=seen))]
    recipe = RECIPES["assisted"].training | {
        "learning_rate": FASTER * world.setting.training["learning_rate"]
    }

    def train_on(name: str, labelled: list[dict[str, Any]]) -> Path:
        return _train(world, folder / name, rows + labelled, **recipe)

    labelled = assisted_rows(world, model, lambda rows: train_on("draft", rows), seen=seen)
    return train_on("final", labelled)


def assisted_rows(
    world: World,
    model: reward_model.RewardModel,
    train_draft: Callable[[list[dict[str, Any]]], Path],
    *,
    seen: bool = False,
) -> list[dict[str, Any]]:
    """Return the pairs of fresh samples that the learnt reward labels, in the place of a round's probe.

    `train_draft` returns the adapter of a policy that was trained on the first of them, which writes for the others.
    Where there are fewer prompts than groups, the first ones have several groups.
    """
    settings, seed = world.setting.assist, 1000 * world.seed + 14

    def write(pairs: int, actor: Actor, seed: int) -> list[list[Rated]]:
        prompts = itertools.cycle(one.prompt for one in world.learnable(seen=seen))
        asked = list(itertools.islice(prompts, settings.count_groups(pairs)))
        return _rate_groups(model, actor.write(asked, each=settings.candidates, seed=seed))

    first = write(settings.pairs - settings.drafted_pairs, Actor(world.setting), seed)
    return labelled_rows(
        settings,
        first,
        lambda rows: write(
            settings.drafted_pairs, Actor(world.setting, adapter=train_draft(rows)), seed + 500
        ),
    )


def _rate_groups(model: reward_model.RewardModel, groups: Sequence[Sequence[Written]]) -> list[list[Rated]]:
    scores = iter(model.score([one for group in groups for one in group]))
    return [
        [
            Rated(
                {"completion": one.text, "finish_reason": one.finish_reason, "written": one},
                model.sharpness * next(scores),
                deviation=0.0,
            )
            for one in group
        ]
        for group in groups
    ]


def _train(world: World, folder: Path, rows: list[dict[str, Any]], **training: Any) -> Path:
    run = RunDirectory(folder)
    run.write_config(world.setting.config(seed=world.seed, **training))
    write_jsonl(run.pairs, rows)
    train(run)
    return run.adapter


def _strength(world: World, chosen: Written, rejected: Written) -> int:
    """Return how strongly a simulated annotator prefers, from 1 to 3."""
    size = abs(world.setting.reward(chosen.text) - world.setting.reward(rejected.text))
    return 1 + (size >= _CLEARLY) + (size >= _MUCH)


def _rate(step: int, steps: int, warmup: int) -> float:
    """Return the share of the learning rate: up over `warmup` steps, then linearly down to 0 at the end."""
    return (step + 1) / warmup if step < warmup else (steps - step) / max(1, steps - warmup)
