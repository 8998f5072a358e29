"""Models of the hub: from the cache without a network, else from a hub that answers, here one on this machine."""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.engine.conftest import make_model, make_tokenizer, tiny_llama
from tests.engine.hub_server import Hub, connect
from tests.local_server import serving
from training.engine.config import TrainConfig
from training.engine.errors import ModelError, StaleCheckpointError
from training.engine.model import hub
from training.engine.model.base import load_base, model_files
from training.engine.model.files import find_model
from training.engine.train import train

OLD, NEW = "0123456789abcdef" * 2 + "01234567", "fedcba9876543210" * 2 + "fedcba98"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    connect(monkeypatch, "http://127.0.0.1:1")  # where nothing listens
    return tmp_path / "hub"


@pytest.fixture
def live_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub()) as server:
        connect(monkeypatch, server.address)
        yield server


def publish(cache: Path, name: str, commit: str, folder: Path) -> Path:
    """Lay `folder` down as `commit` of the repository `name`, and let main stand for it."""
    repository = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / commit, dirs_exist_ok=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    return repository / "snapshots" / commit


def files(**settings: object) -> dict[str, str]:
    return model_files(TrainConfig.from_dict({"base_model": "ada/tiny"} | settings))


def test_a_hub_model_is_named_by_the_commit_of_its_revision(cache: Path, tiny_model: Path) -> None:
    publish(cache, "ada/tiny", OLD, tiny_model)
    (cache / "models--ada--tiny" / "refs" / "v1").write_text(OLD)
    assert files() == files(revision="v1") == files(revision=OLD) == {"base_model": f"ada/tiny@{OLD}"}
    publish(cache, "ada/tiny", NEW, tiny_model)
    assert files() == {"base_model": f"ada/tiny@{NEW}"}
    assert files(revision="v1") == {"base_model": f"ada/tiny@{OLD}"}


def test_a_start_adapter_from_the_hub_is_named_by_its_own_commit(
    cache: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "adapter").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "adapter" / name).write_text("{}")
    publish(cache, "ada/tiny", OLD, tiny_model)
    publish(cache, "bob/adapter", NEW, tmp_path / "adapter")
    found = files(revision=OLD, start_adapter="bob/adapter")
    assert found == {"base_model": f"ada/tiny@{OLD}", "start_adapter": f"bob/adapter@{NEW}"}
    with pytest.raises(ModelError, match=r"^eve/adapter is not complete in the cache"):
        files(start_adapter="eve/adapter", revision=OLD)


def test_checkpoints_are_refused_when_main_has_moved(
    cache: Path, tiny_model: Path, tmp_path: Path, make_run
) -> None:
    publish(cache, "ada/tiny", OLD, tiny_model)
    run = make_run(base_model="ada/tiny")
    train(run)
    moved = make_model(tiny_llama())
    moved.lm_head.weight.data[0, 0] += 1
    moved.save_pretrained(tmp_path / "moved")
    make_tokenizer(bos=True).save_pretrained(tmp_path / "moved")
    publish(cache, "ada/tiny", NEW, tmp_path / "moved")
    with pytest.raises(StaleCheckpointError, match="belong to another model"):
        train(run)


def test_what_the_cache_holds_is_used_without_asking(
    live_hub: Hub, cache: Path, tiny_model: Path, tmp_path: Path
) -> None:
    publish(cache, "ada/tiny", OLD, tiny_model)
    live_hub.repositories["ada/tiny"] = (NEW, tiny_model)
    loaded = load_base(TrainConfig.from_dict({"base_model": "ada/tiny"}))
    assert loaded.base.config._name_or_path == "ada/tiny"
    assert loaded.tokenizer.chat_template
    assert live_hub.asked == []


