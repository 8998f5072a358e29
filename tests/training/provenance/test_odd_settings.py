"""A round's settings as an archive may bring them: any value in any place, and no page of it fails."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Judgment, User
from tests.training.provenance.test_odd_summaries import altered, without_repeats
from training.engine.errors import ConfigError
from training.models import Round
from training.rounds import state_machine
from training.rounds.plan import Plan
from training.rounds.starts import RoundError
from training.views.beginnings import Like
from training.views.using.round_forms import TrainingForm

pytestmark = pytest.mark.once

ODD: tuple[Any, ...] = ("many", [1.5e308], {"a": 2_000_000})
ALONE = ("reference", "loss", "sampling", "lora", "start_adapter")


def settings_of(full: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield settings with odd values: one part after the other, and in it one depth after the other."""
    yield "as they are", full
    yield "none", {}
    for part, odd in product(full, ODD):
        yield f"{part} {odd}", full | {part: odd}
        for depth in (1, 2) if isinstance(full[part], dict) else ():
            yield f"{part} {depth} {odd}", full | {part: altered(full[part], depth, odd)}
    for name, odd in product(ALONE, ODD):
        yield f"{name} {odd}", full | {"config": full["config"] | {name: odd}}


def addresses(round_: Round) -> list[str]:
    """Return the pages that read a round's settings."""
    slug, policy = round_.project.slug, round_.result_policy_id or round_.start_policy_id
    judgment = Judgment.objects.filter(project=round_.project).values_list("pk", flat=True)[0]
    return [
        f"{reverse('rounds', args=[slug])}?like={round_.number}",
        round_.get_absolute_url(),
        reverse("policies", args=[slug]),
        *(
            reverse(name, args=[slug, policy])
            for name in ("policy", "model-card", "policy-lineage", "policy-lineage-file")
        ),
        *(reverse(name, args=[slug, judgment]) for name in ("judgment-lineage", "judgment-lineage-file")),
    ]


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_no_page_fails_on_an_odd_value_in_settings(
    state: str,
    request: pytest.FixtureRequest,
    make_round: Callable[..., Round],
    owner: User,
    client_for: Callable[..., Client],
) -> None:
    round_ = request.getfixturevalue("finished") if state == "finished" else make_round(state)
    client, failed = client_for(owner, raise_request_exception=False), []
    pages = addresses(round_)[: None if state == "finished" else 2]
    for name, settings in without_repeats(settings_of(round_.settings)):
        Round.objects.filter(pk=round_.pk).update(settings=settings)
        failed += [(name, page) for page in pages if client.get(page).status_code != 200]
    assert failed == []


ODD_PARTS: tuple[dict[str, Any], ...] = (
    *({"processes": odd} for odd in (2_000_000, 0, "x", [1], 2.5, True)),
    *({"fresh_comparisons": odd} for odd in (None, -1, "x", 10**9)),
    *({"pairs": odd} for odd in ([], {"ties": "x"}, {"colour": "red"}, {"smoothing": []})),
    *({"choosing": odd} for odd in ("x", {"by": []})),
    *({"config": odd} for odd in (None, [], {})),
)


@pytest.mark.parametrize("odd", ODD_PARTS)
def test_settings_that_no_round_has_are_a_plain_error(make_round: Callable[..., Round], odd: Any) -> None:
    round_ = make_round("failed")
    with pytest.raises(ConfigError):
        Plan.from_dict(round_.settings | odd)
    Round.objects.filter(pk=round_.pk).update(settings=round_.settings | odd)
    round_.refresh_from_db()
    with pytest.raises(RoundError):
        state_machine.resume(round_, changes={"threads": 1})
    form = TrainingForm(round_.project, like=Like.round(round_))
    assert form["fresh_comparisons"].initial == TrainingForm(round_.project)["fresh_comparisons"].initial
    assert len(form.fields["processes"].choices) == 2
