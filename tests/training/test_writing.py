"""A round that does not train: the current policy writes comparisons, as the first of a project."""

from typing import Any

import pytest
from django.conf import settings as site
from django.urls import reverse
from django.utils import timezone

from annotate.models import Project, Prompt
from tests.training.pages import as_sent, text
from training.models import Round, Worker
from training.rounds import runner, state_machine
from training.rounds.phases.sampling import write_prompts
from training.rounds.starts import RoundError
from training.views.beginnings import Like

pytestmark = pytest.mark.django_db


@pytest.fixture
def prompts(project: Project) -> list[Prompt]:
    """Five prompts without completions, one of them held out."""
    project.sampling_settings = {"max_new_tokens": 8}
    project.save()
    made = []
    for number in range(5):
        prompt = Prompt(project=project)
        prompt.set_content(f"I saw film number {number} last night and")
        prompt.held_out = number == 0
        prompt.save()
        made.append(prompt)
    return made


def run(round_: Round) -> Round:
    claimed = state_machine.claim_round(round_.pk, "worker of the tests")
    assert claimed is not None
    assert claimed.state == "sampling"
    runner.run(claimed)
    done = Round.objects.get(pk=round_.pk)
    assert done.reason == ""
    return done


@pytest.mark.once
def test_a_writing_round_samples_every_prompt_and_trains_nothing(
    project: Project, prompts: list[Prompt], owner: Any, teammate: Any, judge: Any, client_for: Any
) -> None:
    round_ = run(state_machine.write(project, owner, 5))
    assert (round_.state, round_.reason, round_.result_policy, round_.snapshot) == ("written", "", None, None)
    assert {comparison.prompt for comparison in round_.fresh.all()} == set(prompts)
    for comparison in round_.fresh.select_related("first", "second"):
        assert (comparison.kind, comparison.batch, comparison.open) == ("standard", "round 1", True)
        assert {comparison.first.policy, comparison.second.policy} == {project.current_policy}
        assert comparison.first.text.strip() != comparison.second.text.strip()
        assert comparison.first.token_ids
    assert not round_.gate.exists()
    assert project.policies.count() == 1

    page = text(client_for(owner).get(round_.get_absolute_url()))
    assert "Written" in page
    assert "0 judged so far" in page
    assert reverse("judge", args=[project.slug]) in page
    assert "Promote" not in page

    judge(project, teammate)
    assert project.judgments.count() == 5
    # It waits for no decision: the next one may start, and writes for what was compared least.
    again = state_machine.write(project, owner, 2)
    assert (again.number, again.state) == (2, "queued")


def test_a_failed_one_can_be_resumed(project: Project, prompts: list[Prompt], owner: Any) -> None:
    round_ = state_machine.write(project, owner, 3)
    claimed = state_machine.claim_round(round_.pk, "worker of the tests")
    assert claimed is not None
    state_machine.fail(claimed, "It failed for a test.")
    state_machine.resume(Round.objects.get(), owner)
    again = state_machine.claim_round(round_.pk, "worker of the tests")
    assert again is not None
    assert (again.state, again.attempts) == ("sampling", 2)
    files = runner.RunDirectory(again.run_dir)
    runner.prepare(again, files)
    write_prompts(again, files)
    assert len(files.prompts.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("count", "complaint"),
    [(0, "a number from 1 to 10,000, not 0"), (10_001, "not 10001"), (3, "no prompts")],
)
def test_what_cannot_be_written_is_refused_and_changes_nothing(
    project: Project, owner: Any, count: int, complaint: str
) -> None:
    with pytest.raises(RoundError, match=complaint) as refused:
        state_machine.write(project, owner, count)
    assert refused.value.field == "count"
    assert not Round.objects.exists()


def test_a_project_without_comparisons_is_offered_writing_first(
    project: Project, prompts: list[Prompt], owner: Any, client_for: Any
) -> None:
    Worker.objects.create(name="w", queues=["training"], seen_at=timezone.now())
    client = client_for(owner)
    where = reverse("rounds", args=[project.slug])
    page = text(client.get(where))
    assert page.index("Let the policy write the first comparisons") < page.index("Start the first round")
    assert 'name="count" value="5"' in page
    assert f"{where}#write" in text(client.get(reverse("project", args=[project.slug])))
    response = client.post(where, {"action": "write", "count": "4"}, follow=True)
    round_ = Round.objects.get()
    assert response.redirect_chain[-1][0] == round_.get_absolute_url()
    assert (round_.state, round_.trains, round_.created_by) == ("queued", False, owner)


def test_a_bad_number_is_named_and_starts_nothing(
    project: Project, prompts: list[Prompt], owner: Any, client_for: Any
) -> None:
    response = client_for(owner).post(
        reverse("rounds", args=[project.slug]), {"action": "write", "count": "many"}
    )
    assert response.status_code == 422
    assert "Enter a whole number." in text(response)
    assert not Round.objects.exists()


@pytest.mark.parametrize(
    ("who", "status"), [("teammate", 403), ("researcher", 403), ("outsider", 404), (None, 302)]
)
def test_only_admins_let_a_policy_write(
    request: Any, project: Project, prompts: list[Prompt], client_for: Any, who: str | None, status: int
) -> None:
    client = client_for(request.getfixturevalue(who) if who else None)
    response = client.post(reverse("rounds", args=[project.slug]), {"action": "write", "count": "4"})
    assert response.status_code == status
    assert not Round.objects.exists()


@pytest.mark.once
def test_settings_of_a_writing_round_keep_both_its_writers(
    make_round: Any, owner: Any, client_for: Any
) -> None:
    finished = make_round("rejected")
    project, other = finished.project, finished.result_policy
    (site.VAR / other.adapter).mkdir(parents=True, exist_ok=True)
    current = project.current_policy
    client, where = client_for(owner), reverse("rounds", args=[project.slug])
    for policy, against in ((other, current), (current, other), (other, None), (None, None)):
        round_ = state_machine.write(project, owner, 3, policy=policy, against=against)
        state_machine.cancel(round_, owner)
        form = client.get(f"{where}?like={round_.number}").context["write_form"]
        assert client.post(f"{where}", as_sent(form) | {"action": "write"}).status_code == 302
        again = Round.objects.get(number=round_.number + 1)
        assert (again.start_policy, again.against) == (policy or current, against)
        state_machine.cancel(again, owner)


@pytest.mark.once
def test_settings_of_a_round_keep_a_gate_against_its_start(make_round: Any, owner: Any) -> None:
    finished = make_round("rejected")
    project, other = finished.project, finished.result_policy
    (site.VAR / other.adapter).mkdir(parents=True, exist_ok=True)
    round_ = state_machine.start(project, owner, begin=other, against=other)
    assert (round_.opponent, round_.start_policy) == (other, other)
    like = Like.round(round_)
    assert (like.start, like.against) == (other, other)
