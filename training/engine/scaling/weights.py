"""The weights of an adapter on the way from its reference to where training brought it.

At scale 1 they are the trained ones, and at 0 the policy is its reference. Against the base model the adapter's product
is multiplied by the scale: its second factor is, which leaves rank and alpha as they are. Against an adapter of the
same shape both factors go the straight way between the two.
"""

import warnings
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from peft.utils import set_peft_model_state_dict

from training.engine.adapters.foreign import AdapterFiles
from training.engine.adapters.loading import POLICY
from training.engine.adapters.settings import read_settings
from training.engine.errors import ConfigError
from training.engine.rundir import to_json, whole_directory, write_whole

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
# What PEFT calls the second factor, of layers and of embeddings, and its bias.
_SECOND = (".lora_B.weight", ".lora_embedding_B", ".lora_B.bias")
_FACTORS = (".lora_A.weight", ".lora_embedding_A", *_SECOND)


class ScaledWeights:
    """The trained weights of an adapter's folder, and those of the reference's where it has an adapter."""

    def __init__(self, trained: Path, reference: str | None) -> None:
        """Read both. Raises ModelError."""
        self.trained = safetensors.torch.load_file(trained / WEIGHTS)
        self.start = AdapterFiles(reference).weights() if reference else None
        self.factors = [_factors(str(trained)), *([_factors(reference)] if reference else [])]

    def check(self) -> None:
        """Refuse weights between which and the reference there is no way. Raises ConfigError."""
        others = [name for name in self.trained if not name.endswith(_FACTORS)]
        if others:
            what = "DoRA's magnitudes" if "magnitude" in others[0] else others[0]
            raise ConfigError(
                "kl_budget", f"cannot be kept: the adapter holds {what}, which a scale does not take back."
            )
        alike = all(one == self.factors[0] for one in self.factors)
        if self.start is not None and not (alike and _shapes(self.start) == _shapes(self.trained)):
            raise ConfigError(
                "kl_budget",
                "cannot be kept: the reference is an adapter of another shape. Merge that into its base model, and"
                " start from the merged one.",
            )

    def at(self, scale: float) -> dict[str, torch.Tensor]:
        """Return the weights at a scale, by the names of the file."""
        if scale == 1:
            return dict(self.trained)
        if self.start is not None:
            return {
                name: torch.lerp(self.start[name].float(), one.float(), scale).to(one.dtype)
                for name, one in self.trained.items()
            }
        return {name: one * scale if name.endswith(_SECOND) else one for name, one in self.trained.items()}

    def write(self, source: Path, target: Path, scale: float) -> None:
        """Write the adapter at a scale, with the settings of `source`. Raises StorageError."""
        settings = read_settings(source, source / SETTINGS)
        with whole_directory(target) as aside:
            write_whole(aside / SETTINGS, (to_json(settings, indent=2) + "\n").encode())
            ready = {name: one.contiguous() for name, one in self.at(scale).items()}
            write_whole(aside / WEIGHTS, safetensors.torch.save(ready, metadata={"format": "pt"}))


def _factors(adapter: str) -> dict[str, Any]:
    """Return the settings by which an adapter's product is multiplied."""
    settings = AdapterFiles(adapter).config()
    names = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")
    return {name: getattr(settings, name) for name in names}


def _shapes(weights: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: one.shape for name, one in weights.items()}


def place(model: Any, weights: dict[str, torch.Tensor]) -> None:
    """Put weights by the names of an adapter's file into the policy of a PeftModel, which has them already."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        set_peft_model_state_dict(model, weights, adapter_name=POLICY)
