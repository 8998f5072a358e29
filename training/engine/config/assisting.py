"""The settings of `assist`: `assist`."""

import math
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
        8,
        _(
            "Completions that are ranked together: best and worst become a pair, then the next to them, and so on."
        ),
        low=2,
        high=64,
    )
    kl: float = option(
        3.0,
        _(
            "KL from the reference, in nats, of the policy that the labels describe; n completions describe at most "
            "half of ln n."
        ),
        above=0,
    )
    drafted: float = option(
        0.0,
        _(
            "Share of the pairs whose completions a draft writes: a policy that is trained on the other pairs first. "
            "It writes more of what the labels ask for than the reference does, so a half (0.5) earns more."
        ),
        low=0,
        below=1,
    )
    weight: float = option(
        1.0, _("Weight of a pair that the probe labels; a person's has its own, mostly 1."), above=0
    )
    seed: int = option(0, _("Seed of the completions."), low=0)

    @property
    def drafted_pairs(self) -> int:
        """The number of pairs that are a draft's: never all of them, as it learns from the others."""
        return min(round(self.drafted * self.pairs), max(0, self.pairs - 1))

    @property
    def completions(self) -> int:
        """The completions that are written, by the reference and by the draft."""
        reference = self.pairs - self.drafted_pairs
        return self.candidates * (self.count_groups(reference) + self.count_groups(self.drafted_pairs))

    def count_groups(self, pairs: int) -> int:
        """Return how many groups of `candidates` completions give so many pairs."""
        return math.ceil(pairs / (self.candidates // 2))

    def __post_init__(self) -> None:
        """Refuse more completions than a round can write."""
        if self.completions > MOST_COMPLETIONS:
            most = MOST_COMPLETIONS // self.candidates * (self.candidates // 2)
            raise ConfigError(
                "assist.pairs", f"must be at most {most} with assist.candidates {self.candidates}."
            )
