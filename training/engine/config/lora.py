"""The settings of the adapter: `lora`."""

from dataclasses import dataclass

from primitives.text import marked as _
from training.engine.config.options import option
from training.engine.errors import ConfigError

ALL_LINEAR = "all-linear"
MOST_RANK = 4096  # of an adapter that is trained, or brought in


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """The low-rank adapter that is trained (Hu et al., 2106.09685)."""

    r: int = option(16, _("Rank of the adapter."), low=1, high=MOST_RANK)
    alpha: float = option(32.0, _("The adapter's product is scaled by alpha / r."), above=0)
    dropout: float = option(0.0, _("Dropout before the adapter while training."), low=0, below=1)
    rslora: bool = option(
        False, _("Scale the adapter's product by alpha / sqrt(r) instead: large ranks then learn as fast.")
    )
    dora: bool = option(
        False,
        _("Learn a magnitude for each output of a layer besides (DoRA): better at small ranks, slower."),
    )
    target_modules: str | tuple[str, ...] = option(
        ALL_LINEAR,
        _(
            'Names of the layers to adapt, "all-linear" for every linear layer but the head, or a regular expression.'
        ),
        longest=500,
    )
    experts: str = option(
        "shared",
        _(
            'Experts of a mixture that "all-linear" adapts: none, the shared ones that every token goes to, or all.'
        ),
        choices=("none", "shared", "all"),
    )

    def __post_init__(self) -> None:
        """Refuse a choice of experts that the names of layers make already."""
        if self.target_modules != ALL_LINEAR and self.experts != "shared":
            raise ConfigError(
                "lora.experts", "has no effect with lora.target_modules; name the experts' layers there."
            )
