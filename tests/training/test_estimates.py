"""An estimate is asked for on a page, answered by a worker, and changes nothing."""

import copy
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from annotate.models import Project, Snapshot
from tests.training.pages import FRAGMENT, as_sent, text
from training.engine.rundir import RunDirectory
from training.models import DryRun, Round, Worker
from training.rounds import deciding, estimates, state_machine
from training.rounds.starts import RoundError

pytestmark = [pytest.mark.once, pytest.mark.django_db]

ANSWER: dict[str, Any] = {
    "model": {
        "name": "starter", "architecture": "LlamaForCausalLM", "parameters": 1_015_000, "dtype": "float32",
        "weights_bytes": 4_060_000, "available_bytes": 8 << 30, "context": 512, "chat_template": "",
        "device": "cpu",
    },
    "pairs": {
        "given": 12, "trained": 12, "heldout": 4, "max_length": 128,
        "left_out": {"dropped": {}, "truncated": {"prompt_middle": 3}, "examples": {}},
        "tokens": {"pair": {"min": 20, "p50": 40, "p90": 90, "p99": 128, "max": 128}},
    },
    "training": {"steps": 3, "total_seconds": 95.0, "peak_memory_bytes": 12 << 30, "fits": False},
    "preview": {"id": "1", "prompt": "<s>I saw <b>it</b>", "chosen": "\nsplen\u202edidly</s>", "rejected": " dull</s>"},
    "events": [],
    "proposals": [{"option": "max_tokens", "value": 512, "reason": "Rows of 512 tokens fit into memory."}],
}  # fmt: skip


def form_of(client: Any, project: Project) -> dict[str, Any]:
    """Return what the form of a round would send as it stands."""
    return as_sent(client.get(reverse("rounds", args=[project.slug])).context["form"])


def test_an_estimate_is_asked_polled_and_answered(
    ready_project: Project, owner: Any, client_for: Any
) -> None:
    client, where = client_for(owner), reverse("estimates", args=[ready_project.slug])
    filled = form_of(client, ready_project)
    asked = text(client.post(f"{where}?kind=round", filled, headers=FRAGMENT))
    assert "No training worker is running." in asked
    estimate = DryRun.objects.get()
    assert f'hx-get="{estimate.get_absolute_url()}"' in asked
    assert client.post(f"{where}?kind=round", filled).url == DryRun.objects.get().get_absolute_url()
    Worker.objects.create(name="a", queues=["training"], seen_at=timezone.now())
    estimate = DryRun.objects.get()
    claimed = estimates.claim(estimate.pk, "a")
    assert claimed is not None
    assert estimates.claim(estimate.pk, "b") is None
    running = text(client.get(estimate.get_absolute_url()))
    assert "Measuring" in running
    assert "No training worker" not in running
    DryRun.objects.update(state="done", result=ANSWER, finished_at=timezone.now())
    page = text(client.get(estimate.get_absolute_url()))
    for said in ("3 lost the middle of their prompt", "12.0", "1 min 35 s", "does not fit", "&lt;b&gt;it"):
        assert said in page.replace("\xa0", " ")
    assert '<pre class="raw-text" dir="auto">\n\nsplen<span class="hidden-character"' in page
    taken = client.get(
        f"{reverse('rounds', args=[ready_project.slug])}?estimate={estimate.pk}&take=max_tokens"
    )
    assert taken.context["form"]["max_tokens"].initial == 512
    assert not Round.objects.exists()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("round", ("start_from", "gate_against")), ("writing", ("policy", "against"))],
)
def test_taking_a_proposal_keeps_the_policies_that_were_chosen(
    kind: str, fields: tuple[str, str], finished: Round, owner: Any, client_for: Any
) -> None:
    project, client = finished.project, client_for(owner)
    deciding.promote(finished, owner)
    project.refresh_from_db()
    other = project.policies.create(name="other", kind="adapter", base_model="starter", adapter="runs/other")
    form = "form" if kind == "round" else "write_form"
    page = client.get(reverse("rounds", args=[project.slug]))
    filled = as_sent(page.context[form]) | {fields[0]: finished.result_policy_id, fields[1]: other.pk}
    asked = client.post(f"{reverse('estimates', args=[project.slug])}?kind={kind}", filled, headers=FRAGMENT)
    assert asked.status_code == 200, text(asked)
    DryRun.objects.update(state="done", result=ANSWER, finished_at=timezone.now())
    where = f"{reverse('rounds', args=[project.slug])}?estimate={DryRun.objects.get().pk}&take=max_tokens"
    shown = client.get(where).context[form]
    assert [shown[name].value() for name in fields] == [finished.result_policy_id, other.pk]


