"""The recommended settings of a training: one table.

The row of models up to 20 million parameters was measured on the starter model. The others are reasoned from published
recipes, and none of them was measured here; docs/engine.md ("Recommended settings") names the sources and the reasons.
"""

import math
from dataclasses import dataclass
from typing import Any

from training.engine.config import LOSS_OPTIONS, TrainConfig

TINY, SMALL, MEDIUM = 20_000_000, 1_000_000_000, 4_000_000_000  # parameters, at most
FEW, SOME, MANY = 1_000, 2_000, 5_000  # pairs, at most
UNKNOWN_SIZE = SMALL  # where a model's size cannot be told

# The losses whose beta is that of DPO, and the betas that their papers give to others.
_AS_DPO = frozenset({"sigmoid", "odpo", "robust", "dpop", "kto", "apo_zero", "apo_down"})
_OWN_BETA = {"sigmoid_norm": 5.0, "simpo": 2.0}


@dataclass(frozen=True)
class SizeSettings:
    """The settings of models up to a size. Rates are for few pairs: with many they are halved."""

    most_parameters: float
    beta: float
    learning_rate: float
    batch_size: int
    rank: int
    kl_budget: float | None
    kl_samples: int


ROWS = (
    SizeSettings(TINY, beta=0.3, learning_rate=1e-3, batch_size=8, rank=8, kl_budget=2.0, kl_samples=128),
    SizeSettings(SMALL, beta=0.1, learning_rate=5e-5, batch_size=16, rank=16, kl_budget=None, kl_samples=64),
    SizeSettings(MEDIUM, beta=0.1, learning_rate=2e-5, batch_size=16, rank=16, kl_budget=None, kl_samples=64),
    SizeSettings(
        math.inf, beta=0.1, learning_rate=1e-5, batch_size=16, rank=16, kl_budget=None, kl_samples=64
    ),
)


def recommend(parameters: int | None, pairs: int, loss: str = "sigmoid") -> dict[str, Any]:
    """Return recommended keys of config.json for a model of so many parameters (None: not known) and so many pairs.

    Raises KeyError for a loss that there is not.
    """
    LOSS_OPTIONS[loss]
    row = next(row for row in ROWS if (parameters or UNKNOWN_SIZE) <= row.most_parameters)
    is_tiny = row.most_parameters == TINY
    epochs = (4 if is_tiny else 3) if pairs <= FEW else 2 if pairs <= MANY else 1
    batch_size = row.batch_size * (1 if pairs <= SOME else 2 if pairs <= MANY else 4)
    steps = epochs * math.ceil(max(1, pairs) / batch_size)
    rank = row.rank * (1 if pairs <= MANY else 4)
    beta = row.beta if loss in _AS_DPO else _OWN_BETA.get(loss, TrainConfig.beta)
    return {
        "beta": beta,
        "learning_rate": row.learning_rate if pairs <= MANY else row.learning_rate / 2,
        "epochs": epochs,
        "batch_size": batch_size,
        "schedule": "linear",
        "warmup_steps": math.ceil(steps / (40 if is_tiny else 10)),
        "lora": {"r": rank, "alpha": 2.0 * rank},
        "kl_budget": row.kl_budget,
        "kl_samples": row.kl_samples,
    }
