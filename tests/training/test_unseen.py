"""A web server that does not see what a worker wrote says so, before anything is decided."""

from typing import Any

import pytest
from django.urls import reverse

from annotate.models import Project
from tests.training.pages import text
from training.models import Round

pytestmark = [pytest.mark.once, pytest.mark.django_db]

UNSEEN = "This server does not see var/"


def page_of(round_: Round, client: Any) -> str:
    return text(client.get(round_.get_absolute_url()))


@pytest.mark.parametrize("state", ["ready", "promoted", "rejected"])
def test_a_policy_whose_files_are_elsewhere_is_warned_of(
    make_round: Any, owner: Any, client_for: Any, state: str
) -> None:
    round_, client = make_round(state), client_for(owner)
    policy = reverse("policy", args=[round_.project.slug, round_.result_policy_id])
    for page in (page_of(round_, client), text(client.get(policy))):
        assert f"{UNSEEN}{round_.folder}/adapter, which the worker wrote." in page
        assert "no round can start from its policy" in page
    assert "appears when a worker takes the round" not in page_of(round_, client)
    (round_.run_dir / "adapter").mkdir(parents=True)
    for page in (page_of(round_, client), text(client.get(policy))):
        assert UNSEEN not in page


def test_promoting_what_is_elsewhere_is_asked_about_and_done(
    make_round: Any, owner: Any, client_for: Any
) -> None:
    round_, client = make_round("ready"), client_for(owner)
    question = f"{UNSEEN}{round_.folder}/adapter: no round can start from its policy until it does."
    asked = (
        page_of(round_, client)
        .partition('value="promote"')[2]
        .partition('data-confirm="')[2]
        .partition('"')[0]
    )
    assert asked.startswith("Promote round 1? It has no gate")
    assert asked.strip().endswith(question)
    client.post(round_.get_absolute_url(), {"action": "promote"})
    round_.refresh_from_db()
    assert round_.state == "promoted"


def test_a_running_round_is_unseen_once_its_child_was_started(
    make_round: Any, owner: Any, client_for: Any
) -> None:
    round_, client = make_round("training"), client_for(owner)
    assert "The run directory appears when a worker takes the round." in page_of(round_, client)
    Round.objects.update(phase="training")
    assert f"{UNSEEN}{round_.folder}, which the worker wrote." in page_of(round_, client)
    round_.run_dir.mkdir(parents=True)
    assert UNSEEN not in page_of(round_, client)


def test_a_round_that_no_worker_took_has_no_files(make_round: Any, owner: Any, client_for: Any) -> None:
    page = page_of(make_round("cancelled"), client_for(owner))
    assert UNSEEN not in page
    assert "There are none." in page


def test_settings_that_are_refused_now_can_be_repeated(
    make_round: Any, ready_project: Project, owner: Any, client_for: Any
) -> None:
    round_ = make_round("cancelled")
    round_.settings["config"]["threads"] = 5000
    round_.save()
    answer = client_for(owner).get(reverse("rounds", args=[ready_project.slug]), {"like": round_.number})
    assert answer.status_code == 200
