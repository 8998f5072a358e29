"""The outcome of a finished round, as its page shows it."""

from typing import Any

from django.core.paginator import Paginator
from django.utils.translation import gettext_lazy as _

from annotate.models import Comparison
from training.models import Round
from training.rounds.deciding import UNFINISHED
from training.rounds.readiness import Account
from training.standings.drift import measure_drift
from training.standings.gates import measure_gate
from training.standings.policies import measure_held_out, measure_lengths
from training.standings.sides import measure_left

TELLING = ("vote", "train", "scale", "sample", "sample_previous")  # verbs with events
MANY_CUT = 0.1  # of a round's completions
GALLERY_PAGE, GALLERY_GLIMPSE = 10, 3

# The reasons that `training.engine.data.tokens` reports of pairs that did not fit.
ENCODING = {
    "empty_prompt": _("had an empty prompt"),
    "empty_completion": _("had an empty completion"),
    "identical_completions": _("had two completions of the same tokens"),
    "identical_to_tokenizer": _("differed only in blanks that the tokenizer drops"),
    "unmatched_turn": _("are chats whose end the model's chat template begins in another way"),
    "refused_by_template": _("are chats that the model's chat template refused"),
    "identical_after_truncation": _("differed only beyond max_length"),
    "prompt_middle": _("lost the middle of their prompt"),
    "prompt": _("lost the beginning of their prompt"),  # as earlier versions cut
    "completion": _("lost the end of a completion"),
}


def outcome(round_: Round) -> dict[str, Any]:
    """Return what a finished round achieved, as the context of its page."""
    return {
        "account": Account.from_counts(round_.snapshot.counts) if round_.snapshot else None,
        "gate": measure_gate(round_),
        "held_out": measure_held_out(round_),
        "lengths": measure_lengths(round_),
        "left": measure_left(round_),
        "drift": measure_drift(round_),
        "assisted": _assisted(round_),
        "people_pairs": _whole(round_.report("train").get("pairs")) - _whole(_assisted(round_).get("pairs")),
        "health": _listed(round_.report("train").get("health")),
        "told": _told(round_),
        "cut": cut_completions(round_),
        "encoding": _encoding(round_.report("train").get("left_out")),
        "gallery": gallery_page(round_, 1, GALLERY_GLIMPSE),
        "fresh_judged": round_.fresh.filter(judged__gt=0).count(),
        "fresh_total": round_.fresh.count(),
        "fresh_open": round_.fresh.open().count(),
        "is_last": not round_.project.rounds.filter(number__gt=round_.number).exists(),
        "to_withdraw": sum(
            comparisons.filter(UNFINISHED).count() for comparisons in (round_.fresh, round_.gate)
        ),
    }


# What a report holds is checked: an archive may bring a summary of another kind.


def _assisted(round_: Round) -> dict[str, Any]:
    """Return what the verb `assist` reported, with how many of the pairs that were trained on a probe labelled."""
    found = round_.report("assist")
    return found | {"drafted": _whole(found.get("drafted"))} if isinstance(found.get("pairs"), int) else {}


def _whole(found: Any) -> int:
    return found if isinstance(found, int) else 0


def _listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def cut_completions(round_: Round) -> dict[str, int] | None:
    """Return how many completions of a round were cut at their limit, if those are more than one in ten."""
    done = round_.report("sample")
    written = _whole(done.get("completions"))
    cut = written - _whole(done.get("ended", written))
    if cut <= MANY_CUT * written:
        return None
    sampling = round_.chosen("config").get("sampling")
    limit = _whole(sampling.get("max_new_tokens")) if isinstance(sampling, dict) else 0
    return {"cut": cut, "written": written, "limit": limit}


def _told(round_: Round) -> list[str]:
    """Return what the engine had to say while it trained and sampled, each sentence once."""
    events = (event for verb in TELLING for event in _listed(round_.report(verb).get("events")))
    return list(dict.fromkeys(event for event in events if isinstance(event, str)))


def _encoding(left_out: Any) -> dict[str, list[tuple[int, str]]]:
    """Return the pairs that training dropped, and those that it cut to max_length: how many, and why."""
    found = left_out if isinstance(left_out, dict) else {}
    return {
        name: [(count, str(ENCODING.get(why, why))) for why, count in found[name].items()]
        for name in ("dropped", "truncated")
        if isinstance(found.get(name), dict)
    }


def gallery_page(round_: Round, page: Any, size: int = GALLERY_PAGE) -> Any:
    """Return a page of rows of (prompt, completion before, completion after)."""
    comparisons = round_.gate.select_related("prompt", "first", "second").order_by("pk")
    found: Any = Paginator(comparisons, size).get_page(page)
    found.object_list = [
        (comparison, *_old_and_new(comparison, round_.result_policy_id)) for comparison in found.object_list
    ]
    return found


def _old_and_new(comparison: Comparison, new: int | None) -> tuple[Any, Any]:
    if comparison.first.policy_id == new:
        return comparison.second, comparison.first
    return comparison.first, comparison.second
