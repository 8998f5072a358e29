"""A plan as text for a person."""

from collections.abc import Iterator
from typing import Any

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"))


def lines(plan: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a table: what, and how much."""
    for name, value in _rows(plan):
        yield f"{name:<24}{value}"
    for event in plan["events"]:
        yield f"note: {event}"
    for one in plan["proposals"]:
        yield f"proposal: {one['option']} = {one['value']}. {one['reason']}"


def _rows(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    model = plan["model"]
    yield "model", f"{model['architecture']}, {model['parameters'] / 1e6:,.1f} M parameters, {model['dtype']}"
    yield "context", f"{model['context'] or 'unlimited'} tokens"
    yield (
        "chat template",
        {"": "none", "model": "the model's own"}.get(model["chat_template"], "from chat_template"),
    )
    yield "memory", f"{in_units(model['available_bytes'])} free on the {model['device']}"
    if "fits" in plan:
        yield "weights", f"{in_units(model['weights_bytes'])}{_fits(plan)}"
    if pairs := plan.get("pairs"):
        yield from _pair_rows(pairs)
    if training := plan.get("training"):
        yield from _training_rows(training)
    if prompts := plan.get("prompts"):
        yield from _prompt_rows(prompts)
    if sampling := plan.get("sampling"):
        yield from _sampling_rows(sampling)


def _pair_rows(pairs: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "pairs", f"{pairs.get('trained', '?')} of {pairs['given']}, and {pairs.get('heldout', 0)} held out"
    if pairs.get("to_label"):
        yield "  a probe may label", f"{pairs['to_label']:,} more, taken to be as long"
    left_out = pairs.get("left_out", {})
    for reason, count in left_out.get("dropped", {}).items():
        yield "  left out", f"{count} {reason}"
    for reason, count in left_out.get("truncated", {}).items():
        yield "  cut to max_length", f"{count} {reason}"
    for name, spread in pairs.get("tokens", {}).items():
        if spread:
            yield f"  tokens, {name}", _spread(spread)


def _training_rows(training: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "steps" in training:
        yield "steps", f"{training['steps']:,}, in {training['rows']:,} rows of {training['tokens']:,} tokens"
        parts = ", ".join(f"{name} {in_time(value)}" for name, value in training["seconds"].items() if value)
        yield "time to train", f"about {in_time(training['total_seconds'])} ({parts})"
    yield "memory to train", f"about {in_units(training['peak_memory_bytes'])}{_fits(training)}"


def _prompt_rows(prompts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "prompts", f"{prompts.get('written_for', '?')} of {prompts['given']}"
    for name, what in (("too_long", "too long"), ("refused", "refused by the chat template")):
        if prompts.get(name):
            yield "  passed over", f"{prompts[name]} {what}"
    if prompts.get("tokens"):
        yield "  tokens, prompt", _spread(prompts["tokens"])


def _sampling_rows(sampling: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "completions" in sampling:
        yield "completions", f"{sampling['completions']:,} of about {sampling['mean_tokens']:,.0f} tokens"
        yield (
            "  cut at the limit",
            f"about {sampling['cut_share']:.0%}, at {sampling['max_new_tokens']:,} tokens",
        )
        parts = ", ".join(f"{name} {in_time(value)}" for name, value in sampling["seconds"].items() if value)
        yield "time to sample", f"about {in_time(sampling['total_seconds'])} ({parts})"
    yield "memory to sample", f"about {in_units(sampling['peak_memory_bytes'])}{_fits(sampling)}"


def _spread(spread: dict[str, Any]) -> str:
    return f"{spread['min']:,} to {spread['max']:,}, half at most {spread['p50']:,}, 90 % at most {spread['p90']:,}"


def _fits(part: dict[str, Any]) -> str:
    return "" if part["fits"] else " (does not fit)"


def in_units(size: int) -> str:
    """Return bytes in GiB or MiB."""
    unit, name = next((one for one in _UNITS if size >= one[0]), _UNITS[-1])
    return f"{size / unit:,.1f} {name}"


def in_time(seconds: float) -> str:
    """Return seconds in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
