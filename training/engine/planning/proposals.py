"""Proposals of a plan: settings under which the run would fit into memory, or lose less of its prompts."""

from typing import Any

from training.engine.config import TrainConfig

_MANY_CUT = 0.05  # of the pairs: beyond it, another max_length is proposed
_ROOM = 0.9  # of the memory that is free, which a proposal may fill
_RECOMPUTED = 0.3  # of a row's activations that stay with gradient checkpointing, an estimate


def propose(config: TrainConfig, plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return settings to change, by their dotted names, each with a value and a reason in a sentence."""
    found: list[dict[str, Any]] = []
    training, sampling = plan.get("training"), plan.get("sampling")
    if training and not training["fits"]:
        found += _smaller_training(config, plan["model"], training)
    if sampling and not sampling["fits"]:
        found += _smaller_sampling(config, plan["model"], sampling)
    found += _longer_pairs(config, plan)
    names: set[str] = set()
    return [one for one in found if not (one["option"] in names or names.add(one["option"]))]  # type: ignore[func-returns-value]


def _proposal(option: str, value: Any, reason: str) -> dict[str, Any]:
    return {"option": option, "value": value, "reason": reason}


def _smaller_training(
    config: TrainConfig, model: dict[str, Any], training: dict[str, Any]
) -> list[dict[str, Any]]:
    available = model["available_bytes"] * _ROOM
    points = training.get("row_bytes") or []
    slope = base = 0.0
    if len(points) > 1 and points[-1][0] > points[0][0]:
        slope = (points[-1][1] - points[0][1]) / (points[-1][0] - points[0][0])
        base = points[0][1] - slope * points[0][0]
    if slope > 0 and available > base:
        tokens = int((available - base) / slope)
        if training["longest_pair"] <= tokens < training["max_tokens"]:
            reason = f"Rows of {tokens:,} tokens fit into memory, those of {training['max_tokens']:,} do not."
            return [_proposal("max_tokens", tokens, reason)]
        if not config.gradient_checkpointing and training["longest_pair"] * _RECOMPUTED <= tokens:
            reason = "Activations that are recomputed, not kept, take about a third of the memory."
            return [_proposal("gradient_checkpointing", True, reason)]
    return [*_four_bits(config, model), *_shorter(config, training, slope, base, available)]


def _four_bits(config: TrainConfig, model: dict[str, Any]) -> list[dict[str, Any]]:
    if model["device"] != "cuda" or config.quantization != "none":
        return []
    return [_proposal("quantization", "nf4", "In 4 bits the weights take about a quarter of the memory.")]


def _shorter(
    config: TrainConfig, training: dict[str, Any], slope: float, base: float, available: float
) -> list[dict[str, Any]]:
    if slope <= 0 or available <= base:
        return []
    length = max(64, int((available - base) / slope / 2))
    return [_proposal("max_length", length, f"Pairs that are cut to {length:,} tokens fit into memory.")]


def _smaller_sampling(
    config: TrainConfig, model: dict[str, Any], sampling: dict[str, Any]
) -> list[dict[str, Any]]:
    held = sampling.get("held_bytes")
    if not held:
        return _four_bits(config, model)
    fixed = sampling["peak_memory_bytes"] - 1.5 * held
    room = max(0.0, model["available_bytes"] * _ROOM - fixed)
    tokens = int(sampling["held_tokens"] * room / (1.5 * held))
    if tokens < 16:
        return _four_bits(config, model)
    reason = f"Completions that hold {tokens:,} tokens at a time fit into memory."
    return [_proposal("sampling.max_tokens", tokens, reason)]


def _longer_pairs(config: TrainConfig, plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Propose a larger max_length where many prompts lose their middle and the model can place them."""
    pairs, context = plan.get("pairs", {}), plan["model"]["context"]
    cut = sum(pairs.get("left_out", {}).get("truncated", {}).values())
    if not pairs.get("trained") or cut < _MANY_CUT * pairs["trained"]:
        return []
    wanted = min(pairs["longest_before_cut"], context or pairs["longest_before_cut"])
    if wanted <= pairs["max_length"]:
        return []
    reason = f"{cut} pairs are cut to {pairs['max_length']:,} tokens; the longest has {pairs['longest_before_cut']:,}."
    return [_proposal("max_length", wanted, reason)]
