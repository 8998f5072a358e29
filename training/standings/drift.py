"""The drift of a round's policy from its reference, as the engine's verb `scale` measured it."""

from dataclasses import dataclass
from typing import Any

from training.models import Round


@dataclass(frozen=True)
class DriftFigures:
    """The figures of one policy's completions: KL and reward with intervals, mean tokens, distinct pairs of tokens."""

    name: str
    kl: dict[str, float] | None  # of the reference there is none
    reward: dict[str, float]
    length: float
    distinct_2: float | None


@dataclass(frozen=True)
class Drift:
    """The reference, the policy as it was trained where that was scaled down, and as it is kept."""

    policies: list[DriftFigures]
    budget: float | None
    scale: float  # 1 where nothing was scaled
    completions: int

    @property
    def kept(self) -> DriftFigures:
        return self.policies[-1]


def measure_drift(round_: Round) -> Drift | None:
    """Return the drift of a round's policy; None where it was not measured, as in rounds of earlier versions."""
    found = round_.summary.get("scale")
    if not found:
        return None
    scale = found["final"]["scale"]
    policies = [_figures(_reference(round_), found["reference"], is_reference=True)]
    if scale < 1:
        policies.append(_figures("", found["trained"]))
    policies.append(_figures(round_.result_policy.name if round_.result_policy else "", found["final"]))
    return Drift(policies, found["budget"], scale, found["completions"])


def _reference(round_: Round) -> str:
    """Return the name of what the round was trained against."""
    start, config = round_.start_policy, round_.settings.get("config", {})
    match config.get("reference", "start"):
        case "start":
            return start.name
        case "base":
            return start.base_model if config.get("start_adapter") else start.name
        case adapter:
            policy = round_.project.policies.filter(adapter=adapter).first()
            return policy.name if policy else str(adapter)


def _figures(name: str, found: dict[str, Any], *, is_reference: bool = False) -> DriftFigures:
    kl = None if is_reference else found["kl"]
    return DriftFigures(name, kl, found["reward"], found["length"], found["distinct_2"])