def test_a_download_brings_what_is_needed_and_is_made_once(
    live_hub: Hub, cache: Path, tmp_path: Path, make_run
) -> None:
    folder = tmp_path / "published"
    make_model(tiny_llama()).save_pretrained(folder, max_shard_size="40KB")
    make_tokenizer(bos=True).save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"unwanted")
    (folder / "original").mkdir()
    (folder / "original" / "params.json").write_text("{}")
    publish(cache, "ada/tiny", NEW, folder)
    for file in (cache / "models--ada--tiny" / "snapshots" / NEW).glob("*.safetensors"):
        file.unlink()  # a part is in the cache, as after a download that was cut off
    live_hub.repositories["ada/tiny"] = (NEW, folder)
    run = make_run(base_model="ada/tiny")
    train(run)
    fetched = {path.partition(f"/{NEW}/")[2] for path in live_hub.asked if "/resolve/" in path}
    assert {name for name in fetched if name.endswith(".safetensors")} == {
        file.name for file in folder.glob("*.safetensors")
    }
    assert not {"pytorch_model.bin", "original/params.json"} & fetched
    assert run.read_done()["train"]["inputs"]["base_model"] == f"ada/tiny@{NEW}"
    settings = json.loads((run.adapter / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "ada/tiny"
    live_hub.asked.clear()
    find_model("ada/tiny", None)
    assert live_hub.asked == []


def test_a_silent_hub_is_told_in_a_sentence(
    cache: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub._PATIENCE_SECONDS <= 5
    monkeypatch.setattr(hub, "_ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (1, silent.getsockname()[1]):
            connect(monkeypatch, f"http://127.0.0.1:{port}")
            with pytest.raises(ModelError, match=r"^ada/tiny is not complete in the cache .* name a folder"):
                load_base(TrainConfig.from_dict({"base_model": "ada/tiny"}))
    publish(cache, "ada/tiny", OLD, tiny_model)
    load_base(TrainConfig.from_dict({"base_model": "ada/tiny"}))


def test_an_address_that_is_never_found_is_not_waited_for(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    found = threading.Event()
    monkeypatch.setattr(hub, "_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found.wait(20))
    try:
        with pytest.raises(ModelError, match="cannot be reached"):
            find_model("ada/tiny", None)
    finally:
        found.set()


@pytest.mark.parametrize(
    ("name", "revision", "refusal", "sentence"),
    [
        ("ada/none", None, None, "does not exist or is private: check the id, or set HF_TOKEN"),
        ("ada/tiny", "v9", None, "ada/tiny has no revision v9"),
        ("ada/tiny", None, (403, "GatedRepo"), "ada/tiny is gated: accept its terms"),
        ("ada/tiny", None, (503, ""), "ada/tiny cannot be read: "),
        ("ada/ti--ny", None, None, "neither a file, nor a folder, nor the id of a model"),
    ],
)
def test_what_the_hub_refuses_is_told_in_a_sentence(
    live_hub: Hub, tiny_model: Path, name: str, revision: str | None, refusal, sentence: str
) -> None:
    live_hub.repositories["ada/tiny"] = (NEW, tiny_model)
    if refusal:
        live_hub.refusals[name] = refusal
    with pytest.raises(ModelError, match=sentence) as told:
        find_model(name, revision)
    assert "\n" not in str(told.value)


def test_without_a_network_by_choice_the_sentence_says_so(
    cache: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        find_model("ada/tiny", None)
    (publish(cache, "ada/tiny", OLD, tiny_model) / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="ada/tiny is not complete in the cache"):
        find_model("ada/tiny", None)


def test_weights_of_a_model_of_own_code_are_not_downloaded(
    live_hub: Hub, cache: Path, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "published"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    own = {"model_type": "hostile", "auto_map": {"AutoModelForCausalLM": "hostile.Hostile"}}
    (folder / "config.json").write_text(json.dumps(config | own))
    live_hub.repositories["ada/tiny"] = (NEW, folder)
    with pytest.raises(ModelError, match="brings code for its type hostile, which is never run here"):
        find_model("ada/tiny", None)
    assert not [path for path in live_hub.asked if path.endswith(".safetensors")]
    live_hub.asked.clear()
    with pytest.raises(ModelError, match="brings code for its type hostile"):  # now that the cache has a part
        find_model("ada/tiny", None)
    assert live_hub.asked == []
