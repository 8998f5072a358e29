"""The settings of `assist`: `assist`."""

from dataclasses import dataclass

from primitives.text import marked as _
from training.engine.config.options import option
from training.engine.errors import ConfigError

MOST_COMPLETIONS = 200_000


@dataclass(frozen=True, kw_only=True)
class AssistConfig:
    """Settings of `assist`."""

    pairs: int = option(
        0,
        _(
            "Pairs of fresh completions that a probe labels, beside those that people judged; 0 is none. Without skill "
            "on unseen prompts it labels none."
        ),
        low=0,
        high=100_000,
    )
    candidates: int = option(
        8, _("Completions of which the best and the worst become one pair."), low=2, high=64
    )
    weight: float = option(
        1.0, _("Weight of a pair that the probe labels; a person's has its own, mostly 1."), above=0
    )
    seed: int = option(0, _("Seed of the completions."), low=0)

    def __post_init__(self) -> None:
        """Refuse more completions than a round can write."""
        if self.pairs * self.candidates > MOST_COMPLETIONS:
            most = MOST_COMPLETIONS // self.candidates
            raise ConfigError(
                "assist.pairs", f"must be at most {most} with assist.candidates {self.candidates}."
            )
