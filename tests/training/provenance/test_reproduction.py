"""The download of a round; that it trains to the same bytes is seen in tests/training/test_runner.py."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.urls import reverse

from tests.training.elsewhere import unpack
from training.engine.rundir import RunDirectory
from training.models import Round
from training.rounds import runner, state_machine

pytestmark = pytest.mark.django_db
CONFIG = json.dumps({"r": 2, "base_model_name_or_path": str(settings.STARTER_MODEL)}).encode()


def test_a_download_holds_no_path_of_its_server(
    make_round: Any,
    owner: Any,
    researcher: Any,
    teammate: Any,
    outsider: Any,
    client_for: Any,
    tmp_path: Path,
    tiny: Any,
) -> None:
    """The round started from another's adapter, measured against it by name. Both go along."""
    first = make_round("promoted")
    for name, content in (("adapter_model.safetensors", b"weights"), ("adapter_config.json", CONFIG)):
        (first.run_dir / "adapter").mkdir(parents=True, exist_ok=True)
        (first.run_dir / "adapter" / name).write_bytes(content)
    chosen = tiny | {"training": tiny["training"] | {"reference": "round 1"}}
    state_machine.start(first.project, owner, chosen, begin=first.result_policy)
    round_ = state_machine.claim_round(Round.objects.latest("pk").pk, "worker of the tests")
    assert round_ is not None
    where = reverse("round-archive", args=["reviews", 2])
    assert client_for(owner).get(where).status_code == 404  # nothing to repeat yet
    files = RunDirectory(round_.run_dir)
    runner.prepare(round_, files)
    files.adapter.mkdir()
    (files.adapter / "adapter_model.safetensors").write_bytes(b"trained")
    (files.adapter / "adapter_config.json").write_bytes(CONFIG)
    (files.adapter / "link.json").symlink_to(settings.BASE_DIR / "manage.py")
    (files.root / "secrets.log").write_text("not to be sent")
    inputs = {str(settings.STARTER_MODEL / "config.json"): "ab"}
    summary = {"inputs": inputs, "threads": 3, "device": "cpu", "events": [f"Read {settings.VAR}/runs."]}
    files.done.write_text(json.dumps({"train": summary}))

    for user, status in ((owner, 200), (teammate, 403), (outsider, 404), (None, 302)):
        assert client_for(user).get(where).status_code == status
    run = unpack(client_for(researcher).get(where), tmp_path)
    assert run.name == "reviews-2"
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {"README.md", "config.json", "pairs.jsonl", "heldout.jsonl", "expected.sha256"} < names
    for adapter in ("start_adapter", "reference"):
        assert (run / adapter / "adapter_model.safetensors").read_bytes() == b"weights"
    assert not [name for name in names if name.endswith(".log") or "link" in name]
    configs = ("start_adapter", "reference", "result/adapter")
    for name in (
        *("config.json", "README.md", "result/done.json"),
        *(f"{folder}/adapter_config.json" for folder in configs),
    ):
        text = (run / name).read_text()
        assert str(settings.VAR) not in text
        assert str(settings.BASE_DIR) not in text
    config = RunDirectory(run).read_config()
    assert (config.threads, config.device) == (1, "cpu")  # the round's own; found out by itself
    assert config.start_adapter == str(run / "start_adapter")
    assert config.reference == str(run / "reference")
    assert config.base_model == str(settings.STARTER_MODEL)


@pytest.mark.once
def test_single_files_hold_no_path_of_their_server(
    make_round: Callable[..., Round], owner: Any, client_for: Any
) -> None:
    round_ = make_round("training")
    files = RunDirectory(round_.run_dir)
    runner.prepare(round_, files)
    files.adapter.mkdir()
    (files.adapter / "adapter_config.json").write_bytes(CONFIG)
    (files.root / "train.log").write_text(f"Read {settings.STARTER_MODEL}, wrote {files.root}/adapter.\n")
    files.done.write_text(json.dumps({"train": {"events": [f"Read {settings.STARTER_MODEL}."]}}))
    said = json.loads(files.config_file.read_text())
    assert said["base_model"] == str(settings.STARTER_MODEL)
    client, sent = client_for(owner), {}
    for name in ("config.json", "done.json", "train.log", "adapter/adapter_config.json"):
        answer = client.get(reverse("round_file", args=["reviews", round_.number, name]))
        assert f"reviews-1-{name.rpartition('/')[2]}" in answer["Content-Disposition"]
        sent[name] = b"".join(answer).decode()
        for path in (settings.VAR, settings.BASE_DIR, settings.STARTER_MODEL):
            assert str(path) not in sent[name], name
    assert json.loads(sent["config.json"]) == said | {"base_model": "starter"}
    assert json.loads(sent["adapter/adapter_config.json"]) == {"r": 2, "base_model_name_or_path": "starter"}
    assert sent["train.log"] == f"Read starter, wrote {settings.VAR.name}/runs/reviews-1/adapter.\n"
    files.done.write_text(f'{{"read": "{settings.STARTER_MODEL}')
    torn = client.get(reverse("round_file", args=["reviews", round_.number, "done.json"]))
    assert b"".join(torn) == b'{"read": "starter'
