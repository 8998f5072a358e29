"""The drift of a round's policy from its reference, as the engine's verb `scale` measured it."""

import math
from dataclasses import dataclass
from typing import Any

from training.models import Round


@dataclass(frozen=True)
class DriftFigures:
    """The figures of one policy's completions: KL, reward and score with intervals, mean tokens, distinct pairs."""

    name: str
    kl: dict[str, float] | None  # of the reference there is none
    reward: dict[str, float]
    length: float
    distinct_2: float | None
    probe: dict[str, float] | None  # where a probe with skill rated them


@dataclass(frozen=True)
class Drift:
    """The reference, the policy as it was trained where that was scaled down, and as it is kept."""

    policies: list[DriftFigures]
    budget: float | None
    scale: float  # 1 where nothing was scaled
    completions: int

    @property
    def is_rated(self) -> bool:
        """Return whether a probe rated what the policies wrote."""
        return any(one.probe for one in self.policies)

    @property
    def kept(self) -> DriftFigures:
        return self.policies[-1]


def measure_drift(round_: Round) -> Drift | None:
    """Return the drift of a round's policy; None where it was not measured, as in rounds of earlier versions.

    A report of another kind, as an archive may bring, counts as none.
    """
    found = round_.report("scale")
    try:
        return _read(round_, found) if found else None
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _read(round_: Round, found: dict[str, Any]) -> Drift:
    scale = _number(found["final"]["scale"])
    policies = [_figures(_reference(round_), found["reference"], is_reference=True)]
    if scale < 1:
        policies.append(_figures("", found["trained"]))
    policies.append(_figures(round_.result_policy.name if round_.result_policy else "", found["final"]))
    budget = None if found["budget"] is None else _number(found["budget"])
    return Drift(policies, budget, scale, int(found["completions"]))


def _reference(round_: Round) -> str:
    """Return the name of what the round was trained against."""
    start, config = round_.start_policy, round_.chosen("config")
    match config.get("reference", "start"):
        case "start":
            return start.name
        case "base":
            return start.base_model if config.get("start_adapter") else start.name
        case adapter:
            policy = round_.project.policies.filter(adapter=adapter).first()
            return policy.name if policy else str(adapter)


def _figures(name: str, found: dict[str, Any], *, is_reference: bool = False) -> DriftFigures:
    kl = None if is_reference else _interval(found["kl"])
    distinct_2 = None if found["distinct_2"] is None else _number(found["distinct_2"])
    probe = _interval(found["probe"]) if found.get("probe") else None
    return DriftFigures(name, kl, _interval(found["reward"]), _number(found["length"]), distinct_2, probe)


def _interval(found: dict[str, Any]) -> dict[str, float]:
    return {name: _number(found[name]) for name in ("value", "low", "high")}


def _number(found: Any) -> float:
    """Return a finite number. Raises TypeError or ValueError for what is none."""
    number = float(found)
    if not math.isfinite(number):
        raise ValueError("A figure is not finite.")
    return number
