"""The line that the settings of a round fold into."""

import re
from typing import Any

import pytest

from tests.training.pages import shown_in, text

ROUNDS = "/p/reviews/rounds/"
SUMMARY = re.compile(
    r'<details class="advanced"( open)?>\s*<summary>\s*Settings\s*<small>(.*?)</small>', re.DOTALL
)


def folded(page: Any) -> tuple[bool, bool]:
    """Return whether the settings are unfolded, and whether they are said to be as recommended."""
    found = SUMMARY.search(text(page))
    assert found is not None
    return bool(found[1]), "as recommended" in found[2]


@pytest.fixture
def send(ready_project: Any, owner: Any, client_for: Any) -> Any:
    """Return a function that sends the page's form with some fields changed, and returns the page that refuses it."""
    client = client_for(owner)

    def send(**changed: Any) -> Any:
        page = client.get(ROUNDS)
        filled = shown_in(page, page.context["form"], "")
        answer = client.post(ROUNDS, filled | changed)
        assert answer.status_code == 422
        return answer

    return send


def test_untouched_settings_stay_folded_as_recommended(ready_project, owner, client_for, send):
    assert folded(client_for(owner).get(ROUNDS)) == (False, True)
    assert folded(send(fresh_comparisons="-1")) == (False, True)
    assert folded(send(fresh_comparisons="-1", learning_rate="1e-3", **{"sampling.stop": ""})) == (
        False,
        True,
    )


@pytest.mark.parametrize(
    "changed", [{"epochs": "99"}, {"learning_rate": "much"}, {"label_smoothing": "0.2"}, {"lora.r": "64"}]
)
def test_changed_settings_unfold_and_are_not_as_recommended(send, changed):
    assert folded(send(fresh_comparisons="-1", **changed)) == (True, False)


@pytest.mark.parametrize(
    ("name", "value"), [("pairs.votes", "equal"), ("sampling.temperature", "0.5"), ("start_from", None)]
)
def test_whatever_was_changed_is_unfolded(ready_project, send, name, value):
    page = send(fresh_comparisons="-1", **{name: value or ready_project.current_policy_id})
    assert folded(page)[0]


@pytest.mark.parametrize("settings", [{"label_smoothing": 0.3, "loss": "robust"}, {"epochs": 9}])
def test_a_projects_own_settings_are_not_as_recommended(ready_project, owner, client_for, settings):
    ready_project.training_settings = settings
    ready_project.save()
    assert folded(client_for(owner).get(ROUNDS)) == (False, False)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_chat_template_stays_what_it_was_in_a_browser(ready_project, owner, client_for, end):
    """A browser ends each line of a text with CR and LF."""
    template = "{% for message in messages %}\n{{ message['content'] }}\n{% endfor %}\n".replace("\n", end)
    ready_project.training_settings = {"chat_template": template, "kl_samples": 0}
    ready_project.save()
    client = client_for(owner)
    page = client.get(ROUNDS)
    filled = shown_in(page, page.context["form"], "start")
    assert filled["chat_template"] == template
    client.post(ROUNDS, filled | {"chat_template": template.replace(end, "\r\n")})
    [round_] = ready_project.rounds.all()
    assert round_.settings["config"]["chat_template"] == template
