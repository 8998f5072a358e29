"""Filters that write figures on the pages of rounds and policies."""

from collections.abc import Mapping
from typing import Any

from django import template
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from primitives.statistics import Estimate, percent
from training.models import Round, Worker

register = template.Library()
register.filter("percent", percent)

BADGES = {
    Round.State.QUEUED: "warn",
    Round.State.TRAINING: "accent live",
    Round.State.SAMPLING: "accent live",
    Round.State.READY: "accent",
    Round.State.PROMOTED: "good",
    Round.State.WRITTEN: "good",
    Round.State.FAILED: "bad",
}


@register.filter
def badge(round_: Round) -> str:
    """Return the CSS classes of a state's badge."""
    return BADGES.get(Round.State(round_.state), "")


@register.filter
def reported_number(round_: Round, path: str) -> float | None:
    """Return a number that a verb of a round reported, by its path such as `train.seconds`, or None."""
    return round_.reported_number(path)


@register.filter
def reported_count(round_: Round, path: str) -> int | None:
    """Return a number of things that a verb of a round reported, by its path such as `train.pairs`, or None."""
    return round_.reported_count(path)


@register.filter
def percent_interval(estimate: Estimate) -> str:
    """Write the interval of a share: 52 – 70 %."""
    return f"{100 * estimate.low:.0f} – {100 * estimate.high:.0f} %"


@register.filter
def percent_of_some(share: float) -> str:
    """Write a share of which something is left, however little: less than 1 %."""
    return _("less than 1 %") if 0 < share < 0.005 else percent(share)


@register.filter
def plus_minus(estimate: Estimate) -> str:
    """Write half the width of a mean's interval."""
    return f"± {(estimate.high - estimate.low) / 2:.1f}"


@register.filter
def model_size(parameters: int | None) -> str:
    """Write how large a model is: a model of 135 million parameters."""
    if parameters is None:
        return _("a model of unknown size")
    if parameters >= 1_000_000_000:
        return _("a model of %(count)s billion parameters") % {"count": f"{parameters / 1e9:.3g}"}
    return _("a model of %(count)s million parameters") % {"count": f"{max(1, round(parameters / 1e6)):,}"}


@register.filter
def from_to(interval: Mapping[str, float]) -> str:
    """Write the ends of an interval: 1.42 to 2.09."""
    ends = {name: number_format(round(interval[name], 2), 2) for name in ("low", "high")}
    return _("%(low)s to %(high)s") % ends


@register.filter
def duration(seconds: float | str | None) -> str:
    """Write 75.2 as 1 min 15 s."""
    if not isinstance(seconds, (int, float)):
        return ""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    if minutes:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": whole % 60}
    return ngettext("%(seconds)d second", "%(seconds)d seconds", whole) % {"seconds": whole}


PHASES = {
    "": gettext_lazy("Starting"),
    "starting": gettext_lazy("Starting"),
    "freezing": gettext_lazy("Freezing the pairs"),
    "loading": gettext_lazy("Loading the model"),
    "reference": gettext_lazy("Scoring pairs with the reference"),
    "training": gettext_lazy("Training"),
    "scoring": gettext_lazy("Scoring"),
    "reading": gettext_lazy("Reading the prompts"),
    "sampling": gettext_lazy("Sampling"),
    "training a draft": gettext_lazy("Training a draft, for the pairs that a probe labels"),
    "sampling the previous policy": gettext_lazy("Sampling the policy before, for the gate"),
    "writing": gettext_lazy("Writing"),
    "merging": gettext_lazy("Merging"),
    "features": gettext_lazy("Reading completions for the probe"),
    "fitting": gettext_lazy("Fitting the probe"),
    "rating": gettext_lazy("Rating completions by the probe"),
    "measuring": gettext_lazy("Measuring how far it is from its reference"),
    "scaling": gettext_lazy("Scaling the adapter to its KL budget"),
    "saving": gettext_lazy("Saving the adapter"),
    "done": gettext_lazy("Finishing"),
    "fetching": gettext_lazy("Fetching files"),
    "storing": gettext_lazy("Storing files"),
}


@register.filter
def phase(name: str) -> str:
    """Return the phase of the child process, in words."""
    return str(PHASES.get(name, name))


@register.filter
def setting(value: object) -> str:
    """Write a setting's value as config.json has it, without quotes."""
    if value is None:
        return _("unset")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return f"{value:g}" if isinstance(value, float) else str(value)


GIB = 1 << 30


@register.filter
def processor(worker: Worker) -> str:
    """Write what a worker's processor is: 16 threads, 128 GiB, bfloat16."""
    cpu = worker.devices.get("cpu")
    if cpu is None:
        return _("Not known yet")
    threads = ngettext("%(count)d thread", "%(count)d threads", cpu["threads"]) % {"count": cpu["threads"]}
    return ", ".join([threads, *_memory(cpu)])


@register.filter
def gpus(worker: Worker) -> list[str]:
    """Write each GPU of a worker: NVIDIA H100, 80 GiB, bfloat16."""
    return [", ".join([gpu["name"], *_memory(gpu)]) for gpu in worker.devices.get("gpus", [])]


def _memory(device: Mapping[str, Any]) -> list[str]:
    return [f"{device['memory'] / GIB:.0f} GiB", *(["bfloat16"] if device["bfloat16"] else [])]
