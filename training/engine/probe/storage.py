"""A probe as a folder: `probe.json`, which tells people of it, and `probe.safetensors` with its numbers."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from training.engine.errors import DataError, ModelError, first_line
from training.engine.probe.regression import Posterior
from training.engine.rundir import read_object, whole_directory, write_json, write_whole

FORMAT = 1
_FILE, _TOLD = "probe.safetensors", "probe.json"


@dataclass(frozen=True)
class Standard:
    """The shift and scale of features: the mean and deviation of the completions that a probe was fitted to."""

    center: torch.Tensor  # (d,)
    scale: torch.Tensor  # (d,)

    def apply(self, features: torch.Tensor) -> torch.Tensor:
        """Return features (n, d) in these units."""
        return (features.double() - self.center) / self.scale


@dataclass(frozen=True)
class Probe:
    """A fitted probe: what it was fitted to, and with what result, is in `about`."""

    posterior: Posterior
    standard: Standard
    about: dict[str, Any]

    @property
    def layers(self) -> int:
        """Return how many layers its features are of, as the option `probe_layers` has it."""
        return int(self.about["features"]["layers"])

    @property
    def tokens(self) -> int:
        """Return the size of the sketch in its features, as the option `probe_tokens` has it."""
        return int(self.about["features"].get("tokens", 0))  # unknown to probes of before

    @property
    def has_skill(self) -> bool:
        """Return whether it foretold votes on unseen prompts better than chance."""
        return bool(self.about["skill"]["has_skill"])

    def rate(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores of completions and their standard deviations, each (n,), of features (n, d).

        A score of 0 is that of the average completion; differences of two scores are log odds. Raises DataError if it
        was fitted to features of another size.
        """
        if features.shape[-1] != len(self.standard.scale):
            raise DataError("The probe reads other features than this model has.")
        standard = self.standard.apply(features)
        return self.posterior.score(standard), self.posterior.deviation(standard)

    def chance(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the chances (n,) that the first completions are better, of features (n, d) each."""
        return self.posterior.chance((first.double() - second.double()) / self.standard.scale)

    def save(self, folder: Path) -> None:
        """Write the folder whole; equal probes give equal bytes. Raises StorageError."""
        numbers = {
            "mean": self.posterior.mean,
            "basis": self.posterior.basis,
            "center": self.standard.center,
            "scale": self.standard.scale,
        }
        ready = {name: tensor.float().contiguous() for name, tensor in numbers.items()}
        with whole_directory(folder) as aside:
            write_whole(aside / _FILE, save(ready, metadata={"format": "pt"}))
            write_json(aside / _TOLD, {"format": FORMAT, "alpha": self.posterior.alpha, **self.about})


def load_probe(folder: Path, base_model: dict[str, str]) -> Probe:
    """Return the probe of a folder, for the base model with these digests.

    Raises DataError if it is missing or damaged, ModelError if it is of another base model.
    """
    try:
        about = read_object(folder / _TOLD)
        numbers = {name: tensor.double() for name, tensor in load_file(folder / _FILE).items()}
        probe = Probe(
            Posterior(numbers["mean"], numbers["basis"], float(about["alpha"])),
            Standard(numbers["center"], numbers["scale"]),
            about,
        )
        if about["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        _check(probe)
        known = about["base_model"]
    except FileNotFoundError:
        raise DataError(f"{folder} holds no probe.") from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, SafetensorError) as error:
        raise DataError(f"The probe in {folder} cannot be read: {first_line(error).rstrip('.')}.") from None
    if known != base_model:
        raise ModelError(f"The probe in {folder} was fitted to another base model than base_model.")
    return probe


def _check(probe: Probe) -> None:
    """Raise ValueError, or KeyError or TypeError, unless scores can be computed with this probe."""
    posterior, standard = probe.posterior, probe.standard
    vectors = (posterior.mean, standard.center, standard.scale)
    if posterior.basis.dim() != 2 or any(one.shape != posterior.basis.shape[:1] for one in vectors):
        raise ValueError("its sizes differ")
    if not all(bool(one.isfinite().all()) for one in (*vectors, posterior.basis)):
        raise ValueError("its numbers are not finite")
    if not (0 < posterior.alpha < math.inf and bool((standard.scale > 0).all())):
        raise ValueError("its scale or its alpha is not above 0")
    if probe.layers < 1:
        raise ValueError("it has no layers")
    if not 0 <= probe.tokens < len(standard.scale):
        raise ValueError("its sketch is larger than its features")
    if not isinstance(probe.about["skill"]["has_skill"], bool):
        raise TypeError("it does not say whether it has skill")
