"""The left side of a round: where it is shown, and what counts in it."""

from typing import Any

import pytest

from annotate.models import Judgment
from primitives.statistics import Share
from tests.factories import say
from tests.training.pages import text
from training.standings.sides import measure_left
from training.usage.model_card import write

pytestmark = pytest.mark.django_db


@pytest.fixture
def judged(finished: Any, teammate: Any, owner: Any, make_comparisons: Any) -> Any:
    """Return a round with three preferences of four for the left, two of the four on its gate."""
    Judgment.objects.all().delete()
    fresh, gate = make_comparisons(4, needed=2), make_comparisons(2, needed=2)
    finished.fresh.set(fresh)
    finished.gate.set(gate)
    say(teammate, fresh[0], "first", left="first")
    say(teammate, fresh[1], "first", left="second")
    say(teammate, gate[0], "second", left="second")
    say(owner, gate[0], "first", left="first")
    return finished


def test_preferences_on_fresh_and_gate_comparisons_count(judged: Any) -> None:
    assert measure_left(judged) == Share(3, 4)


def test_nothing_else_counts(judged: Any, teammate: Any, owner: Any, make_comparisons: Any) -> None:
    """Neither ties and skips, nor other comparisons, nor what was replaced or was judged elsewhere."""
    say(teammate, judged.fresh.order_by("pk")[2], "tie")
    say(teammate, make_comparisons(1)[0], "left")
    replaced = say(owner, judged.fresh.order_by("pk")[3], "left")
    Judgment.objects.filter(pk=replaced.pk).update(superseded_at=replaced.created_at)
    Judgment.objects.filter(comparison=judged.fresh.order_by("pk")[0]).update(import_batch="import 1")
    assert measure_left(judged) == Share(2, 3)


def test_page_api_and_card_show_it(judged: Any, owner: Any, client_for: Any) -> None:
    client = client_for(owner)
    page = " ".join(text(client.get(judged.get_absolute_url())).split())
    assert "75 % <small>30 – 95 %</small>" in page
    assert "of 4 preferences · 50 % is no bias" in page
    assert "sides are drawn at random for each annotator. Imported judgments do not count. </p>" in page
    answer = client.get(f"/api/v1/projects/reviews/rounds/{judged.number}/").json()["left"]
    assert (answer["count"], answer["total"], answer["share"]) == (3, 4, 0.75)
    assert (round(answer["low"], 2), round(answer["high"], 2)) == (0.30, 0.95)
    assert "preferred in 75.0 % of 4 preferences" in write(judged.result_policy)


def test_a_round_without_preferences_shows_no_figure(finished: Any, owner: Any, client_for: Any) -> None:
    finished.fresh.clear()
    finished.gate.clear()
    assert "Prefer the left side" not in text(client_for(owner).get(finished.get_absolute_url()))
    answer = client_for(owner).get(f"/api/v1/projects/reviews/rounds/{finished.number}/").json()
    assert (answer["left"]["total"], answer["left"]["share"]) == (0, None)
