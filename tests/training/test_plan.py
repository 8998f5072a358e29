"""The plan of a round, checked before it starts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from annotate.models import Policy, Project
from training.rounds.plan import Plan, check_model
from training.rounds.starts import RoundError, check_policy, model_path, named_adapters, on_this_machine


@pytest.fixture
def trained(project: Project) -> Policy:
    """Return a policy whose adapter has rank 4."""
    folder = Path(settings.VAR) / "runs" / "reviews-1" / "adapter"
    folder.mkdir(parents=True, exist_ok=True)
    shape = {"r": 4, "lora_alpha": 8, "target_modules": ["k_proj", "q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(shape))
    return Policy.objects.create(
        project=project,
        name="round 1",
        kind=Policy.Kind.ADAPTER,
        base_model="starter",
        adapter="runs/reviews-1/adapter",
        parent=project.current_policy,
    )


def lora(chosen: dict[str, Any]) -> dict[str, Any]:
    return {"training": {"lora": chosen}}


def test_a_round_from_an_adapter_keeps_the_adapters_shape(project: Project, trained: Policy) -> None:
    """LoRA settings that the adapter cannot honour would end the round in the worker, and again at each resume."""
    project.training_settings = {"lora": {"r": 8, "dropout": 0.1}}
    config = Plan.for_project(project, trained, {}).config
    assert (config.lora.r, config.lora.alpha, config.lora.dropout) == (4, 8, 0.1)
    assert config.lora.target_modules == ("k_proj", "q_proj")
    assert Plan.for_project(project, project.current_policy, {}).config.lora.r == 8
    # Which the names of the adapter's layers say already.
    project.training_settings = {"lora": {"experts": "all"}}
    assert Plan.for_project(project, trained, {}).config.lora.target_modules == ("k_proj", "q_proj")
    assert Plan.for_project(project, project.current_policy, {}).config.lora.experts == "all"


def test_settings_stored_before_a_bound_still_begin_a_round(project: Project) -> None:
    project.training_settings = {"batch_size": 2**53, "lora": {"r": 10**9}}
    project.sampling_settings = {"top_k": 10**9}
    plan = Plan.for_project(project, project.current_policy, {})
    assert (plan.config.batch_size, plan.config.lora.r) == (1_000_000, 4096)
    assert plan.config.sampling.top_k == 1_000_000
    stored = plan.to_dict()
    stored["config"] |= {"batch_size": 2**53}
    assert Plan.from_dict(stored) == plan
    with pytest.raises(RoundError, match=r"^batch_size must be at most 1000000, not 9007199254740992\.$"):
        Plan.for_project(project, project.current_policy, {"training": {"batch_size": 2**53}})


def test_a_folder_that_is_damaged_later_is_told_before_a_round(
    project: Project, settings: Any, tmp_path: Path
) -> None:
    settings.BASE_MODELS = [str(tmp_path)]
    folder = shutil.copytree(settings.STARTER_MODEL, tmp_path / "mine")
    policy = Policy.objects.create(project=project, name="mine", kind="base", base_model=str(folder))
    plan = Plan.for_project(project, policy, {})
    check_model(plan)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        RoundError, match=r"cannot be used: it holds no tokenizer; copy tokenizer\.json"
    ) as told:
        check_model(plan)
    assert told.value.field == "base_model"


def test_an_adapter_that_cannot_be_scaled_writes(project: Project, trained: Policy) -> None:
    """A budget is of trainings: with DoRA none keeps it, and its policy can be tried, merged and written by."""
    shape = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "use_dora": True}
    (Path(settings.VAR) / trained.adapter / "adapter_config.json").write_text(json.dumps(shape))
    project.training_settings = {"kl_budget": 2.0}
    config = Plan.for_project(project, trained, {}, trains=False).config
    assert (config.lora.dora, config.kl_budget) == (True, None)
    with pytest.raises(RoundError, match=r"^kl_budget cannot be kept with lora\.dora"):
        Plan.for_project(project, trained, {})


@pytest.mark.parametrize(("name", "value"), [("r", 16), ("alpha", 32.0), ("target_modules", ["v_proj"])])
def test_another_shape_than_the_adapters_is_refused_by_name(
    project: Project, trained: Policy, name: str, value: Any
) -> None:
    with pytest.raises(RoundError, match=rf"^lora\.{name}: the adapter of round 1") as refused:
        Plan.for_project(project, trained, lora({name: value}))
    assert refused.value.field == f"lora.{name}"
    assert Plan.for_project(project, trained, lora({"r": 4})).config.lora.r == 4


def test_a_model_below_the_home_folder_is_given_by_its_path(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings.BASE_MODELS = ["~/models"]
    policy = Policy.objects.create(
        project=project, name="mine", kind=Policy.Kind.BASE, base_model="~/models/mine"
    )
    with pytest.raises(RoundError, match="The base model “~/models/mine” does not exist, or is not among"):
        check_policy(policy)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert check_policy(policy) == policy
    assert model_path("~/models/mine") == str(tmp_path / "models" / "mine")


def test_hub_ids_and_the_starter_are_no_paths_below_home(settings: Any) -> None:
    settings.BASE_MODELS = ["Qwen/*"]
    assert model_path("starter") == str(settings.STARTER_MODEL)
    assert model_path("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("sampling", "reference"),
        ("sampling", "policy"),
        ("training", "start_adapter"),
        ("training", "base_model"),
        ("training", "revision"),
        ("training", "probe"),
    ],
)
def test_no_setting_names_a_file_or_another_policy(project: Project, part: str, name: str) -> None:
    foreign = {name: "/srv/whetstone/runs/other-1/adapter"}
    for of_the_project, chosen in ((foreign, {}), ({}, {part: foreign})):
        setattr(project, f"{part}_settings", of_the_project)
        with pytest.raises(RoundError, match=f"^{name} is not chosen for a round: Whetstone") as refused:
            Plan.for_project(project, project.current_policy, chosen)
        assert refused.value.field == name


def test_a_stored_probe_does_not_reach_the_worker(project: Project) -> None:
    config = Plan.for_project(project, project.current_policy, {}).config
    with pytest.raises(RoundError, match=r"^probe is not chosen for a round: Whetstone"):
        on_this_machine(replace(config, probe="/etc"))


def test_the_reference_may_be_a_policy_of_the_project(project: Project, trained: Policy) -> None:
    """It is named, or chosen on the form by its adapter. The worker is given a path."""
    current = project.current_policy
    elsewhere = Project.objects.create(slug="elsewhere", name="Elsewhere")
    Policy.objects.create(
        project=elsewhere, name="foreign", kind="adapter", base_model="starter", adapter="runs/x/a"
    )

    def reference(named: Any) -> str:
        return Plan.for_project(project, current, {"training": {"reference": named}}).config.reference

    assert reference("round 1") == reference("runs/reviews-1/adapter") == "runs/reviews-1/adapter"
    assert reference("starter") == reference("base") == "base"
    for unknown in ("foreign", "runs/x/a", "/etc", "", 7):
        with pytest.raises(RoundError, match="the name of a policy of this project") as refused:
            reference(unknown)
        assert refused.value.field == "reference"
    config = Plan.for_project(project, current, {"training": {"reference": "round 1"}}).config
    assert (named_adapters(config), config.kl_budget) == ({"runs/reviews-1/adapter"}, None)
    assert on_this_machine(config).reference == str(Path(settings.VAR) / "runs" / "reviews-1" / "adapter")


def test_a_policy_that_only_writes_needs_no_reference(project: Project, trained: Policy) -> None:
    project.training_settings = {"reference": "round 1"}
    other = Policy.objects.create(
        project=project, name="other", kind=Policy.Kind.BASE, base_model="other/model"
    )
    with pytest.raises(RoundError, match="reference"):
        Plan.for_project(project, other, {})
    assert Plan.for_project(project, other, {}, trains=False).config.reference == "start"


def test_a_budget_that_a_reference_cannot_keep_is_refused(project: Project, trained: Policy) -> None:
    """A form sends the budget that is recommended, whichever reference is chosen."""
    asked: dict[str, Any] = {"reference": "round 1", "kl_budget": 2.0}
    for shape in ({"r": 8}, {"r": 4, "alpha": 16.0}, {"r": 4, "alpha": 8.0, "target_modules": ["v_proj"]}):
        with pytest.raises(RoundError, match=r"^kl_budget cannot be kept: the adapter of") as refused:
            Plan.for_project(project, project.current_policy, {"training": asked | {"lora": shape}})
        assert refused.value.field == "kl_budget"
    alike = {"training": asked | {"lora": {"r": 4, "alpha": 8.0}}}  # of the modules only the model tells
    assert Plan.for_project(project, project.current_policy, alike).config.kl_budget == 2.0
    assert Plan.for_project(project, trained, {"training": asked}).config.kl_budget == 2.0


@pytest.mark.parametrize("adapter", ["../outside", "runs/../../outside", "/etc", "files/x", "runs/link/x"])
def test_an_adapter_lies_below_the_runs(project: Project, adapter: str) -> None:
    settings.RUNS.mkdir(exist_ok=True)
    (settings.RUNS / "link").unlink(missing_ok=True)
    (settings.RUNS / "link").symlink_to("/etc")
    policy = Policy(project=project, name="p", kind="adapter", base_model="starter", adapter=adapter)
    with pytest.raises(RoundError, match=r"^Adapter: .* does not lie below") as refused:
        check_policy(policy)
    assert refused.value.field == "start_adapter"


def test_a_round_tells_chat_templates_one_day(project: Project) -> None:
    plan = Plan.for_project(project, project.current_policy, {})
    assert plan.config.template_date == timezone.now().date().isoformat()
    assert Plan.from_dict(plan.to_dict()).config.template_date == plan.config.template_date
    chosen = {"training": {"template_date": "2026-01-02"}}
    assert Plan.for_project(project, project.current_policy, chosen).config.template_date == "2026-01-02"
