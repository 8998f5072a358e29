"""Devices of a round: chosen among those that running workers have, kept, and used."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site
from django.urls import reverse
from django.utils import timezone

from tests.training.pages import as_sent, text
from training.models import DryRun, Round, Worker
from training.rounds import estimates, runner, state_machine, workers
from training.rounds.phases.training import choose_processes
from training.rounds.phases.work import ChildFailedError
from training.rounds.starts import RoundError
from training.views.using.round_forms import TrainingForm

pytestmark = pytest.mark.once

GPU = {"name": "NVIDIA H100", "memory": 80 << 30, "bfloat16": True}


def run_worker(name: str, *, gpus: int = 0, threads: int = 4, **fields: Any) -> Worker:
    devices = {"cpu": {"threads": threads, "memory": 1 << 30, "bfloat16": False}, "gpus": [GPU] * gpus}
    row = {"queues": ["training"], "seen_at": timezone.now(), "devices": devices}
    return Worker.objects.create(name=name, **row | fields)


def offered(project: Any) -> list[str]:
    return [str(label) for _value, label in TrainingForm(project).fields["processes"].choices]


def test_the_form_offers_the_devices_of_running_workers(ready_project: Any) -> None:
    assert offered(ready_project) == ["automatic", "1"]
    run_worker("cpu", threads=3)
    assert offered(ready_project) == ["automatic", "1", "2", "3"]
    run_worker("gpu", gpus=2)
    run_worker("stopping", gpus=8, stopping=True)
    run_worker("other", gpus=8, queues=["default"])
    run_worker("unknown", devices={})
    assert offered(ready_project) == ["automatic", "1", "2"]
    Worker.objects.all().delete()
    run_worker("wide", threads=128)
    assert offered(ready_project)[-1] == "99"


def test_more_devices_than_a_worker_has_are_refused(
    ready_project: Any, owner: Any, client_for: Any, tiny: dict[str, Any]
) -> None:
    run_worker("gpu", gpus=2)
    form = as_sent(TrainingForm(ready_project)) | {"processes": "4"}
    page = client_for(owner).post(reverse("rounds", args=["reviews"]), form)
    assert page.status_code == 422
    assert "No worker that is running has 4 devices." in text(page)
    with pytest.raises(RoundError, match=r"has 4 devices\. The most is 2\.") as refused:
        state_machine.start(ready_project, owner, tiny | {"processes": 4})
    assert refused.value.field == "processes"
    for wrong in (0, -1, True, "2", 1.5, 100):
        with pytest.raises(RoundError, match="must be unset or a whole number from 1 to 99"):
            state_machine.start(ready_project, owner, tiny | {"processes": wrong})
    assert not Round.objects.exists()


@pytest.mark.parametrize("wrong", ["abc", "-1", "0", "2.5", "100", "9" * 400])
def test_what_is_no_number_of_devices_is_named_as_that(
    ready_project: Any, owner: Any, client_for: Any, wrong: str
) -> None:
    run_worker("gpu", gpus=2)
    form = as_sent(TrainingForm(ready_project)) | {"processes": wrong}
    page = text(client_for(owner).post(reverse("rounds", args=["reviews"]), form))
    assert "Must be a whole number from 1 to 99." in page
    assert "No worker" not in page
    assert wrong not in page or len(wrong) < 100


def test_an_estimate_of_too_many_devices_is_refused(
    ready_project: Any, owner: Any, tiny: dict[str, Any]
) -> None:
    run_worker("gpu", gpus=2)
    with pytest.raises(RoundError, match=r"has 3 devices\. The most is 2\.") as refused:
        estimates.ask_round(ready_project, owner, tiny | {"processes": 3})
    assert refused.value.field == "processes"
    assert not DryRun.objects.exists()
    assert estimates.ask_round(ready_project, owner, tiny | {"processes": 2}).settings["processes"] == 2


def test_a_chosen_number_is_shown_and_carried_on(
    ready_project: Any, owner: Any, client_for: Any, tiny: dict[str, Any]
) -> None:
    run_worker("gpu", gpus=2)
    form = as_sent(TrainingForm(ready_project)) | {"processes": "2"}
    assert client_for(owner).post(reverse("rounds", args=["reviews"]), form).status_code == 302
    round_ = Round.objects.get()
    assert (round_.processes, round_.settings["processes"]) == (2, 2)
    shown = text(client_for(owner).get(round_.get_absolute_url()))
    assert "<dt><code>processes</code></dt>\n          <dd>2</dd>" in shown
    state_machine.cancel(round_, owner)
    again = text(client_for(owner).get(reverse("rounds", args=["reviews"]), {"like": round_.number}))
    assert '<option value="2" selected>2</option>' in again


def test_a_round_waits_for_a_worker_with_its_devices(
    ready_project: Any, owner: Any, tiny: dict[str, Any]
) -> None:
    run_worker("small", gpus=1)
    large = run_worker("large", gpus=2)
    round_ = state_machine.start(ready_project, owner, tiny | {"processes": 2})
    assert state_machine.claim_round(round_.pk, "small") is None
    round_.refresh_from_db()
    assert (round_.state, round_.attempts, round_.enqueued_at) == ("queued", 0, None)
    large.delete()  # its devices are gone: the worker that takes the round says so
    assert state_machine.claim_round(round_.pk, "small") is not None


@pytest.fixture
def have_devices() -> Iterator[Callable[[dict[str, Any]], None]]:
    """have_devices({"gpus": []}): the worker of this machine finds these, as it remembers them from its start."""
    file = Path(site.VAR) / "devices.json"

    def have(devices: dict[str, Any]) -> None:
        machine = [workers._boot(), os.environ.get("CUDA_VISIBLE_DEVICES"), sys.prefix]
        file.write_text(json.dumps({"machine": machine, "devices": devices}))

    yield have
    file.unlink(missing_ok=True)


@pytest.mark.parametrize("small", [{"gpus": 1}, {"threads": 1}])
def test_a_round_waits_while_its_worker_restarts(
    ready_project: Any, owner: Any, tiny: dict[str, Any], small: dict[str, int]
) -> None:
    run_worker("small", **small)
    large = run_worker("large", gpus=2)
    round_ = state_machine.start(ready_project, owner, tiny | {"processes": 2})
    claimed = state_machine.claim_round(round_.pk, "large")
    assert claimed is not None
    Worker.objects.filter(pk=large.pk).update(stopping=True)
    assert state_machine.hand_back(claimed)
    assert state_machine.claim_round(round_.pk, "small") is None
    Worker.objects.filter(pk=large.pk).update(seen_at=timezone.now() - workers.RESTART / 2)
    assert state_machine.claim_round(round_.pk, "small") is None
    round_.refresh_from_db()
    assert (round_.state, round_.attempts, round_.enqueued_at) == ("queued", 1, None)
    run_worker("large again", gpus=2)
    assert state_machine.claim_round(round_.pk, "large again") is not None


@pytest.mark.parametrize("small", [{"gpus": 1}, {"threads": 1}])
def test_a_worker_with_too_few_devices_says_so_in_the_end(
    ready_project: Any, owner: Any, tiny: dict[str, Any], small: dict[str, int], have_devices: Any
) -> None:
    worker = run_worker("small", **small)
    large = run_worker("large", gpus=2)
    round_ = state_machine.start(ready_project, owner, tiny | {"processes": 2})
    gone = timezone.now() - workers.RESTART - timedelta(seconds=1)
    Worker.objects.filter(pk=large.pk).update(seen_at=gone)
    claimed = state_machine.claim_round(round_.pk, "small")
    assert claimed is not None
    have_devices(worker.devices)
    with pytest.raises(ChildFailedError, match="trains on 2 devices, and its worker has 1;"):
        choose_processes(claimed)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.django_db(transaction=True)
def test_a_round_trains_in_the_processes_that_were_chosen(
    ready_project: Any, owner: Any, tiny: dict[str, Any]
) -> None:
    run_worker("cpu", threads=2)
    started = state_machine.start(ready_project, owner, tiny | {"processes": 2})
    claimed = state_machine.claim_round(started.pk, "cpu")
    assert claimed is not None
    runner.run(claimed)
    claimed.refresh_from_db()
    assert (claimed.state, claimed.reason, claimed.processes) == ("ready", "", 2)
    assert claimed.summary["train"]["processes"] == 2
