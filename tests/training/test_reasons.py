"""Work that fails: its readers see names, and the worker's log keeps the folders of the server."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site
from django.urls import reverse

from annotate.models import ApiToken, Policy
from tests.annotate.api.caller import API, Caller
from tests.training.using import adapters
from training.models import DryRun, MergedWeights
from training.rounds import estimates, runner, state_machine
from training.usage import merging

pytestmark = pytest.mark.once

SECRET = "secret place"


@pytest.fixture
def broken(tmp_path: Path, settings: Any) -> str:
    """Return the name of a base model that cannot be loaded, in an allowed folder that is elsewhere."""
    hidden, named = tmp_path / SECRET, tmp_path / "models"
    (hidden / "broken").mkdir(parents=True)
    (hidden / "broken" / "config.json").write_text("{")
    named.symlink_to(hidden)
    settings.BASE_MODELS = [str(named)]
    return str(named / "broken")


@pytest.fixture
def read(owner: Any, client_for: Any) -> Any:
    """Return what the page at an address says, and with it what the API says at its own."""

    def read(page: str, api: str = "") -> str:
        said = client_for(owner).get(page).content.decode()
        if api:
            caller = Caller(ApiToken.issue(owner, "a test")[1])
            said += caller.client.get(f"{API}reviews/{api}").content.decode()
        return said

    return read


def check(said: str, log: str, model: str = "broken") -> None:
    assert model in said
    assert SECRET not in said
    assert str(site.VAR) not in said
    assert SECRET in log


def test_a_failed_round_names_no_folder(
    ready_project: Any, owner: Any, tiny: Any, broken: str, read: Any, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Path(broken).with_name("whole")
    shutil.copytree(site.STARTER_MODEL, whole)
    Policy.objects.filter(project=ready_project).update(base_model=str(whole))
    round_ = state_machine.start(ready_project, owner, tiny)
    (whole / "config.json").write_text("{")
    claimed = state_machine.claim_round(round_.pk, "worker of the tests")
    assert claimed is not None
    runner.run(claimed)
    assert claimed.state == "failed"
    check(read(reverse("round", args=["reviews", 1]), "rounds/1/"), caplog.text, "whole")


def test_a_failed_estimate_names_no_folder(
    project: Any, owner: Any, broken: str, read: Any, caplog: pytest.LogCaptureFixture
) -> None:
    asked = estimates.ask_model(project, owner, broken)
    claimed = estimates.claim(asked.pk, "worker of the tests")
    assert claimed is not None
    estimates.answer(claimed)
    assert DryRun.objects.get().state == "failed"
    check(read(asked.get_absolute_url(), f"rounds/estimates/{asked.pk}/"), caplog.text)


def test_a_failed_merge_names_no_folder(
    finished: Any, owner: Any, broken: str, read: Any, caplog: pytest.LogCaptureFixture
) -> None:
    adapters.write(finished.run_dir / "adapter", base_model_name_or_path=broken)
    policy = finished.result_policy
    policy.base_model = broken
    policy.save()
    merge = merging.request(policy, owner)
    merging.run(str(merge.pk), "worker")
    assert MergedWeights.objects.get().state == "failed"
    check(read(reverse("merged-weights", args=["reviews", merge.pk])), caplog.text)


def test_a_finished_estimate_names_no_folder(project: Any, owner: Any, read: Any) -> None:
    asked = estimates.ask_model(project, owner, "starter")
    taken = estimates.claim(asked.pk, "worker of the tests")
    assert taken is not None
    estimates.answer(taken)
    said = read(asked.get_absolute_url(), f"rounds/estimates/{asked.pk}/")
    assert '"state":"done"' in said
    assert str(site.VAR) not in said
    assert str(site.BASE_DIR) not in said