def test_a_bad_setting_or_model_is_refused_by_name(
    ready_project: Project, owner: Any, client_for: Any
) -> None:
    client, where = client_for(owner), reverse("estimates", args=[ready_project.slug])
    bad = form_of(client, ready_project) | {"epochs": "-1"}
    for headers in ({}, FRAGMENT):
        answer = client.post(f"{where}?kind=round", bad, headers=headers)
        assert answer.status_code == 422
        assert "Must be at least 1, not -1." in text(answer)
    answer = client.post(f"{where}?kind=model", {"base_model": "/etc"}, headers=FRAGMENT)
    assert (answer.status_code, "does not exist" in text(answer)) == (422, True)
    assert not DryRun.objects.exists()


def test_only_admins_ask_and_see_estimates(
    ready_project: Project, owner: Any, researcher: Any, teammate: Any, outsider: Any, client_for: Any
) -> None:
    where = reverse("estimates", args=[ready_project.slug])
    estimate = estimates.ask_writing(ready_project, owner, 5)
    for user, status in ((researcher, 403), (teammate, 403), (outsider, 404)):
        assert client_for(user).post(f"{where}?kind=writing", {"count": 5}).status_code == status
        assert client_for(user).get(estimate.get_absolute_url()).status_code == status
    assert client_for().get(estimate.get_absolute_url()).url.startswith(reverse("login"))


def test_an_estimate_of_a_silent_worker_fails(project: Project, owner: Any, client_for: Any) -> None:
    estimate = estimates.ask_model(project, owner, "starter")
    assert estimates.claim(estimate.pk, "a") is not None
    DryRun.objects.update(heartbeat_at=timezone.now() - timezone.timedelta(hours=1))
    assert "The worker a went silent. Ask again." in text(client_for(owner).get(estimate.get_absolute_url()))


@pytest.mark.parametrize("is_earlier", [False, True])
def test_an_estimate_that_no_worker_took_ends(
    project: Project, owner: Any, client_for: Any, is_earlier: bool
) -> None:
    """Those of earlier versions have no heartbeat while they wait."""
    estimate = estimates.ask_model(project, owner, "starter")
    page = estimate.get_absolute_url()
    if is_earlier:
        DryRun.objects.update(heartbeat_at=None)
    assert "No worker took it. Ask again." not in text(client_for(owner).get(page))
    long_ago = timezone.now() - 2 * estimates.LIFE
    DryRun.objects.update(**{"created_at" if is_earlier else "heartbeat_at": long_ago})
    assert "No worker took it. Ask again." in text(client_for(owner).get(page))


def test_a_writing_has_the_settings_of_its_form(ready_project: Project, owner: Any, client_for: Any) -> None:
    where = reverse("rounds", args=[ready_project.slug])
    client, given = client_for(owner), {"action": "write", "count": 2, "sampling.max_new_tokens": "0"}
    assert "Must be at least 1, not 0." in text(client.post(where, given))
    assert not Round.objects.exists()
    client.post(where, given | {"sampling.max_new_tokens": "24", "sampling.temperature": "0.7"})
    sampling = Round.objects.get().settings["config"]["sampling"]
    assert (sampling["max_new_tokens"], sampling["temperature"], sampling["top_p"]) == (24, 0.7, 1.0)


def test_a_chat_is_given_more_tokens_to_answer(ready_project: Project, owner: Any) -> None:
    before = state_machine.Plan.for_project(ready_project, ready_project.current_policy, {})
    prompt = ready_project.prompts.order_by("pk").first()
    prompt.set_content([{"role": "user", "content": "Why?"}])
    prompt.save()
    chats = state_machine.Plan.for_project(ready_project, ready_project.current_policy, {})
    # The model reads 512 tokens.
    assert (before.config.sampling.max_new_tokens, chats.config.sampling.max_new_tokens) == (128, 256)
    named = {"sampling": {"max_new_tokens": 77}}
    assert (
        state_machine.Plan.for_project(
            ready_project, ready_project.current_policy, named
        ).config.sampling.max_new_tokens
        == 77
    )


