"""Silent failures of DPO, found in the metrics and told with a remedy."""

import math
from collections.abc import Sequence
from typing import Any

from training.engine.config import TrainConfig
from training.engine.config.losses import LN2_LOSSES

_WINDOW = 8  # steps that are averaged, so that one odd batch raises no alarm
_LENGTH_RATIO = 1.2
_KL_BOUND = 50.0
_NEAR_LN2 = 0.02


def diagnose(rows: Sequence[dict[str, Any]], config: TrainConfig) -> list[dict[str, str]]:
    """Return findings about a run from the rows of `metrics.jsonl`, each {"kind", "message", "remedy"}."""
    findings: list[dict[str, str]] = []

    def find(kind: str, message: str, remedy: str) -> None:
        findings.append({"kind": kind, "message": message, "remedy": remedy})

    if not rows:
        return findings
    skipped = rows[-1]["skipped"]
    if skipped:
        find(
            "non_finite",
            f"{skipped} of {len(rows)} steps gave a loss or gradient that is not finite and were skipped.",
            "Lower learning_rate, set dtype to float32, or look for broken pairs.",
        )
    fall = -_recent(rows, "displacement")
    if fall > config.displacement_bound:
        find(
            "displacement",
            f"The chosen completions have become less likely by {fall:.1f} nats on average,"
            f" more than displacement_bound ({config.displacement_bound:g}):"
            " the model moves away from both completions.",
            "Set nll_weight to about 1, raise beta, lower learning_rate, or train fewer epochs.",
        )
    chosen, rejected = _mean(rows, "lengths/chosen"), _mean(rows, "lengths/rejected")
    if rejected and chosen > _LENGTH_RATIO * rejected:
        find(
            "length",
            f"Chosen completions have {chosen:.0f} tokens on average and rejected ones {rejected:.0f}:"
            " the model will learn to write longer.",
            "Balance the lengths of the pairs, or watch the sampled length after the round.",
        )
    drift = _recent(rows, "kl")
    if drift > _KL_BOUND:
        find(
            "kl",
            f"The policy is an estimated {drift:.0f} nats per completion away from its reference.",
            "Raise beta, lower learning_rate, or train fewer epochs.",
        )
    return findings


def explain_beginning(row: dict[str, Any], config: TrainConfig) -> str:
    """Return why the first step's loss is not ln 2, as it is where training starts from its reference, or ""."""
    loss, margin = row["loss"], row["rewards/margins"]
    if config.loss not in LN2_LOSSES or config.nll_weight or loss is None or margin is None:
        return ""
    if abs(loss - math.log(2)) <= _NEAR_LN2:
        return ""
    if abs(margin) > _NEAR_LN2:
        why = f"training starts from another policy than its reference ({config.reference})"
    else:
        why = "its pairs ask for margins or gaps, or weigh more or less than 1"
    return f"The loss began at {loss:.3f}, not at ln 2 = 0.693, because {why}."


def _recent(rows: Sequence[dict[str, Any]], key: str) -> float:
    return _mean(rows[-_WINDOW:], key)


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float:
    values = [row[key] for row in rows if row[key] is not None and math.isfinite(row[key])]
    return sum(values) / len(values) if values else 0.0
