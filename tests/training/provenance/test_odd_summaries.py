"""A round's summary as an archive may bring it: any value in any place, and no page of it fails."""

import json
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import User
from training.models import Round

pytestmark = pytest.mark.once

ODD: tuple[Any, ...] = ("many", [1.5e308])
CHOSEN = {
    "by": "probe",
    "chosen": 6,
    "control": 2,
    "candidates": 8,
    "passed_over": {"equal": 1, "cut": 2, "uneven": 3},
    "why": "",
}
MORE: dict[str, Any] = {
    "assist": {"pairs": 5, "events": ["One."]},
    "vote": {"events": ["Two."], "used": True, "status": "used"},
    "probe": {"checks": {"annotator-1": [[0.7, 4]]}, "skill": {"accuracy": 0.7, "pairs": 20}},
    "choose": CHOSEN,
}


@pytest.fixture
def full(finished: Round) -> Round:
    """Return a finished round whose summary says all that a page may show."""
    finished.summary |= MORE
    finished.summary["train"] |= {"left_out": {"dropped": {"prompt": 1}, "truncated": {"completion": 2}}}
    finished.summary["sample"] |= {"completions": 10, "ended": 2}
    finished.summary["passed_over"] |= {"empty": 1}
    finished.save()
    return finished


def altered(value: Any, depth: int, odd: Any) -> Any:
    """Return an object with another value in the place of each that lies this deep."""
    if not isinstance(value, dict):
        return value
    return {key: odd if depth == 1 else altered(one, depth - 1, odd) for key, one in value.items()}


def summaries(full: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield summaries with odd values: one verb after the other, and in it one depth after the other."""
    yield "as it is", full
    for verb, odd in product(full, ODD):
        yield f"{verb} {odd}", full | {verb: odd}
        for depth in range(1, 4):
            yield f"{verb} {depth} {odd}", full | {verb: altered(full[verb], depth, odd)}


def without_repeats(found: Iterator[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Return each object once: none lies deeper in a verb that says little."""
    return list({json.dumps(value): (name, value) for name, value in found}.values())


def addresses(round_: Round) -> list[str]:
    """Return the pages that read a round's summary."""
    project = round_.project
    return [
        reverse("rounds", args=[project.slug]),
        round_.get_absolute_url(),
        *(reverse(name, args=[project.slug, round_.result_policy_id]) for name in ("policy", "model-card")),
    ]


def test_no_page_fails_on_an_odd_value_in_a_summary(
    full: Round, owner: User, client_for: Callable[..., Client]
) -> None:
    client, failed = client_for(owner, raise_request_exception=False), []
    for name, summary in without_repeats(summaries(full.summary)):
        Round.objects.filter(pk=full.pk).update(summary=summary)
        failed += [(name, page) for page in addresses(full) if client.get(page).status_code != 200]
    assert failed == []


@pytest.mark.parametrize("odd", ["12", True, None, -1, 1.5, [12], {"a": 12}, 1.5e308, 2**53])
def test_a_count_is_a_whole_number_or_none(full: Round, odd: Any) -> None:
    assert full.reported_count("train.pairs") == 12
    full.summary["train"]["pairs"] = odd
    assert full.reported_count("train.pairs") is None


@pytest.mark.parametrize(
    ("path", "odd"),
    [
        ("heldout.after.pairs", 5e-324),
        ("heldout.before.accuracy", 10**400),
        ("steps", 10**400),
        ("seconds", 10**400),
    ],
    ids=["tiny pairs", "vast accuracy", "vast steps", "vast seconds"],
)
def test_no_page_fails_on_a_tiny_or_vast_number(
    full: Round, owner: User, client_for: Callable[..., Client], path: str, odd: float
) -> None:
    *outer, last = path.split(".")
    found = full.summary["train"]
    for key in outer:
        found = found[key]
    found[last] = odd
    full.save()
    client = client_for(owner, raise_request_exception=False)
    assert [page for page in addresses(full) if client.get(page).status_code != 200] == []
