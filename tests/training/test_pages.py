"""The list of rounds and who may see and do what, on every page of rounds and policies, as page and as fragment."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Policy, Project
from tests.factories import TIE
from tests.training.pages import FRAGMENT, address, text
from training.engine.config import explain
from training.models import Round, Worker
from training.rounds import deciding
from training.rounds.plan import Plan
from training.views.forms import RoundForm

pytestmark = [pytest.mark.django_db, pytest.mark.once]  # forms and pages, whatever the database


PAGES = [
    "rounds",
    "ready_pairs",
    "round",
    "round_live",
    "gallery",
    "round_file",
    "policies",
    "policy",
    "shaped",
]


# --- Access ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, FRAGMENT], ids=["page", "fragment"])
@pytest.mark.parametrize("name", PAGES)
def test_admins_and_researchers_look_and_nobody_else(
    name: str,
    headers: Any,
    finished: Round,
    owner: Any,
    researcher: Any,
    teammate: Any,
    outsider: Any,
    client_for: Any,
) -> None:
    finished.run_dir.mkdir(parents=True, exist_ok=True)
    (finished.run_dir / "config.json").write_text("{}")
    where = address(name, finished)
    for user, status in ((owner, 200), (researcher, 200), (teammate, 403), (outsider, 404)):
        response = client_for(user).get(where, headers=headers)
        assert response.status_code == status, user
        text(response)  # reads a download to its end, which closes the file
    anonymous = client_for().get(where, headers=headers)
    if headers:
        assert reverse("login") in anonymous.headers["HX-Redirect"]
    else:
        assert anonymous.url.startswith(reverse("login"))


@pytest.mark.parametrize("action", ["cancel", "resume", "promote", "reject"])
def test_only_admins_act_on_a_round(
    action: str, finished: Round, researcher: Any, teammate: Any, outsider: Any, client_for: Any
) -> None:
    where = address("round", finished)
    for user, status in ((researcher, 403), (teammate, 403), (outsider, 404)):
        assert client_for(user).post(where, {"action": action}).status_code == status
    assert client_for().post(where, {"action": action}).url.startswith(reverse("login"))
    assert Round.objects.get().state == "ready"


def test_only_admins_start_a_round(
    ready_project: Project, researcher: Any, teammate: Any, outsider: Any, client_for: Any
) -> None:
    where = reverse("rounds", args=[ready_project.slug])
    for user, status in ((researcher, 403), (teammate, 403), (outsider, 404)):
        assert client_for(user).post(where).status_code == status
    assert client_for().post(where).url.startswith(reverse("login"))
    assert not Round.objects.exists()


def test_only_admins_roll_back(
    finished: Round, researcher: Any, teammate: Any, outsider: Any, client_for: Any
) -> None:
    deciding.promote(finished)
    for user, status in ((researcher, 403), (teammate, 403), (outsider, 404)):
        assert client_for(user).post(address("policy", finished)).status_code == status
    assert Project.objects.get(pk=finished.project_id).current_policy == finished.result_policy


def test_a_round_of_another_project_does_not_exist(finished: Round, owner: Any, client_for: Any) -> None:
    from annotate.models import Membership

    other = Project.objects.create(slug="other", name="Other")
    Membership.objects.create(project=other, user=owner, role="admin")
    assert client_for(owner).get(reverse("round", args=["other", finished.number])).status_code == 404
    assert (
        client_for(owner).get(reverse("policy", args=["other", finished.start_policy_id])).status_code == 404
    )


# --- Starting ----------------------------------------------------------------------------------------------------


def form_values(client: Client, project: Project, **changes: Any) -> dict[str, Any]:
    """Return the form as a browser would post it, with some fields changed."""
    form = client.get(reverse("rounds", args=[project.slug])).context["form"]
    initial = {field.name: field.value() for field in form}
    return {
        name: value for name, value in (initial | changes).items() if value is not None and value is not False
    }


def test_the_unchanged_form_starts_with_the_projects_settings(
    ready_project: Project, owner: Any, client_for: Any
) -> None:
    ready_project.training_settings = {"beta": 0.3}
    ready_project.save()
    client = client_for(owner)
    response = client.post(reverse("rounds", args=[ready_project.slug]), form_values(client, ready_project))
    assert response.status_code == 302, response.context["form"].errors
    round_ = Round.objects.get()
    assert response.url == round_.get_absolute_url()
    plan = Plan.for_project(ready_project, round_.start_policy, {}).to_dict()
    # The form shows a third with three digits.
    assert round_.settings["pairs"].pop("margin_scale") == pytest.approx(
        plan["pairs"].pop("margin_scale"), abs=1e-3
    )
    assert round_.settings == plan
    assert round_.settings["config"]["beta"] == 0.3


def test_what_is_changed_in_the_form_reaches_the_round(
    ready_project: Project, owner: Any, client_for: Any
) -> None:
    client = client_for(owner)
    changes = {
        "loss": "ipo",
        "lora.r": 4,
        "lora.experts": "all",
        "sampling.top_p": 0.9,
        "sampling.stop": "\\n\\n\r\nUser: \r\n",
        "reference": "base",
        "trackers": ["tensorboard"],
        "pairs.ties": "half",
        "fresh_comparisons": 5,
    }
    client.post(reverse("rounds", args=[ready_project.slug]), form_values(client, ready_project, **changes))
    chosen = Round.objects.get().settings
    assert (chosen["config"]["loss"], chosen["config"]["lora"]["r"]) == ("ipo", 4)
    assert chosen["config"]["lora"]["experts"] == "all"
    assert (chosen["config"]["sampling"]["top_p"], chosen["pairs"]["ties"]) == (0.9, "half")
    assert chosen["fresh_comparisons"] == 5
    assert chosen["config"]["sampling"]["stop"] == ["\n\n", "User: "]
    assert (chosen["config"]["reference"], chosen["config"]["trackers"]) == ("base", ["tensorboard"])
    field = RoundForm(ready_project, like=Round.objects.get())["sampling.stop"]
    assert field.value() == "\\n\\n\nUser: "


def test_experts_are_explained_in_the_engines_words(
    ready_project: Project, owner: Any, client_for: Any
) -> None:
    response = client_for(owner).get(reverse("rounds", args=[ready_project.slug]))
    field = response.context["form"]["lora.experts"]
    texts = {name: (text, choices) for name, _default, text, choices in explain()}
    assert (field.help_text, tuple(choice for choice, _label in field.field.choices)) == texts["lora.experts"]
    assert (field.label, field.value()) == ("Experts", "shared")
    assert "Experts of a mixture that" in text(response)


def test_experts_of_named_layers_are_refused_at_their_field(
    ready_project: Project, owner: Any, client_for: Any
) -> None:
    ready_project.training_settings = {"lora": {"target_modules": ["q_proj"]}}
    ready_project.save()
    client = client_for(owner)
    values = form_values(client, ready_project, **{"lora.experts": "all"})
    response = client.post(reverse("rounds", args=[ready_project.slug]), values)
    assert response.status_code == 422
    assert response.context["form"].errors["lora.experts"] == [
        "Has no effect with lora.target_modules; name the experts' layers there."
    ]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("beta", "0", "Must be greater than 0, not 0.0."),
        ("lora.r", "0", "Must be at least 1, not 0."),
        ("sampling.max_new_tokens", "9999", "leave no room for a prompt"),
        ("epochs", "many", "Enter a whole number"),
        ("pairs.smoothing", "-1", "Must be from 0 to 100"),
        ("loss", "mystery", "Select a valid choice"),
    ],
)
def test_a_bad_value_is_named_at_its_field_and_starts_nothing(
    field: str, value: str, message: str, ready_project: Project, owner: Any, client_for: Any
) -> None:
    client = client_for(owner)
    values = form_values(client, ready_project, **{field: value})
    response = client.post(reverse("rounds", args=[ready_project.slug]), values)
    assert response.status_code == 422
    assert message in response.context["form"].errors[field][0]
    assert message in text(response)
    assert not Round.objects.exists()


def test_all_errors_are_said_at_once_by_the_forms_names(
    ready_project: Project, owner: Any, client_for: Any
) -> None:
    client = client_for(owner)
    wrong = {
        "epochs": "0",
        "learning_rate": "-1",
        "loss": "ipo",
        "label_smoothing": "0.1",
        "pairs.smoothing": "-1",
    }
    response = client.post(
        reverse("rounds", args=[ready_project.slug]), form_values(client, ready_project, **wrong)
    )
    assert set(response.context["form"].errors) == set(wrong) - {"loss"}
    page = text(response)
    assert "Nothing was changed:" in page
    assert '<a href="#id_epochs">Epochs</a>: Must be at least 1, not 0.' in page
    assert '<a href="#id_learning_rate">Learning rate</a>: Must be at least 0, not -1.0.' in page
    assert "Has no effect with loss &#x27;ipo&#x27;" in page


def test_a_cancelled_rounds_settings_can_start_another(
    make_round: Any, ready_project: Project, owner: Any, client_for: Any
) -> None:
    again = Round.objects.get(pk=make_round("cancelled").pk)
    again.settings["config"]["lora"]["r"], again.settings["pairs"]["ties"] = 4, "half"
    again.settings["config"]["threads"] = 0  # which no form chooses
    again.save()
    client = client_for(owner)
    where = reverse("rounds", args=[ready_project.slug])
    assert f"{where}?like=1#start" in text(client.get(again.get_absolute_url()))
    shown = {field.name: field.value() for field in client.get(f"{where}?like=1").context["form"]}
    assert (shown["lora.r"], shown["pairs.ties"], shown["fresh_comparisons"]) == (4, "half", 4)
    response = client.post(
        where, {name: value for name, value in shown.items() if value is not None and value is not False}
    )
    assert response.status_code == 302
    assert Round.objects.get(number=2).settings == again.settings
    for nonsense in ("99", "x", "9" * 30):
        assert client.get(f"{where}?like={nonsense}").context["form"].like is None


def test_too_few_pairs_disable_the_start_button_and_say_why(
    project: Project, owner: Any, teammate: Any, make_comparisons: Any, judge: Any, client_for: Any
) -> None:
    where = reverse("ready_pairs", args=[project.slug])
    client = client_for(owner)

    def button(query: str = "?start") -> bool:
        return "disabled" in text(client.get(where + query, headers=FRAGMENT))

    make_comparisons(7)
    judge(project, teammate)
    assert button()
    assert "A round needs 8 pairs to train on." in text(client.get(where + "?start"))
    assert not button("")  # where there is no form
    from annotate.judgments import judging
    from annotate.queueing import queue

    make_comparisons(1)
    claim = queue.claim(project, teammate)
    assert claim is not None
    judging.record(project, teammate, claim.token, TIE)
    assert not button()  # the form may choose to keep ties


def test_too_few_pairs_are_said_on_the_page(project: Project, owner: Any, client_for: Any) -> None:
    client = client_for(owner)
    response = client.post(reverse("rounds", args=[project.slug]), form_values(client, project))
    assert response.status_code == 422
    assert "there are 0 to train on, and a round needs 8" in text(response)


def test_a_missing_base_model_is_said_on_the_page(
    ready_project: Project, owner: Any, client_for: Any
) -> None:
    Policy.objects.filter(pk=ready_project.current_policy_id).update(base_model="/nowhere")
    client = client_for(owner)
    response = client.post(reverse("rounds", args=[ready_project.slug]), form_values(client, ready_project))
    assert response.status_code == 422
    assert "The base model “/nowhere” does not exist, or is not among" in text(response)


def test_a_second_start_is_refused_on_the_page(
    make_round: Any, ready_project: Project, owner: Any, client_for: Any
) -> None:
    client = client_for(owner)
    values = form_values(client, ready_project)
    make_round("training")
    response = client.post(reverse("rounds", args=[ready_project.slug]), values)
    assert response.status_code == 422
    assert "Round 1 is training" in text(response)
    assert Round.objects.count() == 1


def test_the_list_offers_no_start_while_a_round_is_open(make_round: Any, owner: Any, client_for: Any) -> None:
    round_ = make_round("queued")
    page = text(client_for(owner).get(reverse("rounds", args=[round_.project.slug])))
    assert "Start the round" not in page
    assert "is under way" in page


def test_how_many_pairs_are_ready_is_said_with_what_was_left_out(
    ready_project: Project, owner: Any, client_for: Any, make_comparisons: Any, teammate: Any
) -> None:
    from annotate.judgments import judging
    from annotate.queueing import queue

    make_comparisons(1)
    claim = queue.claim(ready_project, teammate)
    assert claim is not None
    judging.record(claim.project, teammate, claim.token, judging.Verdict("both_bad"))
    fragment = text(
        client_for(owner).get(reverse("ready_pairs", args=[ready_project.slug]) + "?start", headers=FRAGMENT)
    )
    assert "12 pairs are ready to train on" in fragment
    assert "4 on held-out prompts" in fragment
    assert "1 both bad" in fragment
    assert "<html" not in fragment


# --- Django's admin ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["round", "roundevent", "worker"])
def test_site_administrators_read_rounds_and_change_nothing(
    model: str, finished: Round, worker: Worker, admin_client: Client
) -> None:
    rows = f"/admin/training/{model}/"
    assert admin_client.get(rows).status_code == 200
    row = {"round": finished, "roundevent": finished.events.last(), "worker": worker}[model]
    assert row is not None
    assert admin_client.get(f"{rows}{row.pk}/change/").status_code == 200
    assert admin_client.get(f"{rows}add/").status_code == 403
    assert admin_client.post(f"{rows}{row.pk}/delete/", {"post": "yes"}).status_code == 403
