"""The settings of a run: `config.json`, read, checked and filled in.

`TrainConfig` is the whole list, one frozen dataclass. Each option carries its own explanation, which `--help` prints
and `docs/engine.md` repeats. Unknown keys, bad values, and options that the chosen loss would ignore are refused by
name. No option is accepted and ignored.

Imports nothing heavy, so that the web application can write configurations without PyTorch.
"""

from training.engine.config.assisting import AssistConfig
from training.engine.config.explanations import explain
from training.engine.config.lora import ALL_LINEAR, MOST_RANK, LoraConfig
from training.engine.config.losses import LOSS_OPTIONS, OF_RATINGS
from training.engine.config.sampling import SamplingConfig
from training.engine.config.train import TEMPLATE_PARAMETERS, TrainConfig

__all__ = [
    "ALL_LINEAR",
    "LOSS_OPTIONS",
    "MOST_RANK",
    "OF_RATINGS",
    "TEMPLATE_PARAMETERS",
    "AssistConfig",
    "LoraConfig",
    "SamplingConfig",
    "TrainConfig",
    "explain",
]
