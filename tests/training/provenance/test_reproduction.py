"""The download of a round; that it trains to the same bytes is seen in tests/training/test_runner.py."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.http import StreamingHttpResponse
from django.urls import reverse

from tests.training.elsewhere import unpack
from training.engine.rundir import RunDirectory
from training.models import Round
from training.provenance import reproduction
from training.provenance.portability import LINE, PortableChunks
from training.rounds import runner, state_machine
from training.rounds.plan import Plan

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
    there = hashlib.sha256(CONFIG).hexdigest()
    inputs = {str(settings.STARTER_MODEL / "config.json"): "ab", "start_adapter/adapter_config.json": there}
    summary = {"inputs": inputs, "threads": 3, "device": "cpu", "events": [f"Read {settings.VAR}/runs."]}
    summary["outputs"] = {"adapter/adapter_config.json": there}
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
    train = json.loads((run / "result" / "done.json").read_text())["train"]
    for name, listed in (("start_adapter", train["inputs"]), ("adapter", train["outputs"])):
        sent = (run if name == "start_adapter" else run / "result") / name / "adapter_config.json"
        assert listed[f"{name}/adapter_config.json"] == hashlib.sha256(sent.read_bytes()).hexdigest()
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
    outputs = {"adapter/adapter_config.json": hashlib.sha256(CONFIG).hexdigest(), "pairs.jsonl": "ab"}
    summary = {"events": [f"Read {settings.STARTER_MODEL}."], "outputs": outputs}
    files.done.write_text(json.dumps({"train": summary}))
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
    train = json.loads(sent["done.json"])["train"]
    rewritten = hashlib.sha256(sent["adapter/adapter_config.json"].encode()).hexdigest()
    assert train["outputs"] == {"adapter/adapter_config.json": rewritten, "pairs.jsonl": "ab"}
    assert sent["train.log"] == f"Read starter, wrote {settings.VAR.name}/runs/reviews-1/adapter.\n"
    files.done.write_text(f'{{"read": "{settings.STARTER_MODEL}')
    torn = client.get(reverse("round_file", args=["reviews", round_.number, "done.json"]))
    assert b"".join(torn) == b'{"read": "starter'


@pytest.mark.once
@pytest.mark.parametrize("before", range(0, 80, 7))
def test_a_long_line_of_a_log_is_sent_without_paths(make_round: Callable[..., Round], before: int) -> None:
    round_ = make_round("training")
    for filler in ("x", "é", "世"):
        text = filler * ((LINE - before) // len(filler.encode()))
        said = f"{text} {settings.STARTER_MODEL} and /srv/some/where/secret.json failed {text}\n"
        sent = b"".join(PortableChunks(round_, "train.log", io.BytesIO(said.encode()))).decode()
        assert sent == f"{text} starter and secret.json failed {text}\n"


@pytest.mark.once
def test_a_file_that_is_not_read_to_its_end_is_closed(make_round: Callable[..., Round]) -> None:
    round_ = make_round("training")
    for read in (0, 1):
        file = io.BytesIO(b"one\ntwo\n")
        chunks = PortableChunks(round_, "train.log", file)
        for _ in range(read):
            next(chunks)
        for close in StreamingHttpResponse(chunks)._resource_closers:  # as at the end of a request
            close()
        assert file.closed


def test_the_chat_model_of_the_demo_is_not_looked_for_on_the_hub(make_round: Any) -> None:
    round_ = make_round("promoted")
    config = replace(Plan.of_round(round_.settings).config, base_model="smollm2")
    told = reproduction._readme(round_, config, None)
    assert "`make demo MODEL=smollm2` makes its folder, `var/models/smollm2`. Put its path" in told
    assert "Hugging Face" not in told
