"""Policies: trained in this process by the engine's verbs, scaled, and measured on fresh prompts.

A policy's *path* is what its adapter is at smaller scales: the LoRA product times lambda, for lambda from 0 to 1.
"""

import math
import shutil
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from benchmarks.controlled.world import fresh_prompts, settings
from training.engine.adapters.loading import load_sampled
from training.engine.records import SamplingPrompt
from training.engine.rundir import RunDirectory, write_jsonl
from training.engine.sample import encode_prompts, load_native, write_samples
from training.engine.train import train

BUDGETS = (1.0, 2.0, 5.0)  # nats
_ROWS = 64


@dataclass(frozen=True)
class Measurement:
    """Completions of a policy for fresh prompts: texts, and the KL from the starter along each of them, in nats."""

    scale: float
    texts: tuple[str, ...]
    kls: tuple[float, ...]

    @property
    def kl(self) -> float:
        """The mean KL of the policy from the starter."""
        return statistics.fmean(self.kls)

    def reward(self, reward: Callable[[str], float]) -> float:
        """Return the mean reward."""
        return statistics.fmean(map(reward, self.texts))


def train_policy(folder: Path, rows: Iterable[dict[str, Any]], recipe: dict[str, Any], seed: int) -> Path:
    """Train an adapter on `rows` by the verb `train` and return it. A folder that is trained already stays."""
    run = RunDirectory(folder)
    run.write_config(settings(**recipe, seed=seed))
    write_jsonl(run.pairs, rows)
    train(run)
    return run.adapter


def scale_adapter(adapter: Path, scale: float, target: Path) -> Path:
    """Write `adapter` with its product times `scale` to `target`, and return that."""
    shutil.copytree(adapter, target, dirs_exist_ok=True)
    weights = safetensors.torch.load_file(adapter / "adapter_model.safetensors")
    scaled = {name: one * scale if ".lora_B." in name else one for name, one in weights.items()}
    safetensors.torch.save_file(scaled, target / "adapter_model.safetensors", metadata={"format": "pt"})
    return target


def measure(adapter: Path, *, seed: int, scale: float) -> Measurement:
    """Return what a policy writes, one completion a prompt, and how far it is from the starter.

    The KL of a completion is the sum over its tokens of the KL between the two distributions over the vocabulary,
    given what was written before. Its mean over samples is that of log(policy / starter), with less variance (Amini et
    al., 2504.10637, the Rao-Blackwellized estimator).
    """
    config = settings(sampling={"samples_per_prompt": 1, "seed": seed})
    loaded, decoder = load_native(config, adapter)
    asked = [SamplingPrompt(str(at), text) for at, text in enumerate(fresh_prompts())]
    encoded, _, _ = encode_prompts(asked, loaded, config, loaded.make_encoder(config))
    samples = write_samples(decoder, loaded.tokenizer, encoded, config.sampling)
    decoder.release()
    sequences = [(one.request.prompt, one.generation.token_ids) for one in samples]
    policy, starter = load_sampled(config, adapter).model, load_sampled(config, None).model
    return Measurement(
        scale, tuple(one.text for one in samples), tuple(token_kls(policy, starter, sequences))
    )


@torch.no_grad()
def token_kls(
    policy: Any, starter: Any, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> list[float]:
    """Return for each prompt and completion the sum over its tokens of KL(policy || starter) at each place."""
    found = [0.0] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda at: len(sequences[at][0]) + len(sequences[at][1]))
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        texts = [[*sequences[at][0], *sequences[at][1]][:-1] for at in rows]
        ids = torch.zeros(len(rows), max(map(len, texts)), dtype=torch.long)
        for row, text in zip(ids, texts, strict=True):
            row[: len(text)] = torch.tensor(text)
        new, old = (model(input_ids=ids).logits.float().log_softmax(-1) for model in (policy, starter))
        kls = (new.exp() * (new - old)).sum(-1)
        for row, at in zip(kls, rows, strict=True):
            prompt, completion = sequences[at]
            found[at] = float(row[len(prompt) - 1 : len(prompt) + len(completion) - 1].double().sum())
    return found


def measure_path(adapter: Path, *, seed: int = 0, budgets: Sequence[float] = BUDGETS) -> list[Measurement]:
    """Return measurements of the whole adapter, and of those scales at which its KL is about each budget below.

    The KL grows about as the square of the scale, a little faster; a second look comes closer where the first missed.
    """
    aside = adapter.parent / "scaled"

    def at_scale(scale: float) -> Measurement:
        scaled = adapter if scale == 1 else scale_adapter(adapter, scale, aside)
        return measure(scaled, seed=seed, scale=scale)

    path = [at_scale(1.0)]
    for budget in sorted(budgets, reverse=True):
        above = min((one for one in path if one.kl > budget), key=lambda one: one.kl, default=None)
        if above:
            path.append(at_scale(above.scale * math.sqrt(budget / above.kl)))
    shutil.rmtree(aside, ignore_errors=True)
    return sorted(path, key=lambda one: one.scale)
