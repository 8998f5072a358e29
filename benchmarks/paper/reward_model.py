"""A learnt reward: a linear Bradley-Terry model on the frozen base model's mean hidden states."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.paper.actor import Actor, Written
from benchmarks.paper.world import Preference
from training.engine.adapters.loading import as_reference

_TOKENS = 1 << 14  # in a forward
_RIDGES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # candidates, of which cross-validation takes one
_FOLDS = 5


class RewardModel:
    """Scores of completions, with mean 0 and standard deviation 1 over the completions that it learnt from."""

    def __init__(self, actor: Actor, mean: Any, weights: Any, sharpness: float) -> None:
        # A difference d of scores is preferred with the chance sigmoid(sharpness * d).
        self.actor, self.mean, self.weights, self.sharpness = actor, mean, weights, sharpness

    def score(self, written: Sequence[Written]) -> list[float]:
        """Return a score for each completion."""
        return list(((features(self.actor, written) - self.mean) @ self.weights).tolist())


def fit(actor: Actor, preferences: Sequence[Preference]) -> RewardModel:
    """Fit the reward by -log sigmoid(r_w - r_l) (Rafailov et al., 2305.18290, equation 2), with a ridge."""
    found = features(actor, [one for both in preferences for one in both])
    mean, spread = found.mean(axis=0), found.std(axis=0) + 1e-6
    known = (found - mean) / spread
    differences = known[0::2] - known[1::2]
    ridge = max(_RIDGES, key=lambda one: _held_out(differences, one))
    weights = _logistic(differences, ridge)
    sharpness = float((known @ weights).std())
    return RewardModel(actor, mean, weights / sharpness / spread, sharpness)


def load_or_fit(file: Path, actor: Actor, preferences: Sequence[Preference]) -> RewardModel:
    """Return the reward model of a file, fitted the first time."""
    if not file.exists():
        model = fit(actor, preferences)
        part = file.with_suffix(".part")
        with part.open("wb") as stream:
            np.save(stream, np.stack([model.mean, model.weights, np.full_like(model.mean, model.sharpness)]))
        part.rename(file)
    mean, weights, sharpness = np.load(file, allow_pickle=False)
    return RewardModel(actor, mean, weights, float(sharpness[0]))


@torch.no_grad()
def features(actor: Actor, written: Sequence[Written]) -> Any:
    """Return for each completion the mean hidden states of its tokens in a middle and a late layer, (n, 2 H)."""
    actor.scorer.use("padded")
    model, found = actor.loaded.model, np.zeros(0)
    order = sorted(range(len(written)), key=lambda at: _length(written[at]))
    together = max(1, _TOKENS // _length(written[order[-1]]))
    for start in range(0, len(order), together):
        rows = [written[at] for at in order[start : start + together]]
        ids = torch.zeros(len(rows), max(map(_length, rows)), dtype=torch.long)
        inside = torch.zeros(ids.shape, dtype=torch.bool)
        for row, mask, one in zip(ids, inside, rows, strict=True):
            row[: _length(one)] = torch.tensor([*one.prompt_ids, *one.token_ids])
            mask[len(one.prompt_ids) : _length(one)] = True
        with as_reference(model):
            states = model(input_ids=ids.to(actor.loaded.device), output_hidden_states=True).hidden_states
        layers = len(states) - 1
        weight = (inside / inside.sum(dim=1, keepdim=True)).to(actor.loaded.device)
        means = [
            torch.einsum("bt,bth->bh", weight, states[layer].float()).cpu().numpy()
            for layer in (layers // 2, 3 * layers // 4)
        ]
        if not found.size:
            found = np.zeros((len(written), sum(one.shape[1] for one in means)))
        found[order[start : start + len(rows)]] = np.concatenate(means, axis=1)
    return found


def _length(one: Written) -> int:
    return len(one.prompt_ids) + len(one.token_ids)


def _held_out(differences: Any, ridge: float) -> float:
    """Return the log-likelihood of pairs that a fit to the other folds gives them."""
    fold = np.arange(len(differences)) % _FOLDS
    total = 0.0
    for number in range(_FOLDS):
        weights = _logistic(differences[fold != number], ridge)
        total -= float(np.logaddexp(0, -(differences[fold == number] @ weights)).sum())
    return total


def _logistic(differences: Any, ridge: float) -> Any:
    """Return the weights w that minimize mean -log sigmoid(d w) + ridge / 2 * |w|^2, by Newton's method."""
    count, size = differences.shape
    weights = np.zeros(size)
    for _ in range(20):
        chance = 1 / (1 + np.exp(np.clip(differences @ weights, -30, 30)))  # of being wrong
        slope = ridge * weights - differences.T @ chance / count
        bend = (differences.T * (chance * (1 - chance))) @ differences / count + ridge * np.eye(size)
        step = np.linalg.solve(bend, slope)
        weights = weights - step
        if np.abs(step).max() < 1e-6:
            break
    return weights
