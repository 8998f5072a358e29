"""The settings by which judgments become pairs, and the reasons why some become none."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _

# Each stands behind a number of comparisons, and reads well after 1 too.
EXCLUSIONS = {
    "skipped": _("skipped by everybody"),
    "both_bad": _("both bad"),
    "tie": _("tied"),
    "equal": _("with equal completions"),
    "gold": _("gold"),
    "repeat": _("repeated"),
    "withdrawn": _("withdrawn"),
    "too_few": _("with too few judgments"),
    "too_fast": _("judged too fast"),
    "untrainable": _("with images, or a completion of several messages"),
}


_LARGEST_ID = 2**63 - 1  # that the database holds


class PairSettingsError(ValueError):
    """A value without meaning. `field` names the setting, and `message` says what is wrong with it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field, self.message = field, message

    def __str__(self) -> str:
        return f"{self.field} {self.message}"


@dataclass(frozen=True)
class PairSettings:
    """Settings by which judgments become pairs. Raises PairSettingsError for a value that has no meaning.

    `ties`: "drop" a comparison that ends even, or keep it with the label 0.5 ("half").
    `both_bad`: "drop" a comparison of two bad completions, or take both as single ratings ("ratings"), from which the
    loss `kto` learns what to avoid.
    `votes`: "equal" gives the label as the share of votes; "reliability" as the probability that the chosen
    completion is better given each voter's estimated chance to be right (naive Bayes with an even prior). "auto" is
    "reliability" where enough is known of any annotator, otherwise "equal". "probe" is "auto", and a round then labels
    its pairs with a probe as one more voter, if that has skill.
    `smoothing`: votes added to each side before the share is taken (Laplace); 0.5 makes one vote the label 0.75.
    Labels that are probabilities, by reliability or a probe, are left as they are.
    `weights`: every pair counts the same ("equal") or as often as it was judged ("judgments").
    `policies`: only completions of these policies (ids); empty for all.
    `include_untrainable`: keep pairs that the engine cannot train on: images, and completions of several messages.
    `margin_scale`: the difference of implicit reward, in nats, that training asks for per step of strength (a pair's
    margin). 0, the default, leaves strength out: measured, margins cost KL and gave no reward. A third gives the
    margins 1/3, 2/3 and 1 of Llama 2 (Touvron et al., 2307.09288).
    """

    ties: str = "drop"
    both_bad: str = "drop"
    votes: str = "auto"
    smoothing: float = 0.0
    weights: str = "equal"
    min_judgments: int = 1
    include_gold: bool = False
    include_too_fast: bool = True
    policies: Sequence[int] = ()
    include_untrainable: bool = False
    margin_scale: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", tuple(self.policies))
        if not all(_is_id(policy) for policy in self.policies):
            raise PairSettingsError("policies", "must be a list of ids of policies.")
        for name, choices in (
            ("ties", ("drop", "half")),
            ("both_bad", ("drop", "ratings")),
            ("votes", ("auto", "equal", "reliability", "probe")),
            ("weights", ("equal", "judgments")),
        ):
            if getattr(self, name) not in choices:
                message = f"must be one of {', '.join(choices)}, not {getattr(self, name)!r}."
                raise PairSettingsError(name, message)
        if not 0 <= self.smoothing <= 100:
            raise PairSettingsError("smoothing", f"must be from 0 to 100, not {self.smoothing!r}.")
        if not 0 <= self.margin_scale <= 10:
            raise PairSettingsError("margin_scale", f"must be from 0 to 10, not {self.margin_scale!r}.")
        if not 1 <= self.min_judgments <= 50:
            raise PairSettingsError("min_judgments", f"must be from 1 to 50, not {self.min_judgments!r}.")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST_ID
