"""PPO, small and honest: the clipped surrogate, a KL penalty to the base model, and RLOO's baseline.

Each update draws prompts, writes four completions of each, and takes a few steps on them. The reward of a completion is
its score less beta * (log pi - log pi_0), and its advantage is that less the mean of the prompt's other completions
(Ahmadian et al., 2402.14740). That baseline stands in for the learned value function of Schulman et al. (1707.06347).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.paper import losses
from benchmarks.paper.actor import Actor, Written, pair
from benchmarks.paper.setting import Prompt
from benchmarks.paper.world import World

Score = Callable[[Sequence[Written]], Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of PPO. `beta` is in units of the score for each nat."""

    beta: float
    speed: float = 2.0  # times DPO's learning rate
    completions: int = 4  # of a prompt
    passes: int = 2  # over an update's completions
    batch: int = 16  # pairs of completions in a step
    clip: float = 0.2


def train(world: World, folder: Path, score: Score, prompts: Sequence[Prompt], options: Options) -> Path:
    """Train an adapter by PPO, and return its folder."""
    counts = world.setting.counts
    actor = Actor(world.setting, seed=world.seed)
    parameters = actor.parameters
    learning_rate = options.speed * actor.config.learning_rate
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    rng = random.Random(f"ppo {world.seed}")
    for update in range(counts.updates):
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - update / counts.updates)
        asked = rng.sample(list(prompts), min(counts.rollout, len(prompts)))
        groups = actor.write(asked, each=options.completions, seed=100_000 * (world.seed + 1) + update)
        rollout = collect(actor, groups, score, options.beta)
        for _ in range(options.passes):
            rng.shuffle(rollout)
            for start in range(0, len(rollout), options.batch):
                step(actor, parameters, optimizer, rollout[start : start + options.batch], options.clip)
    return actor.save(folder / "adapter")


@dataclass(frozen=True)
class Move:
    """Two completions of a prompt, with their tokens' log-probabilities when they were written, and advantages."""

    both: tuple[Written, Written]
    old: list[torch.Tensor]
    advantages: tuple[float, float]


def collect(actor: Actor, groups: Sequence[Sequence[Written]], score: Score, beta: float) -> list[Move]:
    """Return the moves of completions by prompt, in pairs, with advantages of standard deviation 1."""
    flat = [one for group in groups for one in group]
    both = list(zip(flat[0::2], flat[1::2], strict=True))
    pairs = [pair(*two, number) for number, two in enumerate(both)]
    old = actor.token_logps(pairs)
    base = actor.token_logps(pairs, reference=True)
    kls = torch.tensor(
        [
            float((new - ref).double().sum())
            for one, other in zip(old, base, strict=True)
            for new, ref in zip(one, other, strict=True)
        ]
    )
    rewards = torch.tensor(list(score(flat)), dtype=torch.float64) - beta * kls
    advantages = losses.leave_one_out(rewards.view(len(groups), -1)).flatten()
    advantages = advantages / (advantages.std() + 1e-6)
    return [
        Move(two, logps, (float(advantages[2 * at]), float(advantages[2 * at + 1])))
        for at, (two, logps) in enumerate(zip(both, old, strict=True))
    ]


def step(
    actor: Actor,
    parameters: list[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    moves: Sequence[Move],
    clip: float,
) -> None:
    """Take one optimizer step on some moves."""
    tokens = sum(len(logps) for move in moves for logps in move.old)
    optimizer.zero_grad()
    for places, logps in actor.rows([pair(*move.both, number) for number, move in enumerate(moves)]):
        old = torch.cat([one for place in places for one in moves[place].old])
        advantages = torch.cat(
            [
                torch.full((len(one),), value, device=old.device)
                for place in places
                for one, value in zip(moves[place].old, moves[place].advantages, strict=True)
            ]
        )
        new = torch.cat(logps)
        (losses.clipped_surrogate(new, old, advantages, clip) * len(new) / tokens).backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