def test_defaults_that_no_round_could_take_are_refused(project: Project, owner: Any, client_for: Any) -> None:
    client, where = client_for(owner), reverse("settings", args=[project.slug])
    filled = as_sent(client.get(where).context["form"])
    for field, value, said in (
        ("sampling_settings", '{"max_new_token": 160}', "Did you mean sampling.max_new_tokens?"),
        ("training_settings", '{"epoch": 3}', "Did you mean epochs?"),
        ("training_settings", '{"base_model": "/etc"}', "Whetstone decides it"),
        ("sampling_settings", '{"fresh_comparisons": -1}', "must be a whole number"),
    ):
        answer = client.post(where, filled | {field: value})
        assert said in " ".join(answer.context["form"].errors.get(field, [])), field
    answer = client.post(where, filled | {"sampling_settings": '{"max_new_tokens": 160}'})
    assert answer.status_code == 302, answer.context["form"].errors
    project.refresh_from_db()
    assert (project.training_settings, project.sampling_settings) == ({}, {"max_new_tokens": 160})


def test_a_round_says_when_many_completions_were_cut(make_round: Any, owner: Any, client_for: Any) -> None:
    round_ = make_round("ready")
    for ended, told in ((18, False), (17, True)):
        round_.summary = {"sample": {"completions": 20, "ended": ended}}
        round_.save()
        page = text(client_for(owner).get(round_.get_absolute_url()))
        assert ("Completions that were cut at 12 tokens" in page) is told


def test_a_failed_round_resumes_with_other_limits(make_round: Any, owner: Any, client_for: Any) -> None:
    round_ = make_round("failed")
    client, where = client_for(owner), round_.get_absolute_url()
    page = text(client.get(where))
    assert f"?like={round_.number}#start" in page
    form = client.get(where).context["resume_form"]
    filled = {name: value for name, value in form.begun.items() if value not in (None, False)}
    answer = client.post(where, filled | {"action": "resume-with", "max_tokens": "2"})
    assert (answer.status_code, "at least 8" in text(answer)) == (422, True)
    with pytest.raises(RoundError, match="beta cannot change when a round is resumed"):
        state_machine.resume(round_, owner, {"beta": 0.5})
    round_.settings["config"] |= {"kl_samples": 16, "kl_budget": 2.0}  # which its reference cannot keep
    round_.save()
    assert client.get(where).context["resume_form"].begun["kl_budget"] == 2.0
    with pytest.raises(RoundError, match="kl_budget can only be unset"):
        state_machine.resume(round_, owner, {"kl_budget": 3.0})
    round_.run_dir.mkdir(parents=True)
    (round_.run_dir / "done.json").write_text('{"scale": {}}')
    with pytest.raises(RoundError, match="kl_budget was kept already"):
        state_machine.resume(round_, owner, {"kl_budget": None})
    (round_.run_dir / "done.json").unlink()
    wanted = {"max_tokens": "256", "sampling.batch_size": "8", "kl_budget": ""}
    client.post(where, filled | {"action": "resume-with"} | wanted)
    round_.refresh_from_db()
    config = round_.settings["config"]
    assert (round_.state, config["max_tokens"], config["sampling"]["batch_size"]) == ("queued", 256, 8)
    assert (config["beta"], config["kl_budget"]) == (0.3, None)
    assert (
        round_.events.last().message == "Resumed with max_tokens 256, sampling.batch_size 8, kl_budget unset."
    )


@pytest.mark.slow  # two children that load the model
def test_a_worker_measures_a_round_and_keeps_nothing(
    ready_project: Project, owner: Any, tiny: dict[str, Any]
) -> None:
    estimate = estimates.ask_round(ready_project, owner, copy.deepcopy(tiny))
    claimed = estimates.claim(estimate.pk, "worker of the tests")
    assert claimed is not None
    estimates.answer(claimed)
    estimate.refresh_from_db()
    assert (estimate.state, estimate.reason) == ("done", "")
    assert (estimate.result["training"]["steps"], estimate.result["sampling"]["completions"]) == (3, 12)
    assert estimate.result["training"]["fits"]
    assert not Snapshot.objects.exists()
    assert not Round.objects.exists()


def test_an_estimate_counts_assisted_writing_and_its_start(
    ready_project: Project, owner: Any, make_round: Any, tmp_path: Path
) -> None:
    begin = make_round("promoted").result_policy
    (settings.VAR / begin.adapter).mkdir(parents=True, exist_ok=True)
    chosen = {
        "training": {"assist": {"pairs": 13, "candidates": 4}, "kl_samples": 0, "kl_budget": None},
        "fresh_comparisons": 6,
        "gate_comparisons": 0,
    }
    estimate = estimates.ask_round(ready_project, owner, chosen, begin=begin)
    shares = estimates._write_files(estimate, RunDirectory(tmp_path / "run"))
    assert shares["assisting"] == 7 * 4 / 12  # two pairs of each four completions
    plan = estimates.Plan.from_dict(estimate.settings)
    assert estimates._unsaved_round(estimate, plan, trains=True).start_policy == begin
